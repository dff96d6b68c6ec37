/* The archive is written by a thread into a pipe and read from it by the upload: memory stays flat.
 */
#include "cli/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"

enum { LIST_MAX = 256 << 20 };

struct packer {
    int pipe[2];
    pthread_t thread;
    char *base;         /* names are relative to it */
    struct cg_buf list; /* names, each ended by NUL */
    bool ok;
    _Atomic bool done; /* all is in the pipe */
    struct cg_err err;
};

/* --- which files --- */

static struct cg_buf *walk_list;
static size_t walk_base;

static int walk_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    if (ftw->level == 0)
        return 0;
    return cg_buf_add(walk_list, path + walk_base, strlen(path + walk_base) + 1) ? 0 : -1;
}

static bool walk(const char *base, const char *sub, struct cg_buf *list, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = sub ? cg_format("%s/%s", base, sub) : cg_strdup(base);
    walk_list = list;
    walk_base = strlen(base) + 1;
    if (sub && !cg_buf_add(list, sub, strlen(sub) + 1))
        return cg_fail(e, CG_TOO_LARGE, "too many files");
    return nftw(path, walk_one, 32, FTW_PHYS) == 0 || cg_fail_sys(e, "list %s", path);
}

/* Runs git in dir and appends what it prints. */
static bool git_list(const char *dir, char *const argv[], struct cg_buf *out)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(dir) != 0 || dup2(p[1], 1) != 1)
            _exit(127);
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0)
            dup2(null, 2);
        execvp("git", argv);
        _exit(127);
    }
    close(p[1]);
    char bytes[65536];
    ssize_t n;
    bool ok = pid > 0;
    while ((n = read(p[0], bytes, sizeof bytes)) > 0)
        ok = cg_buf_add(out, bytes, (size_t)n) && ok;
    close(p[0]);
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && ok;
}

static bool choose_files(const char *dir, struct cg_buf *list, struct cg_err *e)
{
    char *const argv[] = {(char[]){"git"},
                          (char[]){"ls-files"},
                          (char[]){"-z"},
                          (char[]){"--cached"},
                          (char[]){"--others"},
                          (char[]){"--exclude-standard"},
                          NULL};
    CG_OWN(cg_drop_free) char *git = cg_format("%s/.git", dir);
    struct stat st;
    if (stat(git, &st) != 0 || !git_list(dir, argv, list)) {
        cg_buf_clear(list);
        return walk(dir, NULL, list, e);
    }
    if (S_ISDIR(st.st_mode))
        return walk(dir, ".git", list, e);
    return true; /* a worktree's .git file points out of it: its files go without history */
}

/* --- writing --- */

static la_ssize_t to_pipe(struct archive *a, void *ctx, const void *p, size_t n)
{
    const struct packer *k = ctx;
    if (cg_fd_write_full(k->pipe[1], p, n, NULL))
        return (la_ssize_t)n;
    archive_set_error(a, EPIPE, "the upload ended"); /* the server's words say why */
    return -1;
}

/* The header has promised the size: a file that shrinks meanwhile cannot be told truly. */
static bool copy_content(struct packer *k, struct archive *a, int fd, const char *name,
                         int64_t size)
{
    static char bytes[65536];
    while (size > 0) {
        ssize_t n = read(fd, bytes, (size_t)CG_MIN(size, (int64_t)sizeof bytes));
        if (n < 0)
            return cg_fail_sys(&k->err, "read %s", name);
        if (n == 0)
            return cg_fail(&k->err, CG_CONFLICT, "%s became shorter while it was read: try again",
                           name);
        if (archive_write_data(a, bytes, (size_t)n) < 0)
            return false;
        size -= n;
    }
    return true;
}

static bool add_file(struct packer *k, struct archive *a, const char *name)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", k->base, name);
    struct stat st;
    if (lstat(path, &st) != 0)
        return true; /* deleted, but still in git's index */
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) && !S_ISDIR(st.st_mode))
        return true;
    CG_OWN(cg_drop_fd) int fd = -1;
    if (S_ISREG(st.st_mode)) { /* before its header is written: what cannot be read is no file */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) != 0)
            return errno == ENOENT ||
                   cg_fail_sys(&k->err, "read %s (git-ignored files are left out)", name);
    }
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, st.st_mode);
    archive_entry_set_size(entry, S_ISREG(st.st_mode) ? st.st_size : 0);
    archive_entry_set_mtime(entry, st.st_mtim.tv_sec, 0);
    char target[4096];
    ssize_t n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof target - 1) : 0;
    if (n > 0) {
        target[n] = '\0';
        archive_entry_set_symlink(entry, target);
    }
    bool ok = archive_write_header(a, entry) == ARCHIVE_OK;
    if (ok && S_ISREG(st.st_mode))
        ok = copy_content(k, a, fd, name, st.st_size);
    archive_entry_free(entry);
    return ok;
}

static void *pack_work(void *arg)
{
    struct packer *k = arg;
    struct archive *a = archive_write_new();
    sigset_t broken_pipe; /* the upload ended early: an error of ours, no signal */
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe, NULL);
    archive_write_set_format_pax_restricted(a);
    archive_write_set_bytes_per_block(a, 65536);
    k->ok = archive_write_open(a, k, NULL, to_pipe, NULL) == ARCHIVE_OK;
    for (size_t at = 0; k->ok && at < k->list.n; at += strlen(k->list.p + at) + 1)
        k->ok = add_file(k, a, k->list.p + at);
    k->ok = k->ok && archive_write_close(a) == ARCHIVE_OK;
    if (!k->ok && k->err.code == CG_OK) {
        cg_fail(&k->err, CG_IO, "pack: %s",
                archive_error_string(a) ? archive_error_string(a) : "failed");
        k->err.sys = archive_errno(a);
    }
    k->done = k->ok;
    if (!k->ok)
        archive_write_fail(a); /* no end mark behind half of the files */
    archive_write_free(a);
    close(k->pipe[1]);
    return NULL;
}

