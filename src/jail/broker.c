/* Everything the server may ask is one fixed struct. It is checked whole before anything is done,
 * as if the server were taken over: a keeper is only ever made for a uid of this state directory,
 * a signal only ever sent to a process that is a keeper and holds the lock of the sandbox named. */
#include "jail/broker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "jail/host.h"

struct broker {
    int sock;
    struct cg_jail_host host;
};

static bool id_ok(const char *id)
{
    size_t n = strnlen(id, CG_ID_TEXT);
    return n > 0 && n < CG_ID_TEXT && id[0] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static bool check_start(const struct cg_jail_request *r, unsigned nfds, struct cg_err *e)
{
    unsigned due = r->flags & CG_JAIL_WITH_RAM ? CG_JAIL_FD_MAX : CG_JAIL_FD_COUNT;
    if (nfds != due)
        return cg_fail(e, CG_INVALID, "%u descriptors came, %u are due", nfds, due);
    if (r->flags & ~(uint32_t)(CG_JAIL_WITH_RAM | CG_JAIL_RAM_SHARED | CG_JAIL_INCOMING))
        return cg_fail(e, CG_INVALID, "flags %x are not known", r->flags);
    if (r->slot < 1 || r->slot > 65000)
        return cg_fail(e, CG_INVALID, "slot %u: 1 to 65000 are allowed", r->slot);
    if (r->vcpus < 1 || r->vcpus > 8 || r->mem_mib < 128 || r->mem_mib > 8192)
        return cg_fail(e, CG_INVALID, "%u vCPUs, %u MiB: 1 to 8 and 128 to 8192 are allowed",
                       r->vcpus, r->mem_mib);
    if (r->accel != CG_ACCEL_TCG && r->accel != CG_ACCEL_KVM)
        return cg_fail(e, CG_INVALID, "acceleration %u is not known", r->accel);
    if (r->net_count > CG_COUNT(r->net))
        return cg_fail(e, CG_INVALID, "%u destinations: %zu are allowed", r->net_count,
                       CG_COUNT(r->net));
    for (unsigned i = 0; i < r->net_count; i++) {
        if (r->net[i].prefix > 32)
            return cg_fail(e, CG_INVALID, "network prefix /%u: 0 to 32 are allowed",
                           r->net[i].prefix);
    }
    return true;
}

static void refuse(int reply_fd, const struct cg_err *why)
{
    struct cg_jail_reply reply = {.magic = CG_JAIL_MAGIC, .code = why->code};
    cg_strlcpy(reply.text, sizeof reply.text, why->text);
    cg_log(CG_LOG_WARN, CG_EVENT("jail.refused"), CG_E(why));
    (void)!cg_fd_send(reply_fd, &reply, sizeof reply, NULL, 0, NULL);
}

static void close_all(const int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
}

/* The keeper is a grandchild, so that nobody has to wait for it. */
static void fork_keeper(struct broker *b, const struct cg_jail_request *r, const int *fds)
{
    int locked[2];
    if (pipe2(locked, O_CLOEXEC) != 0)
        _exit(1);
    setsid();
    if (chdir("/") != 0)
        _exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(b->sock);
        close(locked[0]);
        cg_keeper_run(&b->host, r, fds, locked[1]);
    }
    /* the broker serves its next request only when the lock that names the keeper is held */
    char byte;
    close(locked[1]);
    _exit(pid > 0 && read(locked[0], &byte, 1) >= 0 ? 0 : 1);
}

static void start(struct broker *b, const struct cg_jail_request *r, const int *fds, unsigned nfds)
{
    struct cg_err e = CG_ERR_INIT;
    int status = 0;
    bool ok = check_start(r, nfds, &e) && cg_jail_host_find(&b->host, &e);
    if (ok) {
        pid_t pid = fork();
        if (pid == 0)
            fork_keeper(b, r, fds);
        if (pid < 0)
            ok = cg_fail_sys(&e, "fork");
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
        if (ok && status != 0)
            ok = cg_fail(&e, CG_UNAVAILABLE, "start a keeper: no process or descriptor is left");
    }
    if (!ok && nfds > CG_JAIL_FD_REPLY)
        refuse(fds[CG_JAIL_FD_REPLY], &e);
}

/* A folder of the run directory belongs to the server: no link in it is followed. */
static int open_sandbox_dir(const struct broker *b, const char *id)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, b->host.run_dir, id, &how, sizeof how);
}

static bool is_keeper(pid_t pid)
{
    char path[64], name[32] = "";
    struct stat st;
    cg_snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, name, sizeof name - 1) <= 0 || fstat(fd, &st) != 0)
        return false;
    return strcmp(name, "caged-keeper\n") == 0 && st.st_uid == geteuid();
}

