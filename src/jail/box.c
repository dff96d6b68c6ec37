/* Namespaces by one clone(2), so that there is no moment in which only some of them hold. The user
 * namespace knows one id, CG_INNER, which is not its root: exec gives no capabilities then.
 * user_namespaces(7), capabilities(7), prctl(2).
 *
 * PR_SET_PDEATHSIG comes last before the hand-shake: changing ids clears it. The parent's go-ahead
 * after it closes the race with a parent that died in between. */
#include "jail/box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "jail/caps.h"

enum { CG_INNER = 1000, SETUP_SECONDS = 30 };

enum { ADMITTED = 1, READY, GO, FAILED };

struct message {
    int kind; /* below */
    struct cg_err err;
};

/* exec keeps ignored and blocked signals as they are: a program must not inherit the keeper's. */
static void reset_signals(void)
{
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

bool cg_box_userns_works(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0;
}

bool cg_box_fork(bool net, const struct cg_box_ids *ids, struct cg_box *out, struct cg_err *e)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return cg_fail_sys(e, "socketpair");
    const struct timeval limit = {.tv_sec = SETUP_SECONDS};
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
    if (!ids->no_userns)
        flags |= CLONE_NEWUSER;
    if (net)
        flags |= CLONE_NEWNET;
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    if (pid < 0) {
        cg_fail_sys(e, "make a user namespace (kernel.unprivileged_userns_clone, "
                       "user.max_user_namespaces, AppArmor?)");
        close(ends[0]);
        close(ends[1]);
        return false;
    }
    if (pid == 0)
        reset_signals();
    *out = (struct cg_box){.pid = pid, .pidfd = -1, .channel = ends[pid ? 0 : 1], .ids = *ids};
    close(ends[pid ? 1 : 0]);
    if (pid > 0 && (out->pidfd = pidfd_open(pid, 0)) < 0) {
        cg_fail_sys(e, "pidfd_open");
        cg_box_end(out);
        return false;
    }
    return true;
}

static bool write_proc(pid_t pid, const char *name, const char *text, struct cg_err *e)
{
    char path[64];
    cg_snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    CG_OWN(cg_drop_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return cg_fail_sys(e, "write %s", path);
    return true;
}

static bool tell(const struct cg_box *b, int kind, const int *fds, unsigned nfds, struct cg_err *e)
{
    struct message m = {.kind = kind};
    return cg_fd_send(b->channel, &m, sizeof m, fds, nfds, e);
}

static bool hear(const struct cg_box *b, int kind, int *fds, unsigned nfds, struct cg_err *e)
{
    struct message m;
    size_t n = 0;
    unsigned got = 0;
    if (!cg_fd_recv(b->channel, &m, sizeof m, &n, fds, nfds, &got, e))
        return cg_wrap(e, "the process being set up");
    if (n == sizeof m && m.kind == kind && got == nfds)
        return true;
    for (unsigned i = 0; fds && i < got; i++)
        close(fds[i]);
    if (n == sizeof m && m.kind == FAILED) {
        m.err.text[sizeof m.err.text - 1] = '\0';
        if (e)
            *e = m.err;
        return false;
    }
    return cg_fail(e, CG_INTERNAL, "the process being set up answered out of turn");
}

bool cg_box_admit(const struct cg_box *b, struct cg_err *e)
{
    const struct cg_box_ids *ids = &b->ids;
    if (ids->no_userns)
        return tell(b, ADMITTED, NULL, 0, e);
    char uids[48], gids[48];
    cg_snprintf(uids, sizeof uids, "%d %u 1", CG_INNER, (unsigned)ids->uid);
    cg_snprintf(gids, sizeof gids, "%d %u 1", CG_INNER, (unsigned)ids->gid);
    /* without rights a group map is taken only once setgroups(2) is closed */
    if (ids->rootless && !write_proc(b->pid, "setgroups", "deny", e))
        return false;
    return write_proc(b->pid, "uid_map", uids, e) && write_proc(b->pid, "gid_map", gids, e) &&
           tell(b, ADMITTED, NULL, 0, e);
}

bool cg_box_become(const struct cg_box *b, struct cg_err *e)
{
    if (!hear(b, ADMITTED, NULL, 0, e))
        return false;
    uid_t uid = b->ids.no_userns ? b->ids.uid : CG_INNER;
    gid_t gid = b->ids.no_userns ? b->ids.gid : CG_INNER;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(uid, uid, uid) != 0)
        return cg_fail_sys(e, "take on the sandbox's uid");
    return cg_caps_raise(e);
}

bool cg_box_drop(struct cg_err *e)
{
    if (!cg_caps_keep(0, e))
        return false;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return cg_fail_sys(e, "prctl");
    return true;
}

bool cg_box_settle_fds(int log, const int *want, unsigned n, int first, struct cg_err *e)
{
    enum { MOVED = 100, WANT_MAX = 16 };
    int moved[WANT_MAX];
    CG_ASSERT(n <= WANT_MAX && first >= 3);
    /* out of the way first, as the places may be in use by one another */
    for (unsigned i = 0; i < n; i++) {
        moved[i] = fcntl(want[i], F_DUPFD_CLOEXEC, MOVED);
        if (moved[i] < 0)
            return cg_fail_sys(e, "duplicate descriptor %d", want[i]);
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        return cg_fail_sys(e, "open /dev/null");
    if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        return cg_fail_sys(e, "dup2");
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        return cg_fail_sys(e, "close_range");
    for (unsigned i = 0; i < n; i++) {
        if (dup2(moved[i], first + (int)i) < 0)
            return cg_fail_sys(e, "dup2");
    }
    return true;
}

bool cg_box_ready(const struct cg_box *b, const int *fds, unsigned nfds, struct cg_err *e)
{
    return tell(b, READY, fds, nfds, e) && hear(b, GO, NULL, 0, e);
}

void cg_box_fail(const struct cg_box *b, const struct cg_err *e)
{
    struct message m = {.kind = FAILED, .err = *e};
    (void)!cg_fd_send(b->channel, &m, sizeof m, NULL, 0, NULL);
    /* leaving with a message unread would reset the connection, and the reason would be lost */
    while (recv(b->channel, &m, sizeof m, 0) > 0)
        continue;
    _exit(1);
}

bool cg_box_wait_ready(const struct cg_box *b, int *fds, unsigned nfds, struct cg_err *e)
{
    return hear(b, READY, fds, nfds, e);
}

bool cg_box_go(const struct cg_box *b, struct cg_err *e)
{
    struct cg_err closed = CG_ERR_INIT;
    if (!tell(b, GO, NULL, 0, e))
        return false;
    if (hear(b, GO, NULL, 0, &closed))
        return cg_fail(e, CG_INTERNAL, "the process being set up answered out of turn");
    if (closed.code == CG_CLOSED && closed.sys == 0)
        return true;
    if (e)
        *e = closed;
    return false;
}

void cg_box_end(struct cg_box *b)
{
    if (b->pid > 0) {
        kill(b->pid, SIGKILL);
        while (waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    if (b->pid != 0) {
        cg_drop_fd(&b->pidfd);
        cg_drop_fd(&b->channel);
    }
    *b = (struct cg_box){.pid = 0, .pidfd = -1, .channel = -1};
}
