/* exec as one request: runs the command, gathers its output (bounded), answers when it has ended.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

enum { OUTPUT_MAX = 8 << 20 };

struct outputs {
    struct cg_buf out, err; /* apart; merged is op->a */
};

static void keep(struct op *op, struct cg_buf *b, struct cg_slice bytes)
{
    size_t room = b->max - b->n;
    if (bytes.n > room) {
        op->truncated = true;
        bytes.n = room;
    }
    cg_buf_add(b, bytes.p, bytes.n);
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    struct outputs *o = op->own;
    keep(op, &op->a, bytes);
    keep(op, channel == CG_LINK_STDERR ? &o->err : &o->out, bytes);
    cg_wcall_grant(call, bytes.n);
}

static void finish(struct op *op)
{
    struct outputs *o = op->own;
    if (!o)
        return;
    cg_buf_finish(&o->out);
    cg_buf_finish(&o->err);
    free(o);
    op->own = NULL;
}

static void write_result(struct op *op, const struct cg_json *result)
{
    struct outputs *o = op->own;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstrn(w, "output", op->a.p, op->a.n);
    cg_jsonw_kint(w, "exit_code", cg_json_int(result, "exit_code", -1));
    cg_jsonw_kstrn(w, "stdout", o->out.p, o->out.n);
    cg_jsonw_kstrn(w, "stderr", o->err.p, o->err.n);
    cg_jsonw_kbool(w, "truncated", op->truncated);
    cg_jsonw_kbool(w, "timed_out", cg_json_bool(result, "timed_out", false));
    cg_jsonw_kstr(w, "signal", cg_json_str(result, "signal"));
    cg_jsonw_knum(w, "duration_ms", (double)cg_json_int(result, "duration_ns", 0) / 1e6);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* A command that could not run is an answer, not a failure of the request (contract 4.2). */
static void write_not_run(struct op *op, const struct cg_err *error)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "output", "");
    cg_jsonw_kint(w, "exit_code", error->code == CG_NOT_FOUND ? 127 : 126);
    cg_jsonw_kstr(w, "error", error->text);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    if (!error)
        write_result(op, result);
    else if (error->code == CG_NOT_FOUND || error->code == CG_FORBIDDEN)
        write_not_run(op, error);
    else
        op_fail(op, error);
}

static void send_stdin(struct op *op)
{
    if (op->ended)
        return;
    while (op->owed < op->b.n) {
        size_t n = cg_wcall_send(&op->call, CG_LINK_STDIN,
                                 (struct cg_slice){op->b.p + op->owed, op->b.n - op->owed});
        if (n == 0)
            return;
        op->owed += n;
    }
    op->ended = true;
    cg_wcall_eof(&op->call, CG_LINK_STDIN);
}

static void on_writable(struct cg_wcall *call)
{
    send_stdin(CG_CONTAINER(call, struct op, call));
}

struct exec_options {
    const char *command, *cwd, *user, *input, *origin;
    const struct cg_json *env, *argv;
    int64_t timeout_ms;
};

static bool read_options(const struct cg_json *b, struct exec_options *o, struct cg_err *e)
{
    if (!body_str(b, "command", &o->command, e) || !body_str(b, "cwd", &o->cwd, e) ||
        !body_str(b, "user", &o->user, e) || !body_str(b, "stdin", &o->input, e) ||
        !body_env(b, "env", &o->env, e) ||
        !body_int(b, "timeout_ms", 0, INT64_C(86400000) * 30, &o->timeout_ms, e))
        return false;
    o->argv = cg_json_get(b, "argv");
    if (o->argv && (o->argv->type != CG_JSON_ARR || o->argv->count == 0))
        return cg_fail(e, CG_INVALID, "argv must be a non-empty array of strings");
    if (!o->argv && (!o->command || !o->command[0]))
        return cg_fail(e, CG_INVALID, "command (a shell command line) or argv is needed");
    if (o->user && !cg_streq(o->user, "agent") && !cg_streq(o->user, "root"))
        return cg_fail(e, CG_INVALID, "user must be agent or root, not %.64s", o->user);
    return true;
}

static void write_request(struct cg_jsonw *w, const struct exec_options *o)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "kind", "exec");
    cg_jsonw_kstr(w, "origin", "api");
    if (o->argv) {
        cg_jsonw_key(w, "argv");
        cg_jsonw_value(w, o->argv);
    } else {
        cg_jsonw_kstr(w, "shell", o->command);
    }
    if (o->cwd)
        cg_jsonw_kstr(w, "cwd", o->cwd);
    if (o->user)
        cg_jsonw_kstr(w, "user", o->user);
    if (o->timeout_ms)
        cg_jsonw_kint(w, "timeout_ms", o->timeout_ms);
    if (o->input)
        cg_jsonw_kbool(w, "stdin", true);
    write_env(w, "env", o->env);
    cg_jsonw_obj_end(w);
}

static void start(struct op *op, const struct cg_json *body)
{
    struct exec_options o = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_options(body, &o, &e)) {
        op_fail(op, &e);
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf request;
    cg_buf_init(&request, CG_LINK_MAX_PAYLOAD);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &request);
    write_request(&w, &o);
    struct outputs *outputs = cg_alloc(sizeof *outputs);
    cg_buf_init(&outputs->out, OUTPUT_MAX);
    cg_buf_init(&outputs->err, OUTPUT_MAX);
    cg_buf_init(&op->a, OUTPUT_MAX);
    cg_buf_init(&op->b, API_BODY_MAX);
    op->own = outputs;
    op->finish = finish;
    op->call =
        (struct cg_wcall){.on_data = on_data, .on_close = on_close, .on_writable = on_writable};
    if (o.input)
        cg_buf_adds(&op->b, o.input);
    if (op_call(op, &request) && o.input)
        send_stdin(op);
}

static void start_awake(struct op *op, const struct cg_json *body)
{
    op_awake(op, body, start);
}

void api_exec(struct op *op)
{
    op_read_json(op, start_awake);
}
