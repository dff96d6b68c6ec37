/* Who changed what by the API: a record (docs/record-format.md) of the server's own in
 * <state>/audit, append-only, sealed like those of sandboxes, so that `caged verify DIR` names
 * every change. One thread, the loop's; the disk is waited for on the pool. */
#ifndef CG_CORE_AUDIT_H
#define CG_CORE_AUDIT_H

#include "core/core.h"

enum { CG_AUDIT_KEPT = 4096 }; /* in memory, for the API; all are on disk */

struct cg_audit {
    uint64_t seq;
    int64_t wall;
    char account[CG_ID_TEXT];                 /* whose thing was changed: a person, or a team */
    char person[CG_ID_TEXT], key[CG_ID_TEXT]; /* who did it */
    char action[80];                          /* "DELETE /v1/sandboxes/{id}" */
    char target[128];                         /* the path that was asked for */
    char ip[48], request[24];
    int status;
};

CG_MUST_USE bool cg_audit_start(struct cg_core *c, struct cg_err *e);
void cg_audit_stop(struct cg_core *c); /* waits for the disk, and seals */

typedef void cg_audit_done(void *ctx, const struct cg_err *err);
/* Appends. done (may be NULL): it is on disk; from the loop, never from inside. seq and wall are
 * set here. */
void cg_audit_note(struct cg_core *c, const struct cg_audit *a, cg_audit_done *done, void *ctx);

/* The newest ones of an account with a number below `before` (0: all), newest first; each returns
 * false to stop. */
void cg_audit_each(const char *account, uint64_t before,
                   bool (*each)(void *ctx, const struct cg_audit *a), void *ctx);

#endif
