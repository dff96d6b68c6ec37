/* setup: what makes this guest the sandbox it is, always before anything else runs: fresh entropy,
 * the clock, names, and the disk's real size. A guest that was restored from a snapshot goes
 * through here just as one that booted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/agent/agent.h"

enum { ENTROPY = 32 };

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool add_entropy(const char *hex, struct cg_err *e)
{
    struct {
        struct rand_pool_info info;
        unsigned char bytes[ENTROPY];
    } pool = {.info = {.entropy_count = ENTROPY * 8, .buf_size = ENTROPY}};
    if (!hex || strlen(hex) != 2 * ENTROPY)
        return cg_fail(e, CG_INVALID, "entropy must be %d bytes in lower-case hex", ENTROPY);
    for (int i = 0; i < ENTROPY; i++) {
        int high = nibble(hex[2 * i]);
        int low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return cg_fail(e, CG_INVALID, "entropy must be %d bytes in lower-case hex", ENTROPY);
        pool.bytes[i] = (unsigned char)(high << 4 | low);
    }
    CG_OWN(cg_drop_fd) int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) != 0 || ioctl(fd, RNDRESEEDCRNG) != 0)
        return cg_fail_sys(e, "add entropy");
    return true;
}

static bool put_text(const char *path, mode_t mode, const char *text, struct cg_err *e)
{
    /* written over, not anew: ext4 waits for the disk when a file that was emptied is closed */
    CG_OWN(cg_drop_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    off_t size = (off_t)strlen(text);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "write %s", path);
    return cg_fd_write_full(fd, text, strlen(text), e) &&
           (st.st_size <= size || ftruncate(fd, size) == 0 || cg_fail_sys(e, "write %s", path));
}