/* The pidfd is taken before the lock is read again, so that it cannot mean another process. */
static bool kill_keeper(const struct broker *b, const char *id)
{
    CG_OWN(cg_drop_fd) int dir = open_sandbox_dir(b, id);
    int pid = 0, again = 0;
    if (dir < 0 || !cg_jail_keeper_of(dir, &pid, NULL) || pid <= 0)
        return false;
    CG_OWN(cg_drop_fd) int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 || !cg_jail_keeper_of(dir, &again, NULL) || again != pid || !is_keeper(pid))
        return false;
    return pidfd_send_signal(pidfd, SIGTERM, NULL, 0) == 0;
}

static bool lives(const struct broker *b, const char *id)
{
    CG_OWN(cg_drop_fd) int dir = open_sandbox_dir(b, id);
    int pid = 0;
    return dir >= 0 && cg_jail_keeper_of(dir, &pid, NULL) && pid > 0;
}

/* Everything but control groups vanishes with the processes that hold it. */
static void sweep(const struct broker *b)
{
    const struct cg_jail_host *h = &b->host;
    CG_OWN(cg_drop_dir) DIR *dir = h->cgroup[0] ? opendir(h->cgroup) : NULL;
    size_t n = strlen(h->group);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        if (strncmp(d->d_name, h->group, n) != 0 || d->d_name[n] != '.' ||
            lives(b, d->d_name + n + 1))
            continue;
        struct cg_err e = CG_ERR_INIT;
        if (!cg_cgroup_remove(h->cgroup, d->d_name, &e))
            cg_log(CG_LOG_WARN, CG_EVENT("jail.sweep"), CG_E(&e));
    }
}

static void serve_one(struct broker *b, const struct cg_jail_request *r, size_t n, const int *fds,
                      unsigned nfds)
{
    struct cg_err e = CG_ERR_INIT;
    if (n != sizeof *r || r->magic != CG_JAIL_MAGIC || r->size != sizeof *r ||
        (r->op != CG_JAIL_SWEEP && !id_ok(r->id))) {
        cg_fail(&e, CG_PROTOCOL, "a request of %zu bytes is not understood", n);
        if (nfds > CG_JAIL_FD_REPLY)
            refuse(fds[CG_JAIL_FD_REPLY], &e);
    } else if (r->op == CG_JAIL_START) {
        start(b, r, fds, nfds);
    } else if (r->op == CG_JAIL_KILL) {
        (void)kill_keeper(b, r->id);
    } else if (r->op == CG_JAIL_SWEEP) {
        sweep(b);
    }
}

/* Short and different for every run directory. */
static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static bool prepare(struct broker *b, const struct cg_broker_options *o, struct cg_err *e)
{
    struct cg_jail_host *h = &b->host;
    b->sock = o->sock;
    if (!cg_fd_set_cloexec(o->sock, true, e))
        return false;
    h->uid_base = o->uid_base;
    h->rootless = o->rootless;
    h->driver = cg_vmm_driver(NULL);
    h->run_dir = open(o->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (h->run_dir < 0)
        return cg_fail_sys(e, "run directory %s", o->run_dir);
    cg_snprintf(h->group, sizeof h->group, "%08x", hash(o->run_dir));
    if (o->warden && !cg_strlcpy(h->warden, sizeof h->warden, o->warden))
        return cg_fail(e, CG_TOO_LARGE, "path of the warden too long");
    if (!o->warden && !cg_jail_sibling("caged-warden", h->warden, sizeof h->warden, e))
        return false;
    if (o->rootless)
        h->warnings |= CG_JAIL_ONE_UID;
    else if (!cg_box_userns_works())
        h->warnings |= CG_JAIL_NO_USERNS;
    struct cg_err why = CG_ERR_INIT;
    if (!cg_cgroup_base(NULL, h->cgroup, &why)) {
        h->cgroup[0] = '\0';
        h->warnings |= CG_JAIL_NO_CGROUP;
        cg_log(CG_LOG_WARN, CG_EVENT("jail.no_cgroup"), CG_E(&why));
    }
    /* what is missing now may be there when a sandbox is asked for */
    if (!cg_jail_host_find(h, &why))
        cg_log(CG_LOG_WARN, CG_EVENT("jail.not_ready"), CG_E(&why));
    return true;
}

bool cg_broker_serve(const struct cg_broker_options *o, struct cg_err *e)
{
    static struct broker b;
    prctl(PR_SET_NAME, "caged-broker");
    signal(SIGPIPE, SIG_IGN);
    if (!prepare(&b, o, e))
        return false;
    for (;;) {
        struct cg_jail_request r;
        int fds[CG_FD_PASS_MAX];
        for (unsigned i = 0; i < CG_FD_PASS_MAX; i++)
            fds[i] = -1; /* what did not come is not there */
        size_t n = 0;
        unsigned nfds = 0;
        struct cg_err why = CG_ERR_INIT;
        if (!cg_fd_recv(o->sock, &r, sizeof r, &n, fds, CG_FD_PASS_MAX, &nfds, &why)) {
            if (why.code == CG_PROTOCOL) /* too long, refused and dropped */
                continue;
            return why.code == CG_CLOSED || cg_fail(e, why.code, "%s", why.text);
        }
        serve_one(&b, &r, n, fds, nfds);
        close_all(fds, nfds);
    }
}
