/* fs.stat, fs.list, fs.delete, fs.mkdir, fs.rename: with the rights of the user named, answered at
 * once. fs.read and fs.write are in transfer.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/resolve.h"

enum { PATH_BYTES = 4096, LIST_MAX = 10000, LIST_BYTES = 8 << 20, DELETE_DEPTH = 128 };

static void write_entry(struct cg_jsonw *w, const char *name, const char *path,
                        const struct stat *st, const char *target)
{
    const char *type = S_ISREG(st->st_mode)   ? "file"
                       : S_ISDIR(st->st_mode) ? "directory"
                       : S_ISLNK(st->st_mode) ? "symlink"
                                              : "other";
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", name);
    cg_jsonw_kstr(w, "path", path);
    cg_jsonw_kstr(w, "type", type);
    cg_jsonw_kint(w, "size", S_ISREG(st->st_mode) ? st->st_size : 0);
    cg_jsonw_kint(w, "mode", st->st_mode & 07777);
    cg_jsonw_kint(w, "mtime_ms",
                  (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000);
    if (target)
        cg_jsonw_kstr(w, "target", target);
    cg_jsonw_obj_end(w);
}

/* Reads what most fs kinds begin with; the user's rights are entered when it returns true. */
static bool begin(const struct cg_json *request, const char *const *members, const char *member,
                  char path[PATH_BYTES], struct cg_err *e)
{
    struct user u;
    if (!request_check(request, members, e) ||
        !request_path(request, member, path, PATH_BYTES, e) ||
        !user_find(cg_json_str(request, "user"), &u, e))
        return false;
    user_enter(&u);
    return true;
}

static void finish(struct task *t, bool ok, const struct cg_err *e)
{
    if (ok)
        task_close_empty(t);
    else
        task_fail(t, e);
}

static void open_stat(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"path", "user", NULL};
    char path[PATH_BYTES];
    struct cg_err e = CG_ERR_INIT;
    struct stat st;
    char target[PATH_BYTES] = "";
    bool ok = begin(request, members, "path", path, &e);
    if (ok) {
        ok = lstat(path, &st) == 0 || cg_fail_sys(&e, "%s", path);
        if (ok && S_ISLNK(st.st_mode) && readlink(path, target, sizeof target - 1) < 0)
            target[0] = '\0';
        user_leave();
    }
    if (!ok) {
        task_fail(t, &e);
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "entry");
    const char *slash = strrchr(path, '/');
    write_entry(&w, slash && slash[1] ? slash + 1 : path, path, &st, target[0] ? target : NULL);
    cg_jsonw_obj_end(&w);
    task_close(t, cg_buf_slice(&b));
}

/* --- fs.list --- */

struct list_task {
    struct task task;
    struct outbox out;
    unsigned count;
    bool truncated;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static unsigned read_names(DIR *d, char **names, bool *truncated)
{
    unsigned n = 0;
    struct dirent *entry;
    while ((entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (n == LIST_MAX) {
            *truncated = true;
            break;
        }
        names[n++] = cg_strdup(entry->d_name);
    }
    qsort(names, n, sizeof *names, by_name);
    return n;
}

static void list_entry(struct list_task *t, int dir, const char *path, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return; /* it went while we looked */
    char target[1024] = "";
    if (S_ISLNK(st.st_mode) && readlinkat(dir, name, target, sizeof target - 1) < 0)
        target[0] = '\0';
    CG_OWN(cg_drop_free)
    char *full = cg_format("%s%s%s", path, cg_has_suffix(path, "/") ? "" : "/", name);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &t->out.text);
    write_entry(&w, name, full, &st, target[0] ? target : NULL);
    cg_buf_addc(&t->out.text, '\n');
    t->count++;
}

static bool list_folder(struct list_task *t, const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = resolve_open(-1, path, O_RDONLY | O_DIRECTORY, 0);
    int again = fd < 0 ? -1 : dup(fd);
    CG_OWN(cg_drop_dir) DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d)
        return cg_fail_sys(e, "%s", path);
    char **names = cg_alloc_array(LIST_MAX, sizeof *names);
    unsigned n = read_names(d, names, &t->truncated);
    for (unsigned i = 0; i < n; i++) {
        if (!t->out.text.full && t->out.text.n < LIST_BYTES - 16384)
            list_entry(t, fd, path, names[i]);
        else
            t->truncated = true;
        free(names[i]);
    }
    free(names);
    return true;
}

