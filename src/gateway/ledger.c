/* Holds before money: what may be spent is taken from every budget on the way to the root before a
 * call starts. State changes only together with a row, so replaying the rows gives the state. */
#include "gateway/ledger.h"

#include <stdlib.h>
#include <string.h>

enum { QUANTUM = 2048, LAG = 64, LAST_ESTIMATES = 256 };

#define HOLD_NS (INT64_C(30) * 1000000000)

enum phase { FREE, HELD, PENDING, OPEN };

struct node {
    struct cg_budget b;
    int parent;
    int64_t compute_hold;
    bool leased;
    int alerted;
};

struct entry {
    enum phase phase;
    struct cg_ledger_ask ask;
    char prices[24];
    int64_t hold, hold_tokens, accrued, cap, deadline;
    uint64_t row; /* of its last growth: durable before more is let through */
};

struct cg_ledger {
    struct cg_ledger_options o;
    struct cg_ledger_events ev;
    void *ctx;
    struct node nodes[CG_LEDGER_NODES_MAX];
    int nnodes;
    struct entry calls[CG_LEDGER_CALLS_MAX];
    uint64_t last_call, rows, durable;
    bool replaying;
    struct {
        uint64_t call;
        int node;
        int64_t nusd;
    } estimates[LAST_ESTIMATES];
    unsigned nestimates;
};

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
    return l;
}

void cg_ledger_destroy(struct cg_ledger *l)
{
    free(l);
}

static uint64_t emit(struct cg_ledger *l, struct cg_ledger_row row)
{
    l->rows++;
    if (l->ev.row)
        l->ev.row(l->ctx, &row);
    return l->rows;
}

static int64_t free_of(const struct node *n)
{
    if (n->b.limit_nusd == CG_LEDGER_UNLIMITED)
        return CG_MONEY_MAX;
    return n->b.limit_nusd - n->b.settled_nusd - n->b.held_nusd;
}

static int64_t tokens_free(const struct node *n)
{
    if (n->b.limit_tokens == CG_LEDGER_UNLIMITED)
        return INT64_MAX / 4;
    return n->b.limit_tokens - n->b.settled_tokens - n->b.held_tokens;
}

int64_t cg_ledger_free(const struct cg_ledger *l, int node)
{
    int64_t least = CG_MONEY_MAX;
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        least = CG_MIN(least, free_of(&l->nodes[i]));
    return least;
}

static int64_t free_tokens(const struct cg_ledger *l, int node)
{
    int64_t least = INT64_MAX / 4;
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        least = CG_MIN(least, tokens_free(&l->nodes[i]));
    return least;
}

static void hold(struct cg_ledger *l, int node, int64_t nusd, int64_t tokens)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent) {
        l->nodes[i].b.held_nusd += nusd;
        l->nodes[i].b.held_tokens += tokens;
    }
}

static void alert(struct cg_ledger *l, int node, bool broke)
{
    static const int steps[] = {80, 95, 100};
    struct node *n = &l->nodes[node];
    if (n->b.limit_nusd == CG_LEDGER_UNLIMITED || l->replaying)
        return;
    for (size_t i = 0; i < CG_COUNT(steps); i++) {
        int64_t at = cg_money_muldiv(n->b.limit_nusd, steps[i], 100);
        if (n->alerted >= steps[i] || (n->b.settled_nusd < at && !(broke && steps[i] == 100)))
            continue;
        n->alerted = steps[i];
        if (l->ev.alert)
            l->ev.alert(l->ctx, node, steps[i], n->b.settled_nusd, n->b.limit_nusd);
    }
}

static void alerts(struct cg_ledger *l, int node)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent)
        alert(l, i, false);
}

/* --- budgets --- */

int cg_ledger_budget(struct cg_ledger *l, int parent, int64_t limit_nusd, int64_t limit_tokens,
                     int64_t now_ns)
{
    if (l->nnodes == CG_LEDGER_NODES_MAX)
        return -1;
    int id = l->nnodes++;
    l->nodes[id] = (struct node){.parent = parent};
    l->nodes[id].b.limit_nusd = limit_nusd;
    l->nodes[id].b.limit_tokens = limit_tokens;
    emit(l, (struct cg_ledger_row){.kind = CG_ROW_LIMIT,
                                   .t_ns = now_ns,
                                   .node = id,
                                   .parent = parent,
                                   .nusd = limit_nusd,
                                   .tokens = limit_tokens,
                                   .cap = -1});
    return id;
}

