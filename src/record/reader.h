/* Reading a record, living or finished, in any process: docs/record-format.md. Bounded memory (one
 * buffer of 128 KiB); reads block on the disk only. The files may have been written by a warden
 * that went bad: nothing in them is trusted, lines that no writer writes are skipped and counted.
 */
#ifndef CG_RECORD_READER_H
#define CG_RECORD_READER_H

#include "base/err.h"
#include "record/line.h"

struct cg_record_reader;

enum cg_record_got {
    CG_RECORD_LINE,  /* one line */
    CG_RECORD_END,   /* none now; ask again when the record has grown */
    CG_RECORD_ERROR, /* *e says why */
};

/* Opens the record in the folder (dir_fd stays the caller's) behind `after_seq` (0: from the
 * start). A folder without a segment yet is an empty record. */
CG_MUST_USE struct cg_record_reader *cg_record_reader_open(int dir_fd, uint64_t after_seq,
                                                           struct cg_err *e);
void cg_record_reader_close(struct cg_record_reader *r);

/* The next line whose number is at most `limit` (UINT64_MAX: any whole line), without its line
 * end; text and line are valid until the next call. In a living record pass the writer's durable
 * number: what is behind it may yet be taken back. */
CG_MUST_USE enum cg_record_got cg_record_read(struct cg_record_reader *r, uint64_t limit,
                                              struct cg_slice *text, struct cg_record_line *line,
                                              struct cg_err *e);

/* Where the line that was read last begins: its segment, and the offset there as it was written. */
void cg_record_reader_place(const struct cg_record_reader *r, uint32_t *segment, uint64_t *offset);

/* Lines skipped so far because they could not be read. */
uint64_t cg_record_reader_damaged(const struct cg_record_reader *r);

/* The number of the record's last line, 0 when it has none. */
CG_MUST_USE bool cg_record_last_seq(int dir_fd, uint64_t *seq, struct cg_err *e);

#endif
