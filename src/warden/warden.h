/* One sandbox's owner, from birth to end: the guest link, the ways out, the record. It serves the
 * warden socket of docs/link-protocol.md to any server and outlives every one of them. */
#ifndef CG_WARDEN_WARDEN_H
#define CG_WARDEN_WARDEN_H

#include <uv.h>

#include "base/err.h"

enum cg_warden_exit {
    CG_WARDEN_STOPPED = 0,
    CG_WARDEN_NO_START = 1,  /* configuration, record or descriptors are not usable */
    CG_WARDEN_VMM_DIED = 3,  /* the VMM or the guest ended by itself */
    CG_WARDEN_BAD_GUEST = 4, /* the guest broke the link's rules */
    CG_WARDEN_NO_BOOT = 5,   /* the guest did not come up */
};

struct cg_vmm;
struct ready;

/* Descriptors, as jail.h numbers them; taken over. -1: this part is not there (tests without a
 * VMM or network). */
struct cg_warden_fds {
    int control;
    int link;
    int vmm;
    int tcp;
    int dns;
    int dns_tcp;
    int dir;
    int keeper;
    struct cg_vmm *restored; /* of a spare: the guest is in it already, paused (warm.h) */
    struct ready *ready;     /* of a spare: what was done in advance (ready.h) */
};

struct warden;

/* Reads config.json, opens the record and begins to listen. NULL with *e set on failure. */
CG_MUST_USE struct warden *cg_warden_create(uv_loop_t *loop, const char *id,
                                            const struct cg_warden_fds *fds, struct cg_err *e);

/* Runs the loop until the sandbox has ended; the exit code, enum cg_warden_exit. */
int cg_warden_run(struct warden *w);
void cg_warden_destroy(struct warden *w);

#endif
