/* Frames that come: every header is judged before its payload is kept, every rule of
 * docs/link-protocol.md is checked here, and the first broken one ends the link. */
#include <string.h>

#include "base/clock.h"
#include "link/inner.h"

struct incoming {
    struct cg_frame f;
    struct cg_slice payload;
};

static bool broken(struct cg_err *e, const struct incoming *in, const char *what)
{
    return cg_fail(e, CG_PROTOCOL, "link: %s (frame type %u, stream %u)", what, in->f.type,
                   in->f.stream);
}

/* The payload as a JSON object; NULL with *e set when it is none. */
static struct cg_json *object(const struct incoming *in, struct cg_err *e)
{
    struct cg_json *j = cg_json_parse(in->payload, NULL, e);
    if (j && j->type == CG_JSON_OBJ)
        return j;
    if (j)
        cg_fail(e, CG_INVALID, "not a JSON object");
    cg_json_destroy(j);
    e->code = CG_PROTOCOL;
    cg_wrap(e, "link: frame type %u, stream %u", in->f.type, in->f.stream);
    return NULL;
}

static bool on_link_frame(struct cg_link *l, const struct incoming *in, struct cg_err *e)
{
    const unsigned char *p = (const unsigned char *)in->payload.p;
    unsigned char pong[16];
    switch (in->f.type) {
    case CG_FRAME_HELLO: {
        CG_OWN(cg_drop_json) struct cg_json *hello = object(in, e);
        if (!hello)
            return false;
        if (cg_json_int(hello, "v", 0) != CG_LINK_VERSION)
            return broken(e, in, "HELLO of another version");
        l->hello_got = true;
        if (l->on.on_hello)
            l->on.on_hello(l->ctx, hello);
        return true;
    }
    case CG_FRAME_PING:
        if (in->payload.n != 8)
            return broken(e, in, "PING must have 8 bytes");
        memcpy(pong, p, 8);
        cg_put_u64(pong + 8, (uint64_t)cg_mono_ns());
        cg_link_queue_first(l, CG_FRAME_PONG, pong, sizeof pong);
        return true;
    case CG_FRAME_PONG:
        if (in->payload.n != 16)
            return broken(e, in, "PONG must have 16 bytes");
        if (l->on.on_pong)
            l->on.on_pong(l->ctx, cg_get_u64(p), (int64_t)cg_get_u64(p + 8));
        return true;
    case CG_FRAME_RESET:
        if (l->opener || !l->on.on_reset || in->payload.n != CG_LINK_NONCE)
            return broken(e, in, "RESET where none is allowed");
        l->on.on_reset(l->ctx, p);
        cg_fail(e, CG_CLOSED, "another host has taken over");
        cg_link_fail(l, e);
        return true;
    default:
        return broken(e, in, "unknown frame of the link itself");
    }
}

static bool on_open(struct cg_link *l, const struct incoming *in, struct cg_err *e)
{
    if (l->opener)
        return broken(e, in, "OPEN from the acceptor");
    if (cg_link_find(l, in->f.stream))
        return broken(e, in, "OPEN of a stream in use");
    if (l->streams >= CG_LINK_MAX_STREAMS)
        return broken(e, in, "too many streams");
    CG_OWN(cg_drop_json) struct cg_json *request = object(in, e);
    if (!request)
        return false;
    l->on.on_open(l->ctx, cg_link_add(l, in->f.stream), request);
    return true;
}

static bool on_data(struct cg_link_stream *s, const struct incoming *in, struct cg_err *e)
{
    struct cg_link *l = s->link;
    if (in->f.flags > CG_LINK_STDERR || (s->eof_got & 1U << in->f.flags))
        return broken(e, in, "DATA on a channel that has ended");
    if (in->payload.n == 0)
        return broken(e, in, "empty DATA");
    if (in->payload.n > s->recv_window)
        return broken(e, in, "DATA beyond the credit");
    s->recv_window -= (uint32_t)in->payload.n;
    if (l->on.on_data && !s->forgotten && !s->closing && !(s->cancelled && !l->opener))
        l->on.on_data(l->ctx, s, in->f.flags, in->payload);
    return true;
}

static bool on_eof(struct cg_link_stream *s, const struct incoming *in, struct cg_err *e)
{
    if (in->f.flags > CG_LINK_STDERR || (s->eof_got & 1U << in->f.flags) || in->payload.n != 0)
        return broken(e, in, "bad EOF");
    s->eof_got = (uint8_t)(s->eof_got | 1U << in->f.flags);
    if (s->link->on.on_eof && !s->forgotten)
        s->link->on.on_eof(s->link->ctx, s, in->f.flags);
    return true;
}

static bool on_credit(struct cg_link_stream *s, const struct incoming *in, struct cg_err *e)
{
    uint32_t n = in->payload.n == 4 ? cg_get_u32((const unsigned char *)in->payload.p) : 0;
    if (n == 0 || n > CG_LINK_WINDOW - s->send_credit)
        return broken(e, in, "bad CREDIT");
    s->send_credit += n;
    bool tell = s->starved;
    s->starved = false;
    if (tell && s->link->on.on_writable && !s->forgotten)
        s->link->on.on_writable(s->link->ctx, s);
    return true;
}

