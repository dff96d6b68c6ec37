/* Replies: whole, of a known length in parts, or chunked; and bodies gathered for the handler. */
#include <string.h>
#include <strings.h>

#include "http/inner.h"

const char *cg_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        if (texts[i].status == status)
            return texts[i].text;
    }
    return "Status";
}

void cg_http_add_header(struct cg_http_req *r, const char *name, const char *value)
{
    CG_ASSERT(!strpbrk(value, "\r\n"));
    cg_buf_addf(&r->extra, "%s: %s\r\n", name, value);
}

/* Was it added for this reply? */
static bool has_header(const struct cg_http_req *r, const char *name)
{
    return r->extra.n > 0 && memmem(r->extra.p, r->extra.n, name, strlen(name));
}

/* Fixes how the body is framed. */
static void begin(struct cg_http_conn *c, int64_t length)
{
    CG_ASSERT(c->req_live && !c->replied);
    c->replied = true;
    c->left = length;
    c->chunked = length < 0 && c->parser.http_minor == 1;
    if ((length < 0 && !c->chunked) || !c->body_done || c->server->quiet)
        c->keep = false;
}

void cg_http_relay(struct cg_http_req *r, int status, struct cg_slice headers, int64_t length)
{
    struct cg_http_conn *c = r->conn;
    bool bare = status == 204 || status == 304;
    begin(c, bare ? 0 : length);
    CG_OWN(cg_drop_buf) struct cg_buf head;
    cg_buf_init(&head, headers.n + 512);
    cg_buf_addf(&head, "HTTP/1.1 %d %s\r\n", status, cg_http_status_text(status));
    if (c->chunked)
        cg_buf_adds(&head, "Transfer-Encoding: chunked\r\n");
    else if (length >= 0 && !bare)
        cg_buf_addf(&head, "Content-Length: %lld\r\n", (long long)length);
    cg_buf_adds(&head, c->keep ? "" : "Connection: close\r\n");
    cg_buf_add(&head, headers.p, headers.n);
    cg_buf_adds(&head, "\r\n");
    CG_ASSERT(!head.full);
    conn_queue(c, head.p, head.n);
}

void cg_http_start(struct cg_http_req *r, int status, const char *type, int64_t length)
{
    struct cg_http_conn *c = r->conn;
    begin(c, length);
    CG_OWN(cg_drop_buf) struct cg_buf head;
    cg_buf_init(&head, CG_HTTP_HEAD_MAX);
    cg_buf_addf(&head, "HTTP/1.1 %d %s\r\nX-Request-Id: %s\r\n", status,
                cg_http_status_text(status), r->id);
    if (type)
        cg_buf_addf(&head, "Content-Type: %s\r\n", type);
    if (c->chunked)
        cg_buf_adds(&head, "Transfer-Encoding: chunked\r\n");
    else if (length >= 0 && status != 204)
        cg_buf_addf(&head, "Content-Length: %lld\r\n", (long long)length);
    cg_buf_adds(&head, c->keep ? "" : "Connection: close\r\n");
    cg_buf_adds(&head, "X-Content-Type-Options: nosniff\r\n");
    if (!has_header(r, "Cache-Control: "))
        cg_buf_adds(&head, "Cache-Control: no-store\r\n");
    cg_buf_add(&head, r->extra.p, r->extra.n);
    cg_buf_adds(&head, "\r\n");
    CG_ASSERT(!head.full);
    conn_queue(c, head.p, head.n);
}

void cg_http_write(struct cg_http_req *r, struct cg_slice bytes)
{
    struct cg_http_conn *c = r->conn;
    if (bytes.n == 0 || c->headless)
        return;
    if (!c->chunked) {
        if (c->left >= 0) {
            CG_ASSERT((int64_t)bytes.n <= c->left);
            c->left -= (int64_t)bytes.n;
        }
        conn_queue(c, bytes.p, bytes.n);
        return;
    }
    char size[24];
    size_t at = sizeof size; /* streams are written event by event: printf would be half of it */
    size[--at] = '\n';
    size[--at] = '\r';
    for (size_t n = bytes.n; n > 0; n >>= 4)
        size[--at] = "0123456789abcdef"[n & 15];
    conn_queue(c, size + at, sizeof size - at);
    conn_queue(c, bytes.p, bytes.n);
    conn_queue(c, "\r\n", 2);
}

size_t cg_http_pending(const struct cg_http_req *r)
{
    return r->conn->out.n - r->conn->out_at;
}

void cg_http_finish(struct cg_http_req *r)
{
    struct cg_http_conn *c = r->conn;
    if (c->chunked && !c->headless)
        conn_queue(c, "0\r\n\r\n", 5);
    if (c->left > 0 && !c->headless)
        c->keep = false; /* fewer bytes than promised: only closing tells the client */
    conn_request_over(c);
}

void cg_http_break(struct cg_http_req *r)
{
    struct cg_http_conn *c = r->conn;
    r->abort = NULL;
    c->req_live = false;
    conn_destroy(c);
}

void cg_http_reply(struct cg_http_req *r, int status, const char *type, struct cg_slice body)
{
    cg_http_start(r, status, body.n ? type : NULL, (int64_t)body.n);
    cg_http_write(r, body);
    cg_http_finish(r);
}

/* --- bodies --- */

enum { BODY_AHEAD = 256 * 1024 };

static void refuse_large(struct cg_http_req *r)
{
    struct cg_http_conn *c = r->conn;
    if (r->abort)
        r->abort(r); /* the handler's state goes as if the client had gone */
    r->on_body = NULL;
    r->on_end = NULL;
    r->abort = NULL;
    static const char text[] =
        "{\"type\":\"https://caged.dev/errors/content-too-large\",\"title\":\"Content Too Large\","
        "\"status\":413,\"detail\":\"the request body is larger than this endpoint takes\","
        "\"error\":\"the request body is larger than this endpoint takes\",\"reason\":{\"code\":"
        "\"too_large\",\"message\":\"the request body is larger than this endpoint takes\"}}";
    cg_http_reply(&c->req, 413, "application/problem+json", cg_slice_of(text));
}

static void gather_body(struct cg_http_req *r, struct cg_slice bytes)
{
    if (!cg_buf_add(&r->body, bytes.p, bytes.n))
        refuse_large(r);
}

void cg_http_read_body(struct cg_http_req *r, size_t max, void (*done)(struct cg_http_req *r))
{
    cg_buf_init(&r->body, max);
    if (!r->has_body) {
        done(r);
        return;
    }
    if (r->content_length > (int64_t)max) {
        refuse_large(r);
        return;
    }
    /* one that says its length is not copied while it grows; what is only said gets little */
    if (r->content_length > 0)
        CG_ASSERT(cg_buf_room(&r->body, (size_t)CG_MIN(r->content_length, BODY_AHEAD)));
    r->on_body = gather_body;
    r->on_end = done;
}

void cg_http_stream_body(struct cg_http_req *r,
                         void (*on_body)(struct cg_http_req *r, struct cg_slice bytes),
                         void (*on_end)(struct cg_http_req *r))
{
    if (!r->has_body) {
        on_end(r);
        return;
    }
    r->on_body = on_body;
    r->on_end = on_end;
}
