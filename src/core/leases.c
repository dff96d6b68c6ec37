#include "core/leases.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/money.h"
#include "core/wclient.h"

/* A slice: a dollar, or a twentieth of a small budget; never less than what is asked. */
#define SLICE CG_USD

static const char item_kind[] = "account_budget";

enum { MONTH_TEXT = 8, DOC_MAX = 4 << 20 };

struct lease {
    struct lease *next;
    char sandbox[CG_ID_TEXT];
    int64_t total;     /* what its warden may ever commit */
    int64_t base;      /* of that, what counted in earlier months */
    int64_t committed; /* as told last; -1: not yet */
    int64_t wants;     /* waits for what others give back; 0: nothing */
    int64_t emptied;   /* what was left of it when it was called back last; -1: never */
    bool saving;       /* the last slice is not in the store yet */
    bool recalling;    /* its warden is asked to give back */
    bool again;        /* to be told what it has as soon as neither is so */
};

struct budget {
    struct cg_core *core;
    char account[CG_ID_TEXT];
    char month[MONTH_TEXT]; /* "2026-11" */
    int64_t limit;          /* -1: none */
    int64_t spent;          /* this month, by sandboxes that have ended */
    unsigned recalls;       /* under way */
    struct lease *leases;
};

static struct cg_map table; /* account: struct budget */

static void this_month(char out[MONTH_TEXT])
{
    time_t now = (time_t)(cg_wall_ns() / 1000000000);
    struct tm tm;
    gmtime_r(&now, &tm);
    cg_snprintf(out, MONTH_TEXT, "%04d-%02d", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1);
}

static struct budget *find(const char *account)
{
    return cg_map_get(&table, account);
}

static struct budget *find_or_make(struct cg_core *c, const char *account)
{
    struct budget *b = find(account);
    if (b)
        return b;
    b = cg_alloc(sizeof *b);
    b->core = c;
    b->limit = -1;
    (void)cg_strlcpy(b->account, sizeof b->account, account);
    this_month(b->month);
    cg_map_put(&table, account, b);
    return b;
}

static struct lease *lease_of(struct budget *b, const char *sandbox, bool make)
{
    for (struct lease *l = b->leases; l; l = l->next)
        if (cg_streq(l->sandbox, sandbox))
            return l;
    if (!make)
        return NULL;
    struct lease *l = cg_alloc(sizeof *l);
    (void)cg_strlcpy(l->sandbox, sizeof l->sandbox, sandbox);
    l->committed = l->emptied = -1;
    l->next = b->leases;
    b->leases = l;
    return l;
}

static int64_t leased(const struct budget *b)
{
    int64_t sum = 0;
    for (const struct lease *l = b->leases; l; l = l->next)
        sum += l->total - l->base;
    return sum;
}

/* A new month: what a living sandbox has spent counted in the old one, what it still has in hand
 * counts in the new. Of one that has not told what it spent, all counts. */
static void roll(struct budget *b)
{
    char now[MONTH_TEXT];
    this_month(now);
    if (cg_streq(now, b->month))
        return;
    (void)cg_strlcpy(b->month, sizeof b->month, now);
    b->spent = 0;
    for (struct lease *l = b->leases; l; l = l->next)
        if (l->committed > l->base)
            l->base = CG_MIN(l->committed, l->total);
}

static int64_t left(const struct budget *b)
{
    return b->limit < 0 ? INT64_MAX / 4 : b->limit - b->spent - leased(b);
}

/* Whether something of it may come back: it is not on its way, and has grown since it was asked. */
static bool recallable(const struct lease *l)
{
    return !l->saving && !l->recalling && l->total > l->emptied && l->committed >= 0 &&
           l->total > CG_MAX(l->committed, l->base);
}

/* --- the store --- */

static void save(struct budget *b, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_jsonw w;
    cg_buf_init(&text, DOC_MAX);
    cg_jsonw_init(&w, &text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "month", b->month);
    cg_jsonw_kint(&w, "limit", b->limit);
    cg_jsonw_kint(&w, "spent", b->spent);
    cg_jsonw_key(&w, "leases");
    cg_jsonw_arr(&w);
    for (const struct lease *l = b->leases; l; l = l->next) {
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "sandbox", l->sandbox);
        cg_jsonw_kint(&w, "total", l->total);
        cg_jsonw_kint(&w, "base", l->base);
        cg_jsonw_obj_end(&w);
    }
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {item_kind, b->account, b->account, cg_buf_cstr(&text)};
    cg_store_put_item(b->core->store, &item, done, ctx);
}

