/* The ledger: budgets as a tree, holds, admission, accrual, settlement; docs/gateway.md. Money that
 * may be spent is held before a call starts, so that spent and held never pass the limit. The
 * ledger writes rows; the same rows replayed give the same state, and a crash can only lower what
 * is free. Pure: time is handed in (monotonic ns), rows and verdicts go out through callbacks. One
 * thread. */
#ifndef CG_GATEWAY_LEDGER_H
#define CG_GATEWAY_LEDGER_H

#include "base/jsonw.h"
#include "base/money.h"

enum cg_ledger_mode {
    CG_LEDGER_FLOW,  /* holds the input and a quantum of output, takes more as it streams, cuts */
    CG_LEDGER_STRICT /* holds the whole capped output at once */
};

enum { CG_LEDGER_NODES_MAX = 64, CG_LEDGER_CALLS_MAX = 4096, CG_LEDGER_NONE = -1 };

#define CG_LEDGER_UNLIMITED INT64_MAX

enum cg_ledger_kind {
    CG_ROW_LIMIT,     /* a budget and its limit: at the start, raised, lowered, a lease that grew */
    CG_ROW_RESERVE,   /* a hold; durable before the first byte goes upstream */
    CG_ROW_EXTEND,    /* the hold grew */
    CG_ROW_SETTLE,    /* the hold is over, this was the cost */
    CG_ROW_CORRECT,   /* an estimated cost is lowered */
    CG_ROW_COMPUTE,   /* machine time and egress spent, and the hold ahead of it */
    CG_ROW_OVERSHOOT, /* a call cost more than was held for it */
    CG_ROW_KIND_COUNT
};
extern const char *const cg_ledger_kind_names[CG_ROW_KIND_COUNT];

struct cg_ledger_row {
    enum cg_ledger_kind kind;
    int64_t t_ns;      /* the caller's clock, for people; no rule depends on it */
    int32_t node;      /* the budget that it belongs to */
    int32_t parent;    /* LIMIT: CG_LEDGER_NONE for a root */
    uint64_t call;     /* 0 for LIMIT and COMPUTE */
    int64_t nusd;      /* limit, hold, growth, cost, new cost, spent since the last row, excess */
    int64_t tokens;    /* the same in tokens */
    int64_t low_nusd;  /* SETTLE: equal to nusd when exact */
    int64_t hold_nusd; /* COMPUTE: what is held from here on */
    int64_t cap;       /* RESERVE: the output cap sent upstream; -1 */
    bool estimated;
    char prices[24]; /* version of the price book; "" where none applies */
};

void cg_ledger_row_write(const struct cg_ledger_row *row, struct cg_jsonw *w); /* an object */
CG_MUST_USE bool cg_ledger_row_parse(struct cg_slice json, struct cg_ledger_row *out,
                                     struct cg_err *e);

enum cg_verdict {
    CG_VERDICT_GO,      /* the reserve is durable: send it, with this cap */
    CG_VERDICT_PENDING, /* reserved, its row is not durable yet; GO follows by callback */
    CG_VERDICT_HELD,    /* waits for money that other calls hold; GO, PENDING or REFUSED follows */
    CG_VERDICT_REFUSED,
    CG_VERDICT_DUPLICATE /* the id was used before: nothing happened */
};

struct cg_ledger_events {
    /* A row to be made durable; called from inside the ledger's functions, in order. The caller
     * numbers rows from 1 in the order of these calls and later says cg_ledger_durable. */
    void (*row)(void *ctx, const struct cg_ledger_row *row);
    /* A pending or held call is decided. Not called for what cg_ledger_admit itself returns. */
    void (*verdict)(void *ctx, uint64_t call, enum cg_verdict v, int64_t cap);
    /* A budget has passed 80, 95 or 100 percent; each once until it is raised. 100 comes also when
     * a call was refused or cut because that budget cannot pay it. */
    void (*alert)(void *ctx, int node, int percent, int64_t spent, int64_t limit);
    /* A leased budget is short of at least `want`: its owner is asked, and answers by
     * cg_ledger_limit or cg_ledger_leased, not from inside. May be NULL. */
    void (*want)(void *ctx, int node, int64_t want);
};

