/* caged keys: API keys of the account. A key's text is printed once, when it is made. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 16, DAYS_MAX = 36500 };

static void print_text(const struct cg_json *j, const char *name, const char *otherwise, int width)
{
    const char *text = cg_json_str(j, name);
    const char *shown = text ? text : otherwise;
    cli_print_text(stdout, shown, strlen(shown));
    for (int pad = width - (int)strlen(shown); pad > 0; pad--)
        putchar(' ');
}

static void print_row(const struct cg_json *k)
{
    print_text(k, "id", "", 16);
    print_text(k, "name", "", 26);
    print_text(k, "prefix", "", 14);
    print_text(k, "scope", "", 11);
    print_text(k, "last_used", "never", 28);
    print_text(k, "expires_at", "never", 0);
    putchar('\n');
}

static int list(int argc, char **argv)
{
    const char *text = NULL;
    bool json = false;
    char *words[WORDS];
    int n = 0;
    enum cli_format format = CLI_TABLE;
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--format", true, &text, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(text, json, &format, &e) || !cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *all = cli_json(&c, "GET", "/v1/account/keys", (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!all)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, all, 2);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, all, 0);
    else
        printf("%-16s%-26s%-14s%-11s%-28s%s\n", "ID", "NAME", "PREFIX", "SCOPE", "LAST USED",
               "EXPIRES");
    for (const struct cg_json *k = format == CLI_TABLE ? all->child : NULL; k; k = k->next)
        print_row(k);
    return 0;
}

/* "90d" from now, or a time as it is. */
static bool read_end(const char *text, char out[CG_TIME_TEXT], struct cg_err *e)
{
    char *end = NULL;
    int64_t wall = 0;
    long days = isdigit((unsigned char)text[0]) ? strtol(text, &end, 10) : 0;
    if (days > 0 && days <= DAYS_MAX && strcmp(end, "d") == 0) {
        wall = cg_wall_ns() + (int64_t)days * 86400 * 1000000000;
        cg_time_format(wall, out);
        return true;
    }
    if (cg_time_parse(text, &wall) && cg_strlcpy(out, CG_TIME_TEXT, text))
        return true;
    return cg_fail(e, CG_INVALID, "--expires %.40s: 90d, or a time as in 2030-01-31T12:00:00Z",
                   text);
}

static int create(int argc, char **argv)
{
    const char *scope = "full";
    const char *expires = NULL;
    bool json = false;
    char end[CG_TIME_TEXT];
    char *words[WORDS];
    int n = 0;
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--scope", true, &scope, NULL, NULL},
                                     {"--expires", true, &expires, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        (expires && !read_end(expires, end, &e)))
        return cli_error(&e);
    if (n != 1)
        return cli_usage("keys create needs a name: caged keys create ci --scope sandbox");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_jsonw w;
    cg_buf_init(&body, 16384);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "name", words[0]);
    cg_jsonw_kstr(&w, "scope", scope);
    if (expires)
        cg_jsonw_kstr(&w, "expires_at", end);
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_json)
    struct cg_json *made = cli_json(&c, "POST", "/v1/account/keys", cg_buf_slice(&body), &e);
    cli_finish(&c);
    if (!made)
        return cli_error(&e);
    if (json) {
        cli_print_json(stdout, made, 2);
        return 0;
    }
    print_text(made, "key", "", 0);
    putchar('\n');
    fprintf(stderr, "This is shown once: keep it now. caged keys delete %s ends it.\n",
            cg_json_str(cg_json_get(made, "info"), "id"));
    return 0;
}

static int delete (int argc, char **argv)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    if (argc != 2)
        return cli_usage("keys delete needs an id, as caged keys list shows it");
    CG_OWN(cg_drop_free) char *escaped = cli_escape(argv[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/account/keys/%s", escaped);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    bool fine = cli_call(&c, "DELETE", path, (struct cg_slice){0}, NULL, &e);
    cli_finish(&c);
    if (!fine)
        return cli_error(&e);
    printf("Key %s is deleted.\n", argv[1]);
    return 0;
}

int verb_keys(int argc, char **argv)
{
    const char *what = argc > 1 && argv[1][0] != '-' ? argv[1] : "list";
    int skip = argc > 1 && argv[1][0] != '-';
    if (strcmp(what, "list") == 0 || strcmp(what, "ls") == 0)
        return list(argc - skip, argv + skip);
    if (strcmp(what, "create") == 0)
        return create(argc - 1, argv + 1);
    if (strcmp(what, "delete") == 0 || strcmp(what, "rm") == 0)
        return delete (argc - 1, argv + 1);
    return cli_usage("keys does not know \"%.40s\": list, create, delete", what);
}
