/* The network policy of sandboxes as the server keeps it: mode and lists in the sandbox's row,
 * given to its warden at the start (config.json) and with every change. Loop thread, but for what
 * writes config.json. docs/egress.md. */
#ifndef CG_CORE_NETWORK_H
#define CG_CORE_NETWORK_H

#include "base/json.h"
#include "base/jsonw.h"
#include "core/core.h"

/* What a create request wants, checked, as an object with mode, allow and deny; *out is the
 * caller's. It says "network_mode", "allowlist", "denylist", or "network": that object or a mode.
 */
CG_MUST_USE bool cg_network_wish(const struct cg_json *body, char **out, struct cg_err *e);
/* What is left after a change: "mode" and "allow"/"deny" replace; "add": {"allow", "deny"} and
 * "remove" change single rules. `now` is an object as above. */
CG_MUST_USE bool cg_network_change(const char *now, const struct cg_json *change, char **out,
                                   struct cg_err *e);
/* The object of a sandbox's row; *out is the caller's. */
char *cg_network_of_row(const struct cg_json *doc);

/* "network_mode", "allowlist", "denylist" of a sandbox's object. */
void cg_network_write_members(const struct cg_sandbox *sb, struct cg_jsonw *w);
/* The member "network" of config.json. */
void cg_network_write_config(const struct cg_sandbox *sb, struct cg_jsonw *w);
/* The member "rules" for a warden, as lists.h has it. */
void cg_network_write_rules(const struct cg_sandbox *sb, const char *rules, struct cg_jsonw *w);

/* This machine's resolvers, when the operator named none. */
void cg_network_resolvers(struct cg_egress_policy *p);

#endif
