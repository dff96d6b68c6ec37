/* caged billing: what was used and what it would come to; caged audit: who changed what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 16 };

struct wish {
    const char *by, *from, *to, *limit, *before, *format;
    bool csv, html, json;
    enum cli_format shown;
    char *words[WORDS];
    int n;
};

static bool read_wish(int argc, char **argv, struct wish *w, struct cg_err *e)
{
    const struct cli_flag flags[] = {
        {"--by", true, &w->by, NULL, NULL},         {"--from", true, &w->from, NULL, NULL},
        {"--to", true, &w->to, NULL, NULL},         {"--limit", true, &w->limit, NULL, NULL},
        {"--before", true, &w->before, NULL, NULL}, {"--format", true, &w->format, NULL, NULL},
        {"--csv", false, NULL, &w->csv, NULL},      {"--html", false, NULL, &w->html, NULL},
        {"--json", false, NULL, &w->json, NULL},    {NULL, false, NULL, NULL, NULL}};
    return argc <= WORDS && cli_flags(argc, argv, flags, w->words, &w->n, false, e) &&
           cli_format_of(w->format, w->json, &w->shown, e);
}

/* "?a=1&b=2" of the values that are there; the caller's. */
static char *query(const char *const pairs[])
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 65536);
    for (size_t i = 0; pairs[i]; i += 2) {
        if (!pairs[i + 1])
            continue;
        CG_OWN(cg_drop_free) char *value = cli_escape(pairs[i + 1]);
        cg_buf_addf(&b, "%c%s=%s", b.n ? '&' : '?', pairs[i], value);
    }
    return cg_strdup(cg_buf_cstr(&b));
}

static bool to_stdout(void *ctx, struct cg_slice bytes)
{
    (void)ctx;
    return fwrite(bytes.p, 1, bytes.n, stdout) == bytes.n;
}

/* What is no JSON goes out as it comes. */
static int pass_on(const char *path)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    const struct cli_pipe pipe = {.write = to_stdout};
    bool fine = cli_find(&c, &e) && cli_stream(&c, "GET", path, &pipe, &e);
    cli_finish(&c);
    return fine && fflush(stdout) == 0 ? 0 : cli_error(&e);
}

static int show(const struct wish *w, const char *path, void (*print)(const struct cg_json *j))
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *j = NULL;
    if (cli_find(&c, &e))
        j = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!j)
        return cli_error(&e);
    if (w->shown == CLI_JSON)
        cli_print_json(stdout, j, 2);
    else if (w->shown == CLI_YAML)
        cli_print_yaml(stdout, j, 0);
    else
        print(j);
    return 0;
}

static void cell(const struct cg_json *j, const char *name, int width)
{
    const char *text = cg_json_str(j, name);
    const char *shown = text ? text : "(none)";
    cli_print_text(stdout, shown, strlen(shown));
    for (int pad = width - (int)strlen(shown); pad > 0; pad--)
        putchar(' ');
}

static void print_subscription(const struct cg_json *s)
{
    const struct cg_json *u = cg_json_get(s, "usage");
    const struct cg_json *limits = cg_json_get(s, "limits");
    printf("Plan:      %s%s\n", cg_json_str(s, "plan"),
           limits && limits->type == CG_JSON_OBJ ? "" : ", without limits");
    for (const struct cg_json *l = limits ? limits->child : NULL; l; l = l->next)
        if (l->type == CG_JSON_INT)
            printf("           %.*s %lld\n", (int)l->key.n, l->key.p, (long long)l->integer);
    printf("This month (UTC), until %.10s:\n", cg_json_str(s, "current_period_end"));
    printf("Hours:     %.3f\n", cg_json_num(u, "compute_hours", 0));
    printf("Models:    $%.6f\n", cg_json_num(u, "llm_cost_usd", 0));
    printf("Total:     $%.6f\n", cg_json_num(u, "total_cost_usd", 0));
    printf("Sandboxes: %lld made\n", (long long)cg_json_int(u, "sandboxes_created", 0));
}

static void print_usage(const struct cg_json *rows)
{
    printf("%-12s%-30s%12s%14s%14s%14s\n", "DAY", "WHAT", "SECONDS", "MACHINE", "MODELS", "TOTAL");
    for (const struct cg_json *r = rows->child; r; r = r->next) {
        const char *const names[] = {"sandbox_id", "agent_type", "model"};
        const char *what = NULL;
        for (size_t i = 0; i < CG_COUNT(names) && !what; i++)
            what = cg_json_get(r, names[i]) ? names[i] : NULL;
        printf("%-12s", cg_json_str(r, "day") ? cg_json_str(r, "day") : "");
        cell(r, what ? what : "day", 30);
        printf("%12.1f%14.6f%14.6f%14.6f\n", cg_json_num(r, "running_seconds", 0),
               cg_json_num(r, "compute_cost_usd", 0), cg_json_num(r, "llm_cost_usd", 0),
               cg_json_num(r, "total_cost_usd", 0));
    }
}

static void print_statement_row(const struct cg_json *r)
{
    printf("%-10s", cg_json_str(r, "month"));
    cell(r, "plan", 16);
    printf("%12.3f%14.6f%14.6f%14.6f\n", cg_json_num(r, "running_seconds", 0) / 3600,
           cg_json_num(r, "compute_cost_usd", 0), cg_json_num(r, "llm_cost_usd", 0),
           cg_json_num(r, "total_usd", 0));
}

