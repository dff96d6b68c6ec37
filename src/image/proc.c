/* Helper programs: posix_spawn, a poll loop over their pipes, and an end that is always reached.
 *
 * Promises: output beyond the caller's bound ends the program instead of growing memory; a
 * cancelled or orphaned program does not go on working (setpriv --pdeathsig, since posix_spawn has
 * no such attribute); no descriptor of ours is inherited (all are O_CLOEXEC). */
#include "image/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static const char search_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum {
    TICK_MS = 100,
    GRACE_MS = 10000,
    LINE_MAX_BYTES = 2048,
    TAIL_LINES = 4,
    UNKNOWN_STATUS = 125 << 8
};

struct run {
    struct cg_proc *p;
    pid_t pid;
    int out_fd;
    int err_fd;
    struct cg_buf line;     /* the unfinished line of stderr */
    char *tail[TAIL_LINES]; /* the last whole lines, oldest first */
    bool cancelled;
    bool too_large;
    int64_t kill_at_ns; /* after this a program that was asked to end is killed; 0: not asked */
};

bool cg_proc_have(const char *name)
{
    const char *at = search_path;
    while (*at) {
        size_t n = strcspn(at, ":");
        CG_OWN(cg_drop_free) char *path = cg_format("%.*s/%s", (int)n, at, name);
        if (access(path, X_OK) == 0)
            return true;
        at += n + (at[n] == ':');
    }
    return false;
}

static bool overridden(const char *entry, const struct cg_strv *env)
{
    size_t n = strcspn(entry, "=");
    for (size_t i = 0; i < env->n; i++)
        if (strncmp(env->v[i], entry, n) == 0 && env->v[i][n] == '=')
            return true;
    return false;
}

/* Our environment with the caller's entries, a fixed PATH and a fixed language over it. */
static void make_env(const struct cg_proc *p, struct cg_strv *out)
{
    struct cg_strv over = {.v = NULL};
    cg_strv_addf(&over, "PATH=%s", search_path);
    cg_strv_add(&over, "LC_ALL=C.UTF-8");
    cg_strv_add_all(&over, &p->env);
    for (char **at = environ; *at; at++)
        if (!overridden(*at, &over))
            cg_strv_add(out, *at);
    cg_strv_add_all(out, &over);
    cg_strv_finish(&over);
}

/* setpriv ends the program when we die, since posix_spawn cannot ask for that; unshare ends all
 * that lives in the namespaces when it is ended itself, and blocks every signal but KILL meanwhile.
 */
static void add_wrappers(const struct cg_proc *p, struct cg_strv *argv)
{
    static const char *const unshare[] = {"unshare",      "--mount",           "--pid", "--fork",
                                          "--mount-proc", "--kill-child=KILL", "--"};
    if (cg_proc_have("setpriv")) {
        cg_strv_add(argv, "setpriv");
        cg_strv_add(argv, p->namespaces ? "--pdeathsig=KILL" : "--pdeathsig=TERM");
        cg_strv_add(argv, "--");
    }
    for (size_t i = 0; p->namespaces && i < CG_COUNT(unshare); i++)
        cg_strv_add(argv, unshare[i]);
}

static int spawn(const struct cg_proc *p, int out_w, int err_w, pid_t *pid)
{
    struct cg_strv argv = {.v = NULL};
    struct cg_strv env = {.v = NULL};
    add_wrappers(p, &argv);
    cg_strv_add_all(&argv, &p->argv);
    make_env(p, &env);

    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, out_w, 1);
    posix_spawn_file_actions_adddup2(&fa, err_w, 2);
    if (p->cwd)
        posix_spawn_file_actions_addchdir_np(&fa, p->cwd);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int rc = posix_spawnp(pid, argv.v[0], &fa, &attr, argv.v, env.v);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    cg_strv_finish(&argv);
    cg_strv_finish(&env);
    return rc;
}

static void ask_to_end(struct run *r)
{
    if (r->kill_at_ns)
        return;
    r->kill_at_ns = cg_mono_ns() + (int64_t)GRACE_MS * 1000000;
    kill(-r->pid, SIGTERM);
}

static void tell(struct run *r, const char *line)
{
    if (r->p->line && !r->cancelled && !r->p->line(r->p->ctx, line)) {
        r->cancelled = true;
        ask_to_end(r);
    }
}

static void end_line(struct run *r)
{
    const char *line = cg_buf_cstr(&r->line);
    if (*line &&
        !cg_has_prefix(line, "I: ")) { /* apt's and mmdebstrap's mark of mere information */
        free(r->tail[0]);
        memmove(r->tail, r->tail + 1, sizeof(r->tail) - sizeof(r->tail[0]));
        r->tail[TAIL_LINES - 1] = cg_strdup(line);
    }
    if (*line)
        tell(r, line);
    cg_buf_clear(&r->line);
}

