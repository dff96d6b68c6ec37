/* The verdicts of a policy, each with the rule that it comes from. A connection is judged by the
 * address that is dialled, the port, the names that the resolver gave the guest for that address,
 * and, where names decide, by the name that the connection itself says (TLS, HTTP). Pure. */
#ifndef CG_EGRESS_JUDGE_H
#define CG_EGRESS_JUDGE_H

#include "egress/policy.h"

/* What the first bytes of a connection are. */
enum cg_egress_sight {
    CG_SIGHT_TLS,         /* TLS for `name` */
    CG_SIGHT_TLS_NO_NAME, /* TLS that names no host */
    CG_SIGHT_TLS_HIDDEN,  /* TLS with an encrypted hello: its name may not be the true one */
    CG_SIGHT_HTTP,        /* HTTP/1 for `name` */
    CG_SIGHT_HTTP_NO_NAME,
    CG_SIGHT_OTHER,
    CG_SIGHT_SILENT, /* the guest has said nothing within the time */
};

struct cg_egress_ask {
    uint32_t address; /* that the guest connects to, host order */
    uint16_t port;
    bool own;                 /* where it leads is an address of this machine */
    const char *const *names; /* that were resolved to it */
    unsigned nnames;
};

struct cg_egress_verdict {
    bool allow;
    bool look;        /* allowed only if its first bytes are: ask cg_egress_judge_sight */
    bool by_name;     /* only because of a name that was resolved to it */
    uint32_t address; /* where to connect, translated by a host entry */
    const char *name; /* one of ask.names, or NULL */
    char rule[CG_EGRESS_WHY];
};

/* Where a connection to `address` is dialled. */
uint32_t cg_egress_leads_to(const struct cg_egress_policy *p, uint32_t address);
/* "private 10.0.0.0/8" and the like for what is not a public address, NULL for what is. */
const char *cg_egress_special(uint32_t address);
/* Some rule of the operator's opens the address, whatever the port. */
bool cg_egress_opened(const struct cg_egress_policy *p, uint32_t address);

struct cg_egress_verdict cg_egress_judge(const struct cg_egress_policy *p,
                                         const struct cg_egress_ask *a);
/* `name` is NULL when the sight has none. */
struct cg_egress_verdict cg_egress_judge_sight(const struct cg_egress_policy *p,
                                               const struct cg_egress_ask *a,
                                               enum cg_egress_sight sight, const char *name);
/* Whether a name may be looked up. */
struct cg_egress_verdict cg_egress_judge_name(const struct cg_egress_policy *p, const char *name);

#endif
