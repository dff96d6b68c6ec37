/* uv_poll with direct read(2) and write(2): descriptors may be sockets, pipes or PTYs, and no
 * request objects are needed. A wake-up reads at most READS buffers, so that one busy stream leaves
 * room for the others. Output that is kicked is written when the loop's turn is over, all of it at
 * once, and only what the descriptor does not take waits in the poll set: most of it costs one
 * system call. `destroy` inside a callback only marks; memory goes in uv's close callbacks. */
#include "loop/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"

enum { READ_SIZE = 65536, READS = 4, WRITES = 8 };

struct cg_stream {
    uv_poll_t poll;
    uv_idle_t turn; /* runs when there is output that may be taken */
    unsigned handles;
    int fd;
    int events; /* that are waited for */
    struct cg_stream_ops ops;
    void *ctx;
    bool paused;    /* reading is stopped by the owner */
    bool kicked;    /* the owner says that there is output */
    bool blocked;   /* the descriptor has taken all that it could */
    bool finishing; /* shut down sending once output is empty */
    bool shut;
    bool ended;     /* on_end was called */
    bool destroyed; /* no callback any more */
};

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_turn(uv_idle_t *turn);

static void update(struct cg_stream *s)
{
    if (s->destroyed)
        return;
    int events = 0;
    if (!s->paused && !s->ended)
        events |= UV_READABLE;
    if (s->kicked && s->blocked && !s->ended)
        events |= UV_WRITABLE;
    if (s->kicked && !s->blocked && !s->ended)
        uv_idle_start(&s->turn, on_turn);
    else
        uv_idle_stop(&s->turn);
    if (events == s->events) /* libuv would take the descriptor out and put it in again */
        return;
    s->events = events;
    if (events)
        uv_poll_start(&s->poll, events, on_poll);
    else
        uv_poll_stop(&s->poll);
}

static void end(struct cg_stream *s, const struct cg_err *why)
{
    if (s->ended || s->destroyed)
        return;
    s->ended = true;
    update(s);
    if (s->ops.on_end)
        s->ops.on_end(s->ctx, why);
}

static bool fatal(struct cg_stream *s, const char *what)
{
    if (errno == EAGAIN || errno == EINTR)
        return false;
    struct cg_err e = CG_ERR_INIT;
    cg_fail_sys(&e, "%s", what);
    if (e.sys == EIO) /* a PTY whose other side is gone */
        e.code = CG_CLOSED;
    end(s, &e);
    return true;
}

static void do_reads(struct cg_stream *s)
{
    static char buf[READ_SIZE]; /* one loop thread a process; consumed before on_read returns */
    for (int i = 0; i < READS && !s->paused && !s->ended && !s->destroyed; i++) {
        ssize_t n = read(s->fd, buf, sizeof buf);
        if (n < 0) {
            fatal(s, "read");
            return;
        }
        struct cg_err e = CG_ERR_INIT;
        if (n == 0) {
            cg_fail(&e, CG_CLOSED, "the other side closed the connection");
            end(s, &e);
            return;
        }
        if (!s->ops.on_read(s->ctx, (struct cg_slice){buf, (size_t)n}, &e)) {
            end(s, &e);
            return;
        }
        if (n < READ_SIZE)
            return;
    }
}

static void do_writes(struct cg_stream *s)
{
    if (!s->ops.output) /* only reads: a kick of it is none */
        s->kicked = false;
    for (int i = 0; i < WRITES && s->ops.output && !s->ended && !s->destroyed; i++) {
        struct cg_slice out = s->ops.output(s->ctx);
        if (s->destroyed)
            return;
        if (out.n == 0) {
            s->kicked = false;
            if (s->finishing && !s->shut) {
                s->shut = true;
                shutdown(s->fd, SHUT_WR);
            }
            return;
        }
        ssize_t n = send(s->fd, out.p, out.n, MSG_NOSIGNAL);
        if (n < 0 && errno == ENOTSOCK)
            n = write(s->fd, out.p, out.n);
        if (n < 0) {
            s->blocked = !fatal(s, "write");
            return;
        }
        s->ops.wrote(s->ctx, (size_t)n);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct cg_stream *s = poll->data;
    if (status < 0) {
        /* EPOLLERR: let the next call on the descriptor name the error */
        events = UV_READABLE | UV_WRITABLE;
        s->events = 0; /* libuv no longer watches it */
    }
    if (events & UV_WRITABLE) {
        s->blocked = false;
        do_writes(s);
    }
    if ((events & UV_READABLE) && !s->paused && !s->ended && !s->destroyed)
        do_reads(s);
    update(s);
}

static void on_turn(uv_idle_t *turn)
{
    struct cg_stream *s = turn->data;
    do_writes(s);
    update(s);
}

struct cg_stream *cg_stream_create(uv_loop_t *loop, int fd, const struct cg_stream_ops *ops,
                                   void *ctx, struct cg_err *e)
{
    if (!cg_fd_set_nonblock(fd, true, e))
        return NULL;
    struct cg_stream *s = cg_alloc(sizeof *s);
    s->fd = fd;
    s->ops = *ops;
    s->ctx = ctx;
    int rc = uv_poll_init(loop, &s->poll, fd);
    if (rc != 0) {
        free(s);
        cg_fail(e, CG_IO, "watch descriptor %d: %s", fd, uv_strerror(rc));
        return NULL;
    }
    uv_idle_init(loop, &s->turn);
    s->handles = 2;
    s->poll.data = s->turn.data = s;
    update(s);
    return s;
}

void cg_stream_kick(struct cg_stream *s)
{
    if (s->kicked)
        return;
    s->kicked = true;
    update(s);
}

void cg_stream_read_pause(struct cg_stream *s)
{
    s->paused = true;
    update(s);
}

void cg_stream_read_resume(struct cg_stream *s)
{
    s->paused = false;
    update(s);
}

void cg_stream_finish_writing(struct cg_stream *s)
{
    s->finishing = true;
    s->kicked = true;
    update(s);
}

static void on_closed(uv_handle_t *handle)
{
    struct cg_stream *s = handle->data;
    if (--s->handles == 0)
        free(s);
}

void cg_stream_destroy(struct cg_stream *s)
{
    if (!s || s->destroyed)
        return;
    s->destroyed = true;
    uv_poll_stop(&s->poll);
    close(s->fd);
    s->fd = -1;
    uv_close((uv_handle_t *)&s->poll, on_closed);
    uv_close((uv_handle_t *)&s->turn, on_closed);
}

int cg_stream_fd(const struct cg_stream *s)
{
    return s->fd;
}
