/* A sandbox's record at a glance: how much of what happened when, and what everything up to a
 * moment adds up to. The price of an answer does not depend on what was said in the record, and
 * hardly on its length (record/overview.h). */
#include <fcntl.h>
#include <stdlib.h>

#include "api/api.h"
#include "record/overview.h"

struct glance {
    uv_work_t work;
    struct op *op;
    char *dir, *record;
    char session[48];
    double to_s; /* -1: the end */
    int64_t slots;
    int64_t epoch_wall;
    struct cg_overview o;
    struct cg_err err;
};

static void free_glance(struct op *op)
{
    struct glance *g = op->own;
    free(g->dir);
    free(g->record);
    cg_overview_finish(&g->o);
    free(g);
    op->own = NULL;
}

static void look(uv_work_t *work)
{
    struct glance *g = CG_CONTAINER(work, struct glance, work);
    CG_OWN(cg_drop_fd) int record = open(g->record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_index *ix = record < 0 ? NULL : cg_index_open(g->dir, &g->err);
    uint16_t session = CG_TALLY_NONE;
    if (record < 0)
        cg_fail(&g->err, CG_NOT_FOUND, "the sandbox has no record");
    if (ix && g->session[0]) {
        session = cg_tally_find(&ix->tally, g->session);
        if (session == CG_TALLY_NONE)
            cg_fail(&g->err, CG_NOT_FOUND, "there is no session %s", g->session);
    }
    if (ix && g->err.code == CG_OK) {
        g->epoch_wall = ix->epoch_wall;
        (void)!cg_overview_make(ix, record, g->to_s < 0 ? -1 : (int64_t)(g->to_s * 1e9), session,
                                (unsigned)g->slots, &g->o, &g->err);
    }
    cg_index_close(ix);
}

static const char *column_name(unsigned column)
{
    return column < CG_REC_TYPE_COUNT ? cg_record_type_name((enum cg_record_type)column) : "ledger";
}

static void put_counts(const struct cg_overview *o, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "types");
    cg_jsonw_obj(w);
    for (unsigned c = 0; c < CG_OVERVIEW_COLUMNS; c++)
        if (o->counts[c])
            cg_jsonw_kuint(w, column_name(c), o->counts[c]);
    cg_jsonw_obj_end(w);
    if (!o->slots)
        return;
    cg_jsonw_key(w, "slots");
    cg_jsonw_obj(w);
    for (unsigned c = 0; c < CG_OVERVIEW_COLUMNS; c++) {
        if (!o->counts[c])
            continue;
        cg_jsonw_key(w, column_name(c));
        cg_jsonw_arr(w);
        for (unsigned s = 0; s < o->nslots; s++)
            cg_jsonw_uint(w, o->slots[(size_t)s * CG_OVERVIEW_COLUMNS + c]);
        cg_jsonw_arr_end(w);
    }
    cg_jsonw_obj_end(w);
}

static void put_sum(const struct cg_record_sum *s, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "sum");
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "llm_nusd", s->llm_nusd);
    cg_jsonw_kint(w, "compute_nusd", s->compute_nusd);
    cg_jsonw_kuint(w, "commands", s->commands);
    cg_jsonw_kuint(w, "failed", s->failed);
    cg_jsonw_kuint(w, "calls", s->calls);
    cg_jsonw_kuint(w, "deductions", s->deductions);
    cg_jsonw_kuint(w, "lost", s->lost);
    if (s->score > 0)
        cg_jsonw_kint(w, "trust_score", s->score - 1);
    else
        cg_jsonw_kstr(w, "trust_score", NULL);
    cg_jsonw_obj_end(w);
}

static void looked(uv_work_t *work, int status)
{
    struct glance *g = CG_CONTAINER(work, struct glance, work);
    struct op *op = g->op;
    char time[CG_TIME_TEXT];
    uint64_t events = 0;
    (void)status;
    if (g->err.code != CG_OK) {
        op_fail(op, &g->err);
        return;
    }
    for (unsigned c = 0; c < CG_OVERVIEW_COLUMNS; c++)
        events += g->o.counts[c];
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "sandbox_id", op->sb->id);
    cg_jsonw_kuint(w, "event_count", events);
    cg_jsonw_kuint(w, "last_seq", g->o.seq);
    cg_time_format(g->epoch_wall, time);
    cg_jsonw_kstr(w, "start_time", time);
    cg_time_format(g->epoch_wall + g->o.t, time);
    cg_jsonw_kstr(w, "end_time", time);
    cg_jsonw_knum(w, "duration_ms", (double)g->o.t / 1e6);
    put_counts(&g->o, w);
    put_sum(&g->o.sum, w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void on_fresh(void *ctx, const struct cg_err *err)
{
    struct glance *g = ctx;
    struct op *op = g->op;
    if (err) {
        op_fail(op, err);
        return;
    }
    g->dir = cg_replay_dir(op->api->core, op->sb->id);
    g->record = cg_sandbox_record_dir(op->sb);
    CG_ASSERT(uv_queue_work(op->api->core->loop, &g->work, look, looked) == 0);
}

static bool read_query(struct op *op, struct glance *g, struct cg_err *e)
{
    char to[64] = "";
    char *end = NULL;
    if (!op_query_int(op, "slots", 0, CG_OVERVIEW_SLOTS_MAX, &g->slots, e) ||
        !op_query_str(op, "session", g->session, sizeof g->session, e) ||
        !op_query_str(op, "to", to, sizeof to, e))
        return false;
    g->to_s = to[0] ? strtod(to, &end) : -1;
    if (to[0] && (end == to || *end || !(g->to_s >= 0 && g->to_s < 1e9)))
        return cg_fail(e, CG_INVALID, "to must be seconds from the record's start, not \"%.40s\"",
                       to);
    return true;
}

void api_overview(struct op *op)
{
    struct glance *g = cg_alloc(sizeof *g);
    struct cg_err e = CG_ERR_INIT;
    g->op = op;
    g->err = (struct cg_err)CG_ERR_INIT;
    op->own = g;
    op->finish = free_glance;
    if (!read_query(op, g, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    cg_replay_refresh(op->sb, on_fresh, g);
}