static void list_go_on(struct task *task)
{
    struct list_task *t = (struct list_task *)task;
    if (!outbox_pump(&t->out, task->stream, CG_LINK_STDOUT))
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 256);
    cg_buf_addf(&b, "{\"count\":%u,\"truncated\":%s}", t->count, t->truncated ? "true" : "false");
    task_close(task, cg_buf_slice(&b));
}

static void list_finish(struct task *task)
{
    cg_buf_finish(&((struct list_task *)task)->out.text);
}

static void open_list(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"path", "user", NULL};
    struct list_task *t = (struct list_task *)task;
    cg_buf_init(&t->out.text, LIST_BYTES);
    char path[PATH_BYTES];
    struct cg_err e = CG_ERR_INIT;
    bool ok = begin(request, members, "path", path, &e);
    if (ok) {
        ok = list_folder(t, path, &e);
        user_leave();
    }
    if (!ok) {
        task_fail(task, &e);
        return;
    }
    task_accept(task, cg_slice_of("{}"));
    list_go_on(task);
}

/* --- delete, mkdir, rename --- */

static bool delete_tree(int dir, const char *name, int depth)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return false;
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return true;
    if ((errno != ENOTEMPTY && errno != EEXIST) || depth > DELETE_DEPTH)
        return false;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CG_OWN(cg_drop_dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return false;
    struct dirent *entry;
    while ((entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!delete_tree(dirfd(d), entry->d_name, depth + 1))
            return false;
    }
    return unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

static bool delete_path(const char *path, bool recursive, struct cg_err *e)
{
    const char *name;
    CG_OWN(cg_drop_fd) int parent = resolve_parent(-1, path, false, &name);
    struct stat st;
    if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return cg_fail_sys(e, "%s", path);
    bool ok = recursive ? delete_tree(parent, name, 0)
                        : unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0;
    return ok || cg_fail_sys(e, "delete %s", path);
}

static void open_delete(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"path", "recursive", "user", NULL};
    char path[PATH_BYTES];
    struct cg_err e = CG_ERR_INIT;
    bool ok = begin(request, members, "path", path, &e);
    if (ok) {
        ok = delete_path(path, cg_json_bool(request, "recursive", false), &e);
        user_leave();
    }
    finish(t, ok, &e);
}

static void open_mkdir(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"path", "parents", "user", NULL};
    char path[PATH_BYTES];
    struct cg_err e = CG_ERR_INIT;
    bool ok = begin(request, members, "path", path, &e);
    if (ok) {
        ok = cg_json_bool(request, "parents", true) ? resolve_mkdirs(-1, path, 0755)
                                                    : mkdir(path, 0755) == 0;
        if (!ok)
            cg_fail_sys(&e, "make %s", path);
        user_leave();
    }
    finish(t, ok, &e);
}

static void open_rename(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"from", "to", "user", NULL};
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    struct cg_err e = CG_ERR_INIT;
    bool ok =
        request_path(request, "to", to, sizeof to, &e) && begin(request, members, "from", from, &e);
    if (ok) {
        ok = rename(from, to) == 0 || cg_fail_sys(&e, "rename %s to %s", from, to);
        user_leave();
    }
    finish(t, ok, &e);
}

#define AT_ONCE .size = sizeof(struct task)

const struct task_ops task_fs_stat = {.kind = "fs.stat", .open = open_stat, AT_ONCE};
const struct task_ops task_fs_delete = {.kind = "fs.delete", .open = open_delete, AT_ONCE};
const struct task_ops task_fs_mkdir = {.kind = "fs.mkdir", .open = open_mkdir, AT_ONCE};
const struct task_ops task_fs_rename = {.kind = "fs.rename", .open = open_rename, AT_ONCE};
const struct task_ops task_fs_list = {.kind = "fs.list",
                                      .open = open_list,
                                      .size = sizeof(struct list_task),
                                      .writable = list_go_on,
                                      .finish = list_finish};
