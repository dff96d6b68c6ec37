/* /v1/alerts and /v1/notifications: what an account should look at, and how it is told. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/alerts.h"
#include "core/notify.h"

enum { LIMIT = 50, LIMIT_MAX = 100 };

static int64_t query_int(struct op *op, const char *name, int64_t fallback)
{
    char text[24];
    char *end = NULL;
    if (!cg_http_query(op->r, name, text, sizeof text))
        return fallback;
    long long v = strtoll(text, &end, 10);
    return text[0] && !*end ? v : fallback;
}

static int64_t limit_of(struct op *op)
{
    int64_t limit = query_int(op, "limit", LIMIT);
    return limit >= 1 && limit <= LIMIT_MAX ? limit : LIMIT;
}

static void on_done(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

static void on_written(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_send_json(ctx, 200);
}

void api_alerts(struct op *op)
{
    int64_t offset = query_int(op, "offset", 0);
    cg_alerts_write(op->api->core, op->key->account, limit_of(op), offset > 0 ? offset : 0,
                    op_json(op));
    op_send_json(op, 200);
}

void api_alert(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_alert_write(op->api->core, op->key->account, op_param(op, "alert"), op_json(op), &e))
        op_fail(op, &e);
    else
        op_send_json(op, 200);
}

void api_alert_resolve(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_alert_resolve(op->api->core, op->key->account, op_param(op, "alert"), on_done, op, &e))
        op_fail(op, &e);
}

void api_alert_rules(struct op *op)
{
    cg_alert_rules_write(op->api->core, op->key->account, op_json(op));
    op_send_json(op, 200);
}

static void set_rule(struct op *op, const struct cg_json *body)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_alert_rule_set(op->api->core, op->key->account, op_param(op, "rule"), body, op_json(op),
                           on_written, op, &e))
        op_fail(op, &e);
}

void api_alert_rule_set(struct op *op)
{
    op_read_json(op, set_rule);
}

/* --- notifications --- */

void api_notifications(struct op *op)
{
    char unread[8];
    bool only = cg_http_query(op->r, "unread", unread, sizeof unread) &&
                (strcmp(unread, "true") == 0 || strcmp(unread, "1") == 0);
    cg_notifications_write(op->api->core, op->key->account, only, limit_of(op), op_json(op));
    op_send_json(op, 200);
}

void api_notifications_unread(struct op *op)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "unread_count", cg_notifications_unread(op->api->core, op->key->account));
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

void api_notification_read(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_notification_read(op->api->core, op->key->account, op_param(op, "notification"),
                              on_done, op, &e))
        op_fail(op, &e);
}

void api_notifications_read_all(struct op *op)
{
    op_outlive(op);
    cg_notifications_read_all(op->api->core, op->key->account, on_done, op);
}

void api_notify_config(struct op *op)
{
    cg_notify_config_write(op->api->core, op->key->account, op_json(op));
    op_send_json(op, 200);
}

static void set_config(struct op *op, const struct cg_json *body)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_notify_config_set(op->api->core, op->key->account, body, on_written, op, &e)) {
        op_fail(op, &e);
        return;
    }
    cg_notify_config_write(op->api->core, op->key->account, op_json(op));
}

void api_notify_config_set(struct op *op)
{
    op_read_json(op, set_config);
}

void api_notify_test(struct op *op)
{
    cg_notify(op->api->core, op->key->account, "", "Test notification",
              "This is what an alert of Caged looks like here.", NULL);
    op_no_content(op);
}
