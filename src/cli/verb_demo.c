/* caged demo: a whole life of a sandbox, shown: a small project with a failing test goes in, the
 * test fails, a coding agent mends it, the test passes, and all of it is seen and priced as it
 * happens; then a second one is cut off by its budget. Without the agent (its package cannot be
 * fetched) a patch takes its place; without a provider's key the server's script takes the model's
 * place, and the demo says so. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/pack.h"
#include "cli/verb.h"
#include "cli/watch.h"

static const char agent[] = "claude-code";
static const char model[] = "claude-haiku-4-5";
static const double guarded = 0.05;

struct demo {
    struct cli c;
    char id[64];
    struct cli_watch *watch;
    bool color;
    bool with_agent; /* the sandbox has one */
    bool scripted;   /* and no provider's key is there for it */
};

static void heading(const struct demo *d, const char *text)
{
    usleep(150000); /* lets the events of the step before come first */
    printf("\n%s== %s%s\n", d->color ? "\033[1m" : "", text, d->color ? "\033[0m" : "");
    fflush(stdout);
}

static void print_lines(const char *text)
{
    flockfile(stdout);
    for (const char *l = text; *l;) {
        size_t n = strcspn(l, "\n");
        cli_print_text(stdout, l, n);
        putchar('\n');
        l += n + (l[n] == '\n');
    }
    funlockfile(stdout);
    fflush(stdout);
}

static void say_command(const struct demo *d, const char *command)
{
    printf("%s$ %s%s\n", d->color ? "\033[36m" : "", command, d->color ? "\033[0m" : "");
    fflush(stdout);
}

/* Runs a command, shows its output, returns its exit code. */
static int run(struct demo *d, const char *command)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_jsonw w;
    cg_buf_init(&body, 65536);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "command", command);
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/exec", d->id);
    say_command(d, command);
    CG_OWN(cg_drop_json) struct cg_json *r = cli_json(&d->c, "POST", path, cg_buf_slice(&body), &e);
    const struct cg_json *output = cg_json_get(r, "output");
    if (!r || !output)
        return cli_error(&e) + 255;
    usleep(120000);
    print_lines(output->str.p);
    return (int)cg_json_int(r, "exit_code", 255);
}

/* --- making one --- */

static struct cg_json *post_sandbox(struct demo *d, double budget, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_jsonw w;
    cg_buf_init(&body, 4096);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "template", "minimal");
    cg_jsonw_kint(&w, "cpus", 1);
    cg_jsonw_kint(&w, "memory_mb", d->with_agent ? 1024 : 256);
    cg_jsonw_kint(&w, "disk_gb", 1);
    cg_jsonw_kstr(&w, "name", "demo");
    cg_jsonw_kbool(&w, "defer_init", true);
    cg_jsonw_kstr(&w, "init_script", "./setup.sh");
    if (budget > 0)
        cg_jsonw_knum(&w, "budget", budget);
    if (d->with_agent) {
        cg_jsonw_key(&w, "agents");
        cg_jsonw_arr(&w);
        cg_jsonw_str(&w, agent);
        cg_jsonw_arr_end(&w);
    }
    cg_jsonw_obj_end(&w);
    return cli_json(&d->c, "POST", "/v1/sandboxes", cg_buf_slice(&body), e);
}

static bool create(struct demo *d, double budget, struct cg_err *e)
{
    int64_t start = cg_mono_ns();
    CG_OWN(cg_drop_json) struct cg_json *s = post_sandbox(d, budget, e);
    if (!s && d->with_agent) {
        printf("The demo goes on without a coding agent: %s\n", e->text);
        d->with_agent = false;
        *e = (struct cg_err)CG_ERR_INIT;
        s = post_sandbox(d, budget, e);
    }
    const char *id = cg_json_str(s, "id");
    if (!id)
        return false;
    cg_strlcpy(d->id, sizeof d->id, id);
    const struct cg_json *isolation = cg_json_get(s, "isolation");
    printf("%s: a microVM of its own (%s, %s)%s, up in %.1f s\n", id, cg_json_str(isolation, "vmm"),
           cg_json_str(isolation, "accel"), d->with_agent ? " with Claude Code in it" : "",
           (double)(cg_mono_ns() - start) / 1e9);
    d->watch = cli_watch_start(&d->c, d->id, CLI_WATCH_PROJECT, true, stdout);
    return true;
}