static bool on_message(struct cg_link_stream *s, const struct incoming *in, struct cg_err *e)
{
    struct cg_link *l = s->link;
    bool to_opener = in->f.type == CG_FRAME_ACCEPT || in->f.type == CG_FRAME_CLOSE;
    if (to_opener != l->opener && in->f.type != CG_FRAME_CONTROL)
        return broken(e, in, "frame from the wrong side");
    if (in->f.type == CG_FRAME_ACCEPT && s->accepted)
        return broken(e, in, "ACCEPT twice");
    CG_OWN(cg_drop_json) struct cg_json *j = object(in, e);
    if (!j)
        return false;
    if (in->f.type == CG_FRAME_ACCEPT) {
        s->accepted = true;
        if (l->on.on_accept && !s->forgotten)
            l->on.on_accept(l->ctx, s, j);
    } else if (in->f.type == CG_FRAME_CONTROL) {
        if (l->on.on_control && !s->forgotten)
            l->on.on_control(l->ctx, s, j);
    } else {
        if (l->on.on_close && !s->forgotten)
            l->on.on_close(l->ctx, s, j);
        cg_link_remove(s);
    }
    return true;
}

static bool on_cancel(struct cg_link_stream *s, const struct incoming *in, struct cg_err *e)
{
    if (s->link->opener || in->payload.n != 0 || s->cancelled)
        return broken(e, in, "bad CANCEL");
    s->cancelled = true;
    if (s->link->on.on_close)
        s->link->on.on_close(s->link->ctx, s, NULL);
    return true;
}

static bool on_stream_frame(struct cg_link *l, const struct incoming *in, struct cg_err *e)
{
    struct cg_link_stream *s = cg_link_find(l, in->f.stream);
    if (!s || s->closing)
        return l->opener ? broken(e, in, "no such stream") : true; /* it crossed the CLOSE */
    switch (in->f.type) {
    case CG_FRAME_DATA:
        return on_data(s, in, e);
    case CG_FRAME_EOF:
        return on_eof(s, in, e);
    case CG_FRAME_CREDIT:
        return on_credit(s, in, e);
    case CG_FRAME_ACCEPT:
    case CG_FRAME_CONTROL:
    case CG_FRAME_CLOSE:
        return on_message(s, in, e);
    case CG_FRAME_CANCEL:
        return on_cancel(s, in, e);
    default:
        return broken(e, in, "unknown frame");
    }
}

static bool dispatch(struct cg_link *l, const struct incoming *in, struct cg_err *e)
{
    if (in->f.stream == 0)
        return on_link_frame(l, in, e);
    if (in->f.type == CG_FRAME_OPEN)
        return on_open(l, in, e);
    return on_stream_frame(l, in, e);
}

static bool judge(const struct cg_link *l, const struct incoming *in, struct cg_err *e)
{
    const struct cg_frame *f = &in->f;
    if (f->type == 0 || f->type >= CG_FRAME_TYPES)
        return broken(e, in, "unknown frame");
    if (f->length > (f->type == CG_FRAME_DATA ? CG_LINK_MAX_DATA : CG_LINK_MAX_PAYLOAD))
        return broken(e, in, "frame over its maximum");
    if (f->flags != 0 && f->type != CG_FRAME_DATA && f->type != CG_FRAME_EOF)
        return broken(e, in, "flags on a frame that has none");
    if ((f->type == CG_FRAME_HELLO) != !l->hello_got && f->type != CG_FRAME_RESET)
        return broken(e, in, l->hello_got ? "HELLO twice" : "HELLO must come first");
    return true;
}

/* Takes one whole frame from p, or as much of it as there is; *used says how much. */
static bool take(struct cg_link *l, const char *p, size_t n, size_t *used, struct cg_err *e)
{
    bool buffered = l->in.n > 0;
    size_t have = l->in.n;
    if (buffered && have < CG_LINK_HEADER) {
        *used = CG_MIN(n, CG_LINK_HEADER - have);
        return cg_buf_add(&l->in, p, *used);
    }
    const char *start = buffered ? l->in.p : p;
    if (!buffered && n < CG_LINK_HEADER) {
        *used = n;
        return cg_buf_add(&l->in, p, n);
    }
    struct incoming in = {.f = cg_frame_get((const unsigned char *)start)};
    if (!judge(l, &in, e))
        return false;
    size_t whole = CG_LINK_HEADER + in.f.length;
    size_t need = whole - have;
    *used = CG_MIN(n, need);
    if (buffered || n < need) {
        if (!cg_buf_add(&l->in, p, *used))
            return broken(e, &in, "frame over its maximum");
        if (n < need)
            return true;
        start = l->in.p;
    }
    in.payload = (struct cg_slice){start + CG_LINK_HEADER, in.f.length};
    bool ok = dispatch(l, &in, e);
    if (buffered || start == l->in.p)
        cg_buf_finish(&l->in);
    return ok;
}

bool cg_link_feed(struct cg_link *l, const char *p, size_t n, struct cg_err *e)
{
    struct cg_err own = CG_ERR_INIT;
    if (!e)
        e = &own;
    while (n > 0) {
        if (l->dead)
            return cg_fail(e, CG_CLOSED, "the link is down");
        size_t used = 0;
        if (!take(l, p, n, &used, e)) {
            cg_link_fail(l, e);
            return false;
        }
        p += used;
        n -= used;
        /* a whole header is judged at once, and a frame without payload needs no more bytes */
        if (n == 0 && l->in.n == CG_LINK_HEADER && !l->dead) {
            if (!take(l, p, 0, &used, e)) {
                cg_link_fail(l, e);
                return false;
            }
        }
    }
    return true;
}
