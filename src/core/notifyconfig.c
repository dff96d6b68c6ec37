/* The channels of accounts. Their addresses and secrets are sealed in the store and never told. */
#include <stdlib.h>
#include <string.h>

#include "core/notifying.h"
#include "core/secrets.h"

static const char kind_config[] = "notify_config";

static const struct {
    const char *name;
    const char *sealed; /* as the associated name of its seal */
    enum cg_channel channel;
} secrets[CG_NOTIFY_SECRETS] = {
    [CG_SEC_SLACK] = {"slack_webhook", "notify_slack", CG_CH_SLACK},
    [CG_SEC_DISCORD] = {"discord_webhook", "notify_discord", CG_CH_DISCORD},
    [CG_SEC_WEBHOOK] = {"webhook", "notify_webhook", CG_CH_WEBHOOK},
    [CG_SEC_SIGNING] = {"webhook_secret", "notify_signing", CG_CH_WEBHOOK},
};

static struct {
    struct cg_core *core;
    struct cg_notify_config *configs;
} state;

struct cg_notify_config *cg_notify_config_of(const char *account)
{
    for (struct cg_notify_config *c = state.configs; c; c = c->next)
        if (cg_streq(c->account, account))
            return c;
    struct cg_notify_config *c = cg_alloc(sizeof *c);
    (void)cg_strlcpy(c->account, sizeof c->account, account);
    c->on[CG_CH_IN_APP] = true;
    c->next = state.configs;
    state.configs = c;
    return c;
}

static void save_config(const struct cg_notify_config *c, cg_store_done *done, void *ctx)
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
    for (unsigned i = 0; i < CG_NOTIFY_SECRETS; i++) {
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
    struct cg_notify_config *c = cg_notify_config_of(i->account);
    const char *email = cg_json_str(j, "email");
    const char *channel = cg_json_str(j, "slack_channel");
    (void)ctx;
    (void)cg_strlcpy(c->email, sizeof c->email, email ? email : "");
    (void)cg_strlcpy(c->slack_channel, sizeof c->slack_channel, channel ? channel : "");
    for (unsigned n = 0; n < CG_CH_COUNT; n++) {
        CG_OWN(cg_drop_free) char *on = cg_format("on_%s", cg_channel_names[n]);
        c->on[n] = cg_json_bool(j, on, n == CG_CH_IN_APP);
    }
    for (unsigned n = 0; n < CG_NOTIFY_SECRETS; n++) {
        CG_OWN(cg_drop_free) char *hint = cg_format("%s_hint", secrets[n].name);
        CG_OWN(cg_drop_free) char *sealed = cg_format("%s_sealed", secrets[n].name);
        const char *text = cg_json_str(j, sealed);
        const char *end = cg_json_str(j, hint);
        c->sealed[n] = text ? cg_strdup(text) : NULL;
        (void)cg_strlcpy(c->hint[n], sizeof c->hint[n], end ? end : "");
    }
}

static void set_secret(struct cg_notify_config *c, enum cg_notify_secret which, const char *value)
{
    size_t n = value ? strlen(value) : 0;
    free(c->sealed[which]);
    c->sealed[which] =
        value ? cg_core_seal(c->account, secrets[which].sealed, cg_slice_of(value)) : NULL;
    c->hint[which][0] = '\0';
    if (n >= 12)
        cg_snprintf(c->hint[which], sizeof c->hint[which], "...%s", value + n - 4);
}

bool cg_notify_config_secret(const struct cg_notify_config *c, enum cg_notify_secret which,
                             char out[CG_NOTIFY_URL_MAX + 1])
{
    return c->sealed[which] && cg_core_unseal(c->account, secrets[which].sealed, c->sealed[which],
                                              out, CG_NOTIFY_URL_MAX + 1);
}

void cg_notify_config_write(struct cg_core *core, const char *account, struct cg_jsonw *w)
{
    const struct cg_notify_config *c = cg_notify_config_of(account);
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
    for (unsigned i = 0; i < CG_NOTIFY_SECRETS; i++) {
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
    if (n > CG_NOTIFY_URL_MAX ||
        (!cg_has_prefix(url, "https://") && !cg_has_prefix(url, "http://")))
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
    if (!*out || strlen(*out) > CG_NOTIFY_URL_MAX)
        return cg_fail(e, CG_INVALID, "%s must be a text of at most %d bytes", key,
                       (int)CG_NOTIFY_URL_MAX);
    *clear = strcmp(*out, "__clear__") == 0 || !(*out)[0];
    return true;
}

struct wishes {
    const char *secret[CG_NOTIFY_SECRETS], *email, *slack_channel;
    bool clear[CG_NOTIFY_SECRETS], clear_email, clear_channel;
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
    static const char *const keys[CG_NOTIFY_SECRETS] = {"slack_webhook_url", "discord_webhook_url",
                                                        "webhook_url", "webhook_secret"};
    if (!body || body->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "an object is needed");
    for (unsigned i = 0; i < CG_NOTIFY_SECRETS; i++) {
        if (!member(body, keys[i], &w->secret[i], &w->clear[i], e))
            return false;
        if (w->secret[i] && !w->clear[i] && i != CG_SEC_SIGNING && !url_fine(w->secret[i]))
            return cg_fail(e, CG_INVALID, "%s must be an http or https URL", keys[i]);
        if (w->secret[i] && !w->clear[i] && i == CG_SEC_SIGNING && strlen(w->secret[i]) < 16)
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
    struct cg_notify_config *c = cg_notify_config_of(account);
    (void)core;
    if (!read_wishes(body, &w, e))
        return false;
    for (unsigned i = 0; i < CG_NOTIFY_SECRETS; i++)
        if (w.secret[i])
            set_secret(c, (enum cg_notify_secret)i, w.clear[i] ? NULL : w.secret[i]);
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

/* --- life --- */

bool cg_notify_config_start(struct cg_core *c, struct cg_err *e)
{
    state.core = c;
    return cg_store_each_item(c->store, kind_config, load_config, c, e);
}

void cg_notify_config_finish(void)
{
    for (struct cg_notify_config *at = state.configs, *next; at; at = next) {
        next = at->next;
        for (unsigned i = 0; i < CG_NOTIFY_SECRETS; i++)
            free(at->sealed[i]);
        free(at);
    }
    state.core = NULL;
    state.configs = NULL;
}
