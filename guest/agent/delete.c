/* fs.delete: a tree goes a few hundred entries a round of the loop, depth first with one open
 * folder a level, so that the largest does not keep others from being served. Symlinks are removed,
 * never followed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/resolve.h"

enum { DEPTH = 128, STEPS = 256, TRIES = 16 };

struct level {
    DIR *dir;
    char name[256]; /* in the level above */
    int tries;      /* it was found not to be empty after its last entry went */
};

struct delete_task {
    struct task task;
    struct user user;
    struct timer timer;
    int parent;
    int depth;
    struct level levels[DEPTH];
    char path[4096];
};

static int folder_of(const struct delete_task *t, int depth)
{
    return depth == 0 ? t->parent : dirfd(t->levels[depth - 1].dir);
}

static bool push(struct delete_task *t, const char *name)
{
    if (t->depth == DEPTH) {
        errno = ELOOP;
        return false;
    }
    int fd = openat(folder_of(t, t->depth), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        cg_drop_fd(&fd);
        return false;
    }
    struct level *l = &t->levels[t->depth++];
    l->dir = d;
    l->tries = 0;
    return cg_strlcpy(l->name, sizeof l->name, name);
}

/* Removes what is no folder, or enters it. */
static bool remove_or_enter(struct delete_task *t, const char *name)
{
    if (unlinkat(folder_of(t, t->depth), name, 0) == 0 || errno == ENOENT)
        return true;
    return (errno == EISDIR || errno == EPERM) && push(t, name);
}

static bool leave(struct delete_task *t)
{
    struct level *l = &t->levels[t->depth - 1];
    if (unlinkat(folder_of(t, t->depth - 1), l->name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        closedir(l->dir);
        t->depth--;
        return true;
    }
    /* somebody adds while we remove, or the listing was overtaken */
    if ((errno != ENOTEMPTY && errno != EEXIST) || ++l->tries > TRIES)
        return false;
    rewinddir(l->dir);
    return true;
}

static bool step(struct delete_task *t)
{
    struct dirent *entry = readdir(t->levels[t->depth - 1].dir);
    if (!entry)
        return leave(t);
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return true;
    return remove_or_enter(t, entry->d_name);
}

static void on_turn(struct timer *timer)
{
    struct delete_task *t = CG_CONTAINER(timer, struct delete_task, timer);
    struct cg_err e = CG_ERR_INIT;
    bool ok = true;
    user_enter(&t->user);
    for (int i = 0; ok && t->depth > 0 && i < STEPS; i++)
        ok = step(t);
    if (!ok)
        cg_fail_sys(&e, "delete %.160s", t->path);
    user_leave();
    if (!ok)
        task_fail(&t->task, &e);
    else if (t->depth == 0)
        task_close_empty(&t->task);
    else
        timer_start(&t->timer, 0, on_turn);
}

static bool begin(struct delete_task *t, const struct place *at, bool recursive, struct cg_err *e)
{
    const char *name;
    struct stat st;
    cg_strlcpy(t->path, sizeof t->path, at->full);
    t->parent = resolve_parent(at->dir, at->path, false, &name);
    if (t->parent < 0 || fstatat(t->parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return cg_fail_sys(e, "%s", at->full);
    bool ok = recursive ? remove_or_enter(t, name)
                        : unlinkat(t->parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0;
    return ok || cg_fail_sys(e, "delete %s", at->full);
}

static void open_delete(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"path", "recursive", "user", "beneath", NULL};
    struct delete_task *t = (struct delete_task *)task;
    t->parent = -1;
    CG_OWN(place_finish) struct place at;
    place_init(&at);
    struct cg_err e = CG_ERR_INIT;
    bool ok = request_enter(request, members, "path", &t->user, &at, &e);
    if (ok) {
        ok = begin(t, &at, cg_json_bool(request, "recursive", false), &e);
        user_leave();
    }
    if (!ok)
        task_fail(task, &e);
    else
        on_turn(&t->timer);
}

static void delete_finish(struct task *task)
{
    struct delete_task *t = (struct delete_task *)task;
    timer_stop(&t->timer);
    while (t->depth > 0)
        closedir(t->levels[--t->depth].dir);
    cg_drop_fd(&t->parent);
}

const struct task_ops task_fs_delete = {.kind = "fs.delete",
                                        .open = open_delete,
                                        .size = sizeof(struct delete_task),
                                        .finish = delete_finish};
