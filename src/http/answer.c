/* Answers read by llhttp: see answer.h. */
#include "http/answer.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

struct field {
    char *name, *value;
};

struct cg_http_answer {
    llhttp_t parser;
    struct cg_http_answer_ops ops;
    void *ctx;
    bool to_head, head_done, complete;
    int status;
    int64_t length;
    size_t head_bytes;
    struct field fields[CG_HTTP_ANSWER_HEADERS];
    unsigned nfields;
};

static void drop_fields(struct cg_http_answer *a)
{
    for (unsigned i = 0; i < a->nfields; i++) {
        free(a->fields[i].name);
        free(a->fields[i].value);
    }
    a->nfields = 0;
    a->head_bytes = 0;
}

static bool append(struct cg_http_answer *a, char **text, const char *at, size_t n)
{
    size_t have = *text ? strlen(*text) : 0;
    a->head_bytes += n;
    if (a->head_bytes > CG_HTTP_ANSWER_HEAD_MAX || memchr(at, '\0', n))
        return false;
    *text = cg_realloc(*text, have + n + 1);
    memcpy(*text + have, at, n);
    (*text)[have + n] = '\0';
    return true;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_answer *a = p->data;
    if (a->head_done)
        return 0; /* a trailer */
    struct field *f = a->nfields ? &a->fields[a->nfields - 1] : NULL;
    if (!f || f->value) {
        if (a->nfields == CG_COUNT(a->fields))
            return -1;
        f = &a->fields[a->nfields++];
        *f = (struct field){0};
    }
    return append(a, &f->name, at, n) ? 0 : -1;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_answer *a = p->data;
    if (a->head_done)
        return 0;
    return a->nfields > 0 && append(a, &a->fields[a->nfields - 1].value, at, n) ? 0 : -1;
}

static int on_value_complete(llhttp_t *p)
{
    struct cg_http_answer *a = p->data;
    if (!a->head_done && a->nfields > 0 && !a->fields[a->nfields - 1].value)
        a->fields[a->nfields - 1].value = cg_strdup("");
    return 0;
}

static bool informational(const llhttp_t *p)
{
    return p->status_code >= 100 && p->status_code < 200 && p->status_code != 101;
}

/* llhttp: 1 is no body, 2 is no body and another protocol behind. */
static int on_headers_complete(llhttp_t *p)
{
    struct cg_http_answer *a = p->data;
    if (informational(p)) {
        drop_fields(a);
        return 1;
    }
    a->head_done = true;
    a->status = p->status_code;
    a->length = (p->flags & F_CONTENT_LENGTH) ? (int64_t)p->content_length : -1;
    a->ops.on_head(a->ctx, a);
    return a->status == 101 ? 2 : a->to_head || a->status == 204 || a->status == 304;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    struct cg_http_answer *a = p->data;
    a->ops.on_body(a->ctx, (struct cg_slice){at, n});
    return 0;
}

static int on_complete(llhttp_t *p)
{
    struct cg_http_answer *a = p->data;
    if (informational(p))
        return 0;
    a->complete = true;
    return HPE_PAUSED;
}

struct cg_http_answer *cg_http_answer_create(bool to_head, const struct cg_http_answer_ops *ops,
                                             void *ctx)
{
    static llhttp_settings_t s;
    if (!s.on_body) {
        llhttp_settings_init(&s);
        s.on_header_field = on_field;
        s.on_header_value = on_value;
        s.on_header_value_complete = on_value_complete;
        s.on_headers_complete = on_headers_complete;
        s.on_body = on_body;
        s.on_message_complete = on_complete;
    }
    struct cg_http_answer *a = cg_alloc(sizeof *a);
    *a = (struct cg_http_answer){.ops = *ops, .ctx = ctx, .to_head = to_head, .length = -1};
    llhttp_init(&a->parser, HTTP_RESPONSE, &s);
    a->parser.data = a;
    return a;
}

void cg_http_answer_destroy(struct cg_http_answer *a)
{
    if (!a)
        return;
    drop_fields(a);
    free(a);
}

bool cg_http_answer_feed(struct cg_http_answer *a, struct cg_slice bytes, size_t *used,
                         struct cg_err *e)
{
    *used = 0;
    if (a->complete || bytes.n == 0)
        return true;
    enum llhttp_errno rc = llhttp_execute(&a->parser, bytes.p, bytes.n);
    *used = bytes.n;
    if (rc == HPE_OK)
        return true;
    if ((rc == HPE_PAUSED || rc == HPE_PAUSED_UPGRADE) && (a->complete || a->status == 101)) {
        *used = (size_t)(llhttp_get_error_pos(&a->parser) - bytes.p);
        a->complete = true;
        return true;
    }
    return cg_fail(e, CG_PROTOCOL, "the answer is not HTTP/1.1: %s", llhttp_errno_name(rc));
}

bool cg_http_answer_end(struct cg_http_answer *a, struct cg_err *e)
{
    if (a->complete)
        return true;
    enum llhttp_errno rc = llhttp_finish(&a->parser);
    if ((rc == HPE_OK || rc == HPE_PAUSED) && a->complete)
        return true;
    return cg_fail(e, CG_PROTOCOL, "the connection ended before the answer did");
}

bool cg_http_answer_complete(const struct cg_http_answer *a)
{
    return a->complete;
}

int cg_http_answer_status(const struct cg_http_answer *a)
{
    return a->status;
}

int64_t cg_http_answer_length(const struct cg_http_answer *a)
{
    return a->length;
}

bool cg_http_answer_header(const struct cg_http_answer *a, unsigned i, const char **name,
                           const char **value)
{
    if (i >= a->nfields)
        return false;
    *name = a->fields[i].name;
    *value = a->fields[i].value ? a->fields[i].value : "";
    return true;
}
