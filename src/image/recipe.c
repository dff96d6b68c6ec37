/* Reads recipes with libyaml. A recipe is the operator's own file, but a typing error in it must
 * not go unseen: unknown keys and wrong types are refused with their line. */
#include "image/recipe.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/fs.h"
#include "image/hash.h"

enum { RECIPE_MAX = 65536, RECIPES_MAX = 256 };

/* Counts up when builds of unchanged recipes would give something else. */
static const char builder_version[] = "template 1";

struct key {
    const char *name;
    enum { KEY_TEXT, KEY_LIST, KEY_MAP, KEY_CHECKS } type;
    size_t offset;
};

static const struct key keys[] = {
    {"name", KEY_TEXT, offsetof(struct cg_recipe, name)},
    {"description", KEY_TEXT, offsetof(struct cg_recipe, description)},
    {"suite", KEY_TEXT, offsetof(struct cg_recipe, suite)},
    {"reason", KEY_TEXT, offsetof(struct cg_recipe, reason)},
    {"aliases", KEY_LIST, offsetof(struct cg_recipe, aliases)},
    {"extra_suites", KEY_LIST, offsetof(struct cg_recipe, extra_suites)},
    {"packages", KEY_LIST, offsetof(struct cg_recipe, packages)},
    {"build_packages", KEY_LIST, offsetof(struct cg_recipe, build_packages)},
    {"npm", KEY_LIST, offsetof(struct cg_recipe, npm)},
    {"pip", KEY_LIST, offsetof(struct cg_recipe, pip)},
    {"run", KEY_LIST, offsetof(struct cg_recipe, run)},
    {"env", KEY_MAP, offsetof(struct cg_recipe, env)},
    {"contents", KEY_CHECKS, 0},
};

struct reader {
    const char *file;
    yaml_document_t *doc;
    struct cg_recipe *recipe;
    struct cg_err *e;
};

static bool bad(const struct reader *r, const yaml_node_t *node, const char *what)
{
    return cg_fail(r->e, CG_INVALID, "%s:%zu: %s", r->file, node->start_mark.line + 1, what);
}

static const char *scalar(const yaml_node_t *node)
{
    if (!node || node->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

static bool take_list(const struct reader *r, const yaml_node_t *node, struct cg_strv *out)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return bad(r, node, "expected a list");
    for (yaml_node_item_t *at = node->data.sequence.items.start; at < node->data.sequence.items.top;
         at++) {
        yaml_node_t *item = yaml_document_get_node(r->doc, *at);
        const char *text = scalar(item);
        if (!text)
            return bad(r, item ? item : node, "expected a list of texts");
        cg_strv_add(out, text);
    }
    return true;
}

/* env gives KEY=VALUE in `out`; with `values` keys and values go to two lists. */
static bool take_map(const struct reader *r, const yaml_node_t *node, struct cg_strv *out,
                     struct cg_strv *values)
{
    if (node->type != YAML_MAPPING_NODE)
        return bad(r, node, "expected names with values");
    for (yaml_node_pair_t *at = node->data.mapping.pairs.start; at < node->data.mapping.pairs.top;
         at++) {
        yaml_node_t *k = yaml_document_get_node(r->doc, at->key);
        const char *key = scalar(k);
        const char *value = scalar(yaml_document_get_node(r->doc, at->value));
        if (!key || !value || strpbrk(key, "= \t\n"))
            return bad(r, k ? k : node, "expected a name with a text");
        if (!values) {
            cg_strv_addf(out, "%s=%s", key, value);
            continue;
        }
        cg_strv_add(out, key);
        cg_strv_add(values, value);
    }
    return true;
}

static bool take_value(const struct reader *r, const struct key *key, const yaml_node_t *node)
{
    void *to = (char *)r->recipe + key->offset;
    switch (key->type) {
    case KEY_TEXT: {
        const char *text = scalar(node);
        char **at = to;
        if (!text || *at)
            return bad(r, node, *at ? "this key is there twice" : "expected a text");
        *at = cg_strdup(text);
        return true;
    }
    case KEY_LIST:
        return take_list(r, node, to);
    case KEY_MAP:
        return take_map(r, node, to, NULL);
    case KEY_CHECKS:
        return take_map(r, node, &r->recipe->check_names, &r->recipe->check_lines);
    }
    return false;
}

static bool take_pair(const struct reader *r, const yaml_node_pair_t *pair)
{
    yaml_node_t *k = yaml_document_get_node(r->doc, pair->key);
    yaml_node_t *v = yaml_document_get_node(r->doc, pair->value);
    const char *name = scalar(k);
    for (size_t i = 0; name && v && i < CG_COUNT(keys); i++)
        if (cg_streq(keys[i].name, name))
            return take_value(r, &keys[i], v);
    CG_OWN(cg_drop_free) char *what = cg_format("unknown key %s", name ? name : "(no text)");
    return bad(r, k, what);
}

bool cg_template_name_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strlen(name);
    return n >= 1 && n <= 64 && strspn(name, allowed) == n && !strchr("._-", name[0]);
}

static bool complete(const struct reader *r)
{
    const struct cg_recipe *p = r->recipe;
    if (!p->name || !cg_template_name_valid(p->name))
        return cg_fail(r->e, CG_INVALID, "%s: name is missing or not of a-z 0-9 . _ -", r->file);
    if (!p->description || !p->suite)
        return cg_fail(r->e, CG_INVALID, "%s: description and suite are needed", r->file);
    for (size_t i = 0; i < p->aliases.n; i++)
        if (!cg_template_name_valid(p->aliases.v[i]))
            return cg_fail(r->e, CG_INVALID, "%s: alias %s is not of a-z 0-9 . _ -", r->file,
                           p->aliases.v[i]);
    return true;
}

