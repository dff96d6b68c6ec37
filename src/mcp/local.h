/* The backend on this machine: files beneath one folder, commands in it. */
#ifndef CG_MCP_LOCAL_H
#define CG_MCP_LOCAL_H

#include <uv.h>

#include "mcp/mcp.h"

struct cg_mcp_local;

CG_MUST_USE struct cg_mcp_local *cg_mcp_local_create(uv_loop_t *loop, const char *workspace,
                                                     struct cg_err *e);
/* Kills what still runs; its calls end at once. */
void cg_mcp_local_end(struct cg_mcp_local *l);

/* The backend's functions; each takes the cg_mcp_local as its ctx. */
void cg_mcp_local_run(struct cg_mcp_local *l, struct cg_mcp_call *c, const struct cg_mcp_run *run);
void cg_mcp_local_read(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path);
void cg_mcp_local_write(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path,
                        struct cg_slice bytes);
void cg_mcp_local_list(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path);
void cg_mcp_local_remove(struct cg_mcp_local *l, struct cg_mcp_call *c, const char *path);

#endif
