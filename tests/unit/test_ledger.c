/* The ledger's promises, held against a model under random steps: budgets as a tree with a lease at
 * its root, calls that are admitted, grow, are settled, forgotten and corrected, machine time,
 * limits that move, rows that become durable late, and crashes that lose the rest. What the rows
 * say is counted by a second, naive ledger here, and after every step both must agree.
 * CAGED_LEDGER_STEPS sets the number of steps (a million), CAGED_LEDGER_SEED the seed. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/ledger.h"

enum { NODES = 4, LIVE = 96, ROWS = 60000, RUN = 12000, STEPS = 1000000 };

static const int parents[NODES] = {CG_LEDGER_NONE, 0, 1, 1};

struct shadow { /* what rows alone say */
    int64_t limit, settled, held, uncertain, compute_hold, tokens_limit, tokens, tokens_held;
};

struct live {
    uint64_t id;
    int node;
    enum { GONE, QUEUED, WAITING, SENT, ENDED } state;
    int64_t npm, spent, cap, out, hold, hold_tokens, input, lag;
    uint64_t row;   /* of its reserve */
    bool paused;    /* events wait for the disk or for a lease */
    bool estimated; /* ENDED, and may still be corrected */
    int64_t charged;
};

struct world {
    struct cg_ledger *l;
    struct cg_ledger_options o;
    struct cg_ledger_row *rows;
    uint64_t nrows, durable;
    struct shadow shadow[NODES];
    struct live live[LIVE];
    int64_t truth[NODES];   /* what was really spent, by sent calls and machine time */
    int64_t ceiling[NODES]; /* settled and held may reach this */
    int64_t compute_hold[NODES];
    bool stopped[NODES]; /* the machine, for want of money */
    uint64_t last;
    int64_t now;
    uint64_t random, wants, goes, refusals, cuts, crashes;
};

static uint64_t next(struct world *w) /* splitmix64 */
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t below(struct world *w, int64_t n)
{
    return (int64_t)(next(w) % (uint64_t)n);
}

static struct live *live_of(struct world *w, uint64_t id)
{
    for (size_t i = 0; i < LIVE; i++)
        if (w->live[i].id == id && id)
            return &w->live[i];
    return NULL;
}

static void add(struct shadow *s, int node, int64_t settled, int64_t held, int64_t tokens,
                int64_t tokens_held)
{
    for (int i = node; i >= 0; i = parents[i]) {
        s[i].settled += settled;
        s[i].held += held;
        s[i].tokens += tokens;
        s[i].tokens_held += tokens_held;
    }
}

/* The naive ledger. A hold is looked up among the rows themselves. */
static void count_row(struct world *w, const struct cg_ledger_row *r)
{
    struct live *c = live_of(w, r->call);
    switch (r->kind) {
    case CG_ROW_LIMIT:
        w->shadow[r->node].limit = r->nusd;
        w->shadow[r->node].tokens_limit = r->tokens;
        break;
    case CG_ROW_RESERVE:
        assert_non_null(c);
        c->hold = r->nusd;
        c->hold_tokens = r->tokens;
        c->row = w->nrows;
        add(w->shadow, r->node, 0, r->nusd, 0, r->tokens);
        break;
    case CG_ROW_EXTEND:
        assert_non_null(c);
        c->hold += r->nusd;
        c->hold_tokens += r->tokens;
        add(w->shadow, r->node, 0, r->nusd, 0, r->tokens);
        break;
    case CG_ROW_SETTLE:
        assert_non_null(c);
        add(w->shadow, r->node, r->nusd, -c->hold, r->tokens, -c->hold_tokens);
        for (int i = r->node; i >= 0 && r->estimated; i = parents[i])
            w->shadow[i].uncertain += r->nusd;
        break;
    case CG_ROW_CORRECT:
        assert_non_null(c);
        add(w->shadow, r->node, r->nusd - c->charged, 0, 0, 0);
        for (int i = r->node; i >= 0; i = parents[i])
            w->shadow[i].uncertain -= c->charged;
        break;
    case CG_ROW_COMPUTE:
        add(w->shadow, r->node, r->nusd, r->hold_nusd - w->shadow[r->node].compute_hold, 0, 0);
        w->shadow[r->node].compute_hold = r->hold_nusd;
        break;
    case CG_ROW_OVERSHOOT:
    case CG_ROW_KIND_COUNT:
        break;
    }
}

