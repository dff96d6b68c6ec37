/* An index of one record, so that any part of it is found without reading the rest: where every
 * line begins, of which type and session it is, the time at every 64th, and what the record tells
 * about its sessions (tally.h). Kept in a folder of the server's own and made from the record
 * alone: what is missing, torn or of another version is made again.
 *
 *   events  12 bytes a sequence number, from 1 on
 *   marks   every CG_INDEX_STEP numbers: the time, and what the lines up to there add up to
 *   state   the rest; replaced whole, and what the two others hold behind it does not count
 *
 * One updates at a time (flock); readers need no lock. Blocks; any thread. */
#ifndef CG_RECORD_INDEX_H
#define CG_RECORD_INDEX_H

#include "record/sum.h"
#include "record/tally.h"

enum { CG_INDEX_STEP = 64, CG_INDEX_HOLE = 255 };

struct cg_index_entry {
    uint32_t offset;  /* in its segment, as it was written */
    uint16_t session; /* number in the tally; CG_TALLY_NONE */
    uint8_t type;     /* enum cg_record_type; CG_INDEX_HOLE: there is no such line */
    uint8_t ledger;   /* 1: a row of the ledger, which is what most lines of costs are */
    uint32_t t_cs;    /* when, in hundredths of a second on the record's clock, for overviews */
};

struct cg_index_mark {
    int64_t t, wall;
    struct cg_record_sum sum;
};

struct cg_index_segment {
    uint64_t first_seq;
    uint32_t number;
    uint32_t spare;
};

struct cg_index {
    int dir;
    int events, marks;        /* descriptors */
    uint64_t count;           /* numbers 1 to count are in it */
    int64_t last_t;           /* of the last of them */
    struct cg_record_sum sum; /* of all of them */
    int64_t epoch_wall;       /* when the record's clock was 0 */
    struct cg_index_segment *segments;
    size_t nsegments;
    struct cg_tally tally;
};

/* Opens the index in the folder, which is made when it is not there; what is in it may be behind
 * the record. */
CG_MUST_USE struct cg_index *cg_index_open(const char *dir, struct cg_err *e);
void cg_index_close(struct cg_index *ix);

/* Takes in what the record has got since, up to the number `limit` (the writer's durable one;
 * UINT64_MAX: it has ended). False when the record cannot be read. */
CG_MUST_USE bool cg_index_update(struct cg_index *ix, int record_dir, uint64_t limit,
                                 struct cg_err *e);

/* Entries of the numbers first, first + 1, …; how many were read (fewer at the end). */
size_t cg_index_read(const struct cg_index *ix, uint64_t first, struct cg_index_entry *out,
                     size_t max);

/* A number such that every line before it is older than the moment (ns; on the record's clock, or
 * of the wall, as far as that did not jump), at most CG_INDEX_STEP too low. */
uint64_t cg_index_at(const struct cg_index *ix, int64_t moment, bool wall);

/* The mark at the greatest multiple of CG_INDEX_STEP that is not above `seq`, which is returned; 0
 * and an empty mark: there is none. */
uint64_t cg_index_mark_at(const struct cg_index *ix, uint64_t seq, struct cg_index_mark *out);

/* The segment that holds a number; NULL: none. */
const struct cg_index_segment *cg_index_segment(const struct cg_index *ix, uint64_t seq);

#endif
