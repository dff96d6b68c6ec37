/* The initramfs: the agent as /init, the modules it loads, nothing else (kernel documentation,
 * driver-api/early-userspace/buffer-format). Written by libarchive as newc, not compressed: it is
 * about 1 MiB, and no compression made a boot measurably faster.
 *
 * Its name is the hash of everything that goes into it, so an upgraded agent gets a new file while
 * guests that boot from the old one are not disturbed. Entries carry fixed times and owners. */
#include "image/kernel.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/hash.h"
#include "image/modinfo.h"

/* Counts up when the layout below changes. */
static const char layout_version[] = "initramfs 1";

enum { AGENT_MAX = 64 << 20, LIST_MAX = 65536 };

/* data/guest-modules.txt: one name a line, '#' starts a comment. */
static bool read_list(const struct cg_image_config *c, struct cg_strv *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/guest-modules.txt", c->data_dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, LIST_MAX, &text, &n, e))
        return false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        line[strcspn(line, "#")] = '\0';
        char *inner = NULL;
        for (char *word = strtok_r(line, " \t\r", &inner); word;
             word = strtok_r(NULL, " \t\r", &inner))
            cg_strv_add(out, word);
    }
    return true;
}

bool cg_initramfs_id(const struct cg_image_config *c, const char *kernel_version, char out[65],
                     struct cg_err *e)
{
    CG_OWN(cg_strv_finish) struct cg_strv list = {.v = NULL};
    struct cg_hash h;
    cg_hash_init(&h);
    cg_hash_field(&h, layout_version);
    cg_hash_field(&h, kernel_version);
    if (!read_list(c, &list, e))
        return false;
    for (size_t i = 0; i < list.n; i++)
        cg_hash_field(&h, list.v[i]);
    cg_hash_field(&h, NULL);
    if (!cg_hash_file(&h, c->agent_path, e))
        return cg_wrap(e, "the guest agent");
    cg_hash_text(&h, out);
    out[32] = '\0'; /* 128 bits name it well enough */
    return true;
}

struct writer {
    struct archive *a;
    int64_t inode;
};

static bool put(struct writer *w, const char *path, mode_t mode, dev_t rdev, struct cg_slice data,
                struct cg_err *e)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_mode(entry, mode);
    archive_entry_set_nlink(entry, S_ISDIR(mode) ? 2 : 1);
    archive_entry_set_ino64(entry, ++w->inode);
    archive_entry_set_mtime(entry, 0, 0);
    archive_entry_set_size(entry, (la_int64_t)data.n);
    if (S_ISCHR(mode))
        archive_entry_set_rdev(entry, rdev);
    bool ok = archive_write_header(w->a, entry) == ARCHIVE_OK &&
              (data.n == 0 || archive_write_data(w->a, data.p, data.n) == (la_ssize_t)data.n);
    archive_entry_free(entry);
    return ok || cg_fail(e, CG_IO, "write initramfs: %s", archive_error_string(w->a));
}

static bool put_modules(struct writer *w, const struct cg_strv *paths, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf order;
    cg_buf_init(&order, LIST_MAX);
    for (size_t i = 0; i < paths->n; i++) {
        CG_OWN(cg_drop_buf) struct cg_buf elf;
        CG_OWN(cg_drop_free) char *name = cg_module_name(paths->v[i]);
        CG_OWN(cg_drop_free) char *to = cg_format("modules/%s.ko", name);
        if (!cg_module_read(paths->v[i], &elf, e) ||
            !put(w, to, S_IFREG | 0444, 0, cg_buf_slice(&elf), e))
            return false;
        cg_buf_addf(&order, "%s.ko\n", name);
    }
    return put(w, "modules/order", S_IFREG | 0444, 0, cg_buf_slice(&order), e);
}

static bool put_all(struct writer *w, const struct cg_image_config *c, const struct cg_strv *paths,
                    struct cg_err *e)
{
    static const char *const folders[] = {"dev", "proc", "sys", "run", "root", "modules"};
    static const struct cg_slice none = {.p = NULL};
    CG_OWN(cg_drop_free) char *agent = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(c->agent_path, AGENT_MAX, &agent, &n, e))
        return false;
    for (size_t i = 0; i < CG_COUNT(folders); i++)
        if (!put(w, folders[i], S_IFDIR | 0755, 0, none, e))
            return false;
    return put(w, "dev/console", S_IFCHR | 0600, makedev(5, 1), none, e) &&
           put(w, "init", S_IFREG | 0755, 0, (struct cg_slice){.p = agent, .n = n}, e) &&
           put_modules(w, paths, e);
}

static bool write_cpio(const struct cg_image_config *c, const struct cg_strv *paths, const char *to,
                       struct cg_err *e)
{
    struct writer w = {.a = archive_write_new()};
    archive_write_set_format_cpio_newc(w.a);
    archive_write_add_filter_none(w.a);
    archive_write_set_bytes_in_last_block(w.a, 1);
    bool ok = archive_write_open_filename(w.a, to) == ARCHIVE_OK ||
              cg_fail(e, CG_IO, "open %s: %s", to, archive_error_string(w.a));
    ok = ok && put_all(&w, c, paths, e);
    ok = ok && (archive_write_close(w.a) == ARCHIVE_OK ||
                cg_fail(e, CG_IO, "write %s: %s", to, archive_error_string(w.a)));
    archive_write_free(w.a);
    return ok && (chmod(to, 0444) == 0 || cg_fail_sys(e, "chmod %s", to));
}

static bool make(struct cg_task *t, const struct cg_boot *boot, const char *id, const char *to,
                 struct cg_err *e)
{
    CG_OWN(cg_strv_finish) struct cg_strv list = {.v = NULL};
    CG_OWN(cg_strv_finish) struct cg_strv paths = {.v = NULL};
    CG_OWN(cg_tmp_drop) struct cg_tmp tmp = {.path = NULL, .lock = -1};
    if (!cg_task_step(t, 10, "packing", e) || !read_list(t->config, &list, e) ||
        !cg_module_resolve(boot->modules_dir, &list, &paths, e) ||
        !cg_tmp_create(t->config, &tmp, e))
        return false;
    CG_OWN(cg_drop_free) char *file = cg_format("%s/%s.cpio", tmp.path, id);
    return write_cpio(t->config, &paths, file, e) && cg_imagedir_commit(file, to, e);
}

bool cg_initramfs_build(struct cg_task *t, struct cg_err *e)
{
    const struct cg_image_config *c = t->config;
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(t, "boot", e);
    CG_OWN(cg_drop_boot) struct cg_boot boot = {.kernel_path = NULL};
    char id[CG_HASH_TEXT];
    if (lock < 0 || !cg_boot_load(c, &boot, e) || !cg_initramfs_id(c, boot.kernel_version, id, e))
        return false;
    CG_OWN(cg_drop_free) char *to = cg_format("%s/initramfs/%s.cpio", c->images_dir, id);
    t->cached = cg_fs_exists(to);
    if (!t->cached && !make(t, &boot, id, to, e))
        return cg_wrap(e, "build the initramfs");
    if (!cg_streq(boot.initramfs_id, id) &&
        !cg_boot_save(c, boot.kernel_id, boot.kernel_version, id, e))
        return false;
    return cg_task_step(t, 100, "done", e);
}
