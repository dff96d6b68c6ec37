#include "core/replay.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/money.h"
#include "core/core.h"
#include "core/scores.h"
#include "record/index.h"

enum { EVERY_MS = 3000 };

char *cg_replay_dir(const struct cg_core *c, const char *id)
{
    return cg_format("%s/index/%s", c->options.state_dir, id);
}

/* --- sessions in memory --- */

static void take_row(struct cg_core *c, const struct cg_sandbox *sb,
                     const struct cg_session_row *row)
{
    struct cg_agent_session *s = cg_map_get(&c->replay.by_id, row->id);
    /* a warden names ids by itself: those of another sandbox are not its to speak of */
    if (s && strcmp(s->sandbox, sb->id) != 0)
        return;
    if (!s) {
        s = cg_alloc(sizeof *s);
        cg_strlcpy(s->sandbox, sizeof s->sandbox, sb->id);
        cg_strlcpy(s->account, sizeof s->account, sb->account);
        cg_map_put(&c->replay.by_id, row->id, s);
    }
    s->row = *row;
}

struct cg_agent_session *cg_replay_find(struct cg_core *c, const char *account, const char *id)
{
    struct cg_agent_session *s = cg_map_get(&c->replay.by_id, id);
    return s && cg_streq(s->account, account) ? s : NULL;
}

static int newest_first(const void *a, const void *b)
{
    const struct cg_agent_session *const *x = a;
    const struct cg_agent_session *const *y = b;
    if ((*x)->row.opened_wall != (*y)->row.opened_wall)
        return (*x)->row.opened_wall < (*y)->row.opened_wall ? 1 : -1;
    return strcmp((*x)->row.id, (*y)->row.id);
}

struct cg_agent_session **cg_replay_list(struct cg_core *c, const char *account,
                                         const char *sandbox, size_t *n)
{
    struct cg_agent_session **all =
        cg_alloc_array(c->replay.by_id.count + 1, sizeof(struct cg_agent_session *));
    size_t at = 0;
    const char *id;
    void *value;
    *n = 0;
    while (cg_map_next(&c->replay.by_id, &at, &id, &value)) {
        struct cg_agent_session *s = value;
        if (cg_streq(s->account, account) && (!sandbox || cg_streq(s->sandbox, sandbox)))
            all[(*n)++] = s;
    }
    qsort(all, *n, sizeof(struct cg_agent_session *), newest_first);
    return all;
}

static void put_time(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall > 0 ? text : NULL);
}

static void put_text(struct cg_jsonw *w, const char *key, const char *text)
{
    cg_jsonw_kstr(w, key, text[0] ? text : NULL);
}

void cg_agent_session_write(const struct cg_core *c, const struct cg_agent_session *s,
                            struct cg_jsonw *w)
{
    const struct cg_sandbox *sb = cg_map_get(&c->by_id, s->sandbox);
    int score = sb ? cg_score_of(sb, s->row.id) : -1;
    const struct cg_session_row *r = &s->row;
    bool active = r->status == CG_SESSION_ACTIVE;
    int64_t end = active ? CG_MAX(cg_wall_ns(), r->opened_wall) : r->closed_wall;
    double total = cg_money_usd(cg_money_add(r->llm_nusd, r->compute_nusd));
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", r->id);
    cg_jsonw_kstr(w, "sandbox_id", s->sandbox);
    cg_jsonw_kstr(w, "persona_id", NULL);
    cg_jsonw_kstr(w, "status", cg_session_status_name(r->status));
    cg_jsonw_kstr(w, "kind", r->kind);
    put_text(w, "agent_type", r->agent);
    put_text(w, "model", r->model);
    put_text(w, "api", r->api);
    put_text(w, "user_agent", r->user_agent);
    put_text(w, "opened_by", r->how);
    put_text(w, "exec_id", r->exec_id);
    put_text(w, "reason", r->reason);
    if (r->has_exit)
        cg_jsonw_kint(w, "exit_code", r->exit_code);
    cg_jsonw_kint(w, "tokens_in", r->tokens_in);
    cg_jsonw_kint(w, "tokens_out", r->tokens_out);
    cg_jsonw_kuint(w, "llm_calls", r->calls);
    cg_jsonw_knum(w, "cost_usd", total);
    cg_jsonw_knum(w, "llm_cost", cg_money_usd(r->llm_nusd));
    cg_jsonw_knum(w, "compute_cost", cg_money_usd(r->compute_nusd));
    cg_jsonw_knum(w, "total_cost", total);
    cg_jsonw_key(w, "trust_score");
    if (score < 0)
        cg_jsonw_null(w);
    else
        cg_jsonw_int(w, score);
    cg_jsonw_kuint(w, "event_count", r->events);
    cg_jsonw_kuint(w, "first_seq", r->first_seq);
    cg_jsonw_kuint(w, "last_seq", r->last_seq);
    cg_jsonw_knum(w, "duration_ms",
                  active ? (double)(end - r->opened_wall) / 1e6
                         : (double)(r->closed_t - r->opened_t) / 1e6);
    put_time(w, "started_at", r->opened_wall);
    put_time(w, "ended_at", active ? 0 : r->closed_wall);
    cg_jsonw_obj_end(w);
}

