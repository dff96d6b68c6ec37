/* What was used and what it costs: prices, the account's usage as totals, by sandbox and by day, as
 * JSON or CSV. Nobody is charged by this server: what would need a payment provider says so. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api.h"
#include "core/rates.h"
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
    write_rate(w, "vcpu_hour", CG_RATE_VCPU_NUSD);
    write_rate(w, "memory_gb_hour", CG_RATE_MEMORY_GB_NUSD);
    write_rate(w, "disk_gb_hour", CG_RATE_DISK_GB_NUSD);
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
    cg_jsonw_kstr(w, "tier", a ? a->tier : "member");
    cg_jsonw_kstr(w, "plan", a ? a->tier : "member");
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

/* --- by sandbox and day --- */

enum group { BY_ROW, BY_DAY, BY_SANDBOX };

struct table {
    enum group by;
    struct cg_used *rows;
    size_t n, cap;
};

static bool together(const struct table *t, const struct cg_used *a, const struct cg_used *b)
{
    return (t->by == BY_DAY && strcmp(a->day, b->day) == 0) ||
           (t->by == BY_SANDBOX && strcmp(a->sandbox, b->sandbox) == 0);
}

static void gather(void *ctx, const struct cg_used *u)
{
    struct table *t = ctx;
    for (size_t i = t->n; i > 0 && t->by != BY_ROW; i--) {
        struct cg_used *have = &t->rows[i - 1];
        if (!together(t, have, u))
            continue;
        have->compute_nusd += u->compute_nusd;
        have->llm_nusd += u->llm_nusd;
        have->running_ms += u->running_ms;
        return;
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->rows = cg_realloc(t->rows, t->cap * sizeof *t->rows);
    }
    t->rows[t->n++] = *u;
}

static void write_json(struct op *op, const struct table *t)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < t->n; i++) {
        const struct cg_used *u = &t->rows[i];
        cg_jsonw_obj(w);
        if (t->by != BY_SANDBOX)
            cg_jsonw_kstr(w, "day", u->day);
        if (t->by != BY_DAY)
            cg_jsonw_kstr(w, "sandbox_id", u->sandbox);
        cg_jsonw_knum(w, "running_seconds", (double)u->running_ms / 1000.0);
        cg_jsonw_knum(w, "compute_cost_usd", cg_money_usd(u->compute_nusd));
        cg_jsonw_knum(w, "llm_cost_usd", cg_money_usd(u->llm_nusd));
        cg_jsonw_knum(w, "total_cost_usd",
                      cg_money_usd(cg_money_add(u->compute_nusd, u->llm_nusd)));
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

/* RFC 4180; no value needs quotes: identifiers, days and numbers. */
static void write_csv(struct op *op, const struct table *t)
{
    struct cg_http_req *r = op->r;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, API_JSON_MAX);
    cg_buf_addf(&b, "%s%srunning_seconds,compute_cost_usd,llm_cost_usd,total_cost_usd\r\n",
                t->by == BY_SANDBOX ? "" : "day,", t->by == BY_DAY ? "" : "sandbox_id,");
    for (size_t i = 0; i < t->n; i++) {
        const struct cg_used *u = &t->rows[i];
        if (t->by != BY_SANDBOX)
            cg_buf_addf(&b, "%s,", u->day);
        if (t->by != BY_DAY)
            cg_buf_addf(&b, "%s,", u->sandbox);
        cg_buf_addf(&b, "%.3f,%.9f,%.9f,%.9f\r\n", (double)u->running_ms / 1000.0,
                    cg_money_usd(u->compute_nusd), cg_money_usd(u->llm_nusd),
                    cg_money_usd(cg_money_add(u->compute_nusd, u->llm_nusd)));
    }
    op->r = NULL;
    op_end(op);
    r->abort = NULL;
    cg_http_add_header(r, "Content-Disposition", "attachment; filename=\"caged-usage.csv\"");
    cg_http_reply(r, 200, "text/csv; charset=utf-8", cg_buf_slice(&b));
}

static bool read_day(struct op *op, const char *name, char out[CG_DAY_TEXT], struct cg_err *e)
{
    out[0] = '\0';
    char text[64];
    if (!cg_http_query_has(op->r, name))
        return true;
    if (!op_query_str(op, name, text, sizeof text, e))
        return false;
    return (cg_day_valid(text) && cg_strlcpy(out, CG_DAY_TEXT, text)) ||
           cg_fail(e, CG_INVALID, "%s must be a day as 2026-11-28, not \"%.32s\"", name, text);
}

static bool read_choice(struct op *op, const char *name, const char *const choices[3],
                        unsigned *out, struct cg_err *e)
{
    char text[64];
    *out = 0;
    if (!cg_http_query_has(op->r, name))
        return true;
    if (!op_query_str(op, name, text, sizeof text, e))
        return false;
    for (unsigned i = 0; i < 3 && choices[i]; i++) {
        *out = i;
        if (strcmp(text, choices[i]) == 0)
            return true;
    }
    return cg_fail(e, CG_INVALID, "%s must be %s or %s, not \"%.32s\"", name, choices[1],
                   choices[2] ? choices[2] : choices[0], text);
}

void api_usage_table(struct op *op)
{
    static const char *const groups[3] = {"sandbox_day", "day", "sandbox"};
    static const char *const formats[3] = {"json", "csv", NULL};
    struct cg_err e = CG_ERR_INIT;
    char from[CG_DAY_TEXT];
    char to[CG_DAY_TEXT];
    unsigned by = 0;
    unsigned format = 0;
    if (!read_day(op, "from", from, &e) || !read_day(op, "to", to, &e) ||
        !read_choice(op, "group_by", groups, &by, &e) ||
        !read_choice(op, "format", formats, &format, &e)) {
        op_fail(op, &e);
        return;
    }
    struct table t = {.by = (enum group)by};
    cg_usage_count(op->api->core);
    cg_usage_each(op->key->account, from[0] ? from : NULL, to[0] ? to : NULL, gather, &t);
    if (format == 1)
        write_csv(op, &t);
    else
        write_json(op, &t);
    free(t.rows);
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
