/* WebSockets to a process in the guest: `terminal`, a login shell exactly as the contract has it,
 * and `exec`, any command with its outputs apart, which the CLI and the dashboard use. Both hold
 * the guest back when the client reads slowly, and the client when the guest does. A command that
 * was started with `detach` goes on when its socket ends, and another socket attaches to it. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

enum { INPUT_MAX = 2 << 20, PARTIAL_MAX = 8 };

struct api_terminal {
    struct api_terminal *next;
    struct cg_api *api;
    struct cg_sandbox *sb;
    struct api_seat seat;
    struct cg_ws *ws; /* NULL once the client is gone */
    struct cg_wcall call;
    struct cg_buf input; /* of the client, waiting for the guest's credit */
    bool input_ends, eof_sent;
    size_t owed;
    unsigned close_status; /* 0: open; a closing frame would overtake what is queued, so it waits */
    bool pty;              /* the terminal protocol; else exec's */
    bool started;          /* exec: the first message came */
    bool telling;          /* exec: the client wants to know the id of the command */
    char partial[PARTIAL_MAX]; /* of a UTF-8 character cut between two chunks */
    size_t partial_n;
    char id[CG_ID_TEXT];
    int64_t created_wall;
};

static void drop(struct api_terminal *t)
{
    if (t->ws || t->call.s)
        return; /* the other side still refers to it */
    struct api_terminal **at = &t->api->terminals;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    cg_buf_finish(&t->input);
    free(t);
}

/* --- guest to client --- */

/* Bytes at the end of s that begin a UTF-8 character without ending it. */
static size_t cut_tail(struct cg_slice s)
{
    for (size_t back = 1; back <= 3 && back <= s.n; back++) {
        unsigned char c = (unsigned char)s.p[s.n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return need > back ? back : 0;
    }
    return 0;
}

static void send_output(struct api_terminal *t, struct cg_slice bytes)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    CG_OWN(cg_drop_buf) struct cg_buf message;
    cg_buf_init(&text, CG_LINK_MAX_DATA + 16);
    cg_buf_init(&message, 8 * CG_LINK_MAX_DATA + 256);
    cg_buf_add(&text, t->partial, t->partial_n);
    cg_buf_add(&text, bytes.p, bytes.n);
    size_t cut = cut_tail(cg_buf_slice(&text));
    t->partial_n = cut;
    memcpy(t->partial, text.p + text.n - cut, cut);
    text.n -= cut;
    if (text.n == 0)
        return;
    struct cg_jsonw w;
    cg_jsonw_init(&w, &message);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", "output");
    cg_jsonw_kstrn(&w, "data", text.p, text.n);
    cg_jsonw_obj_end(&w);
    cg_ws_send(t->ws, true, cg_buf_slice(&message));
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct api_terminal *t = CG_CONTAINER(call, struct api_terminal, call);
    if (!t->ws) {
        cg_wcall_grant(call, bytes.n);
        return;
    }
    t->owed += bytes.n;
    if (t->pty) {
        send_output(t, bytes);
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_DATA + 1);
    cg_buf_addc(&b, (char)channel);
    cg_buf_add(&b, bytes.p, bytes.n);
    cg_ws_send(t->ws, false, cg_buf_slice(&b));
}

/* Which command it is, so that a client can come back to it. */
static void on_accept(struct cg_wcall *call, const struct cg_json *info)
{
    struct api_terminal *t = CG_CONTAINER(call, struct api_terminal, call);
    const char *id = cg_json_str(info, "exec_id");
    if (!t->ws || !t->telling || !id)
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 512);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", "started");
    cg_jsonw_kstr(&w, "exec_id", id);
    cg_jsonw_obj_end(&w);
    cg_ws_send(t->ws, true, cg_buf_slice(&b));
}

static void on_drain(void *ctx, struct cg_ws *ws)
{
    struct api_terminal *t = ctx;
    size_t owed = t->owed;
    t->owed = 0;
    cg_wcall_grant(&t->call, owed);
    if (t->close_status)
        cg_ws_close(ws, t->close_status,
                    t->close_status == 1000 ? "exit" : "the command could not be run");
}

static void send_exit(struct api_terminal *t, const struct cg_json *result,
                      const struct cg_err *error)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", error ? "error" : "exit");
    if (error) {
        cg_jsonw_kstr(&w, "code", cg_code_name(error->code));
        cg_jsonw_kstr(&w, "message", error->text);
    } else {
        cg_jsonw_kint(&w, "code", cg_json_int(result, "exit_code", -1));
        cg_jsonw_kint(&w, "exit_code", cg_json_int(result, "exit_code", -1));
        cg_jsonw_kstr(&w, "signal", cg_json_str(result, "signal"));
        cg_jsonw_kbool(&w, "timed_out", cg_json_bool(result, "timed_out", false));
        if (cg_json_bool(result, "detached", false))
            cg_jsonw_kbool(&w, "detached", true);
    }
    cg_jsonw_obj_end(&w);
    cg_ws_send(t->ws, true, cg_buf_slice(&b));
}

