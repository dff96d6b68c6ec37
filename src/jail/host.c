/* Which files VMM and warden get to see. For QEMU beside its libraries that is the loadable
 * accelerator and the firmware of the machine; for the warden what resolving names and checking
 * certificates needs. */
#include "jail/host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const warden_files[] = {
    "/dev/null",
    "/dev/urandom",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/services",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs/ca-certificates.crt",
};

static const char *const vmm_files[] = {"/dev/null", "/dev/urandom", "/dev/kvm"};

static bool add_all(struct cg_view *v, const char *const *files, size_t n, struct cg_err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (!cg_view_add(v, files[i], e))
            return false;
    }
    return true;
}

bool cg_jail_sibling(const char *name, char *out, size_t size, struct cg_err *e)
{
    char self[256];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return cg_fail_sys(e, "/proc/self/exe");
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return cg_fail(e, CG_INTERNAL, "no folder in %s", self);
    *slash = '\0';
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", self, name);
    return cg_strlcpy(out, size, path) || cg_fail(e, CG_TOO_LARGE, "path too long: %s", path);
}

/* Device nodes change their times when they are used; programs and libraries when replaced. */
static bool unchanged(const struct cg_view *v, int64_t since_s)
{
    struct stat st;
    for (unsigned i = 0; i < v->n; i++) {
        if (stat(v->paths[i], &st) != 0 || (S_ISREG(st.st_mode) && st.st_ctim.tv_sec > since_s))
            return false;
    }
    return true;
}

bool cg_jail_host_find(struct cg_jail_host *h, struct cg_err *e)
{
    if (h->found_s != 0 && unchanged(&h->vmm_view, h->found_s) &&
        unchanged(&h->warden_view, h->found_s))
        return true;
    int64_t now_s = cg_wall_ns() / 1000000000;
    h->found_s = 0;
    cg_view_finish(&h->vmm_view);
    cg_view_finish(&h->warden_view);
    bool ok = cg_vmm_find(h->driver, &h->vmm, e) &&
              cg_view_add_program(&h->vmm_view, h->vmm.path, e) &&
              cg_view_add_globs(&h->vmm_view, cg_vmm_modules(h->driver), true, e) &&
              cg_view_add_globs(&h->vmm_view, cg_vmm_firmware(h->driver), false, e) &&
              add_all(&h->vmm_view, vmm_files, CG_COUNT(vmm_files), e) &&
              cg_view_add_program(&h->warden_view, h->warden, e) &&
              add_all(&h->warden_view, warden_files, CG_COUNT(warden_files), e);
    if (ok)
        h->found_s = now_s;
    return ok;
}
