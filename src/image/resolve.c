/* cg_image_resolve, and what it found last. A create asks several times, and the whole answer takes
 * some two hundred small reads; it stays right for as long as the files that it was made of do. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "image/agents.h"
#include "image/template.h"

enum { KEPT = 8, WATCHED = 9, SETTLE_S = 1 };

/* What tells one version of a file from the next, without reading it. */
struct seen {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

static struct kept {
    char *asked; /* NULL: free */
    char *images_dir;
    struct seen seen[WATCHED];
    struct cg_image image;
    unsigned long used;
} kept[KEPT];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct seen look(const char *path)
{
    struct stat st;
    if (!path || stat(path, &st) != 0)
        return (struct seen){.ino = 0};
    return (struct seen){st.st_dev, st.st_ino, st.st_size, st.st_ctim};
}

static void look_at(const struct cg_image_config *c, const struct cg_image *i,
                    struct seen out[WATCHED])
{
    CG_OWN(cg_drop_free) char *recipes = cg_format("%s/templates", c->data_dir);
    CG_OWN(cg_drop_free) char *recipe = cg_format("%s/%s.yaml", recipes, i->template.name);
    CG_OWN(cg_drop_free) char *modules = cg_format("%s/guest-modules.txt", c->data_dir);
    CG_OWN(cg_drop_free) char *boot = cg_format("%s/boot.json", c->images_dir);
    CG_OWN(cg_drop_free) char *built = cg_format("%s/templates", c->images_dir);
    CG_OWN(cg_drop_free) char *meta = cg_format("%s/%s.json", built, i->template.name);
    const char *const paths[WATCHED] = {
        recipes,          recipe, modules, boot, built, meta, c->agent_path, i->template.base_path,
        i->initramfs_path};
    memset(out, 0, WATCHED * sizeof *out);
    for (unsigned n = 0; n < WATCHED; n++)
        out[n] = look(paths[n]);
}

static char *copy(const char *text)
{
    return text ? cg_strdup(text) : NULL;
}

static void copy_image(const struct cg_image *from, struct cg_image *to)
{
    const struct cg_template *t = &from->template;
    *to = (struct cg_image){
        .template = {.name = copy(t->name),
                     .description = copy(t->description),
                     .source = copy(t->source),
                     .reason = copy(t->reason),
                     .base_path = copy(t->base_path),
                     .build_id = copy(t->build_id),
                     .built_at = copy(t->built_at),
                     .user = copy(t->user),
                     .workdir = copy(t->workdir),
                     .size_bytes = t->size_bytes,
                     .disk_bytes = t->disk_bytes,
                     .state = t->state,
                     .outdated = t->outdated},
        .kernel_path = copy(from->kernel_path),
        .kernel_version = copy(from->kernel_version),
        .initramfs_path = copy(from->initramfs_path),
        .fingerprint = copy(from->fingerprint),
    };
    cg_strv_add_all(&to->template.aliases, &t->aliases);
    cg_strv_add_all(&to->template.contents, &t->contents);
    cg_strv_add_all(&to->template.env, &t->env);
    cg_strv_add_all(&to->template.registries, &t->registries);
}

static void forget(struct kept *k)
{
    free(k->asked);
    free(k->images_dir);
    cg_image_finish(&k->image);
    *k = (struct kept){.asked = NULL};
}

static bool recall(const struct cg_image_config *c, const char *name, struct cg_image *out)
{
    static unsigned long clock;
    bool found = false;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < KEPT && !found; i++) {
        struct kept *k = &kept[i];
        if (!k->asked || strcmp(k->asked, name) != 0 || strcmp(k->images_dir, c->images_dir) != 0)
            continue;
        struct seen now[WATCHED];
        look_at(c, &k->image, now);
        found = memcmp(now, k->seen, sizeof now) == 0;
        k->used = ++clock;
        if (found)
            copy_image(&k->image, out);
        else
            forget(k);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* A file that changed this very moment may change once more without looking different. */
static bool settled(const struct seen seen[WATCHED])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (unsigned i = 0; i < WATCHED; i++)
        if (seen[i].changed.tv_sec + SETTLE_S >= now.tv_sec)
            return false;
    return true;
}

static void remember(const struct cg_image_config *c, const char *name,
                     const struct cg_image *image)
{
    struct seen seen[WATCHED];
    look_at(c, image, seen);
    if (!settled(seen))
        return;
    pthread_mutex_lock(&lock);
    struct kept *slot = &kept[0];
    for (unsigned i = 0; i < KEPT; i++)
        if (kept[i].used < slot->used)
            slot = &kept[i];
    forget(slot);
    *slot =
        (struct kept){.asked = cg_strdup(name), .images_dir = cg_strdup(c->images_dir), .used = 1};
    copy_image(image, &slot->image);
    memcpy(slot->seen, seen, sizeof seen);
    pthread_mutex_unlock(&lock);
}

bool cg_image_resolve(const struct cg_image_config *c, const char *name, struct cg_image *out,
                      struct cg_err *e)
{
    *out = (struct cg_image){.kernel_path = NULL};
    if (cg_variant_is(name)) /* its base comes this way, too */
        return cg_variant_resolve(c, name, out, e);
    if (recall(c, name, out))
        return true;
    if (!cg_image_resolve_anew(c, name, out, e))
        return false;
    remember(c, name, out);
    return true;
}
