/* What is told of costs, and what happens when money ends: at 100 percent calls are refused at
 * once and servers are told (`costs`); when none of them acts within two seconds the warden ends or
 * pauses the sandbox itself. */
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "warden/llm_inner.h"

/* Seconds until the warden acts itself: nobody watches; somebody does, who may be saving its work.
 */
enum { GUARD_ALONE = 2, GUARD_WATCHED = 60 };

/* --- what is told --- */

static void put_limit(struct cg_jsonw *j, const char *key, int64_t limit)
{
    cg_jsonw_key(j, key);
    if (limit == CG_LEDGER_UNLIMITED)
        cg_jsonw_null(j);
    else
        cg_jsonw_int(j, limit);
}

static void write_costs(const struct llm *l, struct cg_jsonw *j)
{
    struct cg_budget b = {.limit_nusd = CG_LEDGER_UNLIMITED};
    struct cg_budget a = {.limit_nusd = CG_LEDGER_UNLIMITED};
    struct cg_gateway_stats s = {.calls = 0};
    (void)cg_ledger_get(l->ledger, l->node, &b);
    if (l->gateway)
        cg_gateway_get_stats(l->gateway, &s);
    cg_jsonw_kint(j, "llm_nusd", b.llm_nusd);
    cg_jsonw_kint(j, "compute_nusd", b.compute_nusd);
    cg_jsonw_kint(j, "uncertain_nusd", b.uncertain_nusd);
    cg_jsonw_kint(j, "held_nusd", b.held_nusd);
    cg_jsonw_kint(j, "accrued_nusd", b.accrued_nusd);
    cg_jsonw_kint(j, "tokens", b.settled_tokens);
    cg_jsonw_kuint(j, "open_calls", b.open);
    put_limit(j, "limit_nusd", b.limit_nusd);
    put_limit(j, "limit_tokens", b.limit_tokens);
    (void)cg_ledger_get(l->ledger, 0, &a);
    if (l->node != 0) /* of old records the root is the sandbox itself, and no lease */
        put_limit(j, "lease_nusd", a.limit_nusd);
    cg_jsonw_kint(j, "committed_nusd", a.settled_nusd + a.held_nusd);
    cg_jsonw_kint(j, "want_nusd", l->want_nusd);
    cg_jsonw_kuint(j, "calls", s.calls);
    cg_jsonw_kuint(j, "refused", s.refused);
    cg_jsonw_kuint(j, "cut", s.cut);
    cg_jsonw_kuint(j, "unpriced", s.unpriced);
    cg_jsonw_kbool(j, "exceeded", l->exceeded);
}

void llm_tell(struct llm *l)
{
    if (!l->watchers)
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 2048);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    write_costs(l, &j);
    cg_jsonw_obj_end(&j);
    for (struct llm_costs *c = l->watchers; c; c = c->next) {
        cg_link_control(c->up.s, cg_buf_slice(&b));
        up_kick(&c->up);
    }
}

void llm_status(const struct warden *w, struct cg_jsonw *j)
{
    if (!w->llm)
        return;
    cg_jsonw_key(j, "costs");
    cg_jsonw_obj(j);
    write_costs(w->llm, j);
    cg_jsonw_obj_end(j);
}

static void on_costs_cancel(struct up *u, bool lost)
{
    struct llm_costs *c = CG_CONTAINER(u, struct llm_costs, up);
    struct llm_costs **at = &u->w->llm->watchers;
    (void)lost;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    up_close(u, cg_slice_of("{}"));
    free(c);
}

void llm_costs_open(struct warden *w, struct conn *conn, struct cg_link_stream *s)
{
    static const struct up_ops ops = {.on_cancel = on_costs_cancel};
    if (!w->llm) {
        refuse(conn, s, CG_UNSUPPORTED, "this sandbox has no gateway");
        return;
    }
    struct llm_costs *c = cg_alloc(sizeof *c);
    c->next = w->llm->watchers;
    w->llm->watchers = c;
    up_init(&c->up, &ops, conn, s);
    up_accept(&c->up, cg_slice_of("{}"));
    llm_tell(w->llm);
}

/* --- the guard --- */

static void exceeded(struct llm *l)
{
    if (l->exceeded || l->replaying)
        return;
    l->exceeded = true;
    l->exceeded_at = cg_mono_ns();
    l->seconds_broke = 0;
    if (l->gateway)
        cg_gateway_block(l->gateway, false);
    llm_tell(l);
    if (l->w->running) /* not yet, when the record itself says so */
        commit_now(&l->w->commit);
}

