/* The writer's inside, shared by its files only. */
#ifndef CG_RECORD_INNER_H
#define CG_RECORD_INNER_H

#include <sodium.h>

#include "record/record.h"
#include "record/segment.h"

/* The open segment. While a batch is under way it belongs to cg_record_flush_run. */
struct cg_tail {
    int dir_fd; /* with the lock */
    int fd;
    uint64_t size;      /* good bytes: whole lines, synced but for the last batch */
    uint64_t allowance; /* rotate when size has passed this */
    bool ragged;        /* a failed write may have left bytes behind `size` */
    bool unlisted;      /* the folder's entry for it is not synced yet */
    struct cg_segment_header header;
    crypto_generichash_state hash; /* over the first `size` bytes */
};

/* What opening found out. */
struct cg_found {
    uint64_t last_seq;
    int64_t last_t;
    uint64_t bytes;      /* all segments */
    uint64_t torn_bytes; /* cut from the last one */
    uint64_t damaged_at; /* offset of a damage that is no torn tail; 0: none */
    bool fresh;          /* there was no record */
};

/* recover.c: locks the folder and opens its last segment for appending, or makes the first. */
CG_MUST_USE bool cg_tail_open(struct cg_tail *t, int dir_fd, const char *sandbox,
                              struct cg_found *found, struct cg_err *e);

/* CLOCK_MONOTONIC minus the record's clock: from the header while the machine has not booted since,
 * else so that the clock goes on by the wall time that passed. */
int64_t cg_tail_clock(const struct cg_tail *t, int64_t last_t);

/* tail.c: writes and syncs; starts a new segment first when the open one is long enough. A new
 * segment is on disk with its first lines: without any it says nothing. */
CG_MUST_USE bool cg_tail_write(struct cg_tail *t, struct cg_slice lines, uint64_t first_seq,
                               uint64_t *bytes_added, struct cg_err *e);
CG_MUST_USE bool cg_tail_rotate(struct cg_tail *t, uint64_t first_seq, uint64_t *bytes_added,
                                struct cg_err *e);
CG_MUST_USE bool cg_tail_create(struct cg_tail *t, struct cg_err *e); /* of t->header */
void cg_tail_close(struct cg_tail *t);

#endif
