/* How a sandbox comes to be: sockets first, then the VMM's box with its network, then the warden's
 * box, and only when both are ready are they let go. All steps of a child that need the host's ids
 * or file system come before it takes on the sandbox's; nothing is looked up by path afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "jail/keeper.h"

enum { STATE_MORE_MIB = 64 }; /* of the VMM's state beside the guest's memory */

static char *const vmm_env[] = {(char[]){"PATH=/usr/bin"}, (char[]){"LC_ALL=C"}, NULL};

static bool make_plumbing(struct cg_plumbing *p, struct cg_err *e)
{
    bool ok = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->link) == 0 &&
              socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->control) == 0 &&
              socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->console) == 0 &&
              socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->keeper) == 0 &&
              pipe2(p->vmm_log, O_CLOEXEC) == 0 && pipe2(p->warden_log, O_CLOEXEC) == 0;
    return ok || cg_fail_sys(e, "make sockets");
}

static struct cg_box_ids ids_of(const struct cg_keeper *k)
{
    if (k->host->rootless)
        return (struct cg_box_ids){geteuid(), getegid(), true, false};
    uint32_t id = k->host->uid_base + k->request->slot;
    return (struct cg_box_ids){id, id, false, (k->host->warnings & CG_JAIL_NO_USERNS) != 0};
}

static bool limit(int what, rlim_t value, struct cg_err *e)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)what, &now) != 0)
        return cg_fail_sys(e, "getrlimit");
    if (now.rlim_max != RLIM_INFINITY && value > now.rlim_max)
        value = now.rlim_max;
    const struct rlimit r = {value, value};
    return setrlimit((__rlimit_resource_t)what, &r) == 0 || cg_fail_sys(e, "setrlimit");
}

/* The VMM reopens kernel and initramfs by /proc/self/fd, with the sandbox's rights. */
static bool check_readable(int fd, const struct cg_box_ids *ids, const char *what, struct cg_err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return cg_fail_sys(e, "%s", what);
    if ((st.st_mode & S_IROTH) || (st.st_uid == ids->uid && (st.st_mode & S_IRUSR)))
        return true;
    return cg_fail(e, CG_FORBIDDEN, "%s must be readable by everyone (chmod o+r)", what);
}

static bool vmm_argv(const struct cg_keeper *k, int first, struct cg_vmm_args *out,
                     struct cg_err *e)
{
    const struct cg_vmm_launch l = {
        .accel = (enum cg_accel)k->request->accel,
        .vcpus = k->request->vcpus,
        .mem_mib = k->request->mem_mib,
        .tsc_khz = k->request->tsc_khz,
        .kernel = first,
        .initramfs = first + 1,
        .base = first + 2,
        .disk_rw = first + 3,
        .disk_ro = first + 4,
        .tap = first + 5,
        .link = first + 6,
        .control = first + 7,
        .console = first + 8,
        .ram = k->request->flags & CG_JAIL_WITH_RAM ? first + 9 : -1,
        .ram_shared = k->request->flags & CG_JAIL_RAM_SHARED,
        .incoming = k->request->flags & CG_JAIL_INCOMING,
    };
    return cg_vmm_args_build(k->host->driver, k->host->vmm.path, &l, out, e);
}

/* Its disk, or its state with the memory. */
static uint64_t file_max(const struct cg_jail_request *r)
{
    return CG_MAX(r->disk_bytes, ((uint64_t)r->mem_mib + STATE_MORE_MIB) << 20);
}

