/* tar.out: a file or folder as a tar stream, walked depth first with one open folder a level; files
 * are sent as large as their header said, whatever happens to them meanwhile. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tarhead.h"
#include "guest/agent/agent.h"
#include "guest/agent/resolve.h"

enum { DEPTH = 64, OUT_BYTES = 128 * 1024, FILE_CHUNK = 32 * 1024 };

struct level {
    DIR *dir;
    size_t path_n; /* length of `path` up to here */
};

struct tar_out {
    struct task task;
    struct user user;
    struct outbox out;
    struct level levels[DEPTH];
    int depth;              /* folders open */
    char path[CG_TAR_PATH]; /* of the current entry inside the archive */
    int fd;                 /* the file being sent */
    int64_t left;
    size_t padding;
    bool trailer;
    uint64_t entries;
    uint64_t skipped; /* not readable, or neither file, folder nor link */
};

static void fill_entry(struct tar_out *t, const struct stat *st, struct cg_tar_entry *e)
{
    *e = (struct cg_tar_entry){.mode = st->st_mode & 07777, .mtime_s = st->st_mtim.tv_sec};
    /* t->path leaves room for the slash */
    size_t n = strnlen(t->path, sizeof e->path - 2);
    memcpy(e->path, t->path, n);
    if (S_ISDIR(st->st_mode))
        e->path[n] = '/';
    e->type = S_ISDIR(st->st_mode) ? '5' : S_ISLNK(st->st_mode) ? '2' : '0';
    e->size = S_ISREG(st->st_mode) ? st->st_size : 0;
}

static bool push_folder(struct tar_out *t, int parent, const char *name)
{
    if (t->depth == DEPTH)
        return false;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return false;
    t->levels[t->depth++] = (struct level){d, strlen(t->path)};
    return true;
}

/* Adds one entry (its path is in t->path); what cannot be read is counted and left out. */
static void add(struct tar_out *t, int parent, const char *name)
{
    struct stat st;
    struct cg_tar_entry e;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    fill_entry(t, &st, &e);
    bool ok = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode);
    if (S_ISREG(st.st_mode)) {
        t->fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        ok = t->fd >= 0;
    } else if (S_ISDIR(st.st_mode)) {
        ok = push_folder(t, parent, name);
    } else if (ok) {
        ok = readlinkat(parent, name, e.link, sizeof e.link - 1) > 0;
    }
    if (!ok || (t->path[0] && !cg_tar_write(&t->out.text, &e))) {
        t->skipped++;
        return;
    }
    t->entries++;
    t->left = e.size;
    t->padding = (size_t)((CG_TAR_BLOCK - e.size % CG_TAR_BLOCK) % CG_TAR_BLOCK);
    if (t->left == 0)
        cg_drop_fd(&t->fd);
}

static void next_entry(struct tar_out *t)
{
    struct level *l = &t->levels[t->depth - 1];
    t->path[l->path_n] = '\0';
    struct dirent *entry = readdir(l->dir);
    if (!entry) {
        closedir(l->dir);
        t->depth--;
        return;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return;
    int n = snprintf(t->path + l->path_n, sizeof t->path - l->path_n - 2, "%s%s",
                     l->path_n ? "/" : "", entry->d_name);
    if (n < 0 || (size_t)n >= sizeof t->path - l->path_n - 2) {
        t->skipped++;
        return;
    }
    add(t, dirfd(l->dir), entry->d_name);
}

static void file_bytes(struct tar_out *t)
{
    static const char zeros[FILE_CHUNK];
    size_t want = (size_t)CG_MIN(t->left, (int64_t)FILE_CHUNK);
    char *room = cg_buf_room(&t->out.text, want + CG_TAR_BLOCK);
    CG_ASSERT(room);
    ssize_t n = read(t->fd, room, want);
    if (n > 0) {
        cg_buf_grew(&t->out.text, (size_t)n);
    } else { /* it shrank or cannot be read on: the size is promised already */
        cg_buf_add(&t->out.text, zeros, want);
        n = (ssize_t)want;
    }
    t->left -= n;
    if (t->left == 0) {
        cg_buf_add(&t->out.text, zeros, t->padding);
        cg_drop_fd(&t->fd);
    }
}

static void tar_out_go_on(struct task *task)
{
    struct tar_out *t = (struct tar_out *)task;
    while (outbox_pump(&t->out, task->stream, CG_LINK_STDOUT)) {
        if (t->trailer) {
            char text[96];
            snprintf(text, sizeof text, "{\"entries\":%llu,\"skipped\":%llu}",
                     (unsigned long long)t->entries, (unsigned long long)t->skipped);
            task_close(task, cg_slice_of(text));
            return;
        }
        user_enter(&t->user);
        while (t->out.text.n < OUT_BYTES / 2 && (t->fd >= 0 || t->depth > 0)) {
            if (t->fd >= 0)
                file_bytes(t);
            else
                next_entry(t);
        }
        user_leave();
        if (t->fd < 0 && t->depth == 0) {
            static const char end[2 * CG_TAR_BLOCK];
            cg_buf_add(&t->out.text, end, sizeof end);
            t->trailer = true;
        }
    }
}

static void open_tar_out(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"path", "user", NULL};
    struct tar_out *t = (struct tar_out *)task;
    t->fd = -1;
    cg_buf_init(&t->out.text, OUT_BYTES);
    char path[CG_TAR_PATH];
    struct stat st;
    struct cg_err e = CG_ERR_INIT;
    bool ok = request_check(request, members, &e) &&
              request_path(request, "path", path, sizeof path, &e) &&
              user_find(cg_json_str(request, "user"), &t->user, &e);
    if (ok) {
        user_enter(&t->user);
        ok = stat(path, &st) == 0 || cg_fail_sys(&e, "%s", path);
        const char *name = strrchr(path, '/');
        name = name && name[1] ? name + 1 : "root";
        /* a folder's own entries are at the top of the archive, a file goes by its name */
        if (ok && !S_ISDIR(st.st_mode)) {
            cg_strlcpy(t->path, sizeof t->path, name);
            CG_OWN(cg_drop_fd) int parent = resolve_parent(-1, path, false, &name);
            if (parent >= 0)
                add(t, parent, name);
        } else if (ok && !push_folder(t, AT_FDCWD, path)) {
            ok = cg_fail_sys(&e, "%s", path);
        }
        user_leave();
    }
    if (!ok) {
        task_fail(task, &e);
        return;
    }
    task_accept(task, cg_slice_of(S_ISDIR(st.st_mode) ? "{\"type\":\"directory\"}"
                                                      : "{\"type\":\"file\"}"));
    tar_out_go_on(task);
}

static void tar_out_finish(struct task *task)
{
    struct tar_out *t = (struct tar_out *)task;
    cg_drop_fd(&t->fd);
    while (t->depth > 0)
        closedir(t->levels[--t->depth].dir);
    cg_buf_finish(&t->out.text);
}

const struct task_ops task_tar_out = {.kind = "tar.out",
                                      .open = open_tar_out,
                                      .size = sizeof(struct tar_out),
                                      .writable = tar_out_go_on,
                                      .finish = tar_out_finish};
