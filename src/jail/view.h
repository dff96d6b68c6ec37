/* The little of the host's file system that a jailed program sees: a list of files, computed once
 * by the broker, and a root made of nothing else. */
#ifndef CG_JAIL_VIEW_H
#define CG_JAIL_VIEW_H

#include "base/err.h"

enum { CG_VIEW_MAX = 200 };

struct cg_view {
    char *paths[CG_VIEW_MAX]; /* absolute, regular files or device nodes, no duplicates */
    unsigned n;
};

void cg_view_finish(struct cg_view *v);

/* Adds a file if it is there; true also if it is not. CG_LIMIT when the list is full. */
CG_MUST_USE bool cg_view_add(struct cg_view *v, const char *path, struct cg_err *e);
/* Adds a program or loadable module with the libraries that the dynamic loader finds for it. */
CG_MUST_USE bool cg_view_add_program(struct cg_view *v, const char *path, struct cg_err *e);
/* Adds what matches a NULL-terminated list of glob patterns; with their libraries if `programs`. */
CG_MUST_USE bool cg_view_add_globs(struct cg_view *v, const char *const *patterns, bool programs,
                                   struct cg_err *e);

struct cg_view_mounts {
    int fds[CG_VIEW_MAX];
    unsigned n;
};

/* In a fresh mount namespace, first step: takes hold of every file but `skip` (may be NULL), with
 * the rights of now. */
CG_MUST_USE bool cg_view_collect(const struct cg_view *v, const char *skip,
                                 struct cg_view_mounts *m, struct cg_err *e);
/* Second step: a read-only root of these files and a /proc of this process only; the host's file
 * system is out of reach afterwards. Closes what collect opened. */
CG_MUST_USE bool cg_view_enter(const struct cg_view *v, struct cg_view_mounts *m, struct cg_err *e);

#endif
