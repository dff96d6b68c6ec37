/* Pages out of a record by its index: lines behind a number, of a session, of types, of a time, and
 * with a text in their commands and paths. The work of one page is bounded, not only its length: a
 * page may be shorter than asked for and still say that there is more. Blocks; any thread. */
#ifndef CG_RECORD_QUERY_H
#define CG_RECORD_QUERY_H

#include "record/index.h"

/* Parts of the lines of type cost. */
enum { CG_QUERY_BUDGET = 1, CG_QUERY_LEDGER = 2 };

struct cg_query {
    uint64_t after;       /* lines behind this number */
    uint64_t before;      /* and before this one; 0: no end */
    uint64_t skip;        /* so many that fit by type and session are passed over */
    bool last;            /* not the first that fit by type and session, but the last */
    bool rank;            /* tell end.rank */
    unsigned limit;       /* at most so many */
    uint16_t session;     /* number in the tally; CG_TALLY_NONE: all lines */
    uint32_t types;       /* bits by enum cg_record_type; 0: all */
    unsigned cost;        /* which parts of costs; 0: all */
    bool wall;            /* from and to are of the wall, else on the record's clock */
    int64_t from, to;     /* ns, both included; to 0: no end */
    struct cg_slice text; /* without regard to case of ASCII letters; empty: any */
};

struct cg_query_end {
    uint64_t next; /* ask for what is behind this number */
    uint64_t rank; /* lines that fit by type and session before the first one given */
    bool more;
};

/* Gives each line; false ends the page behind it. */
typedef bool cg_query_line(void *ctx, const struct cg_record_line *line);

CG_MUST_USE bool cg_query_run(const struct cg_index *ix, int record_dir, const struct cg_query *q,
                              cg_query_line *each, void *ctx, struct cg_query_end *end,
                              struct cg_err *e);

#endif