static bool fill(struct demo *d, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *share = cli_share();
    CG_OWN(cg_drop_free) char *fizz = cg_format("%s/examples/fizz", share);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/init", d->id);
    if (!cg_pack_folder(&d->c, d->id, fizz, "/workspace", e))
        return false;
    CG_OWN(cg_drop_json) struct cg_json *s = cli_json(&d->c, "POST", path, (struct cg_slice){0}, e);
    const char *state = cg_json_str(cg_json_get(s, "init"), "status");
    return s && (cg_streq(state, "ok") || cg_fail(e, CG_INTERNAL, "the init script failed"));
}

static bool expect(int code, bool pass, const char *what, struct cg_err *e)
{
    return (code == 0) == pass ||
           cg_fail(e, CG_INTERNAL, "%s: exit code %d was not expected", what, code);
}

static void leave(struct demo *d)
{
    struct cg_err e = CG_ERR_INIT;
    unsigned long long seen = 0;
    unsigned long long shown = 0;
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", d->id);
    CG_OWN(cg_drop_json)
    struct cg_json *s = cli_json(&d->c, "GET", path, (struct cg_slice){0}, NULL);
    if (!cg_streq(cg_json_str(s, "status"), "destroyed") &&
        !cli_call(&d->c, "DELETE", path, (struct cg_slice){0}, NULL, &e))
        fprintf(stderr, "error: %s\n", e.text);
    cli_watch_counts(d->watch, &seen, &shown);
    cli_watch_finish(d->watch);
    d->watch = NULL;
    printf("%s is gone; its record stays: %llu events, %llu shown above; models cost $%.6f, the "
           "machine $%.6f\n",
           d->id, seen, shown, cg_json_num(s, "llm_cost", 0), cg_json_num(s, "cost", 0));
    d->id[0] = '\0';
}

/* --- the agent --- */

static struct cg_json *prompt(struct demo *d, const char *text, bool scripted, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_jsonw w;
    cg_buf_init(&body, 4096);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "agent", agent);
    cg_jsonw_kstr(&w, "prompt", text);
    if (scripted) {
        cg_jsonw_kstr(&w, "provider", "scripted");
        cg_jsonw_kstr(&w, "model", model);
        /* a script needs no long instructions */
        cg_jsonw_key(&w, "env");
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "CLAUDE_CODE_SIMPLE", "1");
        cg_jsonw_obj_end(&w);
    }
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/agent", d->id);
    CG_OWN(cg_drop_free)
    char *shown = cg_format("caged run-agent %s --agent %s '%s'", d->id, agent, text);
    say_command(d, shown);
    return cli_json(&d->c, "POST", path, cg_buf_slice(&body), e);
}

static bool mend_by_agent(struct demo *d, struct cg_err *e)
{
    heading(d, "Claude Code at work");
    if (d->scripted)
        printf("No key of a provider is configured (docs/gateway.md), so a script of the server "
               "plays the model.\nThe agent, its calls, their prices and the record are real.\n");
    CG_OWN(cg_drop_json)
    struct cg_json *r =
        prompt(d, "The test of this fizz project fails. Find out why, mend it, and run ./test.sh.",
               d->scripted, e);
    const struct cg_json *output = cg_json_get(r, "output");
    if (!output)
        return false;
    usleep(120000);
    print_lines(output->str.p);
    printf("%lld calls to the model, $%.6f metered at the gateway; the agent says $%.6f\n",
           (long long)cg_json_int(r, "llm_calls", 0), cg_json_num(r, "llm_cost", 0),
           cg_json_num(cg_json_get(r, "claim"), "cost_usd", 0));
    return expect((int)cg_json_int(r, "exit_code", 1), true, "the agent", e);
}

