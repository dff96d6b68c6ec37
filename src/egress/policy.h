/* What a sandbox may reach: the operator's list of addresses, and static host names. Pure values;
 * the next steps (names, TLS, secrets) add kinds of rules here and look-ups in front of them. */
#ifndef CG_EGRESS_POLICY_H
#define CG_EGRESS_POLICY_H

#include "base/err.h"

enum { CG_EGRESS_RULES = 32, CG_EGRESS_HOSTS = 32, CG_EGRESS_NAME = 254, CG_EGRESS_RULE_TEXT = 32 };

/* Where guests find the LLM gateway: a name and an address that exist inside a sandbox only. */
#define CG_GATEWAY_HOST "gateway.caged.internal"
#define CG_GATEWAY_ADDRESS UINT32_C(0xac1e0101) /* 172.30.1.1 */
enum { CG_GATEWAY_PORT = 80 };

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

struct cg_egress_policy {
    struct cg_egress_rule rules[CG_EGRESS_RULES];
    unsigned nrules;
    struct cg_egress_host hosts[CG_EGRESS_HOSTS];
    unsigned nhosts;
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

struct cg_egress_verdict {
    bool allow;
    uint32_t address;                  /* where to connect, translated by a host entry */
    const struct cg_egress_rule *rule; /* that allows it; NULL: none */
};

/* The verdict on a connection of the guest to address:port (host order). The rule must allow the
 * translated address: it is the one that is dialled. */
struct cg_egress_verdict cg_egress_decide(const struct cg_egress_policy *p, uint32_t address,
                                          uint16_t port);
const struct cg_egress_host *cg_egress_find_host(const struct cg_egress_policy *p,
                                                 const char *name);

#endif