static void retry_held(struct cg_ledger *l, int64_t now);

void cg_ledger_limit(struct cg_ledger *l, int node, int64_t limit_nusd, int64_t limit_tokens,
                     int64_t now_ns)
{
    struct node *n = &l->nodes[node];
    n->b.limit_nusd = limit_nusd;
    n->b.limit_tokens = limit_tokens;
    n->b.blocked = false;
    n->alerted = 0;
    emit(l, (struct cg_ledger_row){.kind = CG_ROW_LIMIT,
                                   .t_ns = now_ns,
                                   .node = node,
                                   .parent = n->parent,
                                   .nusd = limit_nusd,
                                   .tokens = limit_tokens,
                                   .cap = -1});
    alerts(l, node);
    retry_held(l, now_ns);
}

void cg_ledger_leased(struct cg_ledger *l, int node, bool leased)
{
    l->nodes[node].leased = leased;
}

bool cg_ledger_get(const struct cg_ledger *l, int node, struct cg_budget *out)
{
    if (node < 0 || node >= l->nnodes)
        return false;
    *out = l->nodes[node].b;
    for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++) {
        const struct entry *c = &l->calls[i];
        if (c->phase < PENDING)
            continue;
        for (int k = c->ask.node; k >= 0; k = l->nodes[k].parent) {
            if (k == node) {
                out->open++;
                out->accrued_nusd += c->accrued;
            }
        }
    }
    return true;
}

/* --- admission --- */

static struct entry *find(struct cg_ledger *l, uint64_t call)
{
    for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++)
        if (l->calls[i].phase != FREE && l->calls[i].ask.call == call)
            return &l->calls[i];
    return NULL;
}

static int blocker(struct cg_ledger *l, const struct cg_ledger_ask *a, int64_t need, int64_t tokens)
{
    for (int i = a->node; i >= 0; i = l->nodes[i].parent)
        if (free_of(&l->nodes[i]) < need || tokens_free(&l->nodes[i]) < tokens)
            return i;
    return CG_LEDGER_NONE;
}

static int64_t strict_or_quantum(const struct cg_ledger *l, const struct cg_ledger_ask *a,
                                 int64_t cap)
{
    if (l->o.mode == CG_LEDGER_STRICT)
        return cap;
    int64_t lag = a->lag_tokens > 0 ? a->lag_tokens : LAG;
    return CG_MIN(cap, l->o.quantum_tokens + lag);
}

/* Takes the holds when the least useful call fits. The cap is what the free money buys. */
static bool reserve(struct cg_ledger *l, struct entry *c, int64_t now)
{
    const struct cg_ledger_ask *a = &c->ask;
    int64_t free = cg_ledger_free(l, a->node);
    int64_t tokens = free_tokens(l, a->node) - a->input_tokens;
    int64_t room = free - a->input_nusd;
    int64_t cap = CG_MIN(CG_MIN(a->max_output, cg_money_buys(room, a->output_npm)), tokens);
    int64_t first =
        CG_MIN(CG_MIN(a->max_output, l->o.quantum_tokens), CG_MAX(a->least_output, 1024));
    if (room < 0 || cap < CG_MIN(first, CG_MAX(a->least_output, 256)))
        return false;
    int64_t held = strict_or_quantum(l, a, cap);
    c->cap = cap;
    c->hold = cg_money_add(a->input_nusd, cg_money_tokens(held, a->output_npm));
    if (c->hold > free)
        c->hold = free;
    c->hold_tokens = a->input_tokens + held;
    hold(l, a->node, c->hold, c->hold_tokens);
    struct cg_ledger_row row = {.kind = CG_ROW_RESERVE,
                                .t_ns = now,
                                .node = a->node,
                                .parent = CG_LEDGER_NONE,
                                .call = a->call,
                                .nusd = c->hold,
                                .tokens = c->hold_tokens,
                                .cap = cap};
    (void)cg_strlcpy(row.prices, sizeof row.prices, c->prices);
    c->row = emit(l, row);
    c->phase = l->o.no_wait_durable ? OPEN : PENDING;
    return true;
}

static bool others_fly(const struct cg_ledger *l)
{
    for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++)
        if (l->calls[i].phase >= PENDING)
            return true;
    return false;
}

static void broke(struct cg_ledger *l, int node)
{
    if (node < 0)
        return;
    l->nodes[node].b.blocked = true;
    alert(l, node, true);
}