static void load(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *doc = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *month = cg_json_str(doc, "month");
    const struct cg_json *list = cg_json_get(doc, "leases");
    if (!month) {
        cg_log(CG_LOG_ERROR, CG_EVENT("account_budget.bad_row"), CG_S("account", i->id));
        return;
    }
    struct budget *b = find_or_make(ctx, i->id);
    (void)cg_strlcpy(b->month, sizeof b->month, month);
    b->limit = cg_json_int(doc, "limit", -1);
    b->spent = cg_json_int(doc, "spent", 0);
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next) {
        struct lease *l = lease_of(b, cg_json_str(v, "sandbox"), true);
        l->total = cg_json_int(v, "total", 0);
        l->base = cg_json_int(v, "base", 0);
    }
}

bool cg_leases_start(struct cg_core *c, struct cg_err *e)
{
    cg_map_init(&table);
    return cg_store_each_item(c->store, item_kind, load, c, e);
}

static void free_budget(struct budget *b)
{
    while (b->leases) {
        struct lease *l = b->leases;
        b->leases = l->next;
        free(l);
    }
    free(b);
}

void cg_leases_finish(struct cg_core *c)
{
    const char *key;
    void *value;
    (void)c;
    for (size_t at = 0; cg_map_next(&table, &at, &key, &value);)
        free_budget(value);
    cg_map_finish(&table);
    cg_map_init(&table);
}

bool cg_leases_has(const struct cg_core *c, const char *account)
{
    const struct budget *b = find(account);
    (void)c;
    return b && b->limit >= 0;
}

bool cg_leases_allow(struct cg_core *c, const char *account, struct cg_err *e)
{
    struct budget *b = find(account);
    if (!b || b->limit < 0)
        return true;
    roll(b);
    int64_t there = left(b);
    for (const struct lease *l = b->leases; l; l = l->next) {
        const struct cg_sandbox *sb = cg_core_find(c, l->sandbox);
        if (sb && sb->warden && recallable(l)) /* nobody can ask a paused one */
            there += l->total - CG_MAX(l->committed, l->base);
    }
    return there > 0 || cg_fail(e, CG_LIMIT,
                                "the account's budget of this month is used up; raise it "
                                "with: caged budget account set DOLLARS");
}

/* --- wardens --- */

struct telling {
    struct cg_wcall call;
    char sandbox[CG_ID_TEXT];
    struct cg_core *core;
    int64_t limit; /* -1: none */
    bool more;
};

static void on_answer(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    (void)result;
    (void)error; /* a warden that did not hear it asks again */
    free(CG_CONTAINER(call, struct telling, call));
}

/* What is told is in the store. */
static void tell(void *ctx, const struct cg_err *err)
{
    struct telling *n = ctx;
    struct cg_sandbox *sb = cg_core_find(n->core, n->sandbox);
    struct budget *b = sb ? find(sb->account) : NULL;
    struct lease *l = b ? lease_of(b, n->sandbox, false) : NULL;
    char text[128];
    /* the account's budget is another by now: that has been told */
    bool stale = n->limit >= 0 && (!l || b->limit < 0 || n->limit > l->total);
    if (l) {
        l->saving = false;
        n->more |= l->again;
        l->again = false;
    }
    if (n->limit < 0)
        cg_snprintf(text, sizeof text, "{\"kind\":\"lease\",\"limit_nusd\":null}");
    else
        cg_snprintf(text, sizeof text, "{\"kind\":\"lease\",\"limit_nusd\":%lld,\"more\":%s}",
                    (long long)n->limit, n->more ? "true" : "false");
    n->call.on_close = on_answer;
    if (err || stale || !sb || !sb->warden || sb->destroying ||
        !cg_wcall_open(sb->warden, &n->call, cg_slice_of(text), NULL))
        free(n);
}

