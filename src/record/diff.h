/* Differences of two texts, line by line, in the unified form that patch reads. */
#ifndef CG_RECORD_DIFF_H
#define CG_RECORD_DIFF_H

#include "base/buf.h"

/* Appends the hunks that make `to` of `from`, with three lines of context; nothing when they are
 * equal. What differs is shown by its longest common lines unless it is so large that that would be
 * slow: then as all old lines and all new ones. False when `out` is full. */
bool cg_diff(struct cg_slice from, struct cg_slice to, struct cg_buf *out);

#endif
