/* From a request to a running process. Nothing between fork and exec allocates or can fail without
 * the reason reaching the caller: errno travels through a close-on-exec pipe. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/exec.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char **strings_new(void)
{
    return cg_alloc_array(EXEC_ARGS_MAX + 1, sizeof(char *));
}

static void strings_free(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

void exec_plan_finish(struct exec_plan *p)
{
    strings_free(p->argv);
    strings_free(p->envp);
    p->argv = p->envp = NULL;
}

/* Sets NAME=value, replacing an earlier one. */
static bool env_set(char **envp, const char *name, size_t name_n, const char *value)
{
    unsigned i = 0;
    for (; envp[i]; i++) {
        if (strncmp(envp[i], name, name_n) == 0 && envp[i][name_n] == '=')
            break;
    }
    if (i >= EXEC_ARGS_MAX)
        return false;
    free(envp[i]);
    envp[i] = cg_format("%.*s=%s", (int)name_n, name, value);
    return true;
}

static bool env_put(char **envp, const char *name, const char *value)
{
    return env_set(envp, name, strlen(name), value);
}

static bool read_env(const struct cg_json *request, struct exec_plan *p, struct cg_err *e)
{
    const char *term = cg_json_str(request, "term");
    env_put(p->envp, "PATH", DEFAULT_PATH);
    env_put(p->envp, "HOME", p->user.home);
    env_put(p->envp, "USER", p->user.name);
    env_put(p->envp, "LOGNAME", p->user.name);
    env_put(p->envp, "SHELL", p->user.shell);
    env_put(p->envp, "LANG", "C.UTF-8");
    env_put(p->envp, "TERM", term ? term : p->pty ? "xterm-256color" : "dumb");
    for (size_t at = 0; at < agent.env.n; at += strlen(agent.env.p + at) + 1) {
        const char *pair = agent.env.p + at;
        env_set(p->envp, pair, strcspn(pair, "="), pair + strcspn(pair, "=") + 1);
    }
    const struct cg_json *env = cg_json_get(request, "env");
    for (const struct cg_json *m = env ? env->child : NULL; m; m = m->next) {
        if (m->type != CG_JSON_STR || memchr(m->str.p, 0, m->str.n) || m->key.n == 0 ||
            memchr(m->key.p, '=', m->key.n) || memchr(m->key.p, 0, m->key.n))
            return cg_fail(e, CG_INVALID, "env.%.64s must be a string without NUL", m->key.p);
        if (!env_set(p->envp, m->key.p, m->key.n, m->str.p))
            return cg_fail(e, CG_INVALID, "env has more than %d members", (int)EXEC_ARGS_MAX);
    }
    return true;
}

