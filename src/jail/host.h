/* Finds out once what keepers need to know about this machine. */
#ifndef CG_JAIL_HOST_H
#define CG_JAIL_HOST_H

#include "jail/keeper.h"

/* Fills programs and file lists, unless those found earlier are still what is on disk. The first
 * time some 100 ms, blocking. Errors name what to install. */
CG_MUST_USE bool cg_jail_host_find(struct cg_jail_host *h, struct cg_err *e);

/* The path of a program installed beside this one. */
CG_MUST_USE bool cg_jail_sibling(const char *name, char *out, size_t size, struct cg_err *e);

#endif
