/* The guest link. Its other end is hostile: the codec checks frames, tables check every value
 * (fields.c), credit bounds every flood, and what is left over ends the link and the sandbox. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "warden/inner.h"
#include "warden/secrets.h"

enum { PING_SECONDS = 10, ENTROPY = 32 };

static void guest_down(struct warden *w, const struct cg_err *why);

void guest_kick(struct warden *w)
{
    if (w->guest.stream)
        cg_stream_kick(w->guest.stream);
}

/* --- streams --- */

bool guest_open(struct warden *w, struct down *d, const struct down_ops *ops,
                struct cg_slice request, struct cg_err *e)
{
    d->ops = ops;
    d->s = NULL;
    if (!w->guest.link)
        return cg_fail(e, CG_UNAVAILABLE, "the guest is not running");
    d->s = cg_link_open(w->guest.link, request, d, e);
    guest_kick(w);
    return d->s != NULL;
}

static void on_accept(void *ctx, struct cg_link_stream *s, const struct cg_json *info)
{
    (void)ctx;
    struct down *d = cg_link_user(s);
    if (d && d->ops->on_accept)
        d->ops->on_accept(d, info);
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice data)
{
    (void)ctx;
    struct down *d = cg_link_user(s);
    if (d && d->ops->on_data)
        d->ops->on_data(d, channel, data);
    else
        cg_link_grant(s, data.n);
}

static void on_eof(void *ctx, struct cg_link_stream *s, unsigned channel)
{
    (void)ctx;
    struct down *d = cg_link_user(s);
    if (d && d->ops->on_eof)
        d->ops->on_eof(d, channel);
}

static void on_writable(void *ctx, struct cg_link_stream *s)
{
    (void)ctx;
    struct down *d = cg_link_user(s);
    if (d && d->ops->on_writable)
        d->ops->on_writable(d);
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    (void)ctx;
    struct down *d = cg_link_user(s);
    if (!d)
        return;
    d->s = NULL;
    if (d->ops->on_close)
        d->ops->on_close(d, result);
}

/* --- hello and setup --- */

static const struct field observe_state_fields[] = {
    {"exec", FIELD_BOOL, 0, NULL},    {"file", FIELD_BOOL, 0, NULL},
    {"more", FIELD_BOOL, 0, NULL},    {"security", FIELD_BOOL, 0, NULL},
    {"reason", FIELD_STR, 300, NULL}, {NULL, FIELD_INT, 0, NULL}};

static void open_own(struct warden *w, struct down *d, const struct down_ops *ops, const char *text)
{
    struct cg_err e = CG_ERR_INIT;
    if (!guest_open(w, d, ops, cg_slice_of(text), &e))
        cg_log(CG_LOG_ERROR, CG_EVENT("guest.stream_failed"), CG_S("request", text), CG_E(&e));
}

static void keep_text(const struct cg_json *o, const char *key, char *out, size_t size)
{
    const char *s = cg_json_str(o, key);
    (void)cg_strlcpy(out, size, s ? s : "");
}

static void on_setup(struct down *d, const struct cg_json *result)
{
    struct guest *g = CG_CONTAINER(d, struct guest, setup);
    struct warden *w = CG_CONTAINER(g, struct warden, guest);
    const struct cg_json *error = cg_json_get(result, "error");
    if (w->state != W_BOOTING)
        return;
    if (error) {
        struct cg_err e = CG_ERR_INIT;
        const char *text = cg_json_str(error, "text");
        cg_fail(&e, CG_UNAVAILABLE, "the guest's setup failed: %.150s", text ? text : "?");
        life_fail(w, CG_WARDEN_NO_BOOT, &e);
        return;
    }
    keep_text(result, "agent", g->agent, sizeof g->agent);
    keep_text(result, "kernel", g->kernel, sizeof g->kernel);
    struct cg_buf b;
    cg_buf_init(&b, sizeof g->observe_text - 1);
    struct cg_jsonw j;
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    fields_copy(observe_state_fields, cg_json_get(result, "observe"), &j);
    cg_jsonw_obj_end(&j);
    (void)cg_strlcpy(g->observe_text, sizeof g->observe_text, b.full ? "{}" : cg_buf_cstr(&b));
    cg_buf_finish(&b);
    cross_start(w, cg_json_get(result, "observe"));
    g->ready = true;
    char observe[64] = "{\"kind\":\"observe\"}";
    int64_t taken = freeze_taken(w);
    if (taken >= 0)
        cg_snprintf(observe, sizeof observe, "{\"kind\":\"observe\",\"taken\":%lld}",
                    (long long)taken);
    open_own(w, &g->observe, &observe_ops, observe);
    life_up(w);
}