static bool read_argv(const struct cg_json *request, struct exec_plan *p, struct cg_err *e)
{
    const struct cg_json *argv = cg_json_get(request, "argv");
    const char *shell = cg_json_str(request, "shell");
    unsigned n = 0;
    if (p->login && !argv && !shell) {
        p->argv[n++] = cg_strdup(p->user.shell);
        p->argv[n] = cg_strdup("-l");
        return true;
    }
    if (shell) {
        p->argv[n++] = cg_strdup(access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh");
        if (p->login)
            p->argv[n++] = cg_strdup("-l");
        p->argv[n++] = cg_strdup("-c");
        p->argv[n] = cg_strdup(shell);
        return true;
    }
    if (!argv || argv->type != CG_JSON_ARR || argv->count == 0)
        return cg_fail(e, CG_INVALID, "argv (a non-empty array) or shell (a string) is needed");
    for (const struct cg_json *a = argv->child; a; a = a->next) {
        if (a->type != CG_JSON_STR || memchr(a->str.p, 0, a->str.n))
            return cg_fail(e, CG_INVALID, "argv must hold strings without NUL");
        if (n >= EXEC_ARGS_MAX)
            return cg_fail(e, CG_INVALID, "argv has more than %d items", (int)EXEC_ARGS_MAX);
        p->argv[n++] = cg_strdup(a->str.p);
    }
    return true;
}

bool exec_plan_read(const struct cg_json *request, struct exec_plan *p, struct cg_err *e)
{
    *p = (struct exec_plan){.rows = 24, .cols = 80};
    p->argv = strings_new();
    p->envp = strings_new();
    p->login = cg_json_bool(request, "login", false);
    p->echo = cg_json_bool(request, "echo", false);
    const struct cg_json *pty = cg_json_get(request, "pty");
    p->pty = pty && pty->type == CG_JSON_OBJ;
    if (p->pty) {
        p->rows = (uint16_t)cg_json_int(pty, "rows", 24);
        p->cols = (uint16_t)cg_json_int(pty, "cols", 80);
    }
    if (!user_find(cg_json_str(request, "user"), &p->user, e))
        return false;
    if (!cg_json_get(request, "cwd"))
        cg_strlcpy(p->cwd, sizeof p->cwd, agent.workspace);
    else if (!request_path(request, "cwd", p->cwd, sizeof p->cwd, e))
        return false;
    return read_env(request, p, e) && read_argv(request, p, e);
}

/* The file that execvp would take, so that only execve is left for the child. */
static bool find_program(const struct exec_plan *p, char *out, size_t size, struct cg_err *e)
{
    const char *name = p->argv[0];
    if (strchr(name, '/')) {
        if (!cg_strlcpy(out, size, name))
            return cg_fail(e, CG_INVALID, "the program's path is too long");
        return true;
    }
    const char *path = DEFAULT_PATH;
    for (char **v = p->envp; *v; v++) {
        if (cg_has_prefix(*v, "PATH="))
            path = *v + 5;
    }
    for (;;) {
        size_t n = strcspn(path, ":");
        int len = snprintf(out, size, "%.*s/%s", (int)n, path, name);
        struct stat st;
        if (n > 0 && len > 0 && (size_t)len < size && stat(out, &st) == 0 && S_ISREG(st.st_mode) &&
            (st.st_mode & 0111))
            return true;
        if (path[n] == '\0')
            return cg_fail(e, CG_NOT_FOUND, "%.100s: command not found", name);
        path += n + 1;
    }
}

static bool open_pty(const struct exec_plan *p, int *master, int *slave, struct cg_err *e)
{
    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[64];
    if (*master < 0 || grantpt(*master) != 0 || unlockpt(*master) != 0 ||
        ptsname_r(*master, name, sizeof name) != 0)
        return cg_fail_sys(e, "open a terminal");
    *slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct winsize size = {.ws_row = p->rows, .ws_col = p->cols};
    struct termios t;
    if (*slave < 0 || ioctl(*slave, TIOCSWINSZ, &size) != 0 || tcgetattr(*slave, &t) != 0)
        return cg_fail_sys(e, "open a terminal");
    if (!p->echo)
        t.c_lflag &= ~(tcflag_t)ECHO;
    t.c_iflag |= IUTF8;
    if (tcsetattr(*slave, TCSANOW, &t) != 0 || fchown(*slave, p->user.uid, (gid_t)-1) != 0)
        return errno == EPERM || cg_fail_sys(e, "set up a terminal");
    return true;
}

struct child_fds {
    int in, out, err, error;
};

CG_NORETURN static void child(const struct exec_plan *p, const char *program, const char *cgroup,
                              const struct child_fds *f)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < 32; s++)
        signal(s, SIG_DFL);
    umask(022);
    bool ok = cgroup_enter(cgroup) && setsid() >= 0;
    if (ok && p->pty)
        ok = ioctl(f->in, TIOCSCTTY, 0) == 0;
    ok = ok && dup2(f->in, 0) == 0 && dup2(f->out, 1) == 1 && dup2(f->err, 2) == 2;
    struct rlimit files = {.rlim_cur = 65536, .rlim_max = 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    setpriority(PRIO_PROCESS, 0, 0); /* the agent's own is better */
    if (ok && getuid() == 0) {
        CG_OWN(cg_drop_fd) int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        ok = score < 0 || write(score, "0", 1) == 1;
        ok = ok && (p->user.uid == 0 ? setgroups(0, NULL) == 0
                                     : initgroups(p->user.name, p->user.gid) == 0);
        ok = ok && setgid(p->user.gid) == 0 && setuid(p->user.uid) == 0;
    }
    /* the folder is entered with the user's rights */
    ok = ok && chdir(p->cwd) == 0;
    if (ok)
        execve(program, p->argv, p->envp);
    if (ok && errno == ENOEXEC) {
        /* a script without an interpreter line, as shells run it */
        char *again[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t)program, NULL};
        execve(again[0], again, p->envp);
    }
    int sys = errno;
    if (write(f->error, &sys, sizeof sys) != sizeof sys)
        _exit(126);
    _exit(127);
}

