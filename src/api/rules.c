/* The rules of trust, and what the record of a sandbox would have scored under others: the engine
 * that scored it (trust/trust.h) over its lines, with a pack laid over the default one. Changes
 * nothing; one at a time, since it reads a whole record. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/scores.h"
#include "record/reader.h"

enum { LIST_MAX = 4 << 20, LINES_MAX = 3000000, DEDUCTIONS_MAX = 2000 };

static void put_bands(const struct cg_pack *p, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "bands");
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "alert", p->bands.alert);
    cg_jsonw_kuint(w, "critical", p->bands.critical);
    cg_jsonw_kuint(w, "pause", p->bands.pause);
    cg_jsonw_obj_end(w);
}

static void put_rule(const struct cg_rule *r, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", r->id);
    cg_jsonw_kstr(w, "severity", cg_severity_name(r->severity));
    cg_jsonw_kuint(w, "points", r->points);
    cg_jsonw_kuint(w, "cap", r->cap);
    cg_jsonw_kuint(w, "cooldown", r->cooldown_s);
    cg_jsonw_kbool(w, "once_per_host", r->once_per_host);
    cg_jsonw_kbool(w, "enabled", !r->off);
    cg_jsonw_kstr(w, "explain", r->explain);
    cg_jsonw_obj_end(w);
}

void api_trust_rules(struct op *op)
{
    const struct cg_pack *p = cg_scores_pack(op->api->core);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "pack", p->name);
    cg_jsonw_kuint(w, "version", p->version);
    cg_jsonw_kstr(w, "hash", p->hash);
    cg_jsonw_kbool(w, "changed", op->api->core->options.trust_rules != NULL);
    put_bands(p, w);
    cg_jsonw_key(w, "known_hosts");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < p->known_hosts.n; i++)
        cg_jsonw_str(w, p->known_hosts.v[i]);
    cg_jsonw_arr_end(w);
    cg_jsonw_key(w, "rules");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < p->nrules; i++)
        put_rule(&p->rules[i], w);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* --- what another pack would have said --- */

struct preview {
    uv_work_t work;
    struct op *op;
    char *dir;
    struct cg_pack *pack;
    struct cg_buf out;
    struct cg_jsonw w;
    unsigned told;
    uint64_t lines;
    bool cut;
    uint32_t score, deductions;
    struct cg_err err;
};

static bool busy; /* on the loop */

static void take_deduction(void *ctx, const struct cg_trust_deduction *d)
{
    struct preview *v = ctx;
    if (v->told == DEDUCTIONS_MAX)
        return;
    v->told++;
    cg_jsonw_obj(&v->w);
    cg_trust_write(d, &v->w);
    cg_jsonw_obj_end(&v->w);
}

static void compute(uv_work_t *work)
{
    struct preview *v = CG_CONTAINER(work, struct preview, work);
    CG_OWN(cg_drop_fd) int dir = open(v->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_record_reader *r = dir < 0 ? NULL : cg_record_reader_open(dir, 0, &v->err);
    enum cg_record_got got = r ? CG_RECORD_LINE : CG_RECORD_ERROR;
    if (dir < 0)
        cg_fail(&v->err, CG_NOT_FOUND, "the sandbox has no record");
    struct cg_trust *t = cg_trust_create(v->pack, NULL, take_deduction, v);
    cg_jsonw_arr(&v->w);
    while (got == CG_RECORD_LINE && v->lines < LINES_MAX) {
        struct cg_record_line line;
        struct cg_slice text;
        got = cg_record_read(r, UINT64_MAX, &text, &line, &v->err);
        if (got != CG_RECORD_LINE)
            continue;
        v->lines++;
        cg_trust_line(t, &line);
    }
    cg_jsonw_arr_end(&v->w);
    v->cut = got == CG_RECORD_LINE;
    v->score = cg_trust_score(t);
    v->deductions = cg_trust_deductions(t);
    cg_trust_destroy(t);
    cg_record_reader_close(r);
}

static void answer(const struct preview *v)
{
    const struct cg_sandbox *sb = v->op->sb;
    struct cg_jsonw *w = op_json(v->op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "sandbox_id", sb->id);
    cg_jsonw_kuint(w, "score", v->score);
    cg_jsonw_kstr(w, "band", cg_trust_band(v->score));
    cg_jsonw_kuint(w, "score_now", sb->score ? sb->score->score : CG_TRUST_FULL);
    put_bands(v->pack, w);
    cg_jsonw_kuint(w, "events", v->lines);
    cg_jsonw_kbool(w, "truncated", v->cut || v->told < v->deductions);
    cg_jsonw_key(w, "deductions");
    cg_jsonw_raw(w, v->out.p, v->out.n);
    cg_jsonw_obj_end(w);
    op_send_json(v->op, 200);
}

static void computed(uv_work_t *work, int status)
{
    struct preview *v = CG_CONTAINER(work, struct preview, work);
    (void)status;
    busy = false;
    if (v->err.code != CG_OK)
        op_fail(v->op, &v->err);
    else
        answer(v);
    cg_pack_destroy(v->pack);
    cg_buf_finish(&v->out);
    free(v->dir);
    free(v);
}

static void begin(struct op *op, const struct cg_json *body)
{
    struct cg_err e = CG_ERR_INIT;
    const struct cg_json *rules = cg_json_get(body, "rules");
    if (rules && rules->type != CG_JSON_STR)
        cg_fail(&e, CG_INVALID, "rules must be the text of a file of rules");
    else if (busy)
        cg_fail(&e, CG_CONFLICT, "another preview is being computed; try again in a moment");
    struct cg_slice text = rules && e.code == CG_OK ? rules->str : (struct cg_slice){"", 0};
    struct cg_pack *pack = e.code == CG_OK ? cg_scores_lay(text, &e) : NULL;
    if (!pack) {
        op_fail(op, &e);
        return;
    }
    struct preview *v = cg_alloc(sizeof *v);
    v->op = op;
    v->pack = pack;
    v->err = (struct cg_err)CG_ERR_INIT;
    v->dir = cg_sandbox_record_dir(op->sb);
    cg_buf_init(&v->out, LIST_MAX);
    cg_jsonw_init(&v->w, &v->out);
    busy = true;
    op_outlive(op);
    CG_ASSERT(uv_queue_work(op->api->core->loop, &v->work, compute, computed) == 0);
}

void api_trust_preview(struct op *op)
{
    op_read_json(op, begin);
}
