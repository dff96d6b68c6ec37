/* Server connections: any number of servers may come and go (a restarted one, a command line tool),
 * the sandbox does not notice. The peer is trusted with the sandbox, not with the warden's memory:
 * connections, streams and bytes are bounded by the link. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "warden/inner.h"
#include "warden/trust.h"
#include "warden/up.h"

struct conn {
    struct conn *next;
    struct warden *w;
    struct cg_stream *stream;
    struct cg_link *link;
    struct up *ups;
};

/* --- streams --- */

void up_init(struct up *u, const struct up_ops *ops, struct conn *c, struct cg_link_stream *s)
{
    *u = (struct up){.ops = ops, .w = c->w, .conn = c, .s = s, .next = c->ups};
    if (c->ups)
        c->ups->prev = u;
    c->ups = u;
    cg_link_set_user(s, u);
}

static void up_unlink(struct up *u)
{
    if (u->prev)
        u->prev->next = u->next;
    else /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is linked, so it has one */
        u->conn->ups = u->next;
    if (u->next)
        u->next->prev = u->prev;
    u->prev = u->next = NULL;
    u->conn = NULL;
    u->s = NULL;
}

void up_kick(struct up *u)
{
    if (u->conn)
        cg_stream_kick(u->conn->stream);
}

void up_accept(struct up *u, struct cg_slice info)
{
    if (!u->s)
        return;
    cg_link_accept(u->s, info);
    up_kick(u);
}

void up_close(struct up *u, struct cg_slice result)
{
    if (!u->s)
        return;
    struct conn *c = u->conn;
    struct cg_link_stream *s = u->s;
    cg_link_set_user(s, NULL);
    up_unlink(u);
    cg_link_close(s, result);
    cg_stream_kick(c->stream);
}

void error_write(struct cg_buf *out, enum cg_code code, const char *text)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "error");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "code", cg_code_name(code));
    cg_jsonw_kstr(&w, "text", text);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
}

void up_close_error(struct up *u, enum cg_code code, const char *text)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    error_write(&b, code, text);
    up_close(u, cg_buf_slice(&b));
}

void refuse(struct conn *c, struct cg_link_stream *s, enum cg_code code, const char *text)
{
    struct up u;
    up_init(&u, NULL, c, s);
    up_close_error(&u, code, text);
}

/* --- the link's handlers --- */

static void on_open(void *ctx, struct cg_link_stream *s, const struct cg_json *request)
{
    struct conn *c = ctx;
    struct warden *w = c->w;
    const char *kind = cg_json_str(request, "kind");
    if (!kind) {
        refuse(c, s, CG_INVALID, "kind is missing");
    } else if (cg_streq(kind, "status")) {
        status_open(w, c, s);
    } else if (cg_streq(kind, "events")) {
        tailing_open(w, c, s, request);
    } else if (w->state == W_DESTROYED || w->state == W_ERROR || w->state == W_PAUSED ||
               w->settle_at) {
        refuse(c, s, CG_CONFLICT,
               w->state == W_ERROR    ? w->error.text
               : w->state == W_PAUSED ? "the sandbox is paused"
                                      : "the sandbox has ended");
    } else if (cg_streq(kind, "start")) {
        llm_keys(w, cg_json_get(request, "keys"));
        life_start(w, c, s, request);
    } else if (cg_streq(kind, "costs")) {
        llm_costs_open(w, c, s);
    } else if (cg_streq(kind, "trust")) {
        trust_open(w, c, s);
    } else if (cg_streq(kind, "budget")) {
        llm_budget_open(w, c, s, request);
    } else if (cg_streq(kind, "lease")) {
        llm_lease_open(w, c, s, request);
    } else if (cg_streq(kind, "prices")) {
        llm_prices_open(w, c, s);
    } else if (cg_streq(kind, "network")) {
        network_open(w, c, s, request);
    } else if (cg_streq(kind, "stop")) {
        life_stop(w, c, s, request);
    } else if (cg_streq(kind, "pause")) {
        life_pause(w, c, s, request);
    } else if (cg_streq(kind, "freeze")) {
        freeze_open(w, c, s, request);
    } else if (cg_streq(kind, "append")) {
        append_open(w, c, s, request);
    } else if (!pass_open(w, c, s, kind, request)) {
        refuse(c, s, CG_UNSUPPORTED, "unknown kind");
    }
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice data)
{
    (void)ctx;
    struct up *u = cg_link_user(s);
    if (u && u->ops->on_data)
        u->ops->on_data(u, channel, data);
    else
        cg_link_grant(s, data.n);
}

