#include "core/golden.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/copy.h"
#include "core/spares.h"

enum { HELD_MAX = 8, STATE_MAX = 64 << 20 };

/* A golden snapshot whose memory is in ours. */
struct held {
    char key[CG_GOLDEN_KEY];
    int ram; /* sealed memfd */
    int64_t used_ns;
};

/* Looked at from the pool and from the loop. */
static struct {
    uv_mutex_t lock;
    struct held held[HELD_MAX];
    bool started;
    struct cg_sandbox *helper; /* the one being made, one at a time; loop only */
} g;

static char *path_of(const struct cg_core *c, const char *key, const char *name)
{
    return cg_format("%s/golden/%s%s%s", c->options.state_dir, key, name ? "/" : "",
                     name ? name : "");
}

void cg_golden_key(struct cg_creation *n, const struct cg_image *image)
{
    const struct cg_sandbox *sb = n->sb;
    const struct cg_core *c = sb->core;
    unsigned char hash[16];
    CG_OWN(cg_drop_free)
    char *text = cg_format("2 %s %u %u %s %s", image->fingerprint, sb->spec.cpus,
                           sb->spec.memory_mb, cg_accel_name(c->accel), c->vmm_version);
    crypto_generichash(hash, sizeof hash, (const unsigned char *)text, strlen(text), NULL, 0);
    sodium_bin2hex(n->golden_key, sizeof n->golden_key, hash, sizeof hash);
}

/* --- memory --- */

static int new_ram(uint64_t bytes, struct cg_err *e)
{
    int fd = memfd_create("caged-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
        return fd;
    cg_fail_sys(e, "make %llu MiB of memory", (unsigned long long)(bytes >> 20));
    cg_drop_fd(&fd);
    return -1;
}

static bool seal(int fd, struct cg_err *e)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    return fcntl(fd, F_ADD_SEALS, seals) == 0 || cg_fail_sys(e, "seal the golden memory");
}

/* Takes fd over; the least recently used one goes. */
static void hold(const char *key, int fd)
{
    uv_mutex_lock(&g.lock);
    struct held *slot = &g.held[0];
    for (unsigned i = 0; i < HELD_MAX; i++) {
        if (strcmp(g.held[i].key, key) == 0) { /* another one was quicker */
            slot = &g.held[i];
            break;
        }
        if (g.held[i].used_ns < slot->used_ns)
            slot = &g.held[i];
    }
    cg_drop_fd(&slot->ram);
    *slot = (struct held){.ram = fd, .used_ns = cg_mono_ns()};
    cg_strlcpy(slot->key, sizeof slot->key, key);
    uv_mutex_unlock(&g.lock);
}

/* A descriptor of our own, or -1. */
static int borrow(const char *key)
{
    int fd = -1;
    uv_mutex_lock(&g.lock);
    for (unsigned i = 0; i < HELD_MAX && fd < 0; i++) {
        if (g.held[i].ram < 0 || strcmp(g.held[i].key, key) != 0)
            continue;
        g.held[i].used_ns = cg_mono_ns();
        fd = fcntl(g.held[i].ram, F_DUPFD_CLOEXEC, 3);
    }
    uv_mutex_unlock(&g.lock);
    return fd;
}

static void let_go(const char *key)
{
    uv_mutex_lock(&g.lock);
    for (unsigned i = 0; i < HELD_MAX; i++) {
        if (strcmp(g.held[i].key, key) == 0) {
            cg_drop_fd(&g.held[i].ram);
            g.held[i] = (struct held){.ram = -1};
        }
    }
    uv_mutex_unlock(&g.lock);
}

/* From disk, after a start of the server. */
static int load_ram(const struct cg_creation *n, struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_free) char *path = path_of(sb->core, n->golden_key, "ram");
    CG_OWN(cg_drop_fd) int from = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    uint64_t bytes = (uint64_t)sb->spec.memory_mb << 20;
    if (from < 0 || fstat(from, &st) != 0) {
        cg_fail_sys(e, "%s", path);
        return -1;
    }
    if ((uint64_t)st.st_size != bytes) {
        cg_fail(e, CG_PROTOCOL, "%s has %lld bytes", path, (long long)st.st_size);
        return -1;
    }
    int fd = new_ram(bytes, e);
    if (fd >= 0 && cg_copy_sparse(from, fd, e) && seal(fd, e))
        return fd;
    cg_drop_fd(&fd);
    return -1;
}

/* --- use --- */

