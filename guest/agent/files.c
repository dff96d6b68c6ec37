/* fs.stat, fs.list, fs.mkdir, fs.rename: with the rights of the user named, answered at once.
 * fs.read and fs.write are in transfer.c, fs.delete in delete.c. */
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

enum { PATH_BYTES = 4096, LIST_MAX = 10000, LIST_BYTES = 8 << 20 };

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

static void finish(struct task *t, bool ok, const struct cg_err *e)
{
    if (ok)
        task_close_empty(t);
    else
        task_fail(t, e);
}

static void open_stat(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"path", "user", "beneath", NULL};
    CG_OWN(place_finish) struct place at;
    place_init(&at);
    struct user u;
    struct cg_err e = CG_ERR_INIT;
    struct stat st;
    char target[PATH_BYTES];
    bool ok = request_enter(request, members, "path", &u, &at, &e);
    if (ok) {
        ok = resolve_stat(at.dir, at.path, &st, target, sizeof target) ||
             cg_fail_sys(&e, "%s", at.full);
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
    const char *slash = strrchr(at.full, '/');
    write_entry(&w, slash && slash[1] ? slash + 1 : at.full, at.full, &st,
                target[0] ? target : NULL);
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

static bool list_folder(struct list_task *t, const struct place *at, struct cg_err *e)
{
    const char *path = at->full;
    CG_OWN(cg_drop_fd) int fd = resolve_open(at->dir, at->path, O_RDONLY | O_DIRECTORY, 0);
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
    static const char *const members[] = {"path", "user", "beneath", NULL};
    struct list_task *t = (struct list_task *)task;
    cg_buf_init(&t->out.text, LIST_BYTES);
    CG_OWN(place_finish) struct place at;
    place_init(&at);
    struct user u;
    struct cg_err e = CG_ERR_INIT;
    bool ok = request_enter(request, members, "path", &u, &at, &e);
    if (ok) {
        ok = list_folder(t, &at, &e);
        user_leave();
    }
    if (!ok) {
        task_fail(task, &e);
        return;
    }
    task_accept(task, cg_slice_of("{}"));
    list_go_on(task);
}

/* --- mkdir, rename --- */

static bool make_one(const struct place *at)
{
    const char *name;
    CG_OWN(cg_drop_fd) int parent = resolve_parent(at->dir, at->path, false, &name);
    return parent >= 0 && mkdirat(parent, name, 0755) == 0;
}

static void open_mkdir(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"path", "parents", "user", "beneath", NULL};
    CG_OWN(place_finish) struct place at;
    place_init(&at);
    struct user u;
    struct cg_err e = CG_ERR_INIT;
    bool ok = request_enter(request, members, "path", &u, &at, &e);
    if (ok) {
        bool parents = cg_json_bool(request, "parents", true);
        ok = (parents ? resolve_mkdirs(at.dir, at.path, 0755) : make_one(&at)) ||
             cg_fail_sys(&e, "make %s", at.full);
        user_leave();
    }
    finish(t, ok, &e);
}

static bool move(const struct place *from, const struct place *to)
{
    const char *from_name;
    const char *to_name;
    CG_OWN(cg_drop_fd) int from_dir = resolve_parent(from->dir, from->path, false, &from_name);
    if (from_dir < 0)
        return false;
    CG_OWN(cg_drop_fd) int to_dir = resolve_parent(to->dir, to->path, false, &to_name);
    return to_dir >= 0 && renameat(from_dir, from_name, to_dir, to_name) == 0;
}

static void open_rename(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"from", "to", "user", "beneath", NULL};
    CG_OWN(place_finish) struct place from;
    CG_OWN(place_finish) struct place to;
    place_init(&from);
    place_init(&to);
    struct user u;
    struct cg_err e = CG_ERR_INIT;
    bool ok = request_enter(request, members, "from", &u, &from, &e);
    if (ok)
        user_leave();
    ok = ok && request_enter(request, members, "to", &u, &to, &e);
    if (ok) {
        ok = move(&from, &to) || cg_fail_sys(&e, "rename %.80s to %.80s", from.full, to.full);
        user_leave();
    }
    finish(t, ok, &e);
}

#define AT_ONCE .size = sizeof(struct task)

const struct task_ops task_fs_stat = {.kind = "fs.stat", .open = open_stat, AT_ONCE};
const struct task_ops task_fs_mkdir = {.kind = "fs.mkdir", .open = open_mkdir, AT_ONCE};
const struct task_ops task_fs_rename = {.kind = "fs.rename", .open = open_rename, AT_ONCE};
const struct task_ops task_fs_list = {.kind = "fs.list",
                                      .open = open_list,
                                      .size = sizeof(struct list_task),
                                      .writable = list_go_on,
                                      .finish = list_finish};
