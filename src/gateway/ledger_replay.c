/* The ledger as its rows tell it. A row that no ledger would have written in that state is refused:
 * a record that was tampered with, or a fault of ours, must not pass for money. */
#include "gateway/ledger_inner.h"

static bool replay_limit(struct cg_ledger *l, const struct cg_ledger_row *row)
{
    if (row->node == l->nnodes && l->nnodes < CG_LEDGER_NODES_MAX && row->parent < row->node)
        l->nodes[l->nnodes++].parent = row->parent;
    else if (row->node >= l->nnodes)
        return false;
    l->nodes[row->node].b.limit_nusd = row->nusd;
    l->nodes[row->node].b.limit_tokens = row->tokens;
    return true;
}

static bool replay_reserve(struct cg_ledger *l, const struct cg_ledger_row *row)
{
    const struct cg_ledger_ask ask = {.call = row->call, .node = row->node};
    struct ledger_entry *c = row->call > l->last_call ? ledger_add(l, &ask) : NULL;
    if (!c)
        return false;
    l->last_call = row->call;
    c->hold = row->nusd;
    c->hold_tokens = row->tokens;
    ledger_move(l, c, LEDGER_OPEN);
    ledger_hold(l, row->node, c->hold, c->hold_tokens);
    return true;
}

static bool replay_extend(struct cg_ledger *l, struct ledger_entry *c,
                          const struct cg_ledger_row *row)
{
    if (!c)
        return false;
    c->hold += row->nusd;
    c->hold_tokens += row->tokens;
    ledger_hold(l, c->ask.node, row->nusd, row->tokens);
    return true;
}

static bool replay_compute(struct cg_ledger *l, const struct cg_ledger_row *row)
{
    ledger_hold(l, row->node, row->hold_nusd - l->nodes[row->node].compute_hold, 0);
    l->nodes[row->node].compute_hold = row->hold_nusd;
    ledger_spend(l, row->node, row->nusd, 0, false, true);
    return true;
}

static bool replay(struct cg_ledger *l, const struct cg_ledger_row *row)
{
    struct ledger_entry *c = row->call ? ledger_find(l, row->call) : NULL;
    int node;
    if (row->kind == CG_ROW_LIMIT)
        return replay_limit(l, row);
    if (row->node < 0 || row->node >= l->nnodes)
        return false;
    switch (row->kind) {
    case CG_ROW_RESERVE:
        return replay_reserve(l, row);
    case CG_ROW_EXTEND:
        return replay_extend(l, c, row);
    case CG_ROW_SETTLE:
        if (c)
            ledger_settle_entry(l, c, row->nusd, row->tokens, row->estimated);
        return c != NULL;
    case CG_ROW_COMPUTE:
        return replay_compute(l, row);
    case CG_ROW_CORRECT:
        return ledger_lower(l, row->call, row->nusd, &node, NULL);
    case CG_ROW_OVERSHOOT:
        return true;
    case CG_ROW_LIMIT:
    case CG_ROW_KIND_COUNT:
        break;
    }
    return false;
}

bool cg_ledger_replay(struct cg_ledger *l, const struct cg_ledger_row *row, struct cg_err *e)
{
    l->replaying = true;
    bool fits = replay(l, row);
    l->replaying = false;
    return fits || cg_fail(e, CG_INVALID, "a %s row of call %llu does not fit what came before",
                           cg_ledger_kind_names[row->kind], (unsigned long long)row->call);
}

/* Warnings that were given are not given again; the end is, for somebody must act on it. */
static void mark_alerted(struct ledger_node *n)
{
    static const int warnings[] = {80, 95};
    for (size_t i = 0; i < CG_COUNT(warnings); i++)
        if (n->b.limit_nusd != CG_LEDGER_UNLIMITED &&
            n->b.settled_nusd >= cg_money_muldiv(n->b.limit_nusd, warnings[i], 100))
            n->alerted = warnings[i];
}

void cg_ledger_recover(struct cg_ledger *l, int64_t now_ns)
{
    for (int i = 0; i < l->nnodes; i++)
        mark_alerted(&l->nodes[i]);
    for (int32_t i = 0; i < l->used; i++) {
        struct ledger_entry *c = &l->calls[i];
        int64_t over = 0;
        struct cg_err e = CG_ERR_INIT;
        CG_ASSERT(
            c->phase != LEDGER_OPEN ||
            cg_ledger_settle(l, c->ask.call, c->hold, 0, c->hold_tokens, true, now_ns, &over, &e));
    }
    for (int i = 0; i < l->nnodes; i++)
        if (l->nodes[i].compute_hold > 0)
            (void)cg_ledger_compute(l, i, l->nodes[i].compute_hold, 0, now_ns);
}
