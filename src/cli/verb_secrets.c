/* caged secrets: values go from standard input, a prompt without echo or the environment to the
 * server, and never come back. An argument would stand in the shell's history and in /proc, so it
 * takes a flag that says so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/prompt.h"
#include "cli/verb.h"

enum { VALUE_MAX = 8192, WORDS = 64 };

static bool read_value(const char *name, const char *from_env, struct cg_buf *out, struct cg_err *e)
{
    if (from_env) {
        const char *value = getenv(from_env);
        if (!value || !value[0])
            return cg_fail(e, CG_INVALID, "--from-env %s: the variable is not set", from_env);
        return cg_buf_adds(out, value) || cg_fail(e, CG_TOO_LARGE, "the value is too long");
    }
    char what[96];
    cg_snprintf(what, sizeof what, "value of %.64s", name);
    return cli_read_hidden(what, out, e);
}

static int put(const char *name, const struct cg_buf *value, const struct cg_buf *hosts)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    struct cg_buf body;
    struct cg_jsonw w;
    CG_OWN(cg_drop_free) char *escaped = cli_escape(name);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/secrets/%s", escaped);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    cg_buf_init(&body, 128 * 1024);
    CG_ASSERT(cg_buf_room(&body, 8 * VALUE_MAX));
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstrn(&w, "value", value->p, value->n);
    if (hosts->n > 0) {
        cg_jsonw_key(&w, "hosts");
        cg_jsonw_arr(&w);
        for (size_t at = 0; at < hosts->n; at += strlen(hosts->p + at) + 1)
            cg_jsonw_str(&w, hosts->p + at);
        cg_jsonw_arr_end(&w);
    }
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_json)
    struct cg_json *made = cli_json(&c, "PUT", path, cg_buf_slice(&body), &e);
    explicit_bzero(body.p, body.cap);
    cg_buf_finish(&body);
    cli_finish(&c);
    if (!made)
        return cli_error(&e);
    const struct cg_json *list = cg_json_get(made, "hosts");
    printf("Secret %s is stored, for ", name);
    for (const struct cg_json *h = list ? list->child : NULL; h; h = h->next) {
        cli_print_text(stdout, h->str.p, h->str.n);
        printf("%s", h->next ? ", " : "\n");
    }
    if (!list || list->count == 0)
        printf("no host yet: caged secrets set %s --host NAME\n", name);
    return 0;
}

static int set(int argc, char **argv)
{
    const char *from_env = NULL;
    const char *given = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf hosts;
    struct cg_buf value;
    const struct cli_flag flags[] = {{"--host", true, NULL, NULL, &hosts},
                                     {"--from-env", true, &from_env, NULL, NULL},
                                     {"--value", true, &given, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    cg_buf_init(&hosts, 64 * 1024);
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_error(&e);
    if (n == 2)
        return cli_usage("a value as an argument is seen by everybody on this machine: give it on "
                         "standard input, with --from-env, or with --value if you must");
    if (n != 1)
        return cli_usage("secrets set needs a name: caged secrets set GITHUB_TOKEN < token.txt");
    cg_buf_init(&value, VALUE_MAX);
    CG_ASSERT(cg_buf_room(&value, VALUE_MAX));
    bool fine = given ? cg_buf_adds(&value, given) || cg_fail(&e, CG_TOO_LARGE, "too long")
                      : read_value(words[0], from_env, &value, &e);
    int code = fine ? put(words[0], &value, &hosts) : cli_error(&e);
    cli_wipe(&value);
    return code;
}

static void print_row(const struct cg_json *s)
{
    const char *used = cg_json_str(s, "last_used");
    const struct cg_json *hosts = cg_json_get(s, "hosts");
    printf("%-24s %-28s ", cg_json_str(s, "name"), used ? used : "never");
    for (const struct cg_json *h = hosts ? hosts->child : NULL; h; h = h->next) {
        cli_print_text(stdout, h->str.p, h->str.n);
        printf("%s", h->next ? ", " : "");
    }
    putchar('\n');
}

static int list(int argc, char **argv)
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
        !cli_format_of(text, json, &format, &e) || !cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *all = cli_json(&c, "GET", "/v1/secrets", (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!all)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, all, 2);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, all, 0);
    else if (all->count == 0)
        printf("No secrets. caged secrets set GITHUB_TOKEN stores one.\n");
    else
        printf("%-24s %-28s %s\n", "NAME", "LAST USED", "HOSTS");
    for (const struct cg_json *s = format == CLI_TABLE ? all->child : NULL; s; s = s->next)
        print_row(s);
    return 0;
}

static int delete (int argc, char **argv)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    if (argc != 2)
        return cli_usage("secrets delete needs a name");
    CG_OWN(cg_drop_free) char *escaped = cli_escape(argv[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/secrets/%s", escaped);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    bool fine = cli_call(&c, "DELETE", path, (struct cg_slice){0}, NULL, &e);
    cli_finish(&c);
    if (!fine)
        return cli_error(&e);
    printf("Secret %s is deleted.\n", argv[1]);
    return 0;
}

int verb_secrets(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "list";
    if (strcmp(what, "set") == 0)
        return set(argc - 1, argv + 1);
    if (strcmp(what, "list") == 0 || strcmp(what, "ls") == 0)
        return list(argc - (argc > 1), argv + (argc > 1));
    if (strcmp(what, "delete") == 0 || strcmp(what, "rm") == 0)
        return delete (argc - 1, argv + 1);
    return cli_usage("secrets does not know \"%s\": set, list, delete", what);
}
