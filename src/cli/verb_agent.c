/* caged agents and caged run-agent: which coding agents there are, fetching one ahead of its first
 * use, and a prompt for one, with what it does shown as the sandbox sees it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/verb.h"
#include "cli/verb_images.h"
#include "cli/watch.h"

enum { WORDS = 16 };

/* --- agents --- */

static void print_agent(const struct cg_json *a)
{
    const struct cg_json *alias = cg_json_get(a, "aliases");
    const char *version = cg_json_str(a, "version");
    const char *source = cg_json_str(a, "source");
    const char *needs = cg_json_str(a, "needs");
    const char *provider = cg_json_str(a, "provider");
    printf("%-13s %-10s %-10s %-6s %-7s %-10s %-4s %s\n", cg_json_str(a, "name"),
           alias && alias->child ? alias->child->str.p : "-", version ? version : "-",
           source ? source : "-", needs ? needs : "any", provider ? provider : "-",
           cg_json_bool(a, "provider_key", false) ? "yes" : "no", cg_json_str(a, "description"));
}

static int list_agents(int argc, char **argv)
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
    CG_OWN(cg_drop_json) struct cg_json *list = NULL;
    if (cli_find(&c, &e))
        list = cli_json(&c, "GET", "/v1/agents", (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!list)
        return cli_error(&e);
    if (format == CLI_JSON) {
        cli_print_json(stdout, list, 0);
        putchar('\n');
    } else if (format == CLI_YAML) {
        cli_print_yaml(stdout, list, 0);
    } else {
        printf("%-13s %-10s %-10s %-6s %-7s %-10s %-4s %s\n", "NAME", "ALIAS", "VERSION", "FROM",
               "NEEDS", "PROVIDER", "KEY", "WHAT");
        for (const struct cg_json *a = list->child; a; a = a->next)
            print_agent(a);
    }
    return 0;
}

/* "agents install codex claude-code --template node-22" is "image build node-22+claude-code+codex":
 * the server looks for one name only, so the order is that of the alphabet. */
static int install_agents(int argc, char **argv)
{
    const char *template_name = "minimal";
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--template", true, &template_name, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) || n == 0)
        return cli_usage("caged agents install NAME... [--template TEMPLATE]");
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && strcmp(words[k - 1], words[k]) > 0; k--) {
            char *swap = words[k];
            words[k] = words[k - 1];
            words[k - 1] = swap;
        }
    CG_OWN(cg_drop_buf) struct cg_buf name;
    cg_buf_init(&name, 512);
    cg_buf_adds(&name, template_name);
    for (int i = 0; i < n; i++)
        cg_buf_addf(&name, "+%s", words[i]);
    CG_OWN(cg_drop_free) char *wanted = cg_strdup(cg_buf_cstr(&name));
    char image[] = "image";
    char build[] = "build";
    char *words_of_image[] = {image, build, wanted, NULL};
    return cg_verb_image(3, words_of_image);
}

int verb_agents(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "list";
    if (cg_streq(what, "list") || what[0] == '-')
        return list_agents(what[0] == '-' ? argc : argc - 1, what[0] == '-' ? argv : argv + 1);
    if (cg_streq(what, "install"))
        return install_agents(argc - 1, argv + 1);
    return cli_usage("caged agents list, or caged agents install NAME... [--template TEMPLATE]");
}

/* --- run-agent --- */

struct prompt {
    const char *agent, *model, *timeout, *user, *provider;
    bool json, quiet;
    char *words[WORDS];
    int n;
};

