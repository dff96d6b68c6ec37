/* A QMP client that trusts the VMM with nothing: lines, values, pending commands and output are
 * bounded, and what does not follow the protocol ends the connection. */
#ifndef CG_VMM_QEMU_QMP_H
#define CG_VMM_QEMU_QMP_H

#include <uv.h>

#include "base/err.h"
#include "base/json.h"

enum {
    CG_QMP_LINE_MAX = 65536, /* bytes of one message from the VMM */
    CG_QMP_PENDING_MAX = 16, /* commands without an answer */
};

struct cg_qmp;

struct cg_qmp_handlers {
    void (*on_event)(void *ctx, const char *name,
                     const struct cg_json *data);         /* data may be NULL */
    void (*on_gone)(void *ctx, const struct cg_err *why); /* once; destroy may follow */
};

/* One of result and err is NULL; both are valid during the call only. */
typedef void cg_qmp_done(void *ctx, const struct cg_json *result, const struct cg_err *err);

/* Takes fd over, also on failure. Commands may be given at once; they wait for the greeting. */
CG_MUST_USE struct cg_qmp *cg_qmp_create(uv_loop_t *loop, int fd, const struct cg_qmp_handlers *h,
                                         void *ctx, struct cg_err *e);

/* Pending commands get CG_CLOSED before it returns. NULL is fine; safe inside callbacks. */
void cg_qmp_destroy(struct cg_qmp *q);

/* arguments is a JSON object or NULL. True: done comes exactly once, later. False: never. */
CG_MUST_USE bool cg_qmp_command(struct cg_qmp *q, const char *name, const char *arguments,
                                int timeout_ms, cg_qmp_done *done, void *ctx, struct cg_err *e);

/* Sends a descriptor, which stays the caller's, in front of the next command: `getfd` gives it a
 * name. Only from the answer to a command, when nothing waits to be written. */
CG_MUST_USE bool cg_qmp_send_fd(struct cg_qmp *q, int fd, struct cg_err *e);

#endif
