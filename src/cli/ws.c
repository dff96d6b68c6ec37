#include "cli/ws.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include "base/clock.h"
#include "base/fs.h"

enum { HEAD_MAX = 16384, MESSAGE_MAX = 4 << 20 };

struct cli_ws {
    int fd;
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
    ssize_t got = recv(ws->fd, buf, n, 0);
    if (got > 0)
        return got;
    wslay_event_set_error(w, got < 0 && (errno == EAGAIN || errno == EINTR)
                                 ? WSLAY_ERR_WOULDBLOCK
                                 : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr w, const uint8_t *p, size_t n, int flags, void *user)
{
    struct cli_ws *ws = user;
    (void)flags;
    ssize_t put = send(ws->fd, p, n, MSG_NOSIGNAL);
    if (put >= 0)
        return put;
    wslay_event_set_error(w, errno == EAGAIN || errno == EINTR ? WSLAY_ERR_WOULDBLOCK
                                                               : WSLAY_ERR_CALLBACK_FAILURE);
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

/* "http://host:port" into its parts. */
static bool split_url(const char *url, char host[256], char port[8], struct cg_err *e)
{
    if (!cg_has_prefix(url, "http://"))
        return cg_fail(e, CG_UNSUPPORTED,
                       "%s: terminals work over http:// only in this version; put an SSH "
                       "tunnel in front of a remote server",
                       url);
    const char *p = url + 7;
    size_t n = strcspn(p, "/");
    char text[300];
    cg_snprintf(text, sizeof text, "%.*s", (int)CG_MIN(n, (size_t)280), p);
    char *colon = strrchr(text, ':');
    bool has_port = colon && !strchr(colon, ']');
    cg_strlcpy(port, 8, has_port ? colon + 1 : "80");
    if (has_port)
        *colon = '\0';
    const char *name = text[0] == '[' ? text + 1 : text;
    cg_strlcpy(host, 256, name);
    host[strcspn(host, "]")] = '\0';
    return true;
}

static int dial(const char *host, const char *port, struct cg_err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        cg_fail(e, CG_UNAVAILABLE, "%s: %s", host, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            cg_fail_sys(e, "connect to %s:%s", host, port);
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Reads the answer's head; bytes behind it stay in ws->early. */
static bool read_answer(struct cli_ws *ws, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, HEAD_MAX);
    const char *end = NULL;
    while (!end) {
        char *room = cg_buf_room(&b, 2048);
        ssize_t n = room ? recv(ws->fd, room, 2048, 0) : -1;
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

static bool handshake(struct cli_ws *ws, const char *host, const char *port, const char *path,
                      const char *query, const char *ticket, const char *protocol, struct cg_err *e)
{
    unsigned char random[16];
    unsigned char key[32];
    cg_rand_bytes(random, sizeof random);
    EVP_EncodeBlock(key, random, sizeof random);
    CG_OWN(cg_drop_free)
    char *head = cg_format(
        "GET %s?token=%s%s%s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: %s\r\nUser-Agent: caged-cli/" CG_VERSION "\r\n\r\n",
        path, ticket, query[0] ? "&" : "", query, host, port, (const char *)key, protocol);
    return cg_fd_write_full(ws->fd, head, strlen(head), e) && read_answer(ws, e);
}

struct cli_ws *cli_ws_connect(struct cli *c, const char *path, const char *query,
                              const char *protocol, const struct cli_ws_ops *ops, void *ctx,
                              struct cg_err *e)
{
    char host[256];
    char port[8];
    CG_OWN(cg_drop_json)
    struct cg_json *ticket = cli_json(c, "POST", "/v1/auth/socket-ticket", (struct cg_slice){0}, e);
    const char *text = cg_json_str(ticket, "ticket");
    if (!text || !split_url(c->url, host, port, e))
        return NULL;
    struct cli_ws *ws = cg_alloc(sizeof *ws);
    ws->ops = *ops;
    ws->ctx = ctx;
    ws->fd = dial(host, port, e);
    if (ws->fd < 0 || !handshake(ws, host, port, path, query, text, protocol, e) ||
        !cg_fd_set_nonblock(ws->fd, true, e)) {
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
    cg_drop_fd(&ws->fd);
    cg_buf_finish(&ws->early);
    free(ws);
}