/* The kernel's boot_id is that of the snapshot: one of our own covers it. */
static bool cover_boot_id(const char *text, struct cg_err *e)
{
    static const char ours[] = "/run/boot_id", kernels[] = "/proc/sys/kernel/random/boot_id";
    struct stat a, b;
    if (!put_text(ours, 0444, text, e))
        return false;
    if (stat(ours, &a) == 0 && stat(kernels, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        return true; /* since the last time */
    return mount(ours, kernels, NULL, MS_BIND, NULL) == 0 || cg_fail_sys(e, "cover boot_id");
}

static bool set_names(const char *hostname, struct cg_err *e)
{
    if (!hostname || !hostname[0] || strlen(hostname) > 63 ||
        strspn(hostname, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(hostname))
        return cg_fail(e, CG_INVALID, "hostname must be 1 to 63 of a-z 0-9 -");
    if (sethostname(hostname, strlen(hostname)) != 0)
        return cg_fail_sys(e, "set the host name");
    char text[256];
    snprintf(text, sizeof text, "127.0.0.1 localhost\n127.0.1.1 %s\n", hostname);
    if (!put_text("/etc/hosts", 0644, text, e))
        return false;
    snprintf(text, sizeof text, "%s\n", hostname);
    if (!put_text("/etc/hostname", 0644, text, e))
        return false;
    unsigned char r[32];
    cg_rand_bytes(r, sizeof r);
    char id[40];
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", r[i]);
    snprintf(text, sizeof text, "%s\n", id);
    if (!put_text("/etc/machine-id", 0444, text, e))
        return false;
    snprintf(text, sizeof text,
             "%02x%02x%02x%02x-%02x%02x-4%01x%02x-a%01x%02x-%02x%02x%02x%02x%02x%02x\n", r[16],
             r[17], r[18], r[19], r[20], r[21], r[22] & 15, r[23], r[24] & 15, r[25], r[26], r[27],
             r[28], r[29], r[30], r[31]);
    return cover_boot_id(text, e);
}

static bool set_clock(int64_t wall_ns, struct cg_err *e)
{
    if (wall_ns <= 0)
        return cg_fail(e, CG_INVALID, "wall_ns must be nanoseconds since 1970");
    struct timespec ts = {.tv_sec = wall_ns / 1000000000, .tv_nsec = wall_ns % 1000000000};
    return clock_settime(CLOCK_REALTIME, &ts) == 0 || cg_fail_sys(e, "set the clock");
}

static bool set_env(const struct cg_json *env, struct cg_err *e)
{
    cg_buf_clear(&agent.env);
    for (const struct cg_json *m = env ? env->child : NULL; m; m = m->next) {
        if (m->type != CG_JSON_STR || memchr(m->str.p, 0, m->str.n) || m->key.n == 0 ||
            memchr(m->key.p, '=', m->key.n) || memchr(m->key.p, 0, m->key.n))
            return cg_fail(e, CG_INVALID, "env must hold strings");
        if (!cg_buf_add(&agent.env, m->key.p, m->key.n) || !cg_buf_addc(&agent.env, '=') ||
            !cg_buf_add(&agent.env, m->str.p, m->str.n + 1))
            return cg_fail(e, CG_TOO_LARGE, "env is larger than %zu bytes", agent.env.max);
    }
    return true;
}

static const char bundle[] = "/etc/ssl/certs/ca-certificates.crt";

static struct {
    char *pem;    /* what was added last */
    off_t before; /* length of the bundle without it; -1: it was there already */
    bool looked;  /* the bundle holds none of another agent's, and has been opened for writing */
    bool trial;   /* it came with a setup of nobody's, and may not be wanted */
} ca;

/* The first time that a file of the template is opened for writing, the whole of it is copied up
 * and synced. A guest that is made ready in advance has that behind it. */
static void prepare_bundle(void)
{
    CG_OWN(cg_drop_fd) int fd = open(bundle, O_WRONLY | O_APPEND | O_CLOEXEC);
    ca.looked = fd >= 0;
}

static bool forget_ca(struct cg_err *e)
{
    free(ca.pem);
    ca.pem = NULL;
    ca.trial = false;
    return (unlink("/etc/ssl/certs/caged-ca.pem") == 0 &&
            (ca.before < 0 || truncate(bundle, ca.before) == 0)) ||
           cg_fail_sys(e, "take a CA out of %s", bundle);
}

static bool append_ca(const char *pem, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = open(bundle, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "add the sandbox's CA to %s", bundle);
    ca.before = st.st_size;
    return cg_fd_write_full(fd, pem, strlen(pem), e);
}

/* Once: a guest that was forked or restored has it already. */
static bool add_ca(const char *pem, bool trial, struct cg_err *e)
{
    bool same = pem && ca.pem && strcmp(pem, ca.pem) == 0;
    CG_OWN(cg_drop_free) char *have = NULL;
    if (ca.trial && !same && !forget_ca(e))
        return false;
    ca.trial = trial && pem;
    if (!pem || same)
        return true;
    if (!cg_fs_mkdirs("/etc/ssl/certs", 0755, e) ||
        !put_text("/etc/ssl/certs/caged-ca.pem", 0644, pem, e))
        return false;
    bool there = !ca.looked && cg_fs_slurp(bundle, 4 << 20, &have, NULL, NULL) && strstr(have, pem);
    ca.looked = true;
    ca.before = -1;
    free(ca.pem);
    ca.pem = cg_strdup(pem);
    return there || append_ca(pem, e);
}

static bool apply(const struct cg_json *r, struct cg_err *e)
{
    static const char *const members[] = {"sandbox_id", "hostname", "entropy",     "wall_ns",
                                          "env",        "ca_pem",   "resize_disk", "disk_bytes",
                                          "same",       "warm",     NULL};
    if (!request_check(r, members, e) || !set_env(cg_json_get(r, "env"), e))
        return false;
    if (!agent.in_vm)
        return true; /* a plain program does not touch its host */
    bool warm = cg_json_bool(r, "warm", false);
    if (warm)
        prepare_bundle();
    return add_entropy(cg_json_str(r, "entropy"), e) &&
           set_clock(cg_json_int(r, "wall_ns", 0), e) &&
           (cg_json_bool(r, "same", false) ||
            (set_names(cg_json_str(r, "hostname"), e) && hostkeys_renew(e))) &&
           add_ca(cg_json_str(r, "ca_pem"), warm, e) &&
           (!cg_json_bool(r, "resize_disk", true) ||
            boot_grow_disk((uint64_t)cg_json_int(r, "disk_bytes", 0), e));
}

static void open_setup(struct task *t, const struct cg_json *request)
{
    struct cg_err e = CG_ERR_INIT;
    if (agent.ready)
        cg_fail(&e, CG_CONFLICT, "setup was done already");
    if (e.code != CG_OK || !apply(request, &e)) {
        task_fail(t, &e);
        return;
    }
    agent.ready = true;
    struct utsname uts;
    struct timespec up;
    CG_ASSERT(uname(&uts) == 0 && clock_gettime(CLOCK_BOOTTIME, &up) == 0);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "agent", CG_VERSION);
    cg_jsonw_kstr(&w, "kernel", uts.release);
    cg_jsonw_kint(&w, "boot_ns", (int64_t)up.tv_sec * 1000000000 + up.tv_nsec);
    cg_jsonw_key(&w, "observe");
    observe_describe(&w);
    cg_jsonw_obj_end(&w);
    task_close(t, cg_buf_slice(&b));
}

const struct task_ops task_setup = {
    .kind = "setup", .open = open_setup, .size = sizeof(struct task), .before_setup = true};
