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
/* It is known, or the operator's. */
bool cg_providers_has(const struct cg_core *c, const char *name);

/* Watches what a living sandbox costs; ends it when its budget is used up. */
void cg_costs_watch(struct cg_sandbox *sb);
/* What a change of the budget changes. */
struct cg_budget_change {
    bool money, count, action;
    int64_t nusd;   /* -1: no limit */
    int64_t tokens; /* 0: no limit */
    bool pause;     /* at 100 percent, instead of an end */
};
/* done when it would survive a crash. CG_CONFLICT unless the sandbox runs or is paused. */
CG_MUST_USE bool cg_costs_set_budget(struct cg_sandbox *sb, const struct cg_budget_change *change,
                                     cg_sandbox_done *done, void *ctx, struct cg_err *e);

#endif