static bool vmm_child(struct cg_keeper *k, struct cg_err *e)
{
    static struct cg_view_mounts mounts;
    struct cg_plumbing *p = &k->p;
    const struct cg_jail_request *r = k->request;
    const char *skip = r->accel == CG_ACCEL_KVM ? NULL : "/dev/kvm";
    int tun = cg_netns_open_tun(e);
    if (tun < 0 || !cg_view_collect(&k->host->vmm_view, skip, &mounts, e) ||
        !cg_box_become(&k->vmm, e) || !cg_netns_build(tun, r->net, r->net_count, p->net, e) ||
        !cg_view_enter(&k->host->vmm_view, &mounts, e))
        return false;
    enum { FIRST = 3 };
    const int want[] = {
        k->fds[CG_JAIL_FD_KERNEL],
        k->fds[CG_JAIL_FD_INITRAMFS],
        k->fds[CG_JAIL_FD_BASE],
        k->fds[CG_JAIL_FD_DISK_RW],
        k->fds[CG_JAIL_FD_DISK_RO],
        p->net[CG_NETNS_TAP],
        p->link[0],
        p->control[0],
        p->console[0],
        k->fds[CG_JAIL_FD_RAM],
    };
    const unsigned nwant = (unsigned)CG_COUNT(want) - (k->fds[CG_JAIL_FD_RAM] < 0);
    CG_OWN(cg_drop_vmm_args) struct cg_vmm_args args;
    if (!vmm_argv(k, FIRST, &args, e))
        return false;
    /* the guest cannot write more; a VMM that was taken over shall not either */
    if (!limit(RLIMIT_CORE, 0, e) || !limit(RLIMIT_NOFILE, 256, e) ||
        !limit(RLIMIT_FSIZE, file_max(r), e) || !cg_box_drop(e) ||
        !cg_box_ready(&k->vmm, p->net + CG_NETNS_TCP, CG_NETNS_COUNT - CG_NETNS_TCP, e) ||
        !cg_box_settle_fds(p->vmm_log[1], want, nwant, FIRST, e))
        return false;
    execve(args.argv[0], args.argv, vmm_env);
    return cg_fail_sys(e, "start %s", args.argv[0]);
}

/* Sanitizers of a test build read their options from the environment. */
static char **warden_env(void)
{
    static char *env[6];
    static const char *const passed[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};
    size_t n = 0;
    env[n++] = cg_strdup("PATH=/usr/bin");
    env[n++] = cg_strdup("LC_ALL=C");
    for (size_t i = 0; i < CG_COUNT(passed); i++) {
        const char *value = getenv(passed[i]);
        if (value)
            env[n++] = cg_format("%s=%s", passed[i], value);
    }
    return env;
}

static bool warden_child(struct cg_keeper *k, struct cg_err *e)
{
    static struct cg_view_mounts mounts;
    struct cg_plumbing *p = &k->p;
    if (!cg_view_collect(&k->host->warden_view, NULL, &mounts, e) ||
        !cg_box_become(&k->warden, e) || !cg_view_enter(&k->host->warden_view, &mounts, e))
        return false;
    const int want[CG_WARDEN_FD_END - CG_WARDEN_FD_CONTROL] = {
        k->fds[CG_JAIL_FD_CONTROL], p->link[1],           p->control[1],
        p->net[CG_NETNS_TCP],       p->net[CG_NETNS_DNS], p->net[CG_NETNS_DNS_TCP],
        k->fds[CG_JAIL_FD_DIR],     p->keeper[0],
    };
    if (!limit(RLIMIT_CORE, 0, e) || !limit(RLIMIT_NOFILE, 4096, e) || !cg_box_drop(e) ||
        !cg_box_ready(&k->warden, NULL, 0, e) ||
        !cg_box_settle_fds(p->warden_log[1], want, CG_COUNT(want), CG_WARDEN_FD_CONTROL, e))
        return false;
    char name[] = "caged-warden", id[CG_ID_TEXT];
    cg_snprintf(id, sizeof id, "%s", k->request->id);
    execve(k->host->warden, (char *[]){name, id, NULL}, warden_env());
    return cg_fail_sys(e, "start %s", k->host->warden);
}

static bool start_box(struct cg_keeper *k, struct cg_box *box, bool net,
                      bool (*child)(struct cg_keeper *, struct cg_err *), int *fds, unsigned nfds,
                      struct cg_err *e)
{
    const struct cg_box_ids ids = ids_of(k);
    if (!cg_box_fork(net, &ids, box, e))
        return false;
    if (box->pid == 0) {
        struct cg_err why = CG_ERR_INIT;
        (void)!child(k, &why);
        cg_box_fail(box, &why);
    }
    if (k->group[0] && !cg_cgroup_add(k->host->cgroup, k->group, box->pid, e))
        return false;
    return cg_box_admit(box, e) && cg_box_wait_ready(box, fds, nfds, e);
}

/* /dev/kvm is opened with the sandbox's rights: its group is lent to the VMM, and to nobody else.
 * It must be on before the box exists, as the group has no name in there. */
