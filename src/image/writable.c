/* The writable disk of a sandbox: a sparse copy of a small, empty ext4 image, made longer. The
 * guest grows the file system when it mounts it, so the size of the disk costs nothing here.
 *
 * No journal: a sandbox's disk is thrown away when its guest dies, so nothing would ever replay it,
 * and writes are cheaper without. Growing needs the resize inode, laid out for 64 GiB. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/proc.h"
#include "image/template.h"

/* Counts up when the options below change; part of the file's name. */
static const char empty_name[] = "writable/1.ext4";

enum { EMPTY_MIB = 64 };

static bool make_tree(const char *dir, struct cg_err *e)
{
    static const struct {
        const char *name;
        uid_t owner;
        mode_t mode;
    } folders[] = {
        {"", 0, 0755}, {"/upper", 0, 0755}, {"/work", 0, 0755}, {"/workspace", 1000, 0755}};
    for (size_t i = 0; i < CG_COUNT(folders); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s%s", dir, folders[i].name);
        if (mkdir(path, folders[i].mode) != 0 || chmod(path, folders[i].mode) != 0)
            return cg_fail_sys(e, "create folder %s", path);
        if (geteuid() == 0 && lchown(path, folders[i].owner, folders[i].owner) != 0)
            return cg_fail_sys(e, "give %s to its owner", path);
    }
    return true;
}

static bool run_mke2fs(const char *tree, const char *image, struct cg_err *e)
{
    static const char *const options[] = {
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "0",
        "-N",
        "16384",
        "-L",
        "sandbox",
        "-O",
        "^has_journal,^orphan_file,^metadata_csum_seed,resize_inode,sparse_super",
        "-E",
        "resize=16777216,lazy_itable_init=1,nodiscard,root_owner=0:0"};
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = NULL};
    for (size_t i = 0; i < CG_COUNT(options); i++)
        cg_strv_add(&p.argv, options[i]);
    cg_strv_add(&p.argv, "-d");
    cg_strv_add(&p.argv, tree);
    cg_strv_add(&p.argv, image);
    cg_strv_addf(&p.argv, "%dM", (int)EMPTY_MIB);
    return cg_proc_run(&p, e);
}

/* Without root the copied folders belong to the user; the owners that the guest sees are set in the
 * image itself. */
static bool set_owners(const char *image, struct cg_err *e)
{
    static const struct {
        const char *path;
        int owner;
    } owners[] = {{"/upper", 0}, {"/work", 0}, {"/workspace", 1000}};
    for (size_t i = 0; i < CG_COUNT(owners); i++)
        for (int group = 0; group < 2; group++) {
            CG_OWN(cg_proc_finish) struct cg_proc p = {.out = NULL};
            cg_strv_add(&p.argv, "debugfs");
            cg_strv_add(&p.argv, "-w");
            cg_strv_add(&p.argv, "-R");
            cg_strv_addf(&p.argv, "sif %s %s %d", owners[i].path, group ? "gid" : "uid",
                         owners[i].owner);
            cg_strv_add(&p.argv, image);
            if (!cg_proc_run(&p, e))
                return false;
        }
    return true;
}

bool cg_writable_build(struct cg_task *t, struct cg_err *e)
{
    const struct cg_image_config *c = t->config;
    CG_OWN(cg_drop_free) char *to = cg_format("%s/%s", c->images_dir, empty_name);
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(t, "writable", e);
    if (lock < 0)
        return false;
    if (cg_fs_exists(to))
        return true;
    CG_OWN(cg_tmp_drop) struct cg_tmp tmp = {.path = NULL, .lock = -1};
    if (!cg_tmp_create(c, &tmp, e))
        return false;
    CG_OWN(cg_drop_free) char *tree = cg_format("%s/tree", tmp.path);
    CG_OWN(cg_drop_free) char *image = cg_format("%s/image", tmp.path);
    if (!make_tree(tree, e) || !run_mke2fs(tree, image, e) ||
        (geteuid() != 0 && !set_owners(image, e)))
        return cg_wrap(e, "make the empty disk");
    if (chmod(image, 0444) != 0)
        return cg_fail_sys(e, "chmod %s", image);
    return cg_imagedir_commit(image, to, e);
}

/* Copies the parts of `from` that hold data. */
static bool copy_sparse(int from, int to, struct cg_err *e)
{
    off_t at = 0;
    for (;;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO || cg_fail_sys(e, "read the empty disk");
        off_t hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0)
            return cg_fail_sys(e, "read the empty disk");
        char block[65536];
        for (at = data; at < hole;) {
            size_t want = CG_MIN(sizeof(block), (size_t)(hole - at));
            ssize_t n = pread(from, block, want, at);
            if (n <= 0)
                return cg_fail_sys(e, "read the empty disk");
            if (pwrite(to, block, (size_t)n, at) != n)
                return cg_fail_sys(e, "write the disk");
            at += n;
        }
    }
}

bool cg_image_make_writable(const struct cg_image_config *c, const char *path, int64_t bytes,
                            struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *empty = cg_format("%s/%s", c->images_dir, empty_name);
    if (bytes < (int64_t)EMPTY_MIB << 20)
        return cg_fail(e, CG_INVALID, "a disk has at least %d MiB", (int)EMPTY_MIB);
    CG_OWN(cg_drop_fd) int from = open(empty, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return cg_fail(e, CG_UNAVAILABLE, "no images in %s; run: caged image build", c->images_dir);
    CG_OWN(cg_drop_fd) int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return cg_fail_sys(e, "create %s", path);
    if (copy_sparse(from, to, e) && (ftruncate(to, bytes) == 0 || cg_fail_sys(e, "grow %s", path)))
        return true;
    unlink(path);
    return cg_wrap(e, "make disk %s", path);
}
