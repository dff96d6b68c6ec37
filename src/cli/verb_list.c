/* caged list, status, pause, resume, destroy. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 256 };

static void print_money(char *out, size_t size, double dollars)
{
    snprintf(out, size, dollars < 0.01 && dollars > 0 ? "$%.5f" : "$%.2f", dollars);
}

static void print_row(const struct cg_json *s)
{
    char cost[24];
    print_money(cost, sizeof cost, cg_json_num(s, "total_cost", 0));
    const char *created = cg_json_str(s, "created_at");
    printf("%-18s %-10s %-12s %4lld %6lld MB %9s  %.19s\n", cg_json_str(s, "id"),
           cg_json_str(s, "status"), cg_json_str(s, "template"),
           (long long)cg_json_int(s, "cpus", 0), (long long)cg_json_int(s, "memory_mb", 0), cost,
           created ? created : "");
}

static void print_table(const struct cg_json *list)
{
    if (list->count == 0) {
        printf("No sandboxes yet. Make one with: caged up\n");
        return;
    }
    printf("%-18s %-10s %-12s %4s %9s %9s  %s\n", "ID", "STATUS", "TEMPLATE", "CPUs", "MEMORY",
           "COST", "CREATED");
    for (const struct cg_json *s = list->child; s; s = s->next)
        print_row(s);
}

static void print_as(const struct cg_json *j, enum cli_format format)
{
    if (format == CLI_JSON) {
        cli_print_json(stdout, j, 0);
        putchar('\n');
    } else {
        cli_print_yaml(stdout, j, 0);
    }
}

int verb_list(int argc, char **argv)
{
    bool all = false, json = false, ids = false;
    const char *format_text = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    enum cli_format format;
    const struct cli_flag flags[] = {{"--all", false, NULL, &all, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {"--ids", false, NULL, &ids, NULL},
                                     {"--format", true, &format_text, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(format_text, json, &format, &e))
        return cli_usage("%s", e.text);
    CG_OWN(cg_drop_json) struct cg_json *list = NULL;
    if (cli_find(&c, &e))
        list = cli_json(&c, "GET", all ? "/v1/sandboxes?all=true" : "/v1/sandboxes",
                        (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!list)
        return cli_error(&e);
    if (ids) {
        for (const struct cg_json *s = list->child; s; s = s->next)
            printf("%s\n", cg_json_str(s, "id"));
    } else if (format == CLI_TABLE) {
        print_table(list);
    } else {
        print_as(list, format);
    }
    return 0;
}

static void print_names(const struct cg_json *list)
{
    for (const struct cg_json *i = list->child; i; i = i->next) {
        fputs(i == list->child ? "" : ", ", stdout);
        cli_print_text(stdout, i->str.p, i->str.n);
    }
}

static void print_member(const struct cg_json *s, const char *key, const char *label)
{
    const struct cg_json *v = cg_json_get(s, key);
    if (!v || v->type == CG_JSON_NULL)
        return;
    printf("%-12s", label);
    if (v->type == CG_JSON_STR)
        cli_print_text(stdout, v->str.p, v->str.n);
    else if (v->type == CG_JSON_ARR)
        print_names(v);
    else
        cli_print_json(stdout, v, 0);
    putchar('\n');
}

/* What counts as activity stands in docs/snapshots.md. */
static void print_activity(const struct cg_json *s, const struct cg_json *live)
{
    long long timeout = (long long)cg_json_int(s, "timeout", 0);
    const char *why = cg_json_str(s, "pause_reason");
    if (why)
        printf("%-12s%s since %.19s; caged resume %s\n", "paused",
               cg_streq(why, "idle") ? "asleep for being idle" : "by request",
               cg_json_str(s, "paused_at") ? cg_json_str(s, "paused_at") : "?",
               cg_json_str(s, "id"));
    if (!live)
        return;
    long long idle = (long long)cg_json_int(live, "idle_ms", 0) / 1000;
    if (timeout > 0)
        printf("%-12sidle for %lld s, sleeps at %lld s\n", "activity", idle, timeout);
    else
        printf("%-12sidle for %lld s, never sleeps by itself\n", "activity", idle);
}

/* What it has cost, what it may cost, and how fast that goes. */
static void print_costs(const struct cg_json *s)
{
    const struct cg_json *budget = cg_json_get(s, "budget");
    const char *started = cg_json_str(s, "started_at");
    const char *stopped = cg_json_str(s, "stopped_at");
    double total = cg_json_num(s, "total_cost", 0);
    int64_t from = 0;
    int64_t to = cg_wall_ns();
    printf("%-12s$%.6f: models $%.6f, machine $%.6f\n", "cost", total,
           cg_json_num(s, "llm_cost", 0), cg_json_num(s, "cost", 0));
    if (budget && budget->number > 0)
        printf("%-12s$%.2f, $%.6f left\n", "budget", budget->number,
               CG_MAX(budget->number - total, 0));
    bool timed = started && cg_time_parse(started, &from) &&
                 (!stopped || cg_time_parse(stopped, &to)) && to > from;
    if (timed && cg_streq(cg_json_str(s, "status"), "running"))
        printf("%-12s$%.4f an hour since it started\n", "burn",
               total * 3600e9 / (double)(to - from));
}

