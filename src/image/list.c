/* Lists and finds templates: recipes joined with what was built of them, and imported images. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/jsonw.h"
#include "image/agents.h"
#include "image/hash.h"
#include "image/kernel.h"
#include "image/template.h"

enum { TEMPLATES_MAX = 1024 };

static struct cg_template *add(struct cg_template_list *l)
{
    l->v = cg_realloc(l->v, (l->n + 1) * sizeof(*l->v));
    l->v[l->n] = (struct cg_template){.name = NULL};
    return &l->v[l->n++];
}

static void replace(char **text, const char *with)
{
    free(*text);
    *text = with ? cg_strdup(with) : NULL;
}

/* A recipe whose template is not there: why. */
static void judge_absent(const struct cg_image_config *c, const struct cg_recipe *r,
                         struct cg_template *t)
{
    bool unavailable = false;
    t->state = CG_TEMPLATE_ABSENT;
    t->reason = cg_recipe_obstacle(r);
    if (t->reason) {
        t->state = CG_TEMPLATE_UNAVAILABLE;
        return;
    }
    CG_OWN(cg_drop_free) char *lock = cg_format("template-%s", r->name);
    if (cg_imagedir_locked(c, lock)) {
        t->state = CG_TEMPLATE_BUILDING;
        return;
    }
    t->reason = cg_template_failure(c, r->name, &unavailable);
    if (t->reason)
        t->state = unavailable ? CG_TEMPLATE_UNAVAILABLE : CG_TEMPLATE_FAILED;
}

/* An import under the name of a recipe that cannot be built here keeps what it says of itself. */
static void add_recipe(const struct cg_image_config *c, const struct cg_recipe *r,
                       struct cg_template_list *l)
{
    struct cg_template *t = add(l);
    struct cg_err absent = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *fingerprint = NULL;
    bool there =
        cg_template_load(c, r->name, t, &fingerprint, &absent) && t->state == CG_TEMPLATE_READY;
    if (!there) {
        cg_template_finish(t);
        judge_absent(c, r, t);
        cg_strv_add_all(&t->contents, &r->check_names);
    }
    replace(&t->name, r->name);
    cg_strv_finish(&t->aliases);
    cg_strv_add_all(&t->aliases, &r->aliases);
    if (there && cg_streq(t->source, "oci"))
        return;
    t->outdated = there && !cg_streq(fingerprint, r->fingerprint);
    replace(&t->description, r->description);
    replace(&t->source, "recipe");
    cg_strv_finish(&t->env);
    cg_strv_add_all(&t->env, &r->env);
}

static int is_meta(const struct dirent *d)
{
    return d->d_name[0] != '.' && cg_has_suffix(d->d_name, ".json") &&
           !cg_has_suffix(d->d_name, ".failed.json");
}

static void add_imported(const struct cg_image_config *c, const struct cg_recipes *recipes,
                         struct cg_template_list *l)
{
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/templates", c->images_dir);
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_meta, alphasort);
    for (int i = 0; i < n; i++) {
        CG_OWN(cg_drop_free)
        char *name = cg_strndup(names[i]->d_name, strlen(names[i]->d_name) - strlen(".json"));
        free(names[i]);
        if (cg_recipes_find(recipes, name) || l->n >= TEMPLATES_MAX || cg_variant_is(name))
            continue;
        struct cg_err damaged = CG_ERR_INIT;
        struct cg_template *t = add(l);
        if (!cg_template_load(c, name, t, NULL, &damaged) || t->state != CG_TEMPLATE_READY) {
            cg_template_finish(t);
            l->n--;
        }
    }
    free(names);
}

bool cg_image_list(const struct cg_image_config *c, struct cg_template_list *out, struct cg_err *e)
{
    struct cg_recipes recipes;
    *out = (struct cg_template_list){.v = NULL};
    if (!cg_recipes_load(c, &recipes, e))
        return false;
    for (size_t i = 0; i < recipes.n; i++)
        add_recipe(c, &recipes.v[i], out);
    add_imported(c, &recipes, out);
    cg_recipes_finish(&recipes);
    return true;
}

static bool unknown(const struct cg_template_list *l, const char *name, struct cg_err *e)
{
    CG_OWN(cg_strv_finish) struct cg_strv names = {.v = NULL};
    for (size_t i = 0; i < l->n; i++) {
        cg_strv_add(&names, l->v[i].name);
        cg_strv_add_all(&names, &l->v[i].aliases);
    }
    CG_OWN(cg_drop_free) char *all = cg_strv_join(&names, ", ");
    return cg_fail(e, CG_INVALID, "there is no template %.64s; valid are: %s", name, all);
}

