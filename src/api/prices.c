/* /v1/prices: the price book, and what the owner of this server sets or imports over it. */
#include <math.h>

#include "api/api.h"
#include "core/models.h"
#include "gateway/price.h"

static bool is_owner(struct op *op)
{
    const struct cg_store_account *a = cg_map_get(&op->api->core->accounts, op->key->account);
    if (a && cg_streq(a->tier, "owner"))
        return true;
    op_problem(op, 403, "policy_denied", "only the owner of this server may set prices");
    return false;
}

void api_prices(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    char provider[CG_PROVIDER_MAX], model[CG_MODEL_MAX];
    bool by_provider = cg_http_query_has(op->r, "provider");
    bool by_model = cg_http_query_has(op->r, "model");
    bool whole = false;
    if (op_query_str(op, "provider", provider, sizeof provider, &e) &&
        op_query_str(op, "model", model, sizeof model, &e) &&
        op_query_bool(op, "all", &whole, &e) &&
        cg_prices_show(op->api->core, by_provider ? provider : NULL, by_model ? model : NULL, whole,
                       op_json(op), &e))
        op_send_json(op, 200);
    else
        op_fail(op, &e);
}

/* Dollars per million tokens, as nano-dollars. */
static bool read_price(const struct cg_json *b, const char *key, int64_t *npm, struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(b, key);
    *npm = -1;
    if (!v || v->type == CG_JSON_NULL)
        return true;
    if ((v->type != CG_JSON_INT && v->type != CG_JSON_NUM) || !(v->number >= 0) || v->number > 1e6)
        return cg_fail(e, CG_INVALID, "%s must be dollars per million tokens", key);
    *npm = (int64_t)ceil(v->number * (double)CG_USD);
    return true;
}

static bool read_set(const struct cg_json *b, struct cg_price_set *s, struct cg_err *e)
{
    const char *from = NULL;
    *s = (struct cg_price_set){.provider = cg_json_str(b, "provider"),
                               .model = cg_json_str(b, "model"),
                               .from_ns = INT64_MIN};
    if (!s->provider || !s->model)
        return cg_fail(e, CG_INVALID, "provider and model are needed, as texts");
    for (int i = 0; i < CG_CLASS_COUNT; i++)
        if (!read_price(b, cg_class_names[i], &s->npm[i], e))
            return false;
    if (!body_int(b, "context", 0, 1000000000, &s->context, e) ||
        !body_int(b, "max_output", 0, 1000000000, &s->max_output, e) ||
        !body_str(b, "from", &from, e))
        return false;
    return !from || cg_price_date(from, &s->from_ns) ||
           cg_fail(e, CG_INVALID, "from must be a date such as 2026-10-07");
}

static void set(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_price_set s;
    if (!is_owner(op))
        return;
    if (read_set(b, &s, &e) && cg_prices_change(op->api->core, &s, &e) &&
        cg_prices_show(op->api->core, s.provider, s.model, false, op_json(op), &e))
        op_send_json(op, 200);
    else
        op_fail(op, &e);
}

void api_prices_set(struct op *op)
{
    op_read_json(op, set);
}

static void take(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    const struct cg_json *text = cg_json_get(b, "text");
    size_t count = 0;
    if (!is_owner(op))
        return;
    if (!text || text->type != CG_JSON_STR) {
        op_problem(op, 400, "invalid", "text is needed: the file as it is");
        return;
    }
    if (!cg_prices_take(op->api->core, text->str, cg_json_str(b, "name"), &count, &e)) {
        op_fail(op, &e);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "imported", count);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

void api_prices_import(struct op *op)
{
    op_read_json(op, take);
}
