/* caged ports: what listens inside a sandbox, as the guest tells it. */
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 16 };

static void print_text(const struct cg_json *p, const char *key, const char *none)
{
    const struct cg_json *v = cg_json_get(p, key);
    if (v && v->type == CG_JSON_STR)
        cli_print_text(stdout, v->str.p, v->str.n);
    else
        fputs(none, stdout);
}

static void print_row(const struct cg_json *p)
{
    printf("%-7lld %-9s %-10s ", (long long)cg_json_int(p, "port", 0), cg_json_str(p, "protocol"),
           cg_json_bool(p, "protected", false) ? "yes" : "no");
    print_text(p, "preview_url", "-");
    fputs("  ", stdout);
    print_text(p, "process", "");
    putchar('\n');
}

int verb_ports(int argc, char **argv)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    const char *text = NULL;
    bool json = false;
    char *words[WORDS];
    int n = 0;
    enum cli_format format = CLI_TABLE;
    const struct cli_flag flags[] = {{"--format", true, &text, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(text, json, &format, &e))
        return cli_error(&e);
    if (n != 1)
        return cli_usage("ports needs a sandbox: caged ports <id>");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/ports", id);
    CG_OWN(cg_drop_json)
    struct cg_json *all = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!all)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, all, 2);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, all, 0);
    else if (all->count == 0)
        printf("Nothing listens in %s.\n", words[0]);
    else
        printf("%-7s %-9s %-10s %s\n", "PORT", "PROTOCOL", "PROTECTED", "PREVIEW URL  PROCESS");
    for (const struct cg_json *p = format == CLI_TABLE ? all->child : NULL; p; p = p->next)
        print_row(p);
    return 0;
}
