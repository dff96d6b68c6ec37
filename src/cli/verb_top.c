/* caged top: the sandboxes and what they cost, anew every two seconds. On a terminal the screen is
 * redrawn until q or Ctrl-C; elsewhere, and with --once, it is one table. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 16, SEEN = 512, EVERY_MS = 2000 };

/* What a sandbox had cost when it was looked at first, for the burn. */
struct seen {
    char id[64];
    double cost;
    int64_t when_ns;
};

struct top {
    struct cli c;
    struct seen seen[SEEN];
    size_t n;
    bool all;
};

/* Dollars an hour since the table began; of the sandbox's whole life in its first one. */
static double burn(struct top *t, const struct cg_json *s)
{
    const char *id = cg_json_str(s, "id");
    double cost = cg_json_num(s, "total_cost", 0);
    int64_t now = cg_mono_ns();
    for (size_t i = 0; i < t->n; i++)
        if (cg_streq(t->seen[i].id, id) && now > t->seen[i].when_ns)
            return (cost - t->seen[i].cost) * 3600e9 / (double)(now - t->seen[i].when_ns);
    if (t->n < SEEN) {
        t->seen[t->n] = (struct seen){.cost = cost, .when_ns = now};
        cg_strlcpy(t->seen[t->n++].id, sizeof t->seen[0].id, id);
    }
    const char *started = cg_json_str(s, "started_at");
    int64_t wall = 0;
    if (started && cg_time_parse(started, &wall) && cg_wall_ns() > wall)
        return cost * 3600e9 / (double)(cg_wall_ns() - wall);
    return 0;
}

static void print_agents(const struct cg_json *agents)
{
    int room = 20;
    for (const struct cg_json *a = agents ? agents->child : NULL; a && room > 1; a = a->next) {
        int n = (int)CG_MIN(a->str.n, (size_t)room);
        printf("%s%.*s", a == agents->child ? "" : ",", n, a->str.p);
        room -= n + (a != agents->child);
    }
    printf("%*s", CG_MAX(room, 0), agents && agents->child ? "" : "-");
}

static void print_row(struct top *t, const struct cg_json *s, const struct cg_json *live)
{
    const struct cg_json *budget = cg_json_get(s, "budget");
    const struct cg_json *metrics = cg_json_get(live, "metrics");
    bool running = cg_streq(cg_json_str(s, "status"), "running");
    char limit[24] = "-";
    char memory[32] = "-";
    if (budget)
        snprintf(limit, sizeof limit, "%.2f", budget->number);
    if (metrics && metrics->type == CG_JSON_OBJ)
        snprintf(memory, sizeof memory, "%lld/%lld",
                 (long long)cg_json_int(metrics, "memory_used_mb", 0),
                 (long long)cg_json_int(metrics, "memory_total_mb", 0));
    printf("%-18s %-9s ", cg_json_str(s, "id"), cg_json_str(s, "status"));
    print_agents(cg_json_get(s, "agents"));
    printf(" %9.4f %9.4f %8s %8.3f %10s\n", cg_json_num(s, "llm_cost", 0),
           cg_json_num(s, "total_cost", 0), limit, running ? burn(t, s) : 0.0, memory);
}

static bool draw(struct top *t, bool screen, struct cg_err *e)
{
    CG_OWN(cg_drop_json)
    struct cg_json *list = cli_json(
        &t->c, "GET", t->all ? "/v1/sandboxes?all=true" : "/v1/sandboxes", (struct cg_slice){0}, e);
    if (!list)
        return false;
    double total = 0;
    if (screen)
        fputs("\033[H\033[2J", stdout);
    printf("%-18s %-9s %-20s %9s %9s %8s %8s %10s\n", "ID", "STATUS", "AGENTS", "MODELS $",
           "TOTAL $", "BUDGET $", "$/HOUR", "MEMORY MB");
    for (const struct cg_json *s = list->child; s; s = s->next) {
        CG_OWN(cg_drop_json) struct cg_json *live = NULL;
        CG_OWN(cg_drop_free)
        char *path = cg_format("/v1/sandboxes/%s/status", cg_json_str(s, "id"));
        if (cg_streq(cg_json_str(s, "status"), "running"))
            live = cli_json(&t->c, "GET", path, (struct cg_slice){0}, NULL);
        print_row(t, s, live);
        total += cg_json_num(s, "total_cost", 0);
    }
    printf("\n%zu sandboxes, $%.4f together%s\n", list->count, total, screen ? "; q ends" : "");
    fflush(stdout);
    return true;
}

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* True when it is time to draw again, false when that is enough. */
static bool pause_between(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    int n = poll(&in, 1, EVERY_MS);
    if (n > 0 && read(STDIN_FILENO, &key, 1) == 1 && (key == 'q' || key == 4))
        return false;
    return !stopped;
}

static bool watch(struct top *t, struct cg_err *e)
{
    struct termios before, raw;
    struct sigaction on = {.sa_handler = on_signal};
    bool keys = tcgetattr(STDIN_FILENO, &before) == 0;
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
    if (keys) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    bool ok = draw(t, true, e);
    while (ok && pause_between())
        ok = draw(t, true, e);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return ok;
}

int verb_top(int argc, char **argv)
{
    static struct top t;
    bool once = false;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--once", false, NULL, &once, NULL},
                                     {"--all", false, NULL, &t.all, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) || n > 0)
        return cli_usage("caged top [--once] [--all]");
    if (!cli_find(&t.c, &e))
        return cli_error(&e);
    bool ok = once || !isatty(STDOUT_FILENO) ? draw(&t, false, &e) : watch(&t, &e);
    cli_finish(&t.c);
    return ok ? 0 : cli_error(&e);
}
