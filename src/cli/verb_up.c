/* caged up and caged run: make a sandbox, showing how far it is; upload a local repository; run the
 * init script; with run, optionally one command and away. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "base/money.h"
#include "cli/client.h"
#include "cli/pack.h"
#include "cli/verb.h"
#include "cli/ws.h"
#include "config/project.h"

enum { WORDS = 256, BODY_MAX = 1 << 20, POLL_FIRST_US = 5000, POLL_LAST_US = 300000 };

struct wish {
    struct cg_project p;
    const char *config, *name, *repo, *format;
    const char *template_name, *cpus, *memory, *disk, *network, *branch, *commit, *subdir, *token;
    const char *budget_tokens, *budget_action;
    const char *timeout, *allowlist, *budget, *agents, *packages, *secrets, *from_snapshot;
    struct cg_buf env; /* of flags, each ended by NUL */
    bool json, rm;
    char *words[WORDS];
    int nwords;
};

static bool to_number(const char *flag, const char *text, int max, int *out, struct cg_err *e)
{
    char *end = NULL;
    long v = text ? strtol(text, &end, 10) : 0;
    if (!text)
        return true;
    if (!text[0] || *end || v < 0 || v > max)
        return cg_fail(e, CG_INVALID, "%s must be 0-%d, not %.40s", flag, max, text);
    *out = (int)v;
    return true;
}

static bool to_tokens(const char *text, int64_t *out, struct cg_err *e)
{
    char *end = NULL;
    errno = 0;
    long long v = text ? strtoll(text, &end, 10) : 0;
    if (!text)
        return true;
    if (!text[0] || *end || errno != 0 || v < 0 || v > CG_PROJECT_TOKENS_MAX)
        return cg_fail(e, CG_INVALID, "--budget-tokens must be a number of tokens, not %.40s",
                       text);
    *out = v;
    return true;
}

static void take(char **to, const char *flag)
{
    if (!flag)
        return;
    free(*to);
    *to = cg_strdup(flag);
}

/* Flags win over the file. */
static bool apply_flags(struct wish *w, struct cg_err *e)
{
    struct cg_project *p = &w->p;
    take(&p->template_name, w->template_name);
    take(&p->network_mode, w->network);
    take(&p->repo_branch, w->branch);
    take(&p->repo_commit, w->commit);
    take(&p->repo_subdir, w->subdir);
    take(&p->repo_token, w->token);
    if (w->repo)
        take(&p->repo_url, w->repo);
    take(&p->secrets, w->secrets);
    take(&p->agents, w->agents);
    take(&p->packages, w->packages);
    take(&p->allow, w->allowlist);
    if (w->allowlist && !w->network)
        take(&p->network_mode, "allowlist");
    for (size_t at = 0; at < w->env.n; at += strlen(w->env.p + at) + 1) {
        CG_OWN(cg_drop_free) char *list = cg_strdup(w->env.p + at);
        char *save = NULL;
        for (char *pair = strtok_r(list, ",", &save); pair; pair = strtok_r(NULL, ",", &save)) {
            if (!cg_project_env(p, pair, e))
                return false;
        }
    }
    if (w->budget && !cg_money_parse(cg_slice_of(w->budget), &p->budget_nusd, e))
        return cg_wrap(e, "--budget");
    take(&p->budget_action, w->budget_action);
    return to_tokens(w->budget_tokens, &p->budget_tokens, e) &&
           to_number("--timeout", w->timeout, 2592000, &p->timeout_s, e) &&
           to_number("--cpus", w->cpus, 8, &p->cpus, e) &&
           to_number("--memory", w->memory, 8192, &p->memory_mb, e) &&
           to_number("--disk", w->disk, 50, &p->disk_gb, e);
}

