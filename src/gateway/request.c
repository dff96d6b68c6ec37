/* One strict pass over the body: valid JSON, bounded depth, and the members that decide what a call
 * may cost, with their places. A member that matters is refused when it stands twice, in another
 * case, or with an escape in its name. */
#include "gateway/request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/scan.h"

enum { DEPTH_MAX = 64 };

const char *const cg_llm_api_names[CG_LLM_API_COUNT] = {
    [CG_LLM_NONE] = "none", [CG_LLM_MESSAGES] = "messages", [CG_LLM_RESPONSES] = "responses",
    [CG_LLM_CHAT] = "chat", [CG_LLM_GEMINI] = "gemini",     [CG_LLM_FREE] = "free",
};

/* --- paths --- */

static bool gemini(struct cg_slice method, const char *p, size_t n, struct cg_llm_route *out)
{
    static const char *const roots[] = {"/v1beta/models/", "/v1/models/", "/v1alpha/models/"};
    for (size_t i = 0; i < CG_COUNT(roots); i++) {
        size_t root = strlen(roots[i]);
        if (n <= root || strncmp(p, roots[i], root) != 0)
            continue;
        const char *colon = memchr(p + root, ':', n - root);
        if (!colon || !cg_slice_eq(method, "POST"))
            return false;
        size_t name = (size_t)(colon - p) - root;
        struct cg_slice verb = {colon + 1, n - root - name - 1};
        out->shape = CG_LLM_GEMINI;
        out->stream = cg_slice_eq(verb, "streamGenerateContent");
        out->count_tokens = cg_slice_eq(verb, "countTokens");
        if (name == 0 || name >= sizeof out->model || memchr(p + root, '/', name))
            return true;
        memcpy(out->model, p + root, name);
        if (out->stream || cg_slice_eq(verb, "generateContent"))
            out->api = CG_LLM_GEMINI;
        else if (out->count_tokens)
            out->api = CG_LLM_FREE;
        return true;
    }
    return false;
}

void cg_llm_route(struct cg_slice method, struct cg_slice path, struct cg_llm_route *out)
{
    static const struct {
        const char *method, *path;
        enum cg_llm_api api, shape;
    } table[] = {{"POST", "/v1/messages", CG_LLM_MESSAGES, CG_LLM_MESSAGES},
                 {"POST", "/v1/messages/count_tokens", CG_LLM_FREE, CG_LLM_MESSAGES},
                 {"POST", "/v1/responses", CG_LLM_RESPONSES, CG_LLM_RESPONSES},
                 {"GET", "/v1/responses", CG_LLM_RESPONSES, CG_LLM_RESPONSES}, /* a WebSocket */
                 {"POST", "/v1/chat/completions", CG_LLM_CHAT, CG_LLM_CHAT},
                 {"GET", "/v1/models", CG_LLM_FREE, CG_LLM_CHAT},
                 {"GET", "/v1beta/models", CG_LLM_FREE, CG_LLM_GEMINI}};
    *out = (struct cg_llm_route){.api = CG_LLM_NONE, .shape = CG_LLM_CHAT};
    size_t n = 0;
    while (n < path.n && path.p[n] != '?')
        n++;
    struct cg_slice plain = {path.p, n};
    for (size_t i = 0; i < CG_COUNT(table); i++) {
        if (!cg_slice_eq(method, table[i].method) || !cg_slice_eq(plain, table[i].path))
            continue;
        out->api = table[i].api;
        out->shape = table[i].shape;
        out->count_tokens = i == 1;
        return;
    }
    (void)gemini(method, path.p, n, out);
}

/* --- the pass --- */

struct pass {
    const char *start, *p, *end;
    struct cg_llm_request *r;
    struct cg_err *e;
    unsigned depth;
    uint32_t seen; /* members that matter */
};

/* A value as it stands. */
struct value {
    struct cg_llm_span span;
    char kind;            /* { [ " n(umber) t f 0(null) */
    struct cg_slice text; /* of a string without its quotes, of a number */
    bool escaped;
    int64_t number; /* -1: none that is whole and fits */
    unsigned count; /* of items */
};

static bool bad(struct pass *s, const char *what)
{
    return cg_fail(s->e, CG_INVALID, "Caged: the request's body: %s", what);
}

static void blank(struct pass *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool is_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
    case 'u':
        return true;
    default:
        return false;
    }
}

