#include "core/alerts.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/alerting.h"
#include "core/notify.h"

static const char kind_alert[] = "alert";

struct alert {
    struct alert *next; /* newest first */
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char rule[CG_ID_TEXT];
    char sandbox[CG_ID_TEXT];
    char session[48];
    char step[24]; /* with rule and sandbox: what may be open once */
    enum cg_alert_type type;
    char severity[12];
    char title[CG_ALERT_TEXT / 2];
    char message[CG_ALERT_TEXT * 2];
    char *meta; /* a JSON object of texts */
    int64_t created_wall, resolved_wall;
};

static struct {
    struct cg_core *core;
    struct alert *alerts;
} state;

static void write_alert(const struct alert *a, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", a->id);
    cg_jsonw_kstr(w, "account_id", a->account);
    cg_jsonw_kstr(w, "rule_id", a->rule);
    cg_jsonw_kstr(w, "rule_type", cg_alert_type_name(a->type));
    cg_jsonw_kstr(w, "severity", a->severity);
    cg_jsonw_kstr(w, "state", a->resolved_wall ? "resolved" : "open");
    cg_jsonw_kstr(w, "title", a->title);
    cg_jsonw_kstr(w, "message", a->message);
    cg_jsonw_kstr(w, "sandbox_id", a->sandbox[0] ? a->sandbox : NULL);
    cg_jsonw_kstr(w, "session_id", a->session[0] ? a->session : NULL);
    cg_jsonw_key(w, "meta");
    cg_jsonw_raw(w, a->meta ? a->meta : "{}", a->meta ? strlen(a->meta) : 2);
    cg_alert_put_time(w, "created_at", a->created_wall);
    cg_alert_put_time(w, "resolved_at", a->resolved_wall);
    cg_jsonw_obj_end(w);
}

static void save_alert(const struct alert *a, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 16 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "rule", a->rule);
    cg_jsonw_kstr(&w, "type", cg_alert_type_name(a->type));
    cg_jsonw_kstr(&w, "sandbox", a->sandbox);
    cg_jsonw_kstr(&w, "session", a->session);
    cg_jsonw_kstr(&w, "step", a->step);
    cg_jsonw_kstr(&w, "severity", a->severity);
    cg_jsonw_kstr(&w, "title", a->title);
    cg_jsonw_kstr(&w, "message", a->message);
    cg_jsonw_kstr(&w, "meta", a->meta);
    cg_jsonw_kint(&w, "created", a->created_wall);
    cg_jsonw_kint(&w, "resolved", a->resolved_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_alert, a->id, a->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

static struct alert *find_alert(const char *account, const char *id)
{
    for (struct alert *a = state.alerts; a; a = a->next)
        if (cg_streq(a->id, id) && cg_streq(a->account, account))
            return a;
    return NULL;
}

/* The oldest that is resolved, or, when all are open, the oldest. */
static void make_room(const char *account)
{
    unsigned n = 0;
    struct alert **victim = NULL;
    bool resolved = false;
    for (struct alert **at = &state.alerts; *at; at = &(*at)->next) {
        if (!cg_streq((*at)->account, account))
            continue;
        n++;
        if (!resolved || (*at)->resolved_wall)
            victim = at;
        resolved = resolved || (*at)->resolved_wall;
    }
    if (n < CG_ALERTS_MAX || !victim)
        return;
    struct alert *gone = *victim;
    *victim = gone->next;
    cg_store_delete_item(state.core->store, kind_alert, gone->id, NULL, NULL);
    free(gone->meta);
    free(gone);
}

struct telling {
    char account[CG_ID_TEXT];
    char id[CG_ID_TEXT];
};

/* The alert is durable: now it may be told. */
static void on_raised(void *ctx, const struct cg_err *err)
{
    struct telling *t = ctx;
    const struct alert *a = state.core ? find_alert(t->account, t->id) : NULL;
    if (err)
        cg_log(CG_LOG_ERROR, CG_EVENT("alert.not_saved"), CG_S("id", t->id), CG_E(err));
    if (a && !err) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        struct cg_jsonw w;
        cg_buf_init(&b, 16 * 1024);
        cg_jsonw_init(&w, &b);
        write_alert(a, &w);
        cg_notify(state.core, a->account, a->id, a->title, a->message, cg_buf_cstr(&b));
    }
    free(t);
}

