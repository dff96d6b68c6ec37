/* Requests come in, are judged, and wait for their verdict. Nothing here trusts the guest: the run
 * token is compared in constant time, paths are those of model APIs or nothing, bodies are bounded
 * one by one and together, headers are passed on but for credentials. */
#include "gateway/gateway.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/decode.h"
#include "gateway/inner.h"

/* --- calls --- */

void call_free(struct call *c)
{
    struct cg_gateway *g = c->g;
    CG_ASSERT(!c->fetch && !c->r);
    if (c->prev)
        c->prev->next = c->next;
    else
        g->calls = c->next;
    if (c->next)
        c->next->prev = c->prev;
    g->stats.open--;
    g->body_bytes -= c->body.n;
    cg_tap_destroy(c->tap);
    cg_buf_finish(&c->body);
    cg_buf_finish(&c->reply);
    cg_buf_finish(&c->held);
    free(c->path);
    free(c);
}

/* An answer in the vendor's own words; the call itself is ended by its caller. */
void call_refuse(struct call *c, enum cg_refusal why, const char *message)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_http_req *r = c->r;
    c->r = NULL;
    if (!c->why[0])
        (void)cg_strlcpy(c->why, sizeof c->why, message);
    if (!r)
        return;
    r->abort = NULL;
    cg_buf_init(&b, 8192);
    cg_refusal_body(c->route.shape, why, message, &b);
    cg_http_add_header(r, "x-should-retry", "false");
    cg_http_reply(r, cg_refusal_status(why), "application/json", cg_buf_slice(&b));
}

static void refuse_over(struct call *c, enum cg_refusal why, const char *message)
{
    c->g->stats.refused++;
    call_refuse(c, why, message);
    call_over(c, "refused");
}

/* A key of the guest's in the query (Gemini) must not reach the provider beside ours. */
static char *without_keys(const char *path)
{
    char *out = cg_strdup(path);
    char *query = strchr(out, '?');
    if (!query)
        return out;
    char *to = query;
    for (char *p = query; *p;) {
        size_t n = 1 + strcspn(p + 1, "&");
        bool secret = strncmp(p + 1, "key=", 4) == 0 || strncmp(p + 1, "access_token=", 13) == 0 ||
                      memchr(p + 1, '%', strcspn(p + 1, "=&")); /* a name in disguise */
        if (!secret) {
            char first = to == query ? '?' : '&';
            memmove(to, p, n);
            *to = first;
            to += n;
        }
        p += n;
    }
    *to = '\0';
    return out;
}

static struct call *make_call(struct cg_gateway *g, struct cg_http_req *r, const char *path)
{
    struct call *c = cg_alloc(sizeof *c);
    c->g = g;
    c->id = ++g->last_call;
    c->r = r;
    c->cap = -1;
    c->book = g->o.prices;
    c->opened = cg_mono_ns();
    c->path = without_keys(path);
    cg_buf_init(&c->body, CG_LLM_BODY_MAX + 1);
    cg_buf_init(&c->reply, CALL_REPLY_MAX);
    cg_buf_init(&c->held, 8 << 20);
    c->next = g->calls;
    if (c->next)
        c->next->prev = c;
    g->calls = c;
    g->stats.calls++;
    g->stats.open++;
    r->user = c;
    return c;
}

/* --- admission --- */

static void go(struct call *c, int64_t cap)
{
    c->cap = cap;
    c->go = false;
    tell_call_open(c);
    call_launch(c);
}

static void say_budget(const struct call *c, int node, const struct cg_budget *b, char *text,
                       size_t size)
{
    char spent[CG_MONEY_TEXT];
    char limit[CG_MONEY_TEXT];
    if (node != c->g->o.node) {
        cg_snprintf(text, size, "Caged: the month's budget of this account is used up");
    } else if (b->limit_tokens != CG_LEDGER_UNLIMITED &&
               b->limit_tokens - b->settled_tokens - b->held_tokens < c->bound.input_tokens + 256) {
        cg_snprintf(text, size,
                    "Caged: the token budget of this sandbox is used up (%lld of %lld). Raise it "
                    "with: caged budget <id> set --tokens <n>",
                    (long long)b->settled_tokens, (long long)b->limit_tokens);
    } else {
        cg_money_format(b->settled_nusd, spent);
        cg_money_format(b->limit_nusd, limit);
        cg_snprintf(text, size,
                    "Caged: the budget of this sandbox is used up ($%s of $%s spent). Raise it "
                    "with: caged budget <id> set <dollars>",
                    spent, limit);
    }
}

