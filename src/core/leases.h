/* Month budgets of accounts. The ledger that counts is each warden's own; what an account may spend
 * is leased to wardens in slices: a slice is kept in the store before its warden hears of it, and
 * what a sandbox has not used comes back when it has ended, as its record tells, or when another
 * one wants it: then its warden lowers its limit, on its disk first, and says what it kept. So the
 * sum of what wardens may spend never passes the budget, whoever crashes. One thread, the loop's.
 */
#ifndef CG_CORE_LEASES_H
#define CG_CORE_LEASES_H

#include "base/json.h"
#include "base/jsonw.h"
#include "core/core.h"

CG_MUST_USE bool cg_leases_start(struct cg_core *c, struct cg_err *e);
void cg_leases_finish(struct cg_core *c);

bool cg_leases_has(const struct cg_core *c, const char *account);
/* CG_LIMIT when nothing of the month's budget is left, nor in the hands of others, unused. */
CG_MUST_USE bool cg_leases_allow(struct cg_core *c, const char *account, struct cg_err *e);

/* What a warden told (`costs`): `want_nusd`, `lease_nusd`, `committed_nusd`. */
void cg_leases_told(struct cg_sandbox *sb, const struct cg_json *costs);
/* It has ended; `committed` is what its ledger settled and held, -1 when nobody knows. */
void cg_leases_ended(struct cg_sandbox *sb, int64_t committed);

/* Nano-dollars a month; -1: none. Counts from now on; sandboxes that run are under it at once. */
void cg_leases_set(struct cg_core *c, const char *account, int64_t nusd, cg_store_done *done,
                   void *ctx);
/* {"month","budget","spent","leased","left"}; budget null: none. */
void cg_leases_write(struct cg_core *c, const char *account, struct cg_jsonw *w);

#endif
