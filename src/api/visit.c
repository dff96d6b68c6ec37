/* One request to a port of a guest: a connection of its own inside the guest, the request written
 * anew, the answer read by a parser and written anew, so that no byte of the guest can pose as
 * another answer on a connection that a proxy in front of the server shares. A 101 turns it into a
 * pipe. Either side that is slow holds the other back. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/preview.h"
#include "http/answer.h"

enum { INPUT_MAX = 2 << 20, HEAD_MAX = 48 * 1024, VISITS_MAX = 512, VISITS_OF_ONE = 96 };

struct api_visit {
    struct api_visit *next;
    struct cg_http_req *r;     /* NULL once answered, or the client is gone */
    struct cg_http_pipe *pipe; /* after a 101 */
    struct cg_http_answer *answer;
    struct cg_wcall call;
    struct place place;
    struct cg_buf input; /* for the guest: the head, the body, or the pipe's bytes */
    size_t owed;         /* of the guest, queued and not yet written to the client */
    bool waking, opened, relayed, chunked, upgrade, switched, broken;
};

static void drop(struct api_visit *v)
{
    if (v->r || v->pipe || v->call.s || v->waking)
        return; /* somebody still refers to it */
    struct api_visit **at = &v->place.api->preview->visits;
    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    cg_http_answer_destroy(v->answer);
    cg_buf_finish(&v->input);
    free(v->place.target);
    free(v);
}

/* The request is over for us; what becomes of the connection is the HTTP server's business. */
static struct cg_http_req *let_go(struct api_visit *v)
{
    struct cg_http_req *r = v->r;
    v->r = NULL;
    r->abort = NULL;
    r->drain = NULL;
    r->on_body = NULL;
    r->on_end = NULL;
    return r;
}

static void fail(struct api_visit *v, int status, const char *text)
{
    if (v->r && v->relayed)
        cg_http_break(let_go(v));
    else if (v->r)
        preview_page(let_go(v), status, "Nothing to show", text, NULL);
    cg_wcall_cancel(&v->call);
}

/* --- the request, written anew --- */

static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    while (list && *list) {
        list += strspn(list, " ,\t");
        size_t len = strcspn(list, " ,\t");
        if (len == n && strncasecmp(list, name, n) == 0)
            return true;
        list += len;
    }
    return false;
}

