/* caged cp: files and folders between this machine and a sandbox; "-" is standard input or output.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/client.h"
#include "cli/pack.h"
#include "cli/verb.h"

struct copy {
    int fd;
    int64_t total, done; /* total -1: not known */
    bool bar;
    int percent;
    struct cg_err err; /* why the sink took no more */
};

static void show(struct copy *k)
{
    int percent = k->total > 0 ? (int)(k->done * 100 / k->total) : 0;
    if (!k->bar || percent == k->percent)
        return;
    k->percent = percent;
    fprintf(stderr, "\r%3d %%  %lld of %lld MiB\033[K", percent, (long long)(k->done >> 20),
            (long long)(k->total >> 20));
    if (percent == 100)
        fputc('\n', stderr);
}

static size_t read_some(void *ctx, char *p, size_t n)
{
    struct copy *k = ctx;
    ssize_t got;
    do {
        got = read(k->fd, p, n);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return SIZE_MAX;
    k->done += got;
    show(k);
    return (size_t)got;
}

static bool write_some(void *ctx, struct cg_slice bytes)
{
    struct copy *k = ctx;
    k->done += (int64_t)bytes.n;
    return cg_fd_write_full(k->fd, bytes.p, bytes.n, &k->err);
}

/* A stream whose sink gave up has ended without fault of the server's. */
static bool fetch(struct cli *c, const char *path, struct copy *k, const char *to, struct cg_err *e)
{
    const struct cli_pipe pipe = {.write = write_some, .ctx = k};
    if (!cli_stream(c, "GET", path, &pipe, e))
        return false;
    if (k->err.code == CG_OK)
        return true;
    *e = k->err;
    return cg_wrap(e, "write %s", to);
}

/* "<id>:PATH" split; false for a local name. */
static bool remote(const char *word, char id[64], const char **path)
{
    const char *colon = strchr(word, ':');
    if (!colon || !cg_has_prefix(word, "cage-") || (size_t)(colon - word) >= 64)
        return false;
    cg_snprintf(id, 64, "%.*s", (int)(colon - word), word);
    *path = colon[1] ? colon + 1 : "/workspace";
    return true;
}

static char *file_path(const char *id, const char *path)
{
    CG_OWN(cg_drop_free) char *escaped = cli_escape(path);
    return cg_format("/v1/sandboxes/%s/files/raw?path=%s", id, escaped);
}

static bool up(struct cli *c, const char *from, const char *id, const char *to, struct cg_err *e)
{
    struct copy k = {.fd = STDIN_FILENO, .total = -1, .bar = isatty(STDERR_FILENO)};
    CG_OWN(cg_drop_fd) int fd = -1;
    struct stat st;
    const char *slash = strrchr(from, '/');
    const char *name = slash ? slash + 1 : from;
    bool is_stdin = strcmp(from, "-") == 0;
    if (!is_stdin) {
        if (stat(from, &st) != 0)
            return cg_fail_sys(e, "%s", from);
        if (S_ISDIR(st.st_mode))
            return cg_pack_folder(c, id, from, to, e);
        fd = open(from, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return cg_fail_sys(e, "%s", from);
        k.fd = fd;
        k.total = st.st_size;
    }
    CG_OWN(cg_drop_free)
    char *target =
        cg_has_suffix(to, "/") && !is_stdin ? cg_format("%s%s", to, name) : cg_strdup(to);
    CG_OWN(cg_drop_free) char *path = file_path(id, target);
    const struct cli_pipe pipe = {.read = read_some, .ctx = &k};
    return cli_stream(c, "PUT", path, &pipe, e);
}

static bool down_file(struct cli *c, const char *id, const char *from, const char *to,
                      struct cg_err *e)
{
    struct copy k = {.fd = STDOUT_FILENO, .total = -1};
    CG_OWN(cg_drop_free) char *path = file_path(id, from);
    if (strcmp(to, "-") == 0)
        return fetch(c, path, &k, "standard output", e);
    struct stat st;
    const char *slash = strrchr(from, '/');
    bool folder = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
    CG_OWN(cg_drop_free)
    char *target = folder ? cg_format("%s/%s", to, slash ? slash + 1 : from) : cg_strdup(to);
    CG_OWN(cg_drop_free) char *part = cg_format("%s.part", target);
    k.fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (k.fd < 0)
        return cg_fail_sys(e, "write %s", part);
    bool ok = fetch(c, path, &k, target, e);
    /* some file systems tell of a full disk only here */
    ok = (close(k.fd) == 0 || !ok || cg_fail_sys(e, "write %s", target)) && ok;
    ok = ok && (rename(part, target) == 0 || cg_fail_sys(e, "write %s", target));
    if (!ok)
        unlink(part);
    return ok;
}

static bool down(struct cli *c, const char *id, const char *from, const char *to, struct cg_err *e)
{
    if (down_file(c, id, from, to, e))
        return true;
    if (!strstr(e->text, "not a regular file") || strcmp(to, "-") == 0)
        return false;
    *e = (struct cg_err){.code = CG_OK};
    return cg_unpack_folder(c, id, from, to, e);
}

int verb_cp(int argc, char **argv)
{
    char id[64];
    const char *path = NULL;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    if (argc != 3)
        return cli_usage("cp needs two names; one is <id>:PATH, - is standard input or output");
    bool from_guest = remote(argv[1], id, &path);
    const char *other = from_guest ? argv[2] : argv[1];
    if (!from_guest && !remote(argv[2], id, &path))
        return cli_usage("one of the two must be <id>:PATH, as in cage-k3v9q2m7xa:/workspace/x");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    bool ok = from_guest ? down(&c, id, path, other, &e) : up(&c, other, id, path, &e);
    cli_finish(&c);
    return ok ? 0 : cli_error(&e);
}
