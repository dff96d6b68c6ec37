/* /v1/sandboxes/{id}/trust: the score and every deduction with its evidence, read from the record;
 * /v1/trust/sandboxes/{id}: one row a session. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/scores.h"

enum { LIST_MAX = 8 << 20 };

static void put_time(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall ? text : NULL);
}

static void put_sessions(const struct cg_score *s, struct cg_jsonw *w)
{
    cg_jsonw_arr(w);
    for (unsigned i = 0; s && i < s->nsessions; i++) {
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "session_id", s->session[i].id);
        cg_jsonw_kuint(w, "score", s->session[i].score);
        put_time(w, "updated_at", s->session[i].changed_wall);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
}

void api_trust_sessions(struct op *op)
{
    put_sessions(op->sb->score, op_json(op));
    op_send_json(op, 200);
}

/* --- with its deductions --- */

struct reading {
    uv_work_t work;
    struct op *op;
    char *dir;
    struct cg_buf text;
    bool fine;
    struct cg_err err;
};

static void on_work(uv_work_t *work)
{
    struct reading *r = work->data;
    struct cg_jsonw w;
    cg_jsonw_init(&w, &r->text);
    r->fine = cg_scores_read(r->dir, &w, &r->err);
    if (r->fine && r->text.full)
        r->fine = cg_fail(&r->err, CG_TOO_LARGE, "the list of deductions is too long");
}

static void put_point(struct cg_jsonw *w, const char *at, int64_t score)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "at", at);
    cg_jsonw_kint(w, "score", score);
    cg_jsonw_obj_end(w);
}

static void put_trend(const struct cg_sandbox *sb, const struct reading *r, struct cg_jsonw *w)
{
    static const struct cg_json_limits limits = {LIST_MAX, 8, 1 << 20};
    CG_OWN(cg_drop_json)
    struct cg_json *list = cg_json_parse(cg_buf_slice(&r->text), &limits, NULL);
    char text[CG_TIME_TEXT];
    cg_time_format(sb->created_wall, text);
    cg_jsonw_key(w, "trend");
    cg_jsonw_arr(w);
    put_point(w, text, CG_TRUST_FULL);
    for (const struct cg_json *d = list ? list->child : NULL; d; d = d->next)
        if (cg_json_int(d, "points", 0) > 0)
            put_point(w, cg_json_str(d, "at"), cg_json_int(d, "score", 0));
    cg_jsonw_arr_end(w);
}

static void answer(struct reading *r)
{
    const struct cg_sandbox *sb = r->op->sb;
    const struct cg_score *s = sb->score;
    const struct cg_pack *p = cg_scores_pack(sb->core);
    struct cg_jsonw *w = op_json(r->op);
    uint32_t score = s ? s->score : CG_TRUST_FULL;
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "sandbox_id", sb->id);
    cg_jsonw_kuint(w, "score", score);
    cg_jsonw_kstr(w, "band", cg_trust_band(score));
    cg_jsonw_kstr(w, "aggregation", "sum");
    put_time(w, "updated_at", s ? s->changed_wall : 0);
    cg_jsonw_key(w, "actions");
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "alert_below", p ? p->bands.alert : 0);
    cg_jsonw_kuint(w, "critical_below", p ? p->bands.critical : 0);
    cg_jsonw_kuint(w, "pause_below", p ? p->bands.pause : 0);
    cg_jsonw_obj_end(w);
    cg_jsonw_key(w, "sessions");
    put_sessions(s, w);
    put_trend(sb, r, w);
    cg_jsonw_key(w, "deductions");
    cg_jsonw_raw(w, r->text.p, r->text.n);
    cg_jsonw_obj_end(w);
    op_send_json(r->op, 200);
}

static void on_worked(uv_work_t *work, int status)
{
    struct reading *r = work->data;
    (void)status;
    if (!r->fine)
        op_fail(r->op, &r->err);
    else
        answer(r);
    cg_buf_finish(&r->text);
    free(r->dir);
    free(r);
}

void api_trust(struct op *op)
{
    if (!op_record_kept(op, op->sb))
        return;
    struct reading *r = cg_alloc(sizeof *r);
    r->op = op;
    r->dir = cg_sandbox_record_dir(op->sb);
    r->work.data = r;
    cg_buf_init(&r->text, LIST_MAX);
    op_outlive(op);
    CG_ASSERT(uv_queue_work(op->api->core->loop, &r->work, on_work, on_worked) == 0);
}
