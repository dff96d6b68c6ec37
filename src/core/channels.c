#include "core/channels.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "core/notify.h"

enum { BODY_MAX = 32 * 1024 };

const char *const cg_channel_names[CG_CH_COUNT] = {"slack", "discord", "email", "webhook",
                                                   "in_app"};

bool cg_mail_address(const char *s)
{
    size_t n = strlen(s);
    const char *at = strrchr(s, '@');
    if (n < 3 || n > 254 || !at || at == s || !at[1] || strchr(s, '@') != at)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= 0x20 || (unsigned char)s[i] >= 0x7f ||
            strchr("<>()\",;:\\", s[i]))
            return false;
    return true;
}

void cg_notify_sign(const char *secret, int64_t time_s, const char *body,
                    char out[CG_SIGNATURE_TEXT])
{
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    char hex[2 * sizeof mac + 1];
    char head[32];
    crypto_auth_hmacsha256_state st;
    cg_snprintf(head, sizeof head, "%lld.", (long long)time_s);
    crypto_auth_hmacsha256_init(&st, (const unsigned char *)secret, strlen(secret));
    crypto_auth_hmacsha256_update(&st, (const unsigned char *)head, strlen(head));
    crypto_auth_hmacsha256_update(&st, (const unsigned char *)body, strlen(body));
    crypto_auth_hmacsha256_final(&st, mac);
    sodium_bin2hex(hex, sizeof hex, mac, sizeof mac);
    cg_snprintf(out, CG_SIGNATURE_TEXT, "t=%lld,v1=%s", (long long)time_s, hex);
}

/* Slack reads &, < and > as its own. */
static void add_slack(struct cg_buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '&')
            cg_buf_adds(b, "&amp;");
        else if (*s == '<')
            cg_buf_adds(b, "&lt;");
        else if (*s == '>')
            cg_buf_adds(b, "&gt;");
        else
            cg_buf_addc(b, *s);
    }
}

static char *chat_body(enum cg_channel ch, const struct cg_message *m)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&text, BODY_MAX / 2);
    cg_buf_init(&b, BODY_MAX);
    cg_jsonw_init(&w, &b);
    if (ch == CG_CH_SLACK) {
        add_slack(&text, m->title);
        cg_buf_addc(&text, '\n');
        add_slack(&text, m->message);
    } else {
        cg_buf_addf(&text, "%s\n%.1800s", m->title, m->message);
    }
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, ch == CG_CH_SLACK ? "text" : "content", cg_buf_cstr(&text));
    if (ch == CG_CH_DISCORD) { /* nobody is called by what a guest wrote */
        cg_jsonw_key(&w, "allowed_mentions");
        cg_jsonw_raw(&w, "{\"parse\":[]}", 12);
    }
    cg_jsonw_obj_end(&w);
    return cg_buf_take(&b);
}

static char *webhook_body(const struct cg_message *m)
{
    struct cg_buf b;
    struct cg_jsonw w;
    char time[CG_TIME_TEXT];
    cg_time_format(m->created_wall, time);
    cg_buf_init(&b, BODY_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "id", m->id);
    cg_jsonw_kstr(&w, "type", m->alert ? "alert.created" : "test");
    cg_jsonw_kstr(&w, "created_at", time);
    cg_jsonw_kstr(&w, "title", m->title);
    cg_jsonw_kstr(&w, "message", m->message);
    cg_jsonw_key(&w, "alert");
    if (m->alert)
        cg_jsonw_raw(&w, m->alert, strlen(m->alert));
    else
        cg_jsonw_null(&w);
    cg_jsonw_obj_end(&w);
    return cg_buf_take(&b);
}

/* One line of a head: no control character, and what is not ASCII as a question mark. */
static void add_head(struct cg_buf *b, const char *s)
{
    for (size_t n = 0; *s && n < 180; s++, n++)
        cg_buf_addc(b, (unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f ? '?' : *s);
}

static char *mail_body(const struct cg_message *m, const char *from, const char *to)
{
    struct cg_buf b;
    char date[CG_TIME_TEXT];
    cg_time_format(m->created_wall, date);
    cg_buf_init(&b, BODY_MAX);
    cg_buf_addf(&b, "From: %s\r\nTo: %s\r\nSubject: [caged] ", from, to);
    add_head(&b, m->title);
    cg_buf_addf(&b,
                "\r\nMessage-ID: <%s@caged>\r\nMIME-Version: 1.0\r\n"
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
                "Auto-Submitted: auto-generated\r\nX-Caged-Time: %s\r\n\r\n",
                m->id, date);
    for (const char *s = m->message; *s; s++) { /* libcurl stuffs dots */
        if (*s == '\n')
            cg_buf_adds(&b, "\r\n");
        else if (*s != '\r')
            cg_buf_addc(&b, *s);
    }
    cg_buf_adds(&b, "\r\n");
    return cg_buf_take(&b);
}

char *cg_channel_body(enum cg_channel ch, const struct cg_message *m, const char *from,
                      const char *to)
{
    if (ch == CG_CH_EMAIL)
        return mail_body(m, from, to);
    return ch == CG_CH_WEBHOOK ? webhook_body(m) : chat_body(ch, m);
}

char *cg_channel_headers(enum cg_channel ch, const struct cg_message *m, const char *body,
                         const char *secret)
{
    char signature[CG_SIGNATURE_TEXT];
    const char *event = m->alert ? "alert.created" : "test";
    if (ch != CG_CH_WEBHOOK)
        return NULL;
    if (!secret[0]) /* nothing that only the two know: nothing to sign with */
        return cg_format("X-Caged-Event: %s\nX-Caged-Delivery: %s\n", event, m->id);
    cg_notify_sign(secret, cg_wall_ns() / 1000000000, body, signature);
    return cg_format("X-Caged-Event: %s\nX-Caged-Delivery: %s\nX-Caged-Signature: %s\n", event,
                     m->id, signature);
}
