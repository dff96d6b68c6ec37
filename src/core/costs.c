/* The warden counts, the server listens: a `costs` stream a sandbox. When the warden says that the
 * budget is used up, its calls are refused already. The guest is stopped at once, its files become
 * a snapshot of the account, and the sandbox ends; or it is paused. */
#include <stdlib.h>

#include "base/log.h"
#include "core/creation.h"
#include "core/leases.h"
#include "core/providers.h"
#include "core/snapshots.h"

struct watch {
    struct cg_wcall call;
    struct cg_sandbox *sb;
};

/* --- at 100 percent --- */

static void on_paused(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    (void)ctx;
    sb->guarded = false;
    if (err && sb->status == CG_STATUS_RUNNING && !sb->destroying) { /* then it ends, and is kept */
        cg_log(CG_LOG_WARN, CG_EVENT("budget.pause_failed"), CG_S("id", sb->id), CG_E(err));
        sb->keep_disk = true;
        cg_core_end(sb, CG_STATUS_DESTROYED, "budget_exceeded");
    }
}

/* Its work is in a snapshot of the account; or, where that is refused, its disk stays. */
static void on_kept(void *ctx, struct cg_snapshot *s, const struct cg_err *err)
{
    struct cg_sandbox *sb = ctx;
    (void)s;
    if (err)
        cg_log(CG_LOG_WARN, CG_EVENT("budget.snapshot_failed"), CG_S("id", sb->id), CG_E(err));
    sb->keep_disk = err != NULL;
    cg_core_end(sb, CG_STATUS_DESTROYED, "budget_exceeded");
}

static void act(struct cg_sandbox *sb)
{
    static const struct cg_snapshot_order order = {
        .name = "budget-exceeded",
        .description = "taken when the budget of the sandbox was used up",
        .trigger = "budget"};
    struct cg_err e = CG_ERR_INIT;
    sb->guarded = true;
    cg_log(CG_LOG_WARN, CG_EVENT("budget.exceeded"), CG_S("id", sb->id),
           CG_I("llm_nusd", sb->llm_nusd), CG_I("compute_nusd", sb->compute_nusd));
    if (sb->spec.budget_pause) {
        if (!cg_core_pause(sb, "budget_exceeded", on_paused, NULL, &e))
            on_paused(NULL, sb, &e);
    } else if (!cg_core_snapshot(sb, &order, on_kept, sb, &e)) {
        on_kept(sb, NULL, &e);
    }
}

static void on_costs(struct cg_wcall *call, const struct cg_json *m)
{
    struct watch *n = CG_CONTAINER(call, struct watch, call);
    struct cg_sandbox *sb = n->sb;
    int64_t llm = cg_json_int(m, "llm_nusd", 0) + cg_json_int(m, "accrued_nusd", 0);
    bool moved = llm != sb->llm_nusd;
    sb->llm_nusd = llm;
    sb->compute_nusd = cg_json_int(m, "compute_nusd", 0);
    sb->committed_nusd = cg_json_int(m, "committed_nusd", 0);
    sb->llm_tokens = cg_json_int(m, "tokens", 0);
    sb->unpriced_calls =
        CG_MAX(sb->unpriced_calls, (uint64_t)CG_MAX(cg_json_int(m, "unpriced", 0), 0));
    if (moved)
        cg_sandbox_changed(sb);
    cg_leases_told(sb, m);
    bool busy = sb->destroying || sb->creating || sb->pausing || sb->snapshotting || sb->guarded;
    if (cg_json_bool(m, "exceeded", false) && !busy)
        act(sb);
}

static void on_over(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    (void)result;
    (void)error; /* the connection is gone: the next one watches anew */
    free(CG_CONTAINER(call, struct watch, call));
}

void cg_costs_watch(struct cg_sandbox *sb)
{
    struct watch *n = cg_alloc(sizeof *n);
    n->sb = sb;
    n->call = (struct cg_wcall){.on_control = on_costs, .on_close = on_over};
    if (!cg_wcall_open(sb->warden, &n->call, cg_slice_of("{\"kind\":\"costs\"}"), NULL))
        free(n);
}

struct setting {
    struct cg_wcall call;
    struct cg_sandbox *sb;
    struct cg_budget_change change;
    cg_sandbox_done *done;
    void *ctx;
};

static void on_saved(void *ctx, const struct cg_err *err)
{
    struct setting *n = ctx;
    n->done(n->ctx, n->sb, err);
    free(n);
}

static void apply(struct setting *n)
{
    struct cg_spec *s = &n->sb->spec;
    if (n->change.money) {
        s->has_budget = n->change.nusd >= 0;
        s->budget_nusd = CG_MAX(n->change.nusd, 0);
    }
    if (n->change.count)
        s->budget_tokens = CG_MAX(n->change.tokens, 0);
    if (n->change.action)
        s->budget_pause = n->change.pause;
    cg_sandbox_changed(n->sb);
    cg_sandbox_save(n->sb, on_saved, n);
}

static void on_set(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    struct setting *n = CG_CONTAINER(call, struct setting, call);
    (void)result;
    if (error)
        on_saved(n, error);
    else
        apply(n);
}

static void put_limit(struct cg_jsonw *w, const char *key, int64_t limit)
{
    cg_jsonw_key(w, key);
    if (limit < 0)
        cg_jsonw_null(w);
    else
        cg_jsonw_int(w, limit);
}

/* One that is paused has it from its row when it is resumed. */
bool cg_costs_set_budget(struct cg_sandbox *sb, const struct cg_budget_change *change,
                         cg_sandbox_done *done, void *ctx, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 512);
    if (sb->status != CG_STATUS_PAUSED && !cg_sandbox_usable(sb, e))
        return false;
    struct setting *n = cg_alloc(sizeof *n);
    *n = (struct setting){.sb = sb, .change = *change, .done = done, .ctx = ctx};
    n->call.on_close = on_set;
    if (sb->status == CG_STATUS_PAUSED) {
        apply(n);
        return true;
    }
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "budget");
    if (change->money)
        put_limit(&w, "limit_nusd", change->nusd);
    if (change->count)
        put_limit(&w, "limit_tokens", change->tokens > 0 ? change->tokens : -1);
    cg_jsonw_obj_end(&w);
    if (cg_wcall_open(sb->warden, &n->call, cg_buf_slice(&b), e))
        return true;
    free(n);
    return false;
}
