/* Replies in JSON, problems, and checks of request bodies. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/retain.h"

static struct cg_jsonw writer; /* one reply is built at a time */

struct cg_jsonw *op_json(struct op *op)
{
    cg_buf_finish(&op->c);
    cg_buf_init(&op->c, API_JSON_MAX);
    cg_jsonw_init(&writer, &op->c);
    return &writer;
}

static void deliver(struct op *op)
{
    struct cg_http_req *r = op->r;
    if (r) {
        r->abort = NULL;
        if (op->status == 204)
            cg_http_reply(r, 204, NULL, (struct cg_slice){0});
        else if (op->c.full)
            api_refuse(r, 500, "internal", "the answer is larger than this server sends");
        else
            cg_http_reply(r, op->status, "application/json", cg_buf_slice(&op->c));
    }
    op->r = NULL;
    op_end(op);
}

/* A disk that refuses is in the log; what was done is done, and said. */
static void on_noted(void *ctx, const struct cg_err *err)
{
    (void)err;
    deliver(ctx);
}

/* What changes something is in the audit log before it is acknowledged. */
static void answer(struct op *op, int status)
{
    op->status = status;
    if (!api_audit(op, status, on_noted))
        deliver(op);
}

void op_send_json(struct op *op, int status)
{
    answer(op, status);
}

void op_send_text(struct op *op, const char *type, const char *disposition, struct cg_buf *text)
{
    struct cg_http_req *r = op->r;
    op->r = NULL;
    op_end(op);
    r->abort = NULL;
    if (disposition)
        cg_http_add_header(r, "Content-Disposition", disposition);
    cg_http_reply(r, 200, type, cg_buf_slice(text));
    cg_buf_finish(text);
}

void op_no_content(struct op *op)
{
    answer(op, 204);
}

/* What a client can do about it, for the codes where there is something. */
static const char *action_for(const char *code)
{
    static const struct {
        const char *code, *action;
    } actions[] = {{"unauthorized", "send_api_key"},
                   {"rate_limited", "retry_later"},
                   {"plan_limit_reached", "destroy_sandboxes_or_raise_limit"},
                   {"not_available_yet", "leave_it_out"},
                   {"unavailable", "retry_later"},
                   {"wrong_host", "use_listen_address"},
                   {"upgrade_required", "connect_by_websocket"}};
    for (size_t i = 0; i < CG_COUNT(actions); i++) {
        if (strcmp(actions[i].code, code) == 0)
            return actions[i].action;
    }
    return NULL;
}

void api_refuse(struct cg_http_req *r, int status, const char *code, const char *detail)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 16384);
    const char *title = cg_http_status_text(status);
    char type[96];
    int n = snprintf(type, sizeof type, "https://caged.dev/errors/%s", title);
    for (int i = 25; i < n && i < (int)sizeof type - 1; i++)
        type[i] = type[i] == ' '
                      ? '-'
                      : (char)(type[i] >= 'A' && type[i] <= 'Z' ? type[i] + 32 : type[i]);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", type);
    cg_jsonw_kstr(&w, "title", title);
    cg_jsonw_kint(&w, "status", status);
    cg_jsonw_kstr(&w, "detail", detail);
    cg_jsonw_kstr(&w, "error", detail);
    cg_jsonw_kstr(&w, "instance", r->id);
    cg_jsonw_key(&w, "reason");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "code", code);
    cg_jsonw_kstr(&w, "message", detail);
    const char *action = action_for(code);
    if (action)
        cg_jsonw_kstr(&w, "action", action);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    cg_http_reply(r, status, "application/problem+json", cg_buf_slice(&b));
}

static void send_problem(struct op *op, int status, const char *code, const char *detail)
{
    struct cg_http_req *r = op->r;
    (void)api_audit(op, status, NULL); /* a refusal waits for nothing */
    if (!r) {
        op_end(op);
        return;
    }
    r->abort = NULL;
    r->on_body = NULL;
    r->on_end = NULL;
    op->r = NULL;
    api_refuse(r, status, code, detail);
    op_end(op);
}

void op_problem(struct op *op, int status, const char *code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    send_problem(op, status, code, text);
}

void op_fail(struct op *op, const struct cg_err *e)
{
    struct cg_err copy = *e; /* it may lie in the op, which goes first */
    send_problem(op, cg_code_http(copy.code), cg_code_name(copy.code), copy.text);
}

void op_fail_room(struct op *op, const struct cg_err *e)
{
    if (e->code == CG_LIMIT)
        op_problem(op, 403, "plan_limit_reached", "%s", e->text);
    else
        op_fail(op, e);
}

bool op_record_kept(struct op *op, const struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_retain_gone(sb, &e))
        return true;
    op_fail(op, &e);
    return false;
}

/* --- bodies --- */

static void on_body(struct cg_http_req *r)
{
    struct op *op = r->user;
    void (*next)(struct op *, const struct cg_json *);
    memcpy(&next, &op->own, sizeof next);
    op->own = NULL;
    const struct cg_json_limits limits = {API_BODY_MAX, 32, 65536};
    struct cg_slice text = cg_buf_slice(&r->body);
    struct cg_err e = CG_ERR_INIT;
    if (text.n == 0)
        text = cg_slice_of("{}");
    if (!op_still_seated(op)) /* a body may take its time */
        return;
    CG_OWN(cg_drop_json) struct cg_json *body = cg_json_parse(text, &limits, &e);
    if (body && body->type != CG_JSON_OBJ)
        cg_fail(&e, CG_INVALID, "the body must be a JSON object");
    if (e.code != CG_OK)
        op_fail(op, &e);
    else
        next(op, body);
}

void op_read_json(struct op *op, void (*next)(struct op *op, const struct cg_json *body))
{
    memcpy(&op->own, &next, sizeof next);
    cg_http_read_body(op->r, API_BODY_MAX, on_body);
}

