/* The files of a record: names, headers, and what is found in a folder. Used by writer and reader.
 */
#ifndef CG_RECORD_SEGMENT_H
#define CG_RECORD_SEGMENT_H

#include "base/clock.h"
#include "base/err.h"
#include "record/line.h"

enum {
    CG_SEGMENT_NAME = 16,
    CG_SEGMENT_HEADER_MAX = 1024,
    CG_BOOT_ID_TEXT = 40,
    CG_SEGMENT_HASH_TEXT = 80 /* "blake2b-256:" and 64 hexadecimal digits */
};

struct cg_segment_header {
    uint32_t number; /* 1.. */
    uint64_t first_seq;
    char sandbox[CG_ID_TEXT];
    char epoch[CG_TIME_TEXT];
    char boot_id[CG_BOOT_ID_TEXT];
    int64_t epoch_mono;              /* CLOCK_MONOTONIC at the epoch */
    char prev[CG_SEGMENT_HASH_TEXT]; /* empty: none */
};

void cg_segment_name(uint32_t number, char out[CG_SEGMENT_NAME]);

/* The number of the last segment in the folder, 0 when there is none. */
CG_MUST_USE bool cg_segment_last(int dir_fd, uint32_t *number, struct cg_err *e);

/* Opens a segment (flags as openat's) and reads its header; *fd is the caller's, *length the
 * header's bytes with its line end. CG_INVALID when it is not a segment's header. */
CG_MUST_USE bool cg_segment_open(int dir_fd, uint32_t number, int flags, int *fd,
                                 struct cg_segment_header *h, size_t *length, struct cg_err *e);

/* The header as a line with its line end. */
void cg_segment_header_write(const struct cg_segment_header *h, struct cg_buf *out);
CG_MUST_USE bool cg_segment_header_parse(struct cg_slice text, struct cg_segment_header *out,
                                         struct cg_err *e);

#endif
