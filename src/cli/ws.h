/* A WebSocket to the server, for terminals and streamed commands: wslay over a connection that
 * libcurl made. */
#ifndef CG_CLI_WS_H
#define CG_CLI_WS_H

#include "cli/client.h"

struct cli_ws;

struct cli_ws_ops {
    void (*on_message)(void *ctx, bool text, struct cg_slice bytes);
};

/* Gets a ticket and connects to `path` (without query). */
CG_MUST_USE struct cli_ws *cli_ws_connect(struct cli *c, const char *path, const char *query,
                                          const char *protocol, const struct cli_ws_ops *ops,
                                          void *ctx, struct cg_err *e);
void cli_ws_send(struct cli_ws *ws, bool text, struct cg_slice bytes);
void cli_ws_close(struct cli_ws *ws);
/* For poll: descriptor and the events wanted. */
int cli_ws_fd(const struct cli_ws *ws);
short cli_ws_events(const struct cli_ws *ws);
size_t cli_ws_queued(const struct cli_ws *ws);
/* After poll; false when the connection has ended. */
CG_MUST_USE bool cli_ws_serve(struct cli_ws *ws, short revents);
void cli_ws_destroy(struct cli_ws *ws);

/* A command in a sandbox with this process's standard streams. The result is its exit code. */
struct cli_exec {
    char **argv;
    int argc;
    bool tty; /* -t: a terminal */
    bool no_stdin;
    bool login; /* connect: a login shell */
    const char *user, *cwd;
    struct cg_buf *env; /* NAME=value, each ended by NUL */
    int64_t timeout_ms;
};
int cli_exec_run(struct cli *c, const char *id, const struct cli_exec *x);

#endif
