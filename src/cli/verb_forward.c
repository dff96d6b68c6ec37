/* caged forward: local listeners whose connections are carried to ports of a sandbox. Every
 * connection has a process of its own with a WebSocket of its own, so a slow one holds up no other;
 * it ends with its connection, and with us. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/forward.h"
#include "cli/verb.h"

enum { FORWARDS_MAX = 16, CHILDREN_MAX = 256, WORDS = 32, BACKLOG = 64 };

struct forward {
    int fd;
    int port;  /* in the guest */
    int local; /* here; 0: one that is free */
};

static volatile sig_atomic_t stopped;

static void on_stop(int number)
{
    (void)number;
    stopped = 1;
}

static void on_child(int number)
{
    (void)number; /* only to leave poll */
}

/* --- arguments --- */

static bool read_number(const char *text, char until, int least, int *out, const char **rest)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    long n = strtol(text, &end, 10);
    if ((*end && *end != until) || n < least || n > 65535)
        return false;
    *out = (int)n;
    *rest = end;
    return true;
}

static bool read_forward(const char *text, struct forward *f)
{
    const char *rest = NULL;
    *f = (struct forward){.fd = -1};
    if (!read_number(text, ':', 1, &f->port, &rest))
        return false;
    f->local = f->port;
    return !*rest || (read_number(rest + 1, '\0', 0, &f->local, &rest) && !*rest);
}

static bool listen_on(struct forward *f, const char *address, struct cg_err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f->local)};
    socklen_t n = sizeof a;
    int one = 1;
    if (inet_pton(AF_INET, address, &a.sin_addr) != 1)
        return cg_fail(e, CG_INVALID, "--bind %s is no IPv4 address", address);
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (f->fd < 0 || setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(f->fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(f->fd, BACKLOG) != 0 ||
        getsockname(f->fd, (struct sockaddr *)&a, &n) != 0)
        return cg_fail_sys(e, "listen on %s:%d (choose another with PORT:LOCAL)", address,
                           f->local);
    f->local = ntohs(a.sin_port);
    return true;
}

/* --- serving --- */

struct serving {
    struct cli *c;
    const char *id;
    struct forward *f;
    int n;
    int children;
};

static void reap(struct serving *s)
{
    while (s->children > 0 && waitpid(-1, NULL, WNOHANG) > 0)
        s->children--;
}

/* Never returns. */
static void be_child(const struct serving *s, int fd, int port, pid_t parent)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    for (int i = 0; i < s->n; i++)
        close(s->f[i].fd);
    struct cg_err e = CG_ERR_INIT;
    bool fine = cli_forward_carry(s->c, s->id, port, fd, &e);
    if (!fine)
        fprintf(stderr, "error: port %d: %s\n", port, e.text);
    fflush(stderr);
    _exit(fine ? 0 : 1);
}

static void take(struct serving *s, const struct forward *f)
{
    CG_OWN(cg_drop_fd) int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        be_child(s, fd, f->port, parent);
    if (pid > 0)
        s->children++;
    else
        fprintf(stderr, "error: no process for a connection: %s\n", strerror(errno));
}

static void serve(struct serving *s)
{
    struct pollfd fds[FORWARDS_MAX];
    sigset_t blocked;
    sigset_t usual;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &usual); /* they come during ppoll and nowhere else */
    while (!stopped) {
        bool full = s->children >= CHILDREN_MAX;
        for (int i = 0; i < s->n; i++)
            fds[i] = (struct pollfd){full ? -1 : s->f[i].fd, POLLIN, 0};
        int ready = ppoll(fds, (nfds_t)s->n, NULL, &usual);
        reap(s);
        for (int i = 0; ready > 0 && i < s->n; i++)
            if (fds[i].revents)
                take(s, &s->f[i]);
    }
}

static bool is_there(struct cli *c, const char *id, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", escaped);
    return cli_call(c, "GET", path, (struct cg_slice){0}, NULL, e);
}

static int run(struct serving *s, const char *address)
{
    struct cg_err e = CG_ERR_INIT;
    bool fine = is_there(s->c, s->id, &e);
    for (int i = 0; i < s->n && fine; i++)
        fine = listen_on(&s->f[i], address, &e);
    for (int i = 0; i < s->n && fine; i++)
        printf("%s:%d -> %s:%d\n", address, s->f[i].local, s->id, s->f[i].port);
    fflush(stdout);
    if (fine)
        serve(s);
    for (int i = 0; i < s->n; i++)
        cg_drop_fd(&s->f[i].fd);
    return fine ? 0 : cli_error(&e);
}

int verb_forward(int argc, char **argv)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    struct forward forwards[FORWARDS_MAX];
    const char *address = "127.0.0.1";
    char *words[WORDS];
    int n = 0;
    const struct cli_flag flags[] = {{"--bind", true, &address, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_error(&e);
    if (n < 2 || n > FORWARDS_MAX)
        return cli_usage("forward needs a sandbox and ports: caged forward <id> 3000[:LOCAL]");
    for (int i = 1; i < n; i++)
        if (!read_forward(words[i], &forwards[i - 1]))
            return cli_usage("\"%s\" is no PORT or PORT:LOCAL", words[i]);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    struct sigaction stop = {.sa_handler = on_stop};
    struct sigaction child = {.sa_handler = on_child};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGCHLD, &child, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct serving s = {.c = &c, .id = words[0], .f = forwards, .n = n - 1};
    int code = run(&s, address);
    cli_finish(&c);
    return code;
}
