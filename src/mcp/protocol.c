/* JSON-RPC 2.0 and the life of the protocol. Three versions are spoken: 2024-11-05 and 2025-11-25
 * begin with `initialize`; in 2026-07-28 every request carries its version and the client's
 * capabilities in _meta, and nothing is remembered. */
#include <stdlib.h>
#include <string.h>

#include "mcp/inner.h"

#define META "io.modelcontextprotocol/"

enum { CACHE_MS = 3600000 };

static const char modern_version[] = "2026-07-28";
static const char newest_legacy[] = "2025-11-25";
static const char oldest[] = "2024-11-05";

struct cg_mcp *cg_mcp_create(const struct cg_mcp_options *o)
{
    struct cg_mcp *m = cg_alloc(sizeof *m);
    m->o = *o;
    return m;
}

void cg_mcp_destroy(struct cg_mcp *m)
{
    if (!m)
        return;
    m->gone = true;
    if (m->calls == 0)
        free(m); /* else the last call does */
}

unsigned cg_mcp_calls(const struct cg_mcp *m)
{
    return m->calls;
}

/* --- answers --- */

static void begin(struct cg_jsonw *w, struct cg_buf *b, const char *id)
{
    cg_buf_init(b, 8 * CG_MCP_TEXT_MAX);
    cg_jsonw_init(w, b);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "jsonrpc", "2.0");
    cg_jsonw_key(w, "id");
    cg_jsonw_raw(w, id, strlen(id));
}

static void send(struct cg_mcp *m, struct cg_buf *b)
{
    if (!m->gone)
        m->o.reply(m->o.ctx, cg_buf_slice(b));
    cg_buf_finish(b);
}

static void begin_error(struct cg_jsonw *w, struct cg_buf *b, const char *id, int code,
                        const char *text)
{
    begin(w, b, id);
    cg_jsonw_key(w, "error");
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "code", code);
    cg_jsonw_kstr(w, "message", text);
}

void mcp_error(struct cg_mcp *m, const char *id, int code, const char *text)
{
    struct cg_jsonw w;
    struct cg_buf b;
    begin_error(&w, &b, id, code, text);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    send(m, &b);
}

void mcp_result_begin(struct cg_jsonw *w, struct cg_buf *b, const char *id, struct mcp_era era)
{
    begin(w, b, id);
    cg_jsonw_key(w, "result");
    cg_jsonw_obj(w);
    if (era.modern)
        cg_jsonw_kstr(w, "resultType", "complete");
}

void mcp_result_end(struct cg_mcp *m, struct cg_jsonw *w, struct cg_buf *b, const char *id)
{
    cg_jsonw_obj_end(w);
    cg_jsonw_obj_end(w);
    if (!b->full) {
        send(m, b);
        return;
    }
    cg_buf_finish(b);
    mcp_error(m, id, RPC_INTERNAL, "the result is too large to send");
}

static void write_cache(struct cg_jsonw *w, struct mcp_era era)
{
    if (!era.modern)
        return;
    cg_jsonw_kint(w, "ttlMs", CACHE_MS);
    cg_jsonw_kstr(w, "cacheScope", "public");
}

static void write_versions(struct cg_jsonw *w, const char *key)
{
    cg_jsonw_key(w, key);
    cg_jsonw_arr(w);
    cg_jsonw_str(w, modern_version);
    cg_jsonw_str(w, newest_legacy);
    cg_jsonw_str(w, oldest);
    cg_jsonw_arr_end(w);
}

static void refuse_version(struct cg_mcp *m, const char *id, const char *asked)
{
    struct cg_jsonw w;
    struct cg_buf b;
    begin_error(&w, &b, id, RPC_VERSION, "this protocol version is not spoken");
    cg_jsonw_key(&w, "data");
    cg_jsonw_obj(&w);
    write_versions(&w, "supported");
    cg_jsonw_kstr(&w, "requested", asked);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    send(m, &b);
}

/* --- requests --- */

struct request {
    struct cg_mcp *m;
    char *id;
    const struct cg_json *params; /* an object, or NULL */
    struct mcp_era era;
};

