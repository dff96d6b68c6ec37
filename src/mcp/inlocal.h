/* Inside of the local backend: commands (local.c) and files (localfs.c). */
#ifndef CG_MCP_INLOCAL_H
#define CG_MCP_INLOCAL_H

#include "mcp/local.h"

struct cg_mcp_local {
    uv_loop_t *loop;
    char root[4096]; /* resolved */
    int dir;
    struct running *first;
};

#endif
