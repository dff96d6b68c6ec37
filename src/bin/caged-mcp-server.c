/* caged-mcp-server: files, commands and git of one folder for an MCP client, over standard input
 * and output or over WebSockets on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "http/http.h"
#include "loop/stream.h"
#include "mcp/local.h"

enum { LINE_MAX_BYTES = CG_MCP_MESSAGE_MAX + 2, BACKLOG = 16 };

struct settings {
    const char *mode, *workspace, *commands, *level;
    long port;
    bool read_only;
};

static struct server {
    struct settings set;
    uv_loop_t loop;
    struct cg_mcp_local *local;
    /* stdio */
    struct cg_mcp *mcp;
    struct cg_buf in;
    bool over; /* standard input has ended: no more than what is under way */
} server;

/* --- the backend, with whose message it is --- */

static void run(void *ctx, struct cg_mcp_call *c, const struct cg_mcp_run *r)
{
    (void)ctx;
    cg_mcp_local_run(server.local, c, r);
}

static void read_file(void *ctx, struct cg_mcp_call *c, const char *path)
{
    (void)ctx;
    cg_mcp_local_read(server.local, c, path);
}

static void write_file(void *ctx, struct cg_mcp_call *c, const char *path, struct cg_slice bytes)
{
    (void)ctx;
    cg_mcp_local_write(server.local, c, path, bytes);
}

static void list(void *ctx, struct cg_mcp_call *c, const char *path)
{
    (void)ctx;
    cg_mcp_local_list(server.local, c, path);
}

static void delete_path(void *ctx, struct cg_mcp_call *c, const char *path)
{
    (void)ctx;
    cg_mcp_local_remove(server.local, c, path);
}

static struct cg_mcp *new_mcp(void (*reply)(void *ctx, struct cg_slice message), void *ctx)
{
    const struct cg_mcp_options o = {.read_only = server.set.read_only,
                                     .commands = server.set.commands,
                                     .backend = {run, read_file, write_file, list, delete_path},
                                     .reply = reply,
                                     .ctx = ctx};
    return cg_mcp_create(&o);
}

/* --- standard input and output --- */

static void maybe_stop(void)
{
    if (server.over && (!server.mcp || cg_mcp_calls(server.mcp) == 0))
        uv_stop(&server.loop);
}

static void reply_line(void *ctx, struct cg_slice message)
{
    (void)ctx;
    if (!cg_fd_write_full(STDOUT_FILENO, message.p, message.n, NULL) ||
        !cg_fd_write_full(STDOUT_FILENO, "\n", 1, NULL))
        server.over = true; /* the client is gone */
}

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    (void)ctx;
    if (!cg_buf_add(&server.in, bytes.p, bytes.n))
        return cg_fail(e, CG_TOO_LARGE, "a line is over 4 MiB");
    for (char *end; server.in.n > 0 && (end = memchr(server.in.p, '\n', server.in.n));) {
        size_t n = (size_t)(end - server.in.p);
        size_t text = n > 0 && server.in.p[n - 1] == '\r' ? n - 1 : n;
        if (text > 0)
            cg_mcp_take(server.mcp, (struct cg_slice){server.in.p, text});
        cg_buf_consume(&server.in, n + 1);
    }
    return true;
}

static void on_end(void *ctx, const struct cg_err *why)
{
    (void)ctx;
    if (why->code != CG_CLOSED)
        cg_log(CG_LOG_ERROR, CG_EVENT("mcp.input"), CG_E(why));
    server.over = true;
}

static void on_turn(uv_prepare_t *p)
{
    (void)p;
    maybe_stop();
}

static bool serve_stdio(struct cg_err *e)
{
    static const struct cg_stream_ops ops = {.on_read = on_read, .on_end = on_end};
    uv_prepare_t turn;
    cg_buf_init(&server.in, LINE_MAX_BYTES + 65536);
    server.mcp = new_mcp(reply_line, NULL);
    int fd = dup(STDIN_FILENO);
    struct cg_stream *s = fd >= 0 ? cg_stream_create(&server.loop, fd, &ops, NULL, e) : NULL;
    if (!s)
        return cg_wrap(e, "standard input must be a pipe, a socket or a terminal");
    uv_prepare_init(&server.loop, &turn);
    uv_prepare_start(&turn, on_turn);
    uv_run(&server.loop, UV_RUN_DEFAULT);
    cg_stream_destroy(s);
    return true;
}

/* --- WebSockets --- */

struct peer {
    struct cg_mcp *mcp;
};

static void reply_ws(void *ctx, struct cg_slice message)
{
    cg_ws_send(ctx, true, message);
}

static void on_message(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    const struct peer *p = ctx;
    if (text)
        cg_mcp_take(p->mcp, bytes);
    else
        cg_ws_close(ws, 1003, "messages are text");
}

static void on_close(void *ctx, struct cg_ws *ws)
{
    struct peer *p = ctx;
    (void)ws;
    cg_mcp_destroy(p->mcp);
    free(p);
}

