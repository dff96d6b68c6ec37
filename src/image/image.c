/* The library's front: where things are, what there is, what a template boots with, and the order
 * in which a build does its parts. */
#include "image/image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/agents.h"
#include "image/hash.h"
#include "image/kernel.h"
#include "image/template.h"

static char *default_state_dir(void)
{
    const char *state = getenv("CAGED_STATE_DIR");
    if (state && *state)
        return cg_strdup(state);
    if (geteuid() == 0)
        return cg_strdup("/var/lib/caged");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (xdg && *xdg)
        return cg_format("%s/caged", xdg);
    return cg_format("%s/.local/state/caged", home ? home : "");
}

/* The first of `names` below `base` that is there, or the first as the place to complain about. */
static char *first_of(const char *base, const char *const *names, size_t n, const char *probe)
{
    for (size_t i = 0; i < n; i++) {
        CG_OWN(cg_drop_free) char *full = cg_format("%s/%s%s", base, names[i], probe);
        if (cg_fs_exists(full))
            return cg_format("%s/%s", base, names[i]);
    }
    return cg_format("%s/%s", base, names[0]);
}

void cg_image_config_init(struct cg_image_config *c, const char *state_dir)
{
    /* bin/caged and libexec/caged/… when installed, build/src/bin/… in the build folder. */
    static const char *const data[] = {"../share/caged", "../share/caged/data", "../../share/caged",
                                       "../../share/caged/data", "../../../data"};
    static const char *const agent[] = {"../libexec/caged/caged-agent", "caged-agent",
                                        "../../guest/caged-agent", "../../guest/agent/caged-agent"};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    const char *images = getenv("CAGED_IMAGE_DIR");
    const char *data_dir = getenv("CAGED_DATA_DIR");
    const char *libexec = getenv("CAGED_LIBEXEC_DIR");
    CG_OWN(cg_drop_free) char *state = state_dir ? cg_strdup(state_dir) : default_state_dir();
    c->own_dir = NULL;
    c->images_dir = images && *images ? cg_strdup(images) : cg_format("%s/images", state);
    c->data_dir = data_dir && *data_dir ? cg_strdup(data_dir)
                                        : first_of(self, data, CG_COUNT(data), "/templates");
    c->agent_path = libexec && *libexec ? cg_format("%s/caged-agent", libexec)
                                        : first_of(self, agent, CG_COUNT(agent), "");
}

void cg_image_config_finish(struct cg_image_config *c)
{
    free(c->images_dir);
    free(c->own_dir);
    free(c->data_dir);
    free(c->agent_path);
    *c = (struct cg_image_config){.images_dir = NULL};
}

const char *cg_template_state_name(enum cg_template_state s)
{
    switch (s) {
    case CG_TEMPLATE_ABSENT:
        return "absent";
    case CG_TEMPLATE_READY:
        return "ready";
    case CG_TEMPLATE_BUILDING:
        return "building";
    case CG_TEMPLATE_UNAVAILABLE:
        return "unavailable";
    case CG_TEMPLATE_FAILED:
        return "failed";
    }
    return "absent";
}

void cg_template_finish(struct cg_template *t)
{
    char *texts[] = {t->name,     t->description, t->source, t->reason, t->base_path,
                     t->build_id, t->built_at,    t->user,   t->workdir};
    for (size_t i = 0; i < CG_COUNT(texts); i++)
        free(texts[i]);
    cg_strv_finish(&t->aliases);
    cg_strv_finish(&t->contents);
    cg_strv_finish(&t->env);
    cg_strv_finish(&t->registries);
    *t = (struct cg_template){.name = NULL};
}

void cg_template_list_finish(struct cg_template_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        cg_template_finish(&l->v[i]);
    free(l->v);
    *l = (struct cg_template_list){.v = NULL};
}

void cg_image_finish(struct cg_image *i)
{
    cg_template_finish(&i->template);
    free(i->kernel_path);
    free(i->kernel_version);
    free(i->initramfs_path);
    free(i->fingerprint);
    *i = (struct cg_image){.kernel_path = NULL};
}

static bool build_boot(const struct cg_image_config *c, const struct cg_image_build *b,
                       struct cg_err *e)
{
    struct cg_task kernel, initramfs, writable;
    cg_task_init(&kernel, c, b, "kernel");
    if (!cg_kernel_build(&kernel, b->force, e))
        return false;
    cg_task_init(&initramfs, c, b, "initramfs");
    cg_task_init(&writable, c, b, "writable");
    return cg_initramfs_build(&initramfs, e) && cg_writable_build(&writable, e);
}

/* The recipe of a template, with agents or without. */
static const struct cg_recipe *recipe_of(const struct cg_recipes *recipes, const char *name)
{
    CG_OWN(cg_drop_free) char *base = cg_strndup(name, strcspn(name, "+"));
    return cg_recipes_find(recipes, base);
}

bool cg_image_build(const struct cg_image_config *c, const struct cg_image_build *b,
                    struct cg_err *e)
{
    struct cg_recipes recipes;
    if (!cg_recipes_load(c, &recipes, e))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && b->templates && b->templates[i]; i++)
        if (!recipe_of(&recipes, b->templates[i]))
            ok = cg_fail(e, CG_INVALID, "there is no template %s", b->templates[i]);
    ok = ok && cg_imagedir_open(c, e) && build_boot(c, b, e);
    for (size_t i = 0; ok && b->templates && b->templates[i]; i++) {
        const struct cg_recipe *r = recipe_of(&recipes, b->templates[i]);
        struct cg_task task;
        cg_task_init(&task, c, b, r->name);
        ok = cg_template_build(&task, r, b->force, e) &&
             (!cg_variant_is(b->templates[i]) ||
              cg_variant_build(c, b->templates[i], b->progress, b->ctx, e));
    }
    cg_recipes_finish(&recipes);
    return ok;
}
