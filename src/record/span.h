/* A segment's bytes by their offset, whether it is as its writer left it (`000001.jsonl`) or packed
 * (`000001.jsonl.zst`: frames of whole lines and behind them the seek table of the zstd seekable
 * format, so that zstdcat reads it whole and we read any place). Bounded memory: one frame. What is
 * in the file is not trusted. */
#ifndef CG_RECORD_SPAN_H
#define CG_RECORD_SPAN_H

#include <sys/types.h>

#include "record/segment.h"

struct cg_span;

enum { CG_SPAN_NAME = 24, CG_SPAN_FRAME = 256 * 1024 };

void cg_span_name(uint32_t number, char out[CG_SPAN_NAME]); /* of the packed file */

/* Opens a segment for reading and reads its header; *length is the header's bytes with its line
 * end. CG_NOT_FOUND; CG_INVALID when it is no segment. */
CG_MUST_USE struct cg_span *cg_span_open(int dir_fd, uint32_t number, struct cg_segment_header *h,
                                         size_t *length, struct cg_err *e);
void cg_span_close(struct cg_span *s);

/* Bytes it has now; one that is not packed may grow. */
CG_MUST_USE bool cg_span_size(struct cg_span *s, uint64_t *size, struct cg_err *e);

/* As pread. A frame that cannot be unpacked reads as one long line of zeros. */
ssize_t cg_span_pread(struct cg_span *s, void *p, size_t n, uint64_t offset);
bool cg_span_damaged(const struct cg_span *s); /* there was such a frame */
bool cg_span_packed(const struct cg_span *s);

/* Whether the folder has the segment in either form. */
bool cg_span_exists(int dir_fd, uint32_t number);

/* Packs a segment that nobody writes any more and removes the plain file. At every moment one of
 * the two is whole; done again after a crash it ends the same. */
CG_MUST_USE bool cg_span_pack(int dir_fd, uint32_t number, struct cg_err *e);

/* The packer's inside, also for who rewrites a segment: bytes in, frames out, into
 * `000001.jsonl.new`, which `finish` syncs and renames. */
struct cg_packer;
CG_MUST_USE struct cg_packer *cg_packer_open(int dir_fd, uint32_t number, struct cg_err *e);
/* A whole line with its end, or the torn rest of a file. */
CG_MUST_USE bool cg_packer_add(struct cg_packer *p, struct cg_slice line, struct cg_err *e);
CG_MUST_USE bool cg_packer_finish(struct cg_packer *p, struct cg_err *e);
void cg_packer_close(struct cg_packer *p); /* unfinished: nothing is left */

#endif
