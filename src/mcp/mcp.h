/* The Model Context Protocol, server side, without I/O: JSON-RPC messages go in, answers come out,
 * and what a tool does is asked of a backend, which answers now or later. docs/mcp.md has tools,
 * flags and protocol versions. One thread, the owner's. */
#ifndef CG_MCP_MCP_H
#define CG_MCP_MCP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum { CG_MCP_MESSAGE_MAX = 4 << 20, CG_MCP_TEXT_MAX = 8 << 20, CG_MCP_CALLS_MAX = 64 };

struct cg_mcp;
struct cg_mcp_call; /* a tool call under way; valid until one of the functions that end it */

struct cg_mcp_run {
    const char *shell;       /* a command line, or NULL: argv */
    const char *const *argv; /* ended by NULL */
    int timeout_s;           /* then the whole process group is killed */
};

/* What tools are made of. Paths come as the client wrote them: keeping them inside the workspace is
 * the backend's. The arguments are valid during the call only. */
struct cg_mcp_backend {
    void (*run)(void *ctx, struct cg_mcp_call *c, const struct cg_mcp_run *run);
    void (*read)(void *ctx, struct cg_mcp_call *c, const char *path);
    void (*write)(void *ctx, struct cg_mcp_call *c, const char *path, struct cg_slice bytes);
    void (*list)(void *ctx, struct cg_mcp_call *c, const char *path);
    void (*remove)(void *ctx, struct cg_mcp_call *c, const char *path);
};

struct cg_mcp_options {
    bool read_only;       /* only tools that change nothing */
    bool lists_empty;     /* resources and prompts are answered with empty lists */
    const char *commands; /* names that terminal_exec may run, with commas between; NULL: all */
    const char *about;    /* instructions for the model, or NULL */
    struct cg_mcp_backend backend;
    void (*reply)(void *ctx, struct cg_slice message); /* one message, without a newline */
    void *ctx;                                         /* of reply and of the backend */
};

/* Strings of the options must live as long as it does. */
CG_MUST_USE struct cg_mcp *cg_mcp_create(const struct cg_mcp_options *o);
/* Calls under way go on without an answer; the backend must still end each. NULL is fine. */
void cg_mcp_destroy(struct cg_mcp *m);
void cg_mcp_take(struct cg_mcp *m, struct cg_slice message);
unsigned cg_mcp_calls(const struct cg_mcp *m); /* under way */

/* --- answers of the backend; all but cg_mcp_entry end the call --- */

struct cg_mcp_ran {
    struct cg_slice out, err;
    int exit_code;
    bool timed_out, truncated;
};
void cg_mcp_ran(struct cg_mcp_call *c, const struct cg_mcp_ran *r);
void cg_mcp_entry(struct cg_mcp_call *c, const char *name, bool folder, int64_t size);
void cg_mcp_done(struct cg_mcp_call *c, struct cg_slice bytes); /* read; the others: empty */
void cg_mcp_failed(struct cg_mcp_call *c, const struct cg_err *e);

#endif