static void print_statements(const struct cg_json *rows)
{
    printf("%-10s%-16s%12s%14s%14s%14s\n", "MONTH", "PLAN", "HOURS", "MACHINE", "MODELS", "TOTAL");
    for (const struct cg_json *r = rows->child; r; r = r->next)
        print_statement_row(r);
}

static void print_statement(const struct cg_json *s)
{
    const struct cg_json *boxes = cg_json_get(s, "sandboxes");
    printf("Statement %s for ", cg_json_str(s, "month"));
    cell(s, "account_name", 0);
    printf(" (nobody is charged)\n");
    printf("%-20s%12s%14s%14s\n", "SANDBOX", "HOURS", "MACHINE", "MODELS");
    for (const struct cg_json *b = boxes ? boxes->child : NULL; b; b = b->next)
        printf("%-20s%12.3f%14.6f%14.6f\n", cg_json_str(b, "sandbox_id"),
               cg_json_num(b, "running_seconds", 0) / 3600, cg_json_num(b, "compute_cost_usd", 0),
               cg_json_num(b, "llm_cost_usd", 0));
    printf("Plan:           $%.2f\nIncluded hours: -$%.6f\nTotal:          $%.6f\n",
           cg_json_num(s, "plan_price_usd", 0), cg_json_num(s, "included_hours_credit_usd", 0),
           cg_json_num(s, "total_usd", 0));
}

static void print_plans(const struct cg_json *pricing)
{
    const struct cg_json *plans = cg_json_get(pricing, "plans");
    if (!plans || plans->count == 0)
        printf("This server has no plans: the section plans of its configuration makes some.\n");
    for (const struct cg_json *p = plans ? plans->child : NULL; p; p = p->next) {
        cell(p, "name", 16);
        printf("$%.2f a month", cg_json_num(p, "price_usd", 0));
        for (const struct cg_json *l = p->child; l; l = l->next)
            if (l->type == CG_JSON_INT && strncmp(l->key.p, "price_usd", l->key.n) != 0)
                printf("  %.*s %lld", (int)l->key.n, l->key.p, (long long)l->integer);
        putchar('\n');
    }
}

static int usage(const struct wish *w)
{
    const char *const pairs[] = {
        "group_by", w->by, "from", w->from, "to", w->to, "format", w->csv ? "csv" : NULL, NULL};
    CG_OWN(cg_drop_free) char *q = query(pairs);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/billing/usage/export%s", q);
    return w->csv ? pass_on(path) : show(w, path, print_usage);
}

static int statement(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *month = cli_escape(w->words[0]);
    CG_OWN(cg_drop_free)
    char *path = cg_format("/v1/billing/invoices/%s%s", month, w->html ? "?format=html" : "");
    return w->html ? pass_on(path) : show(w, path, print_statement);
}

int verb_billing(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    bool named = argc > 1 && argv[1][0] != '-';
    const char *what = named ? argv[1] : "show";
    if (!read_wish(argc - named, argv + named, &w, &e))
        return cli_usage("%s", e.text);
    bool month = strcmp(what, "statement") == 0;
    if (w.n != month)
        return cli_usage("caged billing [show | usage [--by WHAT] [--from DAY] [--to DAY] [--csv] "
                         "| plans | statements | statement MONTH [--html]]");
    if (strcmp(what, "show") == 0)
        return show(&w, "/v1/billing/subscription", print_subscription);
    if (strcmp(what, "usage") == 0)
        return usage(&w);
    if (strcmp(what, "plans") == 0)
        return show(&w, "/v1/pricing", print_plans);
    if (strcmp(what, "statements") == 0)
        return show(&w, "/v1/billing/invoices", print_statements);
    if (month)
        return statement(&w);
    return cli_usage("billing does not know \"%.40s\": show, usage, plans, statements, statement",
                     what);
}

static void print_audit(const struct cg_json *page)
{
    const struct cg_json *entries = cg_json_get(page, "entries");
    printf("%-8s%-28s%-26s%-7s%s\n", "SEQ", "TIME", "WHO", "STATUS", "WHAT");
    for (const struct cg_json *a = entries ? entries->child : NULL; a; a = a->next) {
        const char *action = cg_json_str(a, "action");
        printf("%-8lld", (long long)cg_json_int(a, "seq", 0));
        cell(a, "timestamp", 28);
        cell(a, cg_json_str(a, "actor_email") ? "actor_email" : "actor_id", 26);
        printf("%-7lld%.*s ", (long long)cg_json_int(a, "status", 0),
               (int)strcspn(action ? action : "", " "), action ? action : "");
        cell(a, "target", 0);
        putchar('\n');
    }
    if (cg_json_bool(page, "has_more", false))
        fprintf(stderr, "There is more: --before SEQ goes on.\n");
}

int verb_audit(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_wish(argc, argv, &w, &e))
        return cli_usage("%s", e.text);
    if (w.n != 0)
        return cli_usage("caged audit [--limit N] [--before SEQ]; `caged verify DIR` proves the "
                         "record itself");
    const char *const pairs[] = {"limit", w.limit, "before", w.before, NULL};
    CG_OWN(cg_drop_free) char *q = query(pairs);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/audit%s", q);
    return show(&w, path, print_audit);
}
