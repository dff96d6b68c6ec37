#include "record/tally.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const struct cg_json_limits limits = {CG_RECORD_LINE_MAX, 16, 8192};

void cg_tally_finish(struct cg_tally *t)
{
    free(t->rows);
    *t = (struct cg_tally){.rows = NULL};
}

const char *cg_session_status_name(uint32_t status)
{
    return status == CG_SESSION_ACTIVE      ? "active"
           : status == CG_SESSION_COMPLETED ? "completed"
                                            : "failed";
}

static uint16_t find(const struct cg_tally *t, struct cg_slice id)
{
    for (size_t i = t->n; i-- > 0;) /* the newest are asked for most */
        if (cg_slice_eq(id, t->rows[i].id))
            return (uint16_t)i;
    return CG_TALLY_NONE;
}

uint16_t cg_tally_find(const struct cg_tally *t, const char *id)
{
    return find(t, cg_slice_of(id));
}

int64_t cg_tally_wall(const struct cg_record_line *line)
{
    char text[48];
    int64_t wall = 0;
    if (line->ts.n >= sizeof text)
        return 0;
    memcpy(text, line->ts.p, line->ts.n);
    text[line->ts.n] = '\0';
    return cg_time_parse(text, &wall) ? wall : 0;
}

static uint16_t add_row(struct cg_tally *t, const struct cg_record_line *line)
{
    char id[48];
    if (t->n == CG_TALLY_SESSIONS_MAX || line->session.n >= sizeof id)
        return CG_TALLY_NONE;
    memcpy(id, line->session.p, line->session.n);
    id[line->session.n] = '\0';
    if (!cg_record_session_valid(id))
        return CG_TALLY_NONE;
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 8;
        t->rows = cg_realloc(t->rows, t->cap * sizeof *t->rows);
    }
    struct cg_session_row *r = &t->rows[t->n];
    memset(r, 0, sizeof *r);
    memcpy(r->id, id, sizeof id);
    cg_strlcpy(r->kind, sizeof r->kind, "agent");
    r->opened_t = line->t;
    r->opened_wall = cg_tally_wall(line);
    r->closed_t = -1;
    r->first_seq = line->seq;
    return (uint16_t)t->n++;
}

static void take_text(char *out, size_t size, const struct cg_json *o, const char *key)
{
    const char *s = cg_json_str(o, key);
    if (s)
        (void)cg_strlcpy(out, size, s);
}

static void add(int64_t *to, int64_t n)
{
    int64_t sum;
    if (n > 0 && !__builtin_add_overflow(*to, n, &sum))
        *to = sum;
}

static void close_row(struct cg_session_row *r, const struct cg_record_line *line, bool failed)
{
    r->status = failed ? CG_SESSION_FAILED : CG_SESSION_COMPLETED;
    r->closed_t = line->t;
    r->closed_wall = cg_tally_wall(line);
}

static void take_session(struct cg_session_row *r, const struct cg_record_line *line,
                         const struct cg_json *o)
{
    const char *event = cg_json_str(o, "event");
    int64_t compute = cg_json_int(o, "compute_nusd", -1);
    if (cg_streq(event, "open")) {
        take_text(r->kind, sizeof r->kind, o, "kind");
        take_text(r->agent, sizeof r->agent, o, "agent_type");
        take_text(r->how, sizeof r->how, o, "how");
        take_text(r->exec_id, sizeof r->exec_id, o, "exec_id");
    } else if (cg_streq(event, "close")) {
        const struct cg_json *code = cg_json_get(o, "exit_code");
        close_row(r, line, !cg_streq(cg_json_str(o, "status"), "completed"));
        take_text(r->reason, sizeof r->reason, o, "reason");
        r->has_exit = code && code->type == CG_JSON_INT;
        r->exit_code = r->has_exit ? (int32_t)CG_MAX(-1, CG_MIN(code->integer, 1 << 16)) : 0;
    }
    if (compute >= r->compute_nusd)
        r->compute_nusd = compute;
}

static void take_call(struct cg_session_row *r, const struct cg_json *o)
{
    if (cg_streq(cg_json_str(o, "event"), "open")) {
        take_text(r->model, sizeof r->model, o, "model");
        take_text(r->api, sizeof r->api, o, "api");
        take_text(r->user_agent, sizeof r->user_agent, o, "user_agent");
        r->calls++;
        return;
    }
    add(&r->tokens_in, cg_json_int(o, "tokens_in", 0));
    add(&r->tokens_out, cg_json_int(o, "tokens_out", 0));
    add(&r->llm_nusd, cg_json_int(o, "cost_nusd", 0));
}

/* The end of the sandbox is that of all that still go on: a warden that died closed none. */
static void take_end(struct cg_tally *t, const struct cg_record_line *line, const struct cg_json *o)
{
    const char *reason = cg_json_str(o, "reason");
    if (!cg_streq(cg_json_str(o, "event"), "destroyed"))
        return;
    t->ended = true;
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i].status != CG_SESSION_ACTIVE)
            continue;
        close_row(&t->rows[i], line, t->failed || cg_streq(reason, "budget_exceeded"));
        (void)cg_strlcpy(t->rows[i].reason, sizeof t->rows[i].reason,
                         t->failed ? "error"
                         : reason  ? reason
                                   : "");
    }
}

static bool wanted(enum cg_record_type type)
{
    return type == CG_REC_SESSION || type == CG_REC_LLM_CALL || type == CG_REC_LIFECYCLE;
}

uint16_t cg_tally_line(struct cg_tally *t, const struct cg_record_line *line,
                       enum cg_record_type type)
{
    uint16_t n = CG_TALLY_NONE;
    if (line->session.n > 0) {
        n = find(t, line->session);
        n = n == CG_TALLY_NONE ? add_row(t, line) : n;
    }
    struct cg_session_row *r = n == CG_TALLY_NONE ? NULL : &t->rows[n];
    if (r) {
        r->events++;
        r->last_t = line->t;
        r->last_seq = line->seq;
        if (type < CG_REC_TYPE_COUNT)
            r->by_type[type]++;
    }
    t->failed |= type == CG_REC_ERROR;
    if (!wanted(type) || (!r && type != CG_REC_LIFECYCLE))
        return n;
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line->data, &limits, NULL);
    bool host = cg_slice_eq(line->src, "host"); /* a claim counts for nothing */
    if (r && type == CG_REC_SESSION && host)
        take_session(r, line, o);
    else if (r && type == CG_REC_LLM_CALL && host)
        take_call(r, o);
    else if (type == CG_REC_LIFECYCLE && (host || cg_slice_eq(line->src, "server")))
        take_end(t, line, o);
    return n;
}
