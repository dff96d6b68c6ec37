/* The MCP endpoint of a sandbox: the tools of src/mcp over a backend that is the guest. A call is
 * one stream to the warden, so it is recorded as everything else is; the guest's agent keeps paths
 * beneath /workspace. */
#include "mcp/mcp.h"

#include <stdlib.h>
#include <string.h>

#include "api/api.h"

enum { SOCKETS_MAX = 256, OUTPUT_MAX = 2 << 20 };

struct api_mcp {
    struct api_mcp *next;
    struct cg_api *api;
    struct api_seat seat;
    struct cg_ws *ws;
    struct cg_mcp *mcp;
    struct job *jobs;
    char sandbox[CG_ID_TEXT];
};

struct job {
    struct job *next;
    struct api_mcp *owner;
    struct cg_mcp_call *answer;
    struct cg_wcall call;
    struct cg_buf out, err, input;
    bool listing, command, truncated, eof_sent;
};

/* --- jobs --- */

static void free_job(struct api_mcp *m, struct job *j)
{
    struct job **at = &m->jobs;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    cg_buf_finish(&j->out);
    cg_buf_finish(&j->err);
    cg_buf_finish(&j->input);
    free(j);
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct job *j = CG_CONTAINER(call, struct job, call);
    struct cg_buf *b = channel == CG_LINK_STDERR ? &j->err : &j->out;
    size_t room = b->max - b->n;
    j->truncated |= bytes.n > room;
    cg_buf_add(b, bytes.p, CG_MIN(bytes.n, room));
    cg_wcall_grant(call, bytes.n);
}

static void pump(struct cg_wcall *call)
{
    struct job *j = CG_CONTAINER(call, struct job, call);
    if (j->eof_sent)
        return;
    if (j->input.n > 0)
        cg_buf_consume(&j->input, cg_wcall_send(call, CG_LINK_STDIN, cg_buf_slice(&j->input)));
    if (j->input.n > 0)
        return;
    j->eof_sent = true;
    cg_wcall_eof(call, CG_LINK_STDIN);
}

static void tell_entries(struct job *j)
{
    const char *p = j->out.p;
    for (size_t left = j->out.n; left > 0;) {
        const char *end = memchr(p, '\n', left);
        size_t n = end ? (size_t)(end - p) : left;
        CG_OWN(cg_drop_json)
        struct cg_json *o = cg_json_parse((struct cg_slice){p, n}, NULL, NULL);
        const char *name = cg_json_str(o, "name");
        if (name)
            cg_mcp_entry(j->answer, name, cg_streq(cg_json_str(o, "type"), "directory"),
                         cg_json_int(o, "size", 0));
        p += n + (end != NULL);
        left -= n + (end != NULL);
    }
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct job *j = CG_CONTAINER(call, struct job, call);
    struct cg_err e = CG_ERR_INIT;
    if (!error && j->truncated && !j->command)
        cg_fail(&e, CG_TOO_LARGE, "it is larger than %d MiB", CG_MCP_TEXT_MAX >> 20);
    if (error || e.code != CG_OK) {
        cg_mcp_failed(j->answer, error ? error : &e);
    } else if (j->command) {
        const struct cg_mcp_ran ran = {cg_buf_slice(&j->out), cg_buf_slice(&j->err),
                                       (int)cg_json_int(result, "exit_code", -1),
                                       cg_json_bool(result, "timed_out", false), j->truncated};
        cg_mcp_ran(j->answer, &ran);
    } else if (j->listing) {
        tell_entries(j);
        cg_mcp_done(j->answer, (struct cg_slice){0});
    } else {
        cg_mcp_done(j->answer, cg_buf_slice(&j->out));
    }
    free_job(j->owner, j);
}

static struct job *new_job(struct api_mcp *m, struct cg_mcp_call *c, size_t out_max)
{
    struct job *j = cg_alloc(sizeof *j);
    j->owner = m;
    j->answer = c;
    j->next = m->jobs;
    m->jobs = j;
    j->eof_sent = true;
    j->call = (struct cg_wcall){.on_data = on_data, .on_close = on_close, .on_writable = pump};
    cg_buf_init(&j->out, out_max);
    cg_buf_init(&j->err, OUTPUT_MAX);
    cg_buf_init(&j->input, CG_MCP_MESSAGE_MAX);
    return j;
}

static void start(struct job *j, struct cg_buf *request)
{
    struct cg_sandbox *sb = cg_core_find(j->owner->api->core, j->owner->sandbox);
    struct cg_err e = CG_ERR_INIT;
    if (!sb)
        cg_fail(&e, CG_NOT_FOUND, "the sandbox is gone");
    else if (request->full)
        cg_fail(&e, CG_TOO_LARGE, "the request is too large for the sandbox");
    if (sb && e.code == CG_OK && cg_sandbox_usable(sb, &e) &&
        cg_wcall_open(sb->warden, &j->call, cg_buf_slice(request), &e)) {
        if (!j->eof_sent)
            pump(&j->call);
        return;
    }
    cg_mcp_failed(j->answer, &e);
    free_job(j->owner, j);
}

/* --- the backend --- */

static void begin(struct cg_jsonw *w, struct cg_buf *b, const char *kind)
{
    cg_buf_init(b, CG_LINK_MAX_PAYLOAD);
    cg_jsonw_init(w, b);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "kind", kind);
}

