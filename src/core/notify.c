#include "core/notify.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/channels.h"
#include "core/secrets.h"

enum { URL_MAX = 1024, SECRET_TEXT = 40, TRIES = 6, DELIVERIES_MAX = 1000, NOTE_TEXT = 600 };

static const char kind_note[] = "notification";
static const char kind_config[] = "notify_config";
static const char kind_delivery[] = "delivery";

/* Channels' secrets; where each stands in a config and in requests. */
enum secret_name { SEC_SLACK, SEC_DISCORD, SEC_WEBHOOK, SEC_SIGNING, SECRETS };

static const struct {
    const char *name;
    const char *sealed; /* as the associated name of its seal */
    enum cg_channel channel;
} secrets[SECRETS] = {
    [SEC_SLACK] = {"slack_webhook", "notify_slack", CG_CH_SLACK},
    [SEC_DISCORD] = {"discord_webhook", "notify_discord", CG_CH_DISCORD},
    [SEC_WEBHOOK] = {"webhook", "notify_webhook", CG_CH_WEBHOOK},
    [SEC_SIGNING] = {"webhook_secret", "notify_signing", CG_CH_WEBHOOK},
};

struct config {
    struct config *next;
    char account[CG_ID_TEXT];
    bool on[CG_CH_COUNT];
    char *sealed[SECRETS]; /* NULL: not set */
    char hint[SECRETS][8];
    char email[256];
    char slack_channel[64];
};

struct note {
    struct note *next; /* newest first */
    char id[CG_ID_TEXT], account[CG_ID_TEXT], alert[CG_ID_TEXT];
    char title[128], message[NOTE_TEXT];
    bool read;
    int64_t created_wall;
};

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

static struct state {
    struct cg_core *core;
    struct config *configs;
    struct note *notes;
    struct delivery *deliveries;
    unsigned ndeliveries;
    struct cg_courier *courier;
} state;

/* --- configurations --- */

static struct config *config_of(const char *account)
{
    for (struct config *c = state.configs; c; c = c->next)
        if (cg_streq(c->account, account))
            return c;
    struct config *c = cg_alloc(sizeof *c);
    (void)cg_strlcpy(c->account, sizeof c->account, account);
    c->on[CG_CH_IN_APP] = true;
    c->next = state.configs;
    state.configs = c;
    return c;
}

static void save_config(const struct config *c, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 64 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "email", c->email);
    cg_jsonw_kstr(&w, "slack_channel", c->slack_channel);
    for (unsigned i = 0; i < CG_CH_COUNT; i++) {
        CG_OWN(cg_drop_free) char *on = cg_format("on_%s", cg_channel_names[i]);
        cg_jsonw_kbool(&w, on, c->on[i]);
    }
    for (unsigned i = 0; i < SECRETS; i++) {
        CG_OWN(cg_drop_free) char *hint = cg_format("%s_hint", secrets[i].name);
        CG_OWN(cg_drop_free) char *sealed = cg_format("%s_sealed", secrets[i].name);
        cg_jsonw_kstr(&w, sealed, c->sealed[i]);
        cg_jsonw_kstr(&w, hint, c->hint[i]);
    }
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_config, c->account, c->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

static void load_config(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct config *c = config_of(i->account);
    const char *email = cg_json_str(j, "email");
    const char *channel = cg_json_str(j, "slack_channel");
    (void)ctx;
    (void)cg_strlcpy(c->email, sizeof c->email, email ? email : "");
    (void)cg_strlcpy(c->slack_channel, sizeof c->slack_channel, channel ? channel : "");
    for (unsigned n = 0; n < CG_CH_COUNT; n++) {
        CG_OWN(cg_drop_free) char *on = cg_format("on_%s", cg_channel_names[n]);
        c->on[n] = cg_json_bool(j, on, n == CG_CH_IN_APP);
    }
    for (unsigned n = 0; n < SECRETS; n++) {
        CG_OWN(cg_drop_free) char *hint = cg_format("%s_hint", secrets[n].name);
        CG_OWN(cg_drop_free) char *sealed = cg_format("%s_sealed", secrets[n].name);
        const char *text = cg_json_str(j, sealed);
        const char *end = cg_json_str(j, hint);
        c->sealed[n] = text ? cg_strdup(text) : NULL;
        (void)cg_strlcpy(c->hint[n], sizeof c->hint[n], end ? end : "");
    }
}

