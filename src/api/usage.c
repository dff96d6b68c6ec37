/* Usage as a table, JSON or CSV: by sandbox and day, as the wardens counted it; by agent and by
 * model, out of the sessions. What ran outside of any session is in the former alone. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/money.h"
#include "core/replay.h"
#include "core/usage.h"

enum group { BY_ROW, BY_DAY, BY_SANDBOX, BY_AGENT, BY_MODEL, GROUPS };

struct line {
    char day[CG_DAY_TEXT];
    char sandbox[CG_ID_TEXT];
    char name[96]; /* of an agent or model; a guest's word */
    int64_t compute_nusd, llm_nusd, running_ms;
    int64_t tokens_in, tokens_out;
    uint64_t sessions;
};

struct table {
    enum group by;
    struct line *lines;
    size_t n, cap;
};

static bool of_sessions(const struct table *t)
{
    return t->by == BY_AGENT || t->by == BY_MODEL;
}

static bool together(const struct table *t, const struct line *a, const struct line *b)
{
    return (t->by == BY_DAY && strcmp(a->day, b->day) == 0) ||
           (t->by == BY_SANDBOX && strcmp(a->sandbox, b->sandbox) == 0) ||
           (of_sessions(t) && strcmp(a->name, b->name) == 0);
}

static void add(struct table *t, const struct line *l)
{
    for (size_t i = t->n; i > 0 && t->by != BY_ROW; i--) {
        struct line *have = &t->lines[i - 1];
        if (!together(t, have, l))
            continue;
        have->compute_nusd = cg_money_add(have->compute_nusd, l->compute_nusd);
        have->llm_nusd = cg_money_add(have->llm_nusd, l->llm_nusd);
        have->running_ms += l->running_ms;
        have->tokens_in += l->tokens_in;
        have->tokens_out += l->tokens_out;
        have->sessions += l->sessions;
        return;
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->lines = cg_realloc(t->lines, t->cap * sizeof *t->lines);
    }
    t->lines[t->n++] = *l;
}

static void add_used(void *ctx, const struct cg_used *u)
{
    struct line l = {
        .compute_nusd = u->compute_nusd, .llm_nusd = u->llm_nusd, .running_ms = u->running_ms};
    (void)cg_strlcpy(l.day, sizeof l.day, u->day);
    (void)cg_strlcpy(l.sandbox, sizeof l.sandbox, u->sandbox);
    add(ctx, &l);
}

/* A session counts on the day on which it began, with the model that it called last. */
static void add_sessions(struct table *t, struct op *op, const char *from, const char *to)
{
    size_t n = 0;
    CG_OWN(cg_drop_free)
    struct cg_agent_session **all = cg_replay_list(op->api->core, op->key->account, NULL, &n);
    for (size_t i = 0; i < n; i++) {
        const struct cg_session_row *r = &all[i]->row;
        char day[CG_TIME_TEXT];
        cg_time_format(r->opened_wall, day);
        day[CG_DAY_TEXT - 1] = '\0';
        if ((from && strcmp(day, from) < 0) || (to && strcmp(day, to) > 0))
            continue;
        struct line l = {.compute_nusd = r->compute_nusd,
                         .llm_nusd = r->llm_nusd,
                         .tokens_in = r->tokens_in,
                         .tokens_out = r->tokens_out,
                         .sessions = 1};
        (void)cg_strlcpy(l.name, sizeof l.name, t->by == BY_AGENT ? r->agent : r->model);
        add(t, &l);
    }
}

/* --- as JSON --- */

