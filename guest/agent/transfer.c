/* fs.read and fs.write: one file, streamed within the stream's credit. A write goes to a temporary
 * file beside its target and appears whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/agent/agent.h"
#include "guest/agent/resolve.h"

enum { CHUNK = 32 * 1024, SYNC_STEP = 4 << 20 };

static void close_with_bytes(struct task *t, int64_t bytes)
{
    char text[64];
    snprintf(text, sizeof text, "{\"bytes\":%lld}", (long long)bytes);
    task_close(t, cg_slice_of(text));
}

struct read_task {
    struct task task;
    int fd;
    int64_t left; /* -1: to the end */
    int64_t done;
};

static void read_go_on(struct task *task)
{
    struct read_task *t = (struct read_task *)task;
    static char bytes[CHUNK];
    for (;;) {
        size_t want = CG_MIN(sizeof bytes, cg_link_room(task->stream));
        if (t->left >= 0 && (int64_t)want > t->left)
            want = (size_t)t->left;
        if (t->left == 0)
            break;
        if (want == 0) {
            cg_link_want_room(task->stream);
            return;
        }
        ssize_t n = read(t->fd, bytes, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            struct cg_err e = CG_ERR_INIT;
            cg_fail_sys(&e, "read");
            task_fail(task, &e);
            return;
        }
        if (n == 0)
            break;
        size_t sent = cg_link_send(task->stream, CG_LINK_STDOUT, bytes, (size_t)n);
        CG_ASSERT(sent == (size_t)n);
        t->done += n;
        if (t->left > 0)
            t->left -= n;
        session_kick();
    }
    close_with_bytes(task, t->done);
}

static bool read_open(struct read_task *t, const struct cg_json *request, struct stat *st,
                      struct cg_err *e)
{
    static const char *const members[] = {"path", "offset", "limit", "user", "beneath", NULL};
    CG_OWN(place_finish) struct place at;
    place_init(&at);
    const char *path = at.full;
    struct user u;
    if (!request_enter(request, members, "path", &u, &at, e))
        return false;
    /* O_NONBLOCK: a FIFO must not stop the agent */
    t->fd = resolve_open(at.dir, at.path, O_RDONLY | O_NONBLOCK, 0);
    int sys = errno;
    user_leave();
    errno = sys;
    if (t->fd < 0 || fstat(t->fd, st) != 0)
        return cg_fail_sys(e, "%s", path);
    if (!S_ISREG(st->st_mode))
        return cg_fail(e, CG_INVALID, "%s is not a regular file", path);
    int64_t offset = cg_json_int(request, "offset", 0);
    t->left = cg_json_int(request, "limit", -1);
    if (offset < 0 || lseek(t->fd, offset, SEEK_SET) < 0)
        return cg_fail(e, CG_INVALID, "offset %lld is not in the file", (long long)offset);
    return true;
}

static void open_read(struct task *task, const struct cg_json *request)
{
    struct read_task *t = (struct read_task *)task;
    t->fd = -1;
    struct stat st = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_open(t, request, &st, &e)) {
        task_fail(task, &e);
        return;
    }
    char text[96];
    snprintf(text, sizeof text, "{\"size\":%lld,\"mode\":%d}", (long long)st.st_size,
             (int)(st.st_mode & 07777));
    task_accept(task, cg_slice_of(text));
    read_go_on(task);
}

static void read_finish(struct task *task)
{
    cg_drop_fd(&((struct read_task *)task)->fd);
}

/* --- write --- */

struct write_task {
    struct task task;
    int fd;
    int parent;
    bool append;
    char name[256];
    char tmp[300]; /* "" when appending */
    int64_t done;
    int64_t synced; /* handed to the disk so far */
    struct user user;
};