struct cg_ledger_options {
    enum cg_ledger_mode mode;
    int64_t quantum_tokens; /* 0: 2048 */
    int64_t hold_ns;        /* how long a call may wait for money; 0: 30 s */
    int64_t lease_low_nusd; /* a lease with less free, or with less than half a slice, is asked for
                               ahead of need; 0: 0.1 dollar */
    bool no_wait_durable;   /* for tests of the arithmetic: GO at once */
};

struct cg_ledger;

CG_MUST_USE struct cg_ledger *cg_ledger_create(const struct cg_ledger_options *o,
                                               const struct cg_ledger_events *ev, void *ctx);
void cg_ledger_destroy(struct cg_ledger *l);

/* A budget below `parent` (CG_LEDGER_NONE: a root) with limits in nano-dollars and tokens
 * (CG_LEDGER_UNLIMITED). Writes a LIMIT row. Its number counts from 0. -1 when the table is full.
 */
int cg_ledger_budget(struct cg_ledger *l, int parent, int64_t limit_nusd, int64_t limit_tokens,
                     int64_t now_ns);
/* Raises or lowers a limit while calls run; lowering below what is spent and held is allowed and
 * admits nothing more. Held calls that fit now are let go. */
void cg_ledger_limit(struct cg_ledger *l, int node, int64_t limit_nusd, int64_t limit_tokens,
                     int64_t now_ns);
/* The limit is a slice of somebody's money: when it is short its owner is asked (events.want), and
 * calls wait. `more` false: the owner has no more, so that they are refused or cut. */
void cg_ledger_leased(struct cg_ledger *l, int node, bool more, int64_t now_ns);

struct cg_ledger_ask {
    uint64_t call; /* larger than any before */
    int node;
    bool priced;          /* false: refused where a dollar limit stands above it */
    int64_t input_nusd;   /* upper bound, with tools */
    int64_t input_tokens; /* upper bound */
    int64_t output_npm;   /* price of output */
    int64_t max_output;   /* asked, or the model's */
    int64_t least_output; /* a smaller cap makes no sense; at least 1 */
    int64_t lag_tokens;   /* what the model can emit while it is being cut; 0: 64 */
    const char *prices;   /* version of the price book */
};

/* *cap is set for GO and PENDING: the most output tokens the upstream may be asked for. On REFUSED
 * *why names the budget (or is CG_LEDGER_NONE: unpriced, or the table is full). */
enum cg_verdict cg_ledger_admit(struct cg_ledger *l, const struct cg_ledger_ask *ask,
                                int64_t now_ns, int64_t *cap, int *why);

/* Rows up to this number are on disk. */
void cg_ledger_durable(struct cg_ledger *l, uint64_t rows);
uint64_t cg_ledger_rows(const struct cg_ledger *l); /* given out so far */

/* A held or pending call whose client has gone: leaves the queue, or settles at 0. False when its
 * GO has been given: settle it. */
bool cg_ledger_forget(struct cg_ledger *l, uint64_t call, int64_t now_ns);

enum cg_accrual {
    CG_ACCRUAL_PASS,
    CG_ACCRUAL_WAIT, /* more has come than is durably held: keep it back until rows are durable */
    CG_ACCRUAL_CUT   /* no more money: end the stream, close upstream, settle */
};

/* What the call has cost so far at most: cost with input, and output tokens. Every event and every
 * 250 ms. */
enum cg_accrual cg_ledger_accrue(struct cg_ledger *l, uint64_t call, int64_t spent_nusd,
                                 int64_t output_tokens, int64_t now_ns);

/* Ends a call: its cost (the high end when estimated), the low end, all its tokens. CG_CONFLICT
 * when it is not open: nothing happens. *over is by how much it passed its hold, 0 else. */
CG_MUST_USE bool cg_ledger_settle(struct cg_ledger *l, uint64_t call, int64_t nusd, int64_t low,
                                  int64_t tokens, bool estimated, int64_t now_ns, int64_t *over,
                                  struct cg_err *e);

