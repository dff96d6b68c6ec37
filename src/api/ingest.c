/* Events that a client tells about itself. They are kept as claims: apart from what was observed,
 * counted towards nothing. Answered once they are on disk. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

enum { EVENTS_MAX = 1000, CALL_MAX = 160 * 1024, EVENT_MAX = 48 * 1024 };

struct ingest {
    struct op *op;
    struct cg_wcall call;
    struct cg_json *body;
    const struct cg_json *next; /* the event whose turn it is */
    unsigned at;
    unsigned calling; /* events in the call under way */
    unsigned first;   /* number of the first of them */
    unsigned accepted;
    struct cg_buf errors;
    struct cg_jsonw w;
};

static void go_on(struct ingest *in);

static void refuse_event(struct ingest *in, unsigned index, const char *why)
{
    cg_jsonw_obj(&in->w);
    cg_jsonw_kuint(&in->w, "index", index);
    cg_jsonw_kstr(&in->w, "error", why);
    cg_jsonw_obj_end(&in->w);
}

static const char *known_type(const char *type)
{
    static const char *const types[] = {"llm_call", "tool_call", "file_op",   "command",
                                        "network",  "error",     "lifecycle", "desktop"};
    for (size_t i = 0; i < CG_COUNT(types); i++)
        if (cg_streq(type, types[i]))
            return types[i];
    return "other";
}

/* The sandbox of an event; NULL with *why. */
static struct cg_sandbox *sandbox_of(struct ingest *in, const struct cg_json *o, const char **why)
{
    struct cg_core *c = in->op->api->core;
    const char *id = cg_json_str(o, "sandbox_id");
    const char *session = cg_json_str(o, "session_id");
    struct cg_err e = CG_ERR_INIT;
    const struct cg_agent_session *s =
        session ? cg_replay_find(c, in->op->key->account, session) : NULL;
    struct cg_sandbox *sb = id ? cg_core_find(c, id) : s ? cg_core_find(c, s->sandbox) : NULL;
    *why = NULL;
    if (!sb || !op_owns(in->op, sb))
        *why = "sandbox_id or session_id must name a sandbox of yours";
    else if (session && (!s || !cg_streq(s->sandbox, sb->id)))
        *why = "there is no such session in this sandbox";
    else if (!cg_sandbox_usable(sb, &e))
        *why = "the sandbox does not run: its record takes no claims";
    return *why ? NULL : sb;
}

static bool write_claim(const struct cg_json *o, struct cg_jsonw *w, const char **why)
{
    static const char *const members[] = {"id", "process_id", "duration_ns", "meta", "payload"};
    const char *type = cg_json_str(o, "type");
    const char *time = cg_json_str(o, "timestamp");
    int64_t wall;
    if (!type || !type[0] || !time || !cg_time_parse(time, &wall)) {
        *why = "type and timestamp (RFC 3339) are needed";
        return false;
    }
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "type", "claim");
    cg_jsonw_kstr(w, "session", cg_json_str(o, "session_id"));
    cg_jsonw_key(w, "data");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "type", known_type(type));
    cg_jsonw_kstr(w, "timestamp", time);
    for (size_t i = 0; i < CG_COUNT(members); i++) {
        const struct cg_json *v = cg_json_get(o, members[i]);
        if (!v || v->type == CG_JSON_NULL)
            continue;
        cg_jsonw_key(w, members[i]);
        cg_jsonw_value(w, v);
    }
    cg_jsonw_obj_end(w);
    cg_jsonw_obj_end(w);
    return true;
}

/* Into the request if it is fine; false: it belongs to the next one. */
static bool add_event(struct ingest *in, struct cg_sandbox **sb, struct cg_jsonw *w)
{
    const char *why = NULL;
    struct cg_sandbox *of = sandbox_of(in, in->next, &why);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw claim;
    cg_buf_init(&b, EVENT_MAX);
    cg_jsonw_init(&claim, &b);
    if (of && *sb && of != *sb)
        return false;
    if (of && write_claim(in->next, &claim, &why) && b.full)
        why = "the event is larger than a line of the record";
    if (!why && w->buf->n + b.n > CALL_MAX)
        return false;
    if (why) {
        /* its place among the errors is fixed by order, so the call before it goes first */
        if (in->calling > 0)
            return false;
        refuse_event(in, in->at, why);
    } else {
        *sb = of;
        cg_jsonw_raw(w, b.p, b.n);
        in->first = in->calling ? in->first : in->at;
        in->calling++;
    }
    in->next = in->next->next;
    in->at++;
    return true;
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct ingest *in = CG_CONTAINER(call, struct ingest, call);
    (void)result;
    if (!error)
        in->accepted += in->calling;
    for (unsigned i = 0; error && i < in->calling; i++)
        refuse_event(in, in->first + i, error->text);
    go_on(in);
}

static void answer(struct ingest *in)
{
    struct op *op = in->op;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr_end(&in->w);
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "accepted", in->accepted);
    cg_jsonw_key(w, "errors");
    cg_jsonw_raw(w, in->errors.p, in->errors.n);
    cg_jsonw_obj_end(w);
    cg_buf_finish(&in->errors);
    cg_json_destroy(in->body);
    free(in);
    op_send_json(op, 200);
}

static void go_on(struct ingest *in)
{
    struct cg_sandbox *sb = NULL;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    cg_jsonw_init(&w, &b);
    in->calling = 0;
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "append");
    cg_jsonw_key(&w, "lines");
    cg_jsonw_arr(&w);
    while (in->next && add_event(in, &sb, &w)) {
    }
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    if (in->calling == 0 || !sb) {
        answer(in);
        return;
    }
    in->call = (struct cg_wcall){.on_close = on_close};
    if (!cg_wcall_open(sb->warden, &in->call, cg_buf_slice(&b), &e))
        on_close(&in->call, NULL, &e);
}

static void start(struct op *op, const struct cg_json *body)
{
    const struct cg_json *events = cg_json_get(body, "events");
    if (!events || events->type != CG_JSON_ARR || events->count > EVENTS_MAX) {
        op_problem(op, 400, "invalid", "events must be an array of at most %d", EVENTS_MAX);
        return;
    }
    struct ingest *in = cg_alloc(sizeof *in);
    CG_OWN(cg_drop_buf) struct cg_buf copy; /* the body lives only during this call */
    struct cg_jsonw w;
    cg_buf_init(&copy, 2 * API_BODY_MAX);
    cg_jsonw_init(&w, &copy);
    cg_jsonw_value(&w, events);
    const struct cg_json_limits limits = {2 * API_BODY_MAX, 32, 65536};
    in->body = cg_json_parse(cg_buf_slice(&copy), &limits, NULL);
    if (!in->body) {
        free(in);
        op_problem(op, 413, "too_large", "the events are too large: send fewer at once");
        return;
    }
    in->op = op;
    in->next = in->body->child;
    cg_buf_init(&in->errors, API_BODY_MAX);
    cg_jsonw_init(&in->w, &in->errors);
    cg_jsonw_arr(&in->w);
    op_outlive(op);
    go_on(in);
}

void api_ingest(struct op *op)
{
    op_read_json(op, start);
}
