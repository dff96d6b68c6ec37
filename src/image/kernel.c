/* The guest's kernel: the distribution's cloud kernel package, taken with the machine's own apt
 * configuration (so signatures, mirrors and proxies are the operator's) and unpacked, not
 * installed.
 *
 * The series is fixed per release: on Debian 12 it is 6.1, because QEMU 7.2's TCG trips over later
 * kernels and 6.1 boots faster; the choice is a table here and not a matter of apt pins. */
#include "image/kernel.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "image/host.h"
#include "image/proc.h"

void cg_boot_finish(struct cg_boot *b)
{
    free(b->kernel_id);
    free(b->kernel_path);
    free(b->kernel_version);
    free(b->modules_dir);
    free(b->initramfs_path);
    free(b->initramfs_id);
    *b = (struct cg_boot){.kernel_path = NULL};
}

void cg_drop_boot(struct cg_boot *b)
{
    cg_boot_finish(b);
}

static void drop_json(struct cg_json **j)
{
    cg_json_destroy(*j);
}

bool cg_boot_load(const struct cg_image_config *c, struct cg_boot *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/boot.json", c->images_dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    *out = (struct cg_boot){.kernel_path = NULL};
    if (!cg_fs_slurp(path, 65536, &text, &n, e))
        return false;
    CG_OWN(drop_json)
    struct cg_json *j = cg_json_parse((struct cg_slice){.p = text, .n = n}, NULL, e);
    const char *id = cg_json_str(j, "kernel");
    const char *version = cg_json_str(j, "kernel_version");
    const char *initramfs = cg_json_str(j, "initramfs");
    if (!id || !version)
        return cg_fail(e, CG_IO, "%s is damaged; build again with --force", path);
    out->kernel_id = cg_strdup(id);
    out->kernel_path = cg_format("%s/kernels/%s/vmlinuz", c->images_dir, id);
    out->modules_dir = cg_format("%s/kernels/%s/modules", c->images_dir, id);
    out->kernel_version = cg_strdup(version);
    if (initramfs) {
        out->initramfs_id = cg_strdup(initramfs);
        out->initramfs_path = cg_format("%s/initramfs/%s.cpio", c->images_dir, initramfs);
    }
    return true;
}

bool cg_boot_save(const struct cg_image_config *c, const char *kernel_id,
                  const char *kernel_version, const char *initramfs_id, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/boot.json", c->images_dir);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_jsonw w;
    cg_buf_init(&text, 65536);
    cg_jsonw_init(&w, &text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kernel", kernel_id);
    cg_jsonw_kstr(&w, "kernel_version", kernel_version);
    cg_jsonw_kstr(&w, "initramfs", initramfs_id);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(&text, '\n');
    return cg_fs_replace(path, text.p, text.n, 0644, e);
}

struct package {
    char *name;
    char *version;
    struct cg_strv apt; /* options that make apt look at fresh lists of ours; usually empty */
};

static void drop_package(struct package *p)
{
    free(p->name);
    free(p->version);
    cg_strv_finish(&p->apt);
}

/* The value of "Key:" in one stanza line, or NULL. */
static const char *field(const char *line, const char *key)
{
    size_t n = strlen(key);
    if (strncmp(line, key, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " ");
}

/* Reads `apt-cache show` of a metapackage: newest version first, so the first dependency on an
 * image of the wanted series is the one. */
static void pick_image(char *text, const char *series, struct package *out)
{
    CG_OWN(cg_drop_free) char *want = cg_format("linux-image-%s", series);
    CG_OWN(cg_drop_free) char *version = NULL;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *v = field(line, "Version");
        if (v) {
            free(version);
            version = cg_strdup(v);
        }
        const char *d = field(line, "Depends");
        while (d && *d) {
            if (cg_has_prefix(d, want)) {
                out->name = cg_strndup(d, strcspn(d, " ,("));
                out->version = cg_strdup(version ? version : "");
                return;
            }
            d += strcspn(d, ",");
            d += strspn(d, ", ");
        }
    }
}

static bool find_package(struct cg_task *t, const struct cg_host *host, struct package *out,
                         struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 4 << 20);
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = &text};
    cg_strv_add(&p.argv, "apt-cache");
    cg_strv_add_all(&p.argv, &out->apt);
    cg_strv_add(&p.argv, "show");
    cg_strv_add(&p.argv, host->kernel_package);
    if (!cg_task_step(t, 2, "looking for the kernel package", e) || !cg_proc_run(&p, e))
        return false;
    cg_buf_addc(&text, '\0');
    pick_image(text.p, host->kernel_series, out);
    if (!out->name)
        return cg_fail(e, CG_UNAVAILABLE, "the package lists have no %s that needs linux-image-%s*",
                       host->kernel_package, host->kernel_series);
    return true;
}

