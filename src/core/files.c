/* What a sandbox is made of on disk, on the pool: its directory, its disk out of a golden snapshot,
 * a snapshot or an empty image, config.json for its warden, the descriptors for its keeper. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/command.h"
#include "base/fs.h"
#include "core/copy.h"
#include "core/creation.h"
#include "core/golden.h"
#include "core/models.h"
#include "core/network.h"
#include "core/providers.h"
#include "core/registries.h"
#include "core/reload.h"
#include "core/scores.h"
#include "image/agents.h"

enum { PROBE_WAIT_MS = 60000, RESTORE_MS = 20000 };

/* The template's environment, and over it that of the request. */
static void write_env(const struct cg_sandbox *sb, const struct cg_image *image, struct cg_jsonw *w)
{
    CG_OWN(cg_drop_json)
    struct cg_json *asked =
        sb->spec.env_json ? cg_json_parse(cg_slice_of(sb->spec.env_json), NULL, NULL) : NULL;
    cg_jsonw_key(w, "env");
    cg_jsonw_obj(w);
    for (size_t i = 0; i < image->template.env.n; i++) {
        const char *pair = image->template.env.v[i];
        size_t n = strcspn(pair, "=");
        CG_OWN(cg_drop_free) char *name = cg_strndup(pair, n);
        if (pair[n] && !cg_json_get(asked, name))
            cg_jsonw_kstr(w, name, pair + n + 1);
    }
    cg_providers_env(sb, asked, w);
    cg_registries_env(asked, w);
    for (const struct cg_json *m = asked ? asked->child : NULL; m; m = m->next)
        cg_jsonw_kstrn(w, m->key.p, m->str.p, m->str.n);
    cg_jsonw_obj_end(w);
}

void cg_creation_write_vm(const struct cg_creation *n, struct cg_jsonw *w)
{
    bool restore = n->golden || n->saved || (n->resume && !n->cold);
    bool same = n->resume && !n->cold && !cg_pause_of_other(n->sb);
    cg_jsonw_key(w, "vm");
    cg_jsonw_obj(w);
    cg_jsonw_kbool(w, "restore", restore);
    cg_jsonw_kbool(w, "same", same);
    cg_jsonw_kbool(w, "make_golden", n->sb->helper);
    cg_jsonw_kbool(w, "without_ram", n->golden || (n->sb->helper && !n->saved));
    cg_jsonw_obj_end(w);
    if (!restore)
        return;
    cg_jsonw_key(w, "timeouts"); /* a restore that is not there soon will never be */
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "boot_ms", RESTORE_MS);
    cg_jsonw_obj_end(w);
}

static bool write_settings(struct cg_creation *n, const struct cg_image *image, const char *dir,
                           struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 256 * 1024);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "v", 1);
    cg_jsonw_kint(&w, "idle_s", sb->spec.timeout_s);
    cg_jsonw_kstr(&w, "id", sb->id);
    cg_jsonw_kstr(&w, "account", sb->account);
    cg_jsonw_key(&w, "template");
    cg_jsonw_strn(&w, sb->spec.template_name, strcspn(sb->spec.template_name, "+"));
    cg_jsonw_kstr(&w, "hostname", sb->id);
    cg_jsonw_key(&w, "shape");
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "vcpus", sb->spec.cpus);
    cg_jsonw_kint(&w, "mem_mib", sb->spec.memory_mb);
    cg_jsonw_kint(&w, "disk_mib", (int64_t)sb->spec.disk_gb * 1024);
    cg_jsonw_obj_end(&w);
    cg_jsonw_key(&w, "isolation");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "vmm", "qemu");
    cg_jsonw_kstr(&w, "accel", cg_accel_name(sb->core->accel));
    cg_jsonw_kbool(&w, "rootless", sb->core->rootless);
    if (n->fell_back[0])
        cg_jsonw_kstr(&w, "restore_failed", n->fell_back);
    cg_jsonw_obj_end(&w);
    write_env(sb, image, &w);
    cg_providers_write(sb, &w);
    cg_network_write_config(sb, &w);
    if (!sb->helper)
        cg_scores_write_config(sb, &w);
    cg_creation_write_vm(n, &w);
    cg_jsonw_key(&w, "record");
    cg_jsonw_obj(&w);
    cg_jsonw_kuint(&w, "quota_bytes", (uint64_t)sb->core->options.record_quota_mb << 20);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    if (b.full)
        return cg_fail(e, CG_TOO_LARGE, "env is too large");
    CG_OWN(cg_drop_free) char *path = cg_format("%s/config.json", dir);
    return cg_fs_place(path, b.p, b.n, 0644, e);
}

