/* Carries one local connection over a WebSocket; docs/ports.md has the messages. Both directions
 * end on their own; a side that is not read holds the other back. */
#include "cli/forward.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/ws.h"

enum { CHUNK = 32768, QUEUE_MAX = 1 << 20, HELD = 1 << 20, OUT_MAX = 64 << 20 };

struct carrying {
    struct cli_ws *ws;
    int fd;
    bool connected;
    bool local_ended;  /* nothing more comes from fd */
    bool far_ended;    /* nothing more comes for fd */
    bool shut;         /* and fd was told */
    struct cg_buf out; /* for fd */
    struct cg_err err;
};

static void on_text(struct carrying *k, struct cg_slice bytes)
{
    CG_OWN(cg_drop_json) struct cg_json *m = cg_json_parse(bytes, NULL, NULL);
    const char *type = cg_json_str(m, "type");
    const char *message = cg_json_str(m, "message");
    if (cg_streq(type, "connected"))
        k->connected = true;
    else if (cg_streq(type, "eof"))
        k->far_ended = true;
    else if (cg_streq(type, "error"))
        cg_fail(&k->err, CG_UNAVAILABLE, "%s", message ? message : "it could not be connected");
}

static void on_message(void *ctx, bool text, struct cg_slice bytes)
{
    struct carrying *k = ctx;
    if (text)
        on_text(k, bytes);
    else if (!cg_buf_add(&k->out, bytes.p, bytes.n))
        cg_fail(&k->err, CG_TOO_LARGE, "the local side does not read");
}

static void write_local(struct carrying *k)
{
    while (k->out.n > 0) {
        ssize_t n = send(k->fd, k->out.p, k->out.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            cg_fail_sys(&k->err, "the local side");
        if (n < 0)
            return;
        cg_buf_consume(&k->out, (size_t)n);
    }
    if (k->far_ended && !k->shut) {
        k->shut = true;
        shutdown(k->fd, SHUT_WR);
    }
}

static void read_local(struct carrying *k)
{
    char bytes[CHUNK];
    ssize_t n = recv(k->fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0) {
        cg_fail_sys(&k->err, "the local side");
        return;
    }
    if (n > 0) {
        cli_ws_send(k->ws, false, (struct cg_slice){bytes, (size_t)n});
        return;
    }
    k->local_ended = true;
    cli_ws_send(k->ws, true, cg_slice_of("{\"type\":\"eof\"}"));
}

/* What has come for fd goes out even when the WebSocket has ended. */
static void flush(struct carrying *k)
{
    k->far_ended = true;
    while (k->err.code == CG_OK && !k->shut) {
        struct pollfd p = {k->fd, POLLOUT, 0};
        if (poll(&p, 1, -1) > 0)
            write_local(k);
    }
}

static void pump(struct carrying *k)
{
    bool alive = cli_ws_serve(k->ws, POLLIN); /* what came with the handshake shows in no poll */
    bool held = false;
    while (alive && k->err.code == CG_OK && !(k->local_ended && k->shut)) {
        bool reads = !k->local_ended && cli_ws_queued(k->ws) < QUEUE_MAX;
        int wanted = (reads ? POLLIN : 0) | (k->out.n > 0 ? POLLOUT : 0);
        int far = cli_ws_events(k->ws) & (held ? ~POLLIN : ~0);
        struct pollfd fds[2] = {{far ? cli_ws_fd(k->ws) : -1, (short)far, 0},
                                {wanted ? k->fd : -1, (short)wanted, 0}};
        if (poll(fds, 2, -1) < 0)
            continue;
        if (reads && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
            read_local(k);
        bool was_held = held;
        write_local(k);
        held = k->out.n > HELD;
        int events = fds[0].revents;
        if (was_held && !held)
            events |= POLLIN; /* a TLS library may hold bytes that no poll shows */
        alive = cli_ws_serve(k->ws, (short)(held ? events & ~POLLIN : events));
        write_local(k);
        held = k->out.n > HELD;
    }
    if (!alive && !k->connected && k->err.code == CG_OK)
        cg_fail(&k->err, CG_CLOSED, "the server closed the connection");
    if (!alive && k->err.code == CG_OK)
        flush(k);
}

bool cli_forward_carry(struct cli *c, const char *id, int port, int fd, struct cg_err *e)
{
    static const struct cli_ws_ops ops = {on_message};
    struct carrying k = {.fd = fd};
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/ports/%d/connect", escaped, port);
    cg_buf_init(&k.out, OUT_MAX);
    k.err = (struct cg_err)CG_ERR_INIT;
    k.ws = cli_ws_connect(c, path, "", "tcp", &ops, &k, &k.err);
    if (k.ws) {
        pump(&k);
        cli_ws_close(k.ws);
    }
    cli_ws_destroy(k.ws);
    cg_buf_finish(&k.out);
    if (k.err.code == CG_OK)
        return true;
    const struct linger reset = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    *e = k.err;
    return false;
}