static void on_closed(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct api_terminal *t = CG_CONTAINER(call, struct api_terminal, call);
    t->owed = 0;
    if (t->ws) {
        if (t->partial_n > 0) {
            t->partial_n = 0;
            cg_ws_send(t->ws, true, cg_slice_of("{\"type\":\"output\",\"data\":\"\xef\xbf\xbd\"}"));
        }
        send_exit(t, result, error);
        t->close_status = error ? 1011 : 1000;
        return; /* on_ws_close drops it */
    }
    drop(t);
}

/* --- client to guest --- */

static void pump_input(struct api_terminal *t)
{
    if (t->input.n > 0) {
        size_t n = cg_wcall_send(&t->call, CG_LINK_STDIN, cg_buf_slice(&t->input));
        cg_buf_consume(&t->input, n);
    }
    if (t->input.n > 0) {
        if (t->ws)
            cg_ws_pause(t->ws);
        return;
    }
    if (t->input_ends && !t->eof_sent) {
        t->eof_sent = true;
        cg_wcall_eof(&t->call, CG_LINK_STDIN);
    }
    if (t->ws)
        cg_ws_resume(t->ws);
}

static void on_writable(struct cg_wcall *call)
{
    pump_input(CG_CONTAINER(call, struct api_terminal, call));
}

static void add_input(struct api_terminal *t, struct cg_slice bytes)
{
    if (t->input_ends)
        return;
    if (!cg_buf_add(&t->input, bytes.p, bytes.n)) {
        cg_ws_close(t->ws, 1009, "input comes faster than the guest takes it");
        return;
    }
    pump_input(t);
}

static void resize(struct api_terminal *t, int64_t rows, int64_t cols)
{
    char text[80];
    if (rows < 1 || rows > 1000 || cols < 1 || cols > 1000)
        return;
    cg_snprintf(text, sizeof text, "{\"resize\":{\"rows\":%d,\"cols\":%d}}", (int)rows, (int)cols);
    cg_wcall_control(&t->call, cg_slice_of(text));
}

static void send_signal(struct api_terminal *t, const char *name)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 256);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "signal", name);
    cg_jsonw_obj_end(&w);
    if (!b.full)
        cg_wcall_control(&t->call, cg_buf_slice(&b));
}

static void fail_ws(struct api_terminal *t, const struct cg_err *e)
{
    send_exit(t, NULL, e);
    t->close_status = 1011;
}

/* The warden's request, of the members of m that it knows. */
static void open_call(struct api_terminal *t, const struct cg_json *m, const char *kind,
                      const char *const *passed, size_t n)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", kind);
    cg_jsonw_kstr(&w, "origin", "cli");
    if (cg_json_str(m, "command"))
        cg_jsonw_kstr(&w, "shell", cg_json_str(m, "command"));
    for (size_t i = 0; i < n; i++) {
        const struct cg_json *v = cg_json_get(m, passed[i]);
        if (!v)
            continue;
        cg_jsonw_key(&w, passed[i]);
        cg_jsonw_value(&w, v);
    }
    cg_jsonw_obj_end(&w);
    t->started = true;
    t->telling = cg_json_bool(m, "detach", false);
    if (b.full)
        cg_fail(&e, CG_TOO_LARGE, "the command is too large");
    if (e.code != CG_OK || !cg_sandbox_usable(t->sb, &e) ||
        !cg_wcall_open(t->sb->warden, &t->call, cg_buf_slice(&b), &e))
        fail_ws(t, &e);
}

/* The first message of exec: {"type":"start","argv":[…]|"command":"…","cwd","env","user","pty",…},
 * or {"type":"attach","exec_id","pty"} to come back to one that was started with "detach":true. */
static void first_message(struct api_terminal *t, const char *type, const struct cg_json *m)
{
    static const char *const start[] = {"argv", "cwd",   "env",   "user", "timeout_ms", "pty",
                                        "term", "stdin", "login", "echo", "detach"};
    static const char *const attach[] = {"exec_id", "pty", "detach"};
    if (strcmp(type, "start") == 0)
        open_call(t, m, "exec", start, CG_COUNT(start));
    else if (strcmp(type, "attach") == 0 && !cg_json_str(m, "command"))
        open_call(t, m, "attach", attach, CG_COUNT(attach));
}

