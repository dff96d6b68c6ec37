/* Appending to a record: docs/record-format.md. One writer at a time (flock on the folder), usually
 * the sandbox's warden; the server opens a record that way to close it for a warden that died.
 *
 * Lines gather in memory and reach the disk in batches: flush_begin and flush_end belong to the
 * thread that appends, flush_run (one write and fdatasync) may run on another in between. Up to
 * the durable watermark a crash loses nothing. Memory is bounded: bulk lines beyond the backlog's
 * maximum, beyond the quota, or while the disk fails are counted by type and told in `gap` lines
 * (cg_record_tick). Never blocks but in open, sync and flush_run. */
#ifndef CG_RECORD_RECORD_H
#define CG_RECORD_RECORD_H

#include "base/err.h"
#include "base/jsonw.h"
#include "record/blob.h"
#include "record/line.h"

struct cg_record;

struct cg_record_options {
    const char *sandbox;    /* its id; must be the record's if that exists */
    uint64_t quota_bytes;   /* 0: 1 GiB */
    uint64_t segment_bytes; /* a segment ends when it has passed this; 0: 64 MiB */
    size_t backlog_bytes;   /* bulk lines wait in memory up to here; 0: 2 MiB */
    struct cg_blobs_options blobs;
};

struct cg_record_stats {
    uint64_t seq;         /* last given out */
    uint64_t durable_seq; /* everything up to here is on disk */
    uint64_t bytes;       /* of all segments */
    uint64_t quota_bytes;
    bool degraded;                    /* the disk refuses: lines are counted, not kept */
    uint64_t lost[CG_REC_TYPE_COUNT]; /* since open */
};

/* Opens the folder's record, making the first segment when there is none; dir_fd stays the
 * caller's. A torn tail is cut and told in a first `gap` line. CG_CONFLICT: somebody else writes.
 */
CG_MUST_USE struct cg_record *cg_record_open(int dir_fd, const struct cg_record_options *o,
                                             struct cg_err *e);
void cg_record_close(struct cg_record *r); /* without sync; no flush may be under way */

/* Sees everything before it is kept: the text of a whole line (from `start` on, to be changed in
 * place), and the bytes of a blob (true: `out` is kept instead). For keeping secrets out. */
struct cg_record_filter {
    void (*line)(void *ctx, struct cg_buf *text, size_t start);
    bool (*blob)(void *ctx, struct cg_slice in, struct cg_buf *out);
};
void cg_record_set_filter(struct cg_record *r, const struct cg_record_filter *f, void *ctx);

/* The session of network, dns, port and gap lines that name none; NULL: none. Copied. */
void cg_record_set_session(struct cg_record *r, const char *session);

/* A line: begin, then members into the writer (it is inside the object `data`), then end. The
 * line's sequence number, or 0 when it was lost (and counted). `session` may be NULL, or "" for
 * none even where there is a default. A line that
 * would pass CG_RECORD_LINE_MAX is lost: bound what you write. */
struct cg_jsonw *cg_record_begin(struct cg_record *r, enum cg_record_type type,
                                 enum cg_record_src src, const char *session);
uint64_t cg_record_end(struct cg_record *r);

/* The same with `data`, a JSON object without line ends that the caller vouches for. */
uint64_t cg_record_append(struct cg_record *r, enum cg_record_type type, enum cg_record_src src,
                          const char *session, struct cg_slice data);

/* Keeps content beside the lines and gives its name; a line that is appended after this may name
 * it, and is on disk only when the blob is. When the blobs' quota is used up the ones put longest
 * ago make room, and a `gap` line says which (reason `thinned`). Blocks for the compression (about
 * 2 ms a MiB). CG_TOO_LARGE, CG_LIMIT, CG_IO: nothing is kept, say so in the line. */
CG_MUST_USE bool cg_record_put_blob(struct cg_record *r, struct cg_slice bytes,
                                    char name[CG_BLOB_NAME], struct cg_err *e);

/* The same in three steps: cg_blob_work_run, the costly one, may be on another thread between
 * these. The bytes stay the caller's and in place until the end, which drops what `w` holds. */
void cg_record_blob_begin(struct cg_record *r, struct cg_slice bytes, struct cg_blob_work *w);
CG_MUST_USE bool cg_record_blob_end(struct cg_record *r, struct cg_blob_work *w,
                                    char name[CG_BLOB_NAME], struct cg_err *e);

/* The record's clock now, in ns. */
int64_t cg_record_now(const struct cg_record *r);
/* CLOCK_MONOTONIC minus the record's clock. */
int64_t cg_record_epoch_mono(const struct cg_record *r);

/* True while a quarter of the backlog is in use: a source that can be held back should be, and what
 * it has already sent (a window of the link) still fits. */
bool cg_record_busy(const struct cg_record *r);

/* Once a second and at the end (`final`): `gap` lines that are due, another try of a failed disk.
 */
void cg_record_tick(struct cg_record *r, bool final);

/* Takes a batch; false when nothing waits or one is under way. Then flush_run, then flush_end,
 * which is false with *e set when the disk failed: everything above the watermark is lost then,
 * and its numbers are given out again. */
CG_MUST_USE bool cg_record_flush_begin(struct cg_record *r);
void cg_record_flush_run(struct cg_record *r);
CG_MUST_USE bool cg_record_flush_end(struct cg_record *r, struct cg_err *e);

/* The three at once, until nothing waits. Blocks. */
CG_MUST_USE bool cg_record_sync(struct cg_record *r, struct cg_err *e);

bool cg_record_pending(const struct cg_record *r); /* lines wait, or are on their way */
uint64_t cg_record_durable(const struct cg_record *r);
void cg_record_get_stats(const struct cg_record *r, struct cg_record_stats *out);

#endif
