/* What was used, by sandbox and day (UTC): compute, model calls, time running. The rows of a
 * sandbox add up to what its warden counted, whatever happened to the server in between. One
 * thread, the loop's. */
#ifndef CG_CORE_USAGE_H
#define CG_CORE_USAGE_H

#include "core/core.h"

enum { CG_DAY_TEXT = 11 };

struct cg_used {
    char day[CG_DAY_TEXT]; /* "2026-11-28" */
    char sandbox[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    int64_t compute_nusd, llm_nusd, running_ms;
};

/* Loads the rows and counts from now on; after the sandboxes are known. */
CG_MUST_USE bool cg_usage_start(struct cg_core *c, struct cg_err *e);
void cg_usage_stop(struct cg_core *c); /* what is counted so far is queued for the store */

/* Counts up to this moment. */
void cg_usage_count(struct cg_core *c);
/* Rows of an account from day to day, both included; oldest first. NULL: no bound. */
void cg_usage_each(const char *account, const char *from, const char *to,
                   void (*each)(void *ctx, const struct cg_used *u), void *ctx);

bool cg_day_valid(const char *text);

#endif
