/* Paths out of requests and archives, opened so that no magic link is followed and, below a folder,
 * nothing outside of it is reached (openat2, Linux 5.6). */
#ifndef CG_AGENT_RESOLVE_H
#define CG_AGENT_RESOLVE_H

#include <sys/types.h>

#include "base/err.h"

/* dir: a descriptor that must not be left, or -1: the whole tree. */
int resolve_open(int dir, const char *path, int flags, mode_t mode);

/* Opens the folder that holds `path` and points *name at its last component; -1 with errno set.
 * With `make`, missing folders are made (0755) on the way. */
int resolve_parent(int dir, const char *path, bool make, const char **name);

/* mkdir -p below dir (or anywhere for -1); existing folders are fine. */
bool resolve_mkdirs(int dir, const char *path, mode_t mode);

#endif
