/* Files of a guest: list, read, write, archives, delete, mkdir, rename. Paths are the guest's, any
 * absolute one or relative to /workspace, with the rights of the user agent. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/moments.h"

enum { CONTENT_MAX = 1 << 20, LIST_MAX = 16 << 20 };

/* ?path= or the default; false when a problem was sent. */
static bool read_path(struct op *op, const char *fallback)
{
    if (cg_http_query(op->r, "path", op->path, sizeof op->path) && op->path[0])
        return true;
    if (fallback && !strstr(op->r->query, "path=")) {
        cg_strlcpy(op->path, sizeof op->path, fallback);
        return true;
    }
    op_problem(op, 400, "invalid", "missing path parameter: a path without NUL and under 4 KiB");
    return false;
}

static bool call_path(struct op *op, const char *kind, const char *more)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 32 * 1024);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", kind);
    cg_jsonw_kstr(&w, "path", op->path);
    if (more) {
        cg_buf_addc(&b, ',');
        cg_buf_adds(&b, more);
    }
    cg_jsonw_obj_end(&w);
    return op_call(op, &b);
}

/* --- list --- */

static void gather(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)channel;
    if (!cg_buf_add(&op->a, bytes.p, bytes.n))
        op->truncated = true;
    cg_wcall_grant(call, bytes.n);
}

static void write_entry(struct cg_jsonw *w, const struct cg_json *entry)
{
    char when[CG_TIME_TEXT] = "";
    int64_t ms = cg_json_int(entry, "mtime_ms", 0);
    if (ms > 0 && ms < INT64_C(253402300800000))
        cg_time_format(ms * 1000000, when);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", cg_json_str(entry, "name"));
    cg_jsonw_kstr(w, "path", cg_json_str(entry, "path"));
    const char *type = cg_json_str(entry, "type");
    cg_jsonw_kstr(w, "type", cg_streq(type, "directory") ? type : "file");
    cg_jsonw_kint(w, "size", cg_json_int(entry, "size", 0));
    cg_jsonw_kstr(w, "mod_time", when);
    cg_jsonw_kint(w, "mode", cg_json_int(entry, "mode", 0));
    if (cg_json_str(entry, "target"))
        cg_jsonw_kstr(w, "target", cg_json_str(entry, "target"));
    cg_jsonw_obj_end(w);
}

static void on_listed(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    if (error) {
        op_fail(op, error);
        return;
    }
    /* a bare array has no place to say that it is not all: a header has */
    if (op->truncated || cg_json_bool(result, "truncated", false))
        cg_http_add_header(op->r, "X-Truncated", "true");
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    const char *p = op->a.p;
    size_t left = op->a.n;
    while (left > 0) {
        const char *end = memchr(p, '\n', left);
        size_t n = end ? (size_t)(end - p) : left;
        CG_OWN(cg_drop_json)
        struct cg_json *entry = cg_json_parse((struct cg_slice){p, n}, NULL, NULL);
        if (entry)
            write_entry(w, entry);
        p += n + (end != NULL);
        left -= n + (end != NULL);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

void api_files(struct op *op)
{
    if (api_files_at(op))
        return;
    cg_buf_init(&op->a, LIST_MAX);
    op->call = (struct cg_wcall){.on_data = gather, .on_close = on_listed};
    if (read_path(op, "/workspace"))
        (void)!call_path(op, "fs.list", NULL);
}

/* --- small changes --- */

static void on_done(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)result;
    if (error)
        op_fail(op, error);
    else
        op_no_content(op);
}

void api_files_delete(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    bool deep = false;
    if (!op_query_bool(op, "recursive", &deep, &e)) {
        op_fail(op, &e);
        return;
    }
    op->call = (struct cg_wcall){.on_close = on_done};
    if (read_path(op, NULL))
        (void)!call_path(op, "fs.delete", deep ? "\"recursive\":true" : NULL);
}

static void mkdir_body(struct op *op, const struct cg_json *body)
{
    const char *path = NULL;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "path", &path, &e) || !path || !path[0]) {
        op_problem(op, 400, "invalid", "path is needed");
        return;
    }
    cg_strlcpy(op->path, sizeof op->path, path);
    op->call = (struct cg_wcall){.on_close = on_done};
    (void)!call_path(op, "fs.mkdir", NULL);
}

void api_files_mkdir(struct op *op)
{
    op_read_json(op, mkdir_body);
}

static void rename_body(struct op *op, const struct cg_json *body)
{
    const char *from = NULL, *to = NULL;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "from", &from, &e) || !body_str(body, "to", &to, &e) || !from || !to) {
        op_problem(op, 400, "invalid", "from and to are needed");
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 32 * 1024);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "fs.rename");
    cg_jsonw_kstr(&w, "from", from);
    cg_jsonw_kstr(&w, "to", to);
    cg_jsonw_obj_end(&w);
    op->call = (struct cg_wcall){.on_close = on_done};
    (void)!op_call(op, &b);
}

void api_files_rename(struct op *op)
{
    op_read_json(op, rename_body);
}

/* --- down: guest to client, as fast as the client reads --- */

