/* Each layer is tried for real in a box of its own that is thrown away: what works here works for a
 * sandbox, as the code is the same. */
#include "jail/check.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/jsonw.h"
#include "jail/frames.h"
#include "jail/host.h"
#include "jail/seccomp.h"

/* An id that no state directory's block holds. */
enum { TRIAL_UID = 0x6fff0000 };

static struct cg_jail_host host;

/* Runs `act` in a box; its error comes back. */
static bool in_box(bool net, bool (*act)(const struct cg_box *, struct cg_err *), struct cg_err *e)
{
    const bool rootless = geteuid() != 0;
    const struct cg_box_ids ids = {rootless ? geteuid() : TRIAL_UID,
                                   rootless ? getegid() : TRIAL_UID, rootless,
                                   !rootless && !cg_box_userns_works()};
    struct cg_box box;
    if (!cg_box_fork(net, &ids, &box, e))
        return false;
    if (box.pid == 0) {
        struct cg_err why = CG_ERR_INIT;
        if (act(&box, &why) && cg_box_ready(&box, NULL, 0, &why))
            _exit(0);
        cg_box_fail(&box, &why);
    }
    bool ok = cg_box_admit(&box, e) && cg_box_wait_ready(&box, NULL, 0, e);
    cg_box_end(&box);
    return ok;
}

static bool try_tools(struct cg_err *e)
{
    struct cg_vmm_program found;
    return cg_vmm_find(cg_vmm_driver(NULL), &found, e);
}

static bool try_files(struct cg_err *e)
{
    host.driver = cg_vmm_driver(NULL);
    return cg_jail_sibling("caged-warden", host.warden, sizeof host.warden, e) &&
           cg_jail_host_find(&host, e);
}

static bool act_userns(const struct cg_box *b, struct cg_err *e)
{
    return cg_box_become(b, e) && cg_box_drop(e);
}

static bool try_userns(struct cg_err *e)
{
    if (geteuid() == 0 && !cg_box_userns_works())
        return cg_fail(e, CG_UNSUPPORTED,
                       "the kernel refuses user namespaces; sandboxes run without them");
    return in_box(false, act_userns, e);
}

static bool act_tun(const struct cg_box *b, struct cg_err *e)
{
    return cg_netns_open_tun(e) >= 0 && cg_box_become(b, e);
}

static bool try_tun(struct cg_err *e)
{
    return in_box(true, act_tun, e);
}

static bool act_tap(const struct cg_box *b, struct cg_err *e)
{
    int tun = cg_netns_open_tun(e);
    return tun >= 0 && cg_box_become(b, e) && cg_netns_tap(tun, e);
}

static bool try_tap(struct cg_err *e)
{
    return in_box(true, act_tap, e);
}

static bool act_nft(const struct cg_box *b, struct cg_err *e)
{
    return act_tap(b, e) && cg_netns_rules(NULL, 0, e);
}

static bool try_nft(struct cg_err *e)
{
    return in_box(true, act_nft, e);
}

static bool act_redirect(const struct cg_box *b, struct cg_err *e)
{
    static const uint8_t allowed[4] = {192, 0, 2, 1}, denied[4] = {192, 0, 2, 2};
    const struct cg_jail_net net = {.address = {192, 0, 2, 1}, .prefix = 32, .port = 443};
    int fds[CG_NETNS_COUNT];
    int tun = cg_netns_open_tun(e);
    if (tun < 0 || !cg_box_become(b, e) || !cg_netns_build(tun, &net, 1, fds, e))
        return false;
    if (cg_frames_syn(fds[CG_NETNS_TAP], allowed, 443) != CG_OK)
        return cg_fail(e, CG_UNSUPPORTED,
                       "a connection that is allowed was not turned to the warden");
    if (cg_frames_syn(fds[CG_NETNS_TAP], denied, 443) != CG_CLOSED)
        return cg_fail(e, CG_UNSUPPORTED, "a connection that is not allowed was not reset");
    return true;
}

static bool try_redirect(struct cg_err *e)
{
    return in_box(true, act_redirect, e);
}

static bool act_chroot(const struct cg_box *b, struct cg_err *e)
{
    static struct cg_view_mounts mounts;
    return cg_view_collect(&host.vmm_view, "/dev/kvm", &mounts, e) && cg_box_become(b, e) &&
           cg_view_enter(&host.vmm_view, &mounts, e) && cg_box_drop(e);
}

static bool try_chroot(struct cg_err *e)
{
    return in_box(false, act_chroot, e);
}

static bool try_cgroup(struct cg_err *e)
{
    char base[CG_CGROUP_PATH];
    return cg_cgroup_base(NULL, base, e);
}

static const struct {
    const char *name;
    bool (*try)(struct cg_err *e);
    bool required;
    const char *fix;
} checks[] = {
    {"tools", try_tools, true, "apt install qemu-system-x86"},
    {"files", try_files, true, "make stage; apt install --reinstall qemu-system-x86 seabios"},
    {"userns", try_userns, true,
     "sysctl -w user.max_user_namespaces=10000; without root also "
     "kernel.unprivileged_userns_clone=1 "
     "where that exists and, on Ubuntu, kernel.apparmor_restrict_unprivileged_userns=0"},
    {"tun", try_tun, true, "modprobe tun; without root also chmod 666 /dev/net/tun"},
    {"tap", try_tap, true, "modprobe tun"},
    {"nft", try_nft, true, "modprobe -a nf_tables nft_ct nft_limit nft_redir nft_reject_ipv4"},
    {"redirect", try_redirect, true, "modprobe -a nf_nat nft_redir nft_reject_ipv4"},
    {"chroot", try_chroot, true,
     "allow this user to mount tmpfs and proc in a user namespace: in a "
     "container, run it with an unmasked /proc"},
    {"seccomp", cg_seccomp_available, true, "use a kernel with CONFIG_SECCOMP_FILTER"},
    {"cgroup", try_cgroup, false,
     "boot with systemd.unified_cgroup_hierarchy=1 and run the server as root; without it "
     "sandboxes "
     "run with no bound on the VMM's own CPU and memory"},
};

bool cg_jail_check(void)
{
    bool good = true;
    for (size_t i = 0; i < CG_COUNT(checks); i++) {
        struct cg_err e = CG_ERR_INIT;
        CG_OWN(cg_drop_buf) struct cg_buf line;
        struct cg_jsonw w;
        fflush(stdout);
        bool ok = checks[i].try(&e);
        /* as root there is a way without user namespaces */
        bool required = checks[i].required && (checks[i].try != try_userns || geteuid() != 0);
        good = good && (ok || !required);
        cg_buf_init(&line, 4096);
        cg_jsonw_init(&w, &line);
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "check", checks[i].name);
        cg_jsonw_kbool(&w, "ok", ok);
        cg_jsonw_kbool(&w, "required", required);
        cg_jsonw_kstr(&w, "detail", ok ? "works" : e.text);
        cg_jsonw_kstr(&w, "fix", ok ? NULL : checks[i].fix);
        cg_jsonw_obj_end(&w);
        puts(cg_buf_cstr(&line));
    }
    return good;
}
