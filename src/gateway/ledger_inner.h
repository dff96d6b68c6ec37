/* The inside of the ledger: ledger.c has the budgets, ledger_table.c the calls and how they are
 * found, ledger_call.c moves a call from admission to settlement, ledger_replay.c rebuilds all of
 * it from rows. */
#ifndef CG_GATEWAY_LEDGER_INNER_H
#define CG_GATEWAY_LEDGER_INNER_H

#include "gateway/ledger.h"

enum { LEDGER_BUCKETS = 4096, LEDGER_LAG = 64, LEDGER_ESTIMATES = 256, LEDGER_NOBODY = -1 };

struct ledger_node {
    struct cg_budget b;
    int parent;
    int64_t compute_hold;
    bool lease;    /* its limit is a slice of somebody's money */
    bool dry;      /* whose owner has said that there is no more */
    bool asked;    /* and has not answered yet */
    int64_t slice; /* by which it grew last */
    int alerted;   /* percent */
};

enum ledger_phase { LEDGER_FREE, LEDGER_HELD, LEDGER_PENDING, LEDGER_OPEN };

/* A call. In a queue while HELD or PENDING; in a bucket's chain while not FREE. */
struct ledger_entry {
    enum ledger_phase phase;
    int32_t chain, next, prev; /* indices; `next` links the free ones too */
    struct cg_ledger_ask ask;
    char prices[24];
    int64_t hold, hold_tokens, accrued, cap, deadline;
    bool waits;   /* since when `deadline` counts: for more of a lease */
    uint64_t row; /* of its last growth: durable before more is let through */
};

struct ledger_queue {
    int32_t first, last;
};

struct cg_ledger {
    struct cg_ledger_options o;
    struct cg_ledger_events ev;
    void *ctx;
    struct ledger_node nodes[CG_LEDGER_NODES_MAX];
    int nnodes;
    struct ledger_entry calls[CG_LEDGER_CALLS_MAX];
    int32_t buckets[LEDGER_BUCKETS];
    int32_t spare, used; /* freed entries; entries that were ever taken */
    struct ledger_queue held, pending;
    unsigned flying; /* PENDING and OPEN */
    uint64_t last_call, rows, durable;
    bool replaying;
    struct {
        uint64_t call;
        int node;
        int64_t nusd;
    } estimates[LEDGER_ESTIMATES];
    unsigned nestimates;
};

/* ledger.c */
uint64_t ledger_emit(struct cg_ledger *l, struct cg_ledger_row row);
int64_t ledger_free_of(const struct ledger_node *n);
int64_t ledger_tokens_free_of(const struct ledger_node *n);
int64_t ledger_tokens_free(const struct cg_ledger *l, int node);
void ledger_hold(struct cg_ledger *l, int node, int64_t nusd, int64_t tokens);
void ledger_spend(struct cg_ledger *l, int node, int64_t nusd, int64_t tokens, bool estimated,
                  bool compute);
void ledger_alerts(struct cg_ledger *l, int node);
void ledger_broke(struct cg_ledger *l, int node);
/* The owner of this lease may yet give more; it is asked. */
bool ledger_hopes(struct cg_ledger *l, int node, int64_t want);
/* Asks ahead of need for what is low on the way to the root. */
void ledger_ask_ahead(struct cg_ledger *l, int node);

/* ledger_table.c */
void ledger_table_init(struct cg_ledger *l);
struct ledger_entry *ledger_find(const struct cg_ledger *l, uint64_t call);
struct ledger_entry *ledger_add(struct cg_ledger *l, const struct cg_ledger_ask *ask); /* or NULL */
/* The only way from one phase to another: queues and counts follow. FREE gives the entry back. */
void ledger_move(struct cg_ledger *l, struct ledger_entry *c, enum ledger_phase to);
void ledger_accrued(struct cg_ledger *l, struct ledger_entry *c, int64_t nusd);

/* ledger_call.c */
void ledger_retry_held(struct cg_ledger *l, int64_t now);
void ledger_settle_entry(struct cg_ledger *l, struct ledger_entry *c, int64_t nusd, int64_t tokens,
                         bool estimated);
bool ledger_lower(struct cg_ledger *l, uint64_t call, int64_t nusd, int *node, struct cg_err *e);

#endif