static void set_secret(struct config *c, enum secret_name which, const char *value)
{
    size_t n = value ? strlen(value) : 0;
    free(c->sealed[which]);
    c->sealed[which] =
        value ? cg_core_seal(c->account, secrets[which].sealed, cg_slice_of(value)) : NULL;
    c->hint[which][0] = '\0';
    if (n >= 12)
        cg_snprintf(c->hint[which], sizeof c->hint[which], "...%s", value + n - 4);
}

/* The value, wiped by the caller; false: it is not set. */
static bool get_secret(const struct config *c, enum secret_name which, char out[URL_MAX + 1])
{
    return c->sealed[which] &&
           cg_core_unseal(c->account, secrets[which].sealed, c->sealed[which], out, URL_MAX + 1);
}

void cg_notify_config_write(struct cg_core *core, const char *account, struct cg_jsonw *w)
{
    const struct config *c = config_of(account);
    (void)core;
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "account_id", c->account);
    cg_jsonw_key(w, "enabled_channels");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < CG_CH_COUNT; i++)
        if (c->on[i])
            cg_jsonw_str(w, cg_channel_names[i]);
    cg_jsonw_arr_end(w);
    cg_jsonw_kstr(w, "slack_channel_id", c->slack_channel[0] ? c->slack_channel : NULL);
    cg_jsonw_kstr(w, "email_address", c->email[0] ? c->email : NULL);
    cg_jsonw_kbool(w, "email_possible", state.core->options.smtp_url != NULL);
    cg_jsonw_kbool(w, "slack_bot_token_configured", false);
    cg_jsonw_kstr(w, "slack_bot_token_hint", NULL);
    for (unsigned i = 0; i < SECRETS; i++) {
        CG_OWN(cg_drop_free) char *set = cg_format("%s_configured", secrets[i].name);
        CG_OWN(cg_drop_free) char *hint = cg_format("%s_hint", secrets[i].name);
        cg_jsonw_kbool(w, set, c->sealed[i] != NULL);
        cg_jsonw_kstr(w, hint, c->hint[i][0] ? c->hint[i] : NULL);
    }
    cg_jsonw_obj_end(w);
}

static bool url_fine(const char *url)
{
    size_t n = strlen(url);
    if (n > URL_MAX || (!cg_has_prefix(url, "https://") && !cg_has_prefix(url, "http://")))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)url[i] <= 0x20 || (unsigned char)url[i] >= 0x7f)
            return false;
    return strcspn(strstr(url, "://") + 3, "/?#") > 0;
}

/* A text of the body: NULL in *out when absent; "__clear__" is told apart. */
static bool member(const struct cg_json *body, const char *key, const char **out, bool *clear,
                   struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(body, key);
    *out = NULL;
    *clear = false;
    if (!v || v->type == CG_JSON_NULL)
        return true;
    *out = cg_json_str(body, key);
    if (!*out || strlen(*out) > URL_MAX)
        return cg_fail(e, CG_INVALID, "%s must be a text of at most %d bytes", key, (int)URL_MAX);
    *clear = strcmp(*out, "__clear__") == 0 || !(*out)[0];
    return true;
}

struct wishes {
    const char *secret[SECRETS], *email, *slack_channel;
    bool clear[SECRETS], clear_email, clear_channel;
    bool channels, on[CG_CH_COUNT];
};

static bool read_channels(const struct cg_json *list, struct wishes *w, struct cg_err *e)
{
    if (!list || list->type == CG_JSON_NULL)
        return true;
    if (list->type != CG_JSON_ARR)
        return cg_fail(e, CG_INVALID, "enabled_channels must be a list");
    w->channels = true;
    for (const struct cg_json *v = list->child; v; v = v->next) {
        unsigned i = 0;
        while (i < CG_CH_COUNT &&
               !(v->type == CG_JSON_STR && cg_slice_eq(v->str, cg_channel_names[i])))
            i++;
        if (i == CG_CH_COUNT)
            return cg_fail(e, CG_INVALID,
                           "enabled_channels may hold in_app, slack, discord, email and webhook");
        w->on[i] = true;
    }
    return true;
}

