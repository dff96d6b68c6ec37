/* One parser for what is checked and what is dialled: numbers, compared as numbers. */
#include "egress/policy.h"

#include <string.h>

static bool take_number(const char **p, unsigned max, unsigned *out)
{
    const char *s = *p;
    unsigned v = 0;
    int digits = 0;
    for (; *s >= '0' && *s <= '9' && digits < 6; s++, digits++)
        v = v * 10 + (unsigned)(*s - '0');
    if (digits == 0 || (digits > 1 && **p == '0') || v > max)
        return false;
    *p = s;
    *out = v;
    return true;
}

static bool take_address(const char **p, uint32_t *out)
{
    uint32_t address = 0;
    for (int i = 0; i < 4; i++) {
        unsigned part = 0;
        if (i > 0 && *(*p)++ != '.')
            return false;
        if (!take_number(p, 255, &part))
            return false;
        address = address << 8 | part;
    }
    *out = address;
    return true;
}

bool cg_egress_address_parse(const char *text, uint32_t *out)
{
    return text && take_address(&text, out) && *text == '\0';
}

static uint32_t mask_of(unsigned prefix)
{
    return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

bool cg_egress_rule_parse(const char *text, struct cg_egress_rule *out, struct cg_err *e)
{
    const char *p = text;
    unsigned prefix = 32;
    unsigned port = 0;
    uint32_t address = 0;
    bool fine = take_address(&p, &address);
    if (fine && *p == '/')
        fine = take_number((p++, &p), 32, &prefix);
    if (fine && *p == ':')
        fine = take_number((p++, &p), 65535, &port) && port > 0;
    if (!fine || *p != '\0')
        return cg_fail(e, CG_INVALID,
                       "\"%.64s\" is not an IPv4 network as in 10.0.0.0/8 or 192.0.2.1/32:443",
                       text);
    if (address & ~mask_of(prefix))
        return cg_fail(e, CG_INVALID, "\"%.64s\" has bits behind its prefix of %u", text, prefix);
    *out = (struct cg_egress_rule){address, (uint8_t)prefix, (uint16_t)port};
    return true;
}

void cg_egress_rule_format(const struct cg_egress_rule *r, char out[CG_EGRESS_RULE_TEXT])
{
    uint32_t a = r->address;
    cg_snprintf(out, CG_EGRESS_RULE_TEXT, "%u.%u.%u.%u/%u", a >> 24, a >> 16 & 255, a >> 8 & 255,
                a & 255, r->prefix);
    size_t n = strlen(out);
    if (r->port)
        cg_snprintf(out + n, CG_EGRESS_RULE_TEXT - n, ":%u", r->port);
}

bool cg_egress_name_parse(const char *text, char out[CG_EGRESS_NAME])
{
    size_t n = strlen(text);
    if (n > 0 && text[n - 1] == '.')
        n--;
    if (n == 0 || n > 253)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        bool dot = c == '.';
        if (dot ? label == 0
                : !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
        label = dot ? 0 : label + 1;
        if (label > 63)
            return false;
        out[i] = c;
    }
    out[n] = '\0';
    return label > 0;
}

struct cg_egress_verdict cg_egress_decide(const struct cg_egress_policy *p, uint32_t address,
                                          uint16_t port)
{
    struct cg_egress_verdict v = {.address = address};
    for (unsigned i = 0; i < p->nhosts; i++)
        if (p->hosts[i].address == address && p->hosts[i].to)
            v.address = p->hosts[i].to;
    for (unsigned i = 0; i < p->nrules && !v.rule; i++) {
        const struct cg_egress_rule *r = &p->rules[i];
        if ((v.address & mask_of(r->prefix)) == r->address && (r->port == 0 || r->port == port))
            v.rule = r;
    }
    v.allow = v.rule && port > 0;
    return v;
}

const struct cg_egress_host *cg_egress_find_host(const struct cg_egress_policy *p, const char *name)
{
    for (unsigned i = 0; i < p->nhosts; i++)
        if (cg_streq(p->hosts[i].name, name))
            return &p->hosts[i];
    return NULL;
}
