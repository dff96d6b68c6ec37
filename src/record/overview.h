/* A record at a glance, by its index: how much of each type happened when, and what everything up
 * to a moment adds up to. Reads the index and at most a few lines, however long the record is.
 * Blocks; any thread. */
#ifndef CG_RECORD_OVERVIEW_H
#define CG_RECORD_OVERVIEW_H

#include "record/index.h"

enum {
    CG_OVERVIEW_COLUMNS = CG_REC_TYPE_COUNT + 1, /* by type; the last: rows of the ledger, which
                                                    are not counted with the costs */
    CG_OVERVIEW_SLOTS_MAX = 2000
};

struct cg_overview {
    uint64_t seq; /* of the last line that counts; 0: none */
    int64_t t;    /* when that was, on the record's clock */
    uint64_t counts[CG_OVERVIEW_COLUMNS];
    uint32_t *slots; /* rows of CG_OVERVIEW_COLUMNS, for equal parts of 0 to `t`; NULL: none */
    unsigned nslots;
    struct cg_record_sum sum; /* of all lines up to `seq`, whatever their session */
};

/* Up to the moment on the record's clock (ns; -1: the end), lines of the session with this number
 * or of all (CG_TALLY_NONE). */
CG_MUST_USE bool cg_overview_make(const struct cg_index *ix, int record_dir, int64_t moment,
                                  uint16_t session, unsigned nslots, struct cg_overview *out,
                                  struct cg_err *e);
void cg_overview_finish(struct cg_overview *o);

#endif
