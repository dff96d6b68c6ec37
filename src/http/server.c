/* Listening, the list of connections, and one timer that ends those whose deadline has passed. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "http/inner.h"

enum { TICK_MS = 500, ACCEPTS = 64 };

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct cg_http_server *s = poll->data;
    (void)events;
    for (int i = 0; status == 0 && i < ACCEPTS; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) /* until the next tick, instead of spinning */
                uv_poll_stop(&s->poll);
            return;
        }
        if (s->nconns >= CG_HTTP_CONNS_MAX)
            close(fd);
        else
            conn_accept(s, fd);
    }
}

static void bury(struct cg_http_server *s)
{
    while (s->graves) {
        struct cg_http_conn *c = s->graves;
        s->graves = c->next;
        free(c);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct cg_http_server *s = timer->data;
    bury(s);
    if (s->fd >= 0 && !s->quiet && !uv_is_active((uv_handle_t *)&s->poll))
        uv_poll_start(&s->poll, UV_READABLE, on_listen);
    int64_t now = cg_mono_ns();
    for (struct cg_http_conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        if (c->deadline_ns && now > c->deadline_ns)
            conn_destroy(c);
        else if (s->quiet && c->state == CONN_HEAD && c->in.n == 0 && c->out_at == c->out.n)
            conn_destroy(c);
    }
}

struct cg_http_server *cg_http_server_create(uv_loop_t *loop, int fd, cg_http_handler *handler,
                                             void *ctx, struct cg_err *e)
{
    if (fd >= 0 && !cg_fd_set_nonblock(fd, true, e))
        return NULL;
    struct cg_http_server *s = cg_alloc(sizeof *s);
    *s = (struct cg_http_server){.loop = loop, .fd = fd, .handler = handler, .ctx = ctx};
    int rc = fd >= 0 ? uv_poll_init(loop, &s->poll, fd) : 0;
    if (rc != 0) {
        free(s);
        cg_fail(e, CG_IO, "watch the listening socket: %s", uv_strerror(rc));
        return NULL;
    }
    s->poll.data = s->tick.data = s;
    if (fd >= 0)
        uv_poll_start(&s->poll, UV_READABLE, on_listen);
    uv_timer_init(loop, &s->tick);
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    return s;
}

void cg_http_server_adopt(struct cg_http_server *s, int fd)
{
    if (s->quiet || s->nconns >= CG_HTTP_CONNS_MAX || !cg_fd_set_nonblock(fd, true, NULL))
        close(fd);
    else
        conn_accept(s, fd);
}

void cg_http_server_quiesce(struct cg_http_server *s)
{
    s->quiet = true;
    if (s->fd >= 0)
        uv_poll_stop(&s->poll);
}

unsigned cg_http_server_conns(const struct cg_http_server *s)
{
    return s->nconns;
}

static void on_closed(uv_handle_t *h)
{
    struct cg_http_server *s = h->data;
    if (--s->closing_handles > 0)
        return;
    bury(s);
    cg_drop_fd(&s->fd);
    free(s);
}

void cg_http_server_destroy(struct cg_http_server *s)
{
    if (!s)
        return;
    while (s->conns)
        conn_destroy(s->conns);
    s->closing_handles = s->fd >= 0 ? 2 : 1;
    if (s->fd >= 0)
        uv_close((uv_handle_t *)&s->poll, on_closed);
    uv_close((uv_handle_t *)&s->tick, on_closed);
}
