/* What the record says about a call: one line when it opens, one when it is over. Texts of the
 * guest and of the provider are data: cut and escaped. Bodies are blobs, named here. */
#include <string.h>

#include "base/clock.h"
#include "gateway/inner.h"

enum { LINE_MAX_BYTES = 48 * 1024, PATH_SHOWN = 256 };

static void begin(struct call *c, struct cg_buf *b, struct cg_jsonw *j, const char *event)
{
    cg_buf_init(b, LINE_MAX_BYTES);
    cg_jsonw_init(j, b);
    cg_jsonw_obj(j);
    cg_jsonw_kstr(j, "event", event);
    cg_jsonw_kuint(j, "call", c->id);
    cg_jsonw_kstr(j, "provider", c->provider ? c->provider->name : NULL);
    cg_jsonw_kstr(j, "api", cg_llm_api_names[c->route.api]);
    cg_jsonw_kstr(j, "model", c->understood ? c->q.model : c->route.model);
}

static void end(struct call *c, struct cg_buf *b, struct cg_jsonw *j)
{
    cg_jsonw_obj_end(j);
    if (!b->full)
        c->g->o.ops->tell(c->g->o.ctx, cg_buf_slice(b));
    cg_buf_finish(b);
}

static void put_blob(struct call *c, struct cg_jsonw *j, const char *key, enum keep_body which)
{
    char name[CG_BLOB_NAME];
    if (keep_put(c, which, name))
        cg_jsonw_kstr(j, key, name);
}

void tell_call_open(struct call *c)
{
    struct cg_buf b;
    struct cg_jsonw j;
    const struct cg_llm_request *q = &c->q;
    begin(c, &b, &j, "open");
    cg_jsonw_kstrn(&j, "path", c->path, strnlen(c->path, PATH_SHOWN));
    cg_jsonw_kbool(&j, "intercepted", c->intercepted);
    cg_jsonw_kuint(&j, "request_bytes", c->body.n);
    if (c->understood) {
        cg_jsonw_kbool(&j, "stream", q->stream);
        cg_jsonw_kint(&j, "max_output", q->max_output);
        cg_jsonw_kint(&j, "cap", c->cap);
        cg_jsonw_kuint(&j, "messages", q->messages);
        cg_jsonw_kuint(&j, "tools", q->tools);
        cg_jsonw_kuint(&j, "images", q->images);
        if (q->thinking >= 0)
            cg_jsonw_kint(&j, "thinking", q->thinking);
        if (q->tier_said)
            cg_jsonw_kstr(&j, "tier", cg_tier_names[q->tier]);
    }
    const char *agent = c->r ? cg_http_header(c->r, "user-agent") : NULL;
    if (agent)
        cg_jsonw_kstrn(&j, "user_agent", agent, strnlen(agent, PATH_SHOWN));
    end(c, &b, &j);
}

static void put_tokens(struct cg_jsonw *j, const struct cg_bill *bill)
{
    cg_jsonw_key(j, "tokens");
    cg_jsonw_obj(j);
    for (unsigned i = 0; i < CG_CLASS_COUNT; i++)
        cg_jsonw_kint(j, cg_class_names[i], bill->usage.tokens[i]);
    cg_jsonw_kint(j, "reasoning", bill->usage.reasoning);
    cg_jsonw_obj_end(j);
    int64_t in = 0;
    for (unsigned i = 0; i < CG_CLASS_OUTPUT; i++)
        in += bill->usage.tokens[i];
    cg_jsonw_kint(j, "tokens_in", in);
    cg_jsonw_kint(j, "tokens_out", bill->usage.tokens[CG_CLASS_OUTPUT]);
    cg_jsonw_key(j, "server_tools");
    cg_jsonw_obj(j);
    for (unsigned i = 0; i < CG_TOOL_COUNT; i++)
        if (bill->usage.tools[i])
            cg_jsonw_kint(j, cg_tool_names[i], bill->usage.tools[i]);
    cg_jsonw_obj_end(j);
}

/* What is not priced is null, never 0. */
static void put_cost(struct call *c, struct cg_jsonw *j, const struct cg_bill *bill)
{
    cg_jsonw_kbool(j, "priced", bill->priced);
    cg_jsonw_key(j, "cost_nusd");
    if (!bill->priced) {
        cg_jsonw_null(j);
        return;
    }
    cg_jsonw_int(j, bill->total_nusd);
    cg_jsonw_kbool(j, "estimated", bill->estimated);
    if (bill->estimated)
        cg_jsonw_kint(j, "low_nusd", bill->low_nusd);
    cg_jsonw_key(j, "cost_by_class");
    cg_jsonw_obj(j);
    for (unsigned i = 0; i < CG_CLASS_COUNT; i++)
        if (bill->nusd[i])
            cg_jsonw_kint(j, cg_class_names[i], bill->nusd[i]);
    if (bill->tools_nusd)
        cg_jsonw_kint(j, "server_tools", bill->tools_nusd);
    cg_jsonw_obj_end(j);
    cg_jsonw_kstr(j, "prices", cg_prices_version(c->book));
}

static void put_reply(struct call *c, struct cg_jsonw *j)
{
    const struct cg_reply *r = c->tap ? cg_tap_reply(c->tap) : NULL;
    if (!r)
        return;
    if (r->model[0])
        cg_jsonw_kstr(j, "model_replied", r->model);
    if (r->id[0])
        cg_jsonw_kstr(j, "reply_id", r->id);
    cg_jsonw_kstr(j, "stop_reason", r->stop[0] ? r->stop : NULL);
    cg_jsonw_kint(j, "events", r->events);
    if (r->faults)
        cg_jsonw_kuint(j, "usage_faults", r->faults);
    if (r->failed)
        cg_jsonw_kstr(j, "error_type", r->error_type);
    cg_jsonw_key(j, "tool_calls");
    cg_jsonw_arr(j);
    for (unsigned i = 0; i < CG_MIN(r->tools_n, (unsigned)CG_REPLY_TOOLS_MAX); i++)
        cg_jsonw_str(j, r->tools[i].name);
    cg_jsonw_arr_end(j);
    if (r->raw_usage) /* the provider's words: kept as a text, so that they stay data */
        cg_jsonw_kstr(j, "raw_usage", r->raw_usage);
}

void tell_call_close(struct call *c, const struct cg_bill *bill)
{
    struct cg_buf b;
    struct cg_jsonw j;
    begin(c, &b, &j, "close");
    cg_jsonw_kstr(&j, "status", c->verdict);
    if (c->why[0])
        cg_jsonw_kstr(&j, "why", c->why);
    if (c->status)
        cg_jsonw_kint(&j, "http_status", c->status);
    cg_jsonw_kbool(&j, "hung_up", c->hung);
    put_tokens(&j, bill);
    put_cost(c, &j, bill);
    cg_jsonw_kint(&j, "duration_ms", (c->over_at - c->opened) / 1000000);
    if (c->sent_at && c->first_at)
        cg_jsonw_kint(&j, "ttft_ms", (c->first_at - c->sent_at) / 1000000);
    cg_jsonw_kuint(&j, "reply_bytes", c->reply.n);
    put_blob(c, &j, "request_blob", KEEP_REQUEST);
    put_blob(c, &j, "reply_blob", KEEP_REPLY);
    put_reply(c, &j);
    end(c, &b, &j);
}
