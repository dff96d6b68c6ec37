/* Holds before money: what may be spent is taken from every budget on the way to the root before a
 * call starts. State changes only together with a row, so replaying the rows gives the state. */
#include <stdlib.h>
#include <string.h>

#include "gateway/ledger_inner.h"

enum { QUANTUM = 2048 };

#define HOLD_NS (INT64_C(30) * 1000000000)
#define LEASE_LOW (CG_USD / 10)

struct cg_ledger *cg_ledger_create(const struct cg_ledger_options *o,
                                   const struct cg_ledger_events *ev, void *ctx)
{
    struct cg_ledger *l = cg_alloc(sizeof *l);
    l->o = *o;
    l->ev = *ev;
    l->ctx = ctx;
    if (l->o.quantum_tokens <= 0)
        l->o.quantum_tokens = QUANTUM;
    if (l->o.hold_ns <= 0)
        l->o.hold_ns = HOLD_NS;
    if (l->o.lease_low_nusd <= 0)
        l->o.lease_low_nusd = LEASE_LOW;
    ledger_table_init(l);
    return l;
}

void cg_ledger_destroy(struct cg_ledger *l)
{
    free(l);
}

uint64_t ledger_emit(struct cg_ledger *l, struct cg_ledger_row row)
{
    l->rows++;
    if (l->ev.row)
        l->ev.row(l->ctx, &row);
    return l->rows;
}

uint64_t cg_ledger_rows(const struct cg_ledger *l)
{
    return l->rows;
}

int64_t ledger_free_of(const struct ledger_node *n)
{
    if (n->b.limit_nusd == CG_LEDGER_UNLIMITED)
        return CG_MONEY_MAX;
    return n->b.limit_nusd - n->b.settled_nusd - n->b.held_nusd;
}

int64_t ledger_tokens_free_of(const struct ledger_node *n)
{
    if (n->b.limit_tokens == CG_LEDGER_UNLIMITED)
        return INT64_MAX / 4;
    return n->b.limit_tokens - n->b.settled_tokens - n->b.held_tokens;
}

int64_t cg_ledger_free(const struct cg_ledger *l, int node)
{
    int64_t least = CG_MONEY_MAX;
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        least = CG_MIN(least, ledger_free_of(&l->nodes[i]));
    return least;
}

int64_t ledger_tokens_free(const struct cg_ledger *l, int node)
{
    int64_t least = INT64_MAX / 4;
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        least = CG_MIN(least, ledger_tokens_free_of(&l->nodes[i]));
    return least;
}

void ledger_hold(struct cg_ledger *l, int node, int64_t nusd, int64_t tokens)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent) {
        l->nodes[i].b.held_nusd += nusd;
        l->nodes[i].b.held_tokens += tokens;
    }
}

void ledger_spend(struct cg_ledger *l, int node, int64_t nusd, int64_t tokens, bool estimated,
                  bool compute)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent) {
        struct cg_budget *b = &l->nodes[i].b;
        b->settled_nusd += nusd;
        b->settled_tokens += tokens;
        b->uncertain_nusd += estimated ? nusd : 0;
        *(compute ? &b->compute_nusd : &b->llm_nusd) += nusd;
    }
}

/* --- alerts --- */

static const int steps[] = {80, 95, 100};

static bool reached(const struct ledger_node *n, int percent)
{
    int64_t money = n->b.limit_nusd, tokens = n->b.limit_tokens;
    return (money != CG_LEDGER_UNLIMITED &&
            n->b.settled_nusd >= cg_money_muldiv(money, percent, 100)) ||
           (tokens != CG_LEDGER_UNLIMITED &&
            n->b.settled_tokens >= cg_money_muldiv(tokens, percent, 100));
}

/* Of a lease only its end counts: its limit is no budget of anybody's. */
static void alert(struct cg_ledger *l, int node, bool broke)
{
    struct ledger_node *n = &l->nodes[node];
    bool limited =
        n->b.limit_nusd != CG_LEDGER_UNLIMITED || n->b.limit_tokens != CG_LEDGER_UNLIMITED;
    if (!limited || l->replaying || (n->lease && !broke))
        return;
    for (size_t i = 0; i < CG_COUNT(steps); i++) {
        if (n->alerted >= steps[i] || !(reached(n, steps[i]) || (broke && steps[i] == 100)))
            continue;
        n->alerted = steps[i];
        if (l->ev.alert)
            l->ev.alert(l->ctx, node, steps[i], n->b.settled_nusd, n->b.limit_nusd);
    }
}

void ledger_alerts(struct cg_ledger *l, int node)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        alert(l, i, false);
}

