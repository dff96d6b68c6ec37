/* One call from its admission to its end. Events pass one by one: each is counted against the
 * ledger first, then written as one chunk. What is not durably held is kept back; what cannot be
 * paid ends the stream. A client that hangs up ends its upstream, but where the provider goes on
 * and bills in full (Responses): that one is read to its end for its exact usage. */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/inner.h"

enum { HEADER_MAX = 2048, HEADERS_MAX = 48, HELD_MAX = 4 << 20 };

/* --- money --- */

static void hints_of(const struct call *c, int64_t now, struct cg_bill_hints *h)
{
    const struct cg_reply *r = cg_tap_reply(c->tap);
    int64_t silent = c->thinking_ns;
    if (r->thinking_hidden && c->sent_at)
        silent = now - c->sent_at;
    *h = (struct cg_bill_hints){.input_tokens = c->bound.input_tokens,
                                .input_low = -1,
                                .cap_tokens = c->cap,
                                .thinking_ns = silent};
}

void call_bill(struct call *c, struct cg_bill *out)
{
    struct cg_bill_hints h;
    hints_of(c, cg_mono_ns(), &h);
    (void)cg_bill_reply(c->book, c->price, &c->q, cg_tap_reply(c->tap), &h, out);
}

static enum cg_accrual accrue(struct call *c, int64_t now)
{
    struct cg_bill_hints h;
    struct cg_bill bill;
    if (!c->reserved || c->phase != CALL_FLYING)
        return CG_ACCRUAL_PASS;
    hints_of(c, now, &h);
    const struct cg_reply *r = cg_tap_reply(c->tap);
    (void)cg_bill_reply(c->book, c->price, &c->q, r, &h, &bill);
    int64_t output = cg_bill_output_high(r, &h);
    int64_t spent = bill.priced ? bill.total_nusd : 0;
    return cg_ledger_accrue(c->g->o.ledger, c->id, spent, output, now);
}

/* --- towards the client --- */

static void start_reply(struct call *c)
{
    if (c->started || !c->r)
        return;
    c->started = true;
    cg_http_start(c->r, c->status, c->type[0] ? c->type : "text/event-stream", -1);
}

static void give(struct call *c, struct cg_slice event)
{
    if (c->r && event.n > 0) {
        start_reply(c);
        cg_http_write(c->r, event);
    }
}

/* Each kept event has its length in front. */
static void hold_back(struct call *c, struct cg_slice event)
{
    uint32_t n = (uint32_t)event.n;
    if (c->held.n + event.n + sizeof n > HELD_MAX) {
        call_cut(c, "the ledger's disk does not keep up");
        return;
    }
    (void)cg_buf_add(&c->held, &n, sizeof n);
    (void)cg_buf_add(&c->held, event.p, event.n);
    c->waiting_disk = true;
    c->g->o.ops->hurry(c->g->o.ctx);
}

void call_flush(struct call *c)
{
    if (!c->waiting_disk || c->phase != CALL_FLYING)
        return;
    enum cg_accrual a = accrue(c, cg_mono_ns());
    if (a == CG_ACCRUAL_WAIT)
        return;
    if (a == CG_ACCRUAL_CUT) {
        call_cut(c, "the budget is used up");
        return;
    }
    c->waiting_disk = false;
    size_t at = 0;
    while (at < c->held.n) {
        uint32_t n;
        memcpy(&n, c->held.p + at, sizeof n);
        give(c, (struct cg_slice){c->held.p + at + sizeof n, n});
        at += sizeof n + n;
    }
    cg_buf_clear(&c->held);
    if (c->fetch)
        cg_fetch_resume(c->fetch);
}

static void on_event(void *ctx, struct cg_slice raw, bool hide)
{
    struct call *c = ctx;
    if (c->phase != CALL_FLYING || c->cut)
        return;
    enum cg_accrual a = accrue(c, c->last_at); /* of the bytes that it came with */
    if (a == CG_ACCRUAL_CUT) {
        call_cut(c, "the budget is used up");
        return;
    }
    if (hide)
        return;
    if (a == CG_ACCRUAL_WAIT || c->waiting_disk)
        hold_back(c, raw);
    else
        give(c, raw);
}