static void on_drain(struct cg_http_req *r)
{
    struct op *op = r->user;
    size_t owed = op->owed;
    op->owed = 0;
    cg_wcall_grant(&op->call, owed);
}

static void down_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)channel;
    op->owed += bytes.n;
    cg_http_write(op->r, bytes);
}

static void down_accept(struct cg_wcall *call, const struct cg_json *info)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    int64_t size = cg_json_int(info, "size", -1);
    if (op->step == 1 && size > CONTENT_MAX) {
        op_problem(op, 400, "too_large",
                   "%s has %" PRId64 " bytes, files over 1 MB are read by "
                   "GET …/files/raw",
                   op->path, size);
        return;
    }
    op->started = true;
    op->r->drain = on_drain;
    const char *type = op->step == 1   ? "text/plain; charset=utf-8"
                       : op->step == 2 ? "application/x-tar"
                                       : "application/octet-stream";
    /* a file may change while it is read: its length is no promise */
    cg_http_start(op->r, 200, type, -1);
}

static void down_close(struct cg_wcall *call, const struct cg_json *result,
                       const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)result;
    if (!op->started && error) {
        op_fail(op, error);
        return;
    }
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    r->drain = NULL;
    op->r = NULL;
    op_end(op);
    if (error)
        cg_http_break(r);
    else
        cg_http_finish(r);
}

static void download(struct op *op, const char *kind, unsigned step)
{
    op->step = step;
    op->call =
        (struct cg_wcall){.on_accept = down_accept, .on_data = down_data, .on_close = down_close};
    if (read_path(op, step == 2 ? "/workspace" : NULL))
        (void)!call_path(op, kind, NULL);
}

void api_content_get(struct op *op)
{
    if (!api_content_at(op))
        download(op, "fs.read", 1);
}

void api_raw_get(struct op *op)
{
    download(op, "fs.read", 0);
}

void api_archive_get(struct op *op)
{
    download(op, "tar.out", 2);
}

/* --- up: client to guest, as fast as the guest takes it --- */

static void up_reply(struct op *op)
{
    if (op->failed) {
        op_fail(op, &op->err);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "status", "ok");
    cg_jsonw_kstr(w, "path", op->path);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* Sends what waits; the client goes on when all of it is gone. */
static void up_pump(struct op *op)
{
    if (op->a.n > 0) {
        size_t n = cg_wcall_send(&op->call, CG_LINK_STDIN, cg_buf_slice(&op->a));
        cg_buf_consume(&op->a, n);
    }
    if (op->a.n > 0)
        return;
    if (op->body_over) {
        if (!op->ended)
            cg_wcall_eof(&op->call, CG_LINK_STDIN);
        op->ended = true;
    } else if (op->r) {
        cg_http_resume(op->r);
    }
}

static void up_writable(struct cg_wcall *call)
{
    up_pump(CG_CONTAINER(call, struct op, call));
}

static void up_body(struct cg_http_req *r, struct cg_slice bytes)
{
    struct op *op = r->user;
    if (op->failed)
        return; /* the rest is read and dropped, so that the client gets to hear why */
    size_t n = op->a.n ? 0 : cg_wcall_send(&op->call, CG_LINK_STDIN, bytes);
    if (n == bytes.n)
        return;
    CG_ASSERT(cg_buf_add(&op->a, bytes.p + n, bytes.n - n));
    cg_http_pause(r);
}

static void up_end(struct cg_http_req *r)
{
    struct op *op = r->user;
    op->body_over = true;
    if (op->failed)
        up_reply(op);
    else
        up_pump(op);
}

static void up_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)result;
    if (error) {
        op->failed = true;
        op->err = *error;
        if (!op->body_over) {
            cg_buf_clear(&op->a);
            cg_http_resume(op->r);
            return;
        }
    }
    up_reply(op);
}

static void upload(struct op *op, const char *kind, const char *fallback)
{
    cg_buf_init(&op->a, 1 << 20);
    op->call = (struct cg_wcall){.on_writable = up_writable, .on_close = up_close};
    if (read_path(op, fallback) && call_path(op, kind, NULL))
        cg_http_stream_body(op->r, up_body, up_end);
}

void api_raw_put(struct op *op)
{
    upload(op, "fs.write", NULL);
}

void api_archive_put(struct op *op)
{
    upload(op, "tar.in", "/workspace");
}

static void content_body(struct op *op, const struct cg_json *body)
{
    const char *path = NULL;
    const struct cg_json *content = cg_json_get(body, "content");
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "path", &path, &e)) {
        op_fail(op, &e);
        return;
    }
    if (path) /* the older form */
        cg_strlcpy(op->path, sizeof op->path, path);
    else if (!read_path(op, NULL))
        return;
    if (!content || content->type != CG_JSON_STR) {
        op_problem(op, 400, "invalid", "content (a string) is needed");
        return;
    }
    cg_buf_init(&op->a, API_BODY_MAX);
    cg_buf_add(&op->a, content->str.p, content->str.n);
    op->body_over = true;
    op->call = (struct cg_wcall){.on_writable = up_writable, .on_close = up_close};
    if (call_path(op, "fs.write", NULL))
        up_pump(op);
}

void api_content_put(struct op *op)
{
    op_read_json(op, content_body);
}
