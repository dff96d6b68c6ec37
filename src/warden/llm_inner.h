/* The inside of the warden's LLM part: llm.c has the ledger's rows, the gateway's callbacks and its
 * life, llm_guard.c what is told and what happens when money ends. */
#ifndef CG_WARDEN_LLM_INNER_H
#define CG_WARDEN_LLM_INNER_H

#include "warden/inner.h"
#include "warden/llm.h"
#include "warden/up.h"

enum { LLM_PENDING_ROWS = 1 << 14, LLM_BOOKS = 64 };

struct llm_costs {
    struct llm_costs *next;
    struct up up;
};

struct llm {
    struct warden *w;
    struct cg_prices *books[LLM_BOOKS]; /* the last counts; the others are of calls under way */
    size_t nbooks;
    struct cg_ledger *ledger;
    struct cg_gateway *gateway;
    struct cg_compute compute;
    int node;          /* the sandbox's budget, below 0, the account's slice */
    int broke_node;    /* whose end made it `exceeded` */
    int64_t want_nusd; /* of the account; 0: nothing is asked */
    uint64_t *seqs;    /* of rows that are not durable yet, in order */
    size_t nseqs, at;
    uint64_t durable_rows;
    uint64_t last_call;
    bool replaying, poisoned, exceeded, running, intercepts;
    unsigned seconds_broke;
    int64_t exceeded_at; /* monotonic; 0: not, or the guest has stood still since */
    struct llm_costs *watchers;
};

/* llm_guard.c */
void llm_tell(struct llm *l); /* those who watch */
void llm_alert(void *ctx, int node, int percent, int64_t spent, int64_t limit);
void llm_want(void *ctx, int node, int64_t want);
void llm_settle(void *ctx); /* machine time up to now */

#endif