static void on_eof(void *ctx, struct cg_link_stream *s, unsigned channel)
{
    (void)ctx;
    struct up *u = cg_link_user(s);
    if (u && u->ops->on_eof)
        u->ops->on_eof(u, channel);
}

static void on_control(void *ctx, struct cg_link_stream *s, const struct cg_json *message)
{
    (void)ctx;
    struct up *u = cg_link_user(s);
    if (u && u->ops->on_control)
        u->ops->on_control(u, message);
}

static void on_writable(void *ctx, struct cg_link_stream *s)
{
    (void)ctx;
    struct up *u = cg_link_user(s);
    if (u && u->ops->on_writable)
        u->ops->on_writable(u);
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    (void)ctx;
    (void)result;
    struct up *u = cg_link_user(s);
    if (u && u->ops->on_cancel)
        u->ops->on_cancel(u, false);
}

static const struct cg_link_handlers handlers = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_control = on_control,
    .on_writable = on_writable,
    .on_close = on_close,
};

/* --- transport --- */

static void conn_end(struct conn *c)
{
    struct warden *w = c->w;
    while (c->ups) {
        struct up *u = c->ups;
        up_unlink(u);
        if (u->ops->on_cancel)
            u->ops->on_cancel(u, true);
    }
    struct conn **at = &w->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    w->nconns--;
    cg_link_destroy(c->link);
    cg_stream_destroy(c->stream);
    free(c);
}

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    struct conn *c = ctx;
    bool fine = cg_link_feed(c->link, bytes.p, bytes.n, e);
    cg_stream_kick(c->stream);
    guest_kick(c->w);
    return fine;
}

static struct cg_slice output(void *ctx)
{
    struct conn *c = ctx;
    return cg_link_output(c->link);
}

static void wrote(void *ctx, size_t n)
{
    struct conn *c = ctx;
    cg_link_wrote(c->link, n);
}

static void on_end(void *ctx, const struct cg_err *why)
{
    struct conn *c = ctx;
    if (why->code != CG_CLOSED)
        cg_log(CG_LOG_WARN, CG_EVENT("connection.failed"), CG_E(why));
    conn_end(c);
}

static const struct cg_stream_ops stream_ops = {on_read, output, wrote, on_end};

static void conn_start(struct warden *w, int fd)
{
    struct cg_err e = CG_ERR_INIT;
    struct conn *c = cg_alloc(sizeof *c);
    c->w = w;
    c->stream = cg_stream_create(w->loop, fd, &stream_ops, c, &e);
    if (!c->stream) {
        cg_log(CG_LOG_ERROR, CG_EVENT("connection.failed"), CG_E(&e));
        close(fd);
        free(c);
        return;
    }
    char hello[128];
    cg_snprintf(hello, sizeof hello, "{\"v\":%d,\"warden\":\"%s\",\"id\":\"%s\"}", CG_LINK_VERSION,
                CG_VERSION, w->config.id);
    c->link = cg_link_create(false, hello, &handlers, c);
    c->next = w->conns;
    w->conns = c;
    w->nconns++;
    cg_stream_kick(c->stream);
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct warden *w = poll->data;
    /* A few a turn: the ends of those that only came and went are seen before more count as open.
     */
    for (int i = 0; i < WARDEN_CONNS / 4; i++) {
        int fd = accept4(w->fds.control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (w->nconns < WARDEN_CONNS) {
            conn_start(w, fd);
        } else {
            cg_log(CG_LOG_WARN, CG_EVENT("connection.refused"), CG_I("open", w->nconns));
            close(fd);
        }
    }
}

void conns_listen(struct warden *w)
{
    CG_ASSERT(uv_poll_init(w->loop, &w->listen_poll, w->fds.control) == 0);
    w->listen_poll.data = w;
    w->listening = true;
    uv_poll_start(&w->listen_poll, UV_READABLE, on_listen);
}

bool conns_drained(const struct warden *w)
{
    for (const struct conn *c = w->conns; c; c = c->next)
        if (cg_link_output(c->link).n > 0)
            return false;
    return true;
}

void conns_close(struct warden *w)
{
    if (w->listening)
        uv_close((uv_handle_t *)&w->listen_poll, NULL);
    w->listening = false;
    while (
        w->conns) /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each takes itself off the list */
        conn_end(w->conns);
}
