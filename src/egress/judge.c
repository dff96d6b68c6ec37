#include "egress/judge.h"

#include <string.h>

/* Addresses that are no place on the public network (the special-purpose registries of RFC 6890),
 * and those where clouds keep the credentials of a machine. The first that fits is named. */
static const struct special {
    const char *text;
    uint32_t address;
    uint8_t prefix;
} specials[] = {
    {"metadata 169.254.169.254/32", 0xa9fea9fe, 32}, {"metadata 168.63.129.16/32", 0xa83f8110, 32},
    {"metadata 100.100.100.200/32", 0x646464c8, 32}, {"this-network 0.0.0.0/8", 0x00000000, 8},
    {"private 10.0.0.0/8", 0x0a000000, 8},           {"shared 100.64.0.0/10", 0x64400000, 10},
    {"loopback 127.0.0.0/8", 0x7f000000, 8},         {"link-local 169.254.0.0/16", 0xa9fe0000, 16},
    {"private 172.16.0.0/12", 0xac100000, 12},       {"reserved 192.0.0.0/24", 0xc0000000, 24},
    {"reserved 192.0.2.0/24", 0xc0000200, 24},       {"reserved 192.88.99.0/24", 0xc0586300, 24},
    {"private 192.168.0.0/16", 0xc0a80000, 16},      {"reserved 198.18.0.0/15", 0xc6120000, 15},
    {"reserved 198.51.100.0/24", 0xc6336400, 24},    {"reserved 203.0.113.0/24", 0xcb007100, 24},
    {"multicast 224.0.0.0/4", 0xe0000000, 4},        {"reserved 240.0.0.0/4", 0xf0000000, 4},
};

static const char models_rule[] = "models without the gateway";

const char *cg_egress_special(uint32_t address)
{
    for (size_t i = 0; i < CG_COUNT(specials); i++)
        if ((address & UINT32_MAX << (32 - specials[i].prefix)) == specials[i].address)
            return specials[i].text;
    return NULL;
}

uint32_t cg_egress_leads_to(const struct cg_egress_policy *p, uint32_t address)
{
    for (unsigned i = 0; i < p->nhosts; i++)
        if (p->hosts[i].address == address && p->hosts[i].to)
            return p->hosts[i].to;
    return address;
}

bool cg_egress_opened(const struct cg_egress_policy *p, uint32_t address)
{
    uint32_t to = cg_egress_leads_to(p, address);
    for (unsigned i = 0; i < p->nrules; i++)
        if (cg_egress_rule_fits(&p->rules[i], to, p->rules[i].port))
            return true;
    return false;
}

static struct cg_egress_verdict say(struct cg_egress_verdict v, bool allow, const char *rule)
{
    v.allow = allow;
    (void)cg_strlcpy(v.rule, sizeof v.rule, rule);
    return v;
}

static struct cg_egress_verdict say_pattern(struct cg_egress_verdict v, bool allow,
                                            const struct cg_egress_pattern *r)
{
    char text[CG_EGRESS_PATTERN_TEXT];
    cg_egress_pattern_format(r, text);
    v.allow = allow;
    cg_snprintf(v.rule, sizeof v.rule, "%s %s", allow ? "allow" : "deny", text);
    return v;
}

static struct cg_egress_verdict say_mode(struct cg_egress_verdict v,
                                         const struct cg_egress_policy *p)
{
    char text[32];
    cg_snprintf(text, sizeof text, "mode %s", cg_egress_mode_name(p->mode));
    return say(v, p->mode == CG_EGRESS_FULL, text);
}

static const struct cg_egress_pattern *find_net(const struct cg_egress_pattern *list, unsigned n,
                                                uint32_t address, uint16_t port)
{
    for (unsigned i = 0; i < n; i++)
        if (!list[i].name[0] && cg_egress_rule_fits(&list[i].net, address, port))
            return &list[i];
    return NULL;
}

static const struct cg_egress_pattern *find_name(const struct cg_egress_pattern *list, unsigned n,
                                                 const char *name, uint16_t port)
{
    for (unsigned i = 0; i < n; i++)
        if (cg_egress_pattern_fits(&list[i], name, port))
            return &list[i];
    return NULL;
}

/* A denied name without a port is denied on all: who denies a host means the host. */
static const struct cg_egress_pattern *find_denied(const struct cg_egress_policy *p,
                                                   const char *name, uint16_t port)
{
    for (unsigned i = 0; i < p->ndeny; i++)
        if (cg_egress_pattern_fits_name(&p->deny[i], name) &&
            (!p->deny[i].port || p->deny[i].port == port))
            return &p->deny[i];
    return NULL;
}

static bool denies_names(const struct cg_egress_policy *p)
{
    for (unsigned i = 0; i < p->ndeny; i++)
        if (p->deny[i].name[0])
            return true;
    return false;
}

static bool sells_models(const struct cg_egress_policy *p, const char *name)
{
    for (unsigned i = 0; i < p->nmodels; i++)
        if (cg_egress_pattern_fits_name(&p->models[i], name))
            return true;
    return false;
}