static bool string(struct pass *s, struct cg_slice *out, bool *escaped)
{
    const char *from = s->p + 1, *p = from, *end = s->end;
    *escaped = false;
    for (;; p++) {
        p = cg_scan_plain(p, end);
        if (p >= end || *p != '\\')
            break;
        *escaped = true;
        if (++p >= end || !is_escape(*p))
            return bad(s, "a bad escape");
    }
    if (p >= end)
        return bad(s, "it ends within a string");
    if (*p != '"')
        return bad(s, "a control character in a string");
    *out = (struct cg_slice){from, (size_t)(p - from)};
    s->p = p + 1;
    return true;
}

static bool number(struct pass *s, struct value *v)
{
    const char *from = s->p;
    while (s->p < s->end && strchr("+-.eE0123456789", *s->p))
        s->p++;
    v->kind = 'n';
    v->text = (struct cg_slice){from, (size_t)(s->p - from)};
    v->number = 0;
    bool whole = v->text.n > 0 && v->text.n <= 18;
    for (size_t i = 0; whole && i < v->text.n; i++) {
        whole = from[i] >= '0' && from[i] <= '9';
        v->number = v->number * 10 + (from[i] - '0');
    }
    if (!whole)
        v->number = -1;
    return (*from == '-' || (*from >= '0' && *from <= '9')) || bad(s, "no JSON");
}

static bool value(struct pass *s, struct cg_slice key, const char *in, struct value *v);

static bool word(struct pass *s, const char *text, char kind, struct value *v)
{
    size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0)
        return bad(s, "no JSON");
    s->p += n;
    v->kind = kind;
    return true;
}

enum member {
    M_MODEL,
    M_STREAM,
    M_MAX_TOKENS,
    M_MAX_COMPLETION,
    M_MAX_OUTPUT,
    M_N,
    M_TIER,
    M_BACKGROUND,
    M_THINKING,
    M_BUDGET,
    M_CONFIG,
    M_MAX_GEMINI,
    M_CANDIDATES,
    M_OPTIONS,
    M_USAGE,
    M_SPEED,
    M_GEO,
    M_PREVIOUS,
    M_PROMPT,
    M_COUNT
};

static const struct {
    const char *in, *name;
} members[M_COUNT] = {
    [M_MODEL] = {"", "model"},
    [M_STREAM] = {"", "stream"},
    [M_MAX_TOKENS] = {"", "max_tokens"},
    [M_MAX_COMPLETION] = {"", "max_completion_tokens"},
    [M_MAX_OUTPUT] = {"", "max_output_tokens"},
    [M_N] = {"", "n"},
    [M_TIER] = {"", "service_tier"},
    [M_BACKGROUND] = {"", "background"},
    [M_THINKING] = {"", "thinking"},
    [M_BUDGET] = {"thinking", "budget_tokens"},
    [M_CONFIG] = {"", "generationConfig"},
    [M_MAX_GEMINI] = {"generationConfig", "maxOutputTokens"},
    [M_CANDIDATES] = {"generationConfig", "candidateCount"},
    [M_OPTIONS] = {"", "stream_options"},
    [M_USAGE] = {"stream_options", "include_usage"},
    [M_SPEED] = {"", "speed"},
    [M_GEO] = {"", "inference_geo"},
    [M_PREVIOUS] = {"", "previous_response_id"},
    [M_PROMPT] = {"", "prompt"},
};

static bool find_member(struct pass *s, const char *in, struct cg_slice key, bool escaped, int *out)
{
    *out = -1;
    for (int i = 0; i < M_COUNT; i++) {
        size_t n = strlen(members[i].name);
        if (!cg_streq(members[i].in, in))
            continue;
        if (escaped)
            return bad(s, "a member's name has an escape in it");
        if (key.n != n || strncasecmp(key.p, members[i].name, n) != 0)
            continue;
        if (memcmp(key.p, members[i].name, n) != 0)
            return bad(s, "a member that matters stands there in another case");
        if (s->seen & 1u << i)
            return cg_fail(s->e, CG_INVALID, "Caged: the request's body: %s stands there twice",
                           members[i].name);
        s->seen |= 1u << i;
        *out = i;
    }
    return true;
}

static enum cg_tier tier_of(struct cg_slice t)
{
    for (int i = 0; i < CG_TIER_COUNT; i++)
        if (cg_slice_eq(t, cg_tier_names[i]))
            return (enum cg_tier)i;
    return CG_TIER_STANDARD;
}

static bool take_cap(struct pass *s, const struct value *v)
{
    if (v->kind == '0')
        return true;
    if (v->number < 0)
        return bad(s, "the cap on output must be a whole number");
    s->r->max_output = s->r->max_output < 0 ? v->number : CG_MIN(s->r->max_output, v->number);
    return true;
}

