/* fork, exec, poll: the child has an almost empty environment, no standard input and its errors go
 * where ours go. It runs in a process group of its own, so that a kill takes its children too. */
#include "base/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { END_STEP_NS = 1000000 };

CG_NORETURN static void child(const char *const *argv, const char *env, int out)
{
    setpgid(0, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 0);
    dup2(out, 1);
    const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", env, NULL};
    execve(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
    _exit(127);
}

static bool read_all(int fd, int64_t deadline_ns, char *out, size_t size, struct cg_err *e)
{
    size_t n = 0;
    for (;;) {
        int64_t left_ms = (deadline_ns - cg_mono_ns()) / 1000000;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = left_ms > 0 ? poll(&p, 1, (int)left_ms) : 0;
        if (ready == 0)
            return cg_fail(e, CG_TIMEOUT, "no end in time");
        if (ready < 0)
            continue;
        ssize_t got = read(fd, out + n, size - n);
        if (got < 0)
            return cg_fail_sys(e, "read its output");
        n += (size_t)got;
        if (n == size)
            return cg_fail(e, CG_TOO_LARGE, "more than %zu bytes of output", size - 1);
        if (got == 0)
            break;
    }
    out[n] = '\0';
    return true;
}

bool cg_command_output(const char *const *argv, const char *env, int timeout_ms, char *out,
                       size_t size, struct cg_err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return cg_fail_sys(e, "pipe");
    CG_OWN(cg_drop_fd) int in = ends[0];
    CG_OWN(cg_drop_fd) int give = ends[1];
    pid_t pid = fork();
    if (pid < 0)
        return cg_fail_sys(e, "fork");
    if (pid == 0)
        child(argv, env, give);
    setpgid(pid, pid); /* whoever of us comes first: the kill below finds its group */
    cg_drop_fd(&give);
    int64_t deadline_ns = cg_mono_ns() + (int64_t)timeout_ms * 1000000;
    bool ok = read_all(in, deadline_ns, out, size, e);
    int status = 0;
    /* one that has closed its output may still not end */
    while (ok && waitpid(pid, &status, WNOHANG) != pid) {
        if (cg_mono_ns() > deadline_ns)
            ok = cg_fail(e, CG_TIMEOUT, "no end in time");
        else
            nanosleep(&(struct timespec){.tv_nsec = END_STEP_NS}, NULL);
    }
    if (!ok) {
        kill(-pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    if (ok && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return cg_fail(e, CG_IO, "%s ended with status %d", argv[0],
                       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return ok;
}