static void write_self(const struct cg_mcp *m, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "capabilities");
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "tools");
    cg_jsonw_raw(w, "{}", 2);
    if (m->o.lists_empty) {
        cg_jsonw_key(w, "resources");
        cg_jsonw_raw(w, "{}", 2);
        cg_jsonw_key(w, "prompts");
        cg_jsonw_raw(w, "{}", 2);
    }
    cg_jsonw_obj_end(w);
    cg_jsonw_key(w, "serverInfo");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", "caged-mcp-server");
    cg_jsonw_kstr(w, "version", CG_VERSION);
    cg_jsonw_obj_end(w);
    if (m->o.about)
        cg_jsonw_kstr(w, "instructions", m->o.about);
}

/* Dates compare as text. */
static const char *agree(const char *asked)
{
    return asked && strcmp(asked, newest_legacy) >= 0 ? newest_legacy : oldest;
}

static void initialize(struct request *q)
{
    struct cg_jsonw w;
    struct cg_buf b;
    q->m->version = agree(cg_json_str(q->params, "protocolVersion"));
    mcp_result_begin(&w, &b, q->id, q->era);
    cg_jsonw_kstr(&w, "protocolVersion", q->m->version);
    write_self(q->m, &w);
    mcp_result_end(q->m, &w, &b, q->id);
}

static void discover(struct request *q)
{
    struct cg_jsonw w;
    struct cg_buf b;
    mcp_result_begin(&w, &b, q->id, q->era);
    write_versions(&w, "supportedVersions");
    write_self(q->m, &w);
    write_cache(&w, q->era);
    mcp_result_end(q->m, &w, &b, q->id);
}

static void list_tools(struct request *q)
{
    struct cg_jsonw w;
    struct cg_buf b;
    mcp_result_begin(&w, &b, q->id, q->era);
    cg_jsonw_key(&w, "tools");
    mcp_tools_write(q->m, q->era, &w);
    write_cache(&w, q->era);
    mcp_result_end(q->m, &w, &b, q->id);
}

static void answer_empty(struct request *q, const char *key)
{
    struct cg_jsonw w;
    struct cg_buf b;
    mcp_result_begin(&w, &b, q->id, q->era);
    if (key) {
        cg_jsonw_key(&w, key);
        cg_jsonw_raw(&w, "[]", 2);
        write_cache(&w, q->era);
    }
    mcp_result_end(q->m, &w, &b, q->id);
}

static void call_tool(struct request *q)
{
    const char *name = cg_json_str(q->params, "name");
    const struct cg_json *args = cg_json_get(q->params, "arguments");
    const struct mcp_tool *t = name ? mcp_tool_find(q->m, name) : NULL;
    struct cg_err e = CG_ERR_INIT;
    if (!t)
        cg_fail(&e, CG_INVALID, name ? "there is no tool %.64s" : "params.name is needed%s",
                name ? name : "");
    else if (args && args->type != CG_JSON_OBJ)
        cg_fail(&e, CG_INVALID, "params.arguments must be an object");
    else if (q->m->calls >= CG_MCP_CALLS_MAX)
        cg_fail(&e, CG_LIMIT, "%u calls are under way: wait for one to end", q->m->calls);
    if (!t || e.code != CG_OK || !mcp_args_check(t, args, &e)) {
        mcp_error(q->m, q->id, RPC_PARAMS, e.text);
        return;
    }
    struct cg_mcp_call *c = cg_alloc(sizeof *c);
    *c = (struct cg_mcp_call){.m = q->m, .tool = t, .era = q->era, .id = q->id};
    q->id = NULL;
    q->m->calls++;
    cg_buf_init(&c->text, 2 * CG_MCP_TEXT_MAX);
    cg_buf_init(&c->entries, CG_MCP_TEXT_MAX);
    t->start(c, args);
}

