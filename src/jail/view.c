/* Each file is a mount of its own, cloned (open_tree), made read-only (mount_setattr) and moved
 * into a small tmpfs that then becomes the root. Cloning comes before covering: the tmpfs lies over
 * /tmp, and files below that may be wanted too. Cloning also comes before the process takes on the
 * sandbox's uid, so that folders which only the owner may enter do no harm.
 * Libraries are asked from the dynamic loader with --list, never by running the program itself. */
#include "jail/view.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/command.h"

#define ROOT "/tmp"
static const char loader[] = "/lib64/ld-linux-x86-64.so.2";

void cg_view_finish(struct cg_view *v)
{
    for (unsigned i = 0; i < v->n; i++)
        free(v->paths[i]);
    *v = (struct cg_view){.n = 0};
}

bool cg_view_add(struct cg_view *v, const char *path, struct cg_err *e)
{
    struct stat st;
    if (path[0] != '/' || strlen(path) > 255)
        return cg_fail(e, CG_INVALID, "%.100s is not a short absolute path", path);
    if (stat(path, &st) != 0 || S_ISDIR(st.st_mode))
        return true;
    for (unsigned i = 0; i < v->n; i++) {
        if (strcmp(v->paths[i], path) == 0)
            return true;
    }
    if (v->n == CG_VIEW_MAX)
        return cg_fail(e, CG_LIMIT, "a jailed program needs more than %d files", CG_VIEW_MAX);
    v->paths[v->n++] = cg_strdup(path);
    return true;
}

/* Lines are "name => /path (0x...)" or "/path (0x...)". */
static bool add_listed(struct cg_view *v, char *list, struct cg_err *e)
{
    char *rest = list;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strstr(line, "not found"))
            return cg_fail(e, CG_NOT_FOUND, "library missing: %s", line);
        char *path = strchr(line, '/');
        char *arrow = strstr(line, "=> /");
        if (arrow)
            path = arrow + 3;
        if (!path)
            continue;
        path[strcspn(path, " \t")] = '\0';
        if (!cg_view_add(v, path, e))
            return false;
    }
    return true;
}

bool cg_view_add_program(struct cg_view *v, const char *path, struct cg_err *e)
{
    enum { LIST_MAX = 65536 };
    if (access(path, R_OK) != 0)
        return cg_fail_sys(e, "%s", path);
    if (!cg_view_add(v, path, e) || !cg_view_add(v, loader, e))
        return false;
    CG_OWN(cg_drop_free) char *list = cg_alloc(LIST_MAX);
    if (!cg_command_output((const char *const[]){loader, "--list", path, NULL}, NULL, 20000, list,
                           LIST_MAX, e))
        return cg_wrap(e, "list the libraries of %s", path);
    return add_listed(v, list, e);
}

bool cg_view_add_globs(struct cg_view *v, const char *const *patterns, bool programs,
                       struct cg_err *e)
{
    bool ok = true;
    for (; *patterns && ok; patterns++) {
        glob_t found = {0};
        if (glob(*patterns, 0, NULL, &found) == 0) {
            for (size_t i = 0; i < found.gl_pathc && ok; i++)
                ok = programs ? cg_view_add_program(v, found.gl_pathv[i], e)
                              : cg_view_add(v, found.gl_pathv[i], e);
        }
        globfree(&found);
    }
    return ok;
}

bool cg_view_collect(const struct cg_view *v, const char *skip, struct cg_view_mounts *m,
                     struct cg_err *e)
{
    m->n = 0;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return cg_fail_sys(e, "make mounts private");
    for (unsigned i = 0; i < v->n; i++) {
        if (cg_streq(v->paths[i], skip)) {
            m->fds[m->n++] = -1;
            continue;
        }
        int fd = open_tree(AT_FDCWD, v->paths[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (fd < 0)
            return cg_fail_sys(e, "take hold of %s", v->paths[i]);
        m->fds[m->n++] = fd;
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
        if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof attr) != 0)
            return cg_fail_sys(e, "make %s read-only", v->paths[i]);
    }
    return true;
}

static bool make_parents(char *path, struct cg_err *e)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        int rc = mkdir(path, 0755);
        *at = '/';
        if (rc != 0 && errno != EEXIST)
            return cg_fail_sys(e, "make folders of %s", path);
    }
    return true;
}

static bool place(const char *path, int tree, struct cg_err *e)
{
    char at[300];
    cg_snprintf(at, sizeof at, ROOT "%s", path);
    if (!make_parents(at, e))
        return false;
    CG_OWN(cg_drop_fd) int file = open(at, O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
    if (file < 0)
        return cg_fail_sys(e, "make %s", at);
    if (move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return cg_fail_sys(e, "mount %s", path);
    return true;
}

/* pivot_root(2): "." twice puts the old root on top of the new one, from where it is unmounted. */
static bool change_root(struct cg_err *e)
{
    if (chdir(ROOT) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
        umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        return cg_fail_sys(e, "pivot_root");
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              NULL) != 0)
        return cg_fail_sys(e, "make the root read-only");
    return true;
}

bool cg_view_enter(const struct cg_view *v, struct cg_view_mounts *m, struct cg_err *e)
{
    umask(022);
    if (mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=1m,nr_inodes=1024,mode=755") != 0)
        return cg_fail_sys(e, "mount a tmpfs for the new root");
    for (unsigned i = 0; i < m->n; i++) {
        bool ok = m->fds[i] < 0 || place(v->paths[i], m->fds[i], e);
        cg_drop_fd(&m->fds[i]);
        if (!ok)
            return false;
    }
    if (mkdir(ROOT "/proc", 0555) != 0 ||
        mount("proc", ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") != 0)
        return cg_fail_sys(e, "mount /proc");
    return change_root(e);
}