void ledger_broke(struct cg_ledger *l, int node)
{
    if (node < 0)
        return;
    l->nodes[node].b.blocked = true;
    alert(l, node, true);
}

/* --- budgets --- */

static void emit_limit(struct cg_ledger *l, int node, int64_t now_ns)
{
    const struct ledger_node *n = &l->nodes[node];
    ledger_emit(l, (struct cg_ledger_row){.kind = CG_ROW_LIMIT,
                                          .t_ns = now_ns,
                                          .node = node,
                                          .parent = n->parent,
                                          .nusd = n->b.limit_nusd,
                                          .tokens = n->b.limit_tokens,
                                          .cap = -1});
}

int cg_ledger_budget(struct cg_ledger *l, int parent, int64_t limit_nusd, int64_t limit_tokens,
                     int64_t now_ns)
{
    if (l->nnodes == CG_LEDGER_NODES_MAX)
        return -1;
    int id = l->nnodes++;
    l->nodes[id] = (struct ledger_node){.parent = parent};
    l->nodes[id].b.limit_nusd = limit_nusd;
    l->nodes[id].b.limit_tokens = limit_tokens;
    emit_limit(l, id, now_ns);
    return id;
}

void cg_ledger_limit(struct cg_ledger *l, int node, int64_t limit_nusd, int64_t limit_tokens,
                     int64_t now_ns)
{
    struct ledger_node *n = &l->nodes[node];
    bool grew = n->b.limit_nusd != CG_LEDGER_UNLIMITED && limit_nusd > n->b.limit_nusd;
    n->slice = grew ? limit_nusd - n->b.limit_nusd : 0;
    n->b.limit_nusd = limit_nusd;
    n->b.limit_tokens = limit_tokens;
    n->b.blocked = false;
    n->alerted = 0;
    n->asked = n->dry = false;
    emit_limit(l, node, now_ns);
    ledger_alerts(l, node);
    ledger_retry_held(l, now_ns);
}

void cg_ledger_leased(struct cg_ledger *l, int node, bool more, int64_t now_ns)
{
    struct ledger_node *n = &l->nodes[node];
    n->lease = true;
    n->dry = !more;
    n->asked = false;
    ledger_retry_held(l, now_ns);
}

bool ledger_hopes(struct cg_ledger *l, int node, int64_t want)
{
    if (node < 0 || !l->nodes[node].lease || l->nodes[node].dry || !l->ev.want)
        return false;
    if (!l->nodes[node].asked) {
        l->nodes[node].asked = true;
        l->ev.want(l->ctx, node, want);
    }
    return true;
}

void ledger_ask_ahead(struct cg_ledger *l, int node)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent) {
        int64_t low = CG_MIN(l->o.lease_low_nusd, l->nodes[i].slice / 2);
        if (l->nodes[i].lease && ledger_free_of(&l->nodes[i]) < low)
            (void)ledger_hopes(l, i, 1); /* its owner decides how much */
    }
}

int cg_ledger_nodes(const struct cg_ledger *l)
{
    return l->nnodes;
}

bool cg_ledger_get(const struct cg_ledger *l, int node, struct cg_budget *out)
{
    if (node < 0 || node >= l->nnodes)
        return false;
    *out = l->nodes[node].b;
    return true;
}

bool cg_ledger_limited(const struct cg_ledger *l, int node)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        if (l->nodes[i].b.limit_nusd != CG_LEDGER_UNLIMITED)
            return true;
    return false;
}

/* --- machine time --- */

bool cg_ledger_compute(struct cg_ledger *l, int node, int64_t nusd, int64_t ahead, int64_t now_ns)
{
    struct ledger_node *n = &l->nodes[node];
    ledger_hold(l, node, -n->compute_hold, 0);
    ledger_spend(l, node, nusd, 0, false, true);
    int blocker = CG_LEDGER_NONE;
    for (int i = node; i >= 0 && blocker < 0; i = l->nodes[i].parent)
        if (ledger_free_of(&l->nodes[i]) < ahead)
            blocker = i;
    n->compute_hold = blocker < 0 ? ahead : 0;
    ledger_hold(l, node, n->compute_hold, 0);
    ledger_emit(l, (struct cg_ledger_row){.kind = CG_ROW_COMPUTE,
                                          .t_ns = now_ns,
                                          .node = node,
                                          .parent = CG_LEDGER_NONE,
                                          .nusd = nusd,
                                          .hold_nusd = n->compute_hold,
                                          .cap = -1});
    ledger_alerts(l, node);
    ledger_ask_ahead(l, node);
    if (blocker < 0 || ledger_hopes(l, blocker, ahead))
        return true;
    ledger_broke(l, blocker);
    return false;
}
