/* Events are cut at blank lines, their data parsed one by one. Usage is cumulative everywhere: the
 * largest figure of each class counts, sums never do. */
#include "gateway/reply.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

struct cg_tap {
    enum cg_llm_api api;
    bool stream, include_usage;
    cg_tap_event_fn event;
    void *ctx;
    struct cg_buf buf;
    size_t at;     /* events before this are given out */
    size_t looked; /* no end of an event before this */
    struct cg_buf joined;
    bool dead;
    bool final_seen;
    struct cg_reply r;
};

static const struct cg_json_limits limits = {CG_REPLY_EVENT_MAX, 64, 1 << 20};

struct cg_tap *cg_tap_create(const struct cg_llm_request *request, cg_tap_event_fn event, void *ctx)
{
    struct cg_tap *t = cg_alloc(sizeof *t);
    t->api = request->api;
    t->include_usage = request->include_usage;
    t->event = event;
    t->ctx = ctx;
    t->r.cost_told_nusd = -1;
    t->r.sequence = -1;
    t->r.thinking_hidden = request->api == CG_LLM_RESPONSES;
    cg_buf_init(&t->buf, CG_REPLY_EVENT_MAX + 65536);
    cg_buf_init(&t->joined, CG_REPLY_EVENT_MAX);
    return t;
}

void cg_tap_destroy(struct cg_tap *t)
{
    if (!t)
        return;
    cg_buf_finish(&t->buf);
    cg_buf_finish(&t->joined);
    free(t->r.raw_usage);
    free(t);
}

const struct cg_reply *cg_tap_reply(const struct cg_tap *t)
{
    return &t->r;
}

/* --- usage --- */

static int64_t tokens(struct cg_reply *r, const struct cg_json *o, const char *key)
{
    const struct cg_json *v = cg_json_get(o, key);
    if (!v || v->type == CG_JSON_NULL)
        return -1;
    if (v->type != CG_JSON_INT || v->integer < 0 || v->integer > INT64_C(1000000000)) {
        r->faults++;
        return -1;
    }
    return v->integer;
}

static void most(int64_t *to, int64_t v)
{
    if (v > *to)
        *to = v;
}

static void text_of(const struct cg_json *o, const char *key, char *out, size_t size)
{
    const char *s = cg_json_str(o, key);
    if (s)
        (void)cg_strlcpy(out, size, s);
}

static int64_t length_of(const struct cg_json *o, const char *key)
{
    const struct cg_json *v = cg_json_get(o, key);
    return v && v->type == CG_JSON_STR ? (int64_t)v->str.n : 0;
}

static void tier_of(struct cg_reply *r, const struct cg_json *o)
{
    const char *tier = cg_json_str(o, "service_tier");
    for (int i = 0; tier && i < CG_TIER_COUNT; i++) {
        if (cg_streq(tier, cg_tier_names[i])) {
            r->tier = (enum cg_tier)i;
            r->tier_told = true;
        }
    }
}

static void anthropic_usage(struct cg_reply *r, const struct cg_json *u)
{
    int64_t *t = r->usage.tokens;
    int64_t made = tokens(r, u, "cache_creation_input_tokens");
    const struct cg_json *split = cg_json_get(u, "cache_creation");
    most(&t[CG_CLASS_INPUT], tokens(r, u, "input_tokens"));
    most(&t[CG_CLASS_CACHE_READ], tokens(r, u, "cache_read_input_tokens"));
    most(&t[CG_CLASS_OUTPUT], tokens(r, u, "output_tokens"));
    if (split && split->type == CG_JSON_OBJ) {
        most(&t[CG_CLASS_CACHE_WRITE_5M], tokens(r, split, "ephemeral_5m_input_tokens"));
        most(&t[CG_CLASS_CACHE_WRITE_1H], tokens(r, split, "ephemeral_1h_input_tokens"));
    } else if (t[CG_CLASS_CACHE_WRITE_1H] == 0) {
        most(&t[CG_CLASS_CACHE_WRITE_5M], made);
    }
    most(&r->usage.tools[CG_TOOL_WEB_SEARCH],
         tokens(r, cg_json_get(u, "server_tool_use"), "web_search_requests"));
    const char *speed = cg_json_str(u, "speed");
    tier_of(r, u);
    if (cg_streq(speed, "fast")) {
        r->tier = CG_TIER_FAST;
        r->tier_told = true;
    }
}

