/* The images directory as a place where builds happen.
 *
 * Nothing is ever built in place. A build works in tmp/<random>/, which holds a locked file for as
 * long as its process lives; the result is synced and renamed to a name that says its content, and
 * last a small JSON file that points to it is replaced. So a build that is killed at any moment
 * leaves only a folder in tmp/, and the next build removes it because its lock is free. */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "image/proc.h"

static const char shared_prefix[] = "/var/tmp/caged-";

void cg_task_init(struct cg_task *t, const struct cg_image_config *c,
                  const struct cg_image_build *b, const char *item)
{
    *t = (struct cg_task){
        .config = c, .request = b, .item = item, .phase = "", .started_ns = cg_mono_ns()};
}

bool cg_task_tick(struct cg_task *t)
{
    if (!t->request || !t->request->progress)
        return true;
    struct cg_image_progress p = {.item = t->item,
                                  .phase = t->phase,
                                  .percent = t->percent,
                                  .elapsed_ms = (cg_mono_ns() - t->started_ns) / 1000000,
                                  .cached = t->cached};
    return t->request->progress(t->request->ctx, &p);
}

bool cg_task_at(struct cg_task *t, int percent, const char *phase)
{
    t->percent = CG_MAX(t->percent, percent);
    t->phase = phase;
    return cg_task_tick(t);
}

bool cg_task_step(struct cg_task *t, int percent, const char *phase, struct cg_err *e)
{
    return cg_task_at(t, percent, phase) || cg_fail(e, CG_CLOSED, "interrupted");
}

/* Removes the folder that helpers shared, and the one above it that hides its name. What belongs to
 * subordinate uids goes first, by a helper in their namespace. */
static bool remove_shared(char *shared)
{
    struct cg_err ignored = CG_ERR_INIT;
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = NULL};
    char *slash = strrchr(shared, '/');
    CG_OWN(cg_drop_free) char *above = cg_strndup(shared, (size_t)(slash - shared));
    if (cg_fs_remove_tree(above, &ignored))
        return true;
    static const char *const helper[] = {"mmdebstrap", "--unshare-helper", "rm", "-rf", "--"};
    for (size_t i = 0; i < CG_COUNT(helper); i++)
        cg_strv_add(&p.argv, helper[i]);
    cg_strv_add(&p.argv, shared);
    if (!cg_proc_run(&p, &ignored)) {
        /* It cannot remove the folder itself, which is ours. */
    }
    return cg_fs_remove_tree(above, &ignored);
}

/* Removes a build's folder, and the one that its link `shared` names. The link stays until that is
 * gone, so that a later sweep can try again. */
static void remove_build(const char *dir)
{
    CG_OWN(cg_drop_free) char *link = cg_format("%s/shared", dir);
    struct cg_err ignored = CG_ERR_INIT;
    char shared[256];
    ssize_t n = readlink(link, shared, sizeof(shared) - 1);
    if (n > 0) {
        shared[n] = '\0';
        if (!cg_has_prefix(shared, shared_prefix) || !remove_shared(shared))
            return;
    }
    if (!cg_fs_remove_tree(dir, &ignored))
        return;
}

static void sweep(const struct cg_image_config *c)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/tmp", c->images_dir);
    CG_OWN(cg_drop_dir) DIR *d = opendir(path);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (entry->d_name[0] == '.')
            continue;
        CG_OWN(cg_drop_free) char *dir = cg_format("%s/%s", path, entry->d_name);
        CG_OWN(cg_drop_free) char *file = cg_format("%s/lock", dir);
        CG_OWN(cg_drop_fd) int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_build(dir);
    }
}