static size_t from_pipe(void *ctx, char *p, size_t n)
{
    const struct packer *k = ctx;
    ssize_t got;
    do {
        got = read(k->pipe[0], p, n);
    } while (got < 0 && errno == EINTR);
    return got < 0 || (got == 0 && !k->done) ? SIZE_MAX : (size_t)got;
}

static bool send_packed(struct cli *c, struct packer *k, const char *id, const char *to,
                        struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *escaped = cli_escape(to);
    CG_OWN(cg_drop_free)
    char *path = cg_format("/v1/sandboxes/%s/files/archive?path=%s", id, escaped);
    const struct cli_pipe pipe = {.read = from_pipe, .ctx = k};
    if (pipe2(k->pipe, O_CLOEXEC) != 0 || pthread_create(&k->thread, NULL, pack_work, k) != 0)
        return cg_fail_sys(e, "start packing");
    bool ok = cli_stream(c, "PUT", path, &pipe, e);
    close(k->pipe[0]);
    pthread_join(k->thread, NULL);
    if (k->err.code != CG_OK && (ok || k->err.sys != EPIPE)) {
        *e = k->err; /* what made the upload end, not that it ended */
        ok = false;
    }
    return ok;
}

bool cg_pack_upload(struct cli *c, const char *id, const char *dir, struct cg_err *e)
{
    struct packer k = {.base = realpath(dir, NULL)};
    if (!k.base)
        return cg_fail_sys(e, "%s", dir);
    cg_buf_init(&k.list, LIST_MAX);
    bool ok = choose_files(k.base, &k.list, e);
    if (ok && k.list.n > 0)
        ok = send_packed(c, &k, id, "/workspace", e);
    cg_buf_finish(&k.list);
    free(k.base);
    return ok;
}

bool cg_pack_folder(struct cli *c, const char *id, const char *from, const char *to,
                    struct cg_err *e)
{
    struct packer k = {.base = realpath(from, NULL)};
    if (!k.base)
        return cg_fail_sys(e, "%s", from);
    cg_buf_init(&k.list, LIST_MAX);
    bool ok = walk(k.base, NULL, &k.list, e);
    if (ok && k.list.n > 0)
        ok = send_packed(c, &k, id, to, e);
    cg_buf_finish(&k.list);
    free(k.base);
    return ok;
}

/* --- reading --- */

struct unpacker {
    int pipe[2];
    pthread_t thread;
    const char *to;
    bool ok;
    struct cg_err err;
};

static void *unpack_work(void *arg)
{
    struct unpacker *u = arg;
    struct archive *in = archive_read_new();
    struct archive *out = archive_write_disk_new();
    struct archive_entry *entry;
    archive_read_support_format_tar(in);
    archive_write_disk_set_options(
        out, ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                 ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_UNLINK);
    int rc = archive_read_open_fd(in, u->pipe[0], 65536);
    while (rc == ARCHIVE_OK && (rc = archive_read_next_header(in, &entry)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", u->to, name ? name : "x");
        archive_entry_set_pathname(entry, path);
        archive_entry_set_perm(entry, archive_entry_perm(entry) & 0777);
        if (archive_entry_hardlink(entry)) {
            CG_OWN(cg_drop_free)
            char *link = cg_format("%s/%s", u->to, archive_entry_hardlink(entry));
            archive_entry_set_hardlink(entry, link);
        }
        rc = archive_write_header(out, entry);
        const void *p;
        size_t n;
        la_int64_t at;
        while (rc == ARCHIVE_OK && archive_read_data_block(in, &p, &n, &at) == ARCHIVE_OK)
            rc = archive_write_data_block(out, p, n, at) < 0 ? ARCHIVE_FATAL : ARCHIVE_OK;
    }
    u->ok = rc == ARCHIVE_EOF;
    if (!u->ok) {
        const char *why =
            archive_error_string(out) ? archive_error_string(out) : archive_error_string(in);
        cg_fail(&u->err, CG_IO, "unpack: %s", why ? why : "failed");
    }
    archive_write_close(out);
    archive_write_free(out);
    archive_read_free(in);
    char rest[4096];
    while (read(u->pipe[0], rest, sizeof rest) > 0)
        ; /* the sender must not wait for us */
    return NULL;
}

static bool into_pipe(void *ctx, struct cg_slice bytes)
{
    const struct unpacker *u = ctx;
    return cg_fd_write_full(u->pipe[1], bytes.p, bytes.n, NULL);
}

bool cg_unpack_folder(struct cli *c, const char *id, const char *from, const char *to,
                      struct cg_err *e)
{
    struct unpacker u = {.to = to};
    if (!cg_fs_mkdirs(to, 0755, e))
        return false;
    CG_OWN(cg_drop_free) char *real = realpath(to, NULL);
    u.to = real;
    CG_OWN(cg_drop_free) char *escaped = cli_escape(from);
    CG_OWN(cg_drop_free)
    char *path = cg_format("/v1/sandboxes/%s/files/archive?path=%s", id, escaped);
    const struct cli_pipe pipe = {.write = into_pipe, .ctx = &u};
    if (pipe2(u.pipe, O_CLOEXEC) != 0 || pthread_create(&u.thread, NULL, unpack_work, &u) != 0)
        return cg_fail_sys(e, "start unpacking");
    bool ok = cli_stream(c, "GET", path, &pipe, e);
    close(u.pipe[1]);
    pthread_join(u.thread, NULL);
    close(u.pipe[0]);
    if (ok && !u.ok) {
        *e = u.err;
        ok = false;
    }
    return ok;
}