/* Headers that are about this connection, or that we write ourselves. */
static bool is_ours(const char *name)
{
    static const char *const names[] = {
        "host",   "connection", "keep-alive",        "proxy-connection", "proxy-authorization",
        "te",     "trailer",    "transfer-encoding", "content-length",   "upgrade",
        "expect", "forwarded",  "proxy-authenticate"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return strncasecmp(name, "x-forwarded-", 12) == 0;
}

/* Cookies without the one that lets the visitor in. */
static void add_cookies(struct cg_buf *b, const char *value)
{
    bool any = false;
    while (*value) {
        value += strspn(value, "; ");
        size_t n = strcspn(value, ";");
        if (n > 0 && strncmp(value, PREVIEW_COOKIE "=", strlen(PREVIEW_COOKIE) + 1) != 0) {
            cg_buf_adds(b, any ? "; " : "Cookie: ");
            cg_buf_add(b, value, n);
            any = true;
        }
        value += n;
    }
    cg_buf_adds(b, any ? "\r\n" : "");
}

static void add_header(struct api_visit *v, struct cg_buf *b, const char *name, const char *value)
{
    const char *host = cg_http_header(v->r, "host");
    if (strcasecmp(name, "cookie") == 0) {
        if (!v->place.by_path) /* an address shared with others has no cookies of its own */
            add_cookies(b, value);
        return;
    }
    const char *at = strstr(value, "://");
    if (strcasecmp(name, "origin") == 0 && at && host && strcasecmp(at + 3, host) == 0)
        cg_buf_addf(b, "Origin: http://localhost:%d\r\n", v->place.port);
    else
        cg_buf_addf(b, "%s: %s\r\n", name, value);
}

static void write_head(struct api_visit *v)
{
    struct cg_http_req *r = v->r;
    struct cg_buf *b = &v->input;
    const struct place *p = &v->place;
    const char *connection = cg_http_header(r, "connection");
    const char *name;
    const char *value;
    cg_buf_addf(b, "%s %s HTTP/1.1\r\nHost: localhost:%d\r\n", r->method, p->target, p->port);
    for (unsigned i = 0; cg_http_header_at(r, i, &name, &value); i++)
        if (!is_ours(name) && !listed(connection, name))
            add_header(v, b, name, value);
    cg_buf_addf(b, "X-Forwarded-For: %s\r\nX-Forwarded-Host: %s\r\nX-Forwarded-Proto: %s\r\n",
                r->peer, cg_http_header(r, "host"), p->by_path ? "http" : p->api->preview->scheme);
    if (p->by_path)
        cg_buf_addf(b, "X-Forwarded-Prefix: %s\r\n", p->prefix);
    v->chunked = r->has_body && r->content_length < 0;
    if (v->chunked)
        cg_buf_adds(b, "Transfer-Encoding: chunked\r\n");
    else if (r->content_length >= 0)
        cg_buf_addf(b, "Content-Length: %lld\r\n", (long long)r->content_length);
    v->upgrade = !r->has_body && cg_ws_wanted(r, NULL);
    cg_buf_adds(b, v->upgrade ? "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                              : "Connection: close\r\n\r\n");
}

/* --- to the guest --- */

static void hold(struct api_visit *v, bool back)
{
    if (v->pipe)
        (back ? cg_http_pipe_pause : cg_http_pipe_resume)(v->pipe);
    else if (v->r && v->r->has_body)
        (back ? cg_http_pause : cg_http_resume)(v->r);
}

static void pump(struct api_visit *v)
{
    if (v->opened && v->input.n > 0)
        cg_buf_consume(&v->input, cg_wcall_send(&v->call, CG_LINK_STDIN, cg_buf_slice(&v->input)));
    hold(v, v->input.n > 0);
}

static void on_body(struct cg_http_req *r, struct cg_slice bytes)
{
    struct api_visit *v = r->user;
    if (v->chunked)
        cg_buf_addf(&v->input, "%zx\r\n", bytes.n);
    cg_buf_add(&v->input, bytes.p, bytes.n);
    cg_buf_adds(&v->input, v->chunked ? "\r\n" : "");
    if (v->input.full)
        fail(v, 413, "The request's body came faster than it could be passed on.");
    else
        pump(v);
}

static void on_body_end(struct cg_http_req *r)
{
    struct api_visit *v = r->user;
    if (v->chunked)
        cg_buf_adds(&v->input, "0\r\n\r\n");
    pump(v);
}

static void on_writable(struct cg_wcall *call)
{
    pump(CG_CONTAINER(call, struct api_visit, call));
}

/* --- the answer, written anew --- */

/* Where a redirect leads, as the visitor has to see it. */
static void add_location(struct api_visit *v, struct cg_buf *b, const char *value)
{
    char local[3][40];
    cg_snprintf(local[0], sizeof local[0], "http://localhost:%d", v->place.port);
    cg_snprintf(local[1], sizeof local[1], "http://127.0.0.1:%d", v->place.port);
    cg_snprintf(local[2], sizeof local[2], "http://0.0.0.0:%d", v->place.port);
    for (size_t i = 0; i < CG_COUNT(local); i++) {
        size_t n = strlen(local[i]);
        if (strncmp(value, local[i], n) == 0 && (value[n] == '/' || value[n] == '\0'))
            value += n;
    }
    bool rooted = value[0] == '/' && value[1] != '/';
    cg_buf_addf(b, "Location: %s%s\r\n", rooted ? v->place.prefix : "", value[0] ? value : "/");
}

/* A cookie stays with the host that set it: a Domain would reach other sandboxes. */
static void add_set_cookie(struct cg_buf *b, const char *value)
{
    cg_buf_adds(b, "Set-Cookie: ");
    for (bool first = true; *value; first = false) {
        size_t n = strcspn(value, ";");
        size_t blanks = strspn(value, " \t");
        bool domain = !first && n >= blanks + 6 && strncasecmp(value + blanks, "domain", 6) == 0;
        if (!domain) {
            cg_buf_adds(b, first ? "" : ";");
            cg_buf_add(b, value, n);
        }
        value += n + (value[n] == ';');
    }
    cg_buf_adds(b, "\r\n");
}

static void add_answer_header(struct api_visit *v, struct cg_buf *b, const char *name,
                              const char *value)
{
    static const char *const dropped[] = {"strict-transport-security", "alt-svc",
                                          "public-key-pins"};
    static const char *const by_path[] = {"set-cookie", "service-worker-allowed",
                                          "access-control-allow-origin", "clear-site-data"};
    bool drop_it = is_ours(name);
    for (size_t i = 0; i < CG_COUNT(dropped); i++)
        drop_it |= strcasecmp(name, dropped[i]) == 0;
    for (size_t i = 0; i < CG_COUNT(by_path); i++)
        drop_it |= v->place.by_path && strcasecmp(name, by_path[i]) == 0;
    if (drop_it)
        return;
    if (strcasecmp(name, "location") == 0)
        add_location(v, b, value);
    else if (strcasecmp(name, "set-cookie") == 0)
        add_set_cookie(b, value);
    else
        cg_buf_addf(b, "%s: %s\r\n", name, value);
}

/* Pages under one address must not reach each other, nor what is kept for it: each document is an
 * origin of its own. It may read what lies under the same prefix, which is the same sandbox's. */
static void add_walls(struct api_visit *v, struct cg_buf *b)
{
    if (!v->place.by_path)
        return;
    cg_buf_adds(b, "Content-Security-Policy: sandbox allow-scripts allow-forms allow-modals "
                   "allow-popups allow-downloads\r\n");
    if (cg_streq(cg_http_header(v->r, "origin"), "null"))
        cg_buf_adds(b, "Access-Control-Allow-Origin: null\r\n");
}

static bool gather_headers(struct api_visit *v, struct cg_buf *b)
{
    const char *name;
    const char *value;
    for (unsigned i = 0; cg_http_answer_header(v->answer, i, &name, &value); i++) {
        if (strpbrk(value, "\r\n"))
            return false;
        add_answer_header(v, b, name, value);
    }
    add_walls(v, b);
    return !b->full;
}

static void on_head(void *ctx, struct cg_http_answer *answer)
{
    struct api_visit *v = ctx;
    int status = cg_http_answer_status(answer);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_HTTP_ANSWER_HEAD_MAX + 4096);
    if (!gather_headers(v, &b) || status < 101 || status > 999 || (status == 101 && !v->upgrade)) {
        v->broken = true;
        return;
    }
    if (status == 101) {
        v->switched = true;
        return;
    }
    v->relayed = true;
    cg_http_relay(v->r, status, cg_buf_slice(&b), cg_http_answer_length(answer));
}

static void on_answer_body(void *ctx, struct cg_slice bytes)
{
    struct api_visit *v = ctx;
    if (v->r && v->relayed)
        cg_http_write(v->r, bytes);
}

/* --- after a 101 --- */

static void on_pipe_bytes(void *ctx, struct cg_slice bytes)
{
    struct api_visit *v = ctx;
    if (!cg_buf_add(&v->input, bytes.p, bytes.n))
        cg_http_pipe_end(v->pipe);
    else
        pump(v);
}

static void on_pipe_drain(void *ctx)
{
    struct api_visit *v = ctx;
    size_t owed = v->owed;
    v->owed = 0;
    cg_wcall_grant(&v->call, owed);
}

static void on_pipe_close(void *ctx)
{
    struct api_visit *v = ctx;
    v->pipe = NULL;
    cg_wcall_cancel(&v->call);
    drop(v);
}

static void switch_protocols(struct api_visit *v, struct cg_slice rest)
{
    static const struct cg_http_pipe_ops ops = {on_pipe_bytes, on_pipe_drain, on_pipe_close};
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_HTTP_ANSWER_HEAD_MAX + 4096);
    cg_buf_adds(&b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\n");
    CG_ASSERT(gather_headers(v, &b));
    cg_buf_adds(&b, "\r\n");
    v->pipe = cg_http_pass(let_go(v), cg_buf_slice(&b), &ops, v);
    cg_http_pipe_write(v->pipe, rest);
    v->owed += rest.n;
    cg_http_pipe_begin(v->pipe);
}

/* --- from the guest --- */

static void answer_over(struct api_visit *v)
{
    cg_http_finish(let_go(v));
    cg_wcall_cancel(&v->call);
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct api_visit *v = CG_CONTAINER(call, struct api_visit, call);
    struct cg_err e = CG_ERR_INIT;
    size_t used = 0;
    (void)channel;
    if (v->pipe) {
        v->owed += bytes.n;
        cg_http_pipe_write(v->pipe, bytes);
        return;
    }
    if (!v->r) {
        cg_wcall_grant(call, bytes.n);
        return;
    }
    bool fine = cg_http_answer_feed(v->answer, bytes, &used, &e);
    if (!fine || v->broken) {
        fail(v, 502, "What answers on this port does not speak HTTP/1.1.");
        return;
    }
    if (v->switched) {
        cg_wcall_grant(call, used);
        switch_protocols(v, (struct cg_slice){bytes.p + used, bytes.n - used});
        return;
    }
    v->owed += bytes.n;
    if (cg_http_answer_complete(v->answer)) {
        answer_over(v);
    } else if (cg_http_pending(v->r) == 0) {
        cg_wcall_grant(call, v->owed);
        v->owed = 0;
    }
}

static void on_drain(struct cg_http_req *r)
{
    struct api_visit *v = r->user;
    size_t owed = v->owed;
    v->owed = 0;
    cg_wcall_grant(&v->call, owed);
}

static void guest_ended(struct api_visit *v, const struct cg_err *why)
{
    struct cg_err e = CG_ERR_INIT;
    if (v->pipe)
        cg_http_pipe_end(v->pipe);
    if (!v->r)
        return;
    if (!why && v->relayed && cg_http_answer_end(v->answer, &e))
        answer_over(v);
    else
        fail(v, 502,
             why && why->code != CG_CLOSED ? "Nothing answers on this port of the sandbox."
                                           : "The program behind this port hung up.");
}

static void on_eof(struct cg_wcall *call, unsigned channel)
{
    (void)channel;
    guest_ended(CG_CONTAINER(call, struct api_visit, call), NULL);
}

static void on_closed(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct api_visit *v = CG_CONTAINER(call, struct api_visit, call);
    (void)result;
    v->owed = 0;
    guest_ended(v, error);
    drop(v);
}

/* --- beginning --- */

static void on_abort(struct cg_http_req *r)
{
    struct api_visit *v = r->user;
    v->r = NULL;
    cg_wcall_cancel(&v->call);
    drop(v);
}

static void open_visit(struct api_visit *v, const struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    char request[96];
    v->call = (struct cg_wcall){
        .on_data = on_data, .on_eof = on_eof, .on_writable = on_writable, .on_close = on_closed};
    cg_snprintf(request, sizeof request, "{\"kind\":\"dial\",\"port\":%d,\"origin\":\"preview\"}",
                v->place.port);
    if (!cg_sandbox_usable(sb, &e) ||
        !cg_wcall_open(sb->warden, &v->call, cg_slice_of(request), &e)) {
        fail(v, 503, "The sandbox does not run.");
        drop(v);
        return;
    }
    v->opened = true;
    pump(v);
}

static void on_awake(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct api_visit *v = ctx;
    v->waking = false;
    if (v->r && !err) {
        open_visit(v, sb);
        return;
    }
    if (v->r)
        fail(v, 503, "The sandbox sleeps and could not be woken.");
    drop(v);
}

static bool too_many(const struct cg_api *a, const struct cg_sandbox *sb)
{
    unsigned all = 0;
    unsigned of_one = 0;
    for (const struct api_visit *v = a->preview->visits; v; v = v->next) {
        all++;
        of_one += v->place.sb == sb;
    }
    return all >= VISITS_MAX || of_one >= VISITS_OF_ONE;
}

void visit_begin(struct cg_http_req *r, struct place *p)
{
    static const struct cg_http_answer_ops ops = {on_head, on_answer_body};
    struct cg_api *a = p->api;
    if (too_many(a, p->sb)) {
        free(p->target);
        cg_http_add_header(r, "Retry-After", "5");
        preview_page(r, 503, "Busy", "Too many requests to this sandbox are open.", NULL);
        return;
    }
    struct api_visit *v = cg_alloc(sizeof *v);
    v->place = *p;
    v->r = r;
    v->answer = cg_http_answer_create(strcmp(r->method, "HEAD") == 0, &ops, v);
    v->next = a->preview->visits;
    a->preview->visits = v;
    cg_buf_init(&v->input, INPUT_MAX);
    r->user = v;
    r->abort = on_abort;
    r->drain = on_drain;
    write_head(v);
    if (r->has_body) {
        cg_http_pause(r); /* until the guest is there */
        cg_http_stream_body(r, on_body, on_body_end);
    }
    struct cg_sandbox *sb = p->sb;
    bool sleeps = sb->status == CG_STATUS_PAUSED && strcmp(sb->pause_reason, "idle") == 0 &&
                  !a->core->options.stay_asleep;
    struct cg_err e = CG_ERR_INIT;
    if (!sleeps) {
        open_visit(v, sb);
        return;
    }
    v->waking = true;
    if (cg_core_resume(sb, on_awake, v, &e))
        return;
    v->waking = false;
    fail(v, 503, "The sandbox sleeps and could not be woken.");
    drop(v);
}

void api_previews_end(struct cg_api *a)
{
    for (struct api_visit *v = a->preview->visits; v; v = v->next)
        if (v->pipe)
            cg_http_pipe_end(v->pipe);
}