static bool mend_by_patch(struct demo *d, struct cg_err *e)
{
    heading(d, "A fix, applied from inside");
    return expect(run(d, "git apply fix.patch && echo applied"), true, "the fix", e);
}

static bool act(struct demo *d, struct cg_err *e)
{
    heading(d, "A sandbox for examples/fizz");
    if (!create(d, 0, e))
        return false;
    heading(d, "The project goes in and its init script runs");
    if (!fill(d, e))
        return false;
    heading(d, "Its test fails");
    if (!expect(run(d, "./test.sh"), false, "the test before the fix", e))
        return false;
    if (!(d->with_agent ? mend_by_agent(d, e) : mend_by_patch(d, e)))
        return false;
    heading(d, "Its test passes");
    if (!expect(run(d, "./test.sh"), true, "the test after the fix", e))
        return false;
    heading(d, "What changed");
    if (!expect(run(d, "git --no-pager diff --stat && git --no-pager diff -U1"), true, "git diff",
                e))
        return false;
    heading(d, "Destroyed");
    leave(d);
    return true;
}

/* The end of the sandbox is the aim: the run is cut off with it. */
static bool act_guarded(struct demo *d, struct cg_err *e)
{
    struct cg_err cut = CG_ERR_INIT;
    heading(d, "A second one with a budget of $0.05, and an agent that does not know when to stop");
    if (!create(d, guarded, e) || !d->with_agent || !fill(d, e))
        return !d->with_agent && d->id[0];
    CG_OWN(cg_drop_json)
    struct cg_json *r = prompt(d, "Run ./test.sh again and again, without end.", true, &cut);
    if (r)
        return cg_fail(e, CG_INTERNAL, "the agent came to an end before its budget did");
    heading(d, "The guard has cut it off");
    printf("%s\n", cut.text);
    leave(d);
    return true;
}

static void find_key(struct demo *d)
{
    CG_OWN(cg_drop_json)
    struct cg_json *list = cli_json(&d->c, "GET", "/v1/agents", (struct cg_slice){0}, NULL);
    d->scripted = true;
    for (const struct cg_json *a = list ? list->child : NULL; a; a = a->next) {
        if (!cg_streq(cg_json_str(a, "name"), agent))
            continue;
        d->with_agent = true;
        d->scripted = !cg_json_bool(a, "provider_key", false);
    }
}

int verb_demo(int argc, char **argv)
{
    struct demo d = {.color = cli_color(stdout)};
    struct cg_err e = CG_ERR_INIT;
    bool quick = false;
    char *words[1];
    int n = 0;
    const struct cli_flag flags[] = {{"--quick", false, NULL, &quick, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > 2 || !cli_flags(argc, argv, flags, words, &n, false, &e) || n > 0)
        return cli_usage("demo takes --quick and nothing else");
    int64_t start = cg_mono_ns();
    char *start_server[] = {(char[]){"server"}, (char[]){"start"}, NULL};
    CG_OWN(cg_drop_free) char *state = cli_state_dir();
    CG_OWN(cg_drop_free) char *info = cg_format("%s/server.json", state);
    if (!getenv("CAGED_API_URL") && !cg_fs_exists(info) && verb_server(2, start_server) != 0)
        return 1;
    if (!cli_find(&d.c, &e))
        return cli_error(&e);
    if (!quick)
        find_key(&d);
    bool ok = act(&d, &e) && (!d.with_agent || act_guarded(&d, &e));
    if (d.id[0]) {
        heading(&d, "Destroyed");
        leave(&d);
    }
    cli_finish(&d.c);
    if (!ok)
        return cli_error(&e);
    printf("\nThe whole demo took %.1f s. Your turn: cd into a repository and say caged up\n",
           (double)(cg_mono_ns() - start) / 1e9);
    return 0;
}