bool cg_imagedir_open(const struct cg_image_config *c, struct cg_err *e)
{
    static const struct {
        const char *name;
        mode_t mode;
    } folders[] = {{"kernels", 0755}, {"initramfs", 0755}, {"templates", 0755}, {"writable", 0755},
                   {"logs", 0755},    {"locks", 0755},     {"tmp", 0700}};
    if (!cg_fs_mkdirs(c->images_dir, 0755, e))
        return false;
    for (size_t i = 0; i < CG_COUNT(folders); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", c->images_dir, folders[i].name);
        if (mkdir(path, folders[i].mode) != 0 && errno != EEXIST)
            return cg_fail_sys(e, "create folder %s", path);
    }
    sweep(c);
    return true;
}

int cg_imagedir_lock(struct cg_task *t, const char *name, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/locks/%s", t->config->images_dir, name);
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        cg_fail_sys(e, "open %s", path);
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            cg_fail_sys(e, "lock %s", path);
            return -1;
        }
        if (!cg_task_step(t, 0, "waiting for another build", e))
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return CG_MOVE_FD(fd);
}

bool cg_imagedir_locked(const struct cg_image_config *c, const char *name)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/locks/%s", c->images_dir, name);
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

bool cg_tmp_create(const struct cg_image_config *c, struct cg_tmp *t, struct cg_err *e)
{
    char id[CG_ID_TEXT];
    cg_id_make("b", id);
    *t = (struct cg_tmp){.path = cg_format("%s/tmp/%s", c->images_dir, id), .lock = -1};
    if (mkdir(t->path, 0700) != 0)
        return cg_fail_sys(e, "create folder %s", t->path);
    CG_OWN(cg_drop_free) char *file = cg_format("%s/lock", t->path);
    t->lock = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (t->lock < 0 || flock(t->lock, LOCK_EX | LOCK_NB) != 0)
        return cg_fail_sys(e, "lock %s", file);
    return true;
}

bool cg_tmp_share(struct cg_tmp *t, struct cg_err *e)
{
    if (geteuid() == 0) {
        t->shared = cg_strdup(t->path);
        return true;
    }
    char top[sizeof(shared_prefix) + 6];
    char name[CG_ID_TEXT], more[CG_ID_TEXT];
    CG_OWN(cg_drop_free) char *link = cg_format("%s/shared", t->path);
    cg_snprintf(top, sizeof(top), "%sXXXXXX", shared_prefix);
    cg_id_make("j", name);
    cg_id_make("j", more);
    if (!mkdtemp(top))
        return cg_fail_sys(e, "create folder %s", top);
    t->shared = cg_format("%s/%s%s", top, name, more);
    if (symlink(t->shared, link) != 0 || chmod(top, 0711) != 0 || mkdir(t->shared, 0777) != 0 ||
        chmod(t->shared, 0777) != 0)
        return cg_fail_sys(e, "create folder %s", t->shared);
    return true;
}

void cg_tmp_drop(struct cg_tmp *t)
{
    int kept = errno;
    if (t->path)
        remove_build(t->path);
    cg_drop_fd(&t->lock);
    free(CG_MOVE(t->path));
    free(CG_MOVE(t->shared));
    errno = kept;
}

static bool sync_one(const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return cg_fail_sys(e, "sync %s", path);
    return true;
}

static bool sync_tree(const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(path);
    char *roots[] = {copy, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk)
        return cg_fail_sys(e, "walk %s", path);
    bool ok = true;
    for (FTSENT *at = fts_read(walk); ok && at; at = fts_read(walk))
        if (at->fts_info == FTS_F || at->fts_info == FTS_DP)
            ok = sync_one(at->fts_path, e);
    fts_close(walk);
    return ok;
}

bool cg_imagedir_commit(const char *from, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *folder = cg_strndup(to, (size_t)(strrchr(to, '/') - to));
    if (!cg_fs_mkdirs(folder, 0755, e) || !sync_tree(from, e))
        return false;
    if (rename(from, to) != 0 && errno != ENOTEMPTY && errno != EEXIST)
        return cg_fail_sys(e, "rename %s to %s", from, to);
    return sync_one(folder, e);
}