static const struct down_ops setup_ops = {.on_close = on_setup};

static void send_setup(struct warden *w)
{
    unsigned char entropy[ENTROPY];
    char hex[2 * ENTROPY + 1];
    cg_rand_bytes(entropy, sizeof entropy);
    sodium_bin2hex(hex, sizeof hex, entropy, sizeof entropy);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    struct cg_jsonw j;
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "kind", "setup");
    cg_jsonw_kstr(&j, "sandbox_id", w->config.id);
    cg_jsonw_kstr(&j, "hostname", w->config.hostname);
    cg_jsonw_kstr(&j, "entropy", hex);
    cg_jsonw_kint(&j, "wall_ns", cg_wall_ns());
    secrets_write_setup(w, &j);
    cg_jsonw_kbool(&j, "resize_disk", true);
    cg_jsonw_kbool(&j, "same", w->config.same);
    if (w->config.restore) /* it still has to notice that its disk has grown */
        cg_jsonw_kint(&j, "disk_bytes", (int64_t)w->config.disk_mib << 20);
    cg_jsonw_obj_end(&j);
    struct cg_err e = CG_ERR_INIT;
    bool fine = !b.full || cg_fail(&e, CG_TOO_LARGE, "the environment is too large");
    sodium_memzero(hex, sizeof hex);
    if (!fine || !guest_open(w, &w->guest.setup, &setup_ops, cg_buf_slice(&b), &e))
        life_fail(w, CG_WARDEN_NO_BOOT, &e);
}

static void send_ping(struct warden *w)
{
    struct guest *g = &w->guest;
    g->ping_sent = cg_mono_ns();
    cg_link_ping(g->link, ++g->ping_token);
    guest_kick(w);
}

static void on_hello(void *ctx, const struct cg_json *hello)
{
    struct warden *w = ctx;
    (void)hello;
    w->guest.hello = true;
    if (w->config.make_golden) {
        golden_hello(w);
        return;
    }
    send_setup(w);
    send_ping(w);
}

/* The fastest answer knows best; an old one is given up for a somewhat slower one, since clocks
 * drift. */
static void on_pong(void *ctx, uint64_t token, int64_t peer_mono_ns)
{
    struct warden *w = ctx;
    struct guest *g = &w->guest;
    if (token != g->ping_token || g->ping_sent == 0)
        return;
    int64_t rtt = cg_mono_ns() - g->ping_sent;
    if (g->clock_rtt == 0 || rtt <= g->clock_rtt + g->clock_rtt / 4 || token % 16 == 0) {
        g->clock_offset = (int64_t)((uint64_t)peer_mono_ns - (uint64_t)(g->ping_sent + rtt / 2));
        g->clock_rtt = CG_MAX(rtt, 1);
    }
    g->ping_sent = 0;
    if (w->freeze && token == g->hold_token)
        freeze_quiet(w);
}

void guest_hold(struct warden *w, bool held)
{
    struct guest *g = &w->guest;
    if (!g->link)
        return;
    cg_link_hold(g->link, held);
    if (held) {
        send_ping(w);
        g->hold_token = g->ping_token;
    }
    guest_kick(w);
}

int64_t guest_clock(const struct warden *w, int64_t t)
{
    /* unsigned: a guest may name any number */
    uint64_t host = (uint64_t)t - (uint64_t)w->guest.clock_offset;
    int64_t at = (int64_t)(host - (uint64_t)cg_record_epoch_mono(w->record));
    return CG_MAX(0, CG_MIN(at, cg_record_now(w->record)));
}

