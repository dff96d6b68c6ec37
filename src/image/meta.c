/* templates/NAME.json: the pointer to a template's base image, with all that a sandbox or a list
 * needs to know of it. Written last in a build and replaced atomically; what it points to never
 * changes. Versions live in templates/NAME/<build id>/; the one before is kept, for sandboxes that
 * were just being started from it. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "image/template.h"

enum { META_MAX = 262144 };

static void drop_json(struct cg_json **j)
{
    cg_json_destroy(*j);
}

static void put_list(struct cg_jsonw *w, const char *key, const struct cg_strv *list)
{
    cg_jsonw_key(w, key);
    cg_jsonw_arr(w);
    for (size_t i = 0; list && i < list->n; i++)
        cg_jsonw_str(w, list->v[i]);
    cg_jsonw_arr_end(w);
}

static void put_meta(struct cg_buf *text, const struct cg_template_meta *m, const char *build_id,
                     const struct cg_strv *registries, const struct stat *st)
{
    char now[CG_TIME_TEXT];
    struct cg_jsonw w;
    cg_time_format(cg_wall_ns(), now);
    cg_jsonw_init(&w, text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "name", m->name);
    cg_jsonw_kstr(&w, "description", m->description);
    cg_jsonw_kstr(&w, "source", m->source);
    cg_jsonw_kstr(&w, "fingerprint", m->fingerprint);
    cg_jsonw_kstr(&w, "build_id", build_id);
    cg_jsonw_kstr(&w, "built_at", now);
    cg_jsonw_kstr(&w, "user", m->user);
    cg_jsonw_kstr(&w, "workdir", m->workdir);
    cg_jsonw_kint(&w, "size_bytes", st->st_size);
    cg_jsonw_kint(&w, "disk_bytes", (int64_t)st->st_blocks * 512);
    put_list(&w, "aliases", m->aliases);
    put_list(&w, "contents", m->contents);
    put_list(&w, "env", m->env);
    put_list(&w, "registries", registries);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(text, '\n');
}

/* Removes versions but the newest and the one that was current before it. */
static void prune(const char *dir, const char *keep, const char *before)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir(dir);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (entry->d_name[0] == '.' || cg_streq(entry->d_name, keep) ||
            cg_streq(entry->d_name, before))
            continue;
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, entry->d_name);
        struct cg_err ignored = CG_ERR_INIT;
        if (!cg_fs_remove_tree(path, &ignored)) {
            /* Costs disk, harms nothing; the next build tries again. */
        }
    }
}

static void forget_failure(const struct cg_image_config *c, const char *name)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/templates/%s.failed.json", c->images_dir, name);
    unlink(path);
}

bool cg_template_commit(const struct cg_image_config *c, const char *base,
                        const struct cg_template_meta *m, struct cg_err *e)
{
    char id[CG_ID_TEXT];
    cg_id_make("x", id);
    CG_OWN(cg_drop_free) char *build_id = cg_format("%.12s-%s", m->fingerprint, id + 2);
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/templates/%s", c->images_dir, m->name);
    CG_OWN(cg_drop_free) char *to = cg_format("%s/%s/base.ext4", dir, build_id);
    CG_OWN(cg_drop_free) char *json = cg_format("%s/templates/%s.json", c->images_dir, m->name);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_template old = {.name = NULL};
    struct cg_err ignored = CG_ERR_INIT;
    struct stat st;
    cg_buf_init(&text, META_MAX);
    if (!cg_imagedir_commit(base, to, e))
        return false;
    if (stat(to, &st) != 0)
        return cg_fail_sys(e, "look at %s", to);
    CG_OWN(cg_strv_finish) struct cg_strv registries = {.v = NULL};
    cg_template_registries(to, m->env, &registries);
    bool had = cg_template_load(c, m->name, &old, NULL, &ignored);
    put_meta(&text, m, build_id, &registries, &st);
    bool ok = !text.full || cg_fail(e, CG_TOO_LARGE, "template %s has too much metadata", m->name);
    ok = ok && cg_fs_replace(json, text.p, text.n, 0644, e);
    if (ok) {
        forget_failure(c, m->name);
        prune(dir, build_id, had ? old.build_id : NULL);
    }
    cg_template_finish(&old);
    return ok;
}

static void take_list(const struct cg_json *j, const char *key, struct cg_strv *out)
{
    const struct cg_json *list = cg_json_get(j, key);
    for (const struct cg_json *at = list ? list->child : NULL; at; at = at->next)
        if (at->type == CG_JSON_STR)
            cg_strv_addn(out, at->str.p, at->str.n);
}