static void on_row(void *ctx, const struct cg_ledger_row *row)
{
    struct world *w = ctx;
    assert_true(w->nrows < ROWS);
    w->rows[w->nrows++] = *row;
    count_row(w, row);
}

static void on_verdict(void *ctx, uint64_t call, enum cg_verdict v, int64_t cap)
{
    struct world *w = ctx;
    struct live *c = live_of(w, call);
    assert_non_null(c);
    assert_true(c->state == QUEUED || c->state == WAITING); /* decided once */
    if (v == CG_VERDICT_GO) {
        assert_true(w->o.no_wait_durable || c->row <= w->durable); /* I2 */
        assert_true(cap >= 1);
        c->state = SENT;
        c->cap = cap;
        w->goes++;
    } else {
        assert_int_equal(v, CG_VERDICT_REFUSED);
        c->state = GONE; /* I6: costs nothing, is never sent */
        c->id = 0;
        w->refusals++;
    }
}

static void on_want(void *ctx, int node, int64_t want)
{
    struct world *w = ctx;
    assert_int_equal(node, 0);
    assert_true(want > 0);
    w->wants++;
}

static const struct cg_ledger_events events = {
    .row = on_row, .verdict = on_verdict, .want = on_want};

static void check_node(const struct world *w, int i)
{
    struct cg_budget b;
    const struct shadow *s = &w->shadow[i];
    assert_true(cg_ledger_get(w->l, i, &b));
    assert_int_equal(b.limit_nusd, s->limit);
    assert_int_equal(b.settled_nusd, s->settled);
    assert_int_equal(b.held_nusd, s->held);
    assert_int_equal(b.uncertain_nusd, s->uncertain);
    assert_int_equal(b.settled_tokens, s->tokens);
    assert_int_equal(b.held_tokens, s->tokens_held);
    assert_int_equal(b.llm_nusd + b.compute_nusd, b.settled_nusd);
    assert_true(s->settled >= 0 && s->held >= 0 && s->uncertain >= 0); /* I1 */
    if (s->limit != CG_LEDGER_UNLIMITED)
        assert_true(s->settled + s->held <= w->ceiling[i]); /* I1, I3 */
    assert_true(s->settled + s->held >= w->truth[i]);       /* nobody spends what is not held */
}

static void check(const struct world *w)
{
    int64_t below_settled[NODES] = {0}, below_held[NODES] = {0};
    for (int i = NODES - 1; i >= 0; i--) {
        check_node(w, i);
        assert_true(w->shadow[i].settled >= below_settled[i]); /* I5: the rest is its own */
        assert_true(w->shadow[i].held >= below_held[i]);
        if (parents[i] >= 0) {
            below_settled[parents[i]] += w->shadow[i].settled;
            below_held[parents[i]] += w->shadow[i].held;
        }
    }
    assert_int_equal(below_settled[1], w->shadow[1].settled); /* nothing is spent there itself */
    assert_int_equal(below_settled[0], w->shadow[0].settled);
}

static void lift(struct world *w, int node, int64_t over)
{
    for (int i = node; i >= 0; i = parents[i])
        w->ceiling[i] += over;
}

/* --- steps --- */

static int pick_node(struct world *w)
{
    return 2 + (int)below(w, 2);
}