/* Classes of which one is part of another are taken apart. */
static void openai_usage(struct cg_reply *r, const struct cg_json *u, const char *in,
                         const char *in_details, const char *out, const char *out_details)
{
    int64_t all = tokens(r, u, in);
    int64_t cached = tokens(r, cg_json_get(u, in_details), "cached_tokens");
    int64_t written = tokens(r, cg_json_get(u, in_details), "cache_write_tokens");
    int64_t *t = r->usage.tokens;
    cached = CG_MAX(cached, 0);
    written = CG_MAX(written, 0);
    if (all >= 0 && cached + written > all) {
        r->faults++;
        cached = written = 0;
    }
    if (all >= 0) {
        t[CG_CLASS_INPUT] = all - cached - written;
        t[CG_CLASS_CACHE_READ] = cached;
        t[CG_CLASS_CACHE_WRITE_5M] = written;
        r->input_known = true;
    }
    most(&t[CG_CLASS_OUTPUT], tokens(r, u, out));
    most(&r->usage.reasoning, tokens(r, cg_json_get(u, out_details), "reasoning_tokens"));
    const struct cg_json *cost = cg_json_get(u, "cost");
    if (cost && (cost->type == CG_JSON_NUM || cost->type == CG_JSON_INT))
        r->cost_told_nusd = cg_money_from_usd(cost->number);
}

static void gemini_usage(struct cg_reply *r, const struct cg_json *u)
{
    int64_t all = tokens(r, u, "promptTokenCount");
    int64_t cached = CG_MAX(tokens(r, u, "cachedContentTokenCount"), 0);
    int64_t tool = CG_MAX(tokens(r, u, "toolUsePromptTokenCount"), 0);
    int64_t out = tokens(r, u, "candidatesTokenCount");
    int64_t thought = CG_MAX(tokens(r, u, "thoughtsTokenCount"), 0);
    if (all >= 0 && cached > all) {
        r->faults++;
        cached = 0;
    }
    if (all >= 0) {
        r->usage.tokens[CG_CLASS_INPUT] = all - cached + tool;
        r->usage.tokens[CG_CLASS_CACHE_READ] = cached;
        r->input_known = true;
    }
    most(&r->usage.tokens[CG_CLASS_OUTPUT], CG_MAX(out, 0) + thought);
    most(&r->usage.reasoning, thought);
}

/* The usage object as it stands in the text: the last one, with matching braces. */
static void keep_raw(struct cg_reply *r, struct cg_slice text, const char *key)
{
    const char *at = NULL;
    size_t k = strlen(key);
    const char *end = text.p + text.n;
    for (const char *hit = text.p; (hit = memmem(hit, (size_t)(end - hit), key, k)) != NULL;)
        at = hit += k;
    while (at && at < end && (*at == ' ' || *at == ':'))
        at++;
    if (!at || at >= end || *at != '{')
        return;
    unsigned depth = 0;
    bool inside = false;
    const char *p = at;
    for (; p < end; p++) {
        if (inside && *p == '\\')
            p++;
        else if (*p == '"')
            inside = !inside;
        else if (!inside && *p == '{')
            depth++;
        else if (!inside && *p == '}' && --depth == 0)
            break;
    }
    size_t n = (size_t)(p - at) + 1;
    if (p >= end || n > CG_REPLY_RAW_MAX)
        return;
    free(r->raw_usage);
    r->raw_usage = cg_strndup(at, n);
}

static void add_tool(struct cg_reply *r, const char *name, const char *id)
{
    if (!name)
        return;
    if (r->tools_n < CG_REPLY_TOOLS_MAX) {
        struct cg_reply_tool *t = &r->tools[r->tools_n];
        (void)cg_strlcpy(t->name, sizeof t->name, name);
        (void)cg_strlcpy(t->id, sizeof t->id, id ? id : "");
    }
    r->tools_n++;
}

static void take_error(struct cg_reply *r, const struct cg_json *error)
{
    r->failed = true;
    text_of(error, "type", r->error_type, sizeof r->error_type);
    if (!r->error_type[0])
        text_of(error, "code", r->error_type, sizeof r->error_type);
    text_of(error, "message", r->error_message, sizeof r->error_message);
}

/* --- Messages --- */

