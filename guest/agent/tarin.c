/* tar.in: an archive that comes as a stream is unpacked below a folder. It is hostile until proven
 * otherwise: every path is resolved beneath the folder (openat2), so that "..", absolute names and
 * symlinks made by earlier entries lead nowhere else; devices and FIFOs are refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/tarhead.h"
#include "guest/agent/agent.h"
#include "guest/agent/resolve.h"

struct tar_in {
    struct task task;
    struct user user;
    int root;
    unsigned char block[CG_TAR_BLOCK];
    size_t block_n;
    struct cg_tar_entry entry;
    struct cg_buf meta;       /* of an extension header */
    struct cg_tar_entry next; /* what extensions said of the entry that follows */
    bool has_path, has_link, has_size;
    int fd;       /* the file being written, or -1 */
    int64_t left; /* bytes of the entry's content still to come */
    size_t padding;
    bool ended; /* the zero block came */
    uint64_t entries;
    uint64_t bytes;
};

static const char *inside(const char *path)
{
    while (*path == '/')
        path++;
    while (path[0] == '.' && path[1] == '/') {
        path += 2;
        while (*path == '/')
            path++;
    }
    return path;
}

static bool make_file(struct tar_in *t, int parent, const char *name, struct cg_err *e)
{
    unlinkat(parent, name, 0); /* replaced, never written through: it may be a link */
    t->fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (t->fd < 0 || fchmod(t->fd, t->entry.mode & 0777) != 0)
        return cg_fail_sys(e, "unpack %s", t->entry.path);
    return true;
}

static bool make_folder(struct tar_in *t, const char *path, struct cg_err *e)
{
    if (!resolve_mkdirs(t->root, path, 0755))
        return cg_fail_sys(e, "unpack folder %s", path);
    CG_OWN(cg_drop_fd) int fd = resolve_open(t->root, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0 && fchmod(fd, t->entry.mode & 0777) != 0 && errno != EPERM)
        return cg_fail_sys(e, "set the mode of %s", path);
    return true;
}

static bool make_hard_link(struct tar_in *t, int parent, const char *name, struct cg_err *e)
{
    const char *from_name;
    CG_OWN(cg_drop_fd) int from = resolve_parent(t->root, inside(t->entry.link), false, &from_name);
    unlinkat(parent, name, 0);
    if (from < 0 || linkat(from, from_name, parent, name, 0) != 0)
        return cg_fail_sys(e, "unpack hard link %s", t->entry.path);
    return true;
}

static bool make_entry(struct tar_in *t, struct cg_err *e)
{
    const char *path = inside(t->entry.path);
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        t->entry.path[(size_t)(path - t->entry.path) + --n] = '\0';
    if (n == 0 || strcmp(path, ".") == 0)
        return true;
    if (t->entry.type == '5')
        return make_folder(t, path, e);
    const char *name;
    CG_OWN(cg_drop_fd) int parent = resolve_parent(t->root, path, true, &name);
    if (parent < 0)
        return cg_fail_sys(e, "unpack %s (it must lie below the folder)", path);
    switch (t->entry.type) {
    case '0':
    case '7':
        return make_file(t, parent, name, e);
    case '1':
        return make_hard_link(t, parent, name, e);
    case '2':
        unlinkat(parent, name, 0);
        return symlinkat(t->entry.link, parent, name) == 0 ||
               cg_fail_sys(e, "unpack link %s", path);
    default:
        return cg_fail(e, CG_INVALID, "unpack %s: entries of type '%c' are refused", path,
                       t->entry.type);
    }
}

static bool begin_entry(struct tar_in *t, struct cg_err *e)
{
    bool zero = false;
    if (!cg_tar_parse(t->block, &t->entry, &zero, e))
        return false;
    if (zero) {
        t->ended = true;
        return true;
    }
    bool extension = strchr("xgLK", t->entry.type) != NULL;
    if (extension) {
        if (t->entry.size > CG_TAR_META_MAX)
            return cg_fail(e, CG_TOO_LARGE, "an extension header of %lld bytes",
                           (long long)t->entry.size);
        cg_buf_clear(&t->meta);
    } else {
        if (t->has_path)
            cg_strlcpy(t->entry.path, CG_TAR_PATH, t->next.path);
        if (t->has_link)
            cg_strlcpy(t->entry.link, CG_TAR_PATH, t->next.link);
        if (t->has_size)
            t->entry.size = t->next.size;
        t->has_path = t->has_link = t->has_size = false;
        t->entries++;
        user_enter(&t->user);
        bool ok = make_entry(t, e);
        user_leave();
        if (!ok)
            return false;
        if (t->entry.type != '0' && t->entry.type != '7')
            t->entry.size = 0;
    }
    t->left = t->entry.size;
    t->padding = (size_t)((CG_TAR_BLOCK - t->left % CG_TAR_BLOCK) % CG_TAR_BLOCK);
    return true;
}