/* --- bringing an index up to date --- */

struct refresh {
    struct cg_core *core;
    char id[CG_ID_TEXT];
    uv_work_t work;
    struct cg_wcall call;
    char *dir, *record;
    uint64_t limit; /* 0: what there is, is what there is */
    bool ended;     /* nothing comes behind it */
    struct cg_session_row *rows;
    size_t nrows;
    uint64_t count;
    struct cg_err err;
    cg_replay_done *done;
    void *ctx;
};

static void update(uv_work_t *work)
{
    struct refresh *f = CG_CONTAINER(work, struct refresh, work);
    if (f->limit == 0)
        return;
    CG_OWN(cg_drop_fd) int record = open(f->record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (record < 0)
        return; /* it never had one */
    struct cg_index *ix = cg_index_open(f->dir, &f->err);
    if (ix && cg_index_update(ix, record, f->limit, &f->err)) {
        f->count = ix->count;
        f->nrows = ix->tally.n;
        f->rows = cg_alloc_array(f->nrows + 1, sizeof *f->rows);
        if (f->nrows > 0)
            memcpy(f->rows, ix->tally.rows, f->nrows * sizeof *f->rows);
    }
    cg_index_close(ix);
}

static void updated(uv_work_t *work, int status)
{
    struct refresh *f = CG_CONTAINER(work, struct refresh, work);
    struct cg_sandbox *sb = f->core->stopping ? NULL : cg_core_find(f->core, f->id);
    (void)status;
    if (f->err.code != CG_OK)
        cg_log(CG_LOG_WARN, CG_EVENT("index.failed"), CG_S("id", f->id), CG_E(&f->err));
    for (size_t i = 0; sb && i < f->nrows; i++)
        take_row(f->core, sb, &f->rows[i]);
    if (sb) {
        sb->indexed_seq = CG_MAX(sb->indexed_seq, f->count);
        sb->indexed_end |= f->ended;
    }
    f->done(f->ctx, f->err.code == CG_OK ? NULL : &f->err);
    free(f->rows);
    free(f->dir);
    free(f->record);
    free(f);
}

static void queue(struct refresh *f)
{
    CG_ASSERT(uv_queue_work(f->core->loop, &f->work, update, updated) == 0);
}

static void on_status(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct refresh *f = CG_CONTAINER(call, struct refresh, call);
    struct cg_sandbox *sb = cg_core_find(f->core, f->id);
    int64_t durable = error ? 0 : cg_json_int(result, "durable_seq", 0);
    if (durable > 0 && durable < INT64_MAX / 2 && sb && (uint64_t)durable > sb->indexed_seq)
        f->limit = (uint64_t)durable;
    queue(f);
}

void cg_replay_refresh(struct cg_sandbox *sb, cg_replay_done *done, void *ctx)
{
    struct refresh *f = cg_alloc(sizeof *f);
    struct cg_err e = CG_ERR_INIT;
    f->core = sb->core;
    f->done = done;
    f->ctx = ctx;
    f->err = (struct cg_err)CG_ERR_INIT;
    cg_strlcpy(f->id, sizeof f->id, sb->id);
    f->dir = cg_replay_dir(sb->core, sb->id);
    f->record = cg_sandbox_record_dir(sb);
    f->call = (struct cg_wcall){.on_close = on_status};
    if (cg_sandbox_usable(sb, &e) &&
        cg_wcall_open(sb->warden, &f->call, cg_slice_of("{\"kind\":\"status\"}"), &e))
        return;
    /* nobody writes it now: all of it is there */
    bool rests = sb->status == CG_STATUS_PAUSED && sb->resting;
    if ((sb->slot == 0 && !sb->indexed_end) || rests)
        f->limit = UINT64_MAX;
    f->ended = sb->slot == 0 && !sb->destroying;
    queue(f);
}

/* --- all the time --- */

/* What the indexes of an earlier server know; those that are missing are made in the rounds. */
static void load_all(struct cg_core *c)
{
    for (struct cg_sandbox *sb = c->first; sb; sb = sb->next) {
        CG_OWN(cg_drop_free) char *dir = cg_replay_dir(c, sb->id);
        struct cg_err e = CG_ERR_INIT;
        struct cg_index *ix = cg_index_open(dir, &e);
        if (!ix) {
            cg_log(CG_LOG_WARN, CG_EVENT("index.failed"), CG_S("id", sb->id), CG_E(&e));
            continue;
        }
        for (size_t i = 0; i < ix->tally.n; i++)
            take_row(c, sb, &ix->tally.rows[i]);
        sb->indexed_seq = ix->count;
        sb->indexed_end = ix->tally.ended && sb->slot == 0;
        cg_index_close(ix);
    }
}

static bool wants(struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    return !sb->helper && ((sb->slot == 0 && !sb->indexed_end) || cg_sandbox_usable(sb, &e));
}

static void next(struct cg_replay *r);

static void on_one(void *ctx, const struct cg_err *err)
{
    struct cg_replay *r = ctx;
    (void)err;
    r->busy = false;
    if (!r->core->stopping)
        next(r);
}

/* The next one behind `at`; the round ends behind the last. */
static void next(struct cg_replay *r)
{
    struct cg_sandbox *sb = r->at[0] ? cg_core_find(r->core, r->at) : NULL;
    sb = sb ? sb->next : r->at[0] ? NULL : r->core->first;
    while (sb && !wants(sb))
        sb = sb->next;
    cg_strlcpy(r->at, sizeof r->at, sb ? sb->id : "");
    if (!sb)
        return;
    r->busy = true;
    cg_replay_refresh(sb, on_one, r);
}

static void on_timer(uv_timer_t *t)
{
    struct cg_replay *r = t->data;
    if (!r->loaded)
        load_all(r->core);
    r->loaded = true;
    if (!r->busy)
        next(r);
}

void cg_replay_start(struct cg_core *c)
{
    struct cg_replay *r = &c->replay;
    r->core = c;
    cg_map_init(&r->by_id);
    uv_timer_init(c->loop, &r->timer);
    r->timer.data = r;
    uv_timer_start(&r->timer, on_timer, 0, EVERY_MS);
    uv_unref((uv_handle_t *)&r->timer);
}

void cg_replay_stop(struct cg_core *c)
{
    size_t at = 0;
    const char *id;
    void *value;
    if (!c->replay.core)
        return;
    uv_close((uv_handle_t *)&c->replay.timer, NULL);
    while (cg_map_next(&c->replay.by_id, &at, &id, &value))
        free(value);
    cg_map_finish(&c->replay.by_id);
    c->replay.core = NULL;
}