static bool take_member(struct pass *s, int m, const struct value *v)
{
    struct cg_llm_request *r = s->r;
    switch (m) {
    case M_MODEL:
        if (v->kind != '"' || v->escaped || v->text.n == 0 || v->text.n >= sizeof r->model)
            return bad(s, "model must be a plain name");
        memcpy(r->model, v->text.p, v->text.n);
        r->model[v->text.n] = '\0';
        return true;
    case M_STREAM:
        r->stream = v->kind == 't';
        return true;
    case M_MAX_TOKENS:
        if (r->api != CG_LLM_MESSAGES && r->api != CG_LLM_CHAT)
            return true;
        r->cap = v->span;
        return take_cap(s, v);
    case M_MAX_COMPLETION:
        if (r->api != CG_LLM_CHAT)
            return true;
        r->cap2 = v->span;
        return take_cap(s, v);
    case M_MAX_OUTPUT:
        if (r->api != CG_LLM_RESPONSES)
            return true;
        r->cap = v->span;
        return take_cap(s, v);
    case M_MAX_GEMINI:
        r->cap = v->span;
        return take_cap(s, v);
    case M_N:
    case M_CANDIDATES:
        if (v->kind == 'n' && (v->number < 1 || v->number > 128))
            return bad(s, "the number of choices must be 1 to 128");
        r->choices = v->kind == 'n' ? v->number : 1;
        return true;
    case M_TIER:
        r->tier_said = v->kind == '"' && !cg_slice_eq(v->text, "auto");
        r->tier = tier_of(v->text);
        return true;
    case M_SPEED:
        if (v->kind == '"' && cg_slice_eq(v->text, "fast"))
            r->tier = CG_TIER_FAST;
        return true;
    case M_BACKGROUND:
        return v->kind != 't' ||
               cg_fail(s->e, CG_UNSUPPORTED,
                       "Caged: background calls run on after they were cut and are refused");
    case M_BUDGET:
        r->thinking = v->number;
        r->budget = v->span;
        return true;
    case M_CONFIG:
        r->config = v->span;
        r->config_empty = v->count == 0;
        return v->kind == '{' || bad(s, "generationConfig must be an object");
    case M_OPTIONS:
        r->options = v->kind == '{' ? v->span : (struct cg_llm_span){0, 0};
        r->options_empty = v->count == 0;
        return true;
    case M_USAGE:
        r->include_usage = v->kind == 't';
        r->usage_flag = v->span;
        return true;
    case M_GEO:
        r->geo = v->kind == '"' && !cg_slice_eq(v->text, "global");
        return true;
    case M_PREVIOUS:
    case M_PROMPT:
        r->hidden_input |= v->kind == '"' || v->kind == '{';
        return true;
    default:
        return true;
    }
}

/* What may stand anywhere: media, caching, tools of the provider. */
static void notice(struct pass *s, struct cg_slice key, const struct value *v, const char *in)
{
    static const struct {
        const char *prefix;
        enum cg_server_tool tool;
    } tools[] = {{"web_search", CG_TOOL_WEB_SEARCH},
                 {"web_fetch", CG_TOOL_WEB_FETCH},
                 {"file_search", CG_TOOL_FILE_SEARCH},
                 {"code_interpreter", CG_TOOL_CODE},
                 {"code_execution", CG_TOOL_CODE}};
    struct cg_llm_request *r = s->r;
    bool top = in && in[0] == '\0';
    if (top && v->kind == '[') {
        if (cg_slice_eq(key, "messages") || cg_slice_eq(key, "input") ||
            cg_slice_eq(key, "contents"))
            r->messages = v->count;
        if (cg_slice_eq(key, "tools"))
            r->tools = v->count;
    }
    r->caching |= cg_slice_eq(key, "cache_control");
    if (v->kind != '"')
        return;
    r->ttl_1h |= cg_slice_eq(key, "ttl") && cg_slice_eq(v->text, "1h");
    bool data =
        cg_slice_eq(key, "data") || cg_slice_eq(key, "image_url") || cg_slice_eq(key, "url");
    if (data && v->text.n > 1024)
        r->media_bytes += v->text.n;
    if (!cg_slice_eq(key, "type"))
        return;
    r->images += cg_slice_eq(v->text, "image") || cg_slice_eq(v->text, "image_url") ||
                 cg_slice_eq(v->text, "input_image");
    r->documents += cg_slice_eq(v->text, "document") || cg_slice_eq(v->text, "input_file") ||
                    cg_slice_eq(v->text, "input_audio");
    for (size_t i = 0; s->depth == 3 && i < CG_COUNT(tools); i++)
        if (v->text.n >= strlen(tools[i].prefix) &&
            strncmp(v->text.p, tools[i].prefix, strlen(tools[i].prefix)) == 0 &&
            memcmp(v->text.p, "web_search_tool_result", CG_MIN(v->text.n, (size_t)22)) != 0)
            r->server_tools |= 1u << tools[i].tool;
}