static bool take(struct cg_creation *n, const char *dir, struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_free) char *disk_from = path_of(sb->core, n->golden_key, "disk.img");
    CG_OWN(cg_drop_free) char *state_from = path_of(sb->core, n->golden_key, "vm.state");
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", dir);
    CG_OWN(cg_drop_fd) int ram = borrow(n->golden_key);
    if (ram < 0) {
        int loaded = load_ram(n, e);
        if (loaded < 0)
            return false;
        hold(n->golden_key, loaded);
        ram = borrow(n->golden_key);
    }
    /* the sandbox reads the state, and whoever owns its directory may replace it: a link to what
     * only the server can write costs nothing */
    if (ram < 0 || !cg_copy_file(disk_from, disk, 0600, (off_t)sb->spec.disk_gb << 30, e) ||
        (link(state_from, state) != 0 && !cg_fail_sys(e, "link %s", state)))
        return false;
    n->fds[CG_JAIL_FD_RAM] = CG_MOVE_FD(ram);
    return true;
}

bool cg_golden_take(struct cg_creation *n, const char *dir)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *meta = path_of(n->sb->core, n->golden_key, "meta.json");
    if (!g.started || n->cold || !cg_fs_exists(meta))
        return false;
    if (take(n, dir, &e))
        return true;
    cg_strlcpy(n->fell_back, sizeof n->fell_back, e.text);
    cg_log(CG_LOG_WARN, CG_EVENT("golden.unusable"), CG_S("key", n->golden_key), CG_E(&e));
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    unlink(disk);
    cg_golden_broken(n->sb->core, n->golden_key);
    return false;
}

void cg_golden_broken(struct cg_core *c, const char *key)
{
    CG_OWN(cg_drop_free) char *from = path_of(c, key, NULL);
    CG_OWN(cg_drop_free) char *to = cg_format("%s.broken", from);
    cg_spares_drop(c, key);
    let_go(key);
    if (rename(from, to) == 0)
        (void)!cg_fs_remove_tree(to, NULL);
    cg_log(CG_LOG_WARN, CG_EVENT("golden.removed"), CG_S("key", key));
}

/* --- making --- */

bool cg_golden_prepare(struct cg_creation *n, struct cg_err *e)
{
    n->fds[CG_JAIL_FD_RAM] = new_ram((uint64_t)n->sb->spec.memory_mb << 20, e);
    if (n->fds[CG_JAIL_FD_RAM] < 0)
        return false;
    n->ram = fcntl(n->fds[CG_JAIL_FD_RAM], F_DUPFD_CLOEXEC, 3); /* ours, when the VMM is gone */
    return n->ram >= 0 || cg_fail_sys(e, "keep the golden memory");
}

static bool write_ram(int ram, const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;
    if (to < 0 || fstat(ram, &st) != 0)
        return cg_fail_sys(e, "create %s", path);
    return cg_copy_sparse(ram, to, e) &&
           ((ftruncate(to, st.st_size) == 0 && fsync(to) == 0) || cg_fail_sys(e, "write %s", path));
}

static bool write_meta(const struct cg_creation *n, const char *path, struct cg_err *e)
{
    const struct cg_spec *s = &n->sb->spec;
    char now[CG_TIME_TEXT];
    cg_time_format(cg_wall_ns(), now);
    CG_OWN(cg_drop_free)
    char *text = cg_format("{\"template\":\"%s\",\"cpus\":%u,\"memory_mb\":%u,\"accel\":\"%s\","
                           "\"vmm\":\"%s\",\"made_at\":\"%s\"}\n",
                           s->template_name, s->cpus, s->memory_mb,
                           cg_accel_name(n->sb->core->accel), n->sb->core->vmm_version, now);
    return cg_fs_replace(path, text, strlen(text), 0600, e);
}

static bool fill(const struct cg_creation *n, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(n->sb);
    CG_OWN(cg_drop_free) char *disk_from = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *state_from = cg_format("%s/vm.state", dir);
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", to);
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", to);
    CG_OWN(cg_drop_free) char *ram = cg_format("%s/ram", to);
    CG_OWN(cg_drop_free) char *meta = cg_format("%s/meta.json", to);
    /* copies: the originals were a sandbox's, and uids are given out again */
    return cg_copy_file(disk_from, disk, 0600, 0, e) &&
           cg_copy_file(state_from, state, 0644, 0, e) && write_ram(n->ram, ram, e) &&
           write_meta(n, meta, e);
}

bool cg_golden_keep(struct cg_creation *n, struct cg_err *e)
{
    const struct cg_core *c = n->sb->core;
    CG_OWN(cg_drop_free) char *final = path_of(c, n->golden_key, NULL);
    CG_OWN(cg_drop_free) char *tmp = cg_format("%s.tmp", final);
    bool ok = cg_fs_remove_tree(tmp, e) && cg_fs_mkdirs(tmp, 0700, e) && fill(n, tmp, e) &&
              seal(n->ram, e) && cg_fs_remove_tree(final, e) &&
              (rename(tmp, final) == 0 || cg_fail_sys(e, "rename %s", tmp));
    if (!ok) {
        (void)!cg_fs_remove_tree(tmp, NULL);
        return false;
    }
    hold(n->golden_key, CG_MOVE_FD(n->ram));
    return true;
}