static bool write_config(struct cg_creation *n, const struct cg_image *image, const char *dir,
                         struct cg_err *e)
{
    cg_options_hold(); /* of before a reload or of after it */
    bool ok = write_settings(n, image, dir, e);
    cg_options_let_go();
    return ok;
}

static bool open_fd(struct cg_creation *n, unsigned which, const char *path, int flags,
                    struct cg_err *e)
{
    n->fds[which] = open(path, flags | O_CLOEXEC | O_NOCTTY, 0660);
    return n->fds[which] >= 0 || cg_fail_sys(e, "open %s", path);
}

/* A VMM keeps a copy of its kernel for as long as it runs. One that restores a guest never starts
 * it: the head of it, which says what it is, is enough (the kernel's Documentation/x86/boot). */
static bool open_kernel(struct cg_creation *n, const char *path, struct cg_err *e)
{
    enum { SECTORS = 0x1f1, MAGIC = 0x202, SECTOR = 512, HEAD_MAX = 64 * SECTOR };
    unsigned char head[HEAD_MAX];
    int *fd = &n->fds[CG_JAIL_FD_KERNEL];
    bool restores = n->golden || n->saved || (n->resume && !n->cold);
    if (!open_fd(n, CG_JAIL_FD_KERNEL, path, O_RDONLY, e))
        return false;
    ssize_t got = restores ? pread(*fd, head, sizeof head, 0) : 0;
    size_t size =
        got == sizeof head ? ((size_t)(head[SECTORS] ? head[SECTORS] : 4) + 1) * SECTOR : 0;
    if (size == 0 || size > sizeof head || memcmp(head + MAGIC, "HdrS", 4) != 0)
        return true;
    CG_OWN(cg_drop_fd) int part = memfd_create("caged-kernel", MFD_CLOEXEC);
    if (part < 0 || !cg_fd_write_full(part, head, size, e))
        return cg_fail_sys(e, "keep the head of %s", path);
    cg_drop_fd(fd);
    *fd = CG_MOVE_FD(part);
    return true;
}

static bool open_files(struct cg_creation *n, const struct cg_image *image, const char *dir,
                       const char *run, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *console = cg_format("%s/console.log", dir);
    CG_OWN(cg_drop_free) char *log = cg_format("%s/warden.log", dir);
    CG_OWN(cg_drop_free) char *control = cg_format("%s/w.sock", run);
    if (!n->golden && !n->resume && !n->snapshot &&
        !cg_image_make_writable(&n->sb->core->images, disk, (int64_t)n->sb->spec.disk_gb << 30, e))
        return false;
    bool ok = open_fd(n, CG_JAIL_FD_DIR, dir, O_RDONLY | O_DIRECTORY, e) &&
              open_fd(n, CG_JAIL_FD_RUN, run, O_RDONLY | O_DIRECTORY, e) &&
              open_kernel(n, image->kernel_path, e) &&
              open_fd(n, CG_JAIL_FD_INITRAMFS, image->initramfs_path, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_BASE, n->sb->base_path, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_DISK_RW, disk, O_RDWR, e) &&
              open_fd(n, CG_JAIL_FD_DISK_RO, disk, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_CONSOLE, console, O_WRONLY | O_APPEND | O_CREAT, e) &&
              open_fd(n, CG_JAIL_FD_LOG, log, O_WRONLY | O_APPEND | O_CREAT, e);
    if (!ok)
        return false;
    fchmod(n->fds[CG_JAIL_FD_CONSOLE], 0664); /* the warden quotes it when the guest fails */
    n->fds[CG_JAIL_FD_CONTROL] = cg_unix_listen(control, 0600, e);
    return n->fds[CG_JAIL_FD_CONTROL] >= 0;
}

/* Which acceleration works, when the start of the server could not find out: no images then. */
static bool probe_now(struct cg_creation *n, const struct cg_image *image, struct cg_err *e)
{
    const struct cg_core *c = n->sb->core;
    CG_OWN(cg_drop_free) char *jail = cg_format("%s/caged-jail", c->libexec_dir);
    CG_OWN(cg_drop_free) char *cache = cg_format("%s/probe.json", c->options.state_dir);
    const char *const argv[] = {
        jail, "--probe", image->kernel_path, image->initramfs_path, "--cache", cache, NULL};
    n->probe_json = cg_alloc(4096);
    return cg_command_output(argv, NULL, PROBE_WAIT_MS, n->probe_json, 4096, e) ||
           cg_wrap(e, "find out which acceleration works");
}

