/* caged files: the files of a sandbox, now or as they stood at a line of its record, also when it
 * is gone. */
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 8, TEXT_MAX = 64 << 20 };

static void print_entry(const struct cg_json *o)
{
    const char *name = cg_json_str(o, "name");
    const char *skipped = cg_json_str(o, "skipped");
    bool folder = cg_streq(cg_json_str(o, "type"), "directory");
    printf("%10lld  %-27s  ", (long long)cg_json_int(o, "size", 0),
           cg_json_str(o, "mod_time") ? cg_json_str(o, "mod_time") : "");
    cli_print_text(stdout, name ? name : "", name ? strlen(name) : 0);
    printf("%s", folder ? "/" : "");
    if (skipped)
        printf("  (content not kept: %s)", skipped);
    putchar('\n');
}

static int list(struct cli *c, const char *path, bool json)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *o = cli_json(c, "GET", path, (struct cg_slice){0}, &e);
    if (!o)
        return cli_error(&e);
    if (json) {
        cli_print_json(stdout, o, 2);
        return 0;
    }
    for (const struct cg_json *entry = o->child; entry; entry = entry->next)
        print_entry(entry);
    return 0;
}

static int show(struct cli *c, const char *path)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, TEXT_MAX);
    if (!cli_call(c, "GET", path, (struct cg_slice){0}, &b, &e))
        return cli_error(&e);
    fwrite(b.p, 1, b.n, stdout);
    return 0;
}

static int diff(struct cli *c, const char *path, bool json)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *o = cli_json(c, "GET", path, (struct cg_slice){0}, &e);
    if (!o)
        return cli_error(&e);
    if (json) {
        cli_print_json(stdout, o, 2);
        return 0;
    }
    const struct cg_json *text = cg_json_get(o, "diff");
    for (const char *p = text ? text->str.p : NULL; p && *p;) {
        size_t n = strcspn(p, "\n");
        cli_print_text(stdout, p, n);
        putchar('\n');
        p += n + (p[n] == '\n');
    }
    if (cg_json_bool(o, "truncated", false))
        fprintf(stderr, "not all of it: there is more than the server sends at once\n");
    return 0;
}

int verb_files(int argc, char **argv)
{
    const char *at = NULL;
    const char *from = NULL;
    bool json = false;
    bool cat = false;
    char *words[WORDS];
    int n = WORDS;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--at", true, &at, NULL, NULL},
                                     {"--diff", true, &from, NULL, NULL},
                                     {"--cat", false, NULL, &cat, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (!cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n < 1 || n > 2 || (cat && n < 2) || (cat && from))
        return cli_usage("files needs a sandbox: caged files <id> [PATH] [--at SEQ]");
    struct cli c = {0};
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    CG_OWN(cg_drop_free) char *file = cli_escape(n > 1 ? words[1] : "/workspace");
    CG_OWN(cg_drop_free) char *number = cli_escape(at ? at : "");
    CG_OWN(cg_drop_free) char *first = cli_escape(from ? from : "");
    CG_OWN(cg_drop_free)
    char *path = from ? cg_format("/v1/sandboxes/%s/git/diff?from_seq=%s%s%s", id, first,
                                  at ? "&to_seq=" : "", number)
                      : cg_format("/v1/sandboxes/%s/files%s?path=%s%s%s", id, cat ? "/content" : "",
                                  file, at ? "&at_seq=" : "", number);
    int code = from ? diff(&c, path, json) : cat ? show(&c, path) : list(&c, path, json);
    cli_finish(&c);
    return code;
}