static void write_json(struct op *op, const struct table *t)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < t->n; i++) {
        const struct line *l = &t->lines[i];
        cg_jsonw_obj(w);
        if (t->by == BY_ROW || t->by == BY_DAY)
            cg_jsonw_kstr(w, "day", l->day);
        if (t->by == BY_ROW || t->by == BY_SANDBOX)
            cg_jsonw_kstr(w, "sandbox_id", l->sandbox);
        if (of_sessions(t)) {
            cg_jsonw_kstr(w, t->by == BY_AGENT ? "agent_type" : "model",
                          l->name[0] ? l->name : NULL);
            cg_jsonw_kuint(w, "sessions", l->sessions);
            cg_jsonw_kint(w, "tokens_in", l->tokens_in);
            cg_jsonw_kint(w, "tokens_out", l->tokens_out);
        } else {
            cg_jsonw_knum(w, "running_seconds", (double)l->running_ms / 1000.0);
        }
        cg_jsonw_knum(w, "compute_cost_usd", cg_money_usd(l->compute_nusd));
        cg_jsonw_knum(w, "llm_cost_usd", cg_money_usd(l->llm_nusd));
        cg_jsonw_knum(w, "total_cost_usd",
                      cg_money_usd(cg_money_add(l->compute_nusd, l->llm_nusd)));
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

/* --- as CSV (RFC 4180) --- */

/* A word of a guest: in quotes, and never one that a spreadsheet takes for a formula. */
static void add_word(struct cg_buf *b, const char *text)
{
    cg_buf_adds(b, text[0] && strchr("=+-@\t\r", text[0]) ? "\"'" : "\"");
    for (; *text; text++) {
        if (*text == '"')
            cg_buf_adds(b, "\"");
        if ((unsigned char)*text >= ' ')
            cg_buf_add(b, text, 1);
    }
    cg_buf_adds(b, "\",");
}

static void add_head(struct cg_buf *b, enum group by)
{
    static const char *const heads[GROUPS] = {
        "day,sandbox_id,running_seconds,", "day,running_seconds,", "sandbox_id,running_seconds,",
        "agent_type,sessions,tokens_in,tokens_out,", "model,sessions,tokens_in,tokens_out,"};
    cg_buf_addf(b, "%scompute_cost_usd,llm_cost_usd,total_cost_usd\r\n", heads[by]);
}

static void write_csv(struct op *op, const struct table *t)
{
    struct cg_buf b;
    cg_buf_init(&b, API_JSON_MAX);
    add_head(&b, t->by);
    for (size_t i = 0; i < t->n; i++) {
        const struct line *l = &t->lines[i];
        if (t->by == BY_ROW || t->by == BY_DAY)
            cg_buf_addf(&b, "%s,", l->day);
        if (t->by == BY_ROW || t->by == BY_SANDBOX)
            cg_buf_addf(&b, "%s,", l->sandbox);
        if (of_sessions(t)) {
            add_word(&b, l->name);
            cg_buf_addf(&b, "%llu,%lld,%lld,", (unsigned long long)l->sessions,
                        (long long)l->tokens_in, (long long)l->tokens_out);
        } else {
            cg_buf_addf(&b, "%.3f,", (double)l->running_ms / 1000.0);
        }
        cg_buf_addf(&b, "%.9f,%.9f,%.9f\r\n", cg_money_usd(l->compute_nusd),
                    cg_money_usd(l->llm_nusd),
                    cg_money_usd(cg_money_add(l->compute_nusd, l->llm_nusd)));
    }
    op_send_text(op, "text/csv; charset=utf-8", "attachment; filename=\"caged-usage.csv\"", &b);
}

/* --- the request --- */

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

bool op_query_choice(struct op *op, const char *name, const char *const choices[], unsigned *out,
                     struct cg_err *e)
{
    char text[64];
    char all[160] = "";
    *out = 0;
    if (!cg_http_query_has(op->r, name))
        return true;
    if (!op_query_str(op, name, text, sizeof text, e))
        return false;
    for (unsigned i = 0; choices[i]; i++) {
        size_t n = strlen(all);
        cg_snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", choices[i]);
        *out = i;
        if (strcmp(text, choices[i]) == 0)
            return true;
    }
    return cg_fail(e, CG_INVALID, "%s must be one of %s, not \"%.32s\"", name, all, text);
}

void api_usage_table(struct op *op)
{
    static const char *const groups[GROUPS + 1] = {"sandbox_day", "day",   "sandbox",
                                                   "agent",       "model", NULL};
    static const char *const formats[] = {"json", "csv", NULL};
    struct cg_err e = CG_ERR_INIT;
    char from[CG_DAY_TEXT];
    char to[CG_DAY_TEXT];
    unsigned by = 0;
    unsigned format = 0;
    if (!read_day(op, "from", from, &e) || !read_day(op, "to", to, &e) ||
        !op_query_choice(op, "group_by", groups, &by, &e) ||
        !op_query_choice(op, "format", formats, &format, &e)) {
        op_fail(op, &e);
        return;
    }
    struct table t = {.by = (enum group)by};
    if (of_sessions(&t)) {
        add_sessions(&t, op, from[0] ? from : NULL, to[0] ? to : NULL);
    } else {
        cg_usage_count(op->api->core);
        cg_usage_each(op->key->account, from[0] ? from : NULL, to[0] ? to : NULL, add_used, &t);
    }
    if (format == 1)
        write_csv(op, &t);
    else
        write_json(op, &t);
    free(t.lines);
}