static bool write_body(const struct prompt *p, struct cg_buf *b, struct cg_err *e)
{
    struct cg_jsonw w;
    char *end = NULL;
    long timeout = p->timeout ? strtol(p->timeout, &end, 10) : 0;
    if (p->timeout && (!p->timeout[0] || *end || timeout <= 0 || timeout > 86400 * 30))
        return cg_fail(e, CG_INVALID, "--timeout needs seconds, not %.40s", p->timeout);
    cg_jsonw_init(&w, b);
    cg_jsonw_obj(&w);
    if (p->agent)
        cg_jsonw_kstr(&w, "agent", p->agent);
    if (p->model)
        cg_jsonw_kstr(&w, "model", p->model);
    if (p->provider)
        cg_jsonw_kstr(&w, "provider", p->provider);
    if (p->user)
        cg_jsonw_kstr(&w, "user", p->user);
    if (timeout)
        cg_jsonw_kint(&w, "timeout_ms", timeout * 1000);
    cg_jsonw_kstr(&w, "prompt", p->words[1]);
    cg_jsonw_obj_end(&w);
    return !b->full || cg_fail(e, CG_TOO_LARGE, "the prompt is too long");
}

static void print_costs(const struct cg_json *r)
{
    const struct cg_json *claim = cg_json_get(r, "claim");
    const struct cg_json *said = cg_json_get(claim, "cost_usd");
    double difference = cg_json_num(claim, "difference_usd", 0);
    fprintf(stderr, "%s: %lld calls to models in %.1f s, $%.6f", cg_json_str(r, "agent"),
            (long long)cg_json_int(r, "llm_calls", 0), cg_json_num(r, "duration_ms", 0) / 1000,
            cg_json_num(r, "llm_cost", 0));
    if (said && difference > -5e-10 && difference < 5e-10)
        fprintf(stderr, "; it says the same");
    else if (said)
        fprintf(stderr, "; it says $%.6f, $%.6f %s", said->number,
                difference < 0 ? -difference : difference,
                difference < 0 ? "too little" : "too much");
    fputc('\n', stderr);
}

static void print_answer(const struct cg_json *r)
{
    const struct cg_json *output = cg_json_get(r, "output");
    bool terminal = isatty(STDOUT_FILENO);
    for (const char *l = output->str.p; *l;) {
        size_t n = strcspn(l, "\n");
        if (terminal)
            cli_print_text(stdout, l, n);
        else
            fwrite(l, 1, n, stdout);
        putchar('\n');
        l += n + (l[n] == '\n');
    }
}

static int run(struct cli *c, const struct prompt *p)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    cg_buf_init(&body, 1 << 20);
    CG_OWN(cg_drop_free) char *id = cli_escape(p->words[0]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/agent", id);
    if (!write_body(p, &body, &e))
        return cli_usage("%s", e.text);
    struct cli_watch *w = p->quiet ? NULL : cli_watch_start(c, id, CLI_WATCH_AGENT, false, stderr);
    CG_OWN(cg_drop_json)
    struct cg_json *r = cli_json(c, "POST", path, cg_buf_slice(&body), &e);
    cli_watch_leave(w);
    if (!r || !cg_json_str(r, "agent") || !cg_json_get(r, "output"))
        return cli_error(&e);
    if (p->json) {
        cli_print_json(stdout, r, 0);
        putchar('\n');
    } else {
        print_answer(r);
        fflush(stdout);
        print_costs(r);
    }
    return (int)cg_json_int(r, "exit_code", 1);
}

int verb_run_agent(int argc, char **argv)
{
    struct prompt p = {.agent = NULL};
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    const struct cli_flag flags[] = {{"--agent", true, &p.agent, NULL, NULL},
                                     {"--model", true, &p.model, NULL, NULL},
                                     {"--timeout", true, &p.timeout, NULL, NULL},
                                     {"--user", true, &p.user, NULL, NULL},
                                     {"--provider", true, &p.provider, NULL, NULL},
                                     {"--json", false, NULL, &p.json, NULL},
                                     {"--quiet", false, NULL, &p.quiet, NULL},
                                     {"-q", false, NULL, &p.quiet, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, p.words, &p.n, false, &e))
        return cli_usage("%s", e.code != CG_OK ? e.text : "too many words: quote the prompt");
    if (p.n != 2)
        return cli_usage("caged run-agent <id> --agent claude-code \"PROMPT\"");
    p.quiet |= p.json || !isatty(STDERR_FILENO);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    int code = run(&c, &p);
    cli_finish(&c);
    return code;
}
