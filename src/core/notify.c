#include "core/notify.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/notifying.h"

enum { TRIES = 6, DELIVERIES_MAX = 1000, ERROR_TEXT = 600 };

static const char kind_delivery[] = "delivery";

struct delivery {
    struct delivery *next;
    char id[CG_ID_TEXT], account[CG_ID_TEXT];
    enum cg_channel channel;
    char *title, *message, *alert;
    int64_t created_wall;
    unsigned tries;
    bool gone; /* it is over; the timer or the courier still knows it */
    uv_timer_t *timer;
};

static struct {
    struct cg_core *core;
    struct delivery *deliveries;
    unsigned ndeliveries;
    struct cg_courier *courier;
} state;

static void try_now(struct delivery *d);

static void free_timer(uv_handle_t *h)
{
    free(h);
}

static void drop(struct delivery *d)
{
    struct delivery **at = &state.deliveries;
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    state.ndeliveries--;
    if (d->timer)
        uv_close((uv_handle_t *)d->timer, free_timer);
    free(d->title);
    free(d->message);
    free(d->alert);
    free(d);
}

static void over(struct delivery *d)
{
    cg_store_delete_item(state.core->store, kind_delivery, d->id, NULL, NULL);
    drop(d);
}

static void on_timer(uv_timer_t *t)
{
    try_now(t->data);
}

/* 5 s, 20 s, 80 s, … */
static void try_later(struct delivery *d)
{
    uint64_t wait =
        (uint64_t)(state.core->options.retry_s ? state.core->options.retry_s : 5) * 1000;
    for (unsigned i = 1; i < d->tries; i++)
        wait *= 4;
    if (!d->timer) {
        d->timer = cg_alloc(sizeof *d->timer);
        uv_timer_init(state.core->loop, d->timer);
        d->timer->data = d;
        uv_unref((uv_handle_t *)d->timer);
    }
    uv_timer_start(d->timer, on_timer, wait, 0);
}

static void give_up(struct delivery *d, const char *error)
{
    char text[ERROR_TEXT];
    cg_log(CG_LOG_WARN, CG_EVENT("notify.given_up"), CG_S("id", d->id),
           CG_S("channel", cg_channel_names[d->channel]), CG_S("error", error));
    cg_snprintf(text, sizeof text, "\"%.100s\" could not be sent by %s: %.200s", d->title,
                cg_channel_names[d->channel], error);
    cg_inbox_add(d->account, "", "A notification was not delivered", text);
    over(d);
}

static void on_sent(void *ctx, const char *error, bool again)
{
    struct delivery *d = ctx;
    if (!error) {
        cg_log(CG_LOG_INFO, CG_EVENT("notify.sent"), CG_S("id", d->id),
               CG_S("channel", cg_channel_names[d->channel]), CG_I("tries", d->tries));
        over(d);
    } else if (again && d->tries < TRIES) {
        try_later(d);
    } else {
        give_up(d, error);
    }
}

static enum cg_notify_secret url_of(enum cg_channel ch)
{
    return ch == CG_CH_SLACK ? CG_SEC_SLACK : ch == CG_CH_DISCORD ? CG_SEC_DISCORD : CG_SEC_WEBHOOK;
}

static bool address_parcel(const struct delivery *d, const struct cg_notify_config *c,
                           struct cg_parcel *p)
{
    const struct cg_options *o = &state.core->options;
    char url[CG_NOTIFY_URL_MAX + 1];
    if (d->channel != CG_CH_EMAIL) {
        bool set = cg_notify_config_secret(c, url_of(d->channel), url);
        p->url = set ? cg_strdup(url) : NULL;
        explicit_bzero(url, sizeof url);
        return set;
    }
    if (!o->smtp_url || !c->email[0])
        return false;
    p->url = cg_strdup(o->smtp_url);
    p->mail_from = cg_strdup(o->mail_from ? o->mail_from : "caged@localhost");
    p->mail_to = cg_strdup(c->email);
    p->user = o->smtp_user ? cg_strdup(o->smtp_user) : NULL;
    p->password = o->smtp_password ? cg_strdup(o->smtp_password) : NULL;
    return true;
}

