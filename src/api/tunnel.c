/* A TCP connection to a port of the guest, carried by a WebSocket: what `caged forward` uses. The
 * guest's agent connects, so a port bound to the guest's loopback is reached as well; docs/ports.md
 * has the messages. Either side that reads slowly holds the other back. */
#include <stdlib.h>
#include <string.h>

#include "api/preview.h"

enum { INPUT_MAX = 2 << 20, TUNNELS_MAX = 512 };

struct api_tunnel {
    struct api_tunnel *next;
    struct cg_api *api;
    struct api_seat seat;
    struct cg_ws *ws; /* NULL once the client is gone */
    struct cg_wcall call;
    struct cg_buf input; /* of the client, waiting for the guest's credit */
    bool input_ends, eof_sent;
    size_t owed;           /* of the guest, not yet written to the client */
    unsigned close_status; /* 0: open; a closing frame waits for what is queued */
};

static void drop(struct api_tunnel *t)
{
    if (t->ws || t->call.s)
        return; /* the other side still refers to it */
    struct api_tunnel **at = &t->api->tunnels;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    cg_buf_finish(&t->input);
    free(t);
}

/* --- guest to client --- */

static void say(struct api_tunnel *t, const char *type, const struct cg_err *error)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    if (!t->ws)
        return;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", type);
    if (error) {
        cg_jsonw_kstr(&w, "code", cg_code_name(error->code));
        cg_jsonw_kstr(&w, "message", error->text);
    }
    cg_jsonw_obj_end(&w);
    cg_ws_send(t->ws, true, cg_buf_slice(&b));
}

static void on_accept(struct cg_wcall *call, const struct cg_json *info)
{
    (void)info;
    say(CG_CONTAINER(call, struct api_tunnel, call), "connected", NULL);
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct api_tunnel *t = CG_CONTAINER(call, struct api_tunnel, call);
    (void)channel;
    if (!t->ws) {
        cg_wcall_grant(call, bytes.n);
        return;
    }
    t->owed += bytes.n;
    cg_ws_send(t->ws, false, bytes);
}

static void on_eof(struct cg_wcall *call, unsigned channel)
{
    (void)channel;
    say(CG_CONTAINER(call, struct api_tunnel, call), "eof", NULL);
}

static void on_drain(void *ctx, struct cg_ws *ws)
{
    struct api_tunnel *t = ctx;
    size_t owed = t->owed;
    t->owed = 0;
    cg_wcall_grant(&t->call, owed);
    if (t->close_status)
        cg_ws_close(ws, t->close_status, t->close_status == 1000 ? "closed" : "not connected");
}

static void end(struct api_tunnel *t, const struct cg_err *error)
{
    if (error)
        say(t, "error", error);
    else
        say(t, "eof", NULL); /* something is written, so that the close follows when it is out */
    t->close_status = error ? 1011 : 1000;
}

static void on_closed(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct api_tunnel *t = CG_CONTAINER(call, struct api_tunnel, call);
    (void)result;
    t->owed = 0;
    if (t->ws)
        end(t, error); /* on_ws_close drops it */
    else
        drop(t);
}

/* --- client to guest --- */

static void pump_input(struct api_tunnel *t)
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
    pump_input(CG_CONTAINER(call, struct api_tunnel, call));
}

static void on_message(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    struct api_tunnel *t = ctx;
    if (t->input_ends || t->close_status)
        return;
    if (text) {
        CG_OWN(cg_drop_json) struct cg_json *m = cg_json_parse(bytes, NULL, NULL);
        t->input_ends = cg_streq(cg_json_str(m, "type"), "eof");
    } else if (!cg_buf_add(&t->input, bytes.p, bytes.n)) {
        cg_ws_close(ws, 1009, "bytes come faster than the guest takes them");
        return;
    }
    pump_input(t);
}

static void on_ws_close(void *ctx, struct cg_ws *ws)
{
    struct api_tunnel *t = ctx;
    (void)ws;
    t->ws = NULL;
    size_t owed = t->owed;
    t->owed = 0;
    cg_wcall_grant(&t->call, owed);
    cg_wcall_cancel(&t->call);
    drop(t);
}

/* --- the request --- */

static bool admits(const struct op *op, struct cg_err *e)
{
    unsigned open = 0;
    for (const struct api_tunnel *t = op->api->tunnels; t; t = t->next)
        open++;
    if (open >= TUNNELS_MAX)
        return cg_fail(e, CG_LIMIT, "%u forwarded connections are open; close some", open);
    return cg_sandbox_usable(op->sb, e);
}

void api_tunnel(struct op *op)
{
    static const struct cg_ws_ops ws_ops = {on_message, on_drain, on_ws_close};
    struct cg_err e = CG_ERR_INIT;
    int port = 0;
    if (!op_port(op, &port, &e) || !admits(op, &e)) {
        op_fail(op, &e);
        return;
    }
    if (!cg_ws_wanted(op->r, NULL)) {
        op_problem(op, 426, "upgrade_required", "this path is a WebSocket (subprotocol tcp)");
        return;
    }
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    op->r = NULL;
    struct api_tunnel *t = cg_alloc(sizeof *t);
    t->api = op->api;
    op_seat(op, &t->seat);
    cg_buf_init(&t->input, INPUT_MAX);
    t->ws = cg_ws_accept(r, "tcp", &ws_ops, t);
    if (!t->ws) {
        cg_buf_finish(&t->input);
        free(t);
        op_end(op);
        return;
    }
    t->next = op->api->tunnels;
    op->api->tunnels = t;
    t->call = (struct cg_wcall){.on_accept = on_accept,
                                .on_data = on_data,
                                .on_eof = on_eof,
                                .on_writable = on_writable,
                                .on_close = on_closed};
    char request[96];
    cg_snprintf(request, sizeof request, "{\"kind\":\"dial\",\"port\":%d,\"origin\":\"cli\"}",
                port);
    if (!cg_wcall_open(op->sb->warden, &t->call, cg_slice_of(request), &e))
        end(t, &e);
    op_end(op);
}

void api_tunnels_end(struct cg_api *a, const struct api_seat *who)
{
    for (struct api_tunnel *t = a->tunnels, *next; t; t = next) {
        next = t->next;
        if (t->ws && seat_of(&t->seat, who))
            cg_ws_close(t->ws, who ? 1008 : 1001, who ? "no rights any more" : "the server stops");
    }
}
