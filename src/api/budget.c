/* Budgets: of a sandbox (PATCH /v1/sandboxes/{id}), of an account for a month
 * (/v1/account/budget). */
#include "api/api.h"
#include "core/leases.h"
#include "core/providers.h"

/* Dollars. `budget_usd` is its older name: what comes under the newer one goes before it. */
static bool read_money(const struct cg_json *b, bool *there, int64_t *nusd, struct cg_err *e)
{
    static const char *const names[] = {"budget_usd", "budget"};
    *there = false;
    *nusd = 0;
    for (unsigned i = 0; i < CG_COUNT(names); i++) {
        const struct cg_json *v = cg_json_get(b, names[i]);
        bool number = v && (v->type == CG_JSON_INT || v->type == CG_JSON_NUM);
        if (!v)
            continue;
        if (v->type != CG_JSON_NULL && (!number || !(v->number >= 0) || v->number > 1e6))
            return cg_fail(e, CG_INVALID, "%s must be dollars, not negative, at most a million",
                           names[i]);
        *there = true;
        *nusd = number ? cg_money_from_usd(v->number) : 0;
    }
    return true;
}

static bool read_action(const struct cg_json *b, bool *there, bool *pause, struct cg_err *e)
{
    const char *action = NULL;
    if (!body_str(b, "budget_action", &action, e))
        return false;
    *there = action != NULL;
    *pause = cg_streq(action, "pause");
    return !action || *pause || cg_streq(action, "destroy") ||
           cg_fail(e, CG_INVALID, "budget_action must be destroy or pause");
}

bool api_read_budget(const struct cg_json *b, struct cg_spec *s, struct cg_err *e)
{
    bool there;
    if (!read_money(b, &there, &s->budget_nusd, e) ||
        !body_int(b, "budget_tokens", 0, INT64_C(1000000000000), &s->budget_tokens, e) ||
        !read_action(b, &there, &s->budget_pause, e))
        return false;
    s->has_budget = s->budget_nusd > 0;
    return true;
}

/* --- of a sandbox --- */

static void on_set(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err) {
        op_fail(op, err);
        return;
    }
    cg_sandbox_write(sb, op_json(op));
    op_send_json(op, 200);
}

static void patch(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_budget_change n = {.tokens = 0};
    n.count = cg_json_get(b, "budget_tokens") != NULL;
    bool fine = read_money(b, &n.money, &n.nusd, &e) &&
                body_int(b, "budget_tokens", 0, INT64_C(1000000000000), &n.tokens, &e) &&
                read_action(b, &n.action, &n.pause, &e);
    if (fine && !n.money && !n.count && !n.action)
        fine = cg_fail(&e, CG_INVALID,
                       "budget (dollars; 0: none), budget_tokens and budget_action can be changed");
    if (n.nusd == 0)
        n.nusd = -1;
    op_outlive(op);
    if (!fine || !cg_costs_set_budget(op->sb, &n, on_set, op, &e))
        op_fail(op, &e);
}

void api_sandbox_patch(struct op *op)
{
    op_read_json(op, patch);
}

/* --- of an account --- */

void api_account_budget(struct op *op)
{
    cg_leases_write(op->api->core, op->key->account, op_json(op));
    op_send_json(op, 200);
}

static void on_kept(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err)
        op_fail(op, err);
    else
        op_send_json(op, 200);
}

static void set(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    bool there;
    int64_t nusd;
    if (!read_money(b, &there, &nusd, &e) ||
        (!there && !cg_fail(&e, CG_INVALID, "budget is needed: dollars a month, null for none"))) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    cg_leases_set(op->api->core, op->key->account, nusd > 0 ? nusd : -1, on_kept, op);
    cg_leases_write(op->api->core, op->key->account, op_json(op));
}

void api_account_budget_set(struct op *op)
{
    op_read_json(op, set);
}
