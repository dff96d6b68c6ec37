/* The server's end of a warden socket: one connection a sandbox, calls as streams of the link. */
#ifndef CG_CORE_WCLIENT_H
#define CG_CORE_WCLIENT_H

#include <uv.h>

#include "link/link.h"

struct cg_wclient;

/* One call. Handlers may be NULL. `s` is NULL from on_close on. The struct is the caller's and
 * lives until on_close has returned, or cg_wcall_forget. */
struct cg_wcall {
    struct cg_link_stream *s;
    struct cg_wclient *client;
    void (*on_accept)(struct cg_wcall *c, const struct cg_json *info);
    void (*on_data)(struct cg_wcall *c, unsigned channel, struct cg_slice bytes);
    void (*on_eof)(struct cg_wcall *c, unsigned channel);
    void (*on_control)(struct cg_wcall *c, const struct cg_json *message);
    void (*on_writable)(struct cg_wcall *c);
    /* Once. error is NULL for success; result may be NULL when the link failed. */
    void (*on_close)(struct cg_wcall *c, const struct cg_json *result, const struct cg_err *error);
};

/* on_down: once, when the connection has ended; the client is freed after it returns. */
CG_MUST_USE struct cg_wclient *cg_wclient_connect(uv_loop_t *loop, const char *path,
                                                  void (*on_down)(void *ctx,
                                                                  const struct cg_err *why),
                                                  void *ctx, struct cg_err *e);
/* Ends it: open calls get on_close with CG_CLOSED; on_down does not come. NULL is fine. */
void cg_wclient_destroy(struct cg_wclient *c);

/* The request is a JSON object with "kind". */
CG_MUST_USE bool cg_wcall_open(struct cg_wclient *c, struct cg_wcall *call, struct cg_slice request,
                               struct cg_err *e);
CG_MUST_USE size_t cg_wcall_send(struct cg_wcall *call, unsigned channel, struct cg_slice bytes);
void cg_wcall_eof(struct cg_wcall *call, unsigned channel);
void cg_wcall_control(struct cg_wcall *call, struct cg_slice message);
void cg_wcall_grant(struct cg_wcall *call, size_t n);
void cg_wcall_cancel(struct cg_wcall *call);
void cg_wcall_forget(struct cg_wcall *call); /* cancels; no handler is called any more */

#endif