static bool read_wishes(const struct cg_json *body, struct wishes *w, struct cg_err *e)
{
    static const char *const keys[SECRETS] = {"slack_webhook_url", "discord_webhook_url",
                                              "webhook_url", "webhook_secret"};
    if (!body || body->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "an object is needed");
    for (unsigned i = 0; i < SECRETS; i++) {
        if (!member(body, keys[i], &w->secret[i], &w->clear[i], e))
            return false;
        if (w->secret[i] && !w->clear[i] && i != SEC_SIGNING && !url_fine(w->secret[i]))
            return cg_fail(e, CG_INVALID, "%s must be an http or https URL", keys[i]);
        if (w->secret[i] && !w->clear[i] && i == SEC_SIGNING && strlen(w->secret[i]) < 16)
            return cg_fail(e, CG_INVALID, "webhook_secret must have at least 16 characters");
    }
    if (!member(body, "email_address", &w->email, &w->clear_email, e) ||
        !member(body, "slack_channel_id", &w->slack_channel, &w->clear_channel, e))
        return false;
    if (w->email && !w->clear_email && !cg_mail_address(w->email))
        return cg_fail(e, CG_INVALID, "email_address is no address");
    return read_channels(cg_json_get(body, "enabled_channels"), w, e);
}

bool cg_notify_config_set(struct cg_core *core, const char *account, const struct cg_json *body,
                          cg_store_done *done, void *ctx, struct cg_err *e)
{
    struct wishes w = {.channels = false};
    struct config *c = config_of(account);
    (void)core;
    if (!read_wishes(body, &w, e))
        return false;
    for (unsigned i = 0; i < SECRETS; i++)
        if (w.secret[i])
            set_secret(c, (enum secret_name)i, w.clear[i] ? NULL : w.secret[i]);
    if (w.email)
        (void)cg_strlcpy(c->email, sizeof c->email, w.clear_email ? "" : w.email);
    if (w.slack_channel)
        (void)cg_strlcpy(c->slack_channel, sizeof c->slack_channel,
                         w.clear_channel ? "" : w.slack_channel);
    if (w.channels)
        memcpy(c->on, w.on, sizeof c->on);
    save_config(c, done, ctx);
    return true;
}

/* --- in the dashboard --- */