static bool refuse(const struct cg_template *t, struct cg_err *e)
{
    switch (t->state) {
    case CG_TEMPLATE_READY:
        return true;
    case CG_TEMPLATE_UNAVAILABLE:
        return cg_fail(e, CG_UNAVAILABLE, "template %s cannot be had on this machine: %s", t->name,
                       t->reason);
    case CG_TEMPLATE_BUILDING:
        return cg_fail(e, CG_UNAVAILABLE, "template %s is being built; try again when it is done",
                       t->name);
    case CG_TEMPLATE_FAILED:
        return cg_fail(e, CG_UNAVAILABLE, "template %s could not be built: %s", t->name, t->reason);
    case CG_TEMPLATE_ABSENT:
        break;
    }
    return cg_fail(e, CG_UNAVAILABLE, "template %s is not built; run: caged image build %s",
                   t->name, t->name);
}

/* True when boot.json names the initramfs of the agent as it is now. */
static bool is_fresh(const struct cg_image_config *c, const struct cg_boot *boot)
{
    struct cg_err ignored = CG_ERR_INIT;
    char id[CG_HASH_TEXT];
    return boot->initramfs_id && cg_fs_exists(boot->initramfs_path) &&
           cg_initramfs_id(c, boot->kernel_version, id, &ignored) &&
           cg_streq(boot->initramfs_id, id);
}

/* What is current, without waiting for anybody; only a new agent needs a build, and where we may
 * not write the initramfs that is there must do. */
static bool load_boot(const struct cg_image_config *c, struct cg_boot *boot, struct cg_err *e)
{
    static const struct cg_image_build quiet = {.templates = NULL};
    struct cg_err why = CG_ERR_INIT;
    struct cg_task t;
    if (!cg_boot_load(c, boot, e))
        return e->code == CG_NOT_FOUND
                   ? cg_fail(e, CG_UNAVAILABLE, "no kernel in %s; run: caged image build",
                             c->images_dir)
                   : false;
    if (is_fresh(c, boot))
        return true;
    cg_task_init(&t, c, &quiet, "initramfs");
    bool built = cg_initramfs_build(&t, &why);
    if (built) {
        cg_boot_finish(boot);
        return cg_boot_load(c, boot, e);
    }
    if (boot->initramfs_path && cg_fs_exists(boot->initramfs_path))
        return true;
    *e = why;
    return cg_wrap(e, "initramfs");
}

/* Moves what belongs to the image out of its template and boot files. */
static void take_image(struct cg_template *t, struct cg_boot *boot, struct cg_image *out)
{
    struct cg_hash h;
    char text[CG_HASH_TEXT];
    cg_hash_init(&h);
    cg_hash_field(&h, t->build_id);
    cg_hash_field(&h, boot->kernel_id);
    cg_hash_field(&h, boot->initramfs_id);
    cg_hash_text(&h, text);
    out->fingerprint = cg_strndup(text, 32);
    out->template = *t;
    *t = (struct cg_template){.name = NULL};
    out->kernel_path = CG_MOVE(boot->kernel_path);
    out->kernel_version = CG_MOVE(boot->kernel_version);
    out->initramfs_path = CG_MOVE(boot->initramfs_path);
}

bool cg_image_resolve_anew(const struct cg_image_config *c, const char *name, struct cg_image *out,
                           struct cg_err *e)
{
    struct cg_template_list list;
    struct cg_boot boot = {.kernel_path = NULL};
    *out = (struct cg_image){.kernel_path = NULL};
    if (!cg_image_list(c, &list, e))
        return false;
    struct cg_template *found = NULL;
    for (size_t i = 0; i < list.n && !found; i++)
        if (cg_streq(list.v[i].name, name) || cg_strv_has(&list.v[i].aliases, name))
            found = &list.v[i];
    bool ok = found ? refuse(found, e) && load_boot(c, &boot, e) : unknown(&list, name, e);
    if (ok && found)
        take_image(found, &boot, out);
    cg_boot_finish(&boot);
    cg_template_list_finish(&list);
    return ok;
}

static void put_texts(struct cg_jsonw *w, const char *key, const struct cg_strv *list)
{
    cg_jsonw_key(w, key);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < list->n; i++)
        cg_jsonw_str(w, list->v[i]);
    cg_jsonw_arr_end(w);
}

void cg_template_json(struct cg_jsonw *w, const struct cg_template *t)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", t->name);
    put_texts(w, "aliases", &t->aliases);
    cg_jsonw_kstr(w, "description", t->description);
    cg_jsonw_kstr(w, "state", cg_template_state_name(t->state));
    cg_jsonw_kstr(w, "reason", t->reason);
    put_texts(w, "contents", &t->contents);
    cg_jsonw_kint(w, "size_bytes", t->size_bytes);
    cg_jsonw_kint(w, "disk_bytes", t->disk_bytes);
    cg_jsonw_kstr(w, "source", t->source);
    cg_jsonw_kstr(w, "built_at", t->built_at);
    cg_jsonw_kbool(w, "outdated", t->outdated);
    put_texts(w, "env", &t->env);
    put_texts(w, "registries", &t->registries);
    cg_jsonw_obj_end(w);
}
