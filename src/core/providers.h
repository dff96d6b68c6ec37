/* Providers of models as the operator configures them, and what sandboxes are told of them. */
#ifndef CG_CORE_PROVIDERS_H
#define CG_CORE_PROVIDERS_H

#include "core/core.h"

/* The provider that is this server: a script in a model's place, for demonstrations. Its wardens
 * find it on this port. */
#define CG_SCRIPTED "scripted"
void cg_providers_scripted(struct cg_core *c, uint16_t port);

/* The member `gateway` of config.json. */
void cg_providers_write(const struct cg_sandbox *sb, struct cg_jsonw *w);
/* The member `keys` of a `start` request: the only way that keys take. */
void cg_providers_write_keys(const struct cg_sandbox *sb, struct cg_jsonw *w);
/* Members of the guest's environment that `asked` (may be NULL) does not have. */
void cg_providers_env(const struct cg_sandbox *sb, const struct cg_json *asked, struct cg_jsonw *w);
/* Puts the price book, and the operator's prices, into a sandbox's folder. Blocks. */
CG_MUST_USE bool cg_providers_place_prices(const struct cg_sandbox *sb, const char *dir,
                                           struct cg_err *e);

/* Watches what a living sandbox costs; ends it when its budget is used up. */
void cg_costs_watch(struct cg_sandbox *sb);
/* CG_INVALID for a negative limit; `nusd` -1: no limit. done when the warden has it. */
CG_MUST_USE bool cg_costs_set_budget(struct cg_sandbox *sb, int64_t nusd, cg_sandbox_done *done,
                                     void *ctx, struct cg_err *e);

#endif