static void step_admit(struct world *w)
{
    struct live *c = live_of(w, 0);
    for (size_t i = 0; i < LIVE && !c; i++)
        if (w->live[i].state == GONE || (w->live[i].state == ENDED && !w->live[i].estimated))
            c = &w->live[i];
    if (!c)
        return;
    *c = (struct live){.id = ++w->last,
                       .node = pick_node(w),
                       .npm = 1000000 * (1 + below(w, 25000)),
                       .input = below(w, 40000000),
                       .lag = 64 + (below(w, 8) == 0 ? below(w, 4000) : 0)};
    const struct cg_ledger_ask ask = {.call = c->id,
                                      .node = c->node,
                                      .priced = below(w, 40) != 0,
                                      .input_nusd = c->input,
                                      .input_tokens = c->input / 1000,
                                      .output_npm = c->npm,
                                      .max_output = 1 + below(w, 64000),
                                      .least_output = 1 + below(w, 3) * 1025,
                                      .lag_tokens = c->lag,
                                      .prices = "0123456789abcdef"};
    int64_t cap;
    int why;
    c->state = WAITING; /* a row may name it at once */
    enum cg_verdict v = cg_ledger_admit(w->l, &ask, w->now, &cap, &why);
    if (v == CG_VERDICT_GO) {
        assert_true(w->o.no_wait_durable);
        c->state = SENT;
        c->cap = cap;
        w->goes++;
    } else if (v == CG_VERDICT_HELD) {
        c->state = QUEUED;
    } else if (v == CG_VERDICT_REFUSED) {
        c->state = GONE;
        c->id = 0;
        w->refusals++;
    } else {
        assert_int_equal(v, CG_VERDICT_PENDING);
    }
    if (ask.priced || v != CG_VERDICT_REFUSED)
        assert_int_equal(cg_ledger_admit(w->l, &ask, w->now, &cap, &why), CG_VERDICT_DUPLICATE);
}

static struct live *pick(struct world *w, int state)
{
    size_t from = (size_t)below(w, LIVE);
    for (size_t i = 0; i < LIVE; i++) {
        struct live *c = &w->live[(from + i) % LIVE];
        if ((int)c->state == state && c->id)
            return c;
    }
    return NULL;
}

static void spend(struct world *w, struct live *c, int64_t nusd)
{
    c->spent += nusd;
    for (int i = c->node; i >= 0; i = parents[i])
        w->truth[i] += nusd;
}

static void settle(struct world *w, struct live *c)
{
    struct cg_err e = CG_ERR_INIT;
    bool estimated = below(w, 4) == 0;
    bool lies = below(w, 200) == 0; /* its price or its cap was passed */
    int64_t more = lies ? 1 + below(w, 50000000) : 0;
    int64_t over = 0;
    if (more)
        spend(w, c, CG_MAX(0, c->hold - c->spent) + more);
    if (c->spent == 0 && below(w, 2))
        spend(w, c, c->input);
    int64_t high = estimated ? CG_MAX(c->spent, c->hold) : c->spent;
    lift(w, c->node, CG_MAX(0, high - c->hold));
    int64_t hold = c->hold;
    c->charged = high;
    assert_true(
        cg_ledger_settle(w->l, c->id, high, c->spent, c->out, estimated, w->now, &over, &e));
    assert_int_equal(over, CG_MAX(0, high - hold));
    assert_true(lies || over == 0);
    assert_false(cg_ledger_settle(w->l, c->id, high, 0, 1, false, w->now, &over, &e)); /* I4 */
    assert_int_equal(e.code, CG_CONFLICT);
    c->state = ENDED;
    c->estimated = estimated;
}

static void step_stream(struct world *w)
{
    struct live *c = pick(w, SENT);
    if (!c)
        return;
    if (!c->paused) { /* what comes in one go is never more than what is held for it */
        int64_t n = 1 + below(w, c->lag);
        c->out += c->spent == 0 ? 0 : CG_MIN(n, c->cap - c->out);
        spend(w, c, c->input + cg_money_tokens(c->out, c->npm) - c->spent);
    }
    switch (cg_ledger_accrue(w->l, c->id, c->spent, c->out, w->now)) {
    case CG_ACCRUAL_PASS:
        c->paused = false;
        break;
    case CG_ACCRUAL_WAIT:
        c->paused = true;
        break;
    case CG_ACCRUAL_CUT:
        w->cuts++;
        assert_true(c->spent <= c->hold);
        settle(w, c);
        return;
    }
    assert_true(c->paused || c->spent <= c->hold);
    if (c->out >= c->cap || below(w, 6) == 0)
        settle(w, c);
}

static void step_forget(struct world *w)
{
    struct live *c = pick(w, below(w, 2) ? QUEUED : WAITING);
    if (!c)
        return;
    c->state = ENDED; /* its settle row names it */
    assert_true(cg_ledger_forget(w->l, c->id, w->now));
    assert_false(cg_ledger_forget(w->l, c->id, w->now));
    c->hold = c->hold_tokens = 0;
}