static void save_note(const struct note *n, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "alert", n->alert);
    cg_jsonw_kstr(&w, "title", n->title);
    cg_jsonw_kstr(&w, "message", n->message);
    cg_jsonw_kbool(&w, "read", n->read);
    cg_jsonw_kint(&w, "created", n->created_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_note, n->id, n->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

static void load_note(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct note *n = cg_alloc(sizeof *n);
    const char *alert = cg_json_str(j, "alert");
    const char *title = cg_json_str(j, "title");
    const char *message = cg_json_str(j, "message");
    (void)ctx;
    (void)cg_strlcpy(n->id, sizeof n->id, i->id);
    (void)cg_strlcpy(n->account, sizeof n->account, i->account);
    (void)cg_strlcpy(n->alert, sizeof n->alert, alert ? alert : "");
    (void)cg_strlcpy(n->title, sizeof n->title, title ? title : "");
    (void)cg_strlcpy(n->message, sizeof n->message, message ? message : "");
    n->read = cg_json_bool(j, "read", false);
    n->created_wall = cg_json_int(j, "created", 0);
    n->next = state.notes;
    state.notes = n;
}

static void note_room(const char *account)
{
    unsigned n = 0;
    struct note **last = NULL;
    for (struct note **at = &state.notes; *at; at = &(*at)->next) {
        if (!cg_streq((*at)->account, account))
            continue;
        n++;
        last = at;
    }
    if (n < CG_NOTIFICATIONS_MAX || !last)
        return;
    struct note *gone = *last;
    *last = gone->next;
    cg_store_delete_item(state.core->store, kind_note, gone->id, NULL, NULL);
    free(gone);
}

static void add_note(const char *account, const char *alert, const char *title, const char *message)
{
    note_room(account);
    struct note *n = cg_alloc(sizeof *n);
    cg_id_make("ntf", n->id);
    (void)cg_strlcpy(n->account, sizeof n->account, account);
    (void)cg_strlcpy(n->alert, sizeof n->alert, alert);
    (void)cg_strlcpy(n->title, sizeof n->title, title);
    (void)cg_strlcpy(n->message, sizeof n->message, message);
    n->created_wall = cg_wall_ns();
    n->next = state.notes;
    state.notes = n;
    save_note(n, NULL, NULL);
}

unsigned cg_notifications_unread(struct cg_core *c, const char *account)
{
    unsigned n = 0;
    (void)c;
    for (const struct note *at = state.notes; at; at = at->next)
        n += !at->read && cg_streq(at->account, account);
    return n;
}

static void write_note(const struct note *n, struct cg_jsonw *w)
{
    char time[CG_TIME_TEXT];
    cg_time_format(n->created_wall, time);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", n->id);
    cg_jsonw_kstr(w, "account_id", n->account);
    cg_jsonw_kstr(w, "alert_id", n->alert[0] ? n->alert : NULL);
    cg_jsonw_kstr(w, "channel", "in_app");
    cg_jsonw_kstr(w, "title", n->title);
    cg_jsonw_kstr(w, "message", n->message);
    cg_jsonw_kbool(w, "read", n->read);
    cg_jsonw_kstr(w, "created_at", time);
    cg_jsonw_obj_end(w);
}

void cg_notifications_write(struct cg_core *c, const char *account, bool unread, int64_t limit,
                            struct cg_jsonw *w)
{
    int64_t written = 0;
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "notifications");
    cg_jsonw_arr(w);
    for (const struct note *n = state.notes; n && written < limit; n = n->next) {
        if (!cg_streq(n->account, account) || (unread && n->read))
            continue;
        write_note(n, w);
        written++;
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_kuint(w, "unread_count", cg_notifications_unread(c, account));
    cg_jsonw_obj_end(w);
}

bool cg_notification_read(struct cg_core *c, const char *account, const char *id,
                          cg_store_done *done, void *ctx, struct cg_err *e)
{
    struct note *n = state.notes;
    (void)c;
    while (n && (!cg_streq(n->id, id) || !cg_streq(n->account, account)))
        n = n->next;
    if (!n)
        return cg_fail(e, CG_NOT_FOUND, "there is no notification %.64s", id);
    n->read = true;
    save_note(n, done, ctx);
    return true;
}

/* The store works in order: once the last one is durable, all are. */
void cg_notifications_read_all(struct cg_core *c, const char *account, cg_store_done *done,
                               void *ctx)
{
    for (struct note *n = state.notes; n; n = n->next) {
        if (n->read || !cg_streq(n->account, account))
            continue;
        n->read = true;
        save_note(n, NULL, NULL);
    }
    cg_store_delete_item(c->store, kind_note, "none", done, ctx);
}

/* --- to the outside --- */

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
    char text[NOTE_TEXT];
    cg_log(CG_LOG_WARN, CG_EVENT("notify.given_up"), CG_S("id", d->id),
           CG_S("channel", cg_channel_names[d->channel]), CG_S("error", error));
    cg_snprintf(text, sizeof text, "\"%.100s\" could not be sent by %s: %.200s", d->title,
                cg_channel_names[d->channel], error);
    add_note(d->account, "", "A notification was not delivered", text);
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

static enum secret_name url_of(enum cg_channel ch)
{
    return ch == CG_CH_SLACK ? SEC_SLACK : ch == CG_CH_DISCORD ? SEC_DISCORD : SEC_WEBHOOK;
}

static bool address_parcel(const struct delivery *d, const struct config *c, struct cg_parcel *p)
{
    const struct cg_options *o = &state.core->options;
    char url[URL_MAX + 1];
    if (d->channel != CG_CH_EMAIL) {
        bool set = get_secret(c, url_of(d->channel), url);
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
    const struct config *c = config_of(d->account);
    struct cg_parcel p = {.done = on_sent, .ctx = d};
    const struct cg_message m = {d->id, d->title, d->message, d->alert, d->created_wall};
    char signing[URL_MAX + 1] = "";
    d->tries++;
    if (!address_parcel(d, c, &p)) {
        give_up(d, "the channel is not set up");
        return;
    }
    (void)get_secret(c, SEC_SIGNING, signing);
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
    const struct config *config = config_of(account);
    (void)c;
    if (config->on[CG_CH_IN_APP])
        add_note(account, alert_id, title, message);
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
    state = (struct state){.core = c};
    if (!cg_store_each_item(c->store, kind_config, load_config, c, e) ||
        !cg_store_each_item(c->store, kind_note, load_note, c, e) ||
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
    for (struct config *at = state.configs, *next; at; at = next) {
        next = at->next;
        for (unsigned i = 0; i < SECRETS; i++)
            free(at->sealed[i]);
        free(at);
    }
    for (struct note *n = state.notes, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    state = (struct state){.core = NULL};
}