static bool on_line(void *ctx, const char *line)
{
    (void)line;
    return cg_task_tick(ctx);
}

static bool download(struct cg_task *t, const struct package *k, const char *dir, struct cg_err *e)
{
    CG_OWN(cg_proc_finish) struct cg_proc p = {.cwd = dir, .line = on_line, .ctx = t};
    CG_ASSERT(k->name);
    cg_strv_add(&p.argv, "apt-get");
    cg_strv_add_all(&p.argv, &k->apt);
    cg_strv_add(&p.argv, "-qq");
    cg_strv_add(&p.argv, "-o");
    cg_strv_add(&p.argv, "APT::Sandbox::User=root");
    cg_strv_add(&p.argv, "download");
    cg_strv_add(&p.argv, k->name);
    /* Ubuntu keeps most modules in a package of their own. */
    if (!strstr(k->name, "-cloud-") && cg_has_suffix(k->name, "-generic"))
        cg_strv_addf(&p.argv, "linux-modules-%s", k->name + strlen("linux-image-"));
    return cg_task_step(t, 10, "downloading", e) && cg_proc_run(&p, e);
}

/* Package lists of our own below `dir`, for a machine whose lists are missing or out of date. */
static bool refresh_lists(struct cg_task *t, const char *dir, struct package *k, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *lists = cg_format("%s/apt/lists/partial", dir);
    CG_OWN(cg_drop_free) char *cache = cg_format("%s/apt/cache/archives/partial", dir);
    if (!cg_fs_mkdirs(lists, 0700, e) || !cg_fs_mkdirs(cache, 0700, e))
        return false;
    cg_strv_add(&k->apt, "-o");
    cg_strv_addf(&k->apt, "Dir::State::lists=%s/apt/lists", dir);
    cg_strv_add(&k->apt, "-o");
    cg_strv_addf(&k->apt, "Dir::Cache=%s/apt/cache", dir);
    CG_OWN(cg_proc_finish) struct cg_proc p = {.line = on_line, .ctx = t};
    cg_strv_add(&p.argv, "apt-get");
    cg_strv_add_all(&p.argv, &k->apt);
    cg_strv_add(&p.argv, "-qq");
    cg_strv_add(&p.argv, "-o");
    cg_strv_add(&p.argv, "APT::Sandbox::User=root");
    cg_strv_add(&p.argv, "update");
    return cg_task_step(t, 5, "reading package lists", e) && cg_proc_run(&p, e);
}

static bool fetch(struct cg_task *t, const char *dir, const char *debs, struct package *k,
                  struct cg_err *e)
{
    struct cg_host host;
    CG_OWN(cg_host_drop) struct cg_host *own = &host;
    if (!cg_host_read(own, e))
        return false;
    if (find_package(t, own, k, e) && download(t, k, debs, e))
        return true;
    if (e->code == CG_CLOSED)
        return false;
    free(CG_MOVE(k->name));
    free(CG_MOVE(k->version));
    return refresh_lists(t, dir, k, e) && find_package(t, own, k, e) && download(t, k, debs, e);
}

