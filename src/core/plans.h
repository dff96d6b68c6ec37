/* Plans: limits, and a price a month, that the operator's file gives to accounts. Nobody has a plan
 * unless it says so, and the owner of the server only when it names them. Nothing is charged: a
 * plan's price stands on statements (docs/billing.md). */
#ifndef CG_CORE_PLANS_H
#define CG_CORE_PLANS_H

#include "base/err.h"

enum { CG_PLANS = 16, CG_PLAN_NAME = 16, CG_PLAN_PEOPLE = 1024 };

struct cg_plan { /* 0: no limit of its own */
    char name[CG_PLAN_NAME];
    int64_t price_nusd;           /* a month */
    uint32_t compute_hours;       /* of a month, that are not charged beside the price */
    uint32_t sandboxes;           /* running at once */
    uint32_t requests_per_minute; /* a key, in place of limits.requests_per_minute */
    uint32_t keys;
    uint32_t cpus, memory_mb, disk_gb; /* of one sandbox */
    uint32_t timeout_s;                /* longest idle time; a longer one, or none, is clamped */
};

struct cg_plans {
    struct cg_plan plan[CG_PLANS];
    size_t n;
    char usual[CG_PLAN_NAME]; /* of who is not named; empty: none */
    struct cg_plan_person {
        char who[128]; /* an address, or the id of an account or team */
        char plan[CG_PLAN_NAME];
    } * people; /* owned */
    size_t npeople;
};

/* One key of a plan's map. */
CG_MUST_USE bool cg_plan_set(struct cg_plan *p, const char *key, const char *value,
                             struct cg_err *e);
CG_MUST_USE bool cg_plans_name(struct cg_plans *p, const char *who, const char *plan,
                               struct cg_err *e);
/* CG_INVALID when a plan is named that is none. */
CG_MUST_USE bool cg_plans_check(const struct cg_plans *p, struct cg_err *e);
void cg_plans_finish(struct cg_plans *p);

struct cg_core;
struct cg_spec;
struct cg_jsonw;

/* NULL: the account has none. */
const struct cg_plan *cg_plan_of(const struct cg_core *c, const char *account);
/* May the account have this sandbox beside those that it runs? CG_LIMIT names the plan's limit. */
CG_MUST_USE bool cg_plan_admit(const struct cg_core *c, const char *account,
                               const struct cg_spec *s, struct cg_err *e);
uint32_t cg_plan_timeout(const struct cg_core *c, const char *account, uint32_t timeout_s);
/* As an object. */
void cg_plan_write(const struct cg_plan *p, struct cg_jsonw *w);

#endif
