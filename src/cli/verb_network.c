/* caged network: the policy of a sandbox, shown and changed while it runs. */
#include <stdio.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 256, BODY_MAX = 256 * 1024 };

static const char usage[] =
    "network needs a sandbox, and show, mode MODE, allow RULE..., deny RULE... or remove RULE...";

static void print_list(const char *title, const struct cg_json *list, const char *none)
{
    printf("%-11s ", title);
    if (!list || list->count == 0)
        printf("%s\n", none);
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next) {
        cli_print_text(stdout, v->str.p, v->str.n);
        printf("%s", v->next ? ", " : "\n");
    }
}

static bool holds(const struct cg_json *list, const char *text)
{
    const struct cg_json *v = list ? list->child : NULL;
    while (v && !(v->type == CG_JSON_STR && cg_slice_eq(v->str, text)))
        v = v->next;
    return v != NULL;
}

static void print_policy(const struct cg_json *o)
{
    static const char *const meanings[][2] = {
        {"full", "all public addresses, except what is denied"},
        {"allowlist", "only what is allowed"},
        {"none", "nothing"}};
    const char *mode = cg_json_str(o, "mode");
    const char *meaning = "";
    for (size_t i = 0; i < CG_COUNT(meanings); i++)
        if (cg_streq(mode, meanings[i][0]))
            meaning = meanings[i][1];
    printf("%-11s %s: %s\n", "Mode", mode ? mode : "", meaning);
    bool unused = cg_json_get(o, "allow")->count > 0 && !cg_streq(mode, "allowlist");
    print_list(unused ? "Allow (off)" : "Allow", cg_json_get(o, "allow"), "nothing");
    if (holds(cg_json_get(o, "allow"), "registries"))
        print_list("Registries", cg_json_get(o, "registries"), "none is configured");
    print_list("Deny", cg_json_get(o, "deny"), "nothing");
    print_list("Operator", cg_json_get(o, "operator"), "nothing beside");
}

/* The body of the change; false: the words are none. */
static bool write_change(const char *what, char **words, int n, struct cg_buf *b)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, b);
    cg_jsonw_obj(&w);
    if (cg_streq(what, "mode")) {
        if (n != 1)
            return false;
        cg_jsonw_kstr(&w, "mode", words[0]);
        cg_jsonw_obj_end(&w);
        return true;
    }
    bool removes = cg_streq(what, "remove");
    if (n < 1 || (!removes && !cg_streq(what, "allow") && !cg_streq(what, "deny")))
        return false;
    if (!removes) {
        cg_jsonw_key(&w, "add");
        cg_jsonw_obj(&w);
    }
    cg_jsonw_key(&w, what);
    cg_jsonw_arr(&w);
    for (int i = 0; i < n; i++)
        cg_jsonw_str(&w, words[i]);
    cg_jsonw_arr_end(&w);
    if (!removes)
        cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    return true;
}

int verb_network(int argc, char **argv)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    bool json = false;
    char *words[WORDS];
    int n = 0;
    const struct cli_flag flags[] = {{"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    CG_OWN(cg_drop_buf) struct cg_buf body;
    cg_buf_init(&body, BODY_MAX);
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_error(&e);
    bool shows = n == 1 || (n == 2 && cg_streq(words[1], "show"));
    if (n < 1 || (!shows && !write_change(words[1], words + 2, n - 2, &body)))
        return cli_usage("%s", usage);
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/network", id);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *o = cli_json(&c, shows ? "GET" : "PATCH", path, cg_buf_slice(&body), &e);
    cli_finish(&c);
    if (!o)
        return cli_error(&e);
    if (json)
        cli_print_json(stdout, o, 2);
    else
        print_policy(o);
    return 0;
}