enum cg_verdict cg_ledger_admit(struct cg_ledger *l, const struct cg_ledger_ask *ask,
                                int64_t now_ns, int64_t *cap, int *why)
{
    struct entry *c = NULL;
    *cap = -1;
    *why = CG_LEDGER_NONE;
    if (ask->call <= l->last_call)
        return CG_VERDICT_DUPLICATE;
    l->last_call = ask->call;
    for (int i = ask->node; i >= 0 && !ask->priced; i = l->nodes[i].parent)
        if (l->nodes[i].b.limit_nusd != CG_LEDGER_UNLIMITED)
            return CG_VERDICT_REFUSED;
    for (size_t i = 0; !c && i < CG_LEDGER_CALLS_MAX; i++)
        if (l->calls[i].phase == FREE)
            c = &l->calls[i];
    if (!c)
        return CG_VERDICT_REFUSED;
    *c = (struct entry){.ask = *ask, .deadline = now_ns + l->o.hold_ns};
    (void)cg_strlcpy(c->prices, sizeof c->prices, ask->prices ? ask->prices : "");
    if (reserve(l, c, now_ns)) {
        *cap = c->cap;
        return c->phase == OPEN ? CG_VERDICT_GO : CG_VERDICT_PENDING;
    }
    if (others_fly(l)) {
        c->phase = HELD;
        return CG_VERDICT_HELD;
    }
    *why = blocker(
        l, ask, ask->input_nusd + cg_money_tokens(CG_MAX(ask->least_output, 256), ask->output_npm),
        ask->input_tokens + 1);
    c->phase = FREE;
    broke(l, *why);
    return CG_VERDICT_REFUSED;
}

/* First come, first served; when nobody's end could free anything, the rest is refused. */
static void retry_held(struct cg_ledger *l, int64_t now)
{
    for (;;) {
        struct entry *first = NULL;
        for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++) {
            struct entry *c = &l->calls[i];
            if (c->phase == HELD && (!first || c->ask.call < first->ask.call))
                first = c;
        }
        if (!first)
            return;
        uint64_t call = first->ask.call;
        if (reserve(l, first, now)) {
            if (first->phase == OPEN && l->ev.verdict)
                l->ev.verdict(l->ctx, call, CG_VERDICT_GO, first->cap);
            continue;
        }
        if (others_fly(l) && now < first->deadline)
            return;
        int node = blocker(l, &first->ask, first->ask.input_nusd + 1, first->ask.input_tokens + 1);
        int own = first->ask.node;
        first->phase = FREE;
        broke(l, node >= 0 ? node : own);
        if (l->ev.verdict)
            l->ev.verdict(l->ctx, call, CG_VERDICT_REFUSED, -1);
    }
}

void cg_ledger_durable(struct cg_ledger *l, uint64_t rows)
{
    l->durable = CG_MAX(l->durable, rows);
    for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++) {
        struct entry *c = &l->calls[i];
        if (c->phase != PENDING || c->row > l->durable)
            continue;
        c->phase = OPEN;
        if (l->ev.verdict)
            l->ev.verdict(l->ctx, c->ask.call, CG_VERDICT_GO, c->cap);
    }
}

uint64_t cg_ledger_rows(const struct cg_ledger *l)
{
    return l->rows;
}

void cg_ledger_tick(struct cg_ledger *l, int64_t now_ns)
{
    retry_held(l, now_ns);
}

int64_t cg_ledger_next(const struct cg_ledger *l)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++)
        if (l->calls[i].phase == HELD)
            next = CG_MIN(next, l->calls[i].deadline);
    return next;
}

/* --- while it streams --- */

enum cg_accrual cg_ledger_accrue(struct cg_ledger *l, uint64_t call, int64_t spent_nusd,
                                 int64_t output_tokens, int64_t now_ns)
{
    struct entry *c = find(l, call);
    if (!c || c->phase != OPEN)
        return CG_ACCRUAL_PASS;
    int64_t lag = c->ask.lag_tokens > 0 ? c->ask.lag_tokens : LAG;
    c->accrued = CG_MAX(c->accrued, spent_nusd);
    int64_t need = cg_money_add(spent_nusd, cg_money_tokens(lag, c->ask.output_npm));
    if (need > c->hold && l->o.mode == CG_LEDGER_FLOW) {
        int64_t quantum = cg_money_tokens(l->o.quantum_tokens, c->ask.output_npm);
        int64_t want = need - c->hold + quantum;
        int64_t have = CG_MIN(want, cg_ledger_free(l, c->ask.node));
        int64_t tokens = CG_MAX(0, c->ask.input_tokens + output_tokens + lag - c->hold_tokens);
        if (c->hold + have < need || tokens > free_tokens(l, c->ask.node)) {
            broke(l, blocker(l, &c->ask, want, tokens));
            return CG_ACCRUAL_CUT;
        }
        c->hold += have;
        c->hold_tokens += tokens;
        hold(l, c->ask.node, have, tokens);
        c->row = emit(l, (struct cg_ledger_row){.kind = CG_ROW_EXTEND,
                                                .t_ns = now_ns,
                                                .node = c->ask.node,
                                                .parent = CG_LEDGER_NONE,
                                                .call = call,
                                                .nusd = have,
                                                .tokens = tokens,
                                                .cap = -1});
    } else if (spent_nusd > c->hold) {
        broke(l, c->ask.node);
        return CG_ACCRUAL_CUT;
    }
    bool durable = l->o.no_wait_durable || c->row <= l->durable;
    return durable ? CG_ACCRUAL_PASS : CG_ACCRUAL_WAIT;
}

