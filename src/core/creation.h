/* A creation under way: shared by create.c (files, jail, boot) and provision.c (clone, init). */
#ifndef CG_CORE_CREATION_H
#define CG_CORE_CREATION_H

#include "core/core.h"
#include "jail/jail.h"

struct cg_creation {
    struct cg_creation *next_waiting;
    struct cg_sandbox *sb;
    uv_work_t work;
    struct cg_err err;
    bool ok, working, failed;
    int fds[CG_JAIL_FD_COUNT];
    char *probe_json;
    char *token;
    struct cg_wcall call;
    struct cg_buf tail; /* of the output of clone and init */
    bool init_only;     /* POST …/init of a sandbox that runs already */
};

void cg_creation_write_hosts(const struct cg_egress_policy *p, struct cg_jsonw *w);
void cg_creation_clone(struct cg_creation *n);   /* then running */
void cg_creation_running(struct cg_creation *n); /* durable, then init */
void cg_creation_init(struct cg_creation *n);    /* then done */
void cg_creation_done(struct cg_creation *n);

/* Ends what there is of a sandbox and puts it into a final state; create_waiters and
 * destroy_waiters are told when nothing is left. */
void cg_core_end(struct cg_sandbox *sb, enum cg_status to, const char *reason);

#endif