static bool end_entry(struct tar_in *t, struct cg_err *e)
{
    struct cg_slice meta = cg_buf_slice(&t->meta);
    switch (t->entry.type) {
    case 'x':
        return cg_tar_apply_pax(meta, &t->next, &t->has_path, &t->has_link, &t->has_size, e);
    case 'L':
        t->has_path = cg_strlcpy(t->next.path, CG_TAR_PATH, cg_buf_cstr(&t->meta));
        return t->has_path || cg_fail(e, CG_PROTOCOL, "a name in the archive is too long");
    case 'K':
        t->has_link = cg_strlcpy(t->next.link, CG_TAR_PATH, cg_buf_cstr(&t->meta));
        return t->has_link || cg_fail(e, CG_PROTOCOL, "a name in the archive is too long");
    default:
        break;
    }
    if (t->fd >= 0) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = t->entry.mtime_s}};
        futimens(t->fd, times); /* a time is not worth failing for */
        cg_drop_fd(&t->fd);
    }
    return true;
}

static bool content(struct tar_in *t, struct cg_slice bytes, struct cg_err *e)
{
    if (t->fd >= 0) {
        t->bytes += bytes.n;
        return cg_fd_write_full(t->fd, bytes.p, bytes.n, e) || cg_wrap(e, "%s", t->entry.path);
    }
    return cg_buf_add(&t->meta, bytes.p, bytes.n) ||
           cg_fail(e, CG_TOO_LARGE, "an extension header is too large");
}

/* Content, its end and padding: what follows a header. */
static bool in_entry(struct tar_in *t, struct cg_slice *b, struct cg_err *e)
{
    size_t n = (size_t)CG_MIN((int64_t)b->n, t->left);
    if (n > 0 && !content(t, (struct cg_slice){b->p, n}, e))
        return false;
    t->left -= (int64_t)n;
    b->p += n;
    b->n -= n;
    return true;
}

static bool eat(struct tar_in *t, struct cg_slice b, struct cg_err *e)
{
    while (b.n > 0 && !t->ended) {
        if (t->left > 0) {
            if (!in_entry(t, &b, e) || (t->left == 0 && !end_entry(t, e)))
                return false;
            continue;
        }
        size_t skip = CG_MIN(b.n, t->padding);
        t->padding -= skip;
        b.p += skip;
        b.n -= skip;
        if (b.n == 0)
            break;
        size_t take = CG_MIN(b.n, CG_TAR_BLOCK - t->block_n);
        memcpy(t->block + t->block_n, b.p, take);
        t->block_n += take;
        b.p += take;
        b.n -= take;
        if (t->block_n < CG_TAR_BLOCK)
            break;
        t->block_n = 0;
        if (!begin_entry(t, e))
            return false;
        if (!t->ended && t->left == 0 && !end_entry(t, e))
            return false;
    }
    return true;
}

static void open_tar_in(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"path", "user", NULL};
    struct tar_in *t = (struct tar_in *)task;
    t->root = t->fd = -1;
    cg_buf_init(&t->meta, CG_TAR_META_MAX);
    char path[CG_TAR_PATH];
    struct cg_err e = CG_ERR_INIT;
    bool ok = request_check(request, members, &e) &&
              request_path(request, "path", path, sizeof path, &e) &&
              user_find(cg_json_str(request, "user"), &t->user, &e);
    if (ok) {
        user_enter(&t->user);
        if (!resolve_mkdirs(-1, path, 0755))
            ok = cg_fail_sys(&e, "make %s", path);
        t->root = ok ? resolve_open(-1, path, O_PATH | O_DIRECTORY, 0) : -1;
        if (ok && t->root < 0)
            ok = cg_fail_sys(&e, "%s", path);
        user_leave();
    }
    if (ok)
        task_accept(task, cg_slice_of("{}"));
    else
        task_fail(task, &e);
}

static void tar_in_data(struct task *task, unsigned channel, struct cg_slice bytes)
{
    struct tar_in *t = (struct tar_in *)task;
    (void)channel;
    struct cg_err e = CG_ERR_INIT;
    if (!eat(t, bytes, &e)) {
        task_fail(task, &e);
        return;
    }
    cg_link_grant(task->stream, bytes.n);
    session_kick();
}

static void tar_in_eof(struct task *task, unsigned channel)
{
    struct tar_in *t = (struct tar_in *)task;
    struct cg_err e = CG_ERR_INIT;
    (void)channel;
    if (!t->ended && (t->left > 0 || t->block_n > 0 || t->entries == 0)) {
        cg_fail(&e, CG_PROTOCOL, "the archive ends in the middle");
        task_fail(task, &e);
        return;
    }
    char text[96];
    snprintf(text, sizeof text, "{\"entries\":%llu,\"bytes\":%llu}", (unsigned long long)t->entries,
             (unsigned long long)t->bytes);
    task_close(task, cg_slice_of(text));
}

static void tar_in_finish(struct task *task)
{
    struct tar_in *t = (struct tar_in *)task;
    cg_drop_fd(&t->fd);
    cg_drop_fd(&t->root);
    cg_buf_finish(&t->meta);
}

const struct task_ops task_tar_in = {.kind = "tar.in",
                                     .open = open_tar_in,
                                     .size = sizeof(struct tar_in),
                                     .data = tar_in_data,
                                     .eof = tar_in_eof,
                                     .finish = tar_in_finish};