static void step_correct(struct world *w)
{
    struct live *c = pick(w, ENDED);
    struct cg_err e = CG_ERR_INIT;
    if (!c || !c->estimated)
        return;
    assert_false(cg_ledger_correct(w->l, c->id, c->charged + 1, w->now, &e));
    if (cg_ledger_correct(w->l, c->id, c->spent, w->now, &e))
        assert_false(cg_ledger_correct(w->l, c->id, c->spent, w->now, &e));
    c->estimated = false;
}

static void step_compute(struct world *w)
{
    int node = pick_node(w);
    int64_t hold = w->shadow[node].compute_hold;
    if (w->stopped[node])
        return;
    int64_t nusd = hold ? below(w, hold + 1) : below(w, 1000);
    lift(w, node, CG_MAX(0, nusd - hold));
    for (int i = node; i >= 0; i = parents[i])
        w->truth[i] += nusd;
    w->stopped[node] = !cg_ledger_compute(w->l, node, nusd, below(w, 200000), w->now);
}

static void step_limit(struct world *w)
{
    int node = (int)below(w, NODES);
    struct shadow *s = &w->shadow[node];
    int64_t limit =
        below(w, 3) ? s->settled + s->held + below(w, 4 * CG_USD) : below(w, 40 * CG_USD);
    int64_t tokens = below(w, 3) ? CG_LEDGER_UNLIMITED : s->tokens + below(w, 3000000);
    if (node == 0 && below(w, 3) == 0) {
        cg_ledger_leased(w->l, 0, below(w, 2) == 0, w->now);
        return;
    }
    w->ceiling[node] = CG_MAX(limit, s->settled + s->held);
    memset(w->stopped, 0, sizeof w->stopped);
    cg_ledger_limit(w->l, node, limit, node == 0 ? CG_LEDGER_UNLIMITED : tokens, w->now);
}

static void step_durable(struct world *w)
{
    w->durable += (uint64_t)below(w, (int64_t)(w->nrows - w->durable) + 1);
    if (below(w, 4) == 0)
        w->durable = w->nrows;
    uint64_t upto = w->durable;
    cg_ledger_durable(w->l, upto);
}

static struct cg_ledger *replayed(struct world *w, uint64_t upto, void *ctx)
{
    struct cg_ledger *l = cg_ledger_create(&w->o, &events, ctx);
    struct cg_err e = CG_ERR_INIT;
    for (uint64_t i = 0; i < upto; i++) {
        char text[512];
        struct cg_ledger_row row = w->rows[i];
        if (i % 64 == 0) { /* through its text, now and then */
            struct cg_buf b;
            struct cg_jsonw j;
            cg_buf_init(&b, 4096);
            cg_jsonw_init(&j, &b);
            cg_ledger_row_write(&row, &j);
            cg_snprintf(text, sizeof text, "%.*s", (int)b.n, b.p);
            cg_buf_finish(&b);
            assert_true(cg_ledger_row_parse(cg_slice_of(text), &row, &e));
        }
        if (!cg_ledger_replay(l, &row, &e))
            fail_msg("row %llu: %s", (unsigned long long)i, e.text);
    }
    return l;
}

/* I8: the rows give the state, whole. */
static void step_replay(struct world *w)
{
    struct cg_ledger *l = replayed(w, w->nrows, w);
    for (int i = 0; i < NODES; i++) {
        struct cg_budget a, b;
        assert_true(cg_ledger_get(w->l, i, &a) && cg_ledger_get(l, i, &b));
        assert_int_equal(a.limit_nusd, b.limit_nusd);
        assert_int_equal(a.settled_nusd, b.settled_nusd);
        assert_int_equal(a.held_nusd, b.held_nusd);
        assert_int_equal(a.uncertain_nusd, b.uncertain_nusd);
        assert_int_equal(a.llm_nusd, b.llm_nusd);
        assert_int_equal(a.limit_tokens, b.limit_tokens);
        assert_int_equal(a.settled_tokens, b.settled_tokens);
        assert_int_equal(a.held_tokens, b.held_tokens);
        assert_int_equal(a.open, b.open);
    }
    cg_ledger_destroy(l);
}

/* I7: whatever was lost, what is settled then covers all that was really spent, so that nothing is
 * free that was not. */
