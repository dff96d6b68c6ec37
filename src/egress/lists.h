/* The sandbox's part of a policy as JSON: {"mode": "full|allowlist|none", "allow": [pattern…],
 * "deny": [pattern…], "registries": [pattern…]}. The word "registries" in `allow` stands for that
 * last list, which the server fills. docs/egress.md. */
#ifndef CG_EGRESS_LISTS_H
#define CG_EGRESS_LISTS_H

#include "base/json.h"
#include "base/jsonw.h"
#include "egress/policy.h"

/* Replaces mode and lists of *p; on failure *p is as before. Members that are missing: mode as it
 * is, lists empty. Errors name the member and the entry. */
CG_MUST_USE bool cg_egress_read_lists(const struct cg_json *o, struct cg_egress_policy *p,
                                      struct cg_err *e);
/* As members "mode", "allow" and "deny" of an object that is open. */
void cg_egress_write_lists(const struct cg_egress_policy *p, struct cg_jsonw *j);

#endif