/* A wrong value as it stands in a message. */
static const char *shown(const struct cg_json *v, char out[64])
{
    static const char *const kinds[] = {"null", "a boolean", "", "", "", "an array", "an object"};
    if (v->type == CG_JSON_STR)
        cg_snprintf(out, 64, "\"%.40s\"", v->str.p);
    else if (v->type == CG_JSON_INT)
        cg_snprintf(out, 64, "%lld", (long long)v->integer);
    else if (v->type == CG_JSON_NUM)
        cg_snprintf(out, 64, "%g", v->number);
    else
        cg_strlcpy(out, 64, kinds[v->type]);
    return out;
}

bool body_str(const struct cg_json *b, const char *key, const char **out, struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(b, key);
    if (!v || v->type == CG_JSON_NULL)
        return true;
    *out = cg_json_str(b, key);
    char text[64];
    return *out || cg_fail(e, CG_INVALID, "%s must be a string%s%s", key,
                           v->type == CG_JSON_STR ? " without NUL" : ", not ",
                           v->type == CG_JSON_STR ? "" : shown(v, text));
}

bool body_int(const struct cg_json *b, const char *key, int64_t min, int64_t max, int64_t *out,
              struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(b, key);
    char text[64];
    if (!v || v->type == CG_JSON_NULL)
        return true;
    if (v->type != CG_JSON_INT || v->integer < min || v->integer > max)
        return cg_fail(e, CG_INVALID, "%s must be a whole number from %lld to %lld, not %s", key,
                       (long long)min, (long long)max, shown(v, text));
    *out = v->integer;
    return true;
}

bool body_bool(const struct cg_json *b, const char *key, bool *out, struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(b, key);
    if (!v || v->type == CG_JSON_NULL)
        return true;
    *out = v->boolean;
    char text[64];
    return v->type == CG_JSON_BOOL ||
           cg_fail(e, CG_INVALID, "%s must be true or false, not %s", key, shown(v, text));
}

bool op_query_str(const struct op *op, const char *name, char *out, size_t size, struct cg_err *e)
{
    return cg_http_query(op->r, name, out, size) || !cg_http_query_has(op->r, name) ||
           cg_fail(e, CG_INVALID, "%s must have at most %zu bytes, none of them NUL", name,
                   size - 1);
}

static bool no_number(const char *name, int64_t min, int64_t max, const char *text,
                      struct cg_err *e)
{
    if (min == INT64_MIN && max == INT64_MAX)
        return cg_fail(e, CG_INVALID, "%s must be a whole number, not \"%s\"", name, text);
    if (max == INT64_MAX)
        return cg_fail(e, CG_INVALID, "%s must be a whole number from %lld, not \"%s\"", name,
                       (long long)min, text);
    return cg_fail(e, CG_INVALID, "%s must be a whole number from %lld to %lld, not \"%s\"", name,
                   (long long)min, (long long)max, text);
}

bool op_query_int(const struct op *op, const char *name, int64_t min, int64_t max, int64_t *out,
                  struct cg_err *e)
{
    char text[64];
    if (!cg_http_query_has(op->r, name))
        return true;
    if (!op_query_str(op, name, text, sizeof text, e))
        return false;
    const char *digits = text + (text[0] == '-');
    bool number = digits[0] && digits[strspn(digits, "0123456789")] == '\0';
    long long v = strtoll(text, NULL, 10); /* beyond 64 bits the nearest that fits */
    if (!number || v < min || v > max)
        return no_number(name, min, max, text, e);
    *out = v;
    return true;
}

bool op_query_bool(const struct op *op, const char *name, bool *out, struct cg_err *e)
{
    char text[64];
    if (!cg_http_query_has(op->r, name))
        return true;
    if (!op_query_str(op, name, text, sizeof text, e))
        return false;
    *out = strcmp(text, "false") != 0 && strcmp(text, "0") != 0;
    return !*out || !text[0] || strcmp(text, "true") == 0 || strcmp(text, "1") == 0 ||
           cg_fail(e, CG_INVALID, "%s must be true or false, not \"%s\"", name, text);
}

bool body_env(const struct cg_json *b, const char *key, const struct cg_json **out,
              struct cg_err *e)
{
    const struct cg_json *env = cg_json_get(b, key);
    if (!env || env->type == CG_JSON_NULL)
        return true;
    if (env->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "%s must be an object of strings", key);
    for (const struct cg_json *m = env->child; m; m = m->next) {
        if (m->type != CG_JSON_STR || strlen(m->str.p) != m->str.n)
            return cg_fail(e, CG_INVALID, "%s.%.64s must be a string without NUL", key, m->key.p);
        if (m->key.n == 0 || strlen(m->key.p) != m->key.n || strpbrk(m->key.p, "= \t\r\n"))
            return cg_fail(e, CG_INVALID,
                           "%s: \"%.64s\" is not a name: it must not be empty or hold "
                           "'=', space, tab or newline",
                           key, m->key.p);
    }
    *out = env;
    return true;
}

void write_env(struct cg_jsonw *w, const char *key, const struct cg_json *env)
{
    if (!env)
        return;
    cg_jsonw_key(w, key);
    cg_jsonw_value(w, env);
}

bool op_call(struct op *op, struct cg_buf *request)
{
    struct cg_err e = CG_ERR_INIT;
    if (request->full)
        cg_fail(&e, CG_TOO_LARGE, "the request is too large for the sandbox");
    if (e.code == CG_OK && cg_sandbox_usable(op->sb, &e) &&
        cg_wcall_open(op->sb->warden, &op->call, cg_buf_slice(request), &e))
        return true;
    op_fail(op, &e);
    return false;
}
