/* Going through a segment line by line, for whoever seals or verifies it. Shared inside record. */
#ifndef CG_RECORD_SCAN_H
#define CG_RECORD_SCAN_H

#include "record/digest.h"
#include "record/span.h"

/* One line; `whole` is false for the rest behind the last line end, which comes last, and for
 * pieces of what is longer than any line may be. */
typedef bool cg_scan_line(void *ctx, struct cg_slice text, bool whole);

/* Gives every line from the beginning (header too) until one answers false or the bytes end. */
CG_MUST_USE bool cg_scan(struct cg_span *s, cg_scan_line *each, void *ctx, struct cg_err *e);

#endif
