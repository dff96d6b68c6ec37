/* dial: a TCP connection to a port of the guest's own loopback, for previews and port forwarding.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/agent.h"

enum { CHUNK = 32 * 1024 };

struct dial {
    struct task task;
    struct watch watch;
    int fd;
    uint16_t port;
    bool six; /* trying ::1 */
    bool connected;
    bool got_eof;    /* from the socket */
    bool input_ends; /* shut down once the queue is written */
    bool shut;
    struct cg_buf queue;
};

static void on_event(struct watch *w, uint32_t events);

static void fail_sys(struct dial *d)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail_sys(&e, "connect to port %u", d->port);
    task_fail(&d->task, &e);
}

static bool try_connect(struct dial *d)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(d->port)};
    struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = htons(d->port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    b.sin6_addr = in6addr_loopback;
    d->fd = socket(d->six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const struct sockaddr *to = d->six ? (struct sockaddr *)&b : (struct sockaddr *)&a;
    if (d->fd < 0 ||
        (connect(d->fd, to, d->six ? sizeof b : sizeof a) != 0 && errno != EINPROGRESS))
        return false;
    watch_start(&d->watch, d->fd, EPOLLOUT, on_event);
    return true;
}

/* True: it is connected. Else it tries on, or the task is gone. */
static bool connected(struct dial *d)
{
    int sys = 0;
    socklen_t n = sizeof sys;
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &sys, &n) == 0 && sys == 0) {
        d->connected = true;
        task_accept(&d->task, cg_slice_of("{}"));
        return true;
    }
    watch_stop(&d->watch);
    cg_drop_fd(&d->fd);
    errno = sys;
    if (!d->six) {
        d->six = true;
        if (try_connect(d))
            return false;
    }
    errno = sys;
    fail_sys(d);
    return false;
}

static void flush(struct dial *d)
{
    while (d->queue.n > 0) {
        ssize_t n = send(d->fd, d->queue.p, d->queue.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            cg_link_grant(d->task.stream, d->queue.n);
            cg_buf_clear(&d->queue);
            break;
        }
        cg_buf_consume(&d->queue, (size_t)n);
        cg_link_grant(d->task.stream, (size_t)n);
    }
    if (d->input_ends && !d->shut) {
        d->shut = true;
        shutdown(d->fd, SHUT_WR);
    }
}

/* False when the task is gone. */
static bool receive(struct dial *d)
{
    static char bytes[CHUNK];
    size_t want = CG_MIN(sizeof bytes, cg_link_room(d->task.stream));
    if (want == 0) {
        cg_link_want_room(d->task.stream);
        return true;
    }
    ssize_t n = recv(d->fd, bytes, want, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n > 0) {
        size_t sent = cg_link_send(d->task.stream, CG_LINK_STDOUT, bytes, (size_t)n);
        CG_ASSERT(sent == (size_t)n);
        return true;
    }
    d->got_eof = true;
    if (n == 0 && !d->shut) { /* half closed: the other direction may go on */
        cg_link_eof(d->task.stream, CG_LINK_STDOUT);
        return true;
    }
    task_close_empty(&d->task);
    return false;
}

static void choose_events(struct dial *d)
{
    uint32_t events = d->queue.n > 0 ? EPOLLOUT : 0;
    if (!d->got_eof && cg_link_room(d->task.stream) > 0)
        events |= EPOLLIN;
    else if (!d->got_eof)
        cg_link_want_room(d->task.stream); /* the last bytes took exactly what there was */
    if (events == 0)
        watch_stop(&d->watch); /* a hang-up is reported even to a watch that asks for nothing */
    else if (d->watch.fd < 0)
        watch_start(&d->watch, d->fd, events, on_event);
    else
        watch_set(&d->watch, events);
    session_kick();
}

static void on_event(struct watch *w, uint32_t events)
{
    struct dial *d = CG_CONTAINER(w, struct dial, watch);
    if (!d->connected && !connected(d))
        return;
    flush(d);
    if (d->got_eof && d->shut) {
        task_close_empty(&d->task);
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !d->got_eof && !receive(d))
        return;
    choose_events(d);
}

static void open_dial(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"port", NULL};
    struct dial *d = (struct dial *)task;
    d->fd = d->watch.fd = -1;
    cg_buf_init(&d->queue, CG_LINK_WINDOW);
    struct cg_err e = CG_ERR_INIT;
    int64_t port = cg_json_int(request, "port", 0);
    if (!request_check(request, members, &e) || port < 1 || port > 65535) {
        if (e.code == CG_OK)
            cg_fail(&e, CG_INVALID, "port must be 1 to 65535");
        task_fail(task, &e);
        return;
    }
    d->port = (uint16_t)port;
    if (!try_connect(d))
        fail_sys(d);
}

static void dial_data(struct task *task, unsigned channel, struct cg_slice bytes)
{
    struct dial *d = (struct dial *)task;
    (void)channel;
    if (!cg_buf_add(&d->queue, bytes.p, bytes.n))
        cg_link_grant(task->stream, bytes.n);
    if (d->connected) {
        flush(d);
        choose_events(d);
    }
}

static void dial_eof(struct task *task, unsigned channel)
{
    struct dial *d = (struct dial *)task;
    if (channel != CG_LINK_STDIN)
        return;
    d->input_ends = true;
    if (!d->connected)
        return;
    flush(d);
    if (d->got_eof && d->shut)
        task_close_empty(task);
    else
        choose_events(d);
}

static void dial_writable(struct task *task)
{
    struct dial *d = (struct dial *)task;
    if (d->connected)
        choose_events(d);
}

static void dial_finish(struct task *task)
{
    struct dial *d = (struct dial *)task;
    watch_stop(&d->watch);
    cg_drop_fd(&d->fd);
    cg_buf_finish(&d->queue);
}

const struct task_ops task_dial = {.kind = "dial",
                                   .open = open_dial,
                                   .size = sizeof(struct dial),
                                   .data = dial_data,
                                   .eof = dial_eof,
                                   .writable = dial_writable,
                                   .finish = dial_finish};
