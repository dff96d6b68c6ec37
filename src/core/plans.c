#include "core/plans.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/money.h"
#include "core/core.h"

static const struct {
    const char *key;
    uint32_t max;
    size_t at;
} numbers[] = {
    {"compute_hours", 1000000, offsetof(struct cg_plan, compute_hours)},
    {"sandboxes", 4096, offsetof(struct cg_plan, sandboxes)},
    {"requests_per_minute", 1000000, offsetof(struct cg_plan, requests_per_minute)},
    {"keys", 100000, offsetof(struct cg_plan, keys)},
    {"cpus", 8, offsetof(struct cg_plan, cpus)},
    {"memory_mb", 8192, offsetof(struct cg_plan, memory_mb)},
    {"disk_gb", 50, offsetof(struct cg_plan, disk_gb)},
    {"timeout", 2592000, offsetof(struct cg_plan, timeout_s)},
};

static uint32_t number(const struct cg_plan *p, size_t i)
{
    uint32_t value = 0;
    memcpy(&value, (const char *)p + numbers[i].at, sizeof value);
    return value;
}

static bool set_number(struct cg_plan *p, size_t i, const char *text, struct cg_err *e)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || value < 1 || value > numbers[i].max)
        return cg_fail(e, CG_INVALID,
                       "%s of a plan is a number from 1 to %u; leave it out for none",
                       numbers[i].key, numbers[i].max);
    uint32_t small = (uint32_t)value;
    memcpy((char *)p + numbers[i].at, &small, sizeof small);
    return true;
}

bool cg_plan_set(struct cg_plan *p, const char *key, const char *value, struct cg_err *e)
{
    if (strcmp(key, "price") == 0)
        return cg_money_parse(cg_slice_of(value), &p->price_nusd, e);
    for (size_t i = 0; i < CG_COUNT(numbers); i++)
        if (strcmp(key, numbers[i].key) == 0)
            return set_number(p, i, value, e);
    return cg_fail(e, CG_INVALID,
                   "unknown key; a plan has price, compute_hours, sandboxes, requests_per_minute, "
                   "keys, cpus, memory_mb, disk_gb, timeout");
}

bool cg_plans_name(struct cg_plans *p, const char *who, const char *plan, struct cg_err *e)
{
    if (p->npeople == CG_PLAN_PEOPLE)
        return cg_fail(e, CG_INVALID, "%d accounts may be named", CG_PLAN_PEOPLE);
    p->people = cg_realloc(p->people, (p->npeople + 1) * sizeof *p->people);
    struct cg_plan_person *n = &p->people[p->npeople];
    if (!cg_strlcpy(n->who, sizeof n->who, who) || !cg_strlcpy(n->plan, sizeof n->plan, plan))
        return cg_fail(e, CG_INVALID, "an address or account, and a plan, are needed");
    p->npeople++;
    return true;
}

static const struct cg_plan *find(const struct cg_plans *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->plan[i].name, name) == 0)
            return &p->plan[i];
    return NULL;
}

bool cg_plans_check(const struct cg_plans *p, struct cg_err *e)
{
    static const char none[] = "there is no plan %.15s in the section plans";
    if (p->usual[0] && !find(p, p->usual))
        return cg_fail(e, CG_INVALID, none, p->usual);
    for (size_t i = 0; i < p->npeople; i++)
        if (!find(p, p->people[i].plan))
            return cg_fail(e, CG_INVALID, none, p->people[i].plan);
    return true;
}

void cg_plans_finish(struct cg_plans *p)
{
    free(p->people);
    p->people = NULL;
    p->npeople = 0;
}

/* --- use --- */

const struct cg_plan *cg_plan_of(const struct cg_core *c, const char *account)
{
    const struct cg_plans *p = &c->options.plans;
    const struct cg_store_account *a = p->n ? cg_map_get(&c->accounts, account) : NULL;
    for (size_t i = 0; a && i < p->npeople; i++)
        if (cg_streq(p->people[i].who, a->id) || cg_streq(p->people[i].who, a->email))
            return find(p, p->people[i].plan);
    return a && !cg_streq(a->tier, "owner") && p->usual[0] ? find(p, p->usual) : NULL;
}

static bool fits(const struct cg_plan *p, const char *what, uint32_t wanted, uint32_t limit,
                 struct cg_err *e)
{
    return limit == 0 || wanted <= limit ||
           cg_fail(e, CG_LIMIT, "the plan %s allows %u %s for a sandbox, not %u", p->name, limit,
                   what, wanted);
}

bool cg_plan_admit(const struct cg_core *c, const char *account, const struct cg_spec *s,
                   struct cg_err *e)
{
    const struct cg_plan *p = cg_plan_of(c, account);
    uint32_t run = 0;
    if (!p)
        return true;
    if (!fits(p, "cpus", s->cpus, p->cpus, e) ||
        !fits(p, "MB of memory", s->memory_mb, p->memory_mb, e) ||
        !fits(p, "GB of disk", s->disk_gb, p->disk_gb, e))
        return false;
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        run += cg_streq(sb->account, account) && sb->slot > 0 && &sb->spec != s &&
               (sb->status != CG_STATUS_PAUSED || sb->creating);
    return p->sandboxes == 0 || run < p->sandboxes ||
           cg_fail(e, CG_LIMIT, "the plan %s allows %u sandboxes at once: pause or destroy some",
                   p->name, p->sandboxes);
}

uint32_t cg_plan_timeout(const struct cg_core *c, const char *account, uint32_t timeout_s)
{
    const struct cg_plan *p = cg_plan_of(c, account);
    if (!p || p->timeout_s == 0)
        return timeout_s;
    return timeout_s == 0 ? p->timeout_s : CG_MIN(timeout_s, p->timeout_s);
}

void cg_plan_write(const struct cg_plan *p, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", p->name);
    cg_jsonw_knum(w, "price_usd", cg_money_usd(p->price_nusd));
    for (size_t i = 0; i < CG_COUNT(numbers); i++) {
        cg_jsonw_key(w, numbers[i].key);
        if (number(p, i))
            cg_jsonw_uint(w, number(p, i));
        else
            cg_jsonw_null(w);
    }
    cg_jsonw_obj_end(w);
}