static void try_now(struct delivery *d)
{
    const struct cg_notify_config *c = cg_notify_config_of(d->account);
    struct cg_parcel p = {.done = on_sent, .ctx = d};
    const struct cg_message m = {d->id, d->title, d->message, d->alert, d->created_wall};
    char signing[CG_NOTIFY_URL_MAX + 1] = "";
    d->tries++;
    if (!address_parcel(d, c, &p)) {
        give_up(d, "the channel is not set up");
        return;
    }
    (void)cg_notify_config_secret(c, CG_SEC_SIGNING, signing);
    p.body = cg_channel_body(d->channel, &m, p.mail_from, p.mail_to);
    p.headers = cg_channel_headers(d->channel, &m, p.body, signing);
    explicit_bzero(signing, sizeof signing);
    if (!cg_courier_send(state.courier, &p))
        try_later(d);
}

static void save_delivery(const struct delivery *d)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 64 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "channel", d->channel);
    cg_jsonw_kstr(&w, "title", d->title);
    cg_jsonw_kstr(&w, "message", d->message);
    cg_jsonw_kstr(&w, "alert", d->alert);
    cg_jsonw_kint(&w, "created", d->created_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_delivery, d->id, d->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, NULL, NULL);
}

static struct delivery *add_delivery(const char *id, const char *account, enum cg_channel ch)
{
    struct delivery *d = cg_alloc(sizeof *d);
    (void)cg_strlcpy(d->id, sizeof d->id, id);
    (void)cg_strlcpy(d->account, sizeof d->account, account);
    d->channel = ch;
    d->next = state.deliveries;
    state.deliveries = d;
    state.ndeliveries++;
    return d;
}

static void load_delivery(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    int64_t channel = cg_json_int(j, "channel", CG_CH_COUNT);
    const char *title = cg_json_str(j, "title");
    const char *message = cg_json_str(j, "message");
    const char *alert = cg_json_str(j, "alert");
    (void)ctx;
    if (channel < 0 || channel >= CG_CH_IN_APP || !title || !message)
        return;
    struct delivery *d = add_delivery(i->id, i->account, (enum cg_channel)channel);
    d->title = cg_strdup(title);
    d->message = cg_strdup(message);
    d->alert = alert ? cg_strdup(alert) : NULL;
    d->created_wall = cg_json_int(j, "created", 0);
}

void cg_notify(struct cg_core *c, const char *account, const char *alert_id, const char *title,
               const char *message, const char *alert)
{
    const struct cg_notify_config *config = cg_notify_config_of(account);
    (void)c;
    if (config->on[CG_CH_IN_APP])
        cg_inbox_add(account, alert_id, title, message);
    for (unsigned ch = 0; ch < CG_CH_IN_APP; ch++) {
        char id[CG_ID_TEXT];
        if (!config->on[ch])
            continue;
        if (state.ndeliveries >= DELIVERIES_MAX) {
            cg_log(CG_LOG_ERROR, CG_EVENT("notify.too_many"), CG_S("account", account));
            return;
        }
        cg_id_make("dlv", id);
        struct delivery *d = add_delivery(id, account, (enum cg_channel)ch);
        d->title = cg_strdup(title);
        d->message = cg_strdup(message);
        d->alert = alert ? cg_strdup(alert) : NULL;
        d->created_wall = cg_wall_ns();
        save_delivery(d);
        try_now(d);
    }
}

/* --- life --- */

bool cg_notify_start(struct cg_core *c, struct cg_err *e)
{
    state.core = c;
    if (!cg_notify_config_start(c, e) || !cg_inbox_start(c, e) ||
        !cg_store_each_item(c->store, kind_delivery, load_delivery, c, e))
        return false;
    state.courier = cg_courier_create(c->loop, c->options.notify_allow, c->options.nnotify_allow);
    for (struct delivery *d = state.deliveries, *next; d; d = next) {
        next = d->next;
        try_now(d);
    }
    return true;
}

void cg_notify_finish(struct cg_core *c)
{
    (void)c;
    if (!state.core)
        return;
    cg_courier_destroy(state.courier);
    while (state.deliveries)
        drop(state.deliveries);
    cg_inbox_finish();
    cg_notify_config_finish();
    state.core = NULL;
    state.courier = NULL;
}