static void dispatch(struct request *q, const char *method)
{
    static const struct {
        const char *method;
        void (*handle)(struct request *q);
        bool legacy, modern;
    } methods[] = {{"initialize", initialize, true, false},
                   {"server/discover", discover, false, true},
                   {"tools/list", list_tools, true, true},
                   {"tools/call", call_tool, true, true}};
    static const char *const lists[][2] = {{"resources/list", "resources"},
                                           {"resources/templates/list", "resourceTemplates"},
                                           {"prompts/list", "prompts"}};
    for (size_t i = 0; i < CG_COUNT(methods); i++) {
        bool spoken = q->era.modern ? methods[i].modern : methods[i].legacy;
        if (spoken && strcmp(method, methods[i].method) == 0) {
            methods[i].handle(q);
            return;
        }
    }
    for (size_t i = 0; q->m->o.lists_empty && i < CG_COUNT(lists); i++) {
        if (strcmp(method, lists[i][0]) == 0) {
            answer_empty(q, lists[i][1]);
            return;
        }
    }
    if (!q->era.modern && strcmp(method, "ping") == 0)
        answer_empty(q, NULL);
    else
        mcp_error(q->m, q->id, RPC_METHOD, "this server does not know that method");
}

/* What _meta says; false when a refusal was sent. */
static bool read_era(struct request *q)
{
    const struct cg_json *meta = cg_json_get(q->params, "_meta");
    const struct cg_json *version = cg_json_get(meta, META "protocolVersion");
    const struct cg_json *able = cg_json_get(meta, META "clientCapabilities");
    q->era = (struct mcp_era){false, cg_streq(q->m->version, newest_legacy)};
    if (!version)
        return true;
    const char *text = cg_json_str(meta, META "protocolVersion");
    if (!text) {
        mcp_error(q->m, q->id, RPC_PARAMS, "_meta." META "protocolVersion must be a string");
        return false;
    }
    if (strcmp(text, modern_version) != 0) {
        refuse_version(q->m, q->id, text);
        return false;
    }
    q->era = (struct mcp_era){true, true};
    if (able && able->type == CG_JSON_OBJ)
        return true;
    mcp_error(q->m, q->id, RPC_PARAMS, "_meta." META "clientCapabilities is needed: an object");
    return false;
}

/* The id as JSON; NULL when it is none. */
static char *id_text(const struct cg_json *id)
{
    struct cg_jsonw w;
    struct cg_buf b;
    if (!id || (id->type != CG_JSON_INT && id->type != CG_JSON_STR) || id->str.n > 256)
        return NULL;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_value(&w, id);
    return cg_buf_take(&b);
}

static void take_object(struct cg_mcp *m, const struct cg_json *o)
{
    const struct cg_json *id = cg_json_get(o, "id");
    const struct cg_json *params = cg_json_get(o, "params");
    const char *method = cg_json_str(o, "method");
    struct request q = {.m = m, .id = id_text(id), .params = params};
    if (!cg_streq(cg_json_str(o, "jsonrpc"), "2.0") || (id && !q.id))
        mcp_error(m, q.id ? q.id : "null", RPC_INVALID,
                  "a request has jsonrpc \"2.0\" and an id that is a string or a whole number");
    else if (!method && !cg_json_get(o, "result") && !cg_json_get(o, "error"))
        mcp_error(m, q.id ? q.id : "null", RPC_INVALID, "a request has a method");
    else if (!method || !id)
        ; /* an answer to what was never asked, or a notification: neither is answered */
    else if (params && params->type != CG_JSON_OBJ)
        mcp_error(m, q.id, RPC_PARAMS, "params must be an object");
    else if (read_era(&q))
        dispatch(&q, method);
    free(q.id);
}

void cg_mcp_take(struct cg_mcp *m, struct cg_slice message)
{
    const struct cg_json_limits limits = {CG_MCP_MESSAGE_MAX, 64, 65536};
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(message, &limits, NULL);
    if (!o)
        mcp_error(m, "null", RPC_PARSE, "the message is not JSON");
    else if (o->type != CG_JSON_OBJ)
        mcp_error(m, "null", RPC_INVALID, "a message is one object; batches are not spoken");
    else
        take_object(m, o);
}