void cg_alert_raise(struct cg_sandbox *sb, const struct cg_alert_news *n)
{
    struct cg_alert_rule *r = cg_alert_rule_of(sb->account, n->type);
    if (!r->enabled)
        return;
    for (const struct alert *a = state.alerts; a; a = a->next)
        if (a->type == n->type && !a->resolved_wall && cg_streq(a->sandbox, sb->id) &&
            cg_streq(a->step, n->step))
            return;
    make_room(sb->account);
    struct alert *a = cg_alloc(sizeof *a);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_id_make("alert", a->id);
    (void)cg_strlcpy(a->account, sizeof a->account, sb->account);
    (void)cg_strlcpy(a->rule, sizeof a->rule, r->id);
    (void)cg_strlcpy(a->sandbox, sizeof a->sandbox, sb->id);
    (void)cg_strlcpy(a->step, sizeof a->step, n->step);
    (void)cg_strlcpy(a->severity, sizeof a->severity, n->severity);
    (void)cg_strlcpy(a->title, sizeof a->title, n->title);
    (void)cg_strlcpy(a->message, sizeof a->message, n->message);
    a->type = n->type;
    a->created_wall = cg_wall_ns();
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    if (n->meta_key)
        cg_jsonw_kstr(&w, n->meta_key, n->meta);
    if (sb->spec.name)
        cg_jsonw_kstr(&w, "sandbox_name", sb->spec.name);
    cg_jsonw_obj_end(&w);
    a->meta = cg_strdup(cg_buf_cstr(&b));
    a->next = state.alerts;
    state.alerts = a;
    cg_log(CG_LOG_WARN, CG_EVENT("alert.raised"), CG_S("id", a->id), CG_S("sandbox", sb->id),
           CG_S("type", cg_alert_type_name(a->type)));
    struct telling *t = cg_alloc(sizeof *t);
    (void)cg_strlcpy(t->account, sizeof t->account, a->account);
    (void)cg_strlcpy(t->id, sizeof t->id, a->id);
    save_alert(a, on_raised, t);
}

void cg_alerts_write(struct cg_core *c, const char *account, int64_t limit, int64_t offset,
                     struct cg_jsonw *w)
{
    int64_t total = 0;
    (void)c;
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "alerts");
    cg_jsonw_arr(w);
    for (const struct alert *a = state.alerts; a; a = a->next) {
        if (!cg_streq(a->account, account))
            continue;
        if (total >= offset && total < offset + limit)
            write_alert(a, w);
        total++;
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_kint(w, "total", total);
    cg_jsonw_kint(w, "limit", limit);
    cg_jsonw_kint(w, "offset", offset);
    cg_jsonw_obj_end(w);
}

bool cg_alert_write(struct cg_core *c, const char *account, const char *id, struct cg_jsonw *w,
                    struct cg_err *e)
{
    const struct alert *a = find_alert(account, id);
    (void)c;
    if (!a)
        return cg_fail(e, CG_NOT_FOUND, "there is no alert %.64s", id);
    write_alert(a, w);
    return true;
}

bool cg_alert_resolve(struct cg_core *c, const char *account, const char *id, cg_store_done *done,
                      void *ctx, struct cg_err *e)
{
    struct alert *a = find_alert(account, id);
    (void)c;
    if (!a)
        return cg_fail(e, CG_NOT_FOUND, "there is no alert %.64s", id);
    if (!a->resolved_wall)
        a->resolved_wall = cg_wall_ns();
    save_alert(a, done, ctx);
    return true;
}

/* --- life --- */

static void copy(char *to, size_t size, const struct cg_json *j, const char *key)
{
    const char *text = cg_json_str(j, key);
    (void)cg_strlcpy(to, size, text ? text : "");
}

static void load_alert(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct alert *a = cg_alloc(sizeof *a);
    (void)ctx;
    if (!cg_alert_type_parse(cg_json_str(j, "type"), &a->type)) {
        free(a);
        return;
    }
    (void)cg_strlcpy(a->id, sizeof a->id, i->id);
    (void)cg_strlcpy(a->account, sizeof a->account, i->account);
    copy(a->rule, sizeof a->rule, j, "rule");
    copy(a->sandbox, sizeof a->sandbox, j, "sandbox");
    copy(a->session, sizeof a->session, j, "session");
    copy(a->step, sizeof a->step, j, "step");
    copy(a->severity, sizeof a->severity, j, "severity");
    copy(a->title, sizeof a->title, j, "title");
    copy(a->message, sizeof a->message, j, "message");
    const char *meta = cg_json_str(j, "meta");
    a->meta = cg_strdup(meta ? meta : "{}");
    a->created_wall = cg_json_int(j, "created", 0);
    a->resolved_wall = cg_json_int(j, "resolved", 0);
    a->next = state.alerts;
    state.alerts = a;
}

bool cg_alerts_start(struct cg_core *c, struct cg_err *e)
{
    state.core = c;
    if (!cg_alert_rules_start(c, e) ||
        !cg_store_each_item(c->store, kind_alert, load_alert, c, e) || !cg_notify_start(c, e))
        return false;
    cg_alert_watch_start(c);
    return true;
}

void cg_alerts_finish(struct cg_core *c)
{
    if (!state.core)
        return;
    cg_notify_finish(c);
    cg_alert_watch_finish();
    cg_alert_rules_finish();
    for (struct alert *a = state.alerts, *next; a; a = next) {
        next = a->next;
        free(a->meta);
        free(a);
    }
    state.core = NULL;
    state.alerts = NULL;
}
