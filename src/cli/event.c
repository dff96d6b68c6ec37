#include "cli/event.h"

#include <string.h>

#include "cli/client.h"

static void text_of(FILE *f, const struct cg_json *d, const char *key, const char *before)
{
    const struct cg_json *v = cg_json_get(d, key);
    if (!v || v->type == CG_JSON_NULL)
        return;
    fputs(before, f);
    if (v->type == CG_JSON_STR)
        cli_print_text(f, v->str.p, CG_MIN(v->str.n, (size_t)300));
    else
        cli_print_json(f, v, 0);
}

static void words_of(FILE *f, const struct cg_json *argv)
{
    size_t room = 160;
    for (const struct cg_json *a = argv ? argv->child : NULL; a && room > 0; a = a->next) {
        if (a->type != CG_JSON_STR)
            continue;
        size_t n = CG_MIN(a->str.n, room);
        fputc(' ', f);
        cli_print_text(f, a->str.p, n);
        room -= n;
    }
}

static void command(FILE *f, const struct cg_json *d)
{
    const char *phase = cg_json_str(d, "phase");
    if (cg_streq(phase, "start")) {
        fputs(" $", f);
        words_of(f, cg_json_get(d, "argv"));
        text_of(f, d, "shell", " ");
        return;
    }
    fprintf(f, " %s", phase ? phase : "?");
    text_of(f, d, "exit_code", " ");
    if (cg_json_get(d, "duration_ns"))
        fprintf(f, " after %.0f ms", cg_json_num(d, "duration_ns", 0) / 1e6);
}

static void process(FILE *f, const struct cg_json *d)
{
    text_of(f, d, "event", " ");
    text_of(f, d, "pid", " ");
    if (cg_json_get(d, "argv"))
        words_of(f, cg_json_get(d, "argv"));
    else
        text_of(f, d, "comm", " ");
    text_of(f, d, "code", " exit ");
}

/* A call to a model that is over: model, tokens, dollars, how it ended, tools it asked for. */
static void llm_call(FILE *f, const struct cg_json *d)
{
    const struct cg_json *cost = cg_json_get(d, "cost_nusd");
    const struct cg_json *tools = cg_json_get(d, "tool_calls");
    text_of(f, d, "event", " ");
    text_of(f, d, "model", " ");
    text_of(f, d, "tokens_in", " in ");
    text_of(f, d, "tokens_out", " out ");
    if (cost && cost->type == CG_JSON_INT)
        fprintf(f, " $%.6f", cost->number / 1e9);
    text_of(f, d, "status", " ");
    for (const struct cg_json *t = tools ? tools->child : NULL; t; t = t->next) {
        fputs(t == tools->child ? ", wants " : ", ", f);
        cli_print_text(f, t->str.p, CG_MIN(t->str.n, (size_t)40));
    }
    text_of(f, d, "why", ": ");
}

/* What is spent of a budget, and how fast its guard was. */
static void cost(FILE *f, const struct cg_json *d)
{
    const struct cg_json *spent = cg_json_get(d, "spent_nusd");
    const struct cg_json *limit = cg_json_get(d, "limit_nusd");
    const struct cg_json *still = cg_json_get(d, "still_after_us");
    text_of(f, d, "event", " ");
    if (spent && limit && limit->type == CG_JSON_INT)
        fprintf(f, " $%.6f of $%.2f", spent->number / 1e9, limit->number / 1e9);
    if (still && still->type == CG_JSON_INT)
        fprintf(f, " the guest stood still after %.0f ms", still->number / 1e3);
    text_of(f, d, "version", " ");
}

static void other(FILE *f, const struct cg_json *d)
{
    static const char *const keys[] = {"event", "op",      "path", "to",   "verdict",
                                       "name",  "address", "port", "rule", "reason",
                                       "dir",   "code",    "text"};
    for (size_t i = 0; i < CG_COUNT(keys); i++)
        text_of(f, d, keys[i], " ");
    const struct cg_json *lost = cg_json_get(d, "lost");
    if (lost)
        text_of(f, d, "lost", " lost ");
    if (cg_json_get(d, "boot_ms"))
        text_of(f, d, "boot_ms", " boot ms ");
}

void event_print(FILE *f, struct cg_slice data)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(data, NULL, NULL);
    const char *type = cg_json_str(j, "type");
    const struct cg_json *d = cg_json_get(j, "data");
    if (!type)
        return;
    bool color = cli_color(f);
    fprintf(f, "%s%9.3f s%s  %-9s", color ? "\033[2m" : "", cg_json_num(j, "t", 0) / 1e9,
            color ? "\033[0m" : "", type);
    if (strcmp(type, "command") == 0)
        command(f, d);
    else if (strcmp(type, "process") == 0)
        process(f, d);
    else if (strcmp(type, "llm_call") == 0)
        llm_call(f, d);
    else if (strcmp(type, "cost") == 0)
        cost(f, d);
    else
        other(f, d);
    fputc('\n', f);
}
