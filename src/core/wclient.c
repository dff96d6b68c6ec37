#include "core/wclient.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "loop/stream.h"

struct cg_wclient {
    struct cg_link *link;
    struct cg_stream *stream;
    void (*on_down)(void *ctx, const struct cg_err *why);
    void *ctx;
    bool feeding; /* inside cg_link_feed: freeing waits */
    bool doomed;
};

static void on_accept(void *ctx, struct cg_link_stream *s, const struct cg_json *info)
{
    struct cg_wcall *call = cg_link_user(s);
    (void)ctx;
    if (call && call->on_accept)
        call->on_accept(call, info);
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice bytes)
{
    struct cg_wcall *call = cg_link_user(s);
    (void)ctx;
    if (call && call->on_data)
        call->on_data(call, channel, bytes);
    else
        cg_link_grant(s, bytes.n);
}

static void on_eof(void *ctx, struct cg_link_stream *s, unsigned channel)
{
    struct cg_wcall *call = cg_link_user(s);
    (void)ctx;
    if (call && call->on_eof)
        call->on_eof(call, channel);
}

static void on_control(void *ctx, struct cg_link_stream *s, const struct cg_json *message)
{
    struct cg_wcall *call = cg_link_user(s);
    (void)ctx;
    if (call && call->on_control)
        call->on_control(call, message);
}

static void on_writable(void *ctx, struct cg_link_stream *s)
{
    struct cg_wcall *call = cg_link_user(s);
    (void)ctx;
    if (call && call->on_writable)
        call->on_writable(call);
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    struct cg_wcall *call = cg_link_user(s);
    (void)ctx;
    if (!call)
        return;
    call->s = NULL;
    struct cg_err e = CG_ERR_INIT;
    const struct cg_json *error = cg_json_get(result, "error");
    bool failed = error && error->type == CG_JSON_OBJ;
    if (failed) {
        const char *code = cg_json_str(error, "code");
        const char *text = cg_json_str(error, "text");
        cg_fail(&e, cg_code_from_name(code ? code : "internal"), "%s", text ? text : "it failed");
    }
    if (call->on_close)
        call->on_close(call, result, failed ? &e : NULL);
}

static const struct cg_link_handlers handlers = {
    .on_accept = on_accept,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_control = on_control,
    .on_writable = on_writable,
    .on_close = on_close,
};

static void release(struct cg_wclient *c)
{
    cg_stream_destroy(c->stream);
    cg_link_destroy(c->link);
    free(c);
}

static void down(struct cg_wclient *c, const struct cg_err *why)
{
    if (c->doomed)
        return;
    c->doomed = true;
    cg_link_fail(c->link, why);
    if (c->on_down)
        c->on_down(c->ctx, why);
    if (!c->feeding)
        release(c);
}

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    struct cg_wclient *c = ctx;
    c->feeding = true;
    bool ok = cg_link_feed(c->link, bytes.p, bytes.n, e);
    c->feeding = false;
    if (c->doomed) {
        release(c);
        return true;
    }
    cg_stream_kick(c->stream);
    return ok;
}

static struct cg_slice output(void *ctx)
{
    return cg_link_output(((struct cg_wclient *)ctx)->link);
}

static void wrote(void *ctx, size_t n)
{
    cg_link_wrote(((struct cg_wclient *)ctx)->link, n);
}

static void on_end(void *ctx, const struct cg_err *why)
{
    down(ctx, why);
}

struct cg_wclient *cg_wclient_connect(uv_loop_t *loop, const char *path,
                                      void (*on_down)(void *ctx, const struct cg_err *why),
                                      void *ctx, struct cg_err *e)
{
    static const struct cg_stream_ops ops = {on_read, output, wrote, on_end};
    int fd = cg_unix_connect(path, e);
    if (fd < 0)
        return NULL;
    struct cg_wclient *c = cg_alloc(sizeof *c);
    c->on_down = on_down;
    c->ctx = ctx;
    c->link = cg_link_create(true, NULL, &handlers, c);
    c->stream = cg_stream_create(loop, fd, &ops, c, e);
    if (!c->stream) {
        close(fd);
        cg_link_destroy(c->link);
        free(c);
        return NULL;
    }
    cg_stream_kick(c->stream);
    return c;
}

void cg_wclient_destroy(struct cg_wclient *c)
{
    if (!c || c->doomed)
        return;
    c->on_down = NULL;
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_CLOSED, "the connection to the sandbox was closed");
    down(c, &e);
}

bool cg_wcall_open(struct cg_wclient *c, struct cg_wcall *call, struct cg_slice request,
                   struct cg_err *e)
{
    if (!c || c->doomed)
        return cg_fail(e, CG_UNAVAILABLE, "the sandbox's warden is not connected");
    call->client = c;
    call->s = cg_link_open(c->link, request, call, e);
    if (call->s)
        cg_stream_kick(c->stream);
    return call->s != NULL;
}

size_t cg_wcall_send(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    if (!call->s)
        return bytes.n; /* it has ended: the rest goes nowhere */
    size_t n = cg_link_send(call->s, channel, bytes.p, bytes.n);
    cg_stream_kick(call->client->stream);
    return n;
}

void cg_wcall_eof(struct cg_wcall *call, unsigned channel)
{
    if (!call->s)
        return;
    cg_link_eof(call->s, channel);
    cg_stream_kick(call->client->stream);
}

void cg_wcall_control(struct cg_wcall *call, struct cg_slice message)
{
    if (!call->s)
        return;
    cg_link_control(call->s, message);
    cg_stream_kick(call->client->stream);
}

void cg_wcall_grant(struct cg_wcall *call, size_t n)
{
    if (!call->s || n == 0)
        return;
    cg_link_grant(call->s, n);
    cg_stream_kick(call->client->stream);
}

void cg_wcall_cancel(struct cg_wcall *call)
{
    if (!call->s)
        return;
    cg_link_cancel(call->s, false);
    cg_stream_kick(call->client->stream);
}

void cg_wcall_forget(struct cg_wcall *call)
{
    if (!call->s)
        return;
    struct cg_link_stream *s = call->s;
    call->s = NULL;
    cg_link_set_user(s, NULL);
    cg_link_cancel(s, true);
    cg_stream_kick(call->client->stream);
}
