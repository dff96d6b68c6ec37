/* A tree of files from a container image: opening and making things in it without leaving it. */
#ifndef CG_IMAGE_TREE_H
#define CG_IMAGE_TREE_H

#include <sys/types.h>

#include "base/err.h"

struct cg_tree {
    int fd;           /* O_PATH on the folder */
    const char *path; /* its real, absolute path */
};

/* Opens a path as it would be seen with the tree as root folder: symlinks and ".." cannot leave it.
 * -1 with errno set. flags as for open(2); close-on-exec is set. */
CG_MUST_USE int cg_tree_open(const struct cg_tree *tree, const char *path, int flags, mode_t mode);

/* Creates a folder and those above it, as cg_tree_open sees paths; existing ones are fine. */
CG_MUST_USE bool cg_tree_mkdirs(const struct cg_tree *tree, const char *path, struct cg_err *e);

/* CG_PROTOCOL unless the folder really lies in the tree; CG_TOO_LARGE when it lies too deep: links
 * can add up to more than any single name shows. */
CG_MUST_USE bool cg_tree_holds(const struct cg_tree *tree, int dir, struct cg_err *e);

/* An entry's place: the folder it is in and its name there. */
struct cg_place {
    int dir;    /* O_PATH; -1 when the folder is missing and was not to be made */
    char *name; /* "." for the tree itself; without a slash */
};

/* Splits an entry's name as a tar file has it; with `create` missing folders are made.
 * Errors: CG_PROTOCOL when the name holds "..", CG_TOO_LARGE, CG_IO. */
CG_MUST_USE bool cg_place_find(const struct cg_tree *tree, const char *path, bool create,
                               struct cg_place *out, struct cg_err *e);
void cg_place_drop(struct cg_place *p);

/* Removes one entry of a folder and all below it; a missing one is fine. */
CG_MUST_USE bool cg_tree_remove_at(int dir, const char *name, struct cg_err *e);

/* Removes everything in a folder, named as in a tar file; a missing folder is fine. */
CG_MUST_USE bool cg_tree_empty(const struct cg_tree *tree, const char *folder, struct cg_err *e);

#endif
