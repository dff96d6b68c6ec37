/* Everything is checked here, so that the rest of the warden takes the values as they are. */
#include "warden/config.h"

#include <string.h>

#include "egress/lists.h"

struct section {
    const char *name; /* NULL: the whole */
    const char *const *members;
};

static const char *const whole_members[] = {
    "v",   "id",      "account", "template", "hostname", "shape", "agent",  "driver", "isolation",
    "env", "network", "record",  "timeouts", "gateway",  "vm",    "idle_s", "trust",  NULL};
static const char *const shape_members[] = {"vcpus", "mem_mib", "disk_mib", NULL};
static const char *const network_members[] = {"allow",  "hosts", "resolvers",
                                              "models", "rules", NULL};
static const char *const record_members[] = {"quota_bytes", "segment_bytes", NULL};
static const char *const timeout_members[] = {"boot_ms", "connect_ms", "grace_ms", NULL};

static const char *const trust_members[] = {"known", NULL};
static const char *const vm_members[] = {"restore", "make_golden", "without_ram", "same", NULL};

static const struct section sections[] = {
    {NULL, whole_members},      {"shape", shape_members},      {"network", network_members},
    {"record", record_members}, {"timeouts", timeout_members}, {"vm", vm_members},
    {"trust", trust_members},
};

static bool known(const char *const *members, struct cg_slice name)
{
    for (; *members; members++)
        if (cg_slice_eq(name, *members))
            return true;
    return false;
}

static bool check_members(const struct cg_json *root, struct cg_err *e)
{
    for (size_t i = 0; i < CG_COUNT(sections); i++) {
        const char *name = sections[i].name;
        const struct cg_json *o = name ? cg_json_get(root, name) : root;
        if (!o)
            continue;
        if (o->type != CG_JSON_OBJ)
            return cg_fail(e, CG_INVALID, "%s must be an object", name ? name : "the text");
        for (const struct cg_json *m = o->child; m; m = m->next)
            if (!known(sections[i].members, m->key))
                return cg_fail(e, CG_INVALID, "unknown member %.*s%s%s", (int)CG_MIN(m->key.n, 40),
                               m->key.p, name ? " in " : "", name ? name : "");
    }
    return true;
}

static bool get_text(const struct cg_json *o, const char *key, bool must, char *out, size_t size,
                     struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(o, key);
    out[0] = '\0';
    if (!v || v->type == CG_JSON_NULL)
        return !must || cg_fail(e, CG_INVALID, "%s is missing", key);
    const char *s = cg_json_str(o, key);
    if (!s || !cg_strlcpy(out, size, s) || (must && !s[0]))
        return cg_fail(e, CG_INVALID, "%s must be a text of 1 to %zu bytes", key, size - 1);
    return true;
}

static bool get_number(const struct cg_json *o, const char *key, int64_t fallback, int64_t min,
                       int64_t max, int64_t *out, struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(o, key);
    *out = fallback;
    if (!v)
        return true;
    if (v->type != CG_JSON_INT || v->integer < min || v->integer > max)
        return cg_fail(e, CG_INVALID, "%s must be %lld to %lld", key, (long long)min,
                       (long long)max);
    *out = v->integer;
    return true;
}

static bool get_u32(const struct cg_json *o, const char *key, uint32_t fallback, uint32_t min,
                    uint32_t max, uint32_t *out, struct cg_err *e)
{
    int64_t v = 0;
    if (!get_number(o, key, fallback, min, max, &v, e))
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool get_env(struct cg_warden_config *c, struct cg_err *e)
{
    c->env = cg_json_get(c->root, "env");
    if (!c->env)
        return true;
    if (c->env->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "env must be an object of strings");
    for (const struct cg_json *v = c->env->child; v; v = v->next)
        if (v->type != CG_JSON_STR)
            return cg_fail(e, CG_INVALID, "env.%.*s must be a string", (int)CG_MIN(v->key.n, 40),
                           v->key.p);
    return true;
}

static bool get_host(const struct cg_json *o, struct cg_egress_host *out, struct cg_err *e)
{
    const char *name = cg_json_str(o, "name");
    const char *to = cg_json_str(o, "to");
    *out = (struct cg_egress_host){.to = 0};
    if (!name || !cg_egress_name_parse(name, out->name) ||
        !cg_egress_address_parse(cg_json_str(o, "address"), &out->address) ||
        (to && !cg_egress_address_parse(to, &out->to)))
        return cg_fail(e, CG_INVALID,
                       "network.hosts: an entry needs name, address and may have to (IPv4)");
    return true;
}

static bool get_resolvers(const struct cg_json *list, struct cg_egress_policy *p, struct cg_err *e)
{
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next)
        if (p->nresolvers == CG_EGRESS_RESOLVERS || v->type != CG_JSON_STR ||
            !cg_egress_rule_parse(v->str.p, &p->resolvers[p->nresolvers++], e))
            return cg_fail(e, CG_INVALID, "network.resolvers must be at most %d IPv4 addresses",
                           CG_EGRESS_RESOLVERS);
    return true;
}

static bool get_models(const struct cg_json *list, struct cg_egress_policy *p, struct cg_err *e)
{
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next)
        if (p->nmodels == CG_EGRESS_MODELS || v->type != CG_JSON_STR ||
            !cg_egress_pattern_parse(v->str.p, &p->models[p->nmodels++], e))
            return cg_fail(e, CG_INVALID, "network.models must be at most %d host names",
                           CG_EGRESS_MODELS);
    return true;
}

