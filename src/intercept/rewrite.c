#include "intercept/rewrite.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "intercept/http1.h"
#include "intercept/wsscan.h"

enum state { HEAD, BODY, WAIT, TUNNEL, OVER };

struct cg_rewrite {
    struct cg_rewrite_options o;
    enum state state;

    struct cg_buf head; /* of the request that is read */
    struct cg_http1_body body;
    struct cg_redact scan; /* placeholders in the body */
    struct cg_buf piece;   /* what the scan lets go */
    bool head_method;      /* HEAD: the response has no body */
    bool upgrade;
    bool swapped_ever; /* a value has gone out on this connection */
    char method[16];
    char target[256]; /* for the record */

    bool response_body; /* the head is through */
    bool response_done; /* of the request under way */
    bool response_begun;
    bool close_after;
    struct cg_buf response_head;
    struct cg_http1_body response;
    struct cg_redact mask; /* values in what comes back */
    uint64_t masked;
    struct ws_scan ws;
};

struct cg_rewrite *cg_rewrite_create(const struct cg_rewrite_options *o)
{
    struct cg_rewrite *r = cg_alloc(sizeof *r);
    r->o = *o;
    r->response_done = true;
    cg_buf_init(&r->head, CG_REWRITE_HEAD);
    cg_buf_init(&r->response_head, CG_REWRITE_HEAD);
    cg_buf_init(&r->piece, CG_REWRITE_OUT);
    cg_redact_init(&r->scan, cg_secrets_placeholders(o->secrets), NULL);
    cg_redact_init(&r->mask, cg_secrets_values(o->secrets), NULL);
    return r;
}

void cg_rewrite_destroy(struct cg_rewrite *r)
{
    if (!r)
        return;
    cg_buf_finish(&r->head);
    cg_buf_finish(&r->response_head);
    cg_buf_finish(&r->piece);
    cg_redact_finish(&r->scan);
    cg_redact_finish(&r->mask);
    free(r);
}

static void tell(struct cg_rewrite *r, const char *verdict, const char *rule, int tag)
{
    if (!r->o.event)
        return;
    const struct cg_rewrite_event e = {
        .verdict = verdict,
        .rule = rule,
        .secret = tag >= 0 ? cg_secrets_names(r->o.secrets)[tag] : NULL,
        .method = cg_slice_of(r->method),
        .target = cg_slice_of(r->target),
    };
    r->o.event(r->o.ctx, &e);
}

/* --- refusals --- */

static const struct rule {
    const char *name;
    int status;
    const char *text;
} rules[] = {
    {"bad_request", 400, "this is not HTTP/1.1 as its standard has it"},
    {"host_mismatch", 421,
     "the Host header is not the name that this connection was let through by"},
    {"smuggling", 400, "the length of the body is told twice or not clearly"},
    {"method", 405, "this method is not passed on to hosts that are read"},
    {"target", 400, "the target must be a path"},
    {"upgrade", 400, "only WebSocket upgrades are passed on to hosts that are read"},
    {"placeholder_in_url", 403, "a secret's placeholder stands in the URL: secrets go in headers"},
    {"placeholder_in_body", 403,
     "a secret's placeholder stands in the body: secrets go in headers"},
    {"placeholder_in_header", 403, "a secret's placeholder stands in a header that takes none"},
    {"placeholder_elsewhere", 403,
     "the secret is not bound to this host (caged secrets set --host)"},
    {"too_large", 431, "the request's head is too large"},
    {"bad_response", 502, "the host's answer is not HTTP/1.1 as its standard has it"},
    {"encoded_response", 502, "the host compressed its answer unasked: it cannot be checked"},
    {"unreachable", 502, "the host could not be reached, or is not who it says it is"},
};

