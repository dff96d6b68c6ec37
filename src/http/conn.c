/* A connection: gathers a head, checks it before llhttp parses it, passes body bytes on, and serves
 * one request after the other. While a request is handled, bytes behind it wait in `in`. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/inner.h"

enum { IN_MAX = CG_HTTP_HEAD_MAX + 128 * 1024, OUT_KEEP = 128 * 1024 };

static const llhttp_settings_t *settings(void);

/* What the connection waits for now; each kind has its time. */
static enum conn_wait what_waits(const struct cg_http_conn *c)
{
    if (c->lingering)
        return c->body_done ? WAIT_END : WAIT_REST;
    if (c->out_at < c->out.n)
        return WAIT_WRITE;
    if (c->ws_closing)
        return WAIT_END;
    if (c->state == CONN_HEAD)
        return c->in.n > 0 || !c->served ? WAIT_HEAD : WAIT_IDLE;
    if (c->state == CONN_BODY && !c->body_done && !c->paused)
        return WAIT_BODY;
    return WAIT_NONE;
}

/* A deadline runs from when its wait began; `progress` begins it anew. */
void conn_rearm(struct cg_http_conn *c, bool progress)
{
    static const int ms[] = {
        [WAIT_NONE] = 0,      [WAIT_HEAD] = 15000, [WAIT_IDLE] = 75000, [WAIT_BODY] = 60000,
        [WAIT_WRITE] = 60000, [WAIT_END] = 2000,   [WAIT_REST] = 10000};
    enum conn_wait wait = what_waits(c);
    if (wait == c->wait && !progress)
        return;
    c->wait = wait;
    c->deadline_ns = ms[wait] ? cg_mono_ns() + (int64_t)ms[wait] * 1000000 : 0;
}

void conn_queue(struct cg_http_conn *c, const void *p, size_t n)
{
    if (c->dead)
        return;
    if (c->out_at == c->out.n) {
        cg_buf_clear(&c->out);
        c->out_at = 0;
    } else if (c->out_at > 65536 && c->out_at > c->out.n / 2) {
        cg_buf_consume(&c->out, c->out_at);
        c->out_at = 0;
    }
    if (!cg_buf_add(&c->out, p, n)) {
        c->closing = true; /* the client does not read: what is queued is all it gets */
        c->keep = false;
    }
    conn_rearm(c, false);
    cg_stream_kick(c->stream);
}

/* Nothing more is served: what is queued goes out, then the sending side is shut, and what the
 * client still sends is read and dropped for a while, so that no reset overtakes the reply. */
void conn_close_after_reply(struct cg_http_conn *c)
{
    c->closing = true;
    c->keep = false;
    cg_stream_read_resume(c->stream);
    cg_stream_kick(c->stream); /* comes by `wrote_all` also when all is out already */
}

static void free_request(struct cg_http_conn *c)
{
    struct cg_http_req *r = &c->req;
    free(r->target);
    free(r->path);
    for (unsigned i = 0; i < r->segments; i++)
        free(r->segment[i]);
    for (unsigned i = 0; i < c->nheaders; i++) {
        free(c->headers[i].name);
        free(c->headers[i].value);
    }
    c->nheaders = 0;
    cg_buf_finish(&r->extra);
    cg_buf_finish(&r->body);
    *r = (struct cg_http_req){.conn = c, .peer = c->peer};
}

void conn_destroy(struct cg_http_conn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    if (c->req_live && c->req.abort)
        c->req.abort(&c->req);
    c->req_live = false;
    if (c->ws)
        ws_gone(c->ws);
    if (c->pipe)
        pipe_gone(c->pipe);
    c->ws = NULL;
    c->pipe = NULL;
    cg_stream_destroy(c->stream);
    if (c->prev)
        c->prev->next = c->next;
    else
        c->server->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->server->nconns--;
    free_request(c);
    cg_buf_finish(&c->in);
    cg_buf_finish(&c->out);
    /* callers up the stack still look at `dead`: the memory goes at the next tick */
    c->next = c->server->graves;
    c->server->graves = c;
}

