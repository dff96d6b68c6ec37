#include "core/spares.h"

#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/golden.h"

enum { REFILL_MS = 1500, NEXT_MS = 1500 };

static bool fits(const struct cg_creation *n, const struct cg_spec *s)
{
    const struct cg_spec *have = &n->sb->spec;
    return have->cpus == s->cpus && have->memory_mb == s->memory_mb &&
           have->disk_gb == s->disk_gb && cg_streq(have->template_name, s->template_name);
}

void cg_spares_forget(struct cg_core *c, const struct cg_creation *n)
{
    for (unsigned i = 0; i < c->nspares; i++) {
        if (c->spares[i] != n)
            continue;
        c->spares[i] = c->spares[--c->nspares];
        return;
    }
}

/* Templates can have been built anew since: the key knows. */
static bool is_current(const struct cg_creation *n, const struct cg_spec *s)
{
    struct cg_image image = {0};
    struct cg_creation like = {.sb = n->sb};
    struct cg_err e = CG_ERR_INIT;
    if (!cg_image_resolve(&n->sb->core->images, s->template_name, &image, &e))
        return false;
    cg_golden_key(&like, &image);
    cg_image_finish(&image);
    return cg_streq(like.golden_key, n->golden_key);
}

/* Its warden says so by a file: the guest is restored and warm. */
static bool is_warm(const struct cg_creation *n)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(n->sb);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/warm", dir);
    return n->spare_ready && cg_fs_exists(path);
}

struct cg_creation *cg_spares_take(struct cg_core *c, const struct cg_spec *s)
{
    for (unsigned i = 0; i < c->nspares; i++) {
        struct cg_creation *n = c->spares[i];
        if (!fits(n, s) || !is_warm(n))
            continue;
        if (!is_current(n, s)) {
            cg_spares_drop(c, n->golden_key);
            return NULL;
        }
        cg_spares_forget(c, n);
        return n;
    }
    return NULL;
}

/* Its end takes it off the list; until then nobody gets it. */
static void end_spare(struct cg_creation *n)
{
    n->spare_ready = false;
    cg_jail_kill(n->sb);
}

void cg_spares_drop(struct cg_core *c, const char *key)
{
    for (unsigned i = c->nspares; i-- > 0;)
        if (!key || cg_streq(c->spares[i]->golden_key, key))
            end_spare(c->spares[i]);
}

static unsigned have(const struct cg_core *c, const struct cg_spec *like)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->nspares; i++)
        n += fits(c->spares[i], like);
    return n;
}

/* The pool is for what is asked for now: those of another shape go, one at a time. True: one did.
 */
static bool make_room(struct cg_core *c, const struct cg_spec *like)
{
    for (unsigned i = 0; i < c->nspares && c->nspares >= c->options.spares; i++) {
        if (!fits(c->spares[i], like) && c->spares[i]->spare_ready) {
            end_spare(c->spares[i]);
            return true;
        }
    }
    return false;
}

static bool add_one(struct cg_core *c, const struct cg_spec *like)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_spec spec = {
        .cpus = like->cpus, .memory_mb = like->memory_mb, .disk_gb = like->disk_gb};
    cg_strlcpy(spec.template_name, sizeof spec.template_name, like->template_name);
    struct cg_creation *n = cg_creation_spare(c, &spec, &e);
    if (n)
        c->spares[c->nspares++] = n;
    else
        cg_log(CG_LOG_WARN, CG_EVENT("spare.refused"), CG_E(&e));
    return n != NULL;
}

static void on_moment(uv_timer_t *timer)
{
    struct cg_core *c = timer->data;
    const struct cg_spec *like = &c->spare_wish;
    if (c->stopping)
        return;
    bool more = make_room(c, like);
    if (have(c, like) < c->options.spares && c->nspares < CG_SPARES_MAX && add_one(c, like))
        more = true;
    if (more)
        uv_timer_start(timer, on_moment, NEXT_MS, 0);
}

/* Not at once: whoever just got one wants to use it, and making another takes a core for a second.
 */
void cg_spares_want(struct cg_core *c, const struct cg_spec *like)
{
    struct cg_spec *wish = &c->spare_wish;
    if (c->stopping || c->options.spares == 0)
        return;
    *wish = (struct cg_spec){
        .cpus = like->cpus, .memory_mb = like->memory_mb, .disk_gb = like->disk_gb};
    cg_strlcpy(wish->template_name, sizeof wish->template_name, like->template_name);
    if (!uv_is_active((uv_handle_t *)&c->spare_timer))
        uv_timer_start(&c->spare_timer, on_moment, REFILL_MS, 0);
}

void cg_spares_start(struct cg_core *c)
{
    uv_timer_init(c->loop, &c->spare_timer);
    c->spare_timer.data = c;
    uv_unref((uv_handle_t *)&c->spare_timer);
}

void cg_spares_finish(struct cg_core *c)
{
    cg_spares_drop(c, NULL);
    if (c->spare_timer.loop)
        uv_close((uv_handle_t *)&c->spare_timer, NULL);
}
