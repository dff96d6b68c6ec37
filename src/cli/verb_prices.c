/* caged prices: what a million tokens of each model cost, where the figure is from, and prices of
 * one's own over it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/jsonw.h"
#include "base/money.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { FILE_MAX = 3 << 20, BODY_MAX = 8 << 20, WORDS = 8 };

static const char usage[] =
    "caged prices list [--provider NAME] | show MODEL [--provider NAME] | import FILE | set MODEL "
    "--provider NAME --input DOLLARS --output DOLLARS [--cache-read D] [--cache-write-5m D] "
    "[--cache-write-1h D] [--context N] [--max-output N] [--from DATE]";

struct wish {
    const char *provider, *format, *input, *output, *cache_read, *cache_5m, *cache_1h, *context,
        *max_output, *from;
    bool json, all;
    char *words[WORDS];
    int nwords;
};

static void price(const struct cg_json *m, const char *key)
{
    const struct cg_json *v = cg_json_get(m, key);
    if (v)
        printf(" %10.4g", v->number);
    else
        printf(" %10s", "-");
}

static void text(const struct cg_json *m, const char *key, int width)
{
    const char *s = cg_json_str(m, key);
    size_t n = s ? strlen(s) : 0;
    cli_print_text(stdout, s ? s : "", n);
    for (size_t i = n; i < (size_t)width; i++)
        putchar(' ');
}

static void print_table(const struct cg_json *book)
{
    static const char *const keys[] = {"input", "cache_read", "cache_write_5m", "cache_write_1h",
                                       "output"};
    const struct cg_json *list = cg_json_get(book, "models");
    printf("%-16s%-36s %10s %10s %10s %10s %10s\n", "PROVIDER", "MODEL", "INPUT", "READ",
           "WRITE 5M", "WRITE 1H", "OUTPUT");
    for (const struct cg_json *m = list ? list->child : NULL; m; m = m->next) {
        text(m, "provider", 16);
        text(m, "model", 36);
        for (size_t i = 0; i < CG_COUNT(keys); i++)
            price(m, keys[i]);
        putchar('\n');
    }
    printf("dollars per million tokens; book %s\n", cg_json_str(book, "version"));
}

static void print_more(const struct cg_json *book)
{
    static const char *const keys[] = {"source", "from", "to"};
    const struct cg_json *list = cg_json_get(book, "models");
    for (const struct cg_json *m = list ? list->child : NULL; m; m = m->next) {
        for (size_t i = 0; i < CG_COUNT(keys); i++)
            if (cg_json_str(m, keys[i])) {
                printf("%s: ", keys[i]);
                text(m, keys[i], 0);
                putchar('\n');
            }
        printf("context: %lld tokens, output at most %lld\n",
               (long long)cg_json_int(m, "context", 0), (long long)cg_json_int(m, "max_output", 0));
        const struct cg_json *bands = cg_json_get(m, "tiers");
        for (const struct cg_json *b = bands ? bands->child : NULL; b; b = b->next)
            printf("above %lld tokens of prompt: input %.4g, output %.4g\n",
                   (long long)cg_json_int(b, "over_input_tokens", 0), cg_json_num(b, "input", 0),
                   cg_json_num(b, "output", 0));
    }
}

static int show(struct wish *w, const char *model)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    enum cli_format format;
    CG_OWN(cg_drop_free) char *provider = w->provider ? cli_escape(w->provider) : NULL;
    CG_OWN(cg_drop_free) char *name = model ? cli_escape(model) : NULL;
    CG_OWN(cg_drop_free)
    char *path = cg_format("/v1/prices?all=%s%s%s%s%s", w->all ? "true" : "false",
                           provider ? "&provider=" : "", provider ? provider : "",
                           name ? "&model=" : "", name ? name : "");
    if (!cli_format_of(w->format, w->json, &format, &e) || !cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *book = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!book)
        return cli_error(&e);
    const struct cg_json *list = cg_json_get(book, "models");
    if (model && (!list || list->count == 0)) {
        cg_fail(&e, CG_NOT_FOUND,
                "no price is known for %s; set one with: caged prices set %s --provider NAME "
                "--input DOLLARS --output DOLLARS",
                model, model);
        return cli_error(&e);
    }
    if (format == CLI_JSON)
        cli_print_json(stdout, book, 0);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, book, 0);
    else
        print_table(book);
    if (format == CLI_TABLE && model)
        print_more(book);
    return 0;
}

static int import(const char *path)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    struct cg_jsonw j;
    CG_OWN(cg_drop_free) char *content = NULL;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    size_t n = 0;
    cg_buf_init(&body, BODY_MAX);
    if (!cg_fs_slurp(path, FILE_MAX, &content, &n, &e))
        return cli_error(&e);
    /* models.dev keeps a file a model: PROVIDER/models/MODEL.toml, or PROVIDER/MODEL.toml */
    const char *base = strrchr(path, '/');
    CG_OWN(cg_drop_free) char *folder = base ? cg_strndup(path, (size_t)(base - path)) : NULL;
    if (folder && cg_has_suffix(folder, "/models"))
        folder[strlen(folder) - strlen("/models")] = '\0';
    const char *provider = folder && strrchr(folder, '/') ? strrchr(folder, '/') + 1 : folder;
    CG_OWN(cg_drop_free)
    char *name = cg_format("%s/%s", provider ? provider : "", base ? base + 1 : path);
    cg_jsonw_init(&j, &body);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "name", name);
    cg_jsonw_kstrn(&j, "text", content, n);
    cg_jsonw_obj_end(&j);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *done = cli_json(&c, "POST", "/v1/prices/import", cg_buf_slice(&body), &e);
    cli_finish(&c);
    if (!done)
        return cli_error(&e);
    printf("%lld prices of %s count from now on\n", (long long)cg_json_int(done, "imported", 0),
           path);
    return 0;
}

