/* caged mcp: the MCP endpoint of a sandbox as a program that speaks over standard input and output,
 * a message a line. Nothing but messages goes to standard output. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/verb.h"
#include "cli/ws.h"

enum { LINE_BYTES = 4 << 20, CHUNK = 65536, QUEUE_MAX = 8 << 20, LAST_MS = 30000 };

struct bridge {
    struct cli_ws *ws;
    struct cg_buf in;
    unsigned open; /* requests without their answer */
    bool over;     /* standard input has ended, or output is gone */
};

/* A request has an id and a method, its answer an id and none. */
static bool is_message(struct cg_slice text, bool request)
{
    const struct cg_json_limits limits = {64 << 20, 64, 1 << 20};
    CG_OWN(cg_drop_json) struct cg_json *m = cg_json_parse(text, &limits, NULL);
    if (!m)
        return request; /* what is no JSON is answered, too */
    return cg_json_get(m, "id") && (cg_json_get(m, "method") != NULL) == request;
}

static void on_message(void *ctx, bool text, struct cg_slice bytes)
{
    struct bridge *b = ctx;
    if (!text)
        return;
    if (b->open > 0 && is_message(bytes, false))
        b->open--;
    if (!cg_fd_write_full(STDOUT_FILENO, bytes.p, bytes.n, NULL) ||
        !cg_fd_write_full(STDOUT_FILENO, "\n", 1, NULL)) {
        b->over = true;
        b->open = 0;
    }
}

static void take_lines(struct bridge *b)
{
    for (char *end; b->in.n > 0 && (end = memchr(b->in.p, '\n', b->in.n));) {
        size_t n = (size_t)(end - b->in.p);
        struct cg_slice line = {b->in.p, n > 0 && b->in.p[n - 1] == '\r' ? n - 1 : n};
        if (line.n > 0) {
            b->open += is_message(line, true);
            cli_ws_send(b->ws, true, line);
        }
        cg_buf_consume(&b->in, n + 1);
    }
}

static bool read_input(struct bridge *b)
{
    char *room = cg_buf_room(&b->in, CHUNK);
    if (!room) {
        fprintf(stderr, "error: a line is over 4 MiB\n");
        return false;
    }
    ssize_t n = read(STDIN_FILENO, room, CHUNK);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n <= 0) {
        b->over = true;
        return true;
    }
    cg_buf_grew(&b->in, (size_t)n);
    take_lines(b);
    return true;
}

/* Until input has ended and everything is answered, or the server has gone. */
static int pump(struct bridge *b)
{
    bool alive = cli_ws_serve(b->ws, POLLIN);
    while (alive && !(b->over && b->open == 0)) {
        bool reads = !b->over && cli_ws_queued(b->ws) < QUEUE_MAX;
        struct pollfd fds[2] = {{cli_ws_fd(b->ws), cli_ws_events(b->ws), 0},
                                {reads ? STDIN_FILENO : -1, POLLIN, 0}};
        int n = poll(fds, 2, b->over ? LAST_MS : -1);
        if (n == 0)
            break;
        if (n < 0)
            continue;
        if (fds[1].revents && !read_input(b))
            return 1;
        alive = cli_ws_serve(b->ws, fds[0].revents);
    }
    if (alive)
        return 0;
    fprintf(stderr, "error: the connection to the sandbox ended\n");
    return 1;
}

int verb_mcp(int argc, char **argv)
{
    static const struct cli_ws_ops ops = {on_message};
    struct bridge b = {0};
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    if (argc != 2 || argv[1][0] == '-')
        return cli_usage("mcp needs a sandbox: caged mcp <id>");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    signal(SIGPIPE, SIG_IGN);
    CG_OWN(cg_drop_free) char *id = cli_escape(argv[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/mcp", id);
    cg_buf_init(&b.in, LINE_BYTES + 2 * CHUNK);
    b.ws = cli_ws_connect(&c, path, "", "mcp", &ops, &b, &e);
    int code = b.ws ? pump(&b) : cli_error(&e);
    if (b.ws)
        cli_ws_close(b.ws);
    cli_ws_destroy(b.ws);
    cg_buf_finish(&b.in);
    cli_finish(&c);
    return code;
}
