/* Agent and terminal sessions, and pages of what happened in them. A request first brings the index
 * of the record up to what is durable, then reads on the pool. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "record/query.h"

enum {
    PER_PAGE = 20,
    PER_PAGE_MAX = 100,
    EVENTS = 100,
    EVENTS_MAX = 1000,
    TEXT_MAX = 256,
    PAGE_BYTES = 4 << 20 /* a page ends when it has passed this */
};

/* --- lists --- */

void api_sessions(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    int64_t per_page = PER_PAGE;
    int64_t page = 1;
    if (!op_query_int(op, "page", 1, INT32_MAX, &page, &e) ||
        !op_query_int(op, "per_page", 1, INT64_MAX, &per_page, &e)) {
        op_fail(op, &e);
        return;
    }
    per_page = CG_MIN(per_page, PER_PAGE_MAX);
    size_t n = 0;
    CG_OWN(cg_drop_free)
    struct cg_agent_session **all = cg_replay_list(op->api->core, op->key->account, NULL, &n);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "data");
    cg_jsonw_arr(w);
    size_t first = (size_t)((page - 1) * per_page);
    for (size_t i = first; i < n && i < first + (size_t)per_page; i++)
        cg_agent_session_write(op->api->core, all[i], w);
    cg_jsonw_arr_end(w);
    cg_jsonw_key(w, "pagination");
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "page", page);
    cg_jsonw_kint(w, "per_page", per_page);
    cg_jsonw_kuint(w, "total", n);
    cg_jsonw_kuint(w, "total_pages", (n + (size_t)per_page - 1) / (size_t)per_page);
    cg_jsonw_obj_end(w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void on_list_fresh(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    size_t n = 0;
    if (err) {
        op_fail(op, err);
        return;
    }
    CG_OWN(cg_drop_free)
    struct cg_agent_session **all = cg_replay_list(op->api->core, op->key->account, op->sb->id, &n);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < n; i++)
        cg_agent_session_write(op->api->core, all[i], w);
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

void api_sandbox_sessions(struct op *op)
{
    op_outlive(op);
    cg_replay_refresh(op->sb, on_list_fresh, op);
}

/* --- one session --- */

/* The session that the request names, with op->sb; else the problem is sent. */
static struct cg_agent_session *find(struct op *op)
{
    const char *id = op_param(op, "session");
    struct cg_agent_session *s = cg_replay_find(op->api->core, op->key->account, id);
    op->sb = s ? cg_core_find(op->api->core, s->sandbox) : NULL;
    if (!op->sb)
        op_problem(op, 404, "not_found", "there is no session %.64s", id);
    return op->sb ? s : NULL;
}

static void on_one_fresh(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    const struct cg_agent_session *s = op->own;
    if (err) {
        op_fail(op, err);
        return;
    }
    cg_agent_session_write(op->api->core, s, op_json(op));
    op_send_json(op, 200);
}

void api_session(struct op *op)
{
    struct cg_agent_session *s = find(op);
    if (!s)
        return;
    op->own = s;
    op_outlive(op);
    cg_replay_refresh(op->sb, on_one_fresh, op);
}

static void on_summary_fresh(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    const struct cg_agent_session *s = op->own;
    char time[CG_TIME_TEXT];
    if (err) {
        op_fail(op, err);
        return;
    }
    const struct cg_session_row *r = &s->row;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "session_id", r->id);
    cg_jsonw_kuint(w, "event_count", r->events);
    cg_time_format(r->opened_wall, time);
    cg_jsonw_kstr(w, "start_time", time);
    cg_time_format(r->opened_wall + (r->last_t - r->opened_t), time);
    cg_jsonw_kstr(w, "end_time", time);
    cg_jsonw_knum(w, "duration_ms", (double)(r->last_t - r->opened_t) / 1e6);
    cg_jsonw_kuint(w, "first_seq", r->first_seq);
    cg_jsonw_kuint(w, "last_seq", r->last_seq);
    cg_jsonw_key(w, "types");
    cg_jsonw_obj(w);
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        if (r->by_type[i])
            cg_jsonw_kuint(w, cg_record_type_name((enum cg_record_type)i), r->by_type[i]);
    cg_jsonw_obj_end(w);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

void api_replay_summary(struct op *op)
{
    struct cg_agent_session *s = find(op);
    if (!s)
        return;
    op->own = s;
    op_outlive(op);
    cg_replay_refresh(op->sb, on_summary_fresh, op);
}

/* --- pages --- */

struct reading {
    uv_work_t work;
    struct op *op;
    const struct cg_agent_session *session; /* NULL: all of the sandbox */
    char *dir, *record;
    char sandbox[CG_ID_TEXT], id[48], text[TEXT_MAX];
    struct cg_query q;
    /* times as they came: of the wall, or seconds from the session's start */
    int64_t from_wall, to_wall;
    double from_s, to_s;
    bool by_wall;
    bool of_record; /* seconds from the record's start instead */
    struct cg_buf out;
    struct cg_jsonw w;
    struct cg_query_end end;
    uint64_t total, last_seq;
    struct cg_err err;
};

static void free_reading(struct op *op)
{
    struct reading *r = op->own;
    free(r->dir);
    free(r->record);
    cg_buf_finish(&r->out);
    free(r);
    op->own = NULL;
}

/* The number behind `"key":`; inside of a text its quotes would be escaped. */
static bool member(struct cg_slice data, const char *key, int64_t *out)
{
    const char *at = memmem(data.p, data.n, key, strlen(key));
    if (!at)
        return false;
    at += strlen(key);
    if (at >= data.p + data.n || *at < '0' || *at > '9')
        return false;
    *out = strtoll(at, NULL, 10);
    return true;
}

static double duration_of(const struct cg_record_line *line)
{
    int64_t n = 0;
    if (member(line->data, "\"duration_ns\":", &n) || member(line->data, "\"ns\":", &n))
        return (double)n / 1e6;
    return member(line->data, "\"duration_ms\":", &n) ? (double)n : 0;
}

static bool put_event(void *ctx, const struct cg_record_line *line)
{
    struct reading *r = ctx;
    char id[CG_ID_TEXT + 24];
    cg_snprintf(id, sizeof id, "%s:%llu", r->sandbox, (unsigned long long)line->seq);
    cg_jsonw_obj(&r->w);
    cg_jsonw_kstr(&r->w, "id", id);
    if (line->session.n > 0)
        cg_jsonw_kstrn(&r->w, "session_id", line->session.p, line->session.n);
    else
        cg_jsonw_kstr(&r->w, "session_id", NULL);
    cg_jsonw_kuint(&r->w, "sequence", line->seq);
    cg_jsonw_kstrn(&r->w, "type", line->type.p, line->type.n);
    cg_jsonw_kstrn(&r->w, "timestamp", line->ts.p, line->ts.n);
    cg_jsonw_knum(&r->w, "t_ms", (double)line->t / 1e6);
    cg_jsonw_knum(&r->w, "duration_ms", duration_of(line));
    cg_jsonw_kstrn(&r->w, "source", line->src.p, line->src.n);
    cg_jsonw_key(&r->w, "data");
    cg_jsonw_raw(&r->w, line->data.p, line->data.n);
    cg_jsonw_obj_end(&r->w);
    return r->out.n < PAGE_BYTES;
}

/* Seconds from the session's start become times on the record's clock. */
static void place_times(struct reading *r, int64_t opened_t)
{
    r->q.wall = r->by_wall;
    if (r->by_wall) {
        r->q.from = r->from_wall;
        r->q.to = r->to_wall;
        return;
    }
    r->q.from = r->from_s >= 0 ? opened_t + (int64_t)(r->from_s * 1e9) : 0;
    r->q.to = r->to_s >= 0 ? opened_t + (int64_t)(r->to_s * 1e9) : 0;
}

static void count_total(struct reading *r, const struct cg_index *ix)
{
    const struct cg_session_row *row = &ix->tally.rows[r->q.session];
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        if (r->q.types == 0 || r->q.types & UINT32_C(1) << i)
            r->total += row->by_type[i];
    r->last_seq = row->last_seq;
}

static void read_page(uv_work_t *work)
{
    struct reading *r = CG_CONTAINER(work, struct reading, work);
    CG_OWN(cg_drop_fd) int record = open(r->record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_index *ix = cg_index_open(r->dir, &r->err);
    int64_t opened_t = 0;
    r->w.comma = false;
    cg_jsonw_arr(&r->w);
    r->end.next = r->q.after;
    if (ix && record >= 0) {
        r->q.session = r->id[0] ? cg_tally_find(&ix->tally, r->id) : CG_TALLY_NONE;
        r->total = r->last_seq = ix->count;
        if (r->q.session != CG_TALLY_NONE) {
            opened_t = r->of_record ? 0 : ix->tally.rows[r->q.session].opened_t;
            r->total = 0;
            count_total(r, ix);
        }
        place_times(r, opened_t);
        if (!r->id[0] || r->q.session != CG_TALLY_NONE)
            (void)!cg_query_run(ix, record, &r->q, put_event, r, &r->end, &r->err);
    }
    cg_jsonw_arr_end(&r->w);
    cg_index_close(ix);
}

static void page_read(uv_work_t *work, int status)
{
    struct reading *r = CG_CONTAINER(work, struct reading, work);
    struct op *op = r->op;
    (void)status;
    if (r->err.code != CG_OK) {
        op_fail(op, &r->err);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "events");
    cg_jsonw_raw(w, r->out.p, r->out.n);
    cg_jsonw_kbool(w, "has_more", r->end.more && r->end.next < r->last_seq);
    cg_jsonw_kuint(w, "next_seq", r->end.next);
    cg_jsonw_kuint(w, "total", r->total);
    if (r->q.rank)
        cg_jsonw_kuint(w, "rank", r->end.rank);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void on_page_fresh(void *ctx, const struct cg_err *err)
{
    struct reading *r = ctx;
    struct op *op = r->op;
    if (err) {
        op_fail(op, err);
        return;
    }
    r->dir = cg_replay_dir(op->api->core, op->sb->id);
    r->record = cg_sandbox_record_dir(op->sb);
    CG_ASSERT(uv_queue_work(op->api->core->loop, &r->work, read_page, page_read) == 0);
}

/* "command,process"; costs are asked for whole, or as "budget" and "ledger". */
static bool read_types(const char *text, struct cg_query *q, struct cg_err *e)
{
    bool whole = false;
    while (*text) {
        enum cg_record_type type = CG_REC_COST;
        size_t n = strcspn(text, ",");
        const struct cg_slice name = {text, n};
        if (cg_slice_eq(name, "budget"))
            q->cost |= CG_QUERY_BUDGET;
        else if (cg_slice_eq(name, "ledger"))
            q->cost |= CG_QUERY_LEDGER;
        else if (!cg_record_type_parse(name, &type))
            return cg_fail(e, CG_INVALID, "there are no events of type %.*s", (int)CG_MIN(n, 40),
                           text);
        else
            whole |= type == CG_REC_COST;
        q->types |= UINT32_C(1) << type;
        text += n + (text[n] == ',');
    }
    q->cost = whole ? 0 : q->cost;
    return true;
}

static bool read_moment(const char *name, const char *text, int64_t *wall, double *seconds,
                        bool *by_wall, struct cg_err *e)
{
    char *end = NULL;
    if (cg_time_parse(text, wall)) {
        *by_wall = true;
        return true;
    }
    *seconds = strtod(text, &end);
    if (end == text || *end || !(*seconds >= 0 && *seconds < 1e9))
        return cg_fail(e, CG_INVALID,
                       "%s must be a time (2030-01-31T12:00:00Z) or seconds from the start, not "
                       "\"%.40s\"",
                       name, text);
    return true;
}

static bool read_query(struct op *op, struct reading *r, struct cg_err *e)
{
    char type[512] = "";
    char from[64] = "";
    char to[64] = "";
    bool from_wall = false;
    bool to_wall = false;
    int64_t after = 0;
    int64_t before = 0;
    int64_t skip = 0;
    int64_t limit = EVENTS;
    if (!op_query_int(op, "before_seq", 1, INT64_MAX, &before, e) ||
        !op_query_int(op, "skip", 0, INT64_MAX, &skip, e) ||
        !op_query_bool(op, "rank", &r->q.rank, e) || !op_query_bool(op, "last", &r->q.last, e))
        return false;
    if (!op_query_int(op, "after_seq", 0, INT64_MAX, &after, e) ||
        !op_query_int(op, "limit", 1, INT64_MAX, &limit, e) ||
        !op_query_str(op, "q", r->text, sizeof r->text, e) ||
        !op_query_str(op, "type", type, sizeof type, e) ||
        !op_query_str(op, "from", from, sizeof from, e) ||
        !op_query_str(op, "to", to, sizeof to, e))
        return false;
    if (r->q.last && skip > 0)
        return cg_fail(e, CG_INVALID,
                       "skip counts from the first, which is not what last asks for");
    r->q.after = (uint64_t)after;
    r->q.before = (uint64_t)before;
    r->q.skip = (uint64_t)skip;
    r->q.limit = (unsigned)CG_MIN(limit, EVENTS_MAX);
    r->from_s = r->to_s = -1;
    if (r->of_record && !op_query_str(op, "session", r->id, sizeof r->id, e))
        return false;
    if (cg_http_query_has(op->r, "type") && !read_types(type, &r->q, e))
        return false;
    if (cg_http_query_has(op->r, "from") &&
        !read_moment("from", from, &r->from_wall, &r->from_s, &from_wall, e))
        return false;
    if (cg_http_query_has(op->r, "to") &&
        !read_moment("to", to, &r->to_wall, &r->to_s, &to_wall, e))
        return false;
    r->by_wall = from_wall || to_wall;
    if (r->by_wall && (r->from_s >= 0 || r->to_s >= 0))
        return cg_fail(e, CG_INVALID, "from and to must both be times, or both seconds");
    if (r->text[0])
        r->q.text = cg_slice_of(r->text);
    return true;
}

static void begin_page(struct op *op, const struct cg_agent_session *s)
{
    if (!op_record_kept(op, op->sb))
        return;
    struct reading *r = cg_alloc(sizeof *r);
    struct cg_err e = CG_ERR_INIT;
    r->op = op;
    r->session = s;
    r->err = (struct cg_err)CG_ERR_INIT;
    cg_buf_init(&r->out, 2 * PAGE_BYTES);
    cg_jsonw_init(&r->w, &r->out);
    cg_strlcpy(r->sandbox, sizeof r->sandbox, op->sb->id);
    cg_strlcpy(r->id, sizeof r->id, s ? s->row.id : "");
    r->of_record = s == NULL;
    op->own = r;
    op->finish = free_reading;
    if (!read_query(op, r, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    cg_replay_refresh(op->sb, on_page_fresh, r);
}

void api_replay(struct op *op)
{
    const struct cg_agent_session *s = find(op);
    if (s)
        begin_page(op, s);
}

void api_sandbox_replay(struct op *op)
{
    begin_page(op, NULL);
}
