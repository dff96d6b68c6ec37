/* …/snapshots/{id}/download: /workspace of a snapshot as a .tar.gz. Its disk is a file system that
 * a guest wrote, so no code of the host reads it: a small sandbox of its own is made of the
 * snapshot, without a network, tells the files, and is ended. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/snapshots.h"

enum { READER_MIB = 256, LINK_S = 3600, STDOUT = 1 };

/* Runs when the op ends, however it does. */
static void end_reader(struct op *op)
{
    if (op->sb)
        cg_core_destroy(op->sb, "downloaded", NULL, NULL);
}

static void on_drain(struct cg_http_req *r)
{
    struct op *op = r->user;
    size_t owed = op->owed;
    op->owed = 0;
    cg_wcall_grant(&op->call, owed);
}

static void on_accept(struct cg_wcall *call, const struct cg_json *info)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)info;
    op->started = true;
    op->r->drain = on_drain;
    char text[128];
    cg_snprintf(text, sizeof text, "attachment; filename=\"%s.tar.gz\"", op->path);
    cg_http_add_header(op->r, "Content-Disposition", text);
    cg_http_start(op->r, 200, "application/gzip", -1);
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    if (channel != STDOUT) {
        cg_wcall_grant(call, bytes.n);
        return;
    }
    op->owed += bytes.n;
    cg_http_write(op->r, bytes);
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    if (!op->started) {
        op_fail(op, error);
        return;
    }
    bool whole = !error && cg_json_int(result, "exit_code", 1) == 0;
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    r->drain = NULL;
    op->r = NULL;
    op_end(op);
    if (whole)
        cg_http_finish(r);
    else
        cg_http_break(r); /* half a file must not look like a whole one */
}

static void on_made(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    static const char request[] =
        "{\"kind\":\"exec\",\"origin\":\"api\",\"user\":\"root\","
        "\"argv\":[\"tar\",\"-C\",\"/\",\"--numeric-owner\",\"-czf\",\"-\",\"workspace\"]}";
    struct op *op = ctx;
    struct cg_err e = CG_ERR_INIT;
    op->sb = sb;
    if (!op->r) { /* nobody waits any more */
        op_end(op);
        return;
    }
    op_mortal(op);
    op->call = (struct cg_wcall){.on_accept = on_accept, .on_data = on_data, .on_close = on_close};
    if (err || !cg_sandbox_usable(sb, &e) ||
        !cg_wcall_open(sb->warden, &op->call, cg_slice_of(request), &e))
        op_fail(op, err ? err : &e);
}

static struct cg_snapshot *find(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    const char *id = op_param(op, "snapshot");
    struct cg_snapshot *s = cg_snapshot_find(op->api->core, id);
    if (!s || s->hidden || !cg_streq(s->account, op->key->account)) {
        op_problem(op, 404, "not_found", "there is no snapshot %.64s", id);
        return NULL;
    }
    if (cg_snapshot_usable(s, &e))
        return s;
    op_fail(op, &e);
    return NULL;
}

void api_snapshot_content(struct op *op)
{
    const struct cg_snapshot *s = find(op);
    struct cg_err e = CG_ERR_INIT;
    if (!s)
        return;
    struct cg_spec spec = {.cpus = 1, .memory_mb = READER_MIB, .disk_gb = s->disk_gb};
    cg_strlcpy(spec.template_name, sizeof spec.template_name, s->template_name);
    cg_strlcpy(spec.snapshot, sizeof spec.snapshot, s->id);
    cg_strlcpy(op->path, sizeof op->path, s->id);
    spec.name = cg_format("download of %s", s->id);
    op_outlive(op);
    op->finish = end_reader;
    if (!cg_core_create(op->api->core, op->key->account, &spec, NULL, on_made, op, &e))
        op_fail(op, &e);
}

void api_snapshot_download(struct op *op)
{
    const struct cg_snapshot *s = find(op);
    if (!s)
        return;
    CG_OWN(cg_drop_free) char *url = cg_format("/v1/snapshots/%s/download/content", s->id);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "url", url);
    cg_jsonw_kint(w, "expires_in_seconds", LINK_S);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}
