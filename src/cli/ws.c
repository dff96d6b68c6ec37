#include "cli/ws.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "base/clock.h"

enum { HEAD_MAX = 16384, MESSAGE_MAX = 4 << 20, HANDSHAKE_MS = 30000 };

struct cli_ws {
    CURL *curl; /* connected; what is TLS about it is libcurl's */
    int fd;     /* its socket, to poll */
    wslay_event_context_ptr wslay;
    struct cli_ws_ops ops;
    void *ctx;
    struct cg_buf early; /* bytes that came with the handshake's answer */
};

static ssize_t on_recv(wslay_event_context_ptr w, uint8_t *buf, size_t n, int flags, void *user)
{
    struct cli_ws *ws = user;
    (void)flags;
    if (ws->early.n > 0) {
        size_t take = CG_MIN(n, ws->early.n);
        memcpy(buf, ws->early.p, take);
        cg_buf_consume(&ws->early, take);
        return (ssize_t)take;
    }
    size_t got = 0;
    CURLcode rc = curl_easy_recv(ws->curl, buf, n, &got);
    if (rc == CURLE_OK && got > 0)
        return (ssize_t)got;
    wslay_event_set_error(w, rc == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr w, const uint8_t *p, size_t n, int flags, void *user)
{
    struct cli_ws *ws = user;
    (void)flags;
    size_t put = 0;
    CURLcode rc = curl_easy_send(ws->curl, p, n, &put);
    if (rc == CURLE_OK)
        return (ssize_t)put;
    wslay_event_set_error(w, rc == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static int on_mask(wslay_event_context_ptr w, uint8_t *buf, size_t n, void *user)
{
    (void)w;
    (void)user;
    cg_rand_bytes(buf, n);
    return 0;
}

static void on_message(wslay_event_context_ptr w, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user)
{
    struct cli_ws *ws = user;
    (void)w;
    if (!wslay_is_ctrl_frame(arg->opcode))
        ws->ops.on_message(ws->ctx, arg->opcode == WSLAY_TEXT_FRAME,
                           (struct cg_slice){(const char *)arg->msg, arg->msg_length});
}

/* Host and port for the Host header, and the path that a server behind a proxy may have. */
static bool split_url(const char *url, char host[300], char path[300], struct cg_err *e)
{
    CURLU *u = curl_url();
    char *name = NULL;
    char *port = NULL;
    char *prefix = NULL;
    bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &name, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_PATH, &prefix, 0) == CURLUE_OK;
    if (ok) {
        size_t n = strlen(prefix);
        cg_snprintf(host, 300, "%s:%s", name, port);
        cg_snprintf(path, 300, "%.*s", (int)(n > 0 && prefix[n - 1] == '/' ? n - 1 : n), prefix);
    }
    curl_free(name);
    curl_free(port);
    curl_free(prefix);
    curl_url_cleanup(u);
    return ok || cg_fail(e, CG_INVALID, "%s is no URL of a server", url);
}

/* libcurl makes the connection, with TLS and its checks where the URL says https. */
static bool dial(struct cli_ws *ws, const struct cli *c, struct cg_err *e)
{
    ws->curl = cli_curl(c, "/");
    curl_easy_setopt(ws->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(ws->curl, CURLOPT_HTTPPROXYTUNNEL, 1L);
    CURLcode rc = curl_easy_perform(ws->curl);
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (rc == CURLE_OK)
        rc = curl_easy_getinfo(ws->curl, CURLINFO_ACTIVESOCKET, &fd);
    ws->fd = fd;
    return (rc == CURLE_OK && fd >= 0) ||
           cg_fail(e, CG_UNAVAILABLE, "%s: %s", c->url, curl_easy_strerror(rc));
}

static bool await(const struct cli_ws *ws, short events)
{
    struct pollfd p = {ws->fd, events, 0};
    int n;
    do {
        n = poll(&p, 1, HANDSHAKE_MS);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

static bool send_all(struct cli_ws *ws, const char *p, size_t n)
{
    while (n > 0) {
        size_t put = 0;
        CURLcode rc = curl_easy_send(ws->curl, p, n, &put);
        if (rc == CURLE_AGAIN ? !await(ws, POLLOUT) : rc != CURLE_OK)
            return false;
        p += put;
        n -= put;
    }
    return true;
}

/* -1: the end, or nothing for too long. */
static ssize_t receive(struct cli_ws *ws, char *p, size_t n)
{
    for (;;) {
        size_t got = 0;
        CURLcode rc = curl_easy_recv(ws->curl, p, n, &got);
        if (rc == CURLE_OK)
            return got > 0 ? (ssize_t)got : -1;
        if (rc != CURLE_AGAIN || !await(ws, POLLIN))
            return -1;
    }
}

/* Reads the answer's head; bytes behind it stay in ws->early. */
static bool read_answer(struct cli_ws *ws, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, HEAD_MAX);
    const char *end = NULL;
    while (!end) {
        char *room = cg_buf_room(&b, 2048);
        ssize_t n = room ? receive(ws, room, 2048) : -1;
        if (n <= 0)
            return cg_fail(e, CG_CLOSED, "the server closed the connection");
        cg_buf_grew(&b, (size_t)n);
        end = memmem(b.p, b.n, "\r\n\r\n", 4);
    }
    if (!cg_has_prefix(b.p, "HTTP/1.1 101")) {
        const char *body = end + 4;
        CG_OWN(cg_drop_json)
        struct cg_json *j =
            cg_json_parse((struct cg_slice){body, (size_t)(b.p + b.n - body)}, NULL, NULL);
        const char *detail = cg_json_str(j, "detail");
        return cg_fail(e, CG_INVALID, "%s", detail ? detail : "the server refused the connection");
    }
    size_t head = (size_t)(end - b.p) + 4;
    cg_buf_init(&ws->early, HEAD_MAX);
    cg_buf_add(&ws->early, b.p + head, b.n - head);
    return true;
}

static bool handshake(struct cli_ws *ws, const char *host, const char *prefix, const char *path,
                      const char *query, const char *ticket, const char *protocol, struct cg_err *e)
{
    unsigned char random[16];
    unsigned char key[32];
    cg_rand_bytes(random, sizeof random);
    EVP_EncodeBlock(key, random, sizeof random);
    CG_OWN(cg_drop_free)
    char *head = cg_format(
        "GET %s%s?token=%s%s%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: %s\r\nUser-Agent: caged-cli/" CG_VERSION "\r\n\r\n",
        prefix, path, ticket, query[0] ? "&" : "", query, host, (const char *)key, protocol);
    return (send_all(ws, head, strlen(head)) ||
            cg_fail(e, CG_CLOSED, "the server closed the connection")) &&
           read_answer(ws, e);
}

struct cli_ws *cli_ws_connect(struct cli *c, const char *path, const char *query,
                              const char *protocol, const struct cli_ws_ops *ops, void *ctx,
                              struct cg_err *e)
{
    char host[300];
    char prefix[300];
    CG_OWN(cg_drop_json)
    struct cg_json *ticket = cli_json(c, "POST", "/v1/auth/socket-ticket", (struct cg_slice){0}, e);
    const char *text = cg_json_str(ticket, "ticket");
    if (!text || !split_url(c->url, host, prefix, e))
        return NULL;
    struct cli_ws *ws = cg_alloc(sizeof *ws);
    ws->ops = *ops;
    ws->ctx = ctx;
    if (!dial(ws, c, e) || !handshake(ws, host, prefix, path, query, text, protocol, e)) {
        cli_ws_destroy(ws);
        return NULL;
    }
    static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                           .send_callback = on_send,
                                                           .genmask_callback = on_mask,
                                                           .on_msg_recv_callback = on_message};
    CG_ASSERT(wslay_event_context_client_init(&ws->wslay, &callbacks, ws) == 0);
    wslay_event_config_set_max_recv_msg_length(ws->wslay, MESSAGE_MAX);
    return ws;
}

void cli_ws_send(struct cli_ws *ws, bool text, struct cg_slice bytes)
{
    struct wslay_event_msg m = {.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
                                .msg = (const uint8_t *)bytes.p,
                                .msg_length = bytes.n};
    if (wslay_event_queue_msg(ws->wslay, &m) == 0)
        (void)!wslay_event_send(ws->wslay);
}

void cli_ws_close(struct cli_ws *ws)
{
    wslay_event_queue_close(ws->wslay, 1000, NULL, 0);
    (void)!wslay_event_send(ws->wslay);
}

int cli_ws_fd(const struct cli_ws *ws)
{
    return ws->fd;
}

short cli_ws_events(const struct cli_ws *ws)
{
    short events = POLLIN;
    if (wslay_event_want_write(ws->wslay))
        events |= POLLOUT;
    return events;
}

size_t cli_ws_queued(const struct cli_ws *ws)
{
    return wslay_event_get_queued_msg_length(ws->wslay);
}

bool cli_ws_serve(struct cli_ws *ws, short revents)
{
    if (revents & (POLLIN | POLLHUP | POLLERR)) {
        if (wslay_event_recv(ws->wslay) != 0)
            return false;
    }
    if (wslay_event_want_write(ws->wslay) && wslay_event_send(ws->wslay) != 0)
        return false;
    return wslay_event_want_read(ws->wslay) || wslay_event_want_write(ws->wslay);
}

void cli_ws_destroy(struct cli_ws *ws)
{
    if (!ws)
        return;
    if (ws->wslay)
        wslay_event_context_free(ws->wslay);
    curl_easy_cleanup(ws->curl);
    cg_buf_finish(&ws->early);
    free(ws);
}