static void print_status(const struct cg_json *s, const struct cg_json *live)
{
    static const char *const members[][2] = {{"id", "id"},
                                             {"name", "name"},
                                             {"status", "status"},
                                             {"template", "template"},
                                             {"cpus", "cpus"},
                                             {"memory_mb", "memory MB"},
                                             {"disk_gb", "disk GB"},
                                             {"repo_url", "repo"},
                                             {"created_at", "created"},
                                             {"started_at", "started"},
                                             {"stopped_at", "stopped"}};
    for (size_t i = 0; i < CG_COUNT(members); i++)
        print_member(s, members[i][0], members[i][1]);
    print_member(s, "agents", "agents");
    print_member(s, "packages", "packages");
    print_costs(s);
    const struct cg_json *isolation = cg_json_get(s, "isolation");
    printf("%-12s%s on %s\n", "isolation", cg_json_str(isolation, "vmm"),
           cg_json_str(isolation, "accel") ? cg_json_str(isolation, "accel") : "?");
    print_activity(s, live);
    const struct cg_json *init = cg_json_get(s, "init");
    if (init)
        printf("%-12s%s\n", "init", cg_json_str(init, "status"));
    const struct cg_json *error = cg_json_get(s, "error");
    if (error) {
        printf("%-12s", "error");
        cli_print_text(stdout, cg_json_str(error, "text"), strlen(cg_json_str(error, "text")));
        putchar('\n');
        print_member(error, "console", "console");
    }
    const struct cg_json *m = cg_json_get(live, "metrics");
    if (m && m->type == CG_JSON_OBJ)
        printf("%-12scpu %.0f %%, memory %lld of %lld MB, disk %lld of %lld MB, %lld processes\n",
               "now", cg_json_num(m, "cpu_percent", 0),
               (long long)cg_json_int(m, "memory_used_mb", 0),
               (long long)cg_json_int(m, "memory_total_mb", 0),
               (long long)cg_json_int(m, "disk_used_mb", 0),
               (long long)cg_json_int(m, "disk_total_mb", 0),
               (long long)cg_json_int(m, "num_processes", 0));
    if (live)
        printf("%-12s%lld events, kernel %s, booted in %lld ms\n", "record",
               (long long)cg_json_int(live, "seq", 0),
               cg_json_str(live, "kernel") ? cg_json_str(live, "kernel") : "?",
               (long long)cg_json_int(live, "boot_ms", 0));
}

int verb_status(int argc, char **argv)
{
    bool json = false;
    const char *format_text = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    enum cli_format format;
    const struct cli_flag flags[] = {{"--json", false, NULL, &json, NULL},
                                     {"--format", true, &format_text, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(format_text, json, &format, &e))
        return cli_usage("%s", e.text);
    if (n != 1)
        return cli_usage("status needs one sandbox id; caged list shows them");
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
    CG_OWN(cg_drop_free) char *live_path = cg_format("%s/status", path);
    CG_OWN(cg_drop_json) struct cg_json *s = NULL;
    CG_OWN(cg_drop_json) struct cg_json *live = NULL;
    if (cli_find(&c, &e))
        s = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    if (s && cg_streq(cg_json_str(s, "status"), "running"))
        live = cli_json(&c, "GET", live_path, (struct cg_slice){0}, NULL);
    cli_finish(&c);
    if (!s)
        return cli_error(&e);
    if (format == CLI_TABLE)
        print_status(s, live);
    else
        print_as(s, format);
    return 0;
}

/* For each id: POST …/what. */
static int move(int argc, char **argv, const char *what, const char *done)
{
    char *words[WORDS];
    int n = 0;
    int rc = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    const struct cli_flag flags[] = {{NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n == 0)
        return cli_usage("%s needs one or more sandbox ids; caged list shows them", what);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    for (int i = 0; i < n; i++) {
        CG_OWN(cg_drop_free) char *id = cli_escape(words[i]);
        CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/%s", id, what);
        if (cli_call(&c, "POST", path, (struct cg_slice){0}, NULL, &e))
            printf("%s %s\n", done, words[i]);
        else
            rc = cli_error(&e);
    }
    cli_finish(&c);
    return rc;
}

int verb_pause(int argc, char **argv)
{
    return move(argc, argv, "pause", "Paused");
}

int verb_resume(int argc, char **argv)
{
    return move(argc, argv, "resume", "Resumed");
}

int verb_destroy(int argc, char **argv)
{
    bool force = false;
    char *words[WORDS];
    int n = 0;
    int rc = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    const struct cli_flag flags[] = {{"--force", false, NULL, &force, NULL},
                                     {"-f", false, NULL, &force, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n == 0)
        return cli_usage("destroy needs one or more sandbox ids; caged list shows them");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    for (int i = 0; i < n; i++) {
        CG_OWN(cg_drop_free) char *id = cli_escape(words[i]);
        CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
        if (cli_call(&c, "DELETE", path, (struct cg_slice){0}, NULL, &e))
            printf("Destroyed %s\n", words[i]);
        else if (!(force && e.code == CG_NOT_FOUND))
            rc = cli_error(&e);
    }
    cli_finish(&c);
    return rc;
}