static const struct rule *rule_of(const char *name)
{
    for (size_t i = 0; i < CG_COUNT(rules); i++)
        if (strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return &rules[0];
}

/* The guest is told in HTTP as long as no answer has begun; then the connection just ends. */
static void refuse_why(struct cg_rewrite *r, const char *name, int tag, const char *why,
                       struct cg_buf *down)
{
    const struct rule *rule = rule_of(name);
    tell(r, "refuse", name, tag);
    r->state = OVER;
    if (r->response_begun)
        return;
    CG_OWN(cg_drop_free)
    char *body =
        cg_format("{\"error\":{\"code\":\"%s\",\"secret\":\"%s\",\"text\":\"caged: %s%s%s\"}}\n",
                  name, tag >= 0 ? cg_secrets_names(r->o.secrets)[tag] : "", rule->text,
                  why ? ": " : "", why ? why : "");
    cg_buf_addf(down,
                "HTTP/1.1 %d Refused by caged\r\nContent-Type: application/json\r\n"
                "Content-Length: %zu\r\nX-Caged-Refused: %s\r\nConnection: close\r\n\r\n%s",
                rule->status, strlen(body), name, r->head_method ? "" : body);
}

static void refuse(struct cg_rewrite *r, const char *name, int tag, struct cg_buf *down)
{
    refuse_why(r, name, tag, NULL, down);
}

void cg_rewrite_unreachable(struct cg_rewrite *r, const char *why, struct cg_buf *down)
{
    if (r->state != OVER)
        refuse_why(r, "unreachable", -1, why, down);
}

/* --- the head of a request --- */

static const struct cg_match *placeholders(const struct cg_rewrite *r)
{
    return cg_secrets_placeholders(r->o.secrets);
}

static void remember(struct cg_rewrite *r, const struct cg_http1_head *h)
{
    CG_OWN(cg_drop_free) char *method = cg_slice_dup(h->first[0]);
    CG_OWN(cg_drop_free) char *target = cg_slice_dup(h->first[1]);
    target[strcspn(target, "?#")] = '\0';
    (void)cg_strlcpy(r->method, sizeof r->method, method);
    (void)cg_strlcpy(r->target, sizeof r->target, target);
    r->head_method = strcmp(method, "HEAD") == 0;
}

/* A placeholder, also one with %xx in it; *tag is its secret. */
static bool in_target(const struct cg_rewrite *r, struct cg_slice target, int *tag)
{
    CG_OWN(cg_drop_free) char *plain = cg_alloc(target.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < target.n; i++) {
        char byte[3] = {0};
        char *end = byte;
        if (target.p[i] == '%' && i + 2 < target.n) {
            memcpy(byte, target.p + i + 1, 2);
            plain[n] = (char)strtol(byte, &end, 16);
        }
        if (end == byte + 2)
            i += 2;
        else
            plain[n] = target.p[i];
        n++;
    }
    *tag = cg_match_find(placeholders(r), (struct cg_slice){plain, n}, NULL, NULL);
    return *tag >= 0;
}

static bool host_fits(const struct cg_rewrite *r, const struct cg_http1_head *h)
{
    struct cg_slice host;
    if (cg_http1_get(h, "host", &host) != 1)
        return false;
    CG_OWN(cg_drop_free) char *with_port = cg_format("%s:%u", r->o.host, (unsigned)r->o.port);
    return cg_http1_is(host, with_port) || cg_http1_is(host, r->o.host);
}

/* The rule that refuses it; NULL: none. */
static const char *judge(struct cg_rewrite *r, const struct cg_http1_head *h, int *tag)
{
    struct cg_slice upgrade;
    struct cg_slice target = h->first[1];
    *tag = -1;
    if (cg_slice_eq(h->first[0], "CONNECT") || cg_slice_eq(h->first[0], "TRACE"))
        return "method";
    if (in_target(r, target, tag))
        return "placeholder_in_url";
    if (target.p[0] != '/' && !(cg_slice_eq(target, "*") && cg_slice_eq(h->first[0], "OPTIONS")))
        return "target";
    if (!host_fits(r, h))
        return "host_mismatch";
    if (!cg_http1_framing(h, &r->body) ||
        (r->body.framing == CG_HTTP1_CHUNKED && !cg_slice_eq(h->first[2], "HTTP/1.1")))
        return "smuggling";
    unsigned upgrades = cg_http1_get(h, "upgrade", &upgrade);
    r->upgrade = upgrades == 1 && cg_http1_is(upgrade, "websocket") &&
                 cg_slice_eq(h->first[0], "GET") && r->body.framing == CG_HTTP1_NONE;
    return upgrades == 0 || r->upgrade ? NULL : "upgrade";
}

/* Every placeholder of `in` replaced. False: *rule refuses it. */
static bool swap(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *out, int *tag,
                 const char **rule)
{
    for (;;) {
        size_t at = 0;
        size_t n = 0;
        int found = cg_match_find(placeholders(r), in, &at, &n);
        if (found < 0)
            return cg_buf_add(out, in.p, in.n);
        struct cg_secret *s = cg_secrets_at(r->o.secrets, (unsigned)found);
        *tag = found;
        if (!cg_secret_bound_to(s, r->o.host, r->o.port)) {
            *rule = "placeholder_elsewhere";
            return false;
        }
        if (!cg_buf_add(out, in.p, at) || !cg_buf_add(out, s->value.p, s->value.n)) {
            *rule = "too_large";
            return false;
        }
        in.p += at + n;
        in.n -= at + n;
    }
}

/* "Basic <base64 of user:placeholder>", as git and curl write it. False also when it is none, with
 * *rule NULL. */
static bool swap_basic(struct cg_rewrite *r, struct cg_slice value, struct cg_buf *out, int *tag,
                       const char **rule)
{
    if (value.n < 7 || !cg_http1_is((struct cg_slice){value.p, 6}, "basic "))
        return false;
    size_t room = value.n;
    size_t n = 0;
    unsigned char *plain = cg_alloc(room);
    bool fine = sodium_base642bin(plain, room, value.p + 6, value.n - 6, " ", &n, NULL,
                                  sodium_base64_VARIANT_ORIGINAL) == 0;
    const struct cg_slice text = {(const char *)plain, n};
    struct cg_buf swapped;
    cg_buf_init(&swapped, 4 * CG_SECRET_MAX);
    fine = fine && cg_match_find(placeholders(r), text, NULL, NULL) >= 0 &&
           swap(r, text, &swapped, tag, rule);
    if (fine) {
        size_t size = sodium_base64_ENCODED_LEN(swapped.n, sodium_base64_VARIANT_ORIGINAL);
        char *coded = cg_alloc(size);
        sodium_bin2base64(coded, size, (const unsigned char *)swapped.p, swapped.n,
                          sodium_base64_VARIANT_ORIGINAL);
        fine = cg_buf_addf(out, "%.6s%s", value.p, coded);
        sodium_memzero(coded, size);
        free(coded);
    }
    if (swapped.p)
        sodium_memzero(swapped.p, swapped.n);
    cg_buf_finish(&swapped);
    free(plain);
    return fine;
}

/* Fields of ours instead of the guest's: the body is framed anew, an answer must be readable and
 * whole, else a value that comes back would not be recognised in it. */
static bool is_dropped(struct cg_slice name)
{
    static const char *const names[] = {
        "accept-encoding", "range", "if-range", "te", "trailer", "sec-websocket-extensions"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (cg_http1_is(name, names[i]))
            return true;
    return false;
}

static bool takes_none(struct cg_slice name)
{
    static const char *const names[] = {"host",   "content-length", "transfer-encoding",
                                        "expect", "connection",     "upgrade",
                                        "referer"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (cg_http1_is(name, names[i]))
            return true;
    return false;
}

static bool put_field(struct cg_rewrite *r, const struct cg_http1_field *f, struct cg_buf *up,
                      int *tag, const char **rule)
{
    int in_name = cg_match_find(placeholders(r), f->name, NULL, NULL);
    int in_value = cg_match_find(placeholders(r), f->value, NULL, NULL);
    if (in_name >= 0 || (in_value >= 0 && (takes_none(f->name) || is_dropped(f->name)))) {
        *tag = CG_MAX(in_name, in_value);
        *rule = "placeholder_in_header";
        return false;
    }
    if (r->o.secrets && is_dropped(f->name))
        return true;
    cg_buf_add(up, f->name.p, f->name.n);
    cg_buf_adds(up, ": ");
    bool fine = swap_basic(r, f->value, up, tag, rule);
    fine = fine || (!*rule && swap(r, f->value, up, tag, rule));
    return cg_buf_adds(up, "\r\n") && fine;
}

static bool put_head(struct cg_rewrite *r, const struct cg_http1_head *h, struct cg_buf *up,
                     int *tag, const char **rule)
{
    for (int i = 0; i < 3; i++) {
        cg_buf_add(up, h->first[i].p, h->first[i].n);
        cg_buf_adds(up, i < 2 ? " " : "\r\n");
    }
    uint64_t used = 0; /* one bit a secret */
    _Static_assert(CG_SECRETS <= 64, "a bit for each");
    for (unsigned i = 0; i < h->n; i++) {
        *tag = -1;
        if (!put_field(r, &h->fields[i], up, tag, rule))
            return false;
        if (*tag >= 0)
            used |= UINT64_C(1) << *tag;
    }
    cg_buf_adds(up, r->o.secrets ? "Accept-Encoding: identity\r\n\r\n" : "\r\n");
    if (up->full) {
        *rule = "too_large";
        return false;
    }
    for (unsigned i = 0; i < cg_secrets_count(r->o.secrets); i++) {
        if (!(used >> i & 1))
            continue;
        cg_secrets_at(r->o.secrets, i)->used = true;
        r->swapped_ever = true;
        tell(r, "allow", NULL, (int)i);
    }
    return true;
}

static void next_request(struct cg_rewrite *r)
{
    cg_buf_clear(&r->head);
    r->state = HEAD;
}

static void request_done(struct cg_rewrite *r)
{
    r->state = WAIT;
    if (r->response_done && r->close_after)
        r->state = OVER;
    else if (r->response_done)
        next_request(r);
}

/* A whole head is there. */
static void take_request(struct cg_rewrite *r, struct cg_buf *up, struct cg_buf *down)
{
    struct cg_http1_head h;
    int tag = -1;
    int in_path = -1;
    r->response_begun = false;
    r->method[0] = r->target[0] = '\0';
    if (!cg_http1_request(cg_buf_slice(&r->head), &h)) {
        refuse(r, "bad_request", -1, down);
        return;
    }
    remember(r, &h);
    const char *rule = judge(r, &h, &tag);
    if (in_target(r, cg_slice_of(r->target), &in_path))
        (void)cg_strlcpy(r->target, sizeof r->target, "/...");
    size_t before = up->n;
    if (!rule && put_head(r, &h, up, &tag, &rule)) {
        r->response_done = r->response_body = r->close_after = false;
        cg_buf_clear(&r->response_head);
        r->state = BODY;
        return;
    }
    if (up->p) /* part of a value may be in there */
        sodium_memzero(up->p + before, up->n - before);
    up->n = before;
    up->full = false;
    refuse(r, rule ? rule : "too_large", tag, down);
}

/* --- bodies and tunnels --- */

static void put_piece(struct cg_buf *piece, enum cg_http1_framing framing, struct cg_buf *out)
{
    if (piece->n > 0) {
        if (framing == CG_HTTP1_CHUNKED)
            cg_buf_addf(out, "%zx\r\n", piece->n);
        cg_buf_add(out, piece->p, piece->n);
        if (framing == CG_HTTP1_CHUNKED)
            cg_buf_adds(out, "\r\n");
    }
    cg_buf_clear(piece);
}

static size_t request_body(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *up,
                           struct cg_buf *down)
{
    size_t used = 0;
    struct cg_slice data;
    enum cg_http1_got got = cg_http1_body(&r->body, in, &used, &data);
    bool fine = got != CG_HTTP1_BAD;
    if (got == CG_HTTP1_DATA)
        fine = cg_redact_feed(&r->scan, data, &r->piece);
    else if (got == CG_HTTP1_END)
        fine = cg_redact_end(&r->scan, &r->piece);
    if (r->scan.hits > 0 || !fine) {
        cg_buf_clear(&r->piece);
        refuse(r, fine ? "placeholder_in_body" : "smuggling", r->scan.last, down);
        return used;
    }
    put_piece(&r->piece, r->body.framing, up);
    if (got == CG_HTTP1_END) {
        if (r->body.framing == CG_HTTP1_CHUNKED)
            cg_buf_adds(up, "0\r\n\r\n");
        request_done(r);
    }
    return used;
}

static void tunnel_request(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *up,
                           struct cg_buf *down)
{
    int tag = ws_scan_feed(&r->ws, in);
    if (tag >= 0)
        refuse(r, "placeholder_in_body", tag, down);
    else
        cg_buf_add(up, in.p, in.n);
}

size_t cg_rewrite_request(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *up,
                          struct cg_buf *down)
{
    size_t at = 0;
    CG_ASSERT(in.n <= CG_REWRITE_PIECE);
    for (;;) {
        const struct cg_slice rest = {in.p + at, in.n - at};
        size_t used = 0;
        if (r->state == HEAD) {
            enum cg_http1_got got = cg_http1_take(&r->head, rest, &used);
            at += used;
            if (got == CG_HTTP1_BAD)
                refuse(r, r->head.full ? "too_large" : "bad_request", -1, down);
            else if (got == CG_HTTP1_END)
                take_request(r, up, down);
            else
                return at;
        } else if (r->state == BODY) {
            at += request_body(r, rest, up, down);
            if (r->state == BODY && at == in.n && r->body.framing != CG_HTTP1_NONE &&
                !(r->body.framing == CG_HTTP1_LENGTH && r->body.left == 0))
                return at;
        } else if (r->state == TUNNEL) {
            tunnel_request(r, rest, up, down);
            return in.n;
        } else {
            return r->state == OVER ? in.n : at;
        }
    }
}

/* --- the response --- */

static void tell_masked(struct cg_rewrite *r)
{
    if (r->mask.hits != r->masked)
        tell(r, "redact", NULL, r->mask.last);
    r->masked = r->mask.hits;
}

static void response_end(struct cg_rewrite *r)
{
    tell_masked(r);
    r->response_done = true;
    if (r->state == WAIT && r->close_after)
        r->state = OVER;
    else if (r->state == WAIT)
        next_request(r);
}

/* A head with every value in it masked: as long as before. */
static void put_response_head(struct cg_rewrite *r, struct cg_buf *down)
{
    struct cg_redact mask;
    cg_redact_init(&mask, cg_secrets_values(r->o.secrets), NULL);
    if (!cg_redact_feed(&mask, cg_buf_slice(&r->response_head), down) ||
        !cg_redact_end(&mask, down))
        r->state = OVER;
    if (mask.hits)
        tell(r, "redact", NULL, mask.last);
    cg_redact_finish(&mask);
    r->response_begun = true;
}

static bool is_encoded(const struct cg_http1_head *h)
{
    struct cg_slice coding;
    unsigned n = cg_http1_get(h, "content-encoding", &coding);
    return n > 1 || (n == 1 && !cg_http1_is(coding, "identity") && coding.n > 0);
}

static void take_response(struct cg_rewrite *r, struct cg_buf *down)
{
    struct cg_http1_head h;
    if (!cg_http1_response(cg_buf_slice(&r->response_head), &h) ||
        !cg_http1_framing(&h, &r->response)) {
        refuse(r, "bad_response", -1, down);
        return;
    }
    bool none = r->head_method || cg_slice_eq(h.first[1], "204") || cg_slice_eq(h.first[1], "304");
    bool switches = cg_slice_eq(h.first[1], "101");
    if (!none && r->swapped_ever && is_encoded(&h)) {
        refuse(r, "encoded_response", -1, down);
        return;
    }
    if (switches && (!r->upgrade || r->state != WAIT)) {
        refuse(r, "bad_response", -1, down);
        return;
    }
    put_response_head(r, down);
    cg_buf_clear(&r->response_head);
    if (switches) {
        r->state = TUNNEL;
        ws_scan_init(&r->ws, placeholders(r));
        return;
    }
    if (h.first[1].p[0] == '1') {
        r->response_begun = false; /* the real one may still be ours */
        return;
    }
    bool unframed = r->response.framing == CG_HTTP1_NONE &&
                    !cg_http1_get(&h, "content-length", &(struct cg_slice){NULL, 0});
    if (none)
        r->response.framing = CG_HTTP1_NONE;
    else if (unframed)
        r->response.framing = CG_HTTP1_CLOSE;
    r->close_after = r->response.framing == CG_HTTP1_CLOSE ||
                     cg_http1_has(&h, "connection", "close") || cg_slice_eq(h.first[0], "HTTP/1.0");
    r->response_body = true;
}

static size_t response_body(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *down)
{
    size_t used = 0;
    struct cg_slice data;
    enum cg_http1_got got = cg_http1_body(&r->response, in, &used, &data);
    bool fine = got != CG_HTTP1_BAD;
    if (got == CG_HTTP1_DATA)
        fine = cg_redact_feed(&r->mask, data, &r->piece);
    else if (got == CG_HTTP1_END)
        fine = cg_redact_end(&r->mask, &r->piece);
    put_piece(&r->piece, r->response.framing, down);
    if (!fine) {
        refuse(r, "bad_response", -1, down);
    } else if (got == CG_HTTP1_END) {
        if (r->response.framing == CG_HTTP1_CHUNKED)
            cg_buf_adds(down, "0\r\n\r\n");
        response_end(r);
    }
    return used;
}

static bool body_waits(const struct cg_http1_body *b)
{
    return b->framing == CG_HTTP1_CHUNKED || b->framing == CG_HTTP1_CLOSE ||
           (b->framing == CG_HTTP1_LENGTH && b->left > 0);
}

void cg_rewrite_response(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *down)
{
    size_t at = 0;
    CG_ASSERT(in.n <= CG_REWRITE_PIECE);
    while (r->state != OVER) {
        const struct cg_slice rest = {in.p + at, in.n - at};
        size_t used = 0;
        if (r->state == TUNNEL) {
            if (!cg_redact_feed(&r->mask, rest, down))
                r->state = OVER;
            tell_masked(r);
            return;
        }
        if (r->response_done) { /* nobody asked */
            if (rest.n > 0)
                refuse(r, "bad_response", -1, down);
            return;
        }
        if (r->response_body) {
            at += response_body(r, rest, down);
            if (at == in.n && !r->response_done && body_waits(&r->response))
                return;
            continue;
        }
        enum cg_http1_got got = cg_http1_take(&r->response_head, rest, &used);
        at += used;
        if (got == CG_HTTP1_MORE)
            return;
        if (got == CG_HTTP1_BAD)
            refuse(r, "bad_response", -1, down);
        else
            take_response(r, down);
    }
}

void cg_rewrite_response_end(struct cg_rewrite *r, struct cg_buf *down)
{
    if (r->state == OVER)
        return;
    if (r->state == TUNNEL || (r->response_body && r->response.framing == CG_HTTP1_CLOSE)) {
        if (cg_redact_end(&r->mask, &r->piece))
            put_piece(&r->piece, CG_HTTP1_CLOSE, down);
        tell_masked(r);
    } else if (!r->response_done) {
        refuse(r, "bad_response", -1, down);
    }
    r->state = OVER;
}

bool cg_rewrite_wants(const struct cg_rewrite *r)
{
    return r->state == HEAD || r->state == BODY || r->state == TUNNEL;
}

bool cg_rewrite_idle(const struct cg_rewrite *r)
{
    return r->state == HEAD && r->head.n == 0;
}

bool cg_rewrite_over(const struct cg_rewrite *r)
{
    return r->state == OVER;
}
