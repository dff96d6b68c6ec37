/* Giving capabilities up, by the system calls themselves: libraries look into /proc on the way, and
 * a process in a new pid namespace finds another process's there. */
#ifndef CG_JAIL_CAPS_H
#define CG_JAIL_CAPS_H

#include "base/err.h"

/* Leaves the calling process (one thread) exactly the capabilities in `keep` (1 << CAP_...), for
 * now and for whatever it execs none beyond them, and checks it. Never gives any. */
CG_MUST_USE bool cg_caps_keep(uint64_t keep, struct cg_err *e);

/* Makes all permitted capabilities effective: a change from uid 0 to another clears that. */
CG_MUST_USE bool cg_caps_raise(struct cg_err *e);

#endif
