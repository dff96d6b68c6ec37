/* caged-agent: PID 1 of a guest, or a plain program (docs/guest-agent.md). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/agent.h"
#include "guest/agent/options.h"

struct agent agent = {.workspace = "/workspace", .env = {.max = 64 * 1024}};

static struct watch children = {.fd = -1};

void agent_log(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    size_t len = CG_MIN((size_t)n, sizeof line - 2);
    line[len] = '\n';
    static const char prefix[] = "caged-agent: ";
    /* as PID 1 standard error is the console; nothing can be done when it cannot be written */
    if (write(STDERR_FILENO, prefix, sizeof prefix - 1) < 0 ||
        write(STDERR_FILENO, line, len + 1) < 0)
        return;
}

static void on_child(struct watch *w, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    while (read(w->fd, &info, sizeof info) == sizeof info)
        ;
    exec_reap();
}

/* PID 1 ignores every signal it has no handler for, those of root in the guest included. */
static void watch_children(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    CG_ASSERT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CG_ASSERT(fd >= 0);
    watch_start(&children, fd, EPOLLIN, on_child);
}

static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd < 0)
        return;
    for (int i = 0; i < 3; i++) {
        if (fd != i && dup2(fd, i) != i)
            return;
    }
    if (fd > 2)
        close(fd);
}

CG_NORETURN static void run_guest(void)
{
    agent.in_vm = true;
    open_console();
    boot_guest();
    loop_init();
    watch_children();
    struct cg_err e = CG_ERR_INIT;
    if (!observe_start(&e))
        agent_log("observation: %s", e.text);
    int fd = boot_open_link();
    if (fd < 0)
        boot_power_off("there is no port named caged.link");
    session_start(fd);
    for (;;)
        loop_once();
}

/* --link-socket PATH: the link protocol on a unix socket, one connection, for tests. */
static int run_on_socket(const char *path, const char *workspace)
{
    struct cg_err e = CG_ERR_INIT;
    agent.workspace = workspace;
    CG_OWN(cg_drop_fd) int listener = cg_unix_listen(path, 0600, &e);
    int fd = listener < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        agent_log("%s", e.code != CG_OK ? e.text : strerror(errno));
        return 1;
    }
    loop_init();
    watch_children();
    session_start(fd);
    while (session_alive())
        loop_once();
    exec_kill_all(SIGKILL);
    return 0;
}

int main(int argc, char **argv)
{
    if (getpid() == 1)
        run_guest();
    struct options o;
    struct cg_err e = CG_ERR_INIT;
    if (!options_read(argc, argv, &o, &e)) {
        fprintf(stderr,
                "caged-agent: %s\n"
                "usage: caged-agent [--workspace DIR] [--socket PATH] [--heartbeat-interval 5s]\n"
                "                   [--metrics-interval 10s] [--log-level info] [--subscribe]\n"
                "                   [--link-socket PATH] [--version]\n",
                e.text);
        return 2;
    }
    if (o.version) {
        printf("caged-agent %s\n", CG_VERSION);
        return 0;
    }
    if (o.subscribe)
        return legacy_subscribe(o.socket);
    return o.link_socket ? run_on_socket(o.link_socket, o.workspace) : legacy_serve(&o);
}
