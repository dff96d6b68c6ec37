#include "core/seals.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/core.h"

enum { EVERY_MS = 30000 };

char *cg_seals_memory(const struct cg_core *c, const char *id)
{
    return cg_format("%s/seals/%s.seal", c->options.state_dir, id);
}

static void next(struct cg_seals *s, struct cg_sandbox *sb);

static void on_sealed(uv_work_t *work, int status)
{
    struct cg_seals *s = CG_CONTAINER(work, struct cg_seals, work);
    struct cg_sandbox *sb = s->at;
    (void)status;
    free(CG_MOVE(s->record));
    free(CG_MOVE(s->memory));
    /* an ended one has moved to the archive, which has sealed it */
    if (!s->fine && s->err.code != CG_NOT_FOUND)
        cg_log(CG_LOG_ERROR, CG_EVENT("record.seal_failed"), CG_S("id", sb->id), CG_E(&s->err));
    if (s->core)
        next(s, sb->next);
}

static void seal(uv_work_t *work)
{
    struct cg_seals *s = CG_CONTAINER(work, struct cg_seals, work);
    const struct cg_sealer_options o = {s->record, s->memory, &s->key, s->limit};
    s->err = (struct cg_err)CG_ERR_INIT;
    s->fine = cg_seal_run(&o, &s->err);
}

static void on_status(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct cg_seals *s = CG_CONTAINER(call, struct cg_seals, call);
    int64_t durable = cg_json_int(result, "durable_seq", 0);
    struct cg_sandbox *sb = s->at;
    if (error || durable <= 0 || durable >= INT64_MAX / 2) {
        next(s, sb->next);
        return;
    }
    s->limit = (uint64_t)durable;
    s->record = cg_sandbox_record_dir(sb);
    s->memory = cg_seals_memory(s->core, sb->id);
    CG_ASSERT(uv_queue_work(s->core->loop, &s->work, seal, on_sealed) == 0);
}

/* The next one from here on that lives; the round ends behind the last. */
static void next(struct cg_seals *s, struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    s->at = NULL;
    for (; sb && !s->core->stopping; sb = sb->next) {
        if (!cg_sandbox_usable(sb, &e))
            continue;
        s->at = sb;
        s->call = (struct cg_wcall){.on_close = on_status};
        if (cg_wcall_open(sb->warden, &s->call, cg_slice_of("{\"kind\":\"status\"}"), &e))
            return;
        s->at = NULL;
    }
}

static void on_timer(uv_timer_t *t)
{
    struct cg_seals *s = t->data;
    if (!s->at)
        next(s, s->core->first);
}

bool cg_seals_start(struct cg_core *c, struct cg_err *e)
{
    struct cg_seals *s = &c->seals;
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/seals", c->options.state_dir);
    s->core = c;
    if (!cg_fs_mkdirs(dir, 0750, e) || !cg_seal_key_load(c->options.state_dir, &s->key, e))
        return false;
    uv_timer_init(c->loop, &s->timer);
    s->timer.data = s;
    uv_timer_start(&s->timer, on_timer, EVERY_MS, EVERY_MS);
    uv_unref((uv_handle_t *)&s->timer);
    return true;
}

void cg_seals_stop(struct cg_core *c)
{
    cg_wcall_forget(&c->seals.call);
    if (c->seals.core)
        uv_close((uv_handle_t *)&c->seals.timer, NULL);
    c->seals.core = NULL;
}