/* Only programs of this machine: a page of a browser names its origin, and a rebound name is no
 * loopback name. */
static bool is_local(const struct cg_http_req *r)
{
    const char *host = cg_http_header(r, "host");
    return !cg_http_header(r, "origin") && host &&
           (cg_has_prefix(host, "127.0.0.1:") || cg_has_prefix(host, "localhost:"));
}

static void on_request(void *ctx, struct cg_http_req *r)
{
    static const struct cg_ws_ops ops = {on_message, NULL, on_close};
    (void)ctx;
    if (!is_local(r) || !cg_ws_wanted(r, NULL)) {
        bool local = is_local(r);
        cg_http_reply(r, local ? 426 : 403, "text/plain",
                      cg_slice_of(local ? "a WebSocket (subprotocol mcp) is served here\n"
                                        : "only programs of this machine are served\n"));
        return;
    }
    struct peer *p = cg_alloc(sizeof *p);
    struct cg_ws *ws = cg_ws_accept(r, "mcp", &ops, p);
    if (ws) {
        cg_ws_limit(ws, CG_MCP_MESSAGE_MAX);
        p->mcp = new_mcp(reply_ws, ws);
    }
    if (!ws)
        free(p);
}

static bool serve_ws(struct cg_err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server.set.port)};
    socklen_t n = sizeof a;
    int one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return cg_fail_sys(e, "listen on port %ld", server.set.port);
    if (!cg_http_server_create(&server.loop, fd, on_request, NULL, e))
        return false;
    cg_log(CG_LOG_INFO, CG_EVENT("mcp.listening"), CG_I("port", ntohs(a.sin_port)));
    uv_run(&server.loop, UV_RUN_DEFAULT);
    return true;
}

/* --- flags --- */

static const char usage[] =
    "usage: caged-mcp-server [--mode stdio|ws] [--port N] [--workspace DIR] [--read-only]\n"
    "                        [--allowed-commands NAME,NAME] [--log-level debug|info|warn|error]\n"
    "Each flag has a variable as well: CAGED_MCP_MODE, CAGED_MCP_PORT, CAGED_MCP_WORKSPACE, …\n";

static const char *from_env(const char *name, const char *fallback)
{
    const char *set = getenv(name);
    return set && set[0] ? set : fallback;
}

static bool truth(const char *text)
{
    return cg_streq(text, "true") || cg_streq(text, "1") || cg_streq(text, "yes");
}

static bool read_port(const char *text, long *out)
{
    char *end = NULL;
    *out = strtol(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && *out <= 65535;
}

/* -1: go on; else the exit code. */
static int read_flags(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {{"mode", required_argument, NULL, 'm'},
                                            {"port", required_argument, NULL, 'p'},
                                            {"workspace", required_argument, NULL, 'w'},
                                            {"allowed-commands", required_argument, NULL, 'c'},
                                            {"read-only", no_argument, NULL, 'r'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *port = from_env("CAGED_MCP_PORT", "9090");
    *s = (struct settings){.mode = from_env("CAGED_MCP_MODE", "stdio"),
                           .workspace = from_env("CAGED_MCP_WORKSPACE", "."),
                           .commands = from_env("CAGED_MCP_ALLOWED_COMMANDS", NULL),
                           .level = from_env("CAGED_MCP_LOG_LEVEL", "info"),
                           .read_only = truth(from_env("CAGED_MCP_READ_ONLY", ""))};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'm')
            s->mode = optarg;
        else if (o == 'p')
            port = optarg;
        else if (o == 'w')
            s->workspace = optarg;
        else if (o == 'c')
            s->commands = optarg[0] ? optarg : NULL;
        else if (o == 'r')
            s->read_only = true;
        else if (o == 'l')
            s->level = optarg;
        else if (o == 'v')
            return printf("caged-mcp-server %s\n", CG_VERSION) < 0;
        else
            return fputs(usage, o == 'h' ? stdout : stderr) < 0 || o != 'h' ? 2 : 0;
    }
    enum cg_log_level level = CG_LOG_INFO;
    bool fine = read_port(port, &s->port) && optind == argc &&
                cg_log_level_parse(s->level, &level) &&
                (cg_streq(s->mode, "stdio") || cg_streq(s->mode, "ws"));
    if (!fine)
        fputs(usage, stderr);
    cg_log_set_level(level);
    return fine ? -1 : 2;
}

int main(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    int code = read_flags(argc, argv, &server.set);
    if (code >= 0)
        return code;
    bool ok = uv_loop_init(&server.loop) == 0;
    server.local = cg_mcp_local_create(&server.loop, server.set.workspace, &e);
    ok = ok && server.local && (cg_streq(server.set.mode, "ws") ? serve_ws(&e) : serve_stdio(&e));
    if (server.local)
        cg_mcp_local_end(server.local);
    if (!ok)
        fprintf(stderr, "error: %s\n", e.text);
    return ok ? 0 : 1;
}
