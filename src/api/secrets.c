/* /v1/secrets: names, hosts and times of an account's secrets. A value goes in and never out. */
#include <string.h>

#include "api/api.h"
#include "core/secrets.h"

void api_secrets(struct op *op)
{
    cg_core_secrets_write(op->api->core, op->key->account, op_json(op));
    op_send_json(op, 200);
}

static void on_saved(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_send_json(ctx, 200);
}

static void set(struct op *op, const struct cg_json *body)
{
    struct cg_core *c = op->api->core;
    struct cg_err e = CG_ERR_INIT;
    const char *name = op_param(op, "name");
    const struct cg_json *value = cg_json_get(body, "value");
    const struct cg_json *hosts = cg_json_get(body, "hosts");
    if (!name && !body_str(body, "name", &name, &e)) {
        op_fail(op, &e);
        return;
    }
    if (!name || !value || value->type != CG_JSON_STR) {
        op_problem(op, 400, "invalid", "%s is needed, as text", name ? "value" : "name");
        return;
    }
    if (hosts && hosts->type == CG_JSON_NULL)
        hosts = NULL;
    op_outlive(op);
    if (!cg_core_secret_set(c, op->key->account, name, value->str, hosts, on_saved, op, &e)) {
        op_fail(op, &e);
        return;
    }
    cg_core_secret_write(c, op->key->account, name, op_json(op));
}

void api_secrets_set(struct op *op)
{
    op_read_json(op, set);
}

static void on_deleted(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

void api_secrets_delete(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_core_secret_delete(op->api->core, op->key->account, op_param(op, "name"), on_deleted,
                               op, &e))
        op_fail(op, &e);
}
