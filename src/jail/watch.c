/* The keeper's loop after the start: descriptors of both processes, their output, the warden's
 * questions, and SIGTERM, which is how the broker ends a sandbox. It holds no secret, parses one
 * byte, and copies output into bounded files. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "jail/keeper.h"
#include "jail/sink.h"

enum {
    LAST_WORDS_MS = 5000, /* what a warden gets to record the end of its VMM */
    LAST_THREADS_MS = 50,
};

enum {
    WATCH_VMM,
    WATCH_WARDEN,
    WATCH_SIGNAL,
    WATCH_ASK,
    WATCH_CONSOLE,
    WATCH_LOG1,
    WATCH_LOG2,
    NWATCH
};

struct watch {
    struct cg_keeper *k;
    struct pollfd p[NWATCH]; /* fd -1: nothing to wait for any more */
    struct cg_sink console;
    struct cg_sink log;
    struct cg_jail_end end;
    int64_t kill_at_ns; /* the warden's deadline; 0: none */
};

static void note(struct watch *w, enum cg_jail_cause cause, int status)
{
    if (w->end.cause == 0) {
        w->end.cause = cause;
        w->end.status = status;
    }
}

/* True when there may be more. */
static bool copy(struct watch *w, int which)
{
    static char bytes[65536];
    struct pollfd *p = &w->p[which];
    ssize_t n = p->fd < 0 ? 0 : read(p->fd, bytes, sizeof bytes);
    if (n > 0) {
        cg_sink_write(which == WATCH_CONSOLE ? &w->console : &w->log, bytes, (size_t)n);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        p->fd = -1;
    return false;
}

static void answer(struct watch *w)
{
    char ask = 0;
    int channel = w->p[WATCH_ASK].fd;
    ssize_t n = recv(channel, &ask, 1, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        w->p[WATCH_ASK].fd = -1;
    if (n != 1 || ask != CG_KEEPER_COUNTERS)
        return;
    struct cg_keeper_counters counters;
    if (cg_netns_counters(w->k->p.net[CG_NETNS_NETLINK], &counters, NULL))
        (void)!send(channel, &counters, sizeof counters, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void reap_vmm(struct watch *w)
{
    struct cg_box *box = &w->k->vmm;
    int status = 0;
    if (waitpid(box->pid, &status, WNOHANG) != box->pid)
        return;
    box->pid = -1;
    w->p[WATCH_VMM].fd = -1;
    note(w, CG_JAIL_VMM_ENDED, status);
    w->kill_at_ns = cg_mono_ns() + (int64_t)LAST_WORDS_MS * 1000000;
}

/* A warden ends by itself when its VMM has, and may do so while the last threads of that are still
 * on their way out: who is all but gone ended first. */
static void reap_warden(struct watch *w)
{
    struct cg_box *box = &w->k->warden;
    struct pollfd vmm = {.fd = w->k->vmm.pidfd, .events = POLLIN};
    int status = 0;
    if (waitpid(box->pid, &status, WNOHANG) != box->pid)
        return;
    box->pid = -1;
    w->p[WATCH_WARDEN].fd = -1;
    if (w->k->vmm.pid > 0 && poll(&vmm, 1, LAST_THREADS_MS) == 1)
        reap_vmm(w);
    note(w, CG_JAIL_WARDEN_ENDED, status);
    if (w->k->vmm.pid > 0)
        kill(w->k->vmm.pid, SIGKILL);
}

static void on_signal(struct watch *w)
{
    struct signalfd_siginfo info;
    if (read(w->p[WATCH_SIGNAL].fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    note(w, CG_JAIL_KILLED, 0);
    if (w->k->vmm.pid > 0)
        kill(w->k->vmm.pid, SIGKILL);
    if (w->k->warden.pid > 0)
        kill(w->k->warden.pid, SIGKILL);
}

static int wait_ms(const struct watch *w)
{
    if (w->kill_at_ns == 0)
        return -1;
    int64_t left = (w->kill_at_ns - cg_mono_ns()) / 1000000 + 1;
    return left > 0 ? (int)left : 0;
}

static void look(struct watch *w)
{
    if (poll(w->p, NWATCH, wait_ms(w)) < 0)
        return;
    if (w->kill_at_ns != 0 && cg_mono_ns() >= w->kill_at_ns && w->k->warden.pid > 0) {
        w->kill_at_ns = 0;
        kill(w->k->warden.pid, SIGKILL);
    }
    if (w->p[WATCH_SIGNAL].revents)
        on_signal(w);
    for (int i = WATCH_CONSOLE; i < NWATCH; i++) {
        if (w->p[i].revents)
            copy(w, i);
    }
    if (w->p[WATCH_ASK].revents)
        answer(w);
    if (w->p[WATCH_VMM].revents)
        reap_vmm(w);
    if (w->p[WATCH_WARDEN].revents)
        reap_warden(w);
}

struct cg_jail_end cg_keeper_watch(struct cg_keeper *k)
{
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    struct watch w = {.k = k, .end = {.magic = CG_JAIL_MAGIC}};
    const int fds[NWATCH] = {k->vmm.pidfd,      k->warden.pidfd, signalfd(-1, &term, SFD_CLOEXEC),
                             k->p.keeper[1],    k->p.console[1], k->p.vmm_log[0],
                             k->p.warden_log[0]};
    for (int i = 0; i < NWATCH; i++) {
        w.p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        if (i >= WATCH_CONSOLE)
            (void)!cg_fd_set_nonblock(fds[i], true, NULL);
    }
    cg_sink_init(&w.console, k->fds[CG_JAIL_FD_CONSOLE]);
    cg_sink_init(&w.log, k->fds[CG_JAIL_FD_LOG]);
    while (k->vmm.pid > 0 || k->warden.pid > 0)
        look(&w);
    for (int i = WATCH_CONSOLE; i < NWATCH; i++) {
        while (copy(&w, i))
            continue;
    }
    cg_sink_finish(&w.console);
    cg_sink_finish(&w.log);
    close(fds[WATCH_SIGNAL]);
    return w.end;
}