static struct telling *telling_of(struct cg_core *c, const char *sandbox, int64_t limit, bool more)
{
    struct telling *n = cg_alloc(sizeof *n);
    n->core = c;
    n->limit = limit;
    n->more = more;
    (void)cg_strlcpy(n->sandbox, sizeof n->sandbox, sandbox);
    return n;
}

static void grant(struct budget *b, struct lease *l, int64_t want)
{
    int64_t slice = CG_MIN(SLICE, CG_MAX(b->limit / 20, 1));
    int64_t room = CG_MAX(left(b), 0);
    int64_t give = CG_MIN(CG_MAX(want, slice), room);
    l->total += give;
    l->saving = true;
    save(b, tell, telling_of(b->core, l->sandbox, l->total, give >= want));
}

/* --- what others have in hand --- */

struct recall {
    struct cg_wcall call;
    char account[CG_ID_TEXT];
    char sandbox[CG_ID_TEXT];
};

/* All have answered, or are gone: those that waited share what there is now. */
static void serve_waiting(struct budget *b)
{
    for (struct lease *l = b->leases; l; l = l->next) {
        int64_t want = l->wants;
        l->wants = 0;
        if (want > 0 && !l->saving)
            grant(b, l, want);
    }
}

/* What its warden kept is on its disk: no crash lets it spend the rest. */
static void on_recalled(struct cg_wcall *call, const struct cg_json *result,
                        const struct cg_err *error)
{
    struct recall *n = CG_CONTAINER(call, struct recall, call);
    struct budget *b = find(n->account);
    struct lease *l = b ? lease_of(b, n->sandbox, false) : NULL;
    int64_t kept = error ? -1 : cg_json_int(result, "limit_nusd", -1);
    if (l) {
        l->recalling = false;
        if (kept >= 0) {
            l->total = CG_MAX(CG_MIN(l->total, kept), l->base);
            l->emptied = l->total;
        }
        if (l->again) /* less than the store has: it need not be written first */
            tell(telling_of(b->core, l->sandbox, l->total, true), NULL);
    }
    if (b && b->recalls > 0 && --b->recalls == 0)
        serve_waiting(b);
    free(n);
}

static bool recall(struct budget *b, struct lease *l)
{
    const struct cg_sandbox *sb = cg_core_find(b->core, l->sandbox);
    if (!recallable(l) || !sb || !sb->warden || sb->destroying)
        return false;
    struct recall *n = cg_alloc(sizeof *n);
    (void)cg_strlcpy(n->account, sizeof n->account, b->account);
    (void)cg_strlcpy(n->sandbox, sizeof n->sandbox, l->sandbox);
    n->call.on_close = on_recalled;
    if (!cg_wcall_open(sb->warden, &n->call, cg_slice_of("{\"kind\":\"lease\",\"recall\":true}"),
                       NULL)) {
        free(n);
        return false;
    }
    l->recalling = true;
    b->recalls++;
    return true;
}

/* True: it waits for what others give back. */
static bool recall_others(struct budget *b, struct lease *l, int64_t want)
{
    for (struct lease *other = b->leases; other; other = other->next)
        if (other != l)
            (void)recall(b, other);
    if (b->recalls == 0)
        return false;
    l->wants = want;
    return true;
}

/* Some of what others have may still come back: it is on its way to them, or they have not said
 * what they used. */
static bool unsettled(const struct budget *b, const struct lease *l)
{
    for (const struct lease *o = b->leases; o; o = o->next) {
        const struct cg_sandbox *sb = o == l ? NULL : cg_core_find(b->core, o->sandbox);
        if (sb && sb->warden && !sb->destroying && (o->saving || o->recalling || o->committed < 0))
            return true;
    }
    return false;
}

/* Its lease; the first is what it has already, and only what it has not spent counts. */
static struct lease *lease_told(struct budget *b, const struct cg_sandbox *sb, int64_t has,
                                int64_t committed)
{
    bool first = !lease_of(b, sb->id, false);
    struct lease *l = lease_of(b, sb->id, true);
    if (committed >= 0)
        l->committed = committed;
    if (first) {
        l->base = CG_MAX(committed, 0);
        l->total = CG_MAX(has, l->base);
    }
    return l;
}