static void messages_event(struct cg_tap *t, const struct cg_json *o)
{
    struct cg_reply *r = &t->r;
    const char *type = cg_json_str(o, "type");
    const struct cg_json *m = cg_json_get(o, "message");
    const struct cg_json *d = cg_json_get(o, "delta");
    const struct cg_json *b = cg_json_get(o, "content_block");
    if (cg_streq(type, "message_start")) {
        text_of(m, "model", r->model, sizeof r->model);
        text_of(m, "id", r->id, sizeof r->id);
        anthropic_usage(r, cg_json_get(m, "usage"));
        r->input_known =
            r->usage.tokens[CG_CLASS_INPUT] > 0 || r->usage.tokens[CG_CLASS_CACHE_READ] > 0;
    } else if (cg_streq(type, "content_block_start")) {
        const char *kind = cg_json_str(b, "type");
        r->thinking_now = kind && strstr(kind, "thinking");
        r->thinking_hidden |= cg_streq(kind, "redacted_thinking");
        if (cg_streq(kind, "tool_use"))
            add_tool(r, cg_json_str(b, "name"), cg_json_str(b, "id"));
    } else if (cg_streq(type, "content_block_delta")) {
        r->visible_bytes += length_of(d, "text") + length_of(d, "partial_json");
        r->thinking_bytes += length_of(d, "thinking");
    } else if (cg_streq(type, "content_block_stop")) {
        r->thinking_now = false;
    } else if (cg_streq(type, "message_delta")) {
        const struct cg_json *u = cg_json_get(o, "usage");
        text_of(d, "stop_reason", r->stop, sizeof r->stop);
        anthropic_usage(r, u);
        t->final_seen = tokens(r, u, "output_tokens") >= 0;
    } else if (cg_streq(type, "message_stop")) {
        r->finished = true;
    } else if (cg_streq(type, "error")) {
        take_error(r, cg_json_get(o, "error"));
    }
    r->usage_final = r->finished && t->final_seen;
}

static void messages_body(struct cg_tap *t, const struct cg_json *o)
{
    struct cg_reply *r = &t->r;
    const struct cg_json *u = cg_json_get(o, "usage");
    const struct cg_json *list = cg_json_get(o, "content");
    text_of(o, "model", r->model, sizeof r->model);
    text_of(o, "id", r->id, sizeof r->id);
    text_of(o, "stop_reason", r->stop, sizeof r->stop);
    for (const struct cg_json *b = list ? list->child : NULL; b; b = b->next) {
        r->visible_bytes += length_of(b, "text");
        if (cg_streq(cg_json_str(b, "type"), "tool_use"))
            add_tool(r, cg_json_str(b, "name"), cg_json_str(b, "id"));
    }
    anthropic_usage(r, u);
    r->usage_final = tokens(r, u, "output_tokens") >= 0 && tokens(r, u, "input_tokens") >= 0;
    r->input_known = r->usage_final;
}

/* --- Responses --- */

static void responses_body(struct cg_tap *t, const struct cg_json *o)
{
    struct cg_reply *r = &t->r;
    const struct cg_json *u = cg_json_get(o, "usage");
    text_of(o, "model", r->model, sizeof r->model);
    text_of(o, "id", r->id, sizeof r->id);
    text_of(o, "status", r->stop, sizeof r->stop);
    tier_of(r, o);
    if (!u || u->type != CG_JSON_OBJ)
        return;
    openai_usage(r, u, "input_tokens", "input_tokens_details", "output_tokens",
                 "output_tokens_details");
    r->usage_final = tokens(r, u, "output_tokens") >= 0 && r->input_known;
}

static void responses_event(struct cg_tap *t, const struct cg_json *o)
{
    struct cg_reply *r = &t->r;
    const char *type = cg_json_str(o, "type");
    const struct cg_json *item = cg_json_get(o, "item");
    most(&r->sequence, cg_json_int(o, "sequence_number", -1));
    if (!type)
        return;
    if (cg_has_suffix(type, ".delta")) {
        bool thinks = strstr(type, "reasoning") != NULL;
        *(thinks ? &r->thinking_bytes : &r->visible_bytes) += length_of(o, "delta");
        r->thinking_now = thinks;
    } else if (cg_streq(type, "response.output_item.added")) {
        const char *kind = cg_json_str(item, "type");
        r->thinking_now = cg_streq(kind, "reasoning");
        if (kind && strstr(kind, "_call"))
            add_tool(r, cg_json_str(item, "name") ? cg_json_str(item, "name") : kind,
                     cg_json_str(item, "call_id"));
    } else if (cg_streq(type, "response.created")) {
        text_of(cg_json_get(o, "response"), "model", r->model, sizeof r->model);
        text_of(cg_json_get(o, "response"), "id", r->id, sizeof r->id);
    } else if (cg_streq(type, "response.completed") || cg_streq(type, "response.incomplete") ||
               cg_streq(type, "response.failed")) {
        r->finished = true;
        responses_body(t, cg_json_get(o, "response"));
        if (cg_streq(type, "response.failed"))
            take_error(r, cg_json_get(cg_json_get(o, "response"), "error"));
    } else if (cg_streq(type, "error")) {
        take_error(r, o);
    }
}

