/* Copies of images: by reflink where the file system has it, else block by block without the holes.
 * Blocks: for the pool. */
#ifndef CG_CORE_COPY_H
#define CG_CORE_COPY_H

#include <sys/types.h>

#include "base/err.h"

/* What there is of `from` after the holes are left out, to the same places in `to`. */
CG_MUST_USE bool cg_copy_sparse(int from, int to, struct cg_err *e);

/* Makes the copy `to`, which was taken of `from` while that was written to, equal to it now. Only
 * what differs is written, so it is quick when little changed meanwhile. */
CG_MUST_USE bool cg_copy_changes(const char *from, const char *to, struct cg_err *e);

/* `to` must not exist; it gets `size` bytes when that is not 0 (an image may grow). A file that was
 * not copied whole is removed. */
CG_MUST_USE bool cg_copy_file(const char *from, const char *to, mode_t mode, off_t size,
                              struct cg_err *e);

#endif