void llm_alert(void *ctx, int node, int percent, int64_t spent, int64_t limit)
{
    static const char *const names[] = {"budget_warning", "budget_critical", "budget_exceeded"};
    struct llm *l = ctx;
    struct cg_budget b = {.limit_tokens = CG_LEDGER_UNLIMITED};
    if (l->replaying)
        return;
    (void)cg_ledger_get(l->ledger, node, &b);
    struct cg_jsonw *j = cg_record_begin(l->w->record, CG_REC_COST, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", names[percent >= 100 ? 2 : percent >= 95 ? 1 : 0]);
    cg_jsonw_kstr(j, "budget", node == l->node ? "sandbox" : "account");
    cg_jsonw_kint(j, "percent", percent);
    if (node == l->node) {
        cg_jsonw_kint(j, "spent_nusd", spent);
        put_limit(j, "limit_nusd", limit);
        cg_jsonw_kint(j, "spent_tokens", b.settled_tokens);
        put_limit(j, "limit_tokens", b.limit_tokens);
    }
    cg_record_end(l->w->record);
    if (percent < 100) {
        llm_tell(l);
        return;
    }
    l->broke_node = node;
    exceeded(l);
}

bool llm_guarded(const struct warden *w)
{
    return w->llm && w->llm->exceeded && w->llm->exceeded_at;
}

/* How long the guard took, by one clock, is a line of the record. */
void llm_still(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l || !l->exceeded || !l->exceeded_at)
        return;
    int64_t after = cg_mono_ns() - l->exceeded_at;
    l->exceeded_at = 0;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_COST, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "budget_guard");
    cg_jsonw_kstr(j, "action", w->config.llm.pause ? "pause" : "destroy");
    cg_jsonw_kint(j, "still_after_us", after / 1000);
    cg_record_end(w->record);
}

/* --- limits --- */

struct limit_set {
    struct up up;
    struct commit_wait wait;
    int64_t limit; /* for the answer */
};

static void on_limit_lost(struct up *u, bool lost)
{
    (void)u; /* it is freed when its row is on disk */
    (void)lost;
}

static void on_limit_durable(struct commit_wait *wait)
{
    struct limit_set *n = CG_CONTAINER(wait, struct limit_set, wait);
    char text[64] = "{}";
    if (n->limit != CG_LEDGER_UNLIMITED)
        cg_snprintf(text, sizeof text, "{\"limit_nusd\":%lld}", (long long)n->limit);
    up_close(&n->up, cg_slice_of(text));
    free(n);
}

/* What was set is answered when it would survive. */
static void answer_durable(struct llm *l, struct conn *c, struct cg_link_stream *s, int64_t limit)
{
    static const struct up_ops ops = {.on_cancel = on_limit_lost};
    struct cg_record_stats stats;
    struct limit_set *n = cg_alloc(sizeof *n);
    cg_record_get_stats(l->w->record, &stats);
    up_init(&n->up, &ops, c, s);
    n->limit = limit;
    n->wait.done = on_limit_durable;
    commit_wait(&l->w->commit, &n->wait, stats.seq);
    commit_now(&l->w->commit);
}

/* Absent: as it is; null: none; else not below 0. */
static bool read_limit(const struct cg_json *request, const char *key, int64_t *limit)
{
    const struct cg_json *v = cg_json_get(request, key);
    if (!v)
        return true;
    if (v->type != CG_JSON_NULL && (v->type != CG_JSON_INT || v->integer < 0))
        return false;
    *limit = v->type == CG_JSON_NULL ? CG_LEDGER_UNLIMITED : v->integer;
    return true;
}

static void lift(struct llm *l)
{
    l->exceeded = false;
    cg_gateway_unblock(l->gateway);
}

void llm_budget_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                     const struct cg_json *request)
{
    struct llm *l = w->llm;
    struct cg_budget b;
    if (!l || !l->gateway || !cg_ledger_get(l->ledger, l->node, &b)) {
        refuse(c, s, CG_UNSUPPORTED, "this sandbox has no gateway");
        return;
    }
    if (!read_limit(request, "limit_nusd", &b.limit_nusd) ||
        !read_limit(request, "limit_tokens", &b.limit_tokens)) {
        refuse(c, s, CG_INVALID, "limit_nusd, limit_tokens: numbers, or null for none");
        return;
    }
    lift(l);
    cg_ledger_limit(l->ledger, l->node, b.limit_nusd, b.limit_tokens, cg_mono_ns());
    llm_tell(l);
    answer_durable(l, c, s, b.limit_nusd);
}

