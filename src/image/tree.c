/* Paths inside a tree that somebody else filled. The kernel resolves them with the tree as root
 * (openat2, RESOLVE_IN_ROOT) down to the folder that holds an entry; the entry itself is then named
 * in that folder and never followed. See layer.c for what this protects. */
#include "image/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"

/* The depth is under cg_fs_remove_tree's bound, so that what was made can be removed again. */
enum { DEPTH_MAX = 200, PATH_MAX_BYTES = 3000 };

int cg_tree_open(const struct cg_tree *tree, const char *path, int flags, mode_t mode)
{
    struct open_how how = {.flags = (uint64_t)((unsigned)flags | O_CLOEXEC),
                           .mode = mode,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, tree->fd, *path ? path : ".", &how, sizeof(how));
}

bool cg_tree_mkdirs(const struct cg_tree *tree, const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(path);
    for (char *at = copy;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char c = *at;
        *at = '\0';
        CG_OWN(cg_drop_fd) int have = cg_tree_open(tree, copy, O_PATH | O_DIRECTORY, 0);
        if (have < 0 && errno == ENOENT && *copy) {
            char *slash = strrchr(copy, '/');
            const char *name = slash ? slash + 1 : copy;
            CG_OWN(cg_drop_free)
            char *above = slash ? cg_strndup(copy, (size_t)(slash - copy)) : cg_strdup("");
            CG_OWN(cg_drop_fd) int dir = cg_tree_open(tree, above, O_PATH | O_DIRECTORY, 0);
            if (dir >= 0 && !cg_tree_holds(tree, dir, e))
                return false;
            if (dir < 0 || mkdirat(dir, name, 0755) != 0)
                return errno == EEXIST
                           ? cg_fail(e, CG_PROTOCOL, "%.100s is a link to nowhere", copy)
                           : cg_fail_sys(e, "create folder %.100s", copy);
        } else if (have < 0) {
            return cg_fail(e, CG_PROTOCOL, "%.100s is not a folder", copy);
        }
        *at = c;
        if (c == '\0')
            return true;
    }
}

void cg_place_drop(struct cg_place *p)
{
    cg_drop_fd(&p->dir);
    free(p->name);
}

/* Splits off "./", "/" and double slashes; refuses "..". The caller's, "" for the tree itself. */
static char *clean_path(const char *path, struct cg_err *e)
{
    char *out = cg_alloc(strlen(path) + 1);
    size_t n = 0;
    while (*path) {
        size_t len = strcspn(path, "/");
        if (len == 2 && path[0] == '.' && path[1] == '.') {
            free(out);
            cg_fail(e, CG_PROTOCOL, "an entry's name holds \"..\"");
            return NULL;
        }
        if (len > 0 && !(len == 1 && path[0] == '.')) {
            if (n > 0)
                out[n++] = '/';
            memcpy(out + n, path, len);
            n += len;
        }
        path += len + (path[len] == '/');
    }
    return out;
}

/* Where a folder really lies must be below the tree, and neither too deep nor too long: symlinks
 * could add up to more than any single name shows. */
bool cg_tree_holds(const struct cg_tree *tree, int dir, struct cg_err *e)
{
    char link[64];
    char real[PATH_MAX_BYTES + 1];
    cg_snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, real, sizeof(real));
    if (n < 0)
        return cg_fail_sys(e, "readlink %s", link);
    size_t root = strlen(tree->path);
    if ((size_t)n == sizeof(real))
        return cg_fail(e, CG_TOO_LARGE, "folders nested too deep");
    real[n] = '\0';
    if (strncmp(real, tree->path, root) != 0 || (real[root] != '/' && real[root] != '\0'))
        return cg_fail(e, CG_PROTOCOL, "an entry leaves the tree");
    int depth = 0;
    for (const char *at = real + root; *at; at++)
        depth += *at == '/';
    return depth < DEPTH_MAX || cg_fail(e, CG_TOO_LARGE, "folders nested too deep");
}

bool cg_place_find(const struct cg_tree *tree, const char *path, bool create, struct cg_place *out,
                   struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *clean = clean_path(path, e);
    *out = (struct cg_place){.dir = -1};
    if (!clean)
        return false;
    char *slash = strrchr(clean, '/');
    if (slash)
        *slash = '\0';
    const char *folder = slash ? clean : "";
    const char *name = slash ? slash + 1 : clean;
    out->name = cg_strdup(*name ? name : ".");
    out->dir = cg_tree_open(tree, folder, O_PATH | O_DIRECTORY, 0);
    if (out->dir < 0 && create) {
        if (!cg_tree_mkdirs(tree, folder, e))
            return false;
        out->dir = cg_tree_open(tree, folder, O_PATH | O_DIRECTORY, 0);
    }
    if (out->dir < 0)
        return !create || cg_fail_sys(e, "open folder %.100s", folder);
    return cg_tree_holds(tree, out->dir, e);
}

bool cg_tree_remove_at(int dir, const char *name, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("/proc/self/fd/%d/%s", dir, name);
    return cg_fs_remove_tree(path, e);
}

bool cg_tree_empty(const struct cg_tree *tree, const char *folder, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *clean = clean_path(folder, e);
    if (!clean)
        return false;
    CG_OWN(cg_drop_fd) int dir = cg_tree_open(tree, clean, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0)
        return true;
    if (!cg_tree_holds(tree, dir, e))
        return false;
    CG_OWN(cg_drop_dir) DIR *list = fdopendir(dup(dir));
    struct dirent *entry;
    while (list && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !cg_tree_remove_at(dir, entry->d_name, e))
            return false;
    return list || cg_fail_sys(e, "list %.100s", folder);
}
