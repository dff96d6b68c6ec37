/* The verdict and its cache. The key is everything that could change the answer: CPU, host kernel,
 * rights on /dev/kvm, VMM, guest kernel and initramfs. */
#include "vmm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"

static void read_cpu(char *out, size_t size)
{
    CG_OWN(cg_drop_file) FILE *f = fopen("/proc/cpuinfo", "re");
    char line[512];
    cg_strlcpy(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strstr(line, ": ");
        if (value && cg_has_prefix(line, "model name")) {
            value[strcspn(value, "\n")] = '\0';
            cg_strlcpy(out, size, value + 2);
            return;
        }
    }
}

static void read_kvm(char *out, size_t size)
{
    struct stat st;
    if (stat("/dev/kvm", &st) != 0)
        cg_snprintf(out, size, "%s", "absent");
    else
        cg_snprintf(out, size, "%03o %u:%u", (unsigned)st.st_mode & 0777, (unsigned)st.st_uid,
                    (unsigned)st.st_gid);
}

/* FNV-1a over a file, going on from h. */
static bool hash_file(const char *path, uint64_t *h, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cg_fail_sys(e, "%s", path);
    CG_OWN(cg_drop_free) unsigned char *bytes = cg_alloc(65536);
    ssize_t n;
    while ((n = read(fd, bytes, 65536)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            *h = (*h ^ bytes[i]) * 1099511628211u;
    }
    return n == 0 || cg_fail_sys(e, "read %s", path);
}

static bool read_key(const char *kernel, const char *initramfs, struct cg_vmm_probe *p,
                     struct cg_err *e)
{
    struct utsname name;
    uint64_t h = 14695981039346656037u;
    read_cpu(p->cpu, sizeof p->cpu);
    read_kvm(p->kvm, sizeof p->kvm);
    uname(&name);
    cg_snprintf(p->host_kernel, sizeof p->host_kernel, "%.60s", name.release);
    if (!hash_file(kernel, &h, e) || !hash_file(initramfs, &h, e))
        return false;
    cg_snprintf(p->guest, sizeof p->guest, "%016llx", (unsigned long long)h);
    return true;
}

static bool load(const char *path, struct cg_vmm_probe *p)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, 8192, &text, &n, NULL))
        return false;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse((struct cg_slice){text, n}, NULL, NULL);
    const char *reason = cg_json_str(j, "reason");
    if (!reason || !cg_accel_parse(cg_json_str(j, "accel"), &p->accel) ||
        !cg_streq(cg_json_str(j, "cpu"), p->cpu) || !cg_streq(cg_json_str(j, "kvm"), p->kvm) ||
        !cg_streq(cg_json_str(j, "host_kernel"), p->host_kernel) ||
        !cg_streq(cg_json_str(j, "vmm"), p->vmm) || !cg_streq(cg_json_str(j, "guest"), p->guest))
        return false;
    cg_strlcpy(p->reason, sizeof p->reason, reason);
    p->cached = true;
    return true;
}

/* Sandboxes get the device's group, not its owner's rights. */
static bool check_device(struct cg_err *e)
{
    struct stat st;
    if (stat("/dev/kvm", &st) != 0)
        return cg_fail(e, CG_UNSUPPORTED, "there is no /dev/kvm");
    CG_OWN(cg_drop_fd) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return cg_fail_sys(e, "open /dev/kvm");
    unsigned need = S_IRGRP | S_IWGRP, everyone = S_IROTH | S_IWOTH;
    if (geteuid() == 0 && (st.st_mode & need) != need && (st.st_mode & everyone) != everyone)
        return cg_fail(e, CG_FORBIDDEN,
                       "/dev/kvm is for its owner only, sandboxes have uids of their own: "
                       "chgrp kvm /dev/kvm; chmod 660 /dev/kvm");
    return true;
}

static void decide(const struct cg_vmm_driver *d, const struct cg_vmm_program *program,
                   const char *kernel, const char *initramfs, struct cg_vmm_probe *p)
{
    struct cg_err why = CG_ERR_INIT;
    p->cached = false;
    if (check_device(&why) && cg_vmm_probe_guest(d, program, CG_ACCEL_KVM, kernel, initramfs,
                                                 CG_VMM_PROBE_SECONDS, &why)) {
        p->accel = CG_ACCEL_KVM;
        cg_strlcpy(p->reason, sizeof p->reason, "a guest booted and worked under KVM");
        return;
    }
    p->accel = CG_ACCEL_TCG;
    cg_snprintf(p->reason, sizeof p->reason, "no KVM: %.180s", why.text);
}

bool cg_vmm_probe_json(const struct cg_vmm_probe *p, struct cg_buf *out)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "accel", cg_accel_name(p->accel));
    cg_jsonw_kstr(&w, "reason", p->reason);
    cg_jsonw_kbool(&w, "cached", p->cached);
    cg_jsonw_kuint(&w, "tsc_khz", p->tsc_khz);
    cg_jsonw_kstr(&w, "cpu", p->cpu);
    cg_jsonw_kstr(&w, "kvm", p->kvm);
    cg_jsonw_kstr(&w, "host_kernel", p->host_kernel);
    cg_jsonw_kstr(&w, "vmm", p->vmm);
    cg_jsonw_kstr(&w, "guest", p->guest);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(out, '\n');
    return !out->full;
}

bool cg_vmm_probe(const struct cg_vmm_driver *d, const char *kernel, const char *initramfs,
                  const char *cache, struct cg_vmm_probe *out, struct cg_err *e)
{
    struct cg_vmm_program program;
    *out = (struct cg_vmm_probe){.accel = CG_ACCEL_TCG};
    if (!cg_vmm_find(d, &program, e) || !read_key(kernel, initramfs, out, e))
        return false;
    cg_snprintf(out->vmm, sizeof out->vmm, "%s", program.version);
    out->tsc_khz = cg_vmm_tsc_khz();
    if (cache && load(cache, out))
        return true;
    decide(d, &program, kernel, initramfs, out);
    if (!cache)
        return true;
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 4096);
    return (cg_vmm_probe_json(out, &text) && cg_fs_replace(cache, text.p, text.n, 0644, e)) ||
           cg_wrap(e, "keep the probe's result");
}
