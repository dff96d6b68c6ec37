/* A month of an account as a statement: what ran and called, what the plan includes, what it would
 * come to. JSON, or a page to print. Made anew of the usage rows whenever it is asked for, under
 * the plan that the account has then; nobody is charged. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/money.h"
#include "core/usage.h"

enum { MONTH_TEXT = 8 };

struct part {
    char sandbox[CG_ID_TEXT];
    int64_t compute_nusd, llm_nusd, running_ms;
};

struct statement {
    char month[MONTH_TEXT]; /* "2026-11" */
    const struct cg_store_account *account;
    const struct cg_plan *plan; /* NULL: none */
    struct part *parts;         /* a sandbox each */
    size_t n, cap;
    struct part sum;
    int64_t price_nusd, credit_nusd, total_nusd;
};

static void add_to(struct part *p, const struct cg_used *u)
{
    p->compute_nusd = cg_money_add(p->compute_nusd, u->compute_nusd);
    p->llm_nusd = cg_money_add(p->llm_nusd, u->llm_nusd);
    p->running_ms += u->running_ms;
}

static void gather(void *ctx, const struct cg_used *u)
{
    struct statement *s = ctx;
    if (strncmp(u->day, s->month, MONTH_TEXT - 1) != 0)
        return;
    add_to(&s->sum, u);
    for (size_t i = s->n; i > 0; i--) /* the same as yesterday are the last ones */
        if (strcmp(s->parts[i - 1].sandbox, u->sandbox) == 0) {
            add_to(&s->parts[i - 1], u);
            return;
        }
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->parts = cg_realloc(s->parts, s->cap * sizeof *s->parts);
    }
    struct part *p = &s->parts[s->n++];
    *p = (struct part){.compute_nusd = 0};
    (void)cg_strlcpy(p->sandbox, sizeof p->sandbox, u->sandbox);
    add_to(p, u);
}

/* The hours that a plan includes take their share off what the machines cost. */
static int64_t credit_of(const struct statement *s)
{
    int64_t included_ms = s->plan ? (int64_t)s->plan->compute_hours * 3600000 : 0;
    if (included_ms == 0 || s->sum.running_ms <= 0)
        return 0;
    if (included_ms >= s->sum.running_ms)
        return s->sum.compute_nusd;
    return (int64_t)((double)s->sum.compute_nusd * (double)included_ms / (double)s->sum.running_ms);
}

static void draw_up(struct op *op, struct statement *s)
{
    const struct cg_core *c = op->api->core;
    s->account = cg_map_get(&c->accounts, op->key->account);
    s->plan = cg_plan_of(c, op->key->account);
    cg_usage_each(op->key->account, NULL, NULL, gather, s);
    s->price_nusd = s->plan ? s->plan->price_nusd : 0;
    s->credit_nusd = credit_of(s);
    s->total_nusd = cg_money_add(
        cg_money_add(s->sum.compute_nusd - s->credit_nusd, s->sum.llm_nusd), s->price_nusd);
}

/* --- as JSON --- */

static void write_part(struct cg_jsonw *w, const struct part *p)
{
    cg_jsonw_knum(w, "running_seconds", (double)p->running_ms / 1000.0);
    cg_jsonw_knum(w, "compute_cost_usd", cg_money_usd(p->compute_nusd));
    cg_jsonw_knum(w, "llm_cost_usd", cg_money_usd(p->llm_nusd));
}

static void write_members(struct cg_jsonw *w, const struct statement *s)
{
    cg_jsonw_kstr(w, "month", s->month);
    cg_jsonw_kstr(w, "status", "not_charged");
    cg_jsonw_kstr(w, "plan", s->plan ? s->plan->name : NULL);
    write_part(w, &s->sum);
    cg_jsonw_knum(w, "plan_price_usd", cg_money_usd(s->price_nusd));
    cg_jsonw_knum(w, "included_hours_credit_usd", cg_money_usd(s->credit_nusd));
    cg_jsonw_knum(w, "total_usd", cg_money_usd(s->total_nusd));
}

static void write_json(struct op *op, const struct statement *s)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    write_members(w, s);
    cg_jsonw_kstr(w, "account_id", s->account->id);
    cg_jsonw_kstr(w, "account_name", s->account->name);
    cg_jsonw_key(w, "sandboxes");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < s->n; i++) {
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "sandbox_id", s->parts[i].sandbox);
        write_part(w, &s->parts[i]);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* --- as a page --- */

void api_add_escaped(struct cg_buf *b, const char *text)
{
    for (; *text; text++) {
        const char *as = *text == '<'    ? "&lt;"
                         : *text == '>'  ? "&gt;"
                         : *text == '&'  ? "&amp;"
                         : *text == '"'  ? "&quot;"
                         : *text == '\'' ? "&#39;"
                                         : NULL;
        if (as)
            cg_buf_adds(b, as);
        else
            cg_buf_add(b, text, 1);
    }
}

