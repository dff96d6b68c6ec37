/* What was used and what it costs: prices, plans, the account's usage as totals (tables are in
 * usage.c, months in statements.c). Nobody is charged by this server: what would need a payment
 * provider says so. */
#include <string.h>
#include <time.h>

#include "api/api.h"
#include "core/usage.h"

struct total {
    int64_t compute_nusd, llm_nusd, running_ms;
};

static void add_total(void *ctx, const struct cg_used *u)
{
    struct total *t = ctx;
    t->compute_nusd += u->compute_nusd;
    t->llm_nusd += u->llm_nusd;
    t->running_ms += u->running_ms;
}

/* --- prices --- */

static void write_rate(struct cg_jsonw *w, const char *key, int64_t nusd)
{
    cg_jsonw_knum(w, key, cg_money_usd(nusd));
}

void api_pricing(struct op *op)
{
    const struct cg_options *o = &op->api->core->options;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "currency", "USD");
    cg_jsonw_key(w, "compute");
    cg_jsonw_obj(w);
    write_rate(w, "vcpu_hour", o->machine.vcpu_hour);
    write_rate(w, "memory_gb_hour", o->machine.gib_hour);
    write_rate(w, "disk_gb_hour", o->machine.disk_gib_hour);
    write_rate(w, "egress_gb", o->machine.egress_gb);
    cg_jsonw_obj_end(w);
    cg_jsonw_kstr(w, "charged_while", "running");
    cg_jsonw_key(w, "limits");
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "concurrent_sandboxes", o->max_sandboxes);
    cg_jsonw_key(w, "requests_per_minute");
    if (o->rate_per_minute)
        cg_jsonw_uint(w, o->rate_per_minute);
    else
        cg_jsonw_null(w);
    cg_jsonw_obj_end(w);
    cg_jsonw_key(w, "plans");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < o->plans.n; i++)
        cg_plan_write(&o->plans.plan[i], w);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* --- the account --- */

/* The first of this month, or of the next. */
static void month_edge(int add, char out[CG_TIME_TEXT])
{
    time_t now = (time_t)(cg_wall_ns() / 1000000000);
    struct tm tm;
    gmtime_r(&now, &tm);
    int month = tm.tm_mon + add;
    cg_snprintf(out, CG_TIME_TEXT, "%04d-%02d-01T00:00:00Z", tm.tm_year + 1900 + month / 12,
                month % 12 + 1);
}

void api_subscription(struct op *op)
{
    struct cg_core *c = op->api->core;
    const struct cg_store_account *a = cg_map_get(&c->accounts, op->key->account);
    char begin[CG_TIME_TEXT];
    char end[CG_TIME_TEXT];
    struct total t = {0};
    unsigned made = 0;
    month_edge(0, begin);
    month_edge(1, end);
    begin[CG_DAY_TEXT - 1] = '\0';
    cg_usage_count(c);
    cg_usage_each(op->key->account, begin, NULL, add_total, &t);
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next) {
        char created[CG_TIME_TEXT];
        cg_time_format(sb->created_wall, created);
        made += op_owns(op, sb) && !sb->helper && strcmp(created, begin) >= 0;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    const struct cg_plan *plan = cg_plan_of(c, op->key->account);
    const char *tier = plan ? plan->name : a ? a->tier : "member";
    cg_jsonw_kstr(w, "tier", tier);
    cg_jsonw_kstr(w, "plan", tier);
    cg_jsonw_key(w, "limits");
    if (plan)
        cg_plan_write(plan, w);
    else
        cg_jsonw_null(w);
    cg_jsonw_kstr(w, "status", "active");
    cg_jsonw_kstr(w, "customer_id", NULL);
    cg_jsonw_kstr(w, "current_period_end", end);
    cg_jsonw_kbool(w, "cancel_at_period_end", false);
    cg_jsonw_kstr(w, "trial_ends_at", NULL);
    cg_jsonw_key(w, "usage");
    cg_jsonw_obj(w);
    cg_jsonw_knum(w, "compute_hours", (double)t.running_ms / 3600000.0);
    cg_jsonw_knum(w, "llm_cost_usd", cg_money_usd(t.llm_nusd));
    cg_jsonw_knum(w, "total_cost_usd", cg_money_usd(cg_money_add(t.compute_nusd, t.llm_nusd)));
    cg_jsonw_kuint(w, "sandboxes_created", made);
    cg_jsonw_obj_end(w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* All of it is pending: it is reported to nobody. */
void api_usage(struct op *op)
{
    struct total t = {0};
    cg_usage_count(op->api->core);
    cg_usage_each(op->key->account, NULL, NULL, add_total, &t);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_knum(w, "compute_minutes", (double)t.running_ms / 60000.0);
    cg_jsonw_knum(w, "reported_minutes", 0);
    cg_jsonw_knum(w, "pending_seconds", (double)t.running_ms / 1000.0);
    cg_jsonw_kstr(w, "last_reported_at", NULL);
    cg_jsonw_knum(w, "compute_cost_usd", cg_money_usd(t.compute_nusd));
    cg_jsonw_knum(w, "llm_cost_usd", cg_money_usd(t.llm_nusd));
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* --- what needs a provider --- */

static void no_provider(struct op *op)
{
    op_problem(op, 501, "billing_provider_not_configured",
               "this server charges nobody: no payment provider is configured");
}

static void checkout(struct op *op, const struct cg_json *body)
{
    const char *plan = NULL;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "plan_id", &plan, &e) || (!plan && !body_str(body, "plan", &plan, &e)))
        op_fail(op, &e);
    else if (!plan || !plan[0])
        op_problem(op, 400, "invalid", "plan_id is needed");
    else
        no_provider(op);
}

void api_checkout(struct op *op)
{
    op_read_json(op, checkout);
}

static void with_body(struct op *op, const struct cg_json *body)
{
    (void)body;
    no_provider(op);
}

void api_portal(struct op *op)
{
    op_read_json(op, with_body);
}