static void refuse_money(struct call *c, int node)
{
    struct cg_budget b = {.limit_nusd = 0};
    char text[256];
    c->reserved = false;
    if (node == CG_LEDGER_NONE || !cg_ledger_get(c->g->o.ledger, node, &b)) {
        cg_snprintf(text, sizeof text, "Caged: this call was refused by the budget guard");
    } else {
        say_budget(c, node, &b, text, sizeof text);
    }
    refuse_over(c, CG_REFUSE_BUDGET, text);
    c->g->o.ops->broke(c->g->o.ctx);
}

static void refuse_unpriced(struct call *c)
{
    char text[400];
    cg_snprintf(text, sizeof text,
                "Caged: no price is known for model %.100s of %s, and this sandbox has a budget. "
                "Set one with: caged prices set %.100s --provider %s --input DOLLARS --output "
                "DOLLARS",
                c->q.model, c->provider->name, c->q.model, c->provider->name);
    refuse_over(c, CG_REFUSE_INVALID, text);
}

static void admit(struct call *c)
{
    const struct cg_gateway_options *o = &c->g->o;
    struct cg_err e = CG_ERR_INIT;
    int why = CG_LEDGER_NONE;
    int64_t cap = -1;
    if (c->id < c->g->last_call) /* bodies do not end in the order in which they began */
        c->id = ++c->g->last_call;
    c->price = cg_prices_find(c->book, c->provider->name, c->q.model, cg_wall_ns());
    if (!c->price && cg_ledger_limited(o->ledger, o->node)) {
        refuse_unpriced(c);
        return;
    }
    if (c->price && !cg_llm_bound(&c->q, c->book, c->price, o->strict, &c->bound, &e)) {
        refuse_over(c, CG_REFUSE_INVALID, e.text);
        return;
    }
    if (!c->price)
        c->bound = (struct cg_llm_bound){.max_output = CG_MAX(c->q.max_output, 1),
                                         .input_tokens = (int64_t)c->body.n,
                                         .least_output = 1};
    const struct cg_ledger_ask ask = {
        .call = c->id,
        .node = o->node,
        .priced = c->price != NULL,
        .input_nusd = c->bound.input_nusd,
        .input_tokens = c->bound.input_tokens,
        .output_npm = c->bound.output_npm,
        .max_output = c->bound.max_output,
        .least_output = CG_MAX(c->bound.least_output, 1),
        /* what is no stream cannot be cut on its way: all of it is held */
        .lag_tokens = c->q.stream || c->route.stream ? 0 : c->bound.max_output,
        .prices = cg_prices_version(c->book),
    };
    switch (cg_ledger_admit(o->ledger, &ask, cg_mono_ns(), &cap, &why)) {
    case CG_VERDICT_GO:
        c->reserved = true;
        go(c, c->price ? cap : -1);
        break;
    case CG_VERDICT_PENDING:
    case CG_VERDICT_HELD:
        c->reserved = true;
        o->ops->hurry(o->ctx);
        break;
    case CG_VERDICT_REFUSED:
    case CG_VERDICT_DUPLICATE:
        refuse_money(c, why);
        break;
    }
}

void cg_gateway_verdict(struct cg_gateway *g, uint64_t call, enum cg_verdict v, int64_t cap)
{
    for (struct call *c = g->calls; c; c = c->next) {
        if (c->id != call || c->phase != CALL_WAITING)
            continue;
        if (v == CG_VERDICT_GO) {
            c->go = true;
            c->cap = cap;
        } else if (v == CG_VERDICT_REFUSED) {
            c->reserved = false;
            c->cut = true; /* told apart in `settle_soon` by its phase */
        }
        gateway_soon(g);
        return;
    }
}

/* What callbacks of ledger, tap and libcurl have only noted. */
static void on_soon(uv_timer_t *timer)
{
    struct cg_gateway *g = timer->data;
    struct call *next;
    for (struct call *c = g->calls; c; c = next) {
        next = c->next;
        if (c->phase == CALL_WAITING && c->cut) {
            c->cut = false;
            refuse_money(c, g->o.node);
        } else if (c->phase == CALL_WAITING && c->go) {
            go(c, c->price ? c->cap : -1);
        } else if (c->phase == CALL_FLYING && c->cut) {
            call_over(c, "cut");
            g->o.ops->broke(g->o.ctx);
        }
    }
    for (struct call *c = g->calls; c; c = next) {
        next = c->next;
        if (c->phase == CALL_OVER && !c->keeping) {
            c->keeping = true;
            keep_call(c);
        } else if (c->told && !c->r && !c->fetch) {
            call_free(c);
        }
    }
}

/* Things end outside of whatever callback noticed it. */
void gateway_soon(struct cg_gateway *g)
{
    if (!g->closing)
        uv_timer_start(&g->soon, on_soon, 0, 0);
}

static void on_tick(uv_timer_t *timer)
{
    struct cg_gateway *g = timer->data;
    int64_t now = cg_mono_ns();
    cg_ledger_tick(g->o.ledger, now);
    for (struct call *c = g->calls; c; c = c->next)
        call_accrue(c, now);
}

