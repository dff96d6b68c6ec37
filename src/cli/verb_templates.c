/* caged templates: what sandboxes can be made from, how large it is, and why something is missing.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/verb_images.h"
#include "image/image.h"

enum { OUTPUT_MAX = 16 << 20 };

static int usage(void)
{
    fputs("usage: caged templates [--format table|json|yaml] [--json]\n", stderr);
    return 2;
}

static void print_json(const struct cg_template_list *l)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_jsonw w;
    cg_buf_init(&text, OUTPUT_MAX);
    cg_jsonw_init(&w, &text);
    cg_jsonw_arr(&w);
    for (size_t i = 0; i < l->n; i++)
        cg_template_json(&w, &l->v[i]);
    cg_jsonw_arr_end(&w);
    printf("%s\n", cg_buf_cstr(&text));
}

/* A list of JSON objects, one to an item: YAML as it stands, and as safe as the JSON. */
static void print_yaml(const struct cg_template_list *l)
{
    if (l->n == 0)
        puts("[]");
    for (size_t i = 0; i < l->n; i++) {
        CG_OWN(cg_drop_buf) struct cg_buf text;
        struct cg_jsonw w;
        cg_buf_init(&text, OUTPUT_MAX);
        cg_jsonw_init(&w, &text);
        cg_template_json(&w, &l->v[i]);
        printf("- %s\n", cg_buf_cstr(&text));
    }
}

static void print_row(const struct cg_template *t)
{
    CG_OWN(cg_drop_free) char *aliases = cg_strv_join(&t->aliases, ", ");
    CG_OWN(cg_drop_free) char *contents = cg_strv_join(&t->contents, ", ");
    CG_OWN(cg_drop_free)
    char *name = *aliases ? cg_format("%s (%s)", t->name, aliases) : cg_strdup(t->name);
    char size[32] = "-";
    if (t->disk_bytes > 0)
        cg_snprintf(size, sizeof(size), "%lld MB", (long long)(t->disk_bytes / 1000000));
    printf("%-22s %-12s %8s  %s\n", name, cg_template_state_name(t->state), size,
           *contents ? contents : t->description);
    if (t->reason)
        printf("%-22s %s\n", "", t->reason);
    if (t->outdated)
        printf("%-22s its recipe has changed; run: caged image build %s\n", "", t->name);
}

static void print_table(const struct cg_template_list *l)
{
    printf("%-22s %-12s %8s  %s\n", "NAME", "STATE", "SIZE", "CONTENTS");
    for (size_t i = 0; i < l->n; i++)
        print_row(&l->v[i]);
}

int cg_verb_templates(int argc, char **argv)
{
    static const struct option options[] = {
        {"format", required_argument, NULL, 'f'}, {"json", no_argument, NULL, 'j'}, {0}};
    const char *format = "table";
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'f' && c != 'j')
            return usage();
        format = c == 'j' ? "json" : optarg;
    }
    void (*print)(const struct cg_template_list *) = cg_streq(format, "table")  ? print_table
                                                     : cg_streq(format, "json") ? print_json
                                                     : cg_streq(format, "yaml") ? print_yaml
                                                                                : NULL;
    if (!print || optind != argc)
        return usage();
    struct cg_image_config config;
    struct cg_template_list list;
    struct cg_err e = CG_ERR_INIT;
    cg_image_config_init(&config, NULL);
    bool ok = cg_image_list(&config, &list, &e);
    if (ok)
        print(&list);
    else
        fprintf(stderr, "caged: %s\n", e.text);
    cg_template_list_finish(&list);
    cg_image_config_finish(&config);
    return ok ? 0 : cg_code_exit(e.code);
}
