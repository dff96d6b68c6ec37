/* What the resolver has told the guest: names, their addresses, and how long that holds. A
 * connection to one of these addresses is judged by the names it has here. Bounded; the name that
 * was not asked for longest gives way. Pure. */
#ifndef CG_EGRESS_PINS_H
#define CG_EGRESS_PINS_H

#include "egress/dnsmsg.h"
#include "egress/policy.h"

enum {
    CG_PINS = 512,
    CG_PIN_NAMES = 16,   /* of one address, newest first */
    CG_PIN_TTL_MIN = 30, /* seconds that the guest is told */
    CG_PIN_TTL_MAX = 300,
    CG_PIN_GRACE = 120, /* seconds that a pin outlives what the guest was told */
};

struct cg_pins;

CG_MUST_USE struct cg_pins *cg_pins_create(void);
void cg_pins_destroy(struct cg_pins *p); /* NULL is fine */

/* `now` is in seconds of any clock that does not jump. The ttl is brought into its bounds. */
void cg_pins_put(struct cg_pins *p, const char *name, struct cg_dns_addresses *a, int64_t now);
/* What is still to be told of a name, with the seconds that are left. False: ask anew. */
CG_MUST_USE bool cg_pins_get(struct cg_pins *p, const char *name, int64_t now,
                             struct cg_dns_addresses *out);
/* The names of an address; they stay in place until the next put. */
unsigned cg_pins_names(const struct cg_pins *p, uint32_t address, int64_t now,
                       const char *out[CG_PIN_NAMES]);
/* Forgets what the policy no longer resolves. */
void cg_pins_drop(struct cg_pins *p, const struct cg_egress_policy *policy);
unsigned cg_pins_count(const struct cg_pins *p, int64_t now);

#endif
