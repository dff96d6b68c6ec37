#include "guest/agent/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

int resolve_open(int dir, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_NO_MAGICLINKS | (dir >= 0 ? RESOLVE_BENEATH : 0),
    };
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, dir >= 0 ? dir : AT_FDCWD, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN || tries > 100) /* EAGAIN: a rename raced with the walk */
            return (int)fd;
    }
}

bool resolve_stat(int dir, const char *path, struct stat *st, char *target, size_t size)
{
    target[0] = '\0';
    CG_OWN(cg_drop_fd) int fd = resolve_open(dir, path, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0 || fstat(fd, st) != 0)
        return false;
    ssize_t n = S_ISLNK(st->st_mode) ? readlinkat(fd, "", target, size - 1) : 0;
    target[n > 0 ? n : 0] = '\0';
    return true;
}

void place_init(struct place *p)
{
    *p = (struct place){.dir = -1, .path = p->full};
}

void place_finish(struct place *p)
{
    cg_drop_fd(&p->dir);
}

bool place_set(struct place *p, const char *path, const char *beneath, struct cg_err *e)
{
    if (!cg_strlcpy(p->full, sizeof p->full, path))
        return cg_fail(e, CG_INVALID, "a path has more than %zu bytes", sizeof p->full - 1);
    p->path = p->full;
    if (!beneath)
        return true;
    size_t n = strlen(beneath);
    while (n > 0 && beneath[n - 1] == '/')
        n--;
    if (strncmp(path, beneath, n) != 0 || (path[n] != '/' && path[n] != '\0'))
        return cg_fail(e, CG_FORBIDDEN, "%.100s is not below %.60s", path, beneath);
    p->dir = resolve_open(-1, n > 0 ? beneath : "/", O_PATH | O_DIRECTORY, 0);
    p->path += n;
    while (*p->path == '/')
        p->path++;
    if (*p->path == '\0')
        p->path = ".";
    return p->dir >= 0 || cg_fail_sys(e, "%.100s", beneath);
}

bool resolve_mkdirs(int dir, const char *path, mode_t mode)
{
    char part[PATH_BYTES];
    if (!cg_strlcpy(part, sizeof part, path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char c = *at;
        *at = '\0';
        CG_OWN(cg_drop_fd) int have = resolve_open(dir, part, O_PATH | O_DIRECTORY, 0);
        if (have < 0) {
            const char *name;
            CG_OWN(cg_drop_fd) int parent = resolve_parent(dir, part, false, &name);
            if (parent < 0 || (mkdirat(parent, name, mode) != 0 && errno != EEXIST))
                return false;
        }
        *at = c;
        if (c == '\0')
            return true;
    }
}

int resolve_parent(int dir, const char *path, bool make, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (**name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) {
        errno = EINVAL;
        return -1;
    }
    char parent[PATH_BYTES];
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof parent) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(parent, path, n);
    parent[n] = '\0';
    const char *folder = n > 0 ? parent : slash ? "/" : ".";
    if (make && n > 0 && !resolve_mkdirs(dir, parent, 0755))
        return -1;
    return resolve_open(dir, folder, O_PATH | O_DIRECTORY, 0);
}