/* --- the end of a call --- */

static void spend(struct cg_ledger *l, int node, int64_t nusd, int64_t tokens, bool estimated,
                  bool compute)
{
    for (int i = node; i >= 0; i = l->nodes[i].parent) {
        struct cg_budget *b = &l->nodes[i].b;
        b->settled_nusd = cg_money_add(b->settled_nusd, nusd);
        b->settled_tokens += tokens;
        b->uncertain_nusd += estimated ? nusd : 0;
        *(compute ? &b->compute_nusd : &b->llm_nusd) += nusd;
    }
}

static void settle_entry(struct cg_ledger *l, struct entry *c, int64_t nusd, int64_t tokens,
                         bool estimated)
{
    hold(l, c->ask.node, -c->hold, -c->hold_tokens);
    spend(l, c->ask.node, nusd, tokens, estimated, false);
    if (estimated)
        l->estimates[l->nestimates++ % LAST_ESTIMATES] =
            (__typeof__(l->estimates[0])){c->ask.call, c->ask.node, nusd};
    c->phase = FREE;
}

bool cg_ledger_settle(struct cg_ledger *l, uint64_t call, int64_t nusd, int64_t low, int64_t tokens,
                      bool estimated, int64_t now_ns, int64_t *over, struct cg_err *e)
{
    struct entry *c = find(l, call);
    *over = 0;
    if (!c || c->phase != OPEN)
        return cg_fail(e, CG_CONFLICT, "call %llu is not open", (unsigned long long)call);
    int node = c->ask.node;
    *over = CG_MAX(0, nusd - c->hold);
    settle_entry(l, c, nusd, tokens, estimated);
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
    emit(l, row);
    if (*over > 0) {
        row.kind = CG_ROW_OVERSHOOT;
        row.nusd = *over;
        row.estimated = false;
        row.low_nusd = 0;
        row.tokens = 0;
        emit(l, row);
    }
    alerts(l, node);
    retry_held(l, now_ns);
    return true;
}

bool cg_ledger_forget(struct cg_ledger *l, uint64_t call, int64_t now_ns)
{
    struct entry *c = find(l, call);
    if (!c || c->phase == OPEN)
        return false;
    if (c->phase == PENDING) {
        int node = c->ask.node;
        settle_entry(l, c, 0, 0, false);
        emit(l, (struct cg_ledger_row){.kind = CG_ROW_SETTLE,
                                       .t_ns = now_ns,
                                       .node = node,
                                       .parent = CG_LEDGER_NONE,
                                       .call = call,
                                       .cap = -1});
    }
    c->phase = FREE;
    retry_held(l, now_ns);
    return true;
}

bool cg_ledger_correct(struct cg_ledger *l, uint64_t call, int64_t nusd, int64_t now_ns,
                       struct cg_err *e)
{
    for (unsigned i = 0; i < CG_MIN(l->nestimates, (unsigned)LAST_ESTIMATES); i++) {
        if (l->estimates[i].call != call)
            continue;
        int64_t less = l->estimates[i].nusd - nusd;
        if (less < 0 || nusd < 0)
            return cg_fail(e, CG_INVALID, "a correction may only lower a cost");
        for (int k = l->estimates[i].node; k >= 0; k = l->nodes[k].parent) {
            l->nodes[k].b.settled_nusd -= less;
            l->nodes[k].b.llm_nusd -= less;
            l->nodes[k].b.uncertain_nusd -= l->estimates[i].nusd;
        }
        emit(l, (struct cg_ledger_row){.kind = CG_ROW_CORRECT,
                                       .t_ns = now_ns,
                                       .node = l->estimates[i].node,
                                       .parent = CG_LEDGER_NONE,
                                       .call = call,
                                       .nusd = nusd,
                                       .cap = -1});
        l->estimates[i].call = 0;
        return true;
    }
    return cg_fail(e, CG_NOT_FOUND, "call %llu is none of the last estimates",
                   (unsigned long long)call);
}

