/* Inside of the protocol: messages (protocol.c) and tools (tools.c, answer.c). */
#ifndef CG_MCP_INNER_H
#define CG_MCP_INNER_H

#include "base/jsonw.h"
#include "mcp/mcp.h"

enum { MCP_ARGS = 2 };

/* JSON-RPC and MCP error codes. */
enum {
    RPC_PARSE = -32700,
    RPC_INVALID = -32600,
    RPC_METHOD = -32601,
    RPC_PARAMS = -32602,
    RPC_INTERNAL = -32603,
    RPC_VERSION = -32022
};

struct cg_mcp {
    struct cg_mcp_options o;
    const char *version; /* agreed on by initialize; NULL: not yet */
    unsigned calls;
    bool gone;
};

enum mcp_shape {
    SHAPE_TEXT,
    SHAPE_LIST,
    SHAPE_SEARCH,
    SHAPE_EXEC,
    SHAPE_STATUS,
    SHAPE_LOG,
    SHAPE_DONE
};

struct mcp_arg {
    const char *name, *type, *description; /* type: "string", "integer", "boolean" */
    bool required;
};

struct mcp_tool {
    const char *name, *description;
    struct mcp_arg args[MCP_ARGS];
    bool writes;
    enum mcp_shape shape; /* of the result */
    const char *output;   /* schema of the structured result, or NULL */
    void (*start)(struct cg_mcp_call *c, const struct cg_json *args);
};

/* What a request said about the protocol. */
struct mcp_era {
    bool modern;     /* stateless: the version stands in the request */
    bool structured; /* structuredContent, outputSchema, annotations */
};

struct cg_mcp_call {
    struct cg_mcp *m;
    const struct mcp_tool *tool;
    struct mcp_era era;
    char *id;                    /* as JSON */
    struct cg_buf text, entries; /* of the answer */
    bool has_entry;
};

/* protocol.c: the frame of an answer, in which the caller writes the result's members. */
void mcp_result_begin(struct cg_jsonw *w, struct cg_buf *b, const char *id, struct mcp_era era);
void mcp_result_end(struct cg_mcp *m, struct cg_jsonw *w, struct cg_buf *b, const char *id);
void mcp_error(struct cg_mcp *m, const char *id, int code, const char *text);

/* tools.c */
const struct mcp_tool *mcp_tool_find(const struct cg_mcp *m, const char *name);
void mcp_tools_write(const struct cg_mcp *m, struct mcp_era era, struct cg_jsonw *w);
CG_MUST_USE bool mcp_args_check(const struct mcp_tool *t, const struct cg_json *args,
                                struct cg_err *e);

/* answer.c */
void mcp_answer(struct cg_mcp_call *c, bool failed); /* with c->text; ends the call */

#endif