void cg_gateway_progress(struct cg_gateway *g)
{
    for (struct call *c = g->calls; c; c = c->next)
        call_flush(c);
}

/* --- requests --- */

static void on_body(struct cg_http_req *r)
{
    struct call *c = r->user;
    struct cg_err e = CG_ERR_INIT;
    bool ok = true;
    if (cg_decode_plain(cg_http_header(r, "content-encoding"))) {
        c->body = r->body; /* as it is: no copy */
        cg_buf_init(&r->body, 0);
    } else {
        ok = cg_decode(cg_http_header(r, "content-encoding"), cg_buf_slice(&r->body),
                       CG_LLM_BODY_MAX, &c->body, &e);
    }
    c->g->body_bytes += c->body.n;
    if (c->g->body_bytes > CALL_BODIES_MAX)
        ok = cg_fail(&e, CG_LIMIT, "Caged: too many large calls at once");
    if (ok && c->route.api != CG_LLM_FREE) {
        ok = cg_llm_request_parse(&c->route, cg_buf_slice(&c->body), &c->q, &e);
        c->understood = ok;
    }
    if (!ok) {
        refuse_over(c, CG_REFUSE_INVALID, e.text);
    } else if (c->route.api == CG_LLM_FREE) {
        tell_call_open(c);
        call_launch(c);
    } else {
        admit(c);
    }
}

static void on_early_abort(struct cg_http_req *r)
{
    call_hung_up(r->user);
}

static const struct cg_gateway_provider *by_name(const struct cg_gateway *g, const char *name,
                                                 size_t n)
{
    for (size_t i = 0; i < g->o.nproviders; i++) {
        const char *have = g->o.providers[i].name;
        if (strlen(have) == n && strncasecmp(have, name, n) == 0)
            return &g->o.providers[i];
    }
    return NULL;
}

static bool has_host(const struct cg_gateway_provider *p, const char *host)
{
    for (size_t i = 0; i < CG_GATEWAY_HOSTS && p->hosts[i][0]; i++)
        if (strcasecmp(p->hosts[i], host) == 0)
            return true;
    return false;
}

/* "https://api.example/v1" has the host "api.example". */
static const struct cg_gateway_provider *by_host(const struct cg_gateway *g, const char *host)
{
    for (size_t i = 0; i < g->o.nproviders; i++) {
        const char *p = strstr(g->o.providers[i].base_url, "://");
        size_t n = p ? strcspn(p + 3, ":/") : 0;
        if ((p && strlen(host) == n && strncasecmp(p + 3, host, n) == 0) ||
            has_host(&g->o.providers[i], host))
            return &g->o.providers[i];
    }
    return NULL;
}

static const struct cg_gateway_provider *by_shape(const struct cg_gateway *g, enum cg_llm_api shape)
{
    const char *name = shape == CG_LLM_MESSAGES ? "anthropic"
                       : shape == CG_LLM_GEMINI ? "google"
                                                : "openai";
    return by_name(g, name, strlen(name));
}

/* The path behind "/<token>"; NULL: the token is not ours. */
static const char *behind_token(const struct cg_gateway *g, const char *target)
{
    size_t n = strlen(g->o.token);
    size_t have = strcspn(target + 1, "/?");
    if (target[0] != '/' || n == 0 || have != n || sodium_memcmp(target + 1, g->o.token, n) != 0)
        return NULL;
    return target + 1 + n;
}

static bool plain_path(const char *path)
{
    for (const unsigned char *p = (const unsigned char *)path; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f || *p == '\\' || *p == '#')
            return false;
    return path[0] == '/' && !strstr(path, "/../") && !strstr(path, "//");
}

static void say_no(struct cg_http_req *r, int status, const char *text)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    cg_refusal_body(CG_LLM_MESSAGES, CG_REFUSE_INVALID, text, &b);
    cg_http_reply(r, status, "application/json", cg_buf_slice(&b));
}

static void take(struct cg_gateway *g, struct cg_http_req *r, const char *path,
                 const struct cg_gateway_provider *provider, bool intercepted)
{
    struct cg_llm_route route;
    cg_llm_route(cg_slice_of(r->method), cg_slice_of(path), &route);
    if (route.api != CG_LLM_NONE && cg_http_header(r, "upgrade")) {
        cg_http_reply(r, 426, NULL, cg_slice_of("")); /* agents fall back to POST at once */
        return;
    }
    struct call *c = make_call(g, r, path);
    c->route = route;
    c->intercepted = intercepted;
    c->provider = provider ? provider : by_shape(g, route.shape);
    r->abort = on_early_abort;
    if (route.api == CG_LLM_NONE || !plain_path(path)) {
        c->provider = NULL;
        refuse_over(c, CG_REFUSE_INVALID, "Caged: this path is not one of a model API");
    } else if (!c->provider) {
        refuse_over(c, CG_REFUSE_INVALID, "Caged: no provider is configured for this API");
    } else if (g->blocked) {
        refuse_money(c, g->o.node);
    } else if (g->stats.open > CG_GATEWAY_CALLS) {
        refuse_over(c, CG_REFUSE_INVALID, "Caged: too many calls at once");
    } else if (r->has_body) {
        cg_http_read_body(r, CG_LLM_BODY_MAX, on_body);
    } else {
        on_body(r);
    }
}