static bool put_number(struct cg_jsonw *j, const char *key, const char *value, bool money,
                       struct cg_err *e)
{
    int64_t n = 0;
    if (!value)
        return true;
    if (!(money ? cg_money_parse(cg_slice_of(value), &n, e)
                : cg_money_parse_scaled(cg_slice_of(value), 0, &n, e)))
        return cg_wrap(e, "%s", key);
    if (money)
        cg_jsonw_knum(j, key, cg_money_usd(n));
    else
        cg_jsonw_kint(j, key, n);
    return true;
}

static int set(const struct wish *w, const char *model)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    struct cg_jsonw j;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    cg_buf_init(&body, 8192);
    if (!w->provider || !w->input || !w->output)
        return cli_usage("%s", usage);
    cg_jsonw_init(&j, &body);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "provider", w->provider);
    cg_jsonw_kstr(&j, "model", model);
    if (w->from)
        cg_jsonw_kstr(&j, "from", w->from);
    bool fine = put_number(&j, "input", w->input, true, &e) &&
                put_number(&j, "output", w->output, true, &e) &&
                put_number(&j, "cache_read", w->cache_read, true, &e) &&
                put_number(&j, "cache_write_5m", w->cache_5m, true, &e) &&
                put_number(&j, "cache_write_1h", w->cache_1h, true, &e) &&
                put_number(&j, "context", w->context, false, &e) &&
                put_number(&j, "max_output", w->max_output, false, &e);
    cg_jsonw_obj_end(&j);
    if (!fine || !cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *book = cli_json(&c, "PUT", "/v1/prices", cg_buf_slice(&body), &e);
    cli_finish(&c);
    if (!book)
        return cli_error(&e);
    print_table(book);
    return 0;
}

int verb_prices(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--provider", true, &w.provider, NULL, NULL},
                                     {"--input", true, &w.input, NULL, NULL},
                                     {"--output", true, &w.output, NULL, NULL},
                                     {"--cache-read", true, &w.cache_read, NULL, NULL},
                                     {"--cache-write-5m", true, &w.cache_5m, NULL, NULL},
                                     {"--cache-write-1h", true, &w.cache_1h, NULL, NULL},
                                     {"--context", true, &w.context, NULL, NULL},
                                     {"--max-output", true, &w.max_output, NULL, NULL},
                                     {"--from", true, &w.from, NULL, NULL},
                                     {"--all", false, NULL, &w.all, NULL},
                                     {"--format", true, &w.format, NULL, NULL},
                                     {"--json", false, NULL, &w.json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > 32 || !cli_flags(argc, argv, flags, w.words, &w.nwords, false, &e))
        return cli_usage("%s", e.code != CG_OK ? e.text : usage);
    const char *what = w.nwords > 0 ? w.words[0] : "list";
    if (strcmp(what, "list") == 0 && w.nwords <= 1)
        return show(&w, NULL);
    if (w.nwords != 2)
        return cli_usage("%s", usage);
    if (strcmp(what, "show") == 0)
        return show(&w, w.words[1]);
    if (strcmp(what, "import") == 0)
        return import(w.words[1]);
    if (strcmp(what, "set") == 0)
        return set(&w, w.words[1]);
    return cli_usage("%s", usage);
}
