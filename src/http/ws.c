/* WebSocket on an upgraded connection: wslay frames and unframes, the connection moves bytes. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "http/inner.h"

enum { FRAMES_MAX = 64 }; /* queued: no reading then, so that pings cannot pile up answers */

struct cg_ws {
    struct cg_http_conn *conn;
    wslay_event_context_ptr wslay;
    struct cg_ws_ops ops;
    void *ctx;
    struct cg_slice input; /* bytes for wslay to read */
    bool paused;           /* by the owner */
    bool held;             /* by us: the client does not read what it asks for */
    bool gone;
};

static bool has_token(const char *list, const char *token)
{
    size_t n = strlen(token);
    while (list && *list) {
        list += strspn(list, " ,\t");
        size_t len = strcspn(list, " ,\t");
        if (len == n && strncasecmp(list, token, n) == 0)
            return true;
        list += len;
    }
    return false;
}

bool cg_ws_wanted(const struct cg_http_req *r, const char *protocol)
{
    if (!has_token(cg_http_header(r, "connection"), "upgrade") ||
        !has_token(cg_http_header(r, "upgrade"), "websocket"))
        return false;
    return !protocol || has_token(cg_http_header(r, "sec-websocket-protocol"), protocol);
}

static ssize_t on_recv(wslay_event_context_ptr w, uint8_t *buf, size_t n, int flags, void *user)
{
    struct cg_ws *ws = user;
    (void)flags;
    if (ws->input.n == 0) {
        wslay_event_set_error(w, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t take = CG_MIN(n, ws->input.n);
    memcpy(buf, ws->input.p, take);
    ws->input.p += take;
    ws->input.n -= take;
    return (ssize_t)take;
}

static ssize_t on_send(wslay_event_context_ptr w, const uint8_t *p, size_t n, int flags, void *user)
{
    struct cg_ws *ws = user;
    (void)w;
    (void)flags;
    conn_queue(ws->conn, p, n);
    return (ssize_t)n;
}

static void on_message(wslay_event_context_ptr w, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user)
{
    struct cg_ws *ws = user;
    (void)w;
    if (ws->gone || ws->conn->ws_closing || wslay_is_ctrl_frame(arg->opcode))
        return; /* what comes after our closing frame is nothing to anybody */
    ws->ops.on_message(ws->ctx, ws, arg->opcode == WSLAY_TEXT_FRAME,
                       (struct cg_slice){(const char *)arg->msg, arg->msg_length});
}

static bool accept_key(const char *key, char out[32])
{
    char text[128];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!key || strlen(key) != 24)
        return false;
    cg_snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    if (EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL) != 1)
        return false;
    return EVP_EncodeBlock((unsigned char *)out, digest, (int)n) == 28;
}

struct cg_ws *cg_ws_accept(struct cg_http_req *r, const char *protocol, const struct cg_ws_ops *ops,
                           void *ctx)
{
    struct cg_http_conn *c = r->conn;
    char accept[32];
    const char *version = cg_http_header(r, "sec-websocket-version");
    if (!cg_ws_wanted(r, NULL) || !cg_streq(version, "13") || strcmp(r->method, "GET") != 0 ||
        !accept_key(cg_http_header(r, "sec-websocket-key"), accept)) {
        cg_http_reply(r, 400, "text/plain", cg_slice_of("not a WebSocket handshake\n"));
        return NULL;
    }
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv, .send_callback = on_send, .on_msg_recv_callback = on_message};
    struct cg_ws *ws = cg_alloc(sizeof *ws);
    ws->conn = c;
    ws->ops = *ops;
    ws->ctx = ctx;
    CG_ASSERT(wslay_event_context_server_init(&ws->wslay, &callbacks, ws) == 0);
    wslay_event_config_set_max_recv_msg_length(ws->wslay, CG_WS_MESSAGE_MAX);
    CG_OWN(cg_drop_buf) struct cg_buf head;
    cg_buf_init(&head, 1024);
    cg_buf_addf(&head,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: %s\r\n",
                accept);
    if (protocol && cg_ws_wanted(r, protocol))
        cg_buf_addf(&head, "Sec-WebSocket-Protocol: %s\r\n", protocol);
    cg_buf_adds(&head, "\r\n");
    c->req_live = false;
    c->replied = c->finished = true;
    c->state = CONN_UPGRADED;
    c->ws = ws;
    conn_queue(c, head.p, head.n);
    return ws;
}

bool ws_bytes(struct cg_ws *ws, struct cg_slice bytes)
{
    struct cg_http_conn *c = ws->conn;
    ws->input = bytes;
    int rc = wslay_event_recv(ws->wslay);
    if (c->dead)
        return false;
    cg_stream_kick(c->stream); /* pongs, close frames */
    if (wslay_event_get_queued_msg_count(ws->wslay) > FRAMES_MAX) {
        ws->held = true;
        cg_stream_read_pause(c->stream);
    }
    if (rc != 0 ||
        (wslay_event_get_close_received(ws->wslay) && !wslay_event_want_write(ws->wslay))) {
        conn_destroy(c);
        return false;
    }
    return true;
}

void ws_fill(struct cg_ws *ws)
{
    if (wslay_event_want_write(ws->wslay))
        wslay_event_send(ws->wslay);
}

void ws_drained(struct cg_ws *ws)
{
    struct cg_http_conn *c = ws->conn;
    if (wslay_event_want_write(ws->wslay)) {
        cg_stream_kick(c->stream);
        return;
    }
    if (wslay_event_get_close_sent(ws->wslay) &&
        (wslay_event_get_close_received(ws->wslay) || !wslay_event_get_read_enabled(ws->wslay))) {
        conn_destroy(c);
        return;
    }
    if (ws->held) {
        ws->held = false;
        if (!ws->paused)
            cg_stream_read_resume(c->stream);
    }
    if (ws->ops.on_drain)
        ws->ops.on_drain(ws->ctx, ws);
}

void ws_gone(struct cg_ws *ws)
{
    ws->gone = true;
    if (ws->ops.on_close)
        ws->ops.on_close(ws->ctx, ws);
    wslay_event_context_free(ws->wslay);
    free(ws);
}

void cg_ws_send(struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    struct wslay_event_msg m = {.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
                                .msg = (const uint8_t *)bytes.p,
                                .msg_length = bytes.n};
    if (ws->gone || wslay_event_queue_msg(ws->wslay, &m) != 0)
        return;
    cg_stream_kick(ws->conn->stream);
}

void cg_ws_limit(struct cg_ws *ws, size_t message_max)
{
    wslay_event_config_set_max_recv_msg_length(ws->wslay, message_max);
}

size_t cg_ws_pending(const struct cg_ws *ws)
{
    return wslay_event_get_queued_msg_length(ws->wslay) + ws->conn->out.n - ws->conn->out_at;
}

void cg_ws_pause(struct cg_ws *ws)
{
    ws->paused = true;
    cg_stream_read_pause(ws->conn->stream);
}

void cg_ws_resume(struct cg_ws *ws)
{
    ws->paused = false;
    if (!ws->held)
        cg_stream_read_resume(ws->conn->stream);
}

void cg_ws_close(struct cg_ws *ws, unsigned status, const char *reason)
{
    if (ws->gone)
        return;
    wslay_event_queue_close(ws->wslay, (uint16_t)status, (const uint8_t *)reason, strlen(reason));
    ws->conn->ws_closing = true;
    conn_rearm(ws->conn, false);
    cg_ws_resume(ws); /* the client's closing frame */
    cg_stream_kick(ws->conn->stream);
}
