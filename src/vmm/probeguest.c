/* One guest without disks and network, started for its own sake: the agent with caged.probe=1
 * forks, execs, fills memory and files, and says "caged-probe ok" on the console. Whatever the VMM
 * does (hang, crash, spew), this comes back by its deadline with the VMM gone. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "vmm/probe.h"

enum { HEARD_MAX = 16384 };

struct trial {
    pid_t pid;
    int console; /* our ends */
    int errors;
    int control[2];
    int link[2];
    char heard[HEARD_MAX]; /* the newest of the console, NUL-terminated */
    char said[HEARD_MAX];  /* the newest of its standard error */
};

CG_NORETURN static void run_vmm(const struct cg_vmm_driver *d, const struct cg_vmm_program *program,
                                const struct cg_vmm_launch *l, int errors)
{
    static char *const env[] = {NULL};
    struct cg_vmm_args args;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    dup2(errors, 1);
    dup2(errors, 2);
    const int keep[] = {l->kernel, l->initramfs, l->link, l->control, l->console};
    for (size_t i = 0; i < CG_COUNT(keep); i++)
        (void)!cg_fd_set_cloexec(keep[i], false, NULL);
    if (cg_vmm_args_build(d, program->path, l, &args, NULL))
        execve(args.argv[0], args.argv, env);
    _exit(127);
}

/* Keeps the newest bytes of a channel; false at its end. */
static bool hear(int fd, char *text)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] == '\0')
            bytes[i] = ' ';
    }
    size_t have = strlen(text);
    if (have + (size_t)n >= HEARD_MAX) {
        size_t keep = CG_MIN(have, (size_t)4096);
        memmove(text, text + have - keep, keep);
        have = keep;
    }
    memcpy(text + have, bytes, (size_t)n);
    text[have + (size_t)n] = '\0';
    return true;
}

/* The last line that has letters, for the message. */
static const char *last_line(char *text)
{
    for (size_t n = strlen(text); n > 0 && strchr("\r\n ", text[n - 1]); n--)
        text[n - 1] = '\0';
    char *line = strrchr(text, '\n');
    return line ? line + 1 : *text ? text : "nothing";
}

/* The line whole: half of one may be the beginning of something else. */
static bool worked(const char *heard)
{
    return strstr(heard, "caged-probe ok\n") || strstr(heard, "caged-probe ok\r");
}

static bool judge(struct trial *t, bool ended, int seconds, struct cg_err *e)
{
    const char *failed = strstr(t->heard, "caged-probe failed");
    if (worked(t->heard))
        return true;
    if (failed)
        return cg_fail(e, CG_UNSUPPORTED, "the guest's work went wrong: %.*s",
                       (int)CG_MIN(strcspn(failed, "\r\n"), (size_t)120), failed);
    if (ended)
        return cg_fail(e, CG_UNSUPPORTED, "the VMM ended: %.120s", last_line(t->said));
    return cg_fail(e, CG_TIMEOUT, "the guest did nothing within %d s; its last words: %.80s",
                   seconds, last_line(t->heard));
}

static bool listen_to(struct trial *t, int seconds, struct cg_err *e)
{
    int64_t deadline_ns = cg_mono_ns() + (int64_t)seconds * 1000000000;
    struct pollfd p[] = {{.fd = t->console, .events = POLLIN}, {.fd = t->errors, .events = POLLIN}};
    for (;;) {
        int64_t left_ms = (deadline_ns - cg_mono_ns()) / 1000000;
        if (left_ms <= 0)
            return judge(t, false, seconds, e);
        if (poll(p, 2, (int)left_ms) <= 0)
            continue;
        bool open = true;
        if (p[1].revents && !hear(t->errors, t->said))
            p[1].fd = -1;
        if (p[0].revents)
            open = hear(t->console, t->heard);
        if (worked(t->heard) || strstr(t->heard, "caged-probe failed"))
            return judge(t, false, seconds, e);
        if (!open || p[1].fd < 0)
            return judge(t, true, seconds, e);
    }
}

static bool pairs(struct trial *t, int console[2], int errors[2], struct cg_err *e)
{
    return (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t->link) == 0 &&
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t->control) == 0 &&
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console) == 0 &&
            pipe2(errors, O_CLOEXEC) == 0) ||
           cg_fail_sys(e, "make sockets");
}

static void finish(struct trial *t)
{
    if (t->pid > 0) {
        kill(-t->pid, SIGKILL); /* its own process group, unless it had no time to make one */
        kill(t->pid, SIGKILL);
        while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    int *const fds[] = {&t->console,    &t->errors,  &t->control[0],
                        &t->control[1], &t->link[0], &t->link[1]};
    for (size_t i = 0; i < CG_COUNT(fds); i++)
        cg_drop_fd(fds[i]);
    free(t);
}

bool cg_vmm_probe_guest(const struct cg_vmm_driver *d, const struct cg_vmm_program *program,
                        enum cg_accel accel, const char *kernel, const char *initramfs, int seconds,
                        struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
    if (kernel_fd < 0)
        return cg_fail_sys(e, "%s", kernel);
    CG_OWN(cg_drop_fd) int initramfs_fd = open(initramfs, O_RDONLY | O_CLOEXEC);
    if (initramfs_fd < 0)
        return cg_fail_sys(e, "%s", initramfs);
    struct trial *t = cg_alloc(sizeof *t);
    int console[2] = {-1, -1}, errors[2] = {-1, -1};
    *t = (struct trial){.control = {-1, -1}, .link = {-1, -1}, .console = -1, .errors = -1};
    bool ok = pairs(t, console, errors, e);
    t->console = console[0];
    t->errors = errors[0];
    const struct cg_vmm_launch l = {
        .accel = accel,
        .vcpus = 1,
        .mem_mib = 256,
        .tsc_khz = cg_vmm_tsc_khz(),
        .kernel_args = "caged.probe=1",
        .kernel = kernel_fd,
        .initramfs = initramfs_fd,
        .base = -1,
        .disk_rw = -1,
        .disk_ro = -1,
        .tap = -1,
        .link = t->link[0],
        .control = t->control[0],
        .console = console[1],
        .ram = -1,
    };
    if (ok && (t->pid = fork()) == 0)
        run_vmm(d, program, &l, errors[1]);
    ok = ok && (t->pid > 0 || cg_fail_sys(e, "fork"));
    cg_drop_fd(&console[1]);
    cg_drop_fd(&errors[1]);
    ok = ok && listen_to(t, seconds, e);
    finish(t);
    return ok;
}