static void on_made(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    (void)ctx;
    g.helper = NULL;
    cg_log(err ? CG_LOG_WARN : CG_LOG_INFO, CG_EVENT(err ? "golden.failed" : "golden.made"),
           CG_S("template", sb->spec.template_name), CG_I("cpus", sb->spec.cpus),
           CG_I("memory_mb", sb->spec.memory_mb), CG_E(err));
}

void cg_golden_want(struct cg_core *c, const char *key, const struct cg_spec *like)
{
    CG_OWN(cg_drop_free) char *meta = path_of(c, key, "meta.json");
    if (!g.started || g.helper || c->stopping || !key[0] || cg_fs_exists(meta))
        return;
    struct cg_spec spec = {
        .cpus = like->cpus, .memory_mb = like->memory_mb, .disk_gb = CG_GOLDEN_DISK_GB};
    struct cg_err e = CG_ERR_INIT;
    cg_strlcpy(spec.template_name, sizeof spec.template_name, like->template_name);
    g.helper = cg_core_create_helper(c, &spec, on_made, c, &e);
    if (!g.helper)
        cg_log(CG_LOG_WARN, CG_EVENT("golden.refused"), CG_E(&e));
}

/* --- of a snapshot --- */

struct turning {
    void (*done)(void *ctx, const struct cg_err *err);
    void *ctx;
};

static void on_turned(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct turning *t = ctx;
    (void)sb;
    t->done(t->ctx, err);
    free(t);
}

bool cg_golden_of_snapshot(struct cg_core *c, const struct cg_snapshot *s,
                           void (*done)(void *ctx, const struct cg_err *err), void *ctx)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_spec spec = {.cpus = s->cpus, .memory_mb = s->memory_mb, .disk_gb = s->disk_gb};
    if (!g.started || !s->memory)
        return false;
    struct turning *t = cg_alloc(sizeof *t);
    *t = (struct turning){done, ctx};
    cg_strlcpy(spec.template_name, sizeof spec.template_name, s->template_name);
    cg_strlcpy(spec.snapshot, sizeof spec.snapshot, s->id);
    if (cg_core_create_helper(c, &spec, on_turned, t, &e))
        return true;
    cg_log(CG_LOG_WARN, CG_EVENT("golden.refused"), CG_E(&e));
    free(t);
    return false;
}

void cg_golden_drop(struct cg_core *c, const char *key)
{
    CG_OWN(cg_drop_free) char *path = path_of(c, key, NULL);
    let_go(key);
    (void)!cg_fs_remove_tree(path, NULL);
}

/* --- start --- */

/* What is half made or broken. Old keys are given up when nobody has used them for a month. */
static void sweep(const struct cg_core *c)
{
    enum { DAYS = 30 };
    CG_OWN(cg_drop_free) char *parent = cg_format("%s/golden", c->options.state_dir);
    CG_OWN(cg_drop_dir) DIR *d = opendir(parent);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", parent, entry->d_name);
        struct stat st;
        if (entry->d_name[0] == '.' || stat(path, &st) != 0)
            continue;
        bool whole = strlen(entry->d_name) == CG_GOLDEN_KEY - 1;
        if (!whole || cg_wall_ns() / 1000000000 - st.st_atime > DAYS * 86400)
            (void)!cg_fs_remove_tree(path, NULL);
    }
}

void cg_golden_start(struct cg_core *c)
{
    for (unsigned i = 0; i < HELD_MAX; i++)
        g.held[i] = (struct held){.ram = -1};
    cg_spares_start(c);
    if (c->options.golden_off || uv_mutex_init(&g.lock) != 0)
        return;
    CG_OWN(cg_drop_free) char *parent = cg_format("%s/golden", c->options.state_dir);
    struct cg_err e = CG_ERR_INIT;
    g.started = cg_fs_mkdirs(parent, 0711, &e);
    if (!g.started)
        cg_log(CG_LOG_WARN, CG_EVENT("golden.off"), CG_E(&e));
    sweep(c);
}

void cg_golden_finish(struct cg_core *c)
{
    cg_spares_finish(c);
    if (g.helper) /* nobody would end it before the next start */
        cg_jail_kill(g.helper);
    for (unsigned i = 0; i < HELD_MAX; i++)
        cg_drop_fd(&g.held[i].ram);
    g.started = false;
}
