/* What a sandbox may reach. Two parts: the operator's (addresses that are open to every sandbox,
 * static host names), and the sandbox's own (a mode, and patterns that allow or deny). Pure values
 * and pure functions: numbers are compared with numbers, names in one form. Addresses that are not
 * public are refused in every mode unless the operator names them. docs/egress.md has the rules. */
#ifndef CG_EGRESS_POLICY_H
#define CG_EGRESS_POLICY_H

#include "base/err.h"

enum {
    CG_EGRESS_RULES = 32,
    CG_EGRESS_HOSTS = 96,
    CG_EGRESS_MODELS = 64,
    CG_EGRESS_NAME = 254,
    CG_EGRESS_RULE_TEXT = 32,
    CG_EGRESS_RESOLVERS = 4,
    CG_EGRESS_PATTERNS = 128, /* in each of the two lists */
    CG_EGRESS_PRESETS = 128,  /* more in `allow`, that "registries" stands for */
    CG_EGRESS_PATTERN_TEXT = CG_EGRESS_NAME + 10, /* "*." in front, ":65535" behind */
    CG_EGRESS_WHY = CG_EGRESS_PATTERN_TEXT + 8    /* "allow " in front */
};

/* Where guests find the LLM gateway: a name and an address that exist inside a sandbox only. */
#define CG_GATEWAY_HOST "gateway.caged.internal"
#define CG_GATEWAY_ADDRESS UINT32_C(0xac1e0101) /* 172.30.1.1 */
enum { CG_GATEWAY_PORT = 80, CG_GATEWAY_TLS_PORT = 443 };

struct cg_egress_rule {
    uint32_t address; /* host order, bits behind the prefix are 0 */
    uint8_t prefix;   /* 0..32 */
    uint16_t port;    /* 0: every port */
};

/* A name that the resolver answers itself. */
struct cg_egress_host {
    char name[CG_EGRESS_NAME]; /* lower case, no dot at the end */
    uint32_t address;          /* what the guest is told */
    uint32_t to;               /* where connections to `address` go; 0: to `address` itself */
};

enum cg_egress_mode { CG_EGRESS_NONE, CG_EGRESS_ALLOWLIST, CG_EGRESS_FULL };

/* A line of a list: "example.com", "*.example.com" (names below it, not itself), "example.com:22",
 * "example.com:*", or an address as in struct cg_egress_rule. A name without a port is its ports 80
 * and 443. */
struct cg_egress_pattern {
    char name[CG_EGRESS_NAME]; /* without "*."; empty: an address */
    bool below;                /* "*." stands in front */
    bool every_port;           /* ":*" */
    bool preset;               /* comes from "registries", which stands in its place */
    uint16_t port;             /* of a name; 0: none given */
    struct cg_egress_rule net;
};

struct cg_egress_policy {
    /* the operator's */
    struct cg_egress_rule rules[CG_EGRESS_RULES];
    unsigned nrules;
    struct cg_egress_host hosts[CG_EGRESS_HOSTS];
    unsigned nhosts;
    struct cg_egress_rule resolvers[CG_EGRESS_RESOLVERS]; /* of this machine; port 0: 53 */
    unsigned nresolvers;
    /* Names under which models are sold and that the gateway does not serve: spending that nobody
     * counts is refused, whatever the sandbox's lists say. Behind a "*." where all below is meant.
     */
    struct cg_egress_pattern models[CG_EGRESS_MODELS];
    unsigned nmodels;
    /* the sandbox's */
    enum cg_egress_mode mode;
    struct cg_egress_pattern allow[CG_EGRESS_PATTERNS + CG_EGRESS_PRESETS];
    unsigned nallow;
    struct cg_egress_pattern deny[CG_EGRESS_PATTERNS];
    unsigned ndeny;
};

/* "10.0.0.0/8", "192.0.2.1", "10.0.0.0/8:443"; strict: four decimal numbers without leading zeros,
 * no bits behind the prefix. */
CG_MUST_USE bool cg_egress_rule_parse(const char *text, struct cg_egress_rule *out,
                                      struct cg_err *e);
void cg_egress_rule_format(const struct cg_egress_rule *r, char out[CG_EGRESS_RULE_TEXT]);
CG_MUST_USE bool cg_egress_address_parse(const char *text, uint32_t *out);

/* Letters, digits, "-" and "_" in labels of 1..63, 253 in all; lower-cased into out; a dot at the
 * end is dropped. */
CG_MUST_USE bool cg_egress_name_parse(const char *text, char out[CG_EGRESS_NAME]);

/* "full", "allowlist", "none". */
CG_MUST_USE bool cg_egress_mode_parse(const char *text, enum cg_egress_mode *out);
const char *cg_egress_mode_name(enum cg_egress_mode mode);

CG_MUST_USE bool cg_egress_pattern_parse(const char *text, struct cg_egress_pattern *out,
                                         struct cg_err *e);
/* The form that parses to an equal one. */
void cg_egress_pattern_format(const struct cg_egress_pattern *r, char out[CG_EGRESS_PATTERN_TEXT]);
bool cg_egress_pattern_fits_name(const struct cg_egress_pattern *r, const char *name);
/* Also the port. */
bool cg_egress_pattern_fits(const struct cg_egress_pattern *r, const char *name, uint16_t port);

bool cg_egress_rule_fits(const struct cg_egress_rule *r, uint32_t address, uint16_t port);
const struct cg_egress_host *cg_egress_find_host(const struct cg_egress_policy *p,
                                                 const char *name);

#endif