static const struct cg_link_handlers handlers = {
    .on_hello = on_hello,
    .on_accept = on_accept,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_writable = on_writable,
    .on_close = on_close,
    .on_pong = on_pong,
};

/* --- transport --- */

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    struct warden *w = ctx;
    if (w->guest.takeover.on && !takeover_skip(&w->guest.takeover, &bytes, e)) {
        w->guest.garbled = true;
        return false;
    }
    bool fine = cg_link_feed(w->guest.link, bytes.p, bytes.n, e);
    if (!fine)
        w->guest.garbled = true;
    guest_kick(w);
    return fine;
}

static struct cg_slice output(void *ctx)
{
    struct warden *w = ctx;
    struct guest *g = &w->guest;
    struct cg_slice first = takeover_output(&g->takeover);
    return first.n > 0 || g->takeover.on ? first : cg_link_output(g->link);
}

static void wrote(void *ctx, size_t n)
{
    struct warden *w = ctx;
    if (w->guest.takeover.left > 0)
        w->guest.takeover.left -= n;
    else
        cg_link_wrote(w->guest.link, n);
}

static void on_end(void *ctx, const struct cg_err *why)
{
    struct warden *w = ctx;
    struct cg_err copy = *why;
    guest_down(w, &copy);
    life_guest_gone(w, &copy);
}

static const struct cg_stream_ops stream_ops = {on_read, output, wrote, on_end};

bool guest_start(struct warden *w, struct cg_err *e)
{
    struct guest *g = &w->guest;
    if (w->config.restore)
        takeover_begin(&g->takeover);
    for (unsigned i = 0; i < CG_COUNT(g->lines); i++)
        cg_buf_init(&g->lines[i], CG_LINK_WINDOW);
    if (w->fds.link < 0)
        return cg_fail(e, CG_UNAVAILABLE, "there is no guest link");
    g->stream = cg_stream_create(w->loop, w->fds.link, &stream_ops, w, e);
    if (!g->stream)
        return false;
    w->fds.link = -1;
    g->link = cg_link_create(true, NULL, &handlers, w);
    guest_kick(w);
    return true;
}

static void guest_down(struct warden *w, const struct cg_err *why)
{
    struct guest *g = &w->guest;
    if (!g->stream)
        return;
    g->ready = false;
    cg_stream_destroy(g->stream);
    g->stream = NULL;
    struct cg_link *link = g->link;
    g->link = NULL; /* handlers find no link to open streams on */
    cg_link_fail(link, why);
    cg_link_destroy(link);
    for (unsigned i = 0; i < CG_COUNT(g->lines); i++)
        cg_buf_finish(&g->lines[i]);
}

void guest_close(struct warden *w)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_CLOSED,
            w->state == W_PAUSED ? "the sandbox is paused" : "the sandbox has ended");
    guest_down(w, &e);
}

void guest_second(struct warden *w)
{
    struct guest *g = &w->guest;
    if (g->link && g->ready && !w->freeze &&
        !g->sampled) { /* not in the way of the first command */
        g->sampled = true;
        open_own(w, &g->ports, &ports_ops, "{\"kind\":\"ports\"}");
        open_own(w, &g->metrics, &metrics_ops, "{\"kind\":\"metrics\",\"interval_ms\":10000}");
    }
    if (g->link && g->hello && !w->freeze && g->ping_sent == 0 && w->seconds % PING_SECONDS == 0)
        send_ping(w);
}

static void on_poweroff(struct down *d, const struct cg_json *result)
{
    (void)d;
    (void)result; /* what counts is that the link or the VMM ends */
}

void guest_poweroff(struct warden *w, int64_t grace_ms)
{
    static const struct down_ops ops = {.on_close = on_poweroff};
    char request[64];
    cg_snprintf(request, sizeof request, "{\"kind\":\"poweroff\",\"grace_ms\":%lld}",
                (long long)grace_ms);
    open_own(w, &w->guest.poweroff, &ops, request);
}
