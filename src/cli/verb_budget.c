/* caged budget: what a sandbox, or the account in this month, may spend on models and machine;
 * shown, and changed while things run. */
#include <string.h>

#include "base/jsonw.h"
#include "base/money.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 4 };

static const char usage[] = "caged budget <id> [set [DOLLARS|none] [--tokens N|none] [--action "
                            "destroy|pause]], or caged budget account [set DOLLARS|none]";

static void show(const struct cg_json *s)
{
    const struct cg_json *budget = cg_json_get(s, "budget");
    double spent = cg_json_num(s, "total_cost", 0);
    int64_t tokens = cg_json_int(s, "budget_tokens", 0);
    printf("Sandbox:  %s\n", cg_json_str(s, "id"));
    printf("Models:   $%.6f, %lld tokens\n", cg_json_num(s, "llm_cost", 0),
           (long long)cg_json_int(s, "llm_tokens", 0));
    printf("Machine:  $%.6f\n", cg_json_num(s, "cost", 0));
    printf("Spent:    $%.6f\n", spent);
    if (cg_json_int(s, "unpriced_calls", 0) > 0)
        printf("Unpriced: %lld calls, not in these figures\n",
               (long long)cg_json_int(s, "unpriced_calls", 0));
    if (budget)
        printf("Budget:   $%.2f, $%.6f left\n", budget->number, CG_MAX(budget->number - spent, 0));
    else
        printf("Budget:   none\n");
    if (tokens > 0)
        printf("Tokens:   %lld at most\n", (long long)tokens);
    if (budget || tokens > 0)
        printf("At 100%%:  %s\n", cg_json_str(s, "budget_action") ? "paused" : "saved and ended");
}

static void show_account(const struct cg_json *a)
{
    const struct cg_json *budget = cg_json_get(a, "budget");
    printf("Month:    %s\n", cg_json_str(a, "month"));
    printf("Spent:    $%.6f\n", cg_json_num(a, "spent", 0));
    printf("In hand:  $%.6f, of sandboxes that run\n", cg_json_num(a, "leased", 0));
    if (budget && budget->type != CG_JSON_NULL)
        printf("Budget:   $%.2f, $%.6f left\n", budget->number, cg_json_num(a, "left", 0));
    else
        printf("Budget:   none\n");
}

static bool put_dollars(struct cg_jsonw *j, const char *text, struct cg_err *e)
{
    int64_t nusd = 0;
    if (!text)
        return true;
    if (strcmp(text, "none") != 0 && !cg_money_parse(cg_slice_of(text), &nusd, e))
        return false;
    cg_jsonw_knum(j, "budget", cg_money_usd(nusd));
    return true;
}

static bool put_tokens(struct cg_jsonw *j, const char *text, struct cg_err *e)
{
    int64_t n = 0;
    if (!text)
        return true;
    if (strcmp(text, "none") != 0 && !cg_money_parse_scaled(cg_slice_of(text), 0, &n, e))
        return cg_wrap(e, "--tokens");
    cg_jsonw_kint(j, "budget_tokens", n);
    return true;
}

int verb_budget(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    struct cg_jsonw j;
    const char *tokens = NULL;
    const char *action = NULL;
    char *words[WORDS];
    int n = 0;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    const struct cli_flag flags[] = {{"--tokens", true, &tokens, NULL, NULL},
                                     {"--action", true, &action, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    cg_buf_init(&body, 1024);
    if (argc > 9 || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.code != CG_OK ? e.text : usage);
    bool change = n >= 2 && strcmp(words[1], "set") == 0;
    bool account = n >= 1 && strcmp(words[0], "account") == 0;
    bool more = tokens || action;
    bool fine = n == 1 ? !more : change && (n == 3 || (n == 2 && more)) && !(account && more);
    if (!fine)
        return cli_usage("%s", usage);
    cg_jsonw_init(&j, &body);
    cg_jsonw_obj(&j);
    if (!put_dollars(&j, n == 3 ? words[2] : NULL, &e) || !put_tokens(&j, tokens, &e))
        return cli_usage("%s", e.text);
    if (action)
        cg_jsonw_kstr(&j, "budget_action", action);
    cg_jsonw_obj_end(&j);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    CG_OWN(cg_drop_free)
    char *path = account ? cg_strdup("/v1/account/budget") : cg_format("/v1/sandboxes/%s", id);
    const char *method = !change ? "GET" : account ? "PUT" : "PATCH";
    CG_OWN(cg_drop_json)
    struct cg_json *s =
        cli_json(&c, method, path, change ? cg_buf_slice(&body) : (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!s)
        return cli_error(&e);
    (account ? show_account : show)(s);
    return 0;
}