static void take_stderr(struct run *r, const char *p, size_t n)
{
    if (r->p->log_fd > 0 && write(r->p->log_fd, p, n) < 0) {
        /* The log is a convenience: a full disk shows in the build itself. */
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || p[i] == '\r')
            end_line(r);
        else if (p[i] == '\t' || ((unsigned char)p[i] >= 0x20 && p[i] != 0x7f))
            cg_buf_addc(&r->line, p[i]);
    }
}

/* One read; closes *fd at its end. */
static void drain(struct run *r, int *fd)
{
    char block[8192];
    ssize_t n = read(*fd, block, sizeof(block));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        close(*fd);
        *fd = -1;
        return;
    }
    if (fd == &r->out_fd && r->p->out) {
        if (!cg_buf_add(r->p->out, block, (size_t)n)) {
            r->too_large = true;
            ask_to_end(r);
        }
        return;
    }
    take_stderr(r, block, (size_t)n);
}

/* Reads until the program has ended and its pipes are empty. A grandchild that keeps a pipe open
 * does not hold us: what is there when the program ends is read, no more. */
static int pump(struct run *r)
{
    int64_t next_tick = 0;
    for (;;) {
        int status = 0;
        pid_t got = waitpid(r->pid, &status, WNOHANG);
        bool ended = got == r->pid;
        if (got < 0 && errno == ECHILD) { /* where SIGCHLD is ignored: how it ended is unknown */
            ended = true;
            status = UNKNOWN_STATUS;
        }
        struct pollfd fds[2] = {{.fd = r->out_fd, .events = POLLIN},
                                {.fd = r->err_fd, .events = POLLIN}};
        int ready = poll(fds, 2, ended ? 0 : TICK_MS);
        if (ready > 0 && fds[0].revents)
            drain(r, &r->out_fd);
        if (ready > 0 && fds[1].revents)
            drain(r, &r->err_fd);
        if (ended) {
            while (poll(fds, 2, 0) > 0 && (r->out_fd >= 0 || r->err_fd >= 0)) {
                if (fds[0].revents && r->out_fd >= 0)
                    drain(r, &r->out_fd);
                if (fds[1].revents && r->err_fd >= 0)
                    drain(r, &r->err_fd);
                fds[0].fd = r->out_fd;
                fds[1].fd = r->err_fd;
            }
            return status;
        }
        int64_t now = cg_mono_ns();
        if (now >= next_tick) {
            tell(r, NULL);
            next_tick = now + (int64_t)TICK_MS * 1000000;
        }
        if (r->kill_at_ns && now > r->kill_at_ns)
            kill(-r->pid, SIGKILL);
    }
}

static bool judge(struct run *r, int status, struct cg_err *e)
{
    const char *name = r->p->argv.v[0];
    if (r->cancelled)
        return cg_fail(e, CG_CLOSED, "interrupted");
    if (r->too_large)
        return cg_fail(e, CG_TOO_LARGE, "%s wrote more than %zu bytes", name, r->p->out->max);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !cg_proc_have(name))
        return cg_fail(e, CG_NOT_FOUND, "%s is not installed", name);
    CG_OWN(cg_drop_free) char *text = cg_strdup("");
    for (int i = TAIL_LINES - 1; i >= 0 && r->tail[i] && strlen(text) < 120; i--) {
        char *longer = cg_format("%.150s%s%s", r->tail[i], *text ? "; " : "", text);
        free(text);
        text = longer;
    }
    if (WIFSIGNALED(status))
        return cg_fail(e, CG_IO, "%s was killed by signal %d: %s", name, WTERMSIG(status), text);
    return cg_fail(e, CG_IO, "%s ended with status %d: %s", name, WEXITSTATUS(status), text);
}

bool cg_proc_run(struct cg_proc *p, struct cg_err *e)
{
    int out[2] = {-1, -1};
    int err[2] = {-1, -1};
    if (pipe2(err, O_CLOEXEC) != 0)
        return cg_fail_sys(e, "pipe");
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(err[0]);
        close(err[1]);
        return cg_fail_sys(e, "pipe");
    }
    struct run r = {.p = p, .out_fd = out[0], .err_fd = err[0]};
    cg_buf_init(&r.line, LINE_MAX_BYTES);
    int rc = spawn(p, out[1], err[1], &r.pid);
    close(out[1]);
    close(err[1]);
    bool ok = false;
    if (rc != 0) {
        errno = rc;
        cg_fail_sys(e, "start %s", p->argv.v[0]);
    } else {
        int status = pump(&r);
        end_line(&r);
        ok = judge(&r, status, e);
    }
    cg_drop_fd(&r.out_fd);
    cg_drop_fd(&r.err_fd);
    cg_buf_finish(&r.line);
    for (int i = 0; i < TAIL_LINES; i++)
        free(r.tail[i]);
    return ok;
}

void cg_proc_finish(struct cg_proc *p)
{
    cg_strv_finish(&p->argv);
    cg_strv_finish(&p->env);
}
