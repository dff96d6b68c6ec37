/* A call from its admission to its settlement. */
#include <string.h>

#include "gateway/ledger_inner.h"

enum { FIRST_OUTPUT = 1024, LEAST_OUTPUT = 256 };

/* --- admission --- */

static int blocker(const struct cg_ledger *l, int node, int64_t need, int64_t tokens)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        if (ledger_free_of(&l->nodes[i]) < need || ledger_tokens_free_of(&l->nodes[i]) < tokens)
            return i;
    return CG_LEDGER_NONE;
}

static int64_t lag_of(const struct ledger_entry *c)
{
    return c->ask.lag_tokens > 0 ? c->ask.lag_tokens : LEDGER_LAG;
}

static int64_t strict_or_quantum(const struct cg_ledger *l, const struct ledger_entry *c,
                                 int64_t cap)
{
    if (l->o.mode == CG_LEDGER_STRICT)
        return cap;
    return CG_MIN(cap, l->o.quantum_tokens + lag_of(c));
}

/* The fewest output tokens that make a call worth its input. */
static int64_t least_of(const struct cg_ledger *l, const struct cg_ledger_ask *a)
{
    int64_t first =
        CG_MIN(CG_MIN(a->max_output, l->o.quantum_tokens), CG_MAX(a->least_output, FIRST_OUTPUT));
    return CG_MIN(first, CG_MAX(a->least_output, LEAST_OUTPUT));
}

static int64_t need_of(const struct cg_ledger *l, const struct cg_ledger_ask *a)
{
    return cg_money_add(a->input_nusd, cg_money_tokens(least_of(l, a), a->output_npm));
}

/* Takes the holds when the least useful call fits. The cap is what the free money buys. */
static bool reserve(struct cg_ledger *l, struct ledger_entry *c, int64_t now)
{
    const struct cg_ledger_ask *a = &c->ask;
    int64_t free = cg_ledger_free(l, a->node);
    int64_t tokens = ledger_tokens_free(l, a->node) - a->input_tokens;
    int64_t room = free - a->input_nusd;
    int64_t cap = CG_MIN(CG_MIN(a->max_output, cg_money_buys(room, a->output_npm)), tokens);
    if (room < 0 || cap < least_of(l, a))
        return false;
    int64_t held = strict_or_quantum(l, c, cap);
    c->cap = cap;
    c->hold = CG_MIN(cg_money_add(a->input_nusd, cg_money_tokens(held, a->output_npm)), free);
    c->hold_tokens = a->input_tokens + held;
    ledger_hold(l, a->node, c->hold, c->hold_tokens);
    struct cg_ledger_row row = {.kind = CG_ROW_RESERVE,
                                .t_ns = now,
                                .node = a->node,
                                .parent = CG_LEDGER_NONE,
                                .call = a->call,
                                .nusd = c->hold,
                                .tokens = c->hold_tokens,
                                .cap = cap};
    (void)cg_strlcpy(row.prices, sizeof row.prices, c->prices);
    c->row = ledger_emit(l, row);
    ledger_move(l, c, l->o.no_wait_durable ? LEDGER_OPEN : LEDGER_PENDING);
    ledger_ask_ahead(l, a->node);
    return true;
}

/* Somebody's end, or more of a lease, may make room for it. */
static bool may_wait(struct cg_ledger *l, const struct cg_ledger_ask *a, int *why)
{
    int64_t need = need_of(l, a);
    *why = blocker(l, a->node, need, a->input_tokens + least_of(l, a));
    return l->flying > 0 || ledger_hopes(l, *why, need);
}

enum cg_verdict cg_ledger_admit(struct cg_ledger *l, const struct cg_ledger_ask *ask,
                                int64_t now_ns, int64_t *cap, int *why)
{
    *cap = -1;
    *why = CG_LEDGER_NONE;
    if (ask->call <= l->last_call)
        return CG_VERDICT_DUPLICATE;
    l->last_call = ask->call;
    if (!ask->priced && cg_ledger_limited(l, ask->node))
        return CG_VERDICT_REFUSED;
    struct ledger_entry *c = ledger_add(l, ask);
    if (!c)
        return CG_VERDICT_REFUSED;
    c->deadline = now_ns + l->o.hold_ns;
    (void)cg_strlcpy(c->prices, sizeof c->prices, ask->prices ? ask->prices : "");
    bool queue = l->held.first != LEDGER_NOBODY; /* those that wait were here before */
    if (!queue && reserve(l, c, now_ns)) {
        *cap = c->cap;
        return c->phase == LEDGER_OPEN ? CG_VERDICT_GO : CG_VERDICT_PENDING;
    }
    if (queue || may_wait(l, ask, why)) {
        ledger_move(l, c, LEDGER_HELD);
        return CG_VERDICT_HELD;
    }
    ledger_move(l, c, LEDGER_FREE);
    ledger_broke(l, *why);
    return CG_VERDICT_REFUSED;
}