static void add_row(struct cg_buf *b, const char *what, int64_t ms, int64_t compute, int64_t llm)
{
    char machine[CG_MONEY_TEXT];
    char models[CG_MONEY_TEXT];
    char sum[CG_MONEY_TEXT];
    cg_money_format(compute, machine);
    cg_money_format(llm, models);
    cg_money_format(cg_money_add(compute, llm), sum);
    cg_buf_addf(b, "<tr><td>%s<td>%.3f<td>%s<td>%s<td>%s\n", what, (double)ms / 3600000.0, machine,
                models, sum);
}

static void add_amount(struct cg_buf *b, const char *what, int64_t nusd)
{
    char text[CG_MONEY_TEXT];
    cg_money_format(nusd, text);
    cg_buf_addf(b, "<tr><td colspan=4>%s<td>%s\n", what, text);
}

static void write_page(struct op *op, const struct statement *s)
{
    struct cg_buf b;
    cg_buf_init(&b, API_JSON_MAX);
    cg_buf_addf(&b,
                "<!doctype html><html lang=en><meta charset=utf-8><title>Statement %s</title>"
                "<style>body{font:14px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;"
                "padding:0 1rem}table{border-collapse:collapse;width:100%%}td,th{padding:.25rem "
                ".5rem;border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child"
                "{text-align:left}tfoot{font-weight:600}</style><h1>Statement %s</h1><p>",
                s->month, s->month);
    api_add_escaped(&b, s->account->name);
    cg_buf_addf(&b, " (%s), plan: ", s->account->id);
    api_add_escaped(&b, s->plan ? s->plan->name : "none");
    cg_buf_adds(&b, ". US dollars; days are UTC. Nobody is charged by this server.</p>\n<table>"
                    "<thead><tr><th>Sandbox<th>Hours<th>Machine<th>Models<th>Sum</thead><tbody>\n");
    for (size_t i = 0; i < s->n; i++)
        add_row(&b, s->parts[i].sandbox, s->parts[i].running_ms, s->parts[i].compute_nusd,
                s->parts[i].llm_nusd);
    cg_buf_adds(&b, "</tbody><tfoot>\n");
    add_row(&b, "All", s->sum.running_ms, s->sum.compute_nusd, s->sum.llm_nusd);
    add_amount(&b, "Plan", s->price_nusd);
    add_amount(&b, "Hours that the plan includes", -s->credit_nusd);
    add_amount(&b, "Total", s->total_nusd);
    cg_buf_adds(&b, "</tfoot></table></html>\n");
    cg_http_add_header(op->r, "Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    op_send_text(op, "text/html; charset=utf-8", NULL, &b);
}

/* --- requests --- */

static bool is_month(const char *text)
{
    char day[CG_DAY_TEXT];
    return strlen(text) == MONTH_TEXT - 1 &&
           (cg_snprintf(day, sizeof day, "%s-01", text), cg_day_valid(day));
}

void api_statement(struct op *op)
{
    static const char *const formats[] = {"json", "html", NULL};
    const char *month = op_param(op, "month");
    struct cg_err e = CG_ERR_INIT;
    struct statement s = {.n = 0};
    unsigned format = 0;
    if (!is_month(month)) {
        op_problem(op, 400, "invalid", "a month is as 2026-11, not \"%.32s\"", month);
        return;
    }
    if (!op_query_choice(op, "format", formats, &format, &e)) {
        op_fail(op, &e);
        return;
    }
    (void)cg_strlcpy(s.month, sizeof s.month, month);
    cg_usage_count(op->api->core);
    draw_up(op, &s);
    if (s.n == 0)
        op_problem(op, 404, "not_found", "nothing was used in %s", month);
    else if (format == 1)
        write_page(op, &s);
    else
        write_json(op, &s);
    free(s.parts);
}

struct months {
    char (*all)[MONTH_TEXT];
    size_t n;
};

static void add_month(void *ctx, const struct cg_used *u)
{
    struct months *m = ctx;
    for (size_t i = m->n; i > 0; i--)
        if (strncmp(m->all[i - 1], u->day, MONTH_TEXT - 1) == 0)
            return;
    m->all = cg_realloc(m->all, (m->n + 1) * sizeof *m->all);
    cg_snprintf(m->all[m->n++], MONTH_TEXT, "%.7s", u->day);
}

void api_statements(struct op *op)
{
    struct months m = {.n = 0};
    cg_usage_count(op->api->core);
    cg_usage_each(op->key->account, NULL, NULL, add_month, &m);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (size_t i = m.n; i > 0; i--) { /* rows are in the order of their days: newest first */
        struct statement s = {.n = 0};
        (void)cg_strlcpy(s.month, sizeof s.month, m.all[i - 1]);
        draw_up(op, &s);
        cg_jsonw_obj(w);
        write_members(w, &s);
        cg_jsonw_obj_end(w);
        free(s.parts);
    }
    cg_jsonw_arr_end(w);
    free(m.all);
    op_send_json(op, 200);
}