static bool object(struct pass *s, const char *in, struct value *v)
{
    v->kind = '{';
    s->p++;
    blank(s);
    if (in && in[0] == '\0') {
        s->r->cut_at = (size_t)(s->p - s->start);
        s->r->empty = s->p < s->end && *s->p == '}';
    }
    while (s->p < s->end && *s->p != '}') {
        struct cg_slice key;
        bool escaped;
        int m = -1;
        struct value inner = {.number = -1};
        if (v->count > 0) {
            if (*s->p != ',')
                return bad(s, "no JSON");
            s->p++;
            blank(s);
        }
        if (s->p >= s->end || *s->p != '"' || !string(s, &key, &escaped))
            return bad(s, "no JSON");
        if (in && !find_member(s, in, key, escaped, &m))
            return false;
        blank(s);
        if (s->p >= s->end || *s->p++ != ':')
            return bad(s, "no JSON");
        const char *below = in && in[0] == '\0' && m >= 0 ? members[m].name : NULL;
        if (!value(s, key, below, &inner))
            return false;
        if (m >= 0 && !take_member(s, m, &inner))
            return false;
        notice(s, key, &inner, in);
        v->count++;
        blank(s);
    }
    if (s->p >= s->end)
        return bad(s, "it ends within an object");
    s->p++;
    return true;
}

static bool array(struct pass *s, struct value *v)
{
    v->kind = '[';
    s->p++;
    blank(s);
    while (s->p < s->end && *s->p != ']') {
        struct value inner = {.number = -1};
        if (v->count > 0) {
            if (*s->p != ',')
                return bad(s, "no JSON");
            s->p++;
        }
        if (!value(s, (struct cg_slice){"", 0}, NULL, &inner))
            return false;
        v->count++;
        blank(s);
    }
    if (s->p >= s->end)
        return bad(s, "it ends within an array");
    s->p++;
    return true;
}

static bool value(struct pass *s, struct cg_slice key, const char *in, struct value *v)
{
    (void)key;
    blank(s);
    if (s->p >= s->end)
        return bad(s, "it ends too early");
    if (s->depth >= DEPTH_MAX)
        return bad(s, "it is nested too deeply");
    size_t at = (size_t)(s->p - s->start);
    bool ok = true;
    s->depth++;
    switch (*s->p) {
    case '{':
        ok = object(s, in, v);
        break;
    case '[':
        ok = array(s, v);
        break;
    case '"':
        v->kind = '"';
        ok = string(s, &v->text, &v->escaped);
        break;
    case 't':
        ok = word(s, "true", 't', v);
        break;
    case 'f':
        ok = word(s, "false", 'f', v);
        break;
    case 'n':
        ok = word(s, "null", '0', v);
        break;
    default:
        ok = number(s, v);
    }
    s->depth--;
    v->span = (struct cg_llm_span){at, (size_t)(s->p - s->start) - at};
    return ok;
}

bool cg_llm_request_parse(const struct cg_llm_route *route, struct cg_slice body,
                          struct cg_llm_request *out, struct cg_err *e)
{
    *out = (struct cg_llm_request){
        .api = route->api, .max_output = -1, .choices = 1, .thinking = -1, .body_bytes = body.n};
    for (int i = 0; i < CG_TOOL_COUNT; i++)
        out->tool_uses[i] = -1;
    struct pass s = {.start = body.p, .p = body.p, .end = body.p + body.n, .r = out, .e = e};
    struct value v = {.number = -1};
    if (body.n == 0 || body.n > CG_LLM_BODY_MAX)
        return bad(&s, "it is empty or too large");
    if (!value(&s, (struct cg_slice){"", 0}, "", &v))
        return false;
    blank(&s);
    if (v.kind != '{' || s.p != s.end)
        return bad(&s, "it must be one JSON object");
    if (route->api == CG_LLM_GEMINI) {
        (void)cg_strlcpy(out->model, sizeof out->model, route->model);
        out->stream = route->stream;
    }
    return out->model[0] || bad(&s, "model is missing");
}