/* An error that ends the connection, before any handler saw the request. */
void conn_simple_reply(struct cg_http_conn *c, int status, const char *text)
{
    char body[768];
    char head[512];
    cg_snprintf(body, sizeof body,
                "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\","
                "\"error\":\"%s\",\"reason\":{\"code\":\"malformed_request\",\"message\":\"%s\"}}",
                cg_http_status_text(status), status, text, text, text);
    cg_snprintf(head, sizeof head,
                "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
                "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                status, cg_http_status_text(status), strlen(body));
    conn_queue(c, head, strlen(head));
    conn_queue(c, body, strlen(body));
    conn_close_after_reply(c);
}

/* --- llhttp --- */

static int on_url(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_conn *c = p->data;
    size_t have = c->req.target ? strlen(c->req.target) : 0;
    c->req.target = cg_realloc(c->req.target, have + n + 1);
    memcpy(c->req.target + have, at, n);
    c->req.target[have + n] = '\0';
    return 0;
}

static void append(char **text, const char *at, size_t n)
{
    size_t have = *text ? strlen(*text) : 0;
    *text = cg_realloc(*text, have + n + 1);
    memcpy(*text + have, at, n);
    (*text)[have + n] = '\0';
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_conn *c = p->data;
    struct header *h = c->nheaders ? &c->headers[c->nheaders - 1] : NULL;
    if (!h || h->value) {
        if (c->nheaders == CG_COUNT(c->headers))
            return -1;
        h = &c->headers[c->nheaders++];
        *h = (struct header){0};
    }
    append(&h->name, at, n);
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_conn *c = p->data;
    if (c->nheaders == 0)
        return -1;
    append(&c->headers[c->nheaders - 1].value, at, n);
    return 0;
}

static int on_value_complete(llhttp_t *p)
{
    struct cg_http_conn *c = p->data;
    if (c->nheaders && !c->headers[c->nheaders - 1].value)
        c->headers[c->nheaders - 1].value = cg_strdup("");
    return 0;
}

static int on_headers_complete(llhttp_t *p)
{
    struct cg_http_conn *c = p->data;
    c->req.has_body = (p->flags & F_CHUNKED) || p->content_length > 0;
    c->req.content_length = (p->flags & F_CONTENT_LENGTH) ? (int64_t)p->content_length : -1;
    c->keep = llhttp_should_keep_alive(p) == 1;
    return 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_conn *c = p->data;
    conn_rearm(c, true);
    if (c->req_live && c->req.on_body)
        c->req.on_body(&c->req, (struct cg_slice){at, n});
    return c->dead ? -1 : 0;
}

static int on_complete(llhttp_t *p)
{
    (void)p;
    return HPE_PAUSED; /* what follows belongs to the next request */
}

static const llhttp_settings_t *settings(void)
{
    static llhttp_settings_t s;
    if (!s.on_url) {
        llhttp_settings_init(&s);
        s.on_url = on_url;
        s.on_header_field = on_field;
        s.on_header_value = on_value;
        s.on_header_value_complete = on_value_complete;
        s.on_headers_complete = on_headers_complete;
        s.on_body = on_body;
        s.on_message_complete = on_complete;
    }
    return &s;
}

/* Runs the parser over bytes; *used is how many it took. False when the connection ended. */
static bool parse(struct cg_http_conn *c, struct cg_slice bytes, size_t *used)
{
    enum llhttp_errno rc = llhttp_execute(&c->parser, bytes.p, bytes.n);
    if (c->dead)
        return false;
    *used = bytes.n;
    if (rc == HPE_PAUSED || rc == HPE_PAUSED_UPGRADE) {
        *used = (size_t)(llhttp_get_error_pos(&c->parser) - bytes.p);
        c->body_done = true;
        return true;
    }
    if (rc == HPE_OK)
        return true;
    if (!c->req_live) {
        conn_simple_reply(c, 400, "the request is not HTTP/1.1 as RFC 9112 has it");
        return true;
    }
    conn_destroy(c); /* a broken body in the middle of a request */
    return false;
}

/* The head is complete in c->in[0..n): parse it and hand the request to the handler. */
static bool start_request(struct cg_http_conn *c, size_t n)
{
    const char *wrong = head_judge(c->in.p, n);
    if (wrong) {
        conn_simple_reply(c, 400, wrong);
        return true;
    }
    size_t used = 0;
    llhttp_init(&c->parser, HTTP_REQUEST, settings());
    c->parser.data = c;
    c->body_done = c->replied = c->finished = c->chunked = false;
    if (!parse(c, (struct cg_slice){c->in.p, n}, &used))
        return false;
    if (c->closing)
        return true;
    if (!c->req.target) {
        conn_simple_reply(c, 400, "there is no request in the head");
        return true;
    }
    cg_buf_consume(&c->in, n);
    struct cg_http_req *r = &c->req;
    r->method = llhttp_method_name((llhttp_method_t)c->parser.method);
    bool version = c->parser.http_major == 1 && c->parser.http_minor <= 1;
    if (!version || !head_split_target(r)) {
        conn_simple_reply(c, version ? 400 : 505,
                          version ? "the request target is malformed"
                                  : "only HTTP/1.0 and 1.1 are spoken");
        return true;
    }
    if (!r->has_body)
        c->body_done = true;
    cg_buf_init(&r->extra, 8192);
    unsigned char bytes[8];
    cg_rand_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < 2 * sizeof bytes; i++)
        r->id[i] = "0123456789abcdef"[bytes[i / 2] >> (i % 2 ? 0 : 4) & 15];
    c->state = CONN_BODY;
    c->req_live = true;
    c->headless = c->parser.method == HTTP_HEAD;
    conn_rearm(c, true);
    const char *expect = cg_http_header(r, "expect");
    if (expect && strcasecmp(expect, "100-continue") == 0 && r->has_body)
        conn_queue(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    c->server->handler(c->server->ctx, r);
    return !c->dead;
}

static void body_complete(struct cg_http_conn *c)
{
    conn_rearm(c, true);
    if (c->req_live && c->req.on_end) {
        void (*on_end)(struct cg_http_req *) = c->req.on_end;
        c->req.on_end = NULL;
        on_end(&c->req);
    }
}

/* Body bytes that came while nothing waits go to the parser where they are; what is behind the body
 * waits. False when the connection is gone. */
static bool pass_body(struct cg_http_conn *c, struct cg_slice bytes)
{
    size_t used = 0;
    bool outer = c->advancing;
    c->advancing = true;
    bool ok = parse(c, bytes, &used);
    if (ok && used < bytes.n && !cg_buf_add(&c->in, bytes.p + used, bytes.n - used)) {
        conn_destroy(c);
        ok = false;
    }
    if (ok && c->body_done)
        body_complete(c);
    c->advancing = outer;
    return ok && !c->dead;
}

static bool feed_body(struct cg_http_conn *c)
{
    size_t used = 0;
    struct cg_buf bytes = c->in; /* the handler may queue, but never touches `in` */
    cg_buf_init(&c->in, IN_MAX);
    bool ok = parse(c, cg_buf_slice(&bytes), &used);
    if (ok && used < bytes.n && !cg_buf_add(&c->in, bytes.p + used, bytes.n - used))
        ok = false;
    cg_buf_finish(&bytes);
    return ok;
}

static bool find_head(struct cg_http_conn *c, size_t *n)
{
    size_t look = CG_MIN(c->in.n, (size_t)CG_HTTP_HEAD_MAX);
    const char *end = look >= 4 ? memmem(c->in.p, look, "\r\n\r\n", 4) : NULL;
    if (end) {
        *n = (size_t)(end - c->in.p) + 4;
        return true;
    }
    if (c->in.n >= CG_HTTP_HEAD_MAX)
        conn_simple_reply(c, 431, "the request's head is over 16 KiB");
    else if (look >= 2 && memmem(c->in.p, look, "\n\n", 2))
        conn_simple_reply(c, 400, "a line of the head does not end with CR LF");
    return false;
}

static bool upgraded_bytes(struct cg_http_conn *c)
{
    struct cg_buf bytes = c->in;
    cg_buf_init(&c->in, IN_MAX);
    bool ok = true;
    if (bytes.n > 0 && c->pipe)
        pipe_bytes(c->pipe, cg_buf_slice(&bytes));
    else if (bytes.n > 0)
        ok = ws_bytes(c->ws, cg_buf_slice(&bytes));
    cg_buf_finish(&bytes);
    return ok && !c->dead;
}

/* Goes as far as the bytes in `in` allow. False when the connection is gone. */
static bool advance_more(struct cg_http_conn *c)
{
    while (!c->closing && !c->dead) {
        if (c->state == CONN_UPGRADED)
            return upgraded_bytes(c);
        if (c->state == CONN_BODY) {
            if (c->body_done || c->in.n == 0)
                return true;
            if (!feed_body(c))
                return false;
            if (c->body_done)
                body_complete(c);
            continue;
        }
        size_t n = 0;
        if (!find_head(c, &n) || !start_request(c, n))
            return !c->dead;
    }
    return !c->dead;
}

/* A handler that replies at once comes back here from below: one loop at a time is enough. */
bool conn_advance(struct cg_http_conn *c)
{
    if (c->advancing)
        return true;
    c->advancing = true;
    bool ok = advance_more(c);
    c->advancing = false;
    return ok;
}

/* Clients that send head and body in two writes wait for the first one's acknowledgement (Nagle),
 * which the kernel would keep back for 40 ms. */
static void acknowledge(const struct cg_http_conn *c)
{
    const int one = 1;
    setsockopt(cg_stream_fd(c->stream), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    struct cg_http_conn *c = ctx;
    (void)e;
    if (c->closing)
        return true; /* dropped: see conn_close_after_reply */
    bool straight = c->state == CONN_BODY && !c->body_done && c->in.n == 0 && !c->advancing;
    if (straight && !pass_body(c, bytes))
        return true;
    if (!straight && !cg_buf_add(&c->in, bytes.p, bytes.n)) {
        /* pipelined bytes beyond what may wait: stop reading until the reply is out */
        conn_destroy(c);
        return true;
    }
    if (conn_advance(c) && !c->dead && c->state == CONN_BODY && c->body_done && c->in.n > 65536)
        cg_stream_read_pause(c->stream);
    if (!c->dead && c->state == CONN_BODY && !c->body_done)
        acknowledge(c);
    if (!c->dead)
        conn_rearm(c, false);
    return true;
}

/* Everything queued is out. */
static void wrote_all(struct cg_http_conn *c)
{
    if (c->out.cap > OUT_KEEP) { /* an idle connection holds no large buffer */
        cg_buf_finish(&c->out);
        cg_buf_init(&c->out, CG_HTTP_OUT_MAX);
    }
    cg_buf_clear(&c->out);
    c->out_at = 0;
    if (c->closing && c->req_live) {
        conn_destroy(c); /* the reply could not be queued whole */
        return;
    }
    if (c->closing && !c->lingering) {
        c->lingering = true;
        cg_stream_finish_writing(c->stream);
    }
    conn_rearm(c, true);
    if (c->ws)
        ws_drained(c->ws);
    else if (c->pipe)
        pipe_drained(c->pipe);
    else if (c->req_live && c->req.drain)
        c->req.drain(&c->req);
}

static struct cg_slice output(void *ctx)
{
    struct cg_http_conn *c = ctx;
    if (c->out_at == c->out.n && c->ws)
        ws_fill(c->ws);
    if (c->out_at == c->out.n && c->closing && !c->lingering && !c->dead)
        wrote_all(c);
    return (struct cg_slice){c->out.p + c->out_at, c->out.n - c->out_at};
}

static void wrote(void *ctx, size_t n)
{
    struct cg_http_conn *c = ctx;
    c->out_at += n;
    if (c->out_at < c->out.n)
        conn_rearm(c, true);
    else
        wrote_all(c);
}

static void on_end(void *ctx, const struct cg_err *why)
{
    (void)why;
    conn_destroy(ctx);
}

/* The reply of the present request is complete: the next one, or the end. */
void conn_request_over(struct cg_http_conn *c)
{
    c->req_live = false;
    c->finished = true;
    c->paused = false;
    if (!c->body_done || !c->keep || c->server->quiet) {
        conn_close_after_reply(c); /* the rest of a refused body is not waited for */
        return;
    }
    free_request(c);
    c->state = CONN_HEAD;
    c->served = true;
    conn_rearm(c, true);
    cg_stream_read_resume(c->stream);
    if (c->in.n > 0)
        conn_advance(c);
}

static void name_peer(struct cg_http_conn *c, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t n = sizeof a;
    if (getpeername(fd, &a.any, &n) != 0)
        return;
    if (a.any.sa_family == AF_INET)
        uv_ip4_name(&a.v4, c->peer, sizeof c->peer);
    else if (a.any.sa_family == AF_INET6)
        uv_ip6_name(&a.v6, c->peer, sizeof c->peer);
}

void conn_accept(struct cg_http_server *s, int fd)
{
    static const struct cg_stream_ops ops = {on_read, output, wrote, on_end};
    struct cg_http_conn *c = cg_alloc(sizeof *c);
    c->server = s;
    c->req.conn = c;
    c->req.peer = c->peer;
    name_peer(c, fd);
    cg_buf_init(&c->in, IN_MAX);
    cg_buf_init(&c->out, CG_HTTP_OUT_MAX);
    struct cg_err e = CG_ERR_INIT;
    int one = 1; /* fails on what is no TCP socket, as in tests */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    c->stream = cg_stream_create(s->loop, fd, &ops, c, &e);
    if (!c->stream) {
        close(fd);
        free(c);
        return;
    }
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    s->nconns++;
    conn_rearm(c, true);
}

void cg_http_pause(struct cg_http_req *r)
{
    r->conn->paused = true;
    cg_stream_read_pause(r->conn->stream);
    conn_rearm(r->conn, false);
}

void cg_http_resume(struct cg_http_req *r)
{
    r->conn->paused = false;
    cg_stream_read_resume(r->conn->stream);
    conn_rearm(r->conn, false);
}