static void run(void *ctx, struct cg_mcp_call *c, const struct cg_mcp_run *r)
{
    struct job *j = new_job(ctx, c, OUTPUT_MAX);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    j->command = true;
    begin(&w, &b, "exec");
    cg_jsonw_kstr(&w, "origin", "api");
    cg_jsonw_kint(&w, "timeout_ms", (int64_t)r->timeout_s * 1000);
    if (r->shell) {
        cg_jsonw_kstr(&w, "shell", r->shell);
    } else {
        cg_jsonw_key(&w, "argv");
        cg_jsonw_arr(&w);
        for (size_t i = 0; r->argv[i]; i++)
            cg_jsonw_str(&w, r->argv[i]);
        cg_jsonw_arr_end(&w);
    }
    cg_jsonw_obj_end(&w);
    start(j, &b);
}

/* The agent refuses what is not below /workspace, or leads out of it. */
static void begin_path(struct cg_jsonw *w, struct cg_buf *b, const char *kind, const char *path)
{
    CG_OWN(cg_drop_free) char *full = cg_format("%s%s", path[0] == '/' ? "" : "/workspace/", path);
    begin(w, b, kind);
    cg_jsonw_kstr(w, "path", full);
    cg_jsonw_kstr(w, "beneath", "/workspace");
}

static void read_file(void *ctx, struct cg_mcp_call *c, const char *path)
{
    struct job *j = new_job(ctx, c, CG_MCP_TEXT_MAX);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    begin_path(&w, &b, "fs.read", path);
    cg_jsonw_obj_end(&w);
    start(j, &b);
}

static void write_file(void *ctx, struct cg_mcp_call *c, const char *path, struct cg_slice bytes)
{
    struct job *j = new_job(ctx, c, 0);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    begin_path(&w, &b, "fs.write", path);
    cg_jsonw_kbool(&w, "mkdirs", true);
    cg_jsonw_obj_end(&w);
    j->eof_sent = false;
    cg_buf_add(&j->input, bytes.p, bytes.n);
    start(j, &b);
}

static void list(void *ctx, struct cg_mcp_call *c, const char *path)
{
    struct job *j = new_job(ctx, c, CG_MCP_TEXT_MAX);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    j->listing = true;
    begin_path(&w, &b, "fs.list", path);
    cg_jsonw_obj_end(&w);
    start(j, &b);
}

static void delete_path(void *ctx, struct cg_mcp_call *c, const char *path)
{
    struct job *j = new_job(ctx, c, 0);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    begin_path(&w, &b, "fs.delete", path);
    cg_jsonw_kbool(&w, "recursive", true);
    cg_jsonw_obj_end(&w);
    start(j, &b);
}

/* --- the socket --- */

static void reply(void *ctx, struct cg_slice message)
{
    struct api_mcp *m = ctx;
    cg_ws_send(m->ws, true, message);
    if (cg_ws_pending(m->ws) > 4 * CG_MCP_TEXT_MAX)
        cg_ws_close(m->ws, 1008, "answers are not read");
}

static void on_message(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    struct api_mcp *m = ctx;
    if (text)
        cg_mcp_take(m->mcp, bytes);
    else
        cg_ws_close(ws, 1003, "messages are text");
}

static void on_ws_close(void *ctx, struct cg_ws *ws)
{
    struct api_mcp *m = ctx;
    struct cg_err e = CG_ERR_INIT;
    (void)ws;
    cg_fail(&e, CG_CLOSED, "the client is gone");
    cg_mcp_destroy(m->mcp);
    while (m->jobs) {
        struct job *j = m->jobs;
        cg_wcall_forget(&j->call);
        cg_mcp_failed(j->answer, &e); /* frees what the call holds: nobody hears it */
        free_job(m, j);
    }
    struct api_mcp **at = &m->api->mcps;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    free(m);
}

static bool admits(const struct op *op, struct cg_err *e)
{
    unsigned open = 0;
    for (const struct api_mcp *m = op->api->mcps; m; m = m->next)
        open++;
    if (open >= SOCKETS_MAX)
        return cg_fail(e, CG_LIMIT, "%u MCP clients are connected; close some", open);
    return cg_sandbox_usable(op->sb, e);
}

void api_mcp(struct op *op)
{
    static const struct cg_ws_ops ops = {on_message, NULL, on_ws_close};
    struct cg_err e = CG_ERR_INIT;
    if (!admits(op, &e)) {
        op_fail(op, &e);
        return;
    }
    if (!cg_ws_wanted(op->r, NULL)) {
        op_problem(op, 426, "upgrade_required", "this path is a WebSocket (subprotocol mcp)");
        return;
    }
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    op->r = NULL;
    struct api_mcp *m = cg_alloc(sizeof *m);
    m->ws = cg_ws_accept(r, "mcp", &ops, m);
    if (!m->ws) {
        free(m);
        op_end(op);
        return;
    }
    cg_ws_limit(m->ws, CG_MCP_MESSAGE_MAX);
    const struct cg_mcp_options o = {
        .lists_empty = true,
        .about = "Tools of one sandbox: a microVM. Paths are relative to /workspace; commands run "
                 "there as the user agent, and everything is recorded.",
        .backend = {run, read_file, write_file, list, delete_path},
        .reply = reply,
        .ctx = m};
    m->mcp = cg_mcp_create(&o);
    m->api = op->api;
    op_seat(op, &m->seat);
    cg_strlcpy(m->sandbox, sizeof m->sandbox, op->sb->id);
    m->next = op->api->mcps;
    op->api->mcps = m;
    op_end(op);
}

void api_mcps_end(struct cg_api *a, const struct api_seat *who)
{
    for (const struct api_mcp *m = a->mcps, *next; m; m = next) {
        next = m->next;
        if (seat_of(&m->seat, who))
            cg_ws_close(m->ws, who ? 1008 : 1001, who ? "no rights any more" : "the server stops");
    }
}