/* --- Chat --- */

static void chat_choice(struct cg_reply *r, const struct cg_json *choice, const char *where)
{
    const struct cg_json *d = cg_json_get(choice, where);
    const struct cg_json *list = cg_json_get(d, "tool_calls");
    text_of(choice, "finish_reason", r->stop, sizeof r->stop);
    r->visible_bytes += length_of(d, "content");
    int64_t thought = length_of(d, "reasoning_content") + length_of(d, "reasoning");
    r->thinking_bytes += thought;
    for (const struct cg_json *c = list ? list->child : NULL; c; c = c->next) {
        const struct cg_json *f = cg_json_get(c, "function");
        r->visible_bytes += length_of(f, "arguments");
        add_tool(r, cg_json_str(f, "name"), cg_json_str(c, "id"));
    }
}

/* True: the chunk is there for usage only. */
static bool chat_event(struct cg_tap *t, const struct cg_json *o, const char *where)
{
    struct cg_reply *r = &t->r;
    const struct cg_json *choices = cg_json_get(o, "choices");
    const struct cg_json *u = cg_json_get(o, "usage");
    text_of(o, "model", r->model, sizeof r->model);
    text_of(o, "id", r->id, sizeof r->id);
    tier_of(r, o);
    for (const struct cg_json *c = choices ? choices->child : NULL; c; c = c->next)
        chat_choice(r, c, where);
    if (cg_json_get(o, "error"))
        take_error(r, cg_json_get(o, "error"));
    if (!u || u->type != CG_JSON_OBJ)
        return false;
    openai_usage(r, u, "prompt_tokens", "prompt_tokens_details", "completion_tokens",
                 "completion_tokens_details");
    r->usage_final = tokens(r, u, "completion_tokens") >= 0 && r->input_known;
    return !choices || choices->count == 0;
}

/* --- Gemini --- */

static void gemini_event(struct cg_tap *t, const struct cg_json *o)
{
    struct cg_reply *r = &t->r;
    const struct cg_json *list = cg_json_get(o, "candidates");
    const struct cg_json *u = cg_json_get(o, "usageMetadata");
    text_of(o, "modelVersion", r->model, sizeof r->model);
    text_of(o, "responseId", r->id, sizeof r->id);
    for (const struct cg_json *c = list ? list->child : NULL; c; c = c->next) {
        const struct cg_json *parts = cg_json_get(cg_json_get(c, "content"), "parts");
        text_of(c, "finishReason", r->stop, sizeof r->stop);
        for (const struct cg_json *p = parts ? parts->child : NULL; p; p = p->next) {
            r->visible_bytes += length_of(p, "text");
            const struct cg_json *call = cg_json_get(p, "functionCall");
            add_tool(r, cg_json_str(call, "name"), cg_json_str(call, "id"));
        }
    }
    if (cg_json_get(o, "error"))
        take_error(r, cg_json_get(o, "error"));
    if (u && u->type == CG_JSON_OBJ)
        gemini_usage(r, u);
    r->finished |= r->stop[0] != '\0';
    r->usage_final = r->finished && r->input_known;
}

/* --- the stream --- */

static bool take(struct cg_tap *t, const struct cg_json *o, bool whole)
{
    switch (t->api) {
    case CG_LLM_MESSAGES:
        (whole ? messages_body : messages_event)(t, o);
        return false;
    case CG_LLM_RESPONSES:
        (whole ? responses_body : responses_event)(t, o);
        return false;
    case CG_LLM_CHAT:
        return chat_event(t, o, whole ? "message" : "delta");
    case CG_LLM_GEMINI:
        gemini_event(t, o);
        return false;
    case CG_LLM_NONE:
    case CG_LLM_FREE:
    case CG_LLM_API_COUNT:
        break;
    }
    return false;
}