/* First come, first served; when nobody's end could free anything, the rest is refused. */
void ledger_retry_held(struct cg_ledger *l, int64_t now)
{
    while (l->held.first != LEDGER_NOBODY) {
        struct ledger_entry *first = &l->calls[l->held.first];
        uint64_t call = first->ask.call;
        int why = CG_LEDGER_NONE;
        if (reserve(l, first, now)) {
            if (first->phase == LEDGER_OPEN && l->ev.verdict)
                l->ev.verdict(l->ctx, call, CG_VERDICT_GO, first->cap);
            continue;
        }
        if (may_wait(l, &first->ask, &why) && now < first->deadline)
            return;
        int own = first->ask.node;
        ledger_move(l, first, LEDGER_FREE);
        ledger_broke(l, why >= 0 ? why : own);
        if (l->ev.verdict)
            l->ev.verdict(l->ctx, call, CG_VERDICT_REFUSED, -1);
    }
}

void cg_ledger_durable(struct cg_ledger *l, uint64_t rows)
{
    l->durable = CG_MAX(l->durable, rows);
    while (l->pending.first != LEDGER_NOBODY) { /* in order of their rows */
        struct ledger_entry *c = &l->calls[l->pending.first];
        if (c->row > l->durable)
            return;
        ledger_move(l, c, LEDGER_OPEN);
        if (l->ev.verdict)
            l->ev.verdict(l->ctx, c->ask.call, CG_VERDICT_GO, c->cap);
    }
}

void cg_ledger_tick(struct cg_ledger *l, int64_t now_ns)
{
    ledger_retry_held(l, now_ns);
}

int64_t cg_ledger_next(const struct cg_ledger *l)
{
    return l->held.first == LEDGER_NOBODY ? INT64_MAX : l->calls[l->held.first].deadline;
}

/* --- while it streams --- */

/* More of a lease is on its way: events wait, for a while. */
static enum cg_accrual no_money(struct cg_ledger *l, struct ledger_entry *c, int64_t want,
                                int64_t tokens, int64_t now)
{
    int why = blocker(l, c->ask.node, want, tokens);
    if (ledger_hopes(l, why, want)) {
        if (!c->waits) {
            c->waits = true;
            c->deadline = now + l->o.hold_ns;
        }
        if (now < c->deadline)
            return CG_ACCRUAL_WAIT;
    }
    ledger_broke(l, why >= 0 ? why : c->ask.node);
    return CG_ACCRUAL_CUT;
}

static enum cg_accrual extend(struct cg_ledger *l, struct ledger_entry *c, int64_t need,
                              int64_t tokens, int64_t now)
{
    int64_t quantum = cg_money_tokens(l->o.quantum_tokens, c->ask.output_npm);
    int64_t short_of = need - c->hold, have = 0;
    int64_t tokens_free = ledger_tokens_free(l, c->ask.node);
    if (short_of > 0)
        have = CG_MIN(short_of + quantum, cg_ledger_free(l, c->ask.node));
    if (have < short_of || tokens > tokens_free)
        return no_money(l, c, short_of, tokens, now);
    if (tokens > 0)
        tokens = CG_MIN(tokens + l->o.quantum_tokens, tokens_free);
    c->waits = false;
    c->hold += have;
    c->hold_tokens += tokens;
    ledger_hold(l, c->ask.node, have, tokens);
    c->row = ledger_emit(l, (struct cg_ledger_row){.kind = CG_ROW_EXTEND,
                                                   .t_ns = now,
                                                   .node = c->ask.node,
                                                   .parent = CG_LEDGER_NONE,
                                                   .call = c->ask.call,
                                                   .nusd = have,
                                                   .tokens = tokens,
                                                   .cap = -1});
    ledger_ask_ahead(l, c->ask.node);
    return CG_ACCRUAL_PASS;
}

enum cg_accrual cg_ledger_accrue(struct cg_ledger *l, uint64_t call, int64_t spent_nusd,
                                 int64_t output_tokens, int64_t now_ns)
{
    struct ledger_entry *c = ledger_find(l, call);
    if (!c || c->phase != LEDGER_OPEN)
        return CG_ACCRUAL_PASS;
    if (spent_nusd > c->accrued)
        ledger_accrued(l, c, spent_nusd);
    int64_t need = cg_money_add(spent_nusd, cg_money_tokens(lag_of(c), c->ask.output_npm));
    int64_t tokens = c->ask.input_tokens + output_tokens + lag_of(c) - c->hold_tokens;
    if (l->o.mode == CG_LEDGER_FLOW && (need > c->hold || tokens > 0)) {
        enum cg_accrual a = extend(l, c, CG_MAX(need, c->hold), CG_MAX(tokens, 0), now_ns);
        if (a != CG_ACCRUAL_PASS)
            return a;
    } else if (spent_nusd > c->hold) {
        ledger_broke(l, c->ask.node);
        return CG_ACCRUAL_CUT;
    }
    bool durable = l->o.no_wait_durable || c->row <= l->durable;
    return durable ? CG_ACCRUAL_PASS : CG_ACCRUAL_WAIT;
}