/* Lowers an estimated cost once the truth is known. CG_INVALID when it would raise it, CG_NOT_FOUND
 * when the call is not among the last estimated ones. */
CG_MUST_USE bool cg_ledger_correct(struct cg_ledger *l, uint64_t call, int64_t nusd, int64_t now_ns,
                                   struct cg_err *e);

/* Machine time and egress: spends `nusd` that has been used, and holds `ahead` for what comes.
 * False when the budget cannot pay what comes: the machine must stop (alert 100 has been given). */
bool cg_ledger_compute(struct cg_ledger *l, int node, int64_t nusd, int64_t ahead, int64_t now_ns);

/* Deadlines of held calls; call it at least as often as `cg_ledger_next` says (INT64_MAX: never).
 */
void cg_ledger_tick(struct cg_ledger *l, int64_t now_ns);
int64_t cg_ledger_next(const struct cg_ledger *l);

struct cg_budget {
    int64_t limit_nusd, settled_nusd, held_nusd, uncertain_nusd, accrued_nusd;
    int64_t llm_nusd, compute_nusd; /* settled, by what it was for */
    int64_t limit_tokens, settled_tokens, held_tokens;
    unsigned open; /* calls under way */
    bool blocked;  /* has refused or cut for want of money since it was last raised */
};
bool cg_ledger_get(const struct cg_ledger *l, int node, struct cg_budget *out);
int cg_ledger_nodes(const struct cg_ledger *l); /* how many budgets there are */
/* Some budget on its way to the root limits dollars. */
bool cg_ledger_limited(const struct cg_ledger *l, int node);
/* What is free for a call at this node: the least of its ancestors'. */
int64_t cg_ledger_free(const struct cg_ledger *l, int node);

/* Recovery: replay every row that is on disk, in order, then recover once. CG_INVALID names a row
 * that no ledger writes in this state. */
CG_MUST_USE bool cg_ledger_replay(struct cg_ledger *l, const struct cg_ledger_row *row,
                                  struct cg_err *e);
/* Settles every open reserve and compute hold at its full hold, as estimates. Writes the rows. */
void cg_ledger_recover(struct cg_ledger *l, int64_t now_ns);

struct cg_record;
/* A row as a line of a record; its number, 0 when the record refused it. */
uint64_t cg_ledger_row_append(struct cg_record *record, const struct cg_ledger_row *row);
/* Replays the rows of a record's folder (dir_fd stays the caller's); recovering is the caller's. */
CG_MUST_USE bool cg_ledger_replay_record(struct cg_ledger *l, int dir_fd, uint64_t *last_call,
                                         struct cg_err *e);

/* ---- machine time ---- */

struct cg_compute_prices { /* nano-dollars an hour, and for a GB (1e9 bytes) that leaves */
    int64_t vcpu_hour, gib_hour, disk_gib_hour, egress_gb;
};
extern const struct cg_compute_prices cg_compute_default; /* 0.01, 0.005, 0.001, 0.01 dollars */

struct cg_compute {
    struct cg_compute_prices prices;
    int64_t nusd_hour; /* of this machine */
    bool running;
    int64_t since_ns;  /* charged up to here */
    uint64_t egress;   /* bytes charged */
    int64_t remainder; /* of the division by an hour, so that ticks lose nothing */
    int64_t egress_remainder;
};

void cg_compute_init(struct cg_compute *c, const struct cg_compute_prices *p, int64_t cpus,
                     int64_t mem_mib, int64_t disk_mib);
/* Starts or stops the meter; returns what is owed up to now. */
int64_t cg_compute_run(struct cg_compute *c, bool running, int64_t now_ns);
/* What has been used since the last call. A clock that goes back charges nothing. */
int64_t cg_compute_take(struct cg_compute *c, int64_t now_ns, uint64_t egress_bytes);
int64_t cg_compute_ahead(const struct cg_compute *c, int64_t ns); /* what `ns` will cost */

#endif