static bool read_wish(int argc, char **argv, bool with_file, struct wish *w, struct cg_err *e)
{
    const struct cli_flag flags[] = {{"--config", true, &w->config, NULL, NULL},
                                     {"--template", true, &w->template_name, NULL, NULL},
                                     {"--cpus", true, &w->cpus, NULL, NULL},
                                     {"--memory", true, &w->memory, NULL, NULL},
                                     {"--disk", true, &w->disk, NULL, NULL},
                                     {"--network", true, &w->network, NULL, NULL},
                                     {"--allowlist", true, &w->allowlist, NULL, NULL},
                                     {"--repo", true, &w->repo, NULL, NULL},
                                     {"--repo-token", true, &w->token, NULL, NULL},
                                     {"--repo-branch", true, &w->branch, NULL, NULL},
                                     {"--repo-commit", true, &w->commit, NULL, NULL},
                                     {"--repo-subdir", true, &w->subdir, NULL, NULL},
                                     {"--budget", true, &w->budget, NULL, NULL},
                                     {"--budget-tokens", true, &w->budget_tokens, NULL, NULL},
                                     {"--budget-action", true, &w->budget_action, NULL, NULL},
                                     {"--env", true, NULL, NULL, &w->env},
                                     {"--packages", true, &w->packages, NULL, NULL},
                                     {"--agents", true, &w->agents, NULL, NULL},
                                     {"--secrets", true, &w->secrets, NULL, NULL},
                                     {"--timeout", true, &w->timeout, NULL, NULL},
                                     {"--from-snapshot", true, &w->from_snapshot, NULL, NULL},
                                     {"--name", true, &w->name, NULL, NULL},
                                     {"--format", true, &w->format, NULL, NULL},
                                     {"--json", false, NULL, &w->json, NULL},
                                     {"--rm", false, NULL, &w->rm, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    cg_buf_init(&w->env, 256 * 1024);
    if (argc > WORDS || !cli_flags(argc, argv, flags, w->words, &w->nwords, false, e))
        return false;
    w->json |= cg_streq(w->format, "json");
    const char *file = w->config ? w->config : ".caged.yaml";
    if (with_file && (w->config || cg_fs_exists(file)) && !cg_project_read(file, &w->p, e))
        return false;
    if (!apply_flags(w, e))
        return false;
    if (!w->p.template_name && !w->from_snapshot)
        w->p.template_name = cg_strdup("minimal");
    return true;
}

/* "A,B" as an array. */
static void write_names(struct cg_jsonw *j, const char *key, const char *text)
{
    CG_OWN(cg_drop_free) char *list = cg_strdup(text);
    char *save = NULL;
    cg_jsonw_key(j, key);
    cg_jsonw_arr(j);
    for (char *name = strtok_r(list, ", ", &save); name; name = strtok_r(NULL, ", ", &save))
        cg_jsonw_str(j, name);
    cg_jsonw_arr_end(j);
}

static bool is_url(const char *repo)
{
    return strstr(repo, "://") || (strchr(repo, '@') && strchr(repo, ':'));
}

static bool write_body(const struct wish *w, bool local, struct cg_buf *b)
{
    const struct cg_project *p = &w->p;
    const struct {
        const char *key, *value;
    } texts[] = {{"template", p->template_name},
                 {"network_mode", p->network_mode},
                 {"name", w->name},
                 {"snapshot_id", w->from_snapshot},
                 {"repo_branch", p->repo_branch},
                 {"repo_commit", p->repo_commit},
                 {"repo_subdir", p->repo_subdir},
                 {"init_script", p->init_script}};
    struct cg_jsonw j;
    cg_jsonw_init(&j, b);
    cg_jsonw_obj(&j);
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        if (texts[i].value)
            cg_jsonw_kstr(&j, texts[i].key, texts[i].value);
    }
    cg_jsonw_kint(&j, "cpus", p->cpus);
    cg_jsonw_kint(&j, "memory_mb", p->memory_mb);
    cg_jsonw_kint(&j, "disk_gb", p->disk_gb);
    if (p->timeout_given || w->timeout)
        cg_jsonw_kint(&j, "timeout", p->timeout_s);
    if (p->budget_nusd > 0)
        cg_jsonw_knum(&j, "budget", cg_money_usd(p->budget_nusd));
    if (p->budget_tokens > 0)
        cg_jsonw_kint(&j, "budget_tokens", p->budget_tokens);
    if (p->budget_action)
        cg_jsonw_kstr(&j, "budget_action", p->budget_action);
    if (p->repo_url && !local)
        cg_jsonw_kstr(&j, "repo", p->repo_url);
    const char *token = p->repo_token       ? p->repo_token
                        : p->repo_token_env ? getenv(p->repo_token_env)
                                            : NULL;
    if (token && token[0] && !local)
        cg_jsonw_kstr(&j, "repo_token", token);
    if (local)
        cg_jsonw_kbool(&j, "defer_init", true);
    if (p->secrets)
        write_names(&j, "secrets", p->secrets);
    if (p->agents)
        write_names(&j, "agents", p->agents);
    if (p->packages)
        write_names(&j, "packages", p->packages);
    if (p->allow)
        write_names(&j, "allowlist", p->allow);
    if (p->deny)
        write_names(&j, "denylist", p->deny);
    cg_jsonw_key(&j, "env");
    cg_jsonw_obj(&j);
    for (unsigned i = 0; i < p->nenv; i++) {
        size_t n = strcspn(p->env[i], "=");
        CG_OWN(cg_drop_free) char *key = cg_strndup(p->env[i], n);
        cg_jsonw_kstr(&j, key, p->env[i] + n + 1);
    }
    cg_jsonw_obj_end(&j);
    cg_jsonw_obj_end(&j);
    return !b->full;
}

/* --- progress --- */

struct progress {
    bool shown;
    char phase[32];
    char status[16];
};

static void show_phase(struct progress *p, const struct cg_json *s)
{
    const char *phase = cg_json_str(s, "phase");
    if (!p->shown || !phase || strcmp(p->phase, phase) == 0)
        return;
    cg_strlcpy(p->phase, sizeof p->phase, phase);
    bool tty = isatty(STDERR_FILENO);
    fprintf(stderr, "%s%s  %3lld %%  %s%s", tty ? "\r" : "", cg_json_str(s, "id"),
            (long long)cg_json_int(s, "percent", 0), phase, tty ? "\033[K" : "\n");
}

/* Waits until the creation is over; the final object, or NULL. */
static struct cg_json *await(struct cli *c, const char *id, struct progress *p, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
    unsigned pause_us = POLL_FIRST_US; /* a warm sandbox is there at once, a cold one in seconds */
    for (;;) {
        struct cg_json *s = cli_json(c, "GET", path, (struct cg_slice){0}, e);
        if (!s)
            return NULL;
        const char *status = cg_json_str(s, "status");
        bool making = cg_json_get(s, "phase") != NULL;
        show_phase(p, s);
        if (!making && !cg_streq(status, "pending")) {
            if (p->shown && isatty(STDERR_FILENO))
                fprintf(stderr, "\r\033[K");
            return s;
        }
        cg_json_destroy(s);
        usleep(pause_us);
        pause_us = CG_MIN(pause_us + pause_us / 2, (unsigned)POLL_LAST_US);
    }
}

static int explain_failure(const struct cg_json *s)
{
    const struct cg_json *error = cg_json_get(s, "error");
    const char *text = cg_json_str(error, "text");
    const char *console = cg_json_str(error, "console");
    fprintf(stderr, "error: sandbox %s: ", cg_json_str(s, "id"));
    cli_print_text(stderr, text ? text : "it failed", strlen(text ? text : "it failed"));
    fputc('\n', stderr);
    if (console && console[0]) {
        fputs("the guest's console ended with:\n", stderr);
        for (const char *l = console; *l;) {
            size_t n = strcspn(l, "\n");
            fputs("  ", stderr);
            cli_print_text(stderr, l, n);
            fputc('\n', stderr);
            l += n + (l[n] == '\n');
        }
    }
    return 1;
}

static int explain_init(const struct cg_json *s)
{
    const struct cg_json *init = cg_json_get(s, "init");
    const char *tail = cg_json_str(init, "output_tail");
    fprintf(stderr, "error: the init script failed with exit code %lld; its output ended with:\n",
            (long long)cg_json_int(init, "exit_code", -1));
    for (const char *l = tail ? tail : ""; *l;) {
        size_t n = strcspn(l, "\n");
        fputs("  ", stderr);
        cli_print_text(stderr, l, n);
        fputc('\n', stderr);
        l += n + (l[n] == '\n');
    }
    return 1;
}

static bool destroy(struct cli *c, const char *id, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
    return cli_call(c, "DELETE", path, (struct cg_slice){0}, NULL, e);
}

static void print_made(const struct wish *w, const struct cg_json *s)
{
    if (w->json) {
        cli_print_json(stdout, s, 0);
        putchar('\n');
        return;
    }
    const char *id = cg_json_str(s, "id");
    printf("Sandbox created: %s\n", id);
    printf("Status:   %s\n", cg_json_str(s, "status"));
    printf("Template: %s\n", cg_json_str(s, "template"));
    printf("IP:       %s\n", cg_json_str(s, "ip") ? cg_json_str(s, "ip") : "-");
    double budget = cg_json_num(s, "budget", 0);
    if (budget > 0)
        printf("Budget:   $%.2f\n", budget);
    else
        printf("Budget:   none\n");
    printf("Cost:     $%.5f\n", cg_json_num(s, "total_cost", 0));
    printf(
        "\nNext:     caged connect %s\n          caged events -f %s\n          caged destroy %s\n",
        id, id, id);
}

static bool upload(struct cli *c, const struct wish *w, const char *id, struct cg_err *e)
{
    const char *dir = w->p.repo_url ? w->p.repo_url : ".";
    if (!w->json && isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s  packing %s\033[K", id, dir);
    bool ok = cg_pack_upload(c, id, dir, e) || cg_wrap(e, "upload %s", dir);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    return ok;
}

static struct cg_json *run_init(struct cli *c, const char *id, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/init", id);
    return cli_json(c, "POST", path, (struct cg_slice){0}, e);
}

/* Runs after the sandbox is up: upload, init, a command. */
static int fill(struct cli *c, struct wish *w, bool local, struct cg_json **s)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *id = cg_strdup(cg_json_str(*s, "id"));
    if (local && !upload(c, w, id, &e))
        return cli_error(&e);
    if (local && w->p.init_script) {
        struct cg_json *after = run_init(c, id, &e);
        if (!after)
            return cli_error(&e);
        cg_json_destroy(*s);
        *s = after;
    }
    if (cg_streq(cg_json_str(cg_json_get(*s, "init"), "status"), "failed"))
        return explain_init(*s);
    return 0;
}

static int make(struct wish *w, bool local)
{
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    struct progress p = {.shown = !w->json};
    CG_OWN(cg_drop_buf) struct cg_buf body;
    cg_buf_init(&body, BODY_MAX);
    if (!write_body(w, local, &body))
        return cli_usage("the request is over 1 MiB");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *made =
        cli_json(&c, "POST", "/v1/sandboxes?wait=false", cg_buf_slice(&body), &e);
    CG_OWN(cg_drop_json) struct cg_json *s = NULL;
    if (made)
        s = await(&c, cg_json_str(made, "id"), &p, &e);
    if (!s) {
        cli_finish(&c);
        return cli_error(&e);
    }
    CG_OWN(cg_drop_free) char *id = cg_strdup(cg_json_str(s, "id"));
    int rc = 0;
    if (!cg_streq(cg_json_str(s, "status"), "running"))
        rc = explain_failure(s);
    else
        rc = fill(&c, w, local, &s);
    if (rc == 0 && w->nwords == 0)
        print_made(w, s);
    if (rc == 0 && w->nwords > 0) {
        struct cli_exec x = {.argv = w->words, .argc = w->nwords, .timeout_ms = 0};
        rc = cli_exec_run(&c, id, &x);
    }
    if (rc != 0 && !w->rm)
        fprintf(stderr, "sandbox %s is kept for a look: caged connect %s\n", id, id);
    if (w->rm && (rc != 0 || w->nwords > 0) && !destroy(&c, id, &e))
        rc = cli_error(&e);
    cli_finish(&c);
    return rc;
}

int verb_up(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_wish(argc, argv, true, &w, &e))
        return e.code == CG_INVALID && w.nwords == 0 ? (cli_usage("%s", e.text), 1) : cli_error(&e);
    if (w.nwords > 0)
        return cli_usage("up takes flags only; caged run -- COMMAND runs a command");
    bool local = !w.p.repo_url || !is_url(w.p.repo_url);
    int rc = make(&w, local);
    cg_project_finish(&w.p);
    cg_buf_finish(&w.env);
    return rc;
}

int verb_run(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_wish(argc, argv, false, &w, &e))
        return cli_error(&e);
    bool local = w.p.repo_url && !is_url(w.p.repo_url);
    int rc = make(&w, local);
    cg_project_finish(&w.p);
    cg_buf_finish(&w.env);
    return rc;
}