static bool make_fds(const struct exec_plan *p, struct exec_fds *ours, struct child_fds *theirs,
                     struct cg_err *e)
{
    *ours = (struct exec_fds){-1, -1, -1};
    if (p->pty) {
        int master = -1;
        int slave = -1;
        bool ok = open_pty(p, &master, &slave, e);
        *ours = (struct exec_fds){-1, master, -1};
        theirs->in = theirs->out = theirs->err = slave;
        if (ok)
            ours->in = fcntl(master, F_DUPFD_CLOEXEC, 0);
        return ok && (ours->in >= 0 || cg_fail_sys(e, "open a terminal"));
    }
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) != 0)
        return cg_fail_sys(e, "make a pipe");
    ours->in = in[1];
    theirs->in = in[0];
    if (pipe2(out, O_CLOEXEC) != 0)
        return cg_fail_sys(e, "make a pipe");
    ours->out = out[0];
    theirs->out = out[1];
    if (pipe2(err, O_CLOEXEC) != 0)
        return cg_fail_sys(e, "make a pipe");
    ours->err = err[0];
    theirs->err = err[1];
    return true;
}

static void close_theirs(const struct exec_plan *p, struct child_fds *f)
{
    cg_drop_fd(&f->in);
    if (!p->pty) {
        cg_drop_fd(&f->out);
        cg_drop_fd(&f->err);
    }
}

static void close_ours(struct exec_fds *f)
{
    cg_drop_fd(&f->in);
    cg_drop_fd(&f->out);
    cg_drop_fd(&f->err);
}

bool exec_spawn(const struct exec_plan *p, const char *cgroup, pid_t *pid, struct exec_fds *ours,
                struct cg_err *e)
{
    char program[4096];
    if (!find_program(p, program, sizeof program, e))
        return false;
    struct child_fds theirs = {-1, -1, -1, -1};
    int error[2] = {-1, -1};
    bool ok = make_fds(p, ours, &theirs, e);
    ok = ok && (pipe2(error, O_CLOEXEC) == 0 || cg_fail_sys(e, "make a pipe"));
    *pid = ok ? fork() : -1;
    if (*pid == 0) {
        theirs.error = error[1];
        child(p, program, cgroup, &theirs);
    }
    if (ok && *pid < 0)
        ok = cg_fail_sys(e, "start %.100s", p->argv[0]);
    close_theirs(p, &theirs);
    cg_drop_fd(&error[1]);
    int sys = 0;
    if (ok && cg_fd_read_full(error[0], &sys, sizeof sys, NULL)) {
        errno = sys;
        ok = cg_fail_sys(e, "run %.100s in %.60s", p->argv[0], p->cwd);
        waitpid(*pid, NULL, 0);
    }
    cg_drop_fd(&error[0]);
    if (!ok)
        close_ours(ours);
    return ok;
}