static void on_drain(struct cg_http_req *r)
{
    struct call *c = r->user;
    if (c->fetch && !c->waiting_disk)
        cg_fetch_resume(c->fetch);
}

static void on_abort(struct cg_http_req *r)
{
    call_hung_up(r->user);
}

/* --- from upstream --- */

static bool passes_back(const char *name)
{
    static const char *const names[] = {"request-id",     "retry-after",  "retry-after-ms",
                                        "x-should-retry", "openai-model", "openai-version"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return strncasecmp(name, "anthropic-", 10) == 0 || strncasecmp(name, "x-ratelimit-", 12) == 0 ||
           strncasecmp(name, "x-codex-", 8) == 0;
}

static void on_header(void *ctx, const char *name, const char *value)
{
    struct call *c = ctx;
    if (strcasecmp(name, "content-type") == 0)
        (void)cg_strlcpy(c->type, sizeof c->type, value);
    else if (c->r && !c->started && passes_back(name) && !strpbrk(value, "\r\n"))
        cg_http_add_header(c->r, name, value);
}

static void on_head(void *ctx, int status)
{
    struct call *c = ctx;
    c->status = status;
    c->first_at = cg_mono_ns();
    c->sse = strncasecmp(c->type, "text/event-stream", 17) == 0;
    if (c->sse && status == 200)
        start_reply(c);
}

static void keep(struct call *c, struct cg_slice bytes)
{
    size_t max = c->sse ? CALL_KEEP_MAX : CALL_REPLY_MAX;
    size_t room = c->reply.n < max ? max - c->reply.n : 0;
    (void)cg_buf_add(&c->reply, bytes.p, CG_MIN(room, bytes.n));
}

static bool on_data(void *ctx, struct cg_slice bytes)
{
    struct call *c = ctx;
    struct cg_err e = CG_ERR_INIT;
    if (c->waiting_disk || (c->r && cg_http_pending(c->r) > CALL_PENDING_MAX))
        return false;
    c->last_at = cg_mono_ns();
    if (!c->sse && c->reply.n + bytes.n > CALL_REPLY_MAX) {
        call_cut(c, "the provider's reply is too large");
        return true;
    }
    keep(c, bytes);
    if (c->sse && !cg_tap_feed(c->tap, bytes, &e))
        call_cut(c, e.text);
    return true;
}

/* The whole of a reply that is no stream. */
static void give_whole(struct call *c)
{
    struct cg_http_req *r = c->r;
    c->r = NULL;
    if (r)
        cg_http_reply(r, c->status, c->type[0] ? c->type : "application/json",
                      cg_buf_slice(&c->reply));
}

static void end_stream(struct call *c)
{
    struct cg_http_req *r = c->r;
    size_t at = 0;
    cg_tap_end(c->tap);
    if (c->phase != CALL_FLYING)
        return;
    while (at < c->held.n) { /* settled right behind this, exactly */
        uint32_t n;
        memcpy(&n, c->held.p + at, sizeof n);
        give(c, (struct cg_slice){c->held.p + at + sizeof n, n});
        at += sizeof n + n;
    }
    c->r = NULL;
    if (r && !c->started)
        cg_http_start(r, c->status, c->type, -1);
    if (r)
        cg_http_finish(r);
    call_over(c, c->draining ? "drained" : c->cut ? "cut" : "ok");
}

static void broken(struct call *c, const struct cg_err *err)
{
    struct cg_http_req *r = c->r;
    (void)cg_strlcpy(c->why, sizeof c->why, err->text);
    if (c->sse)
        cg_tap_end(c->tap);
    if (c->phase != CALL_FLYING)
        return;
    if (r && !c->started) {
        call_refuse(c, CG_REFUSE_UPSTREAM, err->text);
    } else if (r) {
        c->r = NULL;
        cg_http_break(r);
    }
    call_over(c, "broken");
}

static void on_done(void *ctx, const struct cg_err *err, bool sent)
{
    struct call *c = ctx;
    struct cg_err e = CG_ERR_INIT;
    c->fetch = NULL;
    if (err && !sent)
        c->sent_at = 0;
    if (err) {
        broken(c, err);
    } else if (c->sse) {
        end_stream(c);
    } else {
        if (!cg_tap_json(c->tap, cg_buf_slice(&c->reply), &e))
            (void)cg_strlcpy(c->why, sizeof c->why, e.text);
        give_whole(c);
        call_over(c, c->status >= 400 ? "provider_error" : "ok");
    }
}

/* --- launch --- */

static bool is_secret_or_ours(const char *name)
{
    static const char *const names[] = {
        "host", "connection", "content-length", "transfer-encoding", "authorization", "x-api-key",
        "x-goog-api-key", "api-key", "cookie", "accept-encoding", "content-encoding", "te",
        "upgrade", "expect", "proxy-authorization", "keep-alive", "trailer", "proxy-connection",
        "forwarded", "x-forwarded-for",
        /* who pays is the operator's choice */
        "openai-organization", "openai-project", "x-goog-user-project"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return strncasecmp(name, "x-caged-", 8) == 0;
}

struct heads {
    const char *v[HEADERS_MAX + 8];
    char *owned[HEADERS_MAX + 8];
    size_t n;
};

static void add_head(struct heads *h, const char *name, const char *value)
{
    if (h->n + 1 >= CG_COUNT(h->v) || strlen(value) > HEADER_MAX)
        return;
    h->owned[h->n] = cg_format("%s: %s", name, value);
    h->v[h->n] = h->owned[h->n];
    h->n++;
}

static void add_key(struct heads *h, const struct call *c)
{
    const char *key = c->provider->key;
    if (!key[0])
        return;
    if (c->route.shape == CG_LLM_MESSAGES) {
        add_head(h, "x-api-key", key);
    } else if (c->route.shape == CG_LLM_GEMINI) {
        add_head(h, "x-goog-api-key", key);
    } else {
        CG_OWN(cg_drop_free) char *bearer = cg_format("Bearer %s", key);
        add_head(h, "Authorization", bearer);
    }
}

static void make_heads(const struct call *c, struct heads *h)
{
    const char *name;
    const char *value;
    add_head(h, "Accept-Encoding", "identity");
    add_head(h, "Expect", "");
    add_key(h, c);
    for (size_t i = 0; i < CG_GATEWAY_HEADERS; i++) {
        char text[CG_GATEWAY_URL];
        memcpy(text, c->provider->headers[i], sizeof text);
        char *colon = strchr(text, ':');
        if (!colon)
            continue;
        *colon++ = '\0';
        add_head(h, text, colon + strspn(colon, " "));
    }
    for (unsigned i = 0; h->n < HEADERS_MAX && cg_http_header_at(c->r, i, &name, &value); i++)
        if (!is_secret_or_ours(name))
            add_head(h, name, value);
}

/* What goes upstream: the body where it is, with the cap in it. False when the cap is too small. */
static bool put_cap(struct call *c, struct cg_slice *pieces, size_t *n, struct cg_err *e)
{
    const char *key = c->provider->old_chat ? "max_tokens" : NULL;
    if (c->understood && !cg_llm_request_cap(&c->q, c->cap, key, &c->splices, e))
        return false;
    *n = cg_llm_splice(cg_buf_slice(&c->body), &c->splices, pieces);
    return true;
}

void call_launch(struct call *c)
{
    static const struct cg_fetch_ops ops = {on_header, on_head, on_data, on_done};
    struct cg_err e = CG_ERR_INIT;
    struct heads h = {.n = 0};
    struct cg_slice pieces[CG_LLM_PIECES];
    size_t npieces = 0;
    c->tap = cg_tap_create(&c->q, on_event, c);
    c->phase = CALL_FLYING;
    c->r->drain = on_drain;
    c->r->abort = on_abort;
    bool ok = put_cap(c, pieces, &npieces, &e);
    CG_OWN(cg_drop_free) char *url = cg_format("%s%s", c->provider->base_url, c->path);
    make_heads(c, &h);
    const struct cg_fetch_request request = {
        .method = c->r->method, .url = url, .headers = h.v, .body = pieces, .pieces = npieces};
    if (ok) {
        c->sent_at = cg_mono_ns();
        c->fetch = cg_fetch_start(c->g->up, &request, &ops, c, &e);
    }
    for (size_t i = 0; i < h.n; i++)
        free(h.owned[i]);
    if (c->fetch)
        return;
    c->sent_at = 0;
    (void)cg_strlcpy(c->why, sizeof c->why, e.text);
    call_refuse(c, ok ? CG_REFUSE_UPSTREAM : CG_REFUSE_BUDGET, e.text);
    call_over(c, "refused");
}

/* --- ends --- */

void call_cut(struct call *c, const char *why)
{
    struct cg_http_req *r = c->r;
    if (c->phase != CALL_FLYING || c->cut)
        return;
    c->cut = true;
    c->g->stats.cut++;
    (void)cg_strlcpy(c->why, sizeof c->why, why);
    if (c->fetch)
        cg_fetch_cancel(CG_MOVE(c->fetch));
    c->r = NULL;
    if (r && c->started) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        cg_buf_init(&b, 8192);
        cg_refusal_event(c->route.shape, CG_REFUSE_BUDGET, why, cg_tap_reply(c->tap), &b);
        cg_http_write(r, cg_buf_slice(&b));
        cg_http_finish(r);
    } else if (r) {
        c->r = r;
        call_refuse(c, CG_REFUSE_BUDGET, why);
    }
    gateway_soon(c->g); /* it is over there */
}

void call_accrue(struct call *c, int64_t now)
{
    if (c->phase != CALL_FLYING || c->cut || !c->reserved)
        return;
    if (c->last_at && cg_tap_reply(c->tap)->thinking_now)
        c->thinking_ns += CALL_TICK_MS * INT64_C(1000000);
    if (accrue(c, now) == CG_ACCRUAL_CUT)
        call_cut(c, "the budget is used up");
}

void call_hung_up(struct call *c)
{
    c->r = NULL;
    c->hung = true;
    if (c->phase == CALL_WAITING) {
        /* when the ledger has let it go a moment ago it is settled, at nothing: it was not sent */
        if (c->reserved && cg_ledger_forget(c->g->o.ledger, c->id, cg_mono_ns()))
            c->reserved = false;
        call_over(c, "hung_up");
        return;
    }
    if (c->phase != CALL_FLYING)
        return;
    c->draining = c->route.api == CG_LLM_RESPONSES && !c->g->blocked && c->fetch;
    if (c->draining) {
        cg_buf_clear(&c->held);
        c->waiting_disk = false;
        cg_fetch_resume(c->fetch);
        return;
    }
    if (c->fetch)
        cg_fetch_cancel(CG_MOVE(c->fetch));
    if (c->sse)
        cg_tap_end(c->tap);
    if (c->phase == CALL_FLYING)
        call_over(c, "hung_up");
}

/* Settles, tells, and lets the call go once nothing is inside of it. */
void call_over(struct call *c, const char *verdict)
{
    struct cg_bill bill = {.priced = false};
    struct cg_err e = CG_ERR_INIT;
    int64_t over = 0;
    if (c->phase == CALL_OVER)
        return;
    bool flew = c->phase == CALL_FLYING;
    c->verdict = c->cut ? "cut" : verdict;
    if (flew && c->understood && c->sent_at)
        call_bill(c, &bill);
    else
        bill.priced = true; /* nothing left this place: it cost nothing */
    c->g->stats.unpriced += !bill.priced;
    c->phase = CALL_OVER;
    c->bill = bill;
    c->over_at = cg_mono_ns();
    if (c->reserved &&
        !cg_ledger_settle(c->g->o.ledger, c->id, bill.priced ? bill.total_nusd : 0, bill.low_nusd,
                          bill.tokens, bill.estimated, cg_mono_ns(), &over, &e))
        cg_log(CG_LOG_ERROR, CG_EVENT("ledger.settle_failed"), CG_E(&e));
    c->reserved = false;
    c->g->o.ops->hurry(c->g->o.ctx);
    gateway_soon(c->g);
}