static bool get_network(const struct cg_json *o, struct cg_egress_policy *p, struct cg_err *e)
{
    const struct cg_json *allow = cg_json_get(o, "allow");
    const struct cg_json *hosts = cg_json_get(o, "hosts");
    const struct cg_json *rules = cg_json_get(o, "rules");
    if ((allow && allow->type != CG_JSON_ARR) || (hosts && hosts->type != CG_JSON_ARR))
        return cg_fail(e, CG_INVALID, "network.allow and network.hosts must be lists");
    p->mode = CG_EGRESS_ALLOWLIST; /* of what the operator opened */
    for (const struct cg_json *v = allow ? allow->child : NULL; v; v = v->next) {
        if (p->nrules == CG_EGRESS_RULES)
            return cg_fail(e, CG_LIMIT, "network.allow has more than %d entries", CG_EGRESS_RULES);
        if (v->type != CG_JSON_STR || strlen(v->str.p) != v->str.n)
            return cg_fail(e, CG_INVALID, "network.allow must be a list of texts");
        if (!cg_egress_rule_parse(v->str.p, &p->rules[p->nrules++], e))
            return cg_wrap(e, "network.allow");
    }
    for (const struct cg_json *v = hosts ? hosts->child : NULL; v; v = v->next) {
        if (p->nhosts == CG_EGRESS_HOSTS)
            return cg_fail(e, CG_LIMIT, "network.hosts has more than %d entries", CG_EGRESS_HOSTS);
        if (!get_host(v, &p->hosts[p->nhosts++], e))
            return false;
    }
    return get_resolvers(cg_json_get(o, "resolvers"), p, e) &&
           get_models(cg_json_get(o, "models"), p, e) &&
           (!rules || cg_egress_read_lists(rules, p, e) || cg_wrap(e, "network.rules"));
}

static bool get_all(struct cg_warden_config *c, struct cg_err *e)
{
    const struct cg_json *o = c->root;
    const struct cg_json *shape = cg_json_get(o, "shape");
    const struct cg_json *record = cg_json_get(o, "record");
    const struct cg_json *timeouts = cg_json_get(o, "timeouts");
    int64_t quota = 0;
    int64_t segment = 0;
    c->isolation = cg_json_get(o, "isolation");
    if (c->isolation && c->isolation->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "isolation must be an object");
    if (!get_text(o, "id", true, c->id, sizeof c->id, e) ||
        !get_text(o, "account", false, c->account, sizeof c->account, e) ||
        !get_text(o, "template", false, c->template_name, sizeof c->template_name, e) ||
        !get_text(o, "hostname", false, c->hostname, sizeof c->hostname, e) ||
        !get_text(o, "agent", false, c->agent, sizeof c->agent, e) ||
        !get_text(o, "driver", false, c->driver, sizeof c->driver, e) ||
        !get_u32(shape, "vcpus", 1, 1, 64, &c->vcpus, e) ||
        !get_u32(shape, "mem_mib", 512, 64, 1 << 20, &c->mem_mib, e) ||
        !get_u32(shape, "disk_mib", 1024, 1, 1 << 26, &c->disk_mib, e) ||
        !get_number(record, "quota_bytes", 0, 0, INT64_MAX / 4, &quota, e) ||
        !get_number(record, "segment_bytes", 0, 0, INT64_C(1) << 40, &segment, e) ||
        !get_u32(timeouts, "boot_ms", 60000, 100, 3600000, &c->boot_ms, e) ||
        !get_u32(timeouts, "connect_ms", 10000, 100, 600000, &c->connect_ms, e) ||
        !llm_config_parse(cg_json_get(o, "gateway"), &c->llm, e) ||
        !get_u32(timeouts, "grace_ms", 5000, 0, 600000, &c->grace_ms, e))
        return false;
    const struct cg_json *vm = cg_json_get(o, "vm");
    c->idle_s = (uint32_t)CG_MAX(0, CG_MIN(cg_json_int(o, "idle_s", 0), 2592000));
    c->restore = cg_json_bool(vm, "restore", false);
    c->make_golden = cg_json_bool(vm, "make_golden", false);
    c->same = cg_json_bool(vm, "same", false);
    c->without_ram = cg_json_bool(vm, "without_ram", false);
    c->quota_bytes = (uint64_t)quota;
    c->segment_bytes = (uint64_t)segment;
    if (!cg_id_valid(c->id, "cage"))
        return cg_fail(e, CG_INVALID, "id \"%s\" is not a sandbox id", c->id);
    if (!c->hostname[0])
        (void)cg_strlcpy(c->hostname, sizeof c->hostname, c->id);
    return get_env(c, e) && get_network(cg_json_get(o, "network"), &c->network, e);
}

bool cg_warden_config_parse(struct cg_slice text, struct cg_warden_config *out, struct cg_err *e)
{
    *out = (struct cg_warden_config){.root = NULL};
    static const struct cg_json_limits limits = {CG_WARDEN_CONFIG_MAX, 16, 8192};
    out->root = cg_json_parse(text, &limits, e);
    bool fine = out->root && check_members(out->root, e);
    if (fine && cg_json_int(out->root, "v", 0) != 1)
        fine = cg_fail(e, CG_UNSUPPORTED, "v must be 1");
    if (fine && get_all(out, e))
        return true;
    cg_warden_config_finish(out);
    return cg_wrap(e, "config.json");
}

void cg_warden_config_finish(struct cg_warden_config *c)
{
    cg_json_destroy(c->root);
    c->root = NULL;
    c->env = c->isolation = NULL;
}
