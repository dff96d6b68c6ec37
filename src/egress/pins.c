#include "egress/pins.h"

#include <stdlib.h>
#include <string.h>

#include "egress/judge.h"

struct pin {
    char name[CG_EGRESS_NAME];
    struct cg_dns_addresses addresses;
    unsigned ntold; /* the first of them are what the guest is told now */
    int64_t told_until;
    int64_t until; /* 0: free */
    uint64_t used; /* when it was asked for last, in asks */
};

struct cg_pins {
    struct pin all[CG_PINS];
    uint64_t asks;
};

struct cg_pins *cg_pins_create(void)
{
    return cg_alloc(sizeof(struct cg_pins));
}

void cg_pins_destroy(struct cg_pins *p)
{
    free(p);
}

static struct pin *find(struct cg_pins *p, const char *name)
{
    for (unsigned i = 0; i < CG_PINS; i++)
        if (p->all[i].until && strcmp(p->all[i].name, name) == 0)
            return &p->all[i];
    return NULL;
}

static struct pin *oldest(struct cg_pins *p)
{
    struct pin *old = &p->all[0];
    for (unsigned i = 1; i < CG_PINS && old->until; i++)
        if (!p->all[i].until || p->all[i].used < old->used)
            old = &p->all[i];
    return old;
}

/* An address that a name had before stays its own while the guest may still use it. */
static void keep_earlier(struct cg_dns_addresses *now, const struct cg_dns_addresses *before)
{
    for (unsigned i = 0; i < before->n && now->n < CG_DNS_ADDRESSES; i++) {
        bool there = false;
        for (unsigned k = 0; k < now->n; k++)
            there |= now->of[k] == before->of[i];
        if (!there)
            now->of[now->n++] = before->of[i];
    }
}

void cg_pins_put(struct cg_pins *p, const char *name, struct cg_dns_addresses *a, int64_t now)
{
    struct pin *pin = find(p, name);
    a->ttl = CG_MIN(CG_MAX(a->ttl, (uint32_t)CG_PIN_TTL_MIN), (uint32_t)CG_PIN_TTL_MAX);
    struct cg_dns_addresses all = *a;
    if (pin && pin->until > now)
        keep_earlier(&all, &pin->addresses);
    if (!pin)
        pin = oldest(p);
    *pin = (struct pin){.addresses = all,
                        .ntold = a->n,
                        .told_until = now + a->ttl,
                        .until = now + a->ttl + CG_PIN_GRACE,
                        .used = ++p->asks};
    (void)cg_strlcpy(pin->name, sizeof pin->name, name);
}

bool cg_pins_get(struct cg_pins *p, const char *name, int64_t now, struct cg_dns_addresses *out)
{
    struct pin *pin = find(p, name);
    if (!pin || pin->told_until <= now)
        return false;
    pin->used = ++p->asks;
    *out = pin->addresses;
    out->n = pin->ntold;
    out->ttl = (uint32_t)(pin->told_until - now);
    return true;
}

static bool has(const struct pin *pin, uint32_t address)
{
    for (unsigned i = 0; i < pin->addresses.n; i++)
        if (pin->addresses.of[i] == address)
            return true;
    return false;
}

unsigned cg_pins_names(const struct cg_pins *p, uint32_t address, int64_t now,
                       const char *out[CG_PIN_NAMES])
{
    const struct pin *found[CG_PIN_NAMES] = {NULL};
    unsigned n = 0;
    for (unsigned i = 0; i < CG_PINS; i++) {
        const struct pin *pin = &p->all[i];
        if (pin->until <= now || !has(pin, address))
            continue;
        if (n == CG_PIN_NAMES && found[n - 1]->used > pin->used)
            continue;
        unsigned at = n < CG_PIN_NAMES ? n++ : n - 1; /* the oldest gives way */
        found[at] = pin;
        for (; at > 0 && found[at - 1]->used < found[at]->used; at--) {
            const struct pin *older = found[at - 1];
            found[at - 1] = found[at];
            found[at] = older;
        }
    }
    for (unsigned i = 0; i < n; i++)
        out[i] = found[i]->name;
    return n;
}

void cg_pins_drop(struct cg_pins *p, const struct cg_egress_policy *policy)
{
    for (unsigned i = 0; i < CG_PINS; i++)
        if (p->all[i].until && !cg_egress_judge_name(policy, p->all[i].name).allow)
            p->all[i].until = 0;
}

unsigned cg_pins_count(const struct cg_pins *p, int64_t now)
{
    unsigned n = 0;
    for (unsigned i = 0; i < CG_PINS; i++)
        n += p->all[i].until > now;
    return n;
}
