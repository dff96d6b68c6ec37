#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool cg_fs_slurp(const char *path, size_t max, char **out, size_t *n, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return cg_fail_sys(e, "open %s", path);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, max);
    for (;;) {
        size_t want = CG_MIN(max - b.n, (size_t)65536);
        char *room = cg_buf_room(&b, want);
        char probe;
        ssize_t got = read(fd, want ? room : &probe, want ? want : 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cg_fail_sys(e, "read %s", path);
        if (got == 0)
            break;
        if (want == 0)
            return cg_fail(e, CG_TOO_LARGE, "%s is larger than %zu bytes", path, max);
        cg_buf_grew(&b, (size_t)got);
    }
    if (n)
        *n = b.n;
    *out = cg_buf_take(&b);
    return true;
}

static bool sync_parent(const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_strdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    CG_OWN(cg_drop_fd) int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return cg_fail_sys(e, "sync the folder of %s", path);
    return true;
}

static bool replace(const char *path, const void *p, size_t n, mode_t mode, bool sync,
                    struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *tmp = cg_format("%s.new.%ld", path, (long)getpid());
    CG_OWN(cg_drop_fd) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return cg_fail_sys(e, "create %s", tmp);
    bool ok = fchmod(fd, mode) == 0 || cg_fail_sys(e, "set the mode of %s", tmp);
    ok = ok && cg_fd_write_full(fd, p, n, e);
    ok = ok && (!sync || fsync(fd) == 0 || cg_fail_sys(e, "sync %s", tmp));
    ok = ok && (rename(tmp, path) == 0 || cg_fail_sys(e, "rename %s to %s", tmp, path));
    if (!ok)
        unlink(tmp);
    return ok;
}

bool cg_fs_replace(const char *path, const void *p, size_t n, mode_t mode, struct cg_err *e)
{
    return replace(path, p, n, mode, true, e) && sync_parent(path, e);
}

static bool says(const char *path, const void *p, size_t n)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t size = 0;
    return cg_fs_slurp(path, n, &text, &size, NULL) && text && size == n && memcmp(text, p, n) == 0;
}

bool cg_fs_place(const char *path, const void *p, size_t n, mode_t mode, struct cg_err *e)
{
    return says(path, p, n) || replace(path, p, n, mode, false, e);
}

bool cg_fs_mkdirs(const char *path, mode_t mode, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(path);
    for (char *at = copy + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char c = *at;
        *at = '\0';
        if (mkdir(copy, mode) != 0 && errno != EEXIST)
            return cg_fail_sys(e, "create folder %s", copy);
        *at = c;
        if (c == '\0')
            break;
    }
    struct stat st;
    if (stat(path, &st) != 0)
        return cg_fail_sys(e, "create folder %s", path);
    return S_ISDIR(st.st_mode) || cg_fail(e, CG_CONFLICT, "%s is not a folder", path);
}

enum { MAX_DEPTH = 256 };

static bool remove_at(int dir, const char *name, dev_t dev, int depth, struct cg_err *e);

static bool remove_entries(int fd, dev_t dev, int depth, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int again = dup(fd);
    CG_OWN(cg_drop_dir) DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d)
        return cg_fail_sys(e, "list a folder to remove");
    again = -1; /* the stream owns it */
    struct dirent *entry;
    while ((entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!remove_at(dirfd(d), entry->d_name, dev, depth + 1, e))
            return false;
    }
    return true;
}

/* Removes one entry; `dev` is 0 at the top, where the entry itself sets it. */
static bool remove_at(int dir, const char *name, dev_t dev, int depth, struct cg_err *e)
{
    if (depth > MAX_DEPTH)
        return cg_fail(e, CG_TOO_LARGE, "remove %s: folders nested deeper than %d", name,
                       (int)MAX_DEPTH);
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || cg_fail_sys(e, "remove %s", name);
    if (dev != 0 && st.st_dev != dev)
        return cg_fail(e, CG_CONFLICT, "remove %s: something is mounted there", name);
    if (S_ISDIR(st.st_mode)) {
        CG_OWN(cg_drop_fd)
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return cg_fail_sys(e, "remove %s", name);
        if (!remove_entries(fd, st.st_dev, depth, e))
            return cg_wrap(e, "%s", name);
    }
    if (unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT)
        return cg_fail_sys(e, "remove %s", name);
    return true;
}

bool cg_fs_remove_tree(const char *path, struct cg_err *e)
{
    return remove_at(AT_FDCWD, path, 0, 0, e);
}

bool cg_fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
