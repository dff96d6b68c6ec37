/* Calls to providers: libcurl's multi interface on the loop. HTTP/1.1, certificates verified, no
 * proxy of the environment, no redirect followed, nothing stored. One thread, the loop's; names are
 * resolved on libcurl's own threads. */
#ifndef CG_GATEWAY_UPSTREAM_H
#define CG_GATEWAY_UPSTREAM_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_upstream;
struct cg_fetch;

enum { CG_FETCH_PIECES = 16 };

struct cg_fetch_ops {
    /* A header of the reply, names as they came. */
    void (*header)(void *ctx, const char *name, const char *value);
    /* The head is complete. */
    void (*head)(void *ctx, int status);
    /* Bytes of the reply. False: not now, the same bytes come again after cg_fetch_resume. */
    bool (*data)(void *ctx, struct cg_slice bytes);
    /* Once, unless cancelled; NULL: the reply is whole. The fetch is gone when it returns.
     * `sent`: the request may have reached the other side. */
    void (*done)(void *ctx, const struct cg_err *err, bool sent);
};

struct cg_fetch_request {
    const char *method; /* "GET" or "POST" */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated */
    /* The body in pieces, which are copied; their bytes stay the caller's and in place until done
     * or cancel. */
    const struct cg_slice *body;
    size_t pieces; /* at most CG_FETCH_PIECES */
    uint32_t connect_ms;
};

void cg_upstream_start_libraries(void);
CG_MUST_USE struct cg_upstream *cg_upstream_create(uv_loop_t *loop, struct cg_err *e);
/* Every fetch must be over. Handles go by the loop. NULL is fine. */
void cg_upstream_destroy(struct cg_upstream *u);

/* CG_INVALID for a request that libcurl refuses. No callback comes from inside. */
CG_MUST_USE struct cg_fetch *cg_fetch_start(struct cg_upstream *u, const struct cg_fetch_request *r,
                                            const struct cg_fetch_ops *ops, void *ctx,
                                            struct cg_err *e);
void cg_fetch_resume(struct cg_fetch *f);
void cg_fetch_cancel(struct cg_fetch *f); /* closes the connection; no callback follows */

#endif