static bool check_base(const struct cg_sandbox *sb, struct cg_err *e)
{
    return (sb->base_path && cg_fs_exists(sb->base_path)) ||
           cg_fail(
               e, CG_CONFLICT,
               "the template %s was built anew since, and the base image of %s is gone: its disk "
               "is of no use without it",
               sb->spec.template_name, sb->id);
}

/* The disk, and the memory unless it is not wanted or of another shape. */
static bool place_snapshot(struct cg_creation *n, const char *dir, struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    const struct cg_snapshot *s = n->snapshot;
    bool memory =
        s->memory && !n->cold && s->cpus == sb->spec.cpus && s->memory_mb == sb->spec.memory_mb;
    cg_strlcpy(n->golden_key, sizeof n->golden_key, s->id);
    n->golden = memory && !sb->helper && cg_golden_take(n, dir);
    if (n->golden)
        return true;
    CG_OWN(cg_drop_free) char *disk_from = cg_snapshot_path(sb->core, s, "disk.img");
    CG_OWN(cg_drop_free) char *state_from = cg_snapshot_path(sb->core, s, "vm.state");
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", dir);
    n->saved = memory;
    /* a link: it is read only, and removed when the guest runs */
    return cg_copy_file(disk_from, disk, 0600, (off_t)sb->spec.disk_gb << 30, e) &&
           (!memory || link(state_from, state) == 0 || cg_fail_sys(e, "link %s", state)) &&
           (!sb->helper || cg_golden_prepare(n, e));
}

/* A template with agents is made when it is asked for the first time. What is resumed or made of a
 * snapshot has its own base image: for kernel and initramfs the plain template will do, whatever
 * has become of the agents' profiles since. */
static bool find_image(const struct cg_creation *n, struct cg_image *image, struct cg_err *e)
{
    const struct cg_image_config *c = &n->sb->core->images;
    const char *name = n->sb->spec.template_name;
    if (n->resume || n->snapshot) {
        CG_OWN(cg_drop_free) char *plain = cg_strndup(name, strcspn(name, "+"));
        return cg_image_resolve(c, plain, image, e);
    }
    return (!cg_variant_is(name) || cg_variant_build(c, name, NULL, NULL, e)) &&
           cg_image_resolve(c, name, image, e);
}

bool cg_creation_prepare(struct cg_creation *n, struct cg_err *e)
{
    struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    CG_OWN(cg_drop_free) char *run = cg_run_path(sb->core, sb->id, NULL);
    struct cg_image image = {0};
    if (!find_image(n, &image, e))
        return false;
    bool ok = sb->core->probed || n->probe_json || probe_now(n, &image, e);
    ok = ok && (n->resume || cg_fs_mkdirs(dir, 0770, e));
    ok = ok && (!n->resume || cg_fs_remove_tree(run, e)) && cg_fs_mkdirs(run, 0700, e);
    ok = ok && (n->resume || chmod(dir, 0770) == 0 || cg_fail_sys(e, "set the mode of %s", dir));
    if (!ok) {
        cg_image_finish(&image);
        return false;
    }
    if (n->resume) {
        ok = check_base(sb, e) && cg_pause_config(n, dir, e);
    } else if (n->snapshot) {
        cg_sandbox_text(&sb->base_path, n->snapshot->base_path);
        ok = check_base(sb, e) && place_snapshot(n, dir, e) && write_config(n, &image, dir, e);
    } else {
        cg_sandbox_text(&sb->base_path, image.template.base_path);
        cg_golden_key(n, &image);
        if (sb->helper && !n->spare)
            ok = cg_golden_prepare(n, e);
        else
            n->golden = cg_golden_take(n, dir);
        if (n->spare && !n->golden)
            ok = cg_fail(e, CG_NOT_FOUND, "there is no golden snapshot of that shape any more");
        ok = ok && (n->spare || write_config(n, &image, dir, e));
    }
    ok = ok && cg_prices_place(sb, dir, e) &&
         (n->resume || (sb->helper && !n->spare) || cg_scores_place(sb, dir, e)) &&
         open_files(n, &image, dir, run, e);
    cg_image_finish(&image);
    return ok;
}

bool cg_creation_personalise(struct cg_creation *n, struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    struct cg_image image = {0};
    if (!cg_image_resolve(&sb->core->images, sb->spec.template_name, &image, e))
        return false;
    bool ok = write_config(n, &image, dir, e) && cg_prices_place(sb, dir, e) &&
              cg_scores_place(sb, dir, e);
    cg_image_finish(&image);
    return ok;
}
