/* Paths out of requests and archives, opened so that no magic link is followed and, below a folder,
 * nothing outside of it is reached (openat2, Linux 5.6). */
#ifndef CG_AGENT_RESOLVE_H
#define CG_AGENT_RESOLVE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

/* Where a request points: `path` from `dir`, a descriptor that must not be left, or -1: the whole
 * tree. `full` is what was asked for, absolute. */
struct place {
    int dir;
    const char *path; /* within full */
    char full[4096];
};

void place_init(struct place *p);
void place_finish(struct place *p);

/* Points a place that was initialised to an absolute path, below the folder `beneath` unless that
 * is NULL. CG_FORBIDDEN when the path does not lie there, CG_NOT_FOUND …. */
CG_MUST_USE bool place_set(struct place *p, const char *path, const char *beneath,
                           struct cg_err *e);

/* dir: a descriptor that must not be left, or -1: the whole tree. */
int resolve_open(int dir, const char *path, int flags, mode_t mode);

/* Opens the folder that holds `path` and points *name at its last component; -1 with errno set.
 * With `make`, missing folders are made (0755) on the way. */
int resolve_parent(int dir, const char *path, bool make, const char **name);

/* lstat, and readlink into target (NUL-terminated, cut to size, "" when it is no link). False with
 * errno set. */
bool resolve_stat(int dir, const char *path, struct stat *st, char *target, size_t size);

/* mkdir -p below dir (or anywhere for -1); existing folders are fine. */
bool resolve_mkdirs(int dir, const char *path, mode_t mode);

#endif
