/* caged gc: what is left on the server's disk and belongs to nothing. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/verb.h"

int verb_gc(int argc, char **argv)
{
    bool dry = false, json = false;
    char *words[2];
    int n = 0;
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--dry-run", false, NULL, &dry, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > 3 || !cli_flags(argc, argv, flags, words, &n, false, &e) || n > 0)
        return cli_usage("gc takes --dry-run and --json, nothing else");
    const char *body = dry ? "{\"dry_run\":true}" : "{\"dry_run\":false}";
    CG_OWN(cg_drop_json) struct cg_json *r = NULL;
    if (cli_find(&c, &e))
        r = cli_json(&c, "POST", "/v1/gc", cg_slice_of(body), &e);
    cli_finish(&c);
    if (!r)
        return cli_error(&e);
    if (json) {
        cli_print_json(stdout, r, 0);
        putchar('\n');
        return 0;
    }
    const struct cg_json *items = cg_json_get(r, "items");
    for (const struct cg_json *i = items ? items->child : NULL; i; i = i->next)
        printf("%-9s %9.1f MB  %s%s\n", cg_json_str(i, "what"),
               (double)cg_json_int(i, "bytes", 0) / 1e6, cg_json_str(i, "path"),
               dry || cg_json_bool(i, "removed", false) ? "" : "  (could not be removed)");
    if (!items || items->count == 0)
        puts("Nothing is left over.");
    else
        printf("%s %.1f MB\n", dry ? "Would free" : "Freed",
               (double)cg_json_int(r, "bytes", 0) / 1e6);
    if (cg_json_str(r, "error"))
        return cli_usage("%s", cg_json_str(r, "error"));
    return 0;
}
