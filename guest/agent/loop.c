#include "guest/agent/loop.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/clock.h"

enum { EVENTS = 64 };

static int epoll_fd = -1;
static struct timer *timers;
static struct epoll_event pending[EVENTS];
static int pending_count;

void loop_init(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    CG_ASSERT(epoll_fd >= 0);
}

static void control(int op, struct watch *w)
{
    struct epoll_event ev = {.events = w->events, .data.ptr = w};
    /* regular files cannot be watched and never need to; everything else must work */
    CG_ASSERT(epoll_ctl(epoll_fd, op, w->fd, &ev) == 0 || errno == EPERM || errno == ENOENT);
}

void watch_start(struct watch *w, int fd, uint32_t events, void (*on)(struct watch *, uint32_t))
{
    *w = (struct watch){.fd = fd, .events = events, .on = on};
    control(EPOLL_CTL_ADD, w);
}

void watch_set(struct watch *w, uint32_t events)
{
    if (w->fd < 0 || w->events == events)
        return;
    w->events = events;
    control(EPOLL_CTL_MOD, w);
}

void watch_stop(struct watch *w)
{
    if (w->fd < 0)
        return;
    control(EPOLL_CTL_DEL, w);
    w->fd = -1;
    for (int i = 0; i < pending_count; i++) {
        if (pending[i].data.ptr == w)
            pending[i].data.ptr = NULL;
    }
}

void timer_start(struct timer *t, int64_t after_ms, void (*on)(struct timer *))
{
    timer_stop(t);
    t->due_ns = cg_mono_ns() + after_ms * 1000000;
    t->on = on;
    t->next = timers;
    timers = t;
}

void timer_stop(struct timer *t)
{
    for (struct timer **at = &timers; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->due_ns = 0;
    t->next = NULL;
}

static struct timer *earliest(void)
{
    struct timer *first = NULL;
    for (struct timer *t = timers; t; t = t->next) {
        if (!first || t->due_ns < first->due_ns)
            first = t;
    }
    return first;
}

static void run_timers(void)
{
    int64_t now = cg_mono_ns();
    struct timer *t;
    while ((t = earliest()) && t->due_ns <= now) {
        timer_stop(t);
        t->on(t);
    }
}

void loop_once(void)
{
    struct timer *t = earliest();
    int wait_ms = -1;
    if (t) {
        int64_t left = (t->due_ns - cg_mono_ns() + 999999) / 1000000;
        wait_ms = left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
    }
    int n = epoll_wait(epoll_fd, pending, EVENTS, wait_ms);
    CG_ASSERT(n >= 0 || errno == EINTR);
    pending_count = n > 0 ? n : 0;
    for (int i = 0; i < pending_count; i++) {
        struct watch *w = pending[i].data.ptr;
        if (w && w->fd >= 0)
            w->on(w, pending[i].events);
    }
    pending_count = 0;
    run_timers();
}