/* Into the store, then to its warden. */
static void tell_again(struct budget *b, struct lease *l)
{
    l->saving = true;
    save(b, tell, telling_of(b->core, l->sandbox, l->total, true));
}

void cg_leases_told(struct cg_sandbox *sb, const struct cg_json *costs)
{
    struct budget *b = find(sb->account);
    int64_t want = cg_json_int(costs, "want_nusd", 0);
    int64_t has = cg_json_int(costs, "lease_nusd", -1); /* -1: as much as it likes */
    if (!b || sb->destroying || !cg_json_get(costs, "lease_nusd"))
        return;
    if (b->limit < 0) {
        if (has >= 0) /* the budget went while it could not be told */
            tell(telling_of(b->core, sb->id, -1, true), NULL);
        return;
    }
    roll(b);
    struct lease *l = lease_told(b, sb, has, cg_json_int(costs, "committed_nusd", -1));
    if (l->saving || l->recalling || l->wants > 0)
        return;
    if (has < 0 || (want > 0 && has < l->total))
        tell_again(b, l); /* the budget came, or the last slice, while it could not be told */
    else if (want > 0 && (left(b) >= want || (!recall_others(b, l, want) && !unsettled(b, l))))
        grant(b, l, want);
}

void cg_leases_ended(struct cg_sandbox *sb, int64_t committed)
{
    struct budget *b = find(sb->account);
    struct lease **at = b ? &b->leases : NULL;
    while (at && *at && !cg_streq((*at)->sandbox, sb->id))
        at = &(*at)->next;
    if (!at || !*at)
        return;
    struct lease *l = *at;
    roll(b);
    int64_t used = committed < 0 ? l->total : committed;
    b->spent += CG_MAX(used - l->base, 0);
    *at = l->next;
    free(l);
    save(b, NULL, NULL);
}

/* --- the account --- */

/* A sandbox that runs goes on with what it has committed, and asks for more. */
static void tell_running(struct budget *b)
{
    for (struct cg_sandbox *sb = b->core->first; sb; sb = sb->next) {
        if (!cg_streq(sb->account, b->account) || !sb->warden || sb->destroying)
            continue;
        if (b->limit < 0) {
            tell(telling_of(b->core, sb->id, -1, true), NULL);
            continue;
        }
        struct lease *l = lease_of(b, sb->id, false);
        if (!l) {
            l = lease_of(b, sb->id, true);
            l->total = l->base = l->committed = sb->committed_nusd;
        }
        if (l->saving || l->recalling) {
            l->again = true; /* two words under way could overtake each other */
            continue;
        }
        tell(telling_of(b->core, sb->id, l->total, true), NULL);
    }
}

void cg_leases_set(struct cg_core *c, const char *account, int64_t nusd, cg_store_done *done,
                   void *ctx)
{
    struct budget *b = find_or_make(c, account);
    roll(b);
    b->limit = nusd;
    if (nusd < 0) {
        while (b->leases) {
            struct lease *l = b->leases;
            b->leases = l->next;
            free(l);
        }
        b->spent = 0;
    }
    tell_running(b);
    save(b, done, ctx);
}

void cg_leases_write(struct cg_core *c, const char *account, struct cg_jsonw *w)
{
    struct budget none = {.limit = -1};
    struct budget *b = find(account);
    (void)c;
    if (b)
        roll(b);
    else
        this_month((b = &none)->month);
    int64_t used = b->spent;
    int64_t hand = 0;
    for (const struct lease *l = b->leases; l; l = l->next) {
        int64_t gone = CG_MAX(l->committed < 0 ? l->base : CG_MIN(l->committed, l->total), l->base);
        used += gone - l->base;
        hand += l->total - gone;
    }
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "month", b->month);
    cg_jsonw_key(w, "budget");
    if (b->limit < 0)
        cg_jsonw_null(w);
    else
        cg_jsonw_num(w, cg_money_usd(b->limit));
    cg_jsonw_knum(w, "spent", cg_money_usd(used));
    cg_jsonw_knum(w, "leased", cg_money_usd(hand));
    if (b->limit >= 0)
        cg_jsonw_knum(w, "left", cg_money_usd(CG_MAX(left(b), 0)));
    cg_jsonw_obj_end(w);
}