/* --- the end of a call --- */

void ledger_settle_entry(struct cg_ledger *l, struct ledger_entry *c, int64_t nusd, int64_t tokens,
                         bool estimated)
{
    ledger_hold(l, c->ask.node, -c->hold, -c->hold_tokens);
    ledger_spend(l, c->ask.node, nusd, tokens, estimated, false);
    if (estimated)
        l->estimates[l->nestimates++ % LEDGER_ESTIMATES] =
            (__typeof__(l->estimates[0])){c->ask.call, c->ask.node, nusd};
    ledger_move(l, c, LEDGER_FREE);
}

bool cg_ledger_settle(struct cg_ledger *l, uint64_t call, int64_t nusd, int64_t low, int64_t tokens,
                      bool estimated, int64_t now_ns, int64_t *over, struct cg_err *e)
{
    struct ledger_entry *c = ledger_find(l, call);
    *over = 0;
    if (!c || c->phase != LEDGER_OPEN)
        return cg_fail(e, CG_CONFLICT, "call %llu is not open", (unsigned long long)call);
    int node = c->ask.node;
    nusd = CG_MIN(nusd, CG_MONEY_MAX);
    *over = CG_MAX(0, nusd - c->hold);
    ledger_settle_entry(l, c, nusd, tokens, estimated);
    struct cg_ledger_row row = {.kind = CG_ROW_SETTLE,
                                .t_ns = now_ns,
                                .node = node,
                                .parent = CG_LEDGER_NONE,
                                .call = call,
                                .nusd = nusd,
                                .tokens = tokens,
                                .low_nusd = estimated ? low : nusd,
                                .cap = -1,
                                .estimated = estimated};
    ledger_emit(l, row);
    if (*over > 0)
        ledger_emit(l, (struct cg_ledger_row){.kind = CG_ROW_OVERSHOOT,
                                              .t_ns = now_ns,
                                              .node = node,
                                              .parent = CG_LEDGER_NONE,
                                              .call = call,
                                              .nusd = *over,
                                              .cap = -1});
    ledger_alerts(l, node);
    ledger_retry_held(l, now_ns);
    return true;
}

bool cg_ledger_forget(struct cg_ledger *l, uint64_t call, int64_t now_ns)
{
    struct ledger_entry *c = ledger_find(l, call);
    if (!c || c->phase == LEDGER_OPEN)
        return false;
    if (c->phase == LEDGER_PENDING) {
        int node = c->ask.node;
        ledger_settle_entry(l, c, 0, 0, false);
        ledger_emit(l, (struct cg_ledger_row){.kind = CG_ROW_SETTLE,
                                              .t_ns = now_ns,
                                              .node = node,
                                              .parent = CG_LEDGER_NONE,
                                              .call = call,
                                              .cap = -1});
    } else {
        ledger_move(l, c, LEDGER_FREE);
    }
    ledger_retry_held(l, now_ns);
    return true;
}

bool ledger_lower(struct cg_ledger *l, uint64_t call, int64_t nusd, int *node, struct cg_err *e)
{
    for (unsigned i = 0; call && i < CG_MIN(l->nestimates, (unsigned)LEDGER_ESTIMATES); i++) {
        if (l->estimates[i].call != call)
            continue;
        int64_t less = l->estimates[i].nusd - nusd;
        if (less < 0 || nusd < 0)
            return cg_fail(e, CG_INVALID, "a correction may only lower a cost");
        *node = l->estimates[i].node;
        for (int k = *node; k >= 0; k = l->nodes[k].parent) {
            l->nodes[k].b.settled_nusd -= less;
            l->nodes[k].b.llm_nusd -= less;
            l->nodes[k].b.uncertain_nusd -= l->estimates[i].nusd;
        }
        l->estimates[i].call = 0;
        return true;
    }
    return cg_fail(e, CG_NOT_FOUND, "call %llu is none of the last estimates",
                   (unsigned long long)call);
}

bool cg_ledger_correct(struct cg_ledger *l, uint64_t call, int64_t nusd, int64_t now_ns,
                       struct cg_err *e)
{
    int node = CG_LEDGER_NONE;
    if (!ledger_lower(l, call, nusd, &node, e))
        return false;
    ledger_emit(l, (struct cg_ledger_row){.kind = CG_ROW_CORRECT,
                                          .t_ns = now_ns,
                                          .node = node,
                                          .parent = CG_LEDGER_NONE,
                                          .call = call,
                                          .nusd = nusd,
                                          .cap = -1});
    ledger_retry_held(l, now_ns);
    return true;
}