static bool write_start(struct write_task *t, const struct cg_json *request, struct cg_err *e)
{
    static const char *const members[] = {"path", "mode",    "mkdirs", "append",
                                          "user", "beneath", NULL};
    CG_OWN(place_finish) struct place at;
    place_init(&at);
    const char *path = at.full;
    if (!request_enter(request, members, "path", &t->user, &at, e))
        return false;
    mode_t mode = (mode_t)cg_json_int(request, "mode", 0644) & 07777;
    t->append = cg_json_bool(request, "append", false);
    const char *name;
    t->parent = resolve_parent(at.dir, at.path, cg_json_bool(request, "mkdirs", true), &name);
    bool ok = t->parent >= 0 || cg_fail_sys(e, "%s", path);
    if (ok && !cg_strlcpy(t->name, sizeof t->name, name))
        ok = cg_fail(e, CG_INVALID, "the file's name has more than 255 bytes");
    struct stat st;
    if (ok && fstatat(t->parent, t->name, &st, 0) == 0 && !S_ISREG(st.st_mode))
        ok = cg_fail(e, CG_CONFLICT, "%s is not a regular file", path);
    if (ok && t->append) {
        t->fd = openat(t->parent, t->name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK,
                       mode);
    } else if (ok) {
        uint64_t random;
        cg_rand_bytes(&random, sizeof random);
        snprintf(t->tmp, sizeof t->tmp, ".caged-%016llx.tmp", (unsigned long long)random);
        t->fd = openat(t->parent, t->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (t->fd >= 0 && fchmod(t->fd, mode) != 0)
            ok = cg_fail_sys(e, "set the mode of %s", path);
    }
    if (ok && t->fd < 0)
        ok = cg_fail_sys(e, "write %s", path);
    user_leave();
    return ok;
}

static void open_write(struct task *task, const struct cg_json *request)
{
    struct write_task *t = (struct write_task *)task;
    t->fd = t->parent = -1;
    struct cg_err e = CG_ERR_INIT;
    if (write_start(t, request, &e))
        task_accept(task, cg_slice_of("{}"));
    else
        task_fail(task, &e);
}

static void write_data(struct task *task, unsigned channel, struct cg_slice bytes)
{
    struct write_task *t = (struct write_task *)task;
    (void)channel;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_fd_write_full(t->fd, bytes.p, bytes.n, &e)) {
        cg_wrap(&e, "write %.128s", t->name);
        task_fail(task, &e);
        return;
    }
    t->done += (int64_t)bytes.n;
    if (t->done - t->synced >= SYNC_STEP) { /* the last sync must not have all of it to do */
        sync_file_range(t->fd, t->synced, t->done - t->synced, SYNC_FILE_RANGE_WRITE);
        t->synced = t->done;
    }
    cg_link_grant(task->stream, bytes.n);
    session_kick();
}

static void write_eof(struct task *task, unsigned channel)
{
    struct write_task *t = (struct write_task *)task;
    struct cg_err e = CG_ERR_INIT;
    if (channel != CG_LINK_STDIN)
        return;
    user_enter(&t->user);
    bool ok = t->append || fsync(t->fd) == 0 || cg_fail_sys(&e, "sync %.128s", t->name);
    if (ok && t->tmp[0] && renameat(t->parent, t->tmp, t->parent, t->name) != 0)
        ok = cg_fail_sys(&e, "put %.128s in place", t->name);
    user_leave();
    if (ok) {
        t->tmp[0] = '\0';
        close_with_bytes(task, t->done);
    } else {
        task_fail(task, &e);
    }
}

static void write_finish(struct task *task)
{
    struct write_task *t = (struct write_task *)task;
    if (t->tmp[0] && t->parent >= 0)
        unlinkat(t->parent, t->tmp, 0);
    cg_drop_fd(&t->fd);
    cg_drop_fd(&t->parent);
}

const struct task_ops task_fs_read = {.kind = "fs.read",
                                      .open = open_read,
                                      .size = sizeof(struct read_task),
                                      .writable = read_go_on,
                                      .finish = read_finish};
const struct task_ops task_fs_write = {.kind = "fs.write",
                                       .open = open_write,
                                       .size = sizeof(struct write_task),
                                       .data = write_data,
                                       .eof = write_eof,
                                       .finish = write_finish};
