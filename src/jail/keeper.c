/* Life of a keeper: lock, launch, answer, watch, say how it ended. It belongs to nobody's session
 * and ignores what a terminal or a dying server may send; SIGTERM alone ends it, with the sandbox.
 */
#include "jail/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "jail/caps.h"

static void set_signals(void)
{
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGALRM,
                                  SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU};
    for (size_t i = 0; i < CG_COUNT(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
}

/* Released by the kernel with the process; the descriptor is never closed before. */
static bool take_lock(const struct cg_jail_host *host, int run_dir, struct cg_err *e)
{
    struct stat dir;
    if (fstat(run_dir, &dir) != 0 || (!host->rootless && dir.st_uid != host->uid_base))
        return cg_fail(e, CG_FORBIDDEN, "the sandbox's run directory is not the server's (uid %u)",
                       host->uid_base);
    int fd = openat(run_dir, "keeper.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return cg_fail_sys(e, "open keeper.lock");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &lock) == 0)
        return true;
    if (errno == EAGAIN || errno == EACCES)
        return cg_fail(e, CG_CONFLICT, "another keeper holds this sandbox");
    return cg_fail_sys(e, "lock keeper.lock");
}

/* What is left to do needs one right over other uids: to end them. Reading the counters takes
 * another where the network namespace does not lie in a user namespace of ours. */
static void give_up_rights(const struct cg_jail_host *host)
{
    uint64_t keep = 1ull << CAP_KILL;
    if (host->warnings & CG_JAIL_NO_USERNS)
        keep |= 1ull << CAP_NET_ADMIN;
    if (geteuid() != 0)
        return;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_caps_keep(keep, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("keeper.capabilities"), CG_E(&e));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void init_fds(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fds[i] = -1;
}

static void init(struct cg_keeper *k, const struct cg_jail_host *host,
                 const struct cg_jail_request *request, const int *fds)
{
    *k = (struct cg_keeper){.host = host, .request = request, .fds = fds};
    k->vmm = k->warden = (struct cg_box){.pid = 0, .pidfd = -1, .channel = -1};
    init_fds(k->p.link, 2);
    init_fds(k->p.control, 2);
    init_fds(k->p.console, 2);
    init_fds(k->p.keeper, 2);
    init_fds(k->p.vmm_log, 2);
    init_fds(k->p.warden_log, 2);
    init_fds(k->p.net, CG_NETNS_COUNT);
}

/* Ends of the programs, which now have them: end of file must be seen when they close. */
static void close_theirs(struct cg_keeper *k)
{
    int *theirs[] = {&k->p.link[0],
                     &k->p.link[1],
                     &k->p.control[0],
                     &k->p.control[1],
                     &k->p.console[0],
                     &k->p.keeper[0],
                     &k->p.vmm_log[1],
                     &k->p.warden_log[1],
                     &k->p.net[CG_NETNS_TCP],
                     &k->p.net[CG_NETNS_DNS],
                     &k->p.net[CG_NETNS_DNS_TCP]};
    for (size_t i = 0; i < CG_COUNT(theirs); i++)
        cg_drop_fd(theirs[i]);
    static const enum cg_jail_fd given[] = {
        CG_JAIL_FD_CONTROL,   CG_JAIL_FD_DIR,  CG_JAIL_FD_RUN,     CG_JAIL_FD_KERNEL,
        CG_JAIL_FD_INITRAMFS, CG_JAIL_FD_BASE, CG_JAIL_FD_DISK_RW, CG_JAIL_FD_DISK_RO};
    for (size_t i = 0; i < CG_COUNT(given); i++)
        close(k->fds[given[i]]);
    if (k->fds[CG_JAIL_FD_RAM] >= 0)
        close(k->fds[CG_JAIL_FD_RAM]);
}

void cg_keeper_run(const struct cg_jail_host *host, const struct cg_jail_request *request,
                   const int fds[CG_JAIL_FD_MAX], int locked)
{
    static struct cg_keeper k;
    struct cg_err e = CG_ERR_INIT;
    int reply_fd = fds[CG_JAIL_FD_REPLY];
    prctl(PR_SET_NAME, "caged-keeper");
    cg_log_set_context("sandbox", request->id);
    set_signals();
    init(&k, host, request, fds);
    bool ok = take_lock(host, fds[CG_JAIL_FD_RUN], &e);
    (void)!write(locked, "l", 1);
    close(locked);
    if (ok && !host->rootless && setgroups(0, NULL) != 0)
        ok = cg_fail_sys(&e, "setgroups");
    ok = ok && cg_keeper_launch(&k, &e);
    struct cg_jail_reply reply = {
        .magic = CG_JAIL_MAGIC,
        .ok = ok,
        .code = e.code,
        .warnings = k.warnings,
        .keeper_pid = getpid(),
        .warden_pid = k.warden.pid,
        .vmm_pid = k.vmm.pid,
    };
    if (!ok)
        cg_strlcpy(reply.text, sizeof reply.text, e.text);
    if (!ok) {
        cg_keeper_undo(&k);
        cg_log(CG_LOG_ERROR, CG_EVENT("keeper.failed"), CG_E(&e));
        (void)!cg_fd_send(reply_fd, &reply, sizeof reply, NULL, 0, NULL);
        _exit(1);
    }
    close_theirs(&k);
    give_up_rights(host);
    (void)!cg_fd_send(reply_fd, &reply, sizeof reply, NULL, 0, NULL);
    const struct cg_jail_end end = cg_keeper_watch(&k);
    cg_keeper_undo(&k);
    (void)!cg_fd_send(reply_fd, &end, sizeof end, NULL, 0, NULL);
    _exit(0);
}