/* What another sandbox of the account may have: all but what is spent and held, and a minute of the
 * machine. The lower limit is on disk before the server hears of it. */
static void give_back(struct llm *l, struct conn *c, struct cg_link_stream *s)
{
    struct cg_budget b = {.limit_nusd = 0};
    (void)cg_ledger_get(l->ledger, 0, &b);
    int64_t minute = l->running ? cg_compute_ahead(&l->compute, INT64_C(60000000000)) : 0;
    int64_t keep = cg_money_add(cg_money_add(b.settled_nusd, b.held_nusd), minute);
    if (keep < b.limit_nusd && b.limit_nusd != CG_LEDGER_UNLIMITED) {
        b.limit_nusd = keep;
        cg_ledger_limit(l->ledger, 0, keep, CG_LEDGER_UNLIMITED, cg_mono_ns());
    }
    llm_tell(l);
    answer_durable(l, c, s, b.limit_nusd);
}

void llm_lease_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                    const struct cg_json *request)
{
    struct llm *l = w->llm;
    int64_t limit = -1;
    if (!l || !l->gateway || l->node == 0) {
        refuse(c, s, CG_UNSUPPORTED, "this sandbox has no lease");
        return;
    }
    if (cg_json_bool(request, "recall", false)) {
        give_back(l, c, s);
        return;
    }
    if (!read_limit(request, "limit_nusd", &limit) || limit < 0) {
        refuse(c, s, CG_INVALID, "limit_nusd: a number, or null for none");
        return;
    }
    l->want_nusd = 0;
    if (l->broke_node != l->node)
        lift(l);
    cg_ledger_leased(l->ledger, 0, true, cg_mono_ns()); /* first: a lease is no budget to warn of */
    cg_ledger_limit(l->ledger, 0, limit, CG_LEDGER_UNLIMITED, cg_mono_ns());
    if (!cg_json_bool(request, "more", true))
        cg_ledger_leased(l->ledger, 0, false, cg_mono_ns());
    cg_gateway_progress(l->gateway);
    answer_durable(l, c, s, limit);
}

void llm_want(void *ctx, int node, int64_t want)
{
    struct llm *l = ctx;
    (void)node;
    l->want_nusd = want;
    llm_tell(l);
}

/* --- machine time --- */

static uint64_t egress_bytes(const struct warden *w)
{
    struct cg_egress_stats s = {.connections = 0};
    if (w->egress)
        cg_egress_get_stats(w->egress, &s);
    return s.bytes_out;
}

static void charge(struct llm *l, int64_t nusd)
{
    sessions_compute(l->w->sessions, nusd);
    int64_t ahead = l->running ? cg_compute_ahead(&l->compute, INT64_C(2000000000)) : 0;
    /* when that cannot be paid the ledger gives its alert */
    (void)cg_ledger_compute(l->ledger, l->node, nusd, ahead, cg_mono_ns());
}

void llm_running(struct warden *w, bool running)
{
    struct llm *l = w->llm;
    if (!l || l->running == running)
        return;
    l->running = running;
    charge(l, cg_compute_run(&l->compute, running, cg_mono_ns()));
}

void llm_settle(void *ctx)
{
    struct llm *l = ctx;
    if (l->running)
        charge(l, cg_compute_take(&l->compute, cg_mono_ns(), egress_bytes(l->w)));
}

/* No server does it. */
static void act_alone(struct warden *w)
{
    struct cg_err e = CG_ERR_INIT;
    if (w->config.llm.pause && freeze_pause(w, &e)) {
        (void)cg_strlcpy(w->stop_reason, sizeof w->stop_reason, "budget_exceeded");
        return;
    }
    w->stop_grace_ms = 500;
    life_stop_now(w, "budget_exceeded");
}

void llm_second(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l)
        return;
    llm_settle(l);
    llm_tell(l);
    if (l->exceeded && w->state == W_RUNNING && !w->freeze &&
        ++l->seconds_broke >= (l->watchers ? GUARD_WATCHED : GUARD_ALONE))
        act_alone(w);
}