static void on_text(struct api_terminal *t, struct cg_slice bytes)
{
    CG_OWN(cg_drop_json) struct cg_json *m = cg_json_parse(bytes, NULL, NULL);
    const char *type = cg_json_str(m, "type");
    const struct cg_json *data = cg_json_get(m, "data");
    if (!type)
        return;
    if (!t->pty && !t->started) {
        first_message(t, type, m);
        return;
    }
    if (strcmp(type, "input") == 0 && data && data->type == CG_JSON_STR)
        add_input(t, data->str);
    else if (strcmp(type, "resize") == 0)
        resize(t, cg_json_int(m, "rows", 0), cg_json_int(m, "cols", 0));
    else if (strcmp(type, "ping") == 0)
        cg_ws_send(t->ws, true, cg_slice_of("{\"type\":\"pong\"}"));
    else if (strcmp(type, "signal") == 0 && cg_json_str(m, "signal"))
        send_signal(t, cg_json_str(m, "signal"));
    else if (strcmp(type, "eof") == 0) {
        t->input_ends = true;
        pump_input(t);
    }
}

static void on_message(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    struct api_terminal *t = ctx;
    (void)ws;
    if (text)
        on_text(t, bytes);
    else if (t->started && bytes.n > 1) /* binary: one byte channel, then the bytes */
        add_input(t, (struct cg_slice){bytes.p + 1, bytes.n - 1});
}

static void on_ws_close(void *ctx, struct cg_ws *ws)
{
    struct api_terminal *t = ctx;
    (void)ws;
    t->ws = NULL;
    size_t owed = t->owed;
    t->owed = 0;
    cg_wcall_grant(&t->call, owed);
    cg_wcall_cancel(&t->call);
    drop(t);
}

static const struct cg_ws_ops ws_ops = {on_message, on_drain, on_ws_close};

static struct api_terminal *accept_ws(struct op *op, const char *protocol)
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_sandbox_usable(op->sb, &e)) {
        op_fail(op, &e);
        return NULL;
    }
    if (!cg_ws_wanted(op->r, NULL)) {
        op_problem(op, 426, "upgrade_required", "this path is a WebSocket (subprotocol %s)",
                   protocol);
        return NULL;
    }
    struct api_terminal *t = cg_alloc(sizeof *t);
    t->api = op->api;
    t->sb = op->sb;
    op_seat(op, &t->seat);
    t->created_wall = cg_wall_ns();
    cg_buf_init(&t->input, INPUT_MAX);
    cg_id_make("term", t->id);
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    op->r = NULL;
    t->ws = cg_ws_accept(r, protocol, &ws_ops, t);
    if (!t->ws) {
        cg_buf_finish(&t->input);
        free(t);
        op_end(op);
        return NULL;
    }
    t->next = op->api->terminals;
    op->api->terminals = t;
    t->call = (struct cg_wcall){.on_accept = on_accept,
                                .on_data = on_data,
                                .on_close = on_closed,
                                .on_writable = on_writable};
    op_end(op);
    return t;
}

void api_terminal(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    int64_t rows = 24;
    int64_t cols = 80;
    if (!op_query_int(op, "rows", 1, 1000, &rows, &e) ||
        !op_query_int(op, "cols", 1, 1000, &cols, &e)) {
        op_fail(op, &e);
        return;
    }
    struct api_terminal *t = accept_ws(op, "terminal");
    if (!t)
        return;
    char request[256];
    t->pty = t->started = true;
    cg_snprintf(request, sizeof request,
                "{\"kind\":\"exec\",\"origin\":\"terminal\",\"login\":true,\"stdin\":true,"
                "\"pty\":{\"rows\":%d,\"cols\":%d}}",
                (int)rows, (int)cols);
    if (!cg_wcall_open(t->sb->warden, &t->call, cg_slice_of(request), &e))
        fail_ws(t, &e);
}

void api_exec_ws(struct op *op)
{
    (void)!accept_ws(op, "exec");
}

void api_terminals_end(struct cg_api *a, const struct api_seat *who)
{
    for (struct api_terminal *t = a->terminals, *next; t; t = next) {
        next = t->next;
        if (t->ws && seat_of(&t->seat, who))
            cg_ws_close(t->ws, who ? 1008 : 1001, who ? "no rights any more" : "the server stops");
    }
}

void api_terminal_sessions(struct op *op)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (const struct api_terminal *t = op->api->terminals; t; t = t->next) {
        if (t->sb != op->sb || !t->pty || !t->ws)
            continue;
        char when[CG_TIME_TEXT];
        cg_time_format(t->created_wall, when);
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "id", t->id);
        cg_jsonw_kstr(w, "created_at", when);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}