bool cg_ledger_compute(struct cg_ledger *l, int node, int64_t nusd, int64_t ahead, int64_t now_ns)
{
    struct node *n = &l->nodes[node];
    hold(l, node, -n->compute_hold, 0);
    spend(l, node, nusd, 0, false, true);
    bool pays = cg_ledger_free(l, node) >= ahead;
    n->compute_hold = pays ? ahead : 0;
    hold(l, node, n->compute_hold, 0);
    emit(l, (struct cg_ledger_row){.kind = CG_ROW_COMPUTE,
                                   .t_ns = now_ns,
                                   .node = node,
                                   .parent = CG_LEDGER_NONE,
                                   .nusd = nusd,
                                   .hold_nusd = n->compute_hold,
                                   .cap = -1});
    alerts(l, node);
    if (!pays)
        broke(l, node);
    return pays;
}

/* --- recovery --- */

bool cg_ledger_replay(struct cg_ledger *l, const struct cg_ledger_row *row, struct cg_err *e)
{
    struct entry *c = row->call ? find(l, row->call) : NULL;
    bool known = row->node >= 0 && row->node < l->nnodes;
    l->replaying = true;
    switch (row->kind) {
    case CG_ROW_LIMIT:
        if (row->node == l->nnodes && l->nnodes < CG_LEDGER_NODES_MAX)
            l->nodes[l->nnodes++].parent = row->parent;
        else if (!known)
            break;
        l->nodes[row->node].b.limit_nusd = row->nusd;
        l->nodes[row->node].b.limit_tokens = row->tokens;
        l->replaying = false;
        return true;
    case CG_ROW_RESERVE:
        for (size_t i = 0; known && !c && row->call > l->last_call && i < CG_LEDGER_CALLS_MAX;
             i++) {
            if (l->calls[i].phase != FREE)
                continue;
            l->last_call = row->call;
            l->calls[i] = (struct entry){.phase = OPEN,
                                         .ask = {.call = row->call, .node = row->node},
                                         .hold = row->nusd,
                                         .hold_tokens = row->tokens};
            hold(l, row->node, row->nusd, row->tokens);
            l->replaying = false;
            return true;
        }
        break;
    case CG_ROW_EXTEND:
        if (!c)
            break;
        c->hold += row->nusd;
        c->hold_tokens += row->tokens;
        hold(l, c->ask.node, row->nusd, row->tokens);
        l->replaying = false;
        return true;
    case CG_ROW_SETTLE:
        if (!c)
            break;
        settle_entry(l, c, row->nusd, row->tokens, row->estimated);
        l->replaying = false;
        return true;
    case CG_ROW_COMPUTE:
        if (!known)
            break;
        hold(l, row->node, -l->nodes[row->node].compute_hold, 0);
        l->nodes[row->node].compute_hold = row->hold_nusd;
        hold(l, row->node, row->hold_nusd, 0);
        spend(l, row->node, row->nusd, 0, false, true);
        l->replaying = false;
        return true;
    case CG_ROW_CORRECT:
    case CG_ROW_OVERSHOOT:
        l->replaying = false;
        return true;
    case CG_ROW_KIND_COUNT:
        break;
    }
    l->replaying = false;
    return cg_fail(e, CG_INVALID, "a ledger row of call %llu does not fit what came before",
                   (unsigned long long)row->call);
}

void cg_ledger_recover(struct cg_ledger *l, int64_t now_ns)
{
    for (size_t i = 0; i < CG_LEDGER_CALLS_MAX; i++) {
        struct entry *c = &l->calls[i];
        int64_t over = 0;
        struct cg_err e = CG_ERR_INIT;
        CG_ASSERT(c->phase != OPEN || cg_ledger_settle(l, c->ask.call, c->hold, 0, c->hold_tokens,
                                                       true, now_ns, &over, &e));
    }
    for (int i = 0; i < l->nnodes; i++)
        if (l->nodes[i].compute_hold > 0)
            (void)cg_ledger_compute(l, i, l->nodes[i].compute_hold, 0, now_ns);
}