static void on_request(void *ctx, struct cg_http_req *r)
{
    struct cg_gateway *g = ctx;
    const char *path = behind_token(g, r->target);
    if (!path) {
        say_no(r, 401, "Caged: the first word of the path must be this sandbox's run token");
        return;
    }
    size_t n = strcspn(path + (path[0] == '/'), "/?");
    const struct cg_gateway_provider *p = path[0] == '/' ? by_name(g, path + 1, n) : NULL;
    take(g, r, p ? path + 1 + n : path, p, false);
}

static void on_inner_request(void *ctx, struct cg_http_req *r)
{
    struct cg_gateway *g = ctx;
    const char *host = cg_http_header(r, "host");
    char name[256];
    (void)cg_strlcpy(name, sizeof name, host ? host : "");
    name[strcspn(name, ":")] = '\0';
    const struct cg_gateway_provider *p = by_host(g, name);
    if (p)
        take(g, r, r->target, p, true);
    else
        say_no(r, 421, "Caged: this host is no provider's");
}

void cg_gateway_serve(struct cg_gateway *g, int fd, const char *host)
{
    if (g->closing)
        close(fd);
    else
        cg_http_server_adopt(host ? g->inner : g->http, fd);
}

/* --- life --- */

void cg_gateway_start_libraries(void)
{
    cg_upstream_start_libraries();
}

struct cg_gateway *cg_gateway_create(uv_loop_t *loop, const struct cg_gateway_options *o,
                                     struct cg_err *e)
{
    struct cg_gateway *g = cg_alloc(sizeof *g);
    g->loop = loop;
    g->o = *o;
    g->last_call = o->last_call;
    g->up = cg_upstream_create(loop, e);
    if (!g->up) {
        free(g);
        return NULL;
    }
    g->http = cg_http_server_create(loop, -1, on_request, g, e);
    g->inner = cg_http_server_create(loop, -1, on_inner_request, g, e);
    CG_ASSERT(g->http && g->inner); /* without a socket nothing can fail */
    uv_timer_init(loop, &g->tick);
    uv_timer_init(loop, &g->soon);
    uv_timer_init(loop, &g->keep.timer);
    g->tick.data = g->soon.data = g->keep.timer.data = g;
    uv_timer_start(&g->tick, on_tick, CALL_TICK_MS, CALL_TICK_MS);
    return g;
}

void cg_gateway_block(struct cg_gateway *g, bool now)
{
    g->blocked = true;
    for (struct call *c = g->calls; now && c; c = c->next)
        call_cut(c, "Caged: the budget is used up");
}

void cg_gateway_unblock(struct cg_gateway *g)
{
    g->blocked = false;
}

void cg_gateway_set_prices(struct cg_gateway *g, const struct cg_prices *prices)
{
    g->o.prices = prices;
}

void cg_gateway_get_stats(const struct cg_gateway *g, struct cg_gateway_stats *out)
{
    *out = g->stats;
}

static void on_closed(uv_handle_t *h)
{
    struct cg_gateway *g = h->data;
    if (--g->closing_handles == 0)
        free(g);
}

void cg_gateway_destroy(struct cg_gateway *g)
{
    if (!g)
        return;
    g->closing = g->blocked = true;
    keep_stop(g);
    struct call *next;
    for (struct call *c = g->calls; c; c = next) {
        next = c->next;
        if (c->r)
            c->r->abort = NULL;
        if (c->phase != CALL_OVER)
            call_hung_up(c);
        if (c->fetch)
            cg_fetch_cancel(CG_MOVE(c->fetch));
        c->r = NULL;
        if (c->phase != CALL_OVER)
            call_over(c, "ended");
        if (!c->told)
            tell_call_close(c, &c->bill);
        call_free(c);
    }
    cg_http_server_destroy(g->http);
    cg_http_server_destroy(g->inner);
    cg_upstream_destroy(g->up);
    g->closing_handles = 3;
    uv_close((uv_handle_t *)&g->keep.timer, on_closed);
    uv_close((uv_handle_t *)&g->soon, on_closed);
    uv_close((uv_handle_t *)&g->tick, on_closed);
}
