/* Alerts: what the owner of an account should look at, raised by rules that the account switches
 * and tunes. One open alert a rule, sandbox and step; it stays until it is resolved. Durable before
 * anybody is told. docs/alerts.md. */
#ifndef CG_CORE_ALERTS_H
#define CG_CORE_ALERTS_H

#include "core/core.h"

enum { CG_ALERTS_MAX = 500 }; /* of an account; the oldest resolved ones go first */

/* Loads alerts and rules, begins to watch; after cg_scores_start. */
CG_MUST_USE bool cg_alerts_start(struct cg_core *c, struct cg_err *e);
void cg_alerts_finish(struct cg_core *c);

/* The score of a sandbox moved; `last` (may be NULL) is the deduction that did it. */
void cg_alerts_score(struct cg_sandbox *sb, const struct cg_json *last);

/* {alerts, total, limit, offset}, newest first. */
void cg_alerts_write(struct cg_core *c, const char *account, int64_t limit, int64_t offset,
                     struct cg_jsonw *w);
CG_MUST_USE bool cg_alert_write(struct cg_core *c, const char *account, const char *id,
                                struct cg_jsonw *w, struct cg_err *e);
CG_MUST_USE bool cg_alert_resolve(struct cg_core *c, const char *account, const char *id,
                                  cg_store_done *done, void *ctx, struct cg_err *e);
void cg_alert_rules_write(struct cg_core *c, const char *account, struct cg_jsonw *w);
/* body: any of enabled and config; done when durable. The rule is written to w. */
CG_MUST_USE bool cg_alert_rule_set(struct cg_core *c, const char *account, const char *id,
                                   const struct cg_json *body, struct cg_jsonw *w,
                                   cg_store_done *done, void *ctx, struct cg_err *e);

/* Spent in each step of time, oldest first: is the last `recent` steps' sum at least `times` the
 * usual one of as many steps before? Needs twice as many steps before, and a floor of money. */
bool cg_alerts_anomaly(const int64_t *spent_nusd, unsigned n, unsigned recent, double times);

#endif
