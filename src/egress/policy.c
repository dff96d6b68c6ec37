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

bool cg_egress_rule_fits(const struct cg_egress_rule *r, uint32_t address, uint16_t port)
{
    return (address & mask_of(r->prefix)) == r->address && (r->port == 0 || r->port == port);
}

/* --- patterns --- */

static const char *const modes[] = {
    [CG_EGRESS_NONE] = "none", [CG_EGRESS_ALLOWLIST] = "allowlist", [CG_EGRESS_FULL] = "full"};

bool cg_egress_mode_parse(const char *text, enum cg_egress_mode *out)
{
    for (unsigned i = 0; i < CG_COUNT(modes); i++)
        if (cg_streq(modes[i], text)) {
            *out = (enum cg_egress_mode)i;
            return true;
        }
    return false;
}

const char *cg_egress_mode_name(enum cg_egress_mode mode)
{
    return modes[mode];
}

/* A name whose last label is all digits is an address to some programs (1.2.3, 0x7f.1). */
static bool ends_in_number(const char *name)
{
    const char *label = strrchr(name, '.');
    label = label ? label + 1 : name;
    if (label[0] == '0' && label[1] == 'x')
        return true;
    return label[strspn(label, "0123456789")] == '\0';
}

static bool take_port(const char *text, struct cg_egress_pattern *out)
{
    unsigned port = 0;
    if (cg_streq(text, "*")) {
        out->every_port = true;
        return true;
    }
    bool fine = take_number(&text, 65535, &port) && *text == '\0' && port > 0;
    out->port = (uint16_t)port;
    return fine;
}

bool cg_egress_pattern_parse(const char *text, struct cg_egress_pattern *out, struct cg_err *e)
{
    char name[CG_EGRESS_PATTERN_TEXT];
    *out = (struct cg_egress_pattern){.below = false};
    if (text[0] >= '0' && text[0] <= '9' && cg_egress_rule_parse(text, &out->net, NULL))
        return true;
    bool fine = cg_strlcpy(name, sizeof name, text);
    char *colon = fine ? strrchr(name, ':') : NULL;
    if (colon) {
        *colon = '\0';
        fine = take_port(colon + 1, out);
    }
    out->below = fine && strncmp(name, "*.", 2) == 0;
    fine = fine && cg_egress_name_parse(name + (out->below ? 2 : 0), out->name) &&
           !ends_in_number(out->name);
    return fine || cg_fail(e, CG_INVALID,
                           "\"%.64s\" is no rule: a name (example.com), the names below one "
                           "(*.example.com), or an IPv4 network (203.0.113.0/24) is needed, "
                           "perhaps with a port behind a colon",
                           text);
}

void cg_egress_pattern_format(const struct cg_egress_pattern *r, char out[CG_EGRESS_PATTERN_TEXT])
{
    char port[8] = "";
    if (r->preset) {
        (void)cg_strlcpy(out, CG_EGRESS_PATTERN_TEXT, "registries");
        return;
    }
    if (!r->name[0]) {
        cg_egress_rule_format(&r->net, out);
        return;
    }
    if (r->every_port)
        (void)cg_strlcpy(port, sizeof port, ":*");
    else if (r->port)
        cg_snprintf(port, sizeof port, ":%u", r->port);
    cg_snprintf(out, CG_EGRESS_PATTERN_TEXT, "%s%s%s", r->below ? "*." : "", r->name, port);
}

bool cg_egress_pattern_fits_name(const struct cg_egress_pattern *r, const char *name)
{
    if (!r->name[0])
        return false;
    if (!r->below)
        return strcmp(r->name, name) == 0;
    size_t n = strlen(name);
    size_t tail = strlen(r->name);
    return n > tail + 1 && name[n - tail - 1] == '.' && strcmp(name + n - tail, r->name) == 0;
}

bool cg_egress_pattern_fits(const struct cg_egress_pattern *r, const char *name, uint16_t port)
{
    bool port_fits = r->every_port || (r->port ? r->port == port : port == 80 || port == 443);
    return port_fits && cg_egress_pattern_fits_name(r, name);
}

const struct cg_egress_host *cg_egress_find_host(const struct cg_egress_policy *p, const char *name)
{
    for (unsigned i = 0; i < p->nhosts; i++)
        if (cg_streq(p->hosts[i].name, name))
            return &p->hosts[i];
    return NULL;
}
