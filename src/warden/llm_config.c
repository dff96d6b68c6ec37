/* "gateway":{"token":"run-…","budget_nusd":null,"mode":"flow","bodies":true,
 *   "providers":[{"name":"anthropic","base_url":"https://…","headers":["Name: value"],
 *                 "hosts":["api.…"],"old_chat":false}],
 *   "budget_tokens":null,"leased":false,"pause":false,"intercept":true,
 *   "machine":{"vcpu_hour":…,"gib_hour":…,"disk_gib_hour":…,"egress_gb":…}}
 * budget_nusd, budget_tokens: limits; leased: money of the account comes in slices; machine:
 * nano-dollars.
 * Keys of providers never stand here: they come with the start request. */
#include <string.h>

#include "base/json.h"
#include "egress/policy.h"
#include "warden/llm.h"

static bool get(const struct cg_json *o, const char *key, char *out, size_t size, struct cg_err *e)
{
    const char *s = cg_json_str(o, key);
    if (!s || !s[0] || !cg_strlcpy(out, size, s))
        return cg_fail(e, CG_INVALID, "gateway.%s must be a text of 1 to %zu bytes", key, size - 1);
    return true;
}

static bool get_headers(const struct cg_json *list, struct cg_gateway_provider *p, struct cg_err *e)
{
    size_t n = 0;
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next, n++)
        if (n == CG_GATEWAY_HEADERS || v->type != CG_JSON_STR || strpbrk(v->str.p, "\r\n") ||
            !strchr(v->str.p, ':') || !cg_strlcpy(p->headers[n], CG_GATEWAY_URL, v->str.p))
            return cg_fail(e, CG_INVALID, "gateway.providers: at most %d headers, \"Name: value\"",
                           CG_GATEWAY_HEADERS);
    return true;
}

static bool get_hosts(const struct cg_json *list, struct cg_gateway_provider *p, struct cg_err *e)
{
    char name[CG_EGRESS_NAME];
    size_t n = 0;
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next, n++)
        if (n == CG_GATEWAY_HOSTS || v->type != CG_JSON_STR ||
            !cg_egress_name_parse(v->str.p, name) ||
            !cg_strlcpy(p->hosts[n], CG_GATEWAY_HOST_MAX, name))
            return cg_fail(e, CG_INVALID, "gateway.providers: at most %d names in hosts",
                           CG_GATEWAY_HOSTS);
    return true;
}

static bool get_machine(const struct cg_json *o, struct cg_compute_prices *p, struct cg_err *e)
{
    *p = (struct cg_compute_prices){
        cg_json_int(o, "vcpu_hour", cg_compute_default.vcpu_hour),
        cg_json_int(o, "gib_hour", cg_compute_default.gib_hour),
        cg_json_int(o, "disk_gib_hour", cg_compute_default.disk_gib_hour),
        cg_json_int(o, "egress_gb", cg_compute_default.egress_gb)};
    const int64_t all[] = {p->vcpu_hour, p->gib_hour, p->disk_gib_hour, p->egress_gb};
    for (size_t i = 0; i < CG_COUNT(all); i++)
        if (all[i] < 0 || all[i] > 1000 * CG_USD)
            return cg_fail(e, CG_INVALID, "gateway.machine: prices are 0 to 1000 dollars");
    return true;
}

static bool get_provider(const struct cg_json *o, struct cg_gateway_provider *p, struct cg_err *e)
{
    *p = (struct cg_gateway_provider){.old_chat = cg_json_bool(o, "old_chat", false)};
    if (!get(o, "name", p->name, sizeof p->name, e) ||
        !get(o, "base_url", p->base_url, sizeof p->base_url, e))
        return false;
    if (!cg_has_prefix(p->base_url, "http://") && !cg_has_prefix(p->base_url, "https://"))
        return cg_fail(e, CG_INVALID, "base_url of provider %s must be http:// or https://",
                       p->name);
    return get_headers(cg_json_get(o, "headers"), p, e) && get_hosts(cg_json_get(o, "hosts"), p, e);
}

bool llm_config_parse(const struct cg_json *gateway, struct llm_config *out, struct cg_err *e)
{
    *out = (struct llm_config){.budget_nusd = CG_LEDGER_UNLIMITED,
                               .budget_tokens = CG_LEDGER_UNLIMITED,
                               .machine = cg_compute_default,
                               .bodies = true};
    if (!gateway || gateway->type == CG_JSON_NULL)
        return true;
    if (gateway->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "gateway must be an object");
    const char *mode = cg_json_str(gateway, "mode");
    out->on = true;
    out->strict = cg_streq(mode, "strict");
    out->bodies = cg_json_bool(gateway, "bodies", true);
    out->budget_nusd = cg_json_int(gateway, "budget_nusd", CG_LEDGER_UNLIMITED);
    out->budget_tokens = cg_json_int(gateway, "budget_tokens", CG_LEDGER_UNLIMITED);
    out->leased = cg_json_bool(gateway, "leased", false);
    out->pause = cg_json_bool(gateway, "pause", false);
    out->intercept = cg_json_bool(gateway, "intercept", false);
    if ((mode && !out->strict && !cg_streq(mode, "flow")) || out->budget_nusd < 0 ||
        out->budget_tokens < 0)
        return cg_fail(e, CG_INVALID, "gateway.mode must be flow or strict, budgets not below 0");
    if (!get_machine(cg_json_get(gateway, "machine"), &out->machine, e))
        return false;
    if (!get(gateway, "token", out->token, sizeof out->token, e))
        return false;
    const struct cg_json *list = cg_json_get(gateway, "providers");
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next) {
        if (out->nproviders == CG_GATEWAY_PROVIDERS)
            return cg_fail(e, CG_LIMIT, "more than %d providers", CG_GATEWAY_PROVIDERS);
        if (!get_provider(v, &out->providers[out->nproviders++], e))
            return false;
    }
    return true;
}