/* The `data:` lines of an event: where they stand when there is one, else joined. */
static struct cg_slice data_of(struct cg_tap *t, struct cg_slice raw)
{
    struct cg_slice one = {NULL, 0};
    const char *end = raw.p + raw.n;
    cg_buf_clear(&t->joined);
    for (const char *line = raw.p, *next; line < end; line = next) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((nl ? nl : end) - line);
        next = nl ? nl + 1 : end;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (n < 5 || memcmp(line, "data:", 5) != 0)
            continue;
        size_t skip = n > 5 && line[5] == ' ' ? 6 : 5;
        struct cg_slice text = {line + skip, n - skip};
        if (!one.p) {
            one = text;
            continue;
        }
        if (t->joined.n == 0)
            (void)cg_buf_add(&t->joined, one.p, one.n);
        if (t->joined.n > 0)
            (void)cg_buf_addc(&t->joined, '\n');
        (void)cg_buf_add(&t->joined, text.p, text.n);
    }
    return t->joined.n > 0 ? cg_buf_slice(&t->joined) : one;
}

static void one_event(struct cg_tap *t, struct cg_slice raw)
{
    bool hide = false;
    struct cg_slice data = data_of(t, raw);
    t->r.events++;
    if (data.n > 0 && cg_slice_eq(data, "[DONE]")) {
        t->r.finished = true;
    } else if (data.n > 0) {
        CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(data, &limits, NULL);
        t->r.started = true;
        if (o) {
            hide = take(t, o, false) && t->api == CG_LLM_CHAT && !t->include_usage;
            keep_raw(&t->r, data, t->api == CG_LLM_GEMINI ? "\"usageMetadata\"" : "\"usage\"");
        }
    }
    if (t->event)
        t->event(t->ctx, raw, hide);
}

/* Behind the blank line that ends the next event; 0: it is not whole. */
static size_t event_end(struct cg_tap *t)
{
    const char *end = t->buf.p + t->buf.n;
    const char *p = t->buf.p + t->looked;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        if (p + 1 < end && p[1] == '\n')
            return (size_t)(p - t->buf.p) + 2;
        if (p + 2 < end && p[1] == '\r' && p[2] == '\n')
            return (size_t)(p - t->buf.p) + 3;
        if (p + 2 >= end)
            break; /* looked at again when more has come */
        p++;
    }
    t->looked = p && p < end ? (size_t)(p - t->buf.p) : t->buf.n;
    return 0;
}

bool cg_tap_feed(struct cg_tap *t, struct cg_slice bytes, struct cg_err *e)
{
    if (t->dead || !cg_buf_add(&t->buf, bytes.p, bytes.n)) {
        t->dead = true;
        return cg_fail(e, CG_TOO_LARGE, "an event of the reply is too large");
    }
    for (size_t n; (n = event_end(t)) > 0;) {
        struct cg_slice raw = {t->buf.p + t->at, n - t->at};
        t->at = t->looked = n;
        one_event(t, raw);
    }
    cg_buf_consume(&t->buf, t->at);
    t->looked -= t->at;
    t->at = 0;
    if (t->buf.n > CG_REPLY_EVENT_MAX) {
        t->dead = true;
        return cg_fail(e, CG_TOO_LARGE, "an event of the reply is too large");
    }
    return true;
}

void cg_tap_end(struct cg_tap *t)
{
    struct cg_slice rest = {t->buf.p + t->at, t->buf.n - t->at};
    if (rest.n > 0 && !t->dead)
        one_event(t, rest);
    cg_buf_clear(&t->buf);
    t->at = t->looked = 0;
}

bool cg_tap_json(struct cg_tap *t, struct cg_slice body, struct cg_err *e)
{
    const struct cg_json_limits big = {CG_LLM_BODY_MAX, 64, 1 << 20};
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(body, &big, e);
    const struct cg_json *error = cg_json_get(o, "error");
    t->r.started = body.n > 0;
    if (!o)
        return cg_wrap(e, "the provider's reply");
    if (error && error->type == CG_JSON_OBJ) {
        take_error(&t->r, error);
        return true;
    }
    t->r.finished = true;
    (void)take(t, o, true);
    keep_raw(&t->r, body, t->api == CG_LLM_GEMINI ? "\"usageMetadata\"" : "\"usage\"");
    return true;
}