static bool unpack(struct cg_task *t, const char *debs, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir(debs);
    struct dirent *entry;
    if (!d)
        return cg_fail_sys(e, "open %s", debs);
    while ((entry = readdir(d))) {
        if (!cg_has_suffix(entry->d_name, ".deb"))
            continue;
        CG_OWN(cg_proc_finish) struct cg_proc p = {.line = on_line, .ctx = t};
        cg_strv_add(&p.argv, "dpkg-deb");
        cg_strv_add(&p.argv, "-x");
        cg_strv_addf(&p.argv, "%s/%s", debs, entry->d_name);
        cg_strv_add(&p.argv, to);
        if (!cg_task_step(t, 60, "unpacking", e) || !cg_proc_run(&p, e))
            return false;
    }
    return true;
}

/* Brings what we keep of the package into `out`: vmlinuz and modules/. */
static bool arrange(const char *tree, const char *version, const char *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *vmlinuz = cg_format("%s/boot/vmlinuz-%s", tree, version);
    CG_OWN(cg_drop_free) char *to = cg_format("%s/vmlinuz", out);
    CG_OWN(cg_drop_free) char *modules = cg_format("%s/lib/modules/%s", tree, version);
    CG_OWN(cg_drop_free) char *merged = cg_format("%s/usr/lib/modules/%s", tree, version);
    CG_OWN(cg_drop_free) char *modules_to = cg_format("%s/modules", out);
    if (mkdir(out, 0755) != 0)
        return cg_fail_sys(e, "create folder %s", out);
    if (rename(vmlinuz, to) != 0 || chmod(to, 0644) != 0)
        return cg_fail_sys(e, "the kernel package has no %s", vmlinuz);
    if (rename(cg_fs_exists(modules) ? modules : merged, modules_to) != 0)
        return cg_fail_sys(e, "the kernel package has no %s", modules);
    return true;
}

static bool build_kernel(struct cg_task *t, struct cg_err *e)
{
    const struct cg_image_config *c = t->config;
    CG_OWN(cg_tmp_drop) struct cg_tmp tmp = {.path = NULL, .lock = -1};
    CG_OWN(drop_package) struct package k = {.name = NULL};
    if (!cg_tmp_create(c, &tmp, e))
        return false;
    CG_OWN(cg_drop_free) char *debs = cg_format("%s/debs", tmp.path);
    CG_OWN(cg_drop_free) char *tree = cg_format("%s/tree", tmp.path);
    CG_OWN(cg_drop_free) char *out = cg_format("%s/out", tmp.path);
    if (!cg_fs_mkdirs(debs, 0755, e) || !fetch(t, tmp.path, debs, &k, e) ||
        !unpack(t, debs, tree, e))
        return false;
    CG_ASSERT(k.name);
    const char *version = k.name + strlen("linux-image-");
    CG_OWN(cg_drop_free) char *id = cg_format("%s_%s", version, k.version);
    CG_OWN(cg_drop_free) char *to = cg_format("%s/kernels/%s", c->images_dir, id);
    return arrange(tree, version, out, e) && cg_task_step(t, 80, "writing to disk", e) &&
           cg_imagedir_commit(out, to, e) && cg_boot_save(c, id, version, NULL, e);
}

bool cg_kernel_build(struct cg_task *t, bool force, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(t, "boot", e);
    if (lock < 0)
        return false;
    CG_OWN(cg_drop_boot) struct cg_boot boot = {.kernel_path = NULL};
    struct cg_err absent = CG_ERR_INIT;
    t->cached = !force && cg_boot_load(t->config, &boot, &absent) &&
                cg_fs_exists(boot.kernel_path) && cg_fs_exists(boot.modules_dir);
    if (!t->cached && !build_kernel(t, e))
        return cg_wrap(e, "build the kernel");
    return cg_task_step(t, 100, "done", e);
}
