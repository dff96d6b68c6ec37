/* Reads recipes. What is written in one stands in docs/images.md. */
#include "image/recipe.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "image/hash.h"
#include "image/yamlmap.h"

enum { RECIPE_MAX = 65536, RECIPES_MAX = 256 };

/* Counts up when builds of unchanged recipes would give something else. */
static const char builder_version[] = "template 1";

static const struct cg_yaml_key keys[] = {
    {"name", CG_YAML_TEXT, offsetof(struct cg_recipe, name)},
    {"description", CG_YAML_TEXT, offsetof(struct cg_recipe, description)},
    {"suite", CG_YAML_TEXT, offsetof(struct cg_recipe, suite)},
    {"reason", CG_YAML_TEXT, offsetof(struct cg_recipe, reason)},
    {"aliases", CG_YAML_LIST, offsetof(struct cg_recipe, aliases)},
    {"extra_suites", CG_YAML_LIST, offsetof(struct cg_recipe, extra_suites)},
    {"packages", CG_YAML_LIST, offsetof(struct cg_recipe, packages)},
    {"build_packages", CG_YAML_LIST, offsetof(struct cg_recipe, build_packages)},
    {"npm", CG_YAML_LIST, offsetof(struct cg_recipe, npm)},
    {"pip", CG_YAML_LIST, offsetof(struct cg_recipe, pip)},
    {"run", CG_YAML_LIST, offsetof(struct cg_recipe, run)},
    {"env", CG_YAML_MAP, offsetof(struct cg_recipe, env)},
    {"contents", CG_YAML_PAIRS, offsetof(struct cg_recipe, check_names)},
};

bool cg_template_name_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strlen(name);
    return n >= 1 && n <= 64 && strspn(name, allowed) == n && !strchr("._-", name[0]);
}

static bool complete(const char *file, const struct cg_recipe *p, struct cg_err *e)
{
    if (!p->name || !cg_template_name_valid(p->name))
        return cg_fail(e, CG_INVALID, "%s: name is missing or not of a-z 0-9 . _ -", file);
    if (!p->description || !p->suite)
        return cg_fail(e, CG_INVALID, "%s: description and suite are needed", file);
    for (size_t i = 0; i < p->aliases.n; i++)
        if (!cg_template_name_valid(p->aliases.v[i]))
            return cg_fail(e, CG_INVALID, "%s: alias %s is not of a-z 0-9 . _ -", file,
                           p->aliases.v[i]);
    return true;
}

bool cg_recipe_parse(const char *file, const char *text, size_t n, struct cg_recipe *out,
                     struct cg_err *e)
{
    *out = (struct cg_recipe){.name = NULL};
    if (cg_yaml_read(file, (struct cg_slice){text, n}, keys, CG_COUNT(keys), out, e) &&
        complete(file, out, e))
        return true;
    cg_recipe_finish(out);
    return false;
}

void cg_recipe_finish(struct cg_recipe *r)
{
    cg_yaml_finish(keys, CG_COUNT(keys), r);
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
