/* caged budget: what a sandbox may spend on models and machine, shown and changed while it runs. */
#include <string.h>

#include "base/jsonw.h"
#include "base/money.h"
#include "cli/client.h"
#include "cli/verb.h"

static void show(const struct cg_json *s)
{
    const struct cg_json *budget = cg_json_get(s, "budget");
    double spent = cg_json_num(s, "total_cost", 0);
    printf("Sandbox:  %s\n", cg_json_str(s, "id"));
    printf("Models:   $%.6f\n", cg_json_num(s, "llm_cost", 0));
    printf("Machine:  $%.6f\n", cg_json_num(s, "cost", 0));
    printf("Spent:    $%.6f\n", spent);
    if (budget)
        printf("Budget:   $%.2f, $%.6f left\n", budget->number, CG_MAX(budget->number - spent, 0));
    else
        printf("Budget:   none\n");
}

int verb_budget(int argc, char **argv)
{
    static const char none[] = "none";
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    char body[64];
    int64_t nusd = 0;
    bool set = argc == 4 && strcmp(argv[2], "set") == 0;
    if (argc != 2 && !set)
        return cli_usage("caged budget <id>, or caged budget <id> set DOLLARS (or none)");
    if (set && strcmp(argv[3], none) != 0 && !cg_money_parse(cg_slice_of(argv[3]), &nusd, &e))
        return cli_usage("%s", e.text);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *id = cli_escape(argv[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
    cg_snprintf(body, sizeof body, "{\"budget\":%.9f}", cg_money_usd(nusd));
    CG_OWN(cg_drop_json)
    struct cg_json *s = cli_json(&c, set ? "PATCH" : "GET", path,
                                 set ? cg_slice_of(body) : (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!s)
        return cli_error(&e);
    show(s);
    return 0;
}
