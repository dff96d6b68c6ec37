/* The agent's event loop: epoll watches and timers, one thread. A watch or timer is memory of its
 * owner's; removing it inside any callback is safe. */
#ifndef CG_AGENT_LOOP_H
#define CG_AGENT_LOOP_H

#include "base/defs.h"

struct watch {
    int fd; /* -1: not watched */
    uint32_t events;
    void (*on)(struct watch *w, uint32_t events);
};

struct timer {
    int64_t due_ns; /* 0: not armed */
    void (*on)(struct timer *t);
    struct timer *next;
};

void loop_init(void);

/* Starts watching (events: EPOLLIN, EPOLLOUT or 0 to rest). The descriptor stays the owner's. */
void watch_start(struct watch *w, int fd, uint32_t events, void (*on)(struct watch *, uint32_t));
void watch_set(struct watch *w, uint32_t events);
void watch_stop(struct watch *w);

void timer_start(struct timer *t, int64_t after_ms, void (*on)(struct timer *));
void timer_stop(struct timer *t);

/* Waits for and runs what is due; returns after one round. */
void loop_once(void);

#endif
