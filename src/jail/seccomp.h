/* The system calls that a warden may make. */
#ifndef CG_JAIL_SECCOMP_H
#define CG_JAIL_SECCOMP_H

#include "base/err.h"

/* Shuts the door behind the calling process, all its threads included: any call that is not on the
 * list kills the process, and the kernel logs which one. Call it once, when everything that needs
 * more has been done (threads may still be made afterwards, programs not started, code not loaded).
 * Errors: CG_UNSUPPORTED when the kernel has no seccomp filters. */
CG_MUST_USE bool cg_seccomp_warden(struct cg_err *e);

/* Whether this kernel can filter and log at all; for doctor. */
CG_MUST_USE bool cg_seccomp_available(struct cg_err *e);

#endif