/* In an allowlist: the first of the names that is allowed there. */
static struct cg_egress_verdict by_name(const struct cg_egress_policy *p,
                                        const struct cg_egress_ask *a, struct cg_egress_verdict v)
{
    for (unsigned i = 0; i < a->nnames; i++) {
        const struct cg_egress_pattern *r = find_name(p->allow, p->nallow, a->names[i], a->port);
        if (r && !find_denied(p, a->names[i], a->port)) {
            v.name = a->names[i];
            v.look = v.by_name = true;
            return say_pattern(v, true, r);
        }
    }
    v.name = NULL;
    return say_mode(v, p);
}

struct cg_egress_verdict cg_egress_judge(const struct cg_egress_policy *p,
                                         const struct cg_egress_ask *a)
{
    struct cg_egress_verdict v = {.address = cg_egress_leads_to(p, a->address)};
    const struct cg_egress_pattern *r = find_net(p->deny, p->ndeny, v.address, a->port);
    if (!r)
        r = find_net(p->deny, p->ndeny, a->address, a->port);
    if (r)
        return say_pattern(v, false, r);
    if (a->port == 0)
        return say(v, false, "no port");
    if (p->mode == CG_EGRESS_NONE)
        return say_mode(v, p);
    v.look = denies_names(p) || (p->nmodels > 0 && a->port == 443);
    v.name = a->nnames > 0 ? a->names[0] : NULL;
    for (unsigned i = 0; i < p->nrules; i++)
        if (cg_egress_rule_fits(&p->rules[i], v.address, a->port)) {
            cg_egress_rule_format(&p->rules[i], v.rule);
            v.allow = true;
            return v;
        }
    const char *special = cg_egress_special(v.address);
    if (special || a->own)
        return say(v, false, special ? special : "this machine's own address");
    if (p->mode == CG_EGRESS_FULL)
        return say_mode(v, p);
    r = find_net(p->allow, p->nallow, v.address, a->port);
    if (r)
        return say_pattern(v, true, r);
    return by_name(p, a, v);
}

/* The rule that lets a name through to this address under an allowlist. */
static struct cg_egress_verdict judge_seen_name(const struct cg_egress_policy *p,
                                                const struct cg_egress_ask *a,
                                                struct cg_egress_verdict v, const char *name)
{
    const struct cg_egress_pattern *r = find_name(p->allow, p->nallow, name, a->port);
    v.name = NULL;
    if (!r)
        return say_mode(v, p);
    for (unsigned i = 0; i < a->nnames; i++)
        if (strcmp(a->names[i], name) == 0) {
            v.name = a->names[i];
            return say_pattern(v, true, r);
        }
    return say(v, false, "name was not resolved to this address");
}

struct cg_egress_verdict cg_egress_judge_sight(const struct cg_egress_policy *p,
                                               const struct cg_egress_ask *a,
                                               enum cg_egress_sight sight, const char *name)
{
    static const char *const nameless[] = {[CG_SIGHT_TLS_NO_NAME] = "TLS without a server name",
                                           [CG_SIGHT_TLS_HIDDEN] = "TLS with an encrypted hello",
                                           [CG_SIGHT_HTTP_NO_NAME] = "HTTP without one Host"};
    struct cg_egress_verdict v = cg_egress_judge(p, a);
    if (!v.allow || !v.look)
        return v;
    bool named = sight == CG_SIGHT_TLS || sight == CG_SIGHT_HTTP;
    const struct cg_egress_pattern *denied = named ? find_denied(p, name, a->port) : NULL;
    v.look = false;
    if (denied)
        return say_pattern(v, false, denied);
    if (named && sells_models(p, name))
        return say(v, false, models_rule);
    if (!v.by_name)
        return v;
    if (named)
        return judge_seen_name(p, a, v, name);
    if (sight != CG_SIGHT_OTHER && sight != CG_SIGHT_SILENT)
        return say(v, false, nameless[sight]);
    /* other protocols say no name: they pass on ports that the rule names itself */
    if (a->port == 80 || a->port == 443)
        return say(v, false, a->port == 443 ? "no TLS on port 443" : "no HTTP on port 80");
    return v;
}

struct cg_egress_verdict cg_egress_judge_name(const struct cg_egress_policy *p, const char *name)
{
    struct cg_egress_verdict v = {.name = name};
    if (sells_models(p, name))
        return say(v, false, models_rule);
    for (unsigned i = 0; i < p->ndeny; i++)
        if (!p->deny[i].port && cg_egress_pattern_fits_name(&p->deny[i], name))
            return say_pattern(v, false, &p->deny[i]);
    for (unsigned i = 0; p->mode == CG_EGRESS_ALLOWLIST && i < p->nallow; i++)
        if (cg_egress_pattern_fits_name(&p->allow[i], name))
            return say_pattern(v, true, &p->allow[i]);
    return say_mode(v, p);
}
