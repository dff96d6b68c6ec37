/* caged cost: where the money went, by sandbox, agent or model, and how much of it. */
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/verb.h"

#define SMALLEST 0.000001 /* dollars that are worth a row */

enum { WORDS = 64, ROWS = 4096, PAGE = 100, PAGES = 1000 };

struct row {
    char name[96], more[48];
    double llm, compute;
    long long tokens_in, tokens_out, count;
};

struct table {
    struct row *v;
    size_t n;
    bool cut;
};

static struct row *find(struct table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strncmp(t->v[i].name, name, sizeof t->v[i].name - 1) == 0)
            return &t->v[i];
    if (t->n == ROWS) {
        t->cut = true;
        return NULL;
    }
    t->v = cg_realloc(t->v, (t->n + 1) * sizeof *t->v);
    struct row *r = &t->v[t->n++];
    *r = (struct row){.count = 0};
    cg_strlcpy(r->name, sizeof r->name, name);
    return r;
}

static int by_cost(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    double left = x->llm + x->compute;
    double right = y->llm + y->compute;
    return left < right ? 1 : left > right ? -1 : 0;
}

static void add_sandbox(struct table *t, const struct cg_json *s)
{
    const char *id = cg_json_str(s, "id");
    const char *status = cg_json_str(s, "status");
    struct row *r = find(t, id ? id : "?");
    if (!r)
        return;
    cg_strlcpy(r->more, sizeof r->more, status ? status : "");
    r->llm += cg_json_num(s, "llm_cost", 0);
    r->compute += cg_json_num(s, "cost", 0);
    r->count++;
}

/* A session has one agent and the model that it called most. */
static void add_session(struct table *t, const struct cg_json *s, const char *key)
{
    const char *name = cg_json_str(s, key);
    struct row *r = find(t, name ? name : "(none)");
    if (!r)
        return;
    r->llm += cg_json_num(s, "llm_cost", 0);
    r->compute += cg_json_num(s, "compute_cost", 0);
    r->tokens_in += cg_json_int(s, "tokens_in", 0);
    r->tokens_out += cg_json_int(s, "tokens_out", 0);
    r->count++;
}

static bool read_sandboxes(struct cli *c, struct table *t, struct cg_err *e)
{
    CG_OWN(cg_drop_json)
    struct cg_json *list = cli_json(c, "GET", "/v1/sandboxes?all=true", (struct cg_slice){0}, e);
    for (const struct cg_json *s = list ? list->child : NULL; s; s = s->next)
        add_sandbox(t, s);
    return list != NULL;
}

static bool read_sessions(struct cli *c, struct table *t, const char *key, struct cg_err *e)
{
    for (int page = 1; page <= PAGES; page++) {
        CG_OWN(cg_drop_free) char *path = cg_format("/v1/sessions?page=%d&per_page=%d", page, PAGE);
        CG_OWN(cg_drop_json)
        struct cg_json *answer = cli_json(c, "GET", path, (struct cg_slice){0}, e);
        const struct cg_json *data = cg_json_get(answer, "data");
        if (!answer)
            return false;
        for (const struct cg_json *s = data ? data->child : NULL; s; s = s->next)
            add_session(t, s, key);
        int64_t pages = cg_json_int(cg_json_get(answer, "pagination"), "total_pages", 0);
        if (!data || page >= pages)
            return true;
    }
    t->cut = true;
    return true;
}

/* Calls and machine time that belong to no session have a row, so that every table adds up. */
static bool read_rest(struct cli *c, struct table *t, struct cg_err *e)
{
    double llm = 0;
    double compute = 0;
    CG_OWN(cg_drop_json)
    struct cg_json *list = cli_json(c, "GET", "/v1/sandboxes?all=true", (struct cg_slice){0}, e);
    for (const struct cg_json *s = list ? list->child : NULL; s; s = s->next) {
        llm += cg_json_num(s, "llm_cost", 0);
        compute += cg_json_num(s, "cost", 0);
    }
    for (size_t i = 0; i < t->n; i++) {
        llm -= t->v[i].llm;
        compute -= t->v[i].compute;
    }
    bool more = llm > SMALLEST || compute > SMALLEST;
    struct row *r = more && !t->cut ? find(t, "(no session)") : NULL;
    if (r) {
        r->llm = CG_MAX(llm, 0);
        r->compute = CG_MAX(compute, 0);
    }
    return list != NULL;
}

static bool read_all_sessions(struct cli *c, struct table *t, const char *key, struct cg_err *e)
{
    return read_sessions(c, t, key, e) && read_rest(c, t, e);
}

static void print(struct table *t, const char *by)
{
    bool sandboxes = cg_streq(by, "sandbox");
    double llm = 0;
    double compute = 0;
    if (t->n > 0)
        qsort(t->v, t->n, sizeof *t->v, by_cost);
    printf("%-28s %-10s %12s %12s %12s\n",
           cg_streq(by, "model")   ? "MODEL"
           : cg_streq(by, "agent") ? "AGENT"
                                   : "SANDBOX",
           sandboxes ? "STATUS" : "SESSIONS", "MODELS", "MACHINE", "TOTAL");
    for (size_t i = 0; i < t->n; i++) {
        struct row *r = &t->v[i];
        if (!sandboxes)
            cg_snprintf(r->more, sizeof r->more, "%lld", r->count);
        cli_print_text(stdout, r->name, strlen(r->name));
        printf("%*s %-10s %12.6f %12.6f %12.6f\n", 28 - (int)CG_MIN(strlen(r->name), 28), "",
               r->more, r->llm, r->compute, r->llm + r->compute);
        llm += r->llm;
        compute += r->compute;
    }
    printf("%-28s %-10s %12.6f %12.6f %12.6f\n", "total, in dollars", "", llm, compute,
           llm + compute);
    if (t->cut)
        fprintf(stderr, "warning: there is more than fits here\n");
}

static void print_json(const struct table *t, const char *by)
{
    printf("[");
    for (size_t i = 0; i < t->n; i++) {
        const struct row *r = &t->v[i];
        struct cg_json name = {.type = CG_JSON_STR, .str = cg_slice_of(r->name)};
        printf("%s{\"%s\": ", i ? ", " : "", by);
        cli_print_json(stdout, &name, 0);
        printf(", \"llm_cost\": %.9f, \"cost\": %.9f, \"total_cost\": %.9f}", r->llm, r->compute,
               r->llm + r->compute);
    }
    printf("]\n");
}

int verb_cost(int argc, char **argv)
{
    const char *by = "sandbox";
    bool json = false;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    struct table t = {.n = 0};
    const struct cli_flag flags[] = {{"--by", true, &by, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    bool agent = cg_streq(by, "agent");
    bool model = cg_streq(by, "model");
    if (n > 0 || (!agent && !model && !cg_streq(by, "sandbox")))
        return cli_usage("caged cost [--by sandbox|agent|model]; caged budget <id> shows one");
    bool ok = cli_find(&c, &e) &&
              (agent || model ? read_all_sessions(&c, &t, agent ? "agent_type" : "model", &e)
                              : read_sandboxes(&c, &t, &e));
    cli_finish(&c);
    if (ok && json)
        print_json(&t, by);
    else if (ok)
        print(&t, by);
    free(t.v);
    return ok ? 0 : cli_error(&e);
}