static char *take_text(const struct cg_json *j, const char *key)
{
    const char *text = cg_json_str(j, key);
    return text ? cg_strdup(text) : NULL;
}

bool cg_template_load(const struct cg_image_config *c, const char *name, struct cg_template *out,
                      char **fingerprint, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/templates/%s.json", c->images_dir, name);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    *out = (struct cg_template){.name = NULL};
    if (!cg_fs_slurp(path, META_MAX, &text, &n, e))
        return false;
    CG_OWN(drop_json)
    struct cg_json *j = cg_json_parse((struct cg_slice){.p = text, .n = n}, NULL, e);
    const char *build_id = cg_json_str(j, "build_id");
    if (!build_id || !cg_json_str(j, "name"))
        return cg_fail(e, CG_IO, "%s is damaged; build the template again", path);
    out->name = take_text(j, "name");
    out->description = take_text(j, "description");
    out->source = take_text(j, "source");
    out->build_id = cg_strdup(build_id);
    out->built_at = take_text(j, "built_at");
    out->user = take_text(j, "user");
    out->workdir = take_text(j, "workdir");
    out->size_bytes = cg_json_int(j, "size_bytes", 0);
    out->disk_bytes = cg_json_int(j, "disk_bytes", 0);
    take_list(j, "aliases", &out->aliases);
    take_list(j, "contents", &out->contents);
    take_list(j, "env", &out->env);
    take_list(j, "registries", &out->registries);
    out->base_path = cg_format("%s/templates/%s/%s/base.ext4", c->images_dir, name, build_id);
    out->state = cg_fs_exists(out->base_path) ? CG_TEMPLATE_READY : CG_TEMPLATE_ABSENT;
    if (fingerprint)
        *fingerprint = take_text(j, "fingerprint");
    return true;
}

void cg_template_complete(const struct cg_image_config *c, const char *name)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/templates/%s.json", c->images_dir, name);
    CG_OWN(cg_drop_free) char *old = NULL;
    CG_OWN(cg_strv_finish) struct cg_strv registries = {.v = NULL};
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_template t;
    struct cg_jsonw w;
    cg_buf_init(&text, META_MAX);
    bool loaded = cg_template_load(c, name, &t, NULL, NULL);
    if (loaded && cg_fs_slurp(path, META_MAX, &old, NULL, NULL)) {
        CG_OWN(drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(old), NULL, NULL);
        if (j && !cg_json_get(j, "registries")) {
            cg_template_registries(t.base_path, &t.env, &registries);
            cg_jsonw_init(&w, &text);
            cg_jsonw_obj(&w);
            for (const struct cg_json *m = j->child; m; m = m->next) {
                cg_jsonw_keyn(&w, m->key.p, m->key.n);
                cg_jsonw_value(&w, m);
            }
            put_list(&w, "registries", &registries);
            cg_jsonw_obj_end(&w);
            cg_buf_addc(&text, '\n');
            if (text.full || !cg_fs_replace(path, text.p, text.n, 0644, NULL)) {
                /* it names none, then; the next build tries again */
            }
        }
    }
    if (loaded)
        cg_template_finish(&t);
}

void cg_template_note_failure(const struct cg_image_config *c, const char *name,
                              const struct cg_err *why)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/templates/%s.failed.json", c->images_dir, name);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_jsonw w;
    struct cg_err ignored = CG_ERR_INIT;
    cg_buf_init(&text, META_MAX);
    cg_jsonw_init(&w, &text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "code", cg_code_name(why->code));
    cg_jsonw_kstr(&w, "reason", why->text);
    cg_jsonw_obj_end(&w);
    if (!cg_fs_replace(path, text.p, text.n, 0644, &ignored)) {
        /* The caller reports the failure itself; this is for later listings. */
    }
}

char *cg_template_failure(const struct cg_image_config *c, const char *name, bool *unavailable)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/templates/%s.failed.json", c->images_dir, name);
    CG_OWN(cg_drop_free) char *text = NULL;
    struct cg_err absent = CG_ERR_INIT;
    size_t n = 0;
    *unavailable = false;
    if (!cg_fs_slurp(path, META_MAX, &text, &n, &absent))
        return NULL;
    CG_OWN(drop_json)
    struct cg_json *j = cg_json_parse((struct cg_slice){.p = text, .n = n}, NULL, &absent);
    *unavailable = cg_streq(cg_json_str(j, "code"), cg_code_name(CG_UNAVAILABLE));
    return take_text(j, "reason");
}
