/* /v1/alerts and /v1/notifications: what an account should look at, and how it is told. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/alerts.h"
#include "core/notify.h"

enum { LIMIT = 50, LIMIT_MAX = 100 };

static bool read_limit(struct op *op, int64_t *limit, struct cg_err *e)
{
    if (!op_query_int(op, "limit", INT64_MIN, INT64_MAX, limit, e))
        return false;
    if (*limit < 1 || *limit > LIMIT_MAX)
        *limit = LIMIT;
    return true;
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
    struct cg_err e = CG_ERR_INIT;
    int64_t limit = LIMIT;
    int64_t offset = 0;
    if (!read_limit(op, &limit, &e) ||
        !op_query_int(op, "offset", INT64_MIN, INT64_MAX, &offset, &e)) {
        op_fail(op, &e);
        return;
    }
    cg_alerts_write(op->api->core, op->key->account, limit, CG_MAX(offset, 0), op_json(op));
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
    struct cg_err e = CG_ERR_INIT;
    bool only = false;
    int64_t limit = LIMIT;
    if (!op_query_bool(op, "unread", &only, &e) || !read_limit(op, &limit, &e)) {
        op_fail(op, &e);
        return;
    }
    cg_notifications_write(op->api->core, op->key->account, only, limit, op_json(op));
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