bool cg_recipe_parse(const char *file, const char *text, size_t n, struct cg_recipe *out,
                     struct cg_err *e)
{
    *out = (struct cg_recipe){.name = NULL};
    yaml_parser_t parser;
    yaml_document_t doc;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    if (!yaml_parser_load(&parser, &doc)) {
        cg_fail(e, CG_INVALID, "%s:%zu: %s", file, parser.problem_mark.line + 1,
                parser.problem ? parser.problem : "no YAML");
        yaml_parser_delete(&parser);
        return false;
    }
    struct reader r = {.file = file, .doc = &doc, .recipe = out, .e = e};
    yaml_node_t *root = yaml_document_get_root_node(&doc);
    bool ok = root && root->type == YAML_MAPPING_NODE;
    if (!ok)
        cg_fail(e, CG_INVALID, "%s: expected names with values", file);
    for (yaml_node_pair_t *at = ok ? root->data.mapping.pairs.start : NULL;
         ok && at < root->data.mapping.pairs.top; at++)
        ok = take_pair(&r, at);
    ok = ok && complete(&r);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    if (!ok)
        cg_recipe_finish(out);
    return ok;
}

void cg_recipe_finish(struct cg_recipe *r)
{
    for (size_t i = 0; i < CG_COUNT(keys); i++) {
        void *at = (char *)r + keys[i].offset;
        if (keys[i].type == KEY_TEXT)
            free(*(char **)at);
        else if (keys[i].type != KEY_CHECKS)
            cg_strv_finish(at);
    }
    cg_strv_finish(&r->check_names);
    cg_strv_finish(&r->check_lines);
    *r = (struct cg_recipe){.name = NULL};
}

/* What a build depends on besides the recipe: this builder, its scripts, and for recipes that
 * follow the machine the machine's release. */
static bool fingerprint(const struct cg_image_config *c, struct cg_slice text,
                        struct cg_recipe *recipe, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *customize = cg_format("%s/image/customize", c->data_dir);
    CG_OWN(cg_drop_free) char *pack = cg_format("%s/image/pack", c->data_dir);
    CG_OWN(cg_drop_free) char *release = NULL;
    size_t n = 0;
    struct cg_hash h;
    cg_hash_init(&h);
    cg_hash_field(&h, builder_version);
    cg_hash_add(&h, text.p, text.n);
    if (!cg_hash_file(&h, customize, e) || !cg_hash_file(&h, pack, e))
        return false;
    if (cg_streq(recipe->suite, "host")) {
        if (!cg_fs_slurp("/etc/os-release", RECIPE_MAX, &release, &n, e))
            return false;
        const char *line = strstr(release, "VERSION_CODENAME=");
        if (line)
            cg_hash_add(&h, line, strcspn(line, "\n"));
    }
    cg_hash_text(&h, recipe->fingerprint);
    return true;
}

static bool load_one(const struct cg_image_config *c, const char *path, struct cg_recipes *out,
                     struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    struct cg_recipe recipe;
    if (!cg_fs_slurp(path, RECIPE_MAX, &text, &n, e) || !cg_recipe_parse(path, text, n, &recipe, e))
        return false;
    bool ok = fingerprint(c, (struct cg_slice){.p = text, .n = n}, &recipe, e);
    for (size_t i = 0; ok && i < recipe.aliases.n; i++)
        if (cg_recipes_find(out, recipe.aliases.v[i]))
            ok = cg_fail(e, CG_INVALID, "%s: alias %s is used twice", path, recipe.aliases.v[i]);
    if (ok && cg_recipes_find(out, recipe.name))
        ok = cg_fail(e, CG_INVALID, "%s: the name %s is used twice", path, recipe.name);
    if (!ok) {
        cg_recipe_finish(&recipe);
        return false;
    }
    out->v = cg_realloc(out->v, (out->n + 1) * sizeof(*out->v));
    out->v[out->n++] = recipe;
    return true;
}

static int is_recipe(const struct dirent *d)
{
    return d->d_name[0] != '.' && cg_has_suffix(d->d_name, ".yaml");
}

bool cg_recipes_load(const struct cg_image_config *c, struct cg_recipes *out, struct cg_err *e)
{
    *out = (struct cg_recipes){.v = NULL};
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/templates", c->data_dir);
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_recipe, alphasort);
    if (n < 0)
        return cg_fail_sys(e, "read the templates in %s", dir);
    bool ok = n <= RECIPES_MAX ||
              cg_fail(e, CG_TOO_LARGE, "%s holds more than %d recipes", dir, (int)RECIPES_MAX);
    for (int i = 0; i < n; i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, names[i]->d_name);
        ok = ok && load_one(c, path, out, e);
        free(names[i]);
    }
    free(names);
    if (!ok)
        cg_recipes_finish(out);
    return ok;
}

void cg_recipes_finish(struct cg_recipes *r)
{
    for (size_t i = 0; i < r->n; i++)
        cg_recipe_finish(&r->v[i]);
    free(r->v);
    *r = (struct cg_recipes){.v = NULL};
}

const struct cg_recipe *cg_recipes_find(const struct cg_recipes *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (cg_streq(r->v[i].name, name) || cg_strv_has(&r->v[i].aliases, name))
            return &r->v[i];
    return NULL;
}