static void crash(struct world *w)
{
    struct world after = {.o = w->o, .rows = cg_alloc_array(ROWS, sizeof *w->rows)};
    for (uint64_t i = 0; i < w->durable; i++) {
        const struct cg_ledger_row *r = &w->rows[i];
        after.rows[after.nrows++] = *r;
    }
    struct cg_ledger_events quiet = {.row = NULL};
    struct cg_ledger *l = cg_ledger_create(&w->o, &quiet, &after);
    struct cg_err e = CG_ERR_INIT;
    for (uint64_t i = 0; i < after.nrows; i++)
        assert_true(cg_ledger_replay(l, &after.rows[i], &e));
    cg_ledger_recover(l, w->now);
    for (int i = 0; i < NODES; i++) {
        struct cg_budget b;
        assert_true(cg_ledger_get(l, i, &b));
        assert_int_equal(b.held_nusd, 0);
        assert_int_equal(b.open, 0);
        assert_true(b.settled_nusd >= w->truth[i]);
    }
    cg_ledger_destroy(l);
    free(after.rows);
    w->crashes++;
}

static void begin(struct world *w, uint64_t seed, bool strict)
{
    struct cg_ledger_row *rows = w->rows;
    uint64_t totals[5] = {w->wants, w->goes, w->refusals, w->cuts, w->crashes};
    memset(w, 0, sizeof *w);
    w->rows = rows;
    w->random = seed;
    w->wants = totals[0], w->goes = totals[1], w->refusals = totals[2], w->cuts = totals[3];
    w->crashes = totals[4];
    w->now = 1;
    w->o = (struct cg_ledger_options){.mode = strict ? CG_LEDGER_STRICT : CG_LEDGER_FLOW,
                                      .quantum_tokens = 1 + below(w, 4096)};
    w->l = cg_ledger_create(&w->o, &events, w);
    for (int i = 0; i < NODES; i++) {
        w->ceiling[i] = CG_USD * (1 + below(w, 40));
        assert_int_equal(
            cg_ledger_budget(w->l, parents[i], w->ceiling[i], CG_LEDGER_UNLIMITED, w->now), i);
    }
    cg_ledger_leased(w->l, 0, true, w->now);
}

static void step(struct world *w)
{
    static void (*const often[])(struct world *) = {step_admit,   step_admit,   step_stream,
                                                    step_stream,  step_stream,  step_stream,
                                                    step_durable, step_compute, step_forget};
    static void (*const seldom[])(struct world *) = {step_correct, step_limit};
    w->now += below(w, 20000000);
    if (below(w, 60) == 0)
        seldom[below(w, 2)](w);
    else
        often[below(w, (int64_t)CG_COUNT(often))](w);
    if (below(w, 50) == 0)
        cg_ledger_tick(w->l, w->now);
}

/* Compute rows that were lost must not have spent more than what the durable ones hold. */
static bool may_crash(const struct world *w)
{
    for (uint64_t i = w->durable; i < w->nrows; i++)
        if (w->rows[i].kind == CG_ROW_COMPUTE)
            return false;
    return true;
}

static void random_steps_keep_every_invariant(void **state)
{
    static struct world w;
    const char *text = getenv("CAGED_LEDGER_STEPS");
    const char *seed_text = getenv("CAGED_LEDGER_SEED");
    long steps = text ? atol(text) : STEPS;
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : 20261128;
    (void)state;
    w.rows = cg_alloc_array(ROWS, sizeof *w.rows);
    for (long done = 0, run = 0; done < steps; run++) {
        begin(&w, seed + (uint64_t)run, run % 2 == 1);
        for (int i = 0; i < RUN && done < steps && w.nrows < ROWS - 8 * LIVE; i++, done++) {
            step(&w);
            check(&w);
            if (i % 3000 == 2999)
                step_replay(&w);
            if (i % 1000 == 999 && may_crash(&w))
                crash(&w);
        }
        cg_ledger_destroy(w.l);
    }
    free(w.rows);
    print_message("%ld steps: %llu sent, %llu refused, %llu cut, %llu crashes\n", steps,
                  (unsigned long long)w.goes, (unsigned long long)w.refusals,
                  (unsigned long long)w.cuts, (unsigned long long)w.crashes);
    /* all of it was reached */
    assert_true(w.goes > (uint64_t)steps / 30 && w.cuts > 10 && w.refusals > 10 && w.wants > 10);
    assert_true(w.crashes > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_steps_keep_every_invariant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
