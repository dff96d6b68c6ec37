/* Walks the layers that a sandbox is built of, one by one, on this machine; for `caged doctor`. */
#ifndef CG_JAIL_CHECK_H
#define CG_JAIL_CHECK_H

#include "base/err.h"

/* Prints a JSON line a layer to standard output:
 * {"check":"tun","ok":false,"required":true,"detail":"open /dev/net/tun: ...","fix":"chmod ..."}.
 * True when everything that is required works. */
bool cg_jail_check(void);

#endif