static bool lend_group(const struct cg_keeper *k, bool lend, struct cg_err *e)
{
    struct stat st;
    if (k->host->rootless || k->request->accel != CG_ACCEL_KVM)
        return true;
    if (lend && stat("/dev/kvm", &st) != 0)
        return cg_fail_sys(e, "/dev/kvm");
    return setgroups(lend ? 1 : 0, &st.st_gid) == 0 || cg_fail_sys(e, "setgroups");
}

static void make_cgroup(struct cg_keeper *k)
{
    const struct cg_jail_request *r = k->request;
    uint64_t mib = (uint64_t)r->mem_mib + cg_vmm_overhead_mib(k->host->driver, r->mem_mib) + 128;
    const struct cg_cgroup_limits limits = {
        .cpu_percent = r->vcpus * 100 + 50, /* the vCPUs, and half a CPU for I/O and the warden */
        .memory_bytes = mib << 20,
        .pids = r->pids_max ? r->pids_max : 256,
    };
    if (!k->host->cgroup[0])
        return;
    cg_snprintf(k->group, sizeof k->group, "%s.%s", k->host->group, r->id);
    if (!cg_cgroup_create(k->host->cgroup, k->group, &limits, NULL)) {
        k->group[0] = '\0';
        k->warnings |= CG_JAIL_NO_CGROUP;
    }
}

/* The sandbox's directory becomes its own uid's; the server, which made it, keeps access by group.
 * Only what was the server's may change hands: with another directory's descriptor a server gone
 * bad would make root give that away. */
static bool own_directory(const struct cg_keeper *k, const struct cg_box_ids *ids, struct cg_err *e)
{
    int dir = k->fds[CG_JAIL_FD_DIR];
    struct stat st;
    if (ids->rootless)
        return true;
    if (fstat(dir, &st) != 0)
        return cg_fail_sys(e, "the sandbox's directory");
    if (!S_ISDIR(st.st_mode) || (st.st_uid != k->host->uid_base && st.st_uid != ids->uid))
        return cg_fail(e, CG_FORBIDDEN,
                       "the sandbox's directory belongs to uid %u, not to the server (%u)",
                       (unsigned)st.st_uid, k->host->uid_base);
    if (fchown(dir, ids->uid, (gid_t)-1) != 0 || fchmod(dir, 02770) != 0)
        return cg_fail_sys(e, "hand the sandbox's directory over");
    return true;
}

bool cg_keeper_launch(struct cg_keeper *k, struct cg_err *e)
{
    const struct cg_box_ids ids = ids_of(k);
    k->warnings = k->host->warnings;
    if (!own_directory(k, &ids, e))
        return false;
    make_cgroup(k);
    if (!check_readable(k->fds[CG_JAIL_FD_KERNEL], &ids, "the kernel", e) ||
        !check_readable(k->fds[CG_JAIL_FD_INITRAMFS], &ids, "the initramfs", e) ||
        !make_plumbing(&k->p, e))
        return false;
    bool ok =
        lend_group(k, true, e) && start_box(k, &k->vmm, true, vmm_child, k->p.net + CG_NETNS_TCP,
                                            CG_NETNS_COUNT - CG_NETNS_TCP, e);
    if (!ok)
        return cg_wrap(e, "jail of the VMM");
    if (!lend_group(k, false, e))
        return false;
    if (!start_box(k, &k->warden, false, warden_child, NULL, 0, e))
        return cg_wrap(e, "jail of the warden");
    return cg_box_go(&k->warden, e) && cg_box_go(&k->vmm, e);
}

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cg_drop_fd(&fds[i]);
}

void cg_keeper_undo(struct cg_keeper *k)
{
    cg_box_end(&k->vmm);
    cg_box_end(&k->warden);
    close_all(k->p.link, 2);
    close_all(k->p.control, 2);
    close_all(k->p.console, 2);
    close_all(k->p.keeper, 2);
    close_all(k->p.vmm_log, 2);
    close_all(k->p.warden_log, 2);
    close_all(k->p.net, CG_NETNS_COUNT);
    if (k->group[0])
        (void)!cg_cgroup_remove(k->host->cgroup, k->group, NULL);
    k->group[0] = '\0';
}
