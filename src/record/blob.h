/* Content that is too long for a line of the record: whole files, requests, answers. A blob's name
 * is the SHA-256 of its bytes, so the same content is kept once and cannot be exchanged; it lies
 * compressed in `<record>/blobs/<name>.zst` (one zstd frame: zstdcat is a tool for it).
 *
 * A writer (one a record, the holder of its lock; usually by cg_record_put_blob) promises that a
 * line never names a blob that is not on disk: what is put waits under another name until take,
 * run, done, in the order of a record's flush, have synced it and given it its name. `put`, `take`
 * and `done` belong to one thread, `run` may be on another between them. Readers are any process;
 * they trust no byte: what they give has the hash that its name says. */
#ifndef CG_RECORD_BLOB_H
#define CG_RECORD_BLOB_H

#include "base/buf.h"
#include "base/err.h"

enum {
    CG_BLOB_NAME = 65,              /* 64 hexadecimal digits */
    CG_BLOB_MAX = 32 * 1024 * 1024, /* bytes of content */
};

#define CG_BLOB_DIR "blobs"

/* 64 digits 0-9a-f. */
bool cg_blob_name_valid(const char *name);

/* The name that these bytes have. */
void cg_blob_name(struct cg_slice bytes, char name[CG_BLOB_NAME]);

/* --- reading --- */

/* All of a blob behind what `out` holds. `record_dir` is the record's folder. CG_NOT_FOUND: it was
 * thinned, or never was; CG_TOO_LARGE: over `max` bytes, or over what `out` takes; CG_INVALID: the
 * bytes on disk are not those that were put. `out` is as before on failure. */
CG_MUST_USE bool cg_blob_get(int record_dir, const char *name, size_t max, struct cg_buf *out,
                             struct cg_err *e);

/* The same piece by piece, in bounded memory. The last read (*n is 0) checks the hash: until it
 * has succeeded the bytes are unproven. */
struct cg_blob_reader;
CG_MUST_USE struct cg_blob_reader *cg_blob_open(int record_dir, const char *name, struct cg_err *e);
CG_MUST_USE bool cg_blob_read(struct cg_blob_reader *r, void *p, size_t max, size_t *n,
                              struct cg_err *e);
void cg_blob_close(struct cg_blob_reader *r);

/* --- writing --- */

struct cg_blobs;

struct cg_blobs_options {
    uint64_t quota_bytes; /* on disk; 0: 512 MiB */
    size_t max_bytes;     /* of one blob's content; 0: CG_BLOB_MAX */
};

struct cg_blobs_stats {
    uint64_t bytes; /* on disk, in blocks of 4 KiB, and waiting */
    uint64_t quota_bytes;
    uint64_t count;
    uint64_t thinned; /* since open */
};

/* Makes the folder when it is needed first; removes what a crash left half-made. */
CG_MUST_USE struct cg_blobs *cg_blobs_open(int record_dir, const struct cg_blobs_options *o,
                                           struct cg_err *e);
void cg_blobs_close(struct cg_blobs *b); /* what was not synced is dropped */

/* Keeps the bytes (nothing to do when they are kept already) and gives their name. CG_TOO_LARGE,
 * CG_LIMIT (no room: see cg_blobs_thin; or too much waits), CG_IO. */
CG_MUST_USE bool cg_blobs_put(struct cg_blobs *b, struct cg_slice bytes, char name[CG_BLOB_NAME],
                              struct cg_err *e);

/* A put in three steps, so that the costly one, `run` (the hash and the compression), may be on
 * another thread: begin and end belong to the store's, and the bytes stay in place in between. */
struct cg_blob_work {
    struct cg_slice bytes;
    struct cg_buf clean; /* what is kept instead of the caller's bytes, if anything */
    int dir;             /* the store's; -1: there is none */
    char name[CG_BLOB_NAME];
    char *packed; /* NULL: not run, or such a blob is there already */
    size_t packed_n;
};
void cg_blobs_begin(const struct cg_blobs *b, struct cg_slice bytes, struct cg_blob_work *w);
void cg_blob_work_run(struct cg_blob_work *w);
/* As cg_blobs_put; w may be ended again after a failure. What it holds goes with the finish. */
CG_MUST_USE bool cg_blobs_end(struct cg_blobs *b, struct cg_blob_work *w, struct cg_err *e);
void cg_blob_work_finish(struct cg_blob_work *w);

/* Takes the blobs that were put longest ago out of the store until `bytes` more fit, at most
 * `max`; their names are told one by one. They leave the disk with the flush that begins next, so
 * that the line that says so is there before they are gone. False when that makes no room. */
CG_MUST_USE bool cg_blobs_thin(struct cg_blobs *b, uint64_t bytes, unsigned max,
                               void (*told)(void *ctx, const char *name), void *ctx);

/* Takes that back: the line that tells of it was lost. */
void cg_blobs_spare(struct cg_blobs *b);

/* Bytes that a blob of this length may need at most. */
uint64_t cg_blobs_bound(size_t length);

/* The steps of a flush. run makes what was put durable (before the lines are written), reap
 * removes what was thinned (after they are), done takes note. When `done` is told that the flush
 * failed, all that waits is dropped: the lines that name it are lost as well. */
void cg_blobs_take(struct cg_blobs *b);
CG_MUST_USE bool cg_blobs_run(struct cg_blobs *b, struct cg_err *e);
void cg_blobs_reap(struct cg_blobs *b);
void cg_blobs_done(struct cg_blobs *b, bool fine);

/* Whether something waits for a flush. */
bool cg_blobs_pending(const struct cg_blobs *b);
void cg_blobs_get_stats(const struct cg_blobs *b, struct cg_blobs_stats *out);

#endif
