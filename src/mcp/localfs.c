/* Files of the local backend. The kernel keeps every path beneath the workspace (openat2,
 * RESOLVE_BENEATH), symbolic links included, so nothing has to be checked beforehand. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "mcp/inlocal.h"

enum { ENTRIES_MAX = 10000, DEPTH_MAX = 256 };

/* An absolute path inside the workspace is taken as well. */
static const char *relative(const struct cg_mcp_local *l, const char *path)
{
    size_t n = strlen(l->root);
    if (strncmp(path, l->root, n) == 0 && (path[n] == '/' || !path[n]))
        path += n + strspn(path + n, "/");
    return path[0] ? path : ".";
}

static int open_beneath(int dir, const char *path, int flags, mode_t mode)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                           .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void fail(struct cg_mcp_call *c, const char *what, const char *path)
{
    struct cg_err e = CG_ERR_INIT;
    if (errno == EXDEV)
        cg_fail(&e, CG_FORBIDDEN, "%.150s is outside of the workspace", path);
    else
        cg_fail_sys(&e, "%s %.120s", what, path);
    cg_mcp_failed(c, &e);
}

void cg_mcp_local_read(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path)
{
    struct stat st;
    CG_OWN(cg_drop_fd)
    int fd = open_beneath(l->dir, relative(l, path), O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_MCP_TEXT_MAX);
    if (fd < 0 || fstat(fd, &st) != 0) {
        fail(c, "read", path);
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        fail(c, "read", path);
        return;
    }
    ssize_t n = 1;
    while (n > 0) {
        char *room = cg_buf_room(&b, 65536);
        if (!room)
            errno = EFBIG;
        n = room ? read(fd, room, 65536) : -1;
        if (n > 0)
            cg_buf_grew(&b, (size_t)n);
    }
    if (n < 0)
        fail(c, "read", path);
    else
        cg_mcp_done(c, cg_buf_slice(&b));
}

/* The folders above the last name are made; *last is what stands behind the last slash. */
static int open_parent(const struct cg_mcp_local *l, const char *path, bool make, const char **last)
{
    int dir = open_beneath(l->dir, ".", O_PATH | O_DIRECTORY, 0);
    CG_OWN(cg_drop_free) char *copy = cg_strdup(path);
    const char *slash = strrchr(path, '/');
    *last = slash ? slash + 1 : path;
    if (!slash)
        return dir;
    copy[slash - path] = '\0';
    for (char *p = copy; dir >= 0 && p; p = p ? p + 1 : NULL) {
        char *cut = strchr(p, '/');
        if (cut)
            *cut = '\0';
        /* from the root every time: a name may be a link that leads elsewhere beneath it */
        int next = open_beneath(l->dir, copy, O_PATH | O_DIRECTORY, 0);
        if (next < 0 && errno == ENOENT && make && p[0] && mkdirat(dir, p, 0755) == 0)
            next = open_beneath(l->dir, copy, O_PATH | O_DIRECTORY, 0);
        int sys = errno;
        close(dir);
        errno = sys;
        dir = next;
        if (cut)
            *cut = '/';
        p = cut;
    }
    return dir;
}

void cg_mcp_local_write(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path,
                        struct cg_slice bytes)
{
    const char *last = NULL;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_fd) int dir = open_parent(l, relative(l, path), true, &last);
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY;
    CG_OWN(cg_drop_fd)
    int fd = dir >= 0 ? open_beneath(l->dir, relative(l, path), flags, 0644) : -1;
    if (fd < 0)
        fail(c, "write", path);
    else if (!cg_fd_write_full(fd, bytes.p, bytes.n, &e))
        cg_mcp_failed(c, &e);
    else
        cg_mcp_done(c, (struct cg_slice){0});
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void cg_mcp_local_list(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path)
{
    int fd = open_beneath(l->dir, relative(l, path), O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        fail(c, "list", path);
        cg_drop_fd(&fd);
        return;
    }
    CG_OWN(cg_drop_free) char **names = cg_alloc(ENTRIES_MAX * sizeof *names);
    size_t n = 0;
    for (struct dirent *at; n < ENTRIES_MAX && (at = readdir(d));)
        if (strcmp(at->d_name, ".") != 0 && strcmp(at->d_name, "..") != 0)
            names[n++] = cg_strdup(at->d_name);
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        if (fstatat(dirfd(d), names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            cg_mcp_entry(c, names[i], S_ISDIR(st.st_mode), st.st_size);
        free(names[i]);
    }
    closedir(d);
    cg_mcp_done(c, (struct cg_slice){0});
}

static bool remove_at(int dir, const char *name, unsigned depth)
{
    if (unlinkat(dir, name, 0) == 0)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return false;
    int fd =
        depth < DEPTH_MAX ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    bool fine = d != NULL;
    for (struct dirent *at; fine && (at = readdir(d));)
        if (strcmp(at->d_name, ".") != 0 && strcmp(at->d_name, "..") != 0)
            fine = remove_at(dirfd(d), at->d_name, depth + 1);
    if (d)
        closedir(d);
    return fine && unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

void cg_mcp_local_remove(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path)
{
    const char *last = NULL;
    CG_OWN(cg_drop_free) char *plain = cg_strdup(relative(l, path));
    for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
        plain[n - 1] = '\0';
    CG_OWN(cg_drop_fd) int dir = open_parent(l, plain, false, &last);
    if (dir >= 0 && (!last[0] || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)) {
        errno = EINVAL;
        fail(c, "delete", path);
        return;
    }
    if (dir < 0 || !remove_at(dir, last, 0))
        fail(c, "delete", path);
    else
        cg_mcp_done(c, (struct cg_slice){0});
}
