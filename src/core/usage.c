/* Usage by sandbox and day: see usage.h. A row grows by what the sandbox's totals have grown beyond
 * the sum of its rows, so nothing is counted twice and nothing is lost when the server was away. */
#include "core/usage.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

enum { COUNT_MS = 30000 };

static const char kind_usage[] = "usage";

struct sum {
    int64_t compute_nusd, llm_nusd;
};

static struct cg_used *rows; /* in the order of their days */
static size_t nrows, cap;
static struct cg_map sums; /* sandbox: struct sum of its rows */
static uv_timer_t timer;
static struct cg_listener listener;

bool cg_day_valid(const char *text)
{
    static const char shape[] = "dddd-dd-dd";
    if (strlen(text) != sizeof shape - 1)
        return false;
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i])
            return false;
    return true;
}

static void today(char out[CG_DAY_TEXT])
{
    char text[CG_TIME_TEXT];
    cg_time_format(cg_wall_ns(), text);
    text[CG_DAY_TEXT - 1] = '\0';
    cg_strlcpy(out, CG_DAY_TEXT, text);
}

static struct sum *sum_of(const char *sandbox)
{
    struct sum *s = cg_map_get(&sums, sandbox);
    if (!s) {
        s = cg_alloc(sizeof *s);
        cg_map_put(&sums, sandbox, s);
    }
    return s;
}

static struct cg_used *add_row(const struct cg_used *u)
{
    if (nrows == cap) {
        cap = cap ? cap * 2 : 64;
        rows = cg_realloc(rows, cap * sizeof *rows);
    }
    rows[nrows] = *u;
    return &rows[nrows++];
}

/* Today's rows are the last ones. */
static struct cg_used *row_of(const struct cg_sandbox *sb, const char *day)
{
    for (size_t i = nrows; i > 0 && strcmp(rows[i - 1].day, day) >= 0; i--)
        if (strcmp(rows[i - 1].sandbox, sb->id) == 0)
            return &rows[i - 1];
    struct cg_used u = {0};
    cg_strlcpy(u.day, sizeof u.day, day);
    cg_strlcpy(u.sandbox, sizeof u.sandbox, sb->id);
    cg_strlcpy(u.account, sizeof u.account, sb->account);
    return add_row(&u);
}

static void store_row(struct cg_core *c, const struct cg_used *u)
{
    char id[CG_DAY_TEXT + CG_ID_TEXT + 1];
    char doc[256];
    cg_snprintf(id, sizeof id, "%s/%s", u->day, u->sandbox);
    cg_snprintf(doc, sizeof doc,
                "{\"day\":\"%s\",\"sandbox\":\"%s\",\"compute\":%lld,\"llm\":%lld,\"ms\":%lld}",
                u->day, u->sandbox, (long long)u->compute_nusd, (long long)u->llm_nusd,
                (long long)u->running_ms);
    const struct cg_store_item item = {kind_usage, id, u->account, doc};
    cg_store_put_item(c->store, &item, NULL, NULL);
}

static int64_t an_hour(const struct cg_sandbox *sb)
{
    const struct cg_compute_prices *p = &sb->core->options.machine;
    return (int64_t)sb->spec.cpus * p->vcpu_hour +
           (int64_t)sb->spec.memory_mb * p->gib_hour / 1024 +
           (int64_t)sb->spec.disk_gb * p->disk_gib_hour;
}

static void count(struct cg_sandbox *sb)
{
    int64_t compute = sb->compute_nusd ? sb->compute_nusd : cg_sandbox_compute_nusd(sb);
    struct sum *s = sum_of(sb->id);
    int64_t more = CG_MAX(compute - s->compute_nusd, 0);
    int64_t more_llm = CG_MAX(sb->llm_nusd - s->llm_nusd, 0);
    char day[CG_DAY_TEXT];
    if (sb->helper || !sb->account[0] || (more == 0 && more_llm == 0))
        return;
    today(day);
    struct cg_used *u = row_of(sb, day);
    u->compute_nusd += more;
    u->llm_nusd += more_llm;
    u->running_ms +=
        an_hour(sb) > 0 ? (int64_t)((double)more * 3600000.0 / (double)an_hour(sb)) : 0;
    s->compute_nusd += more;
    s->llm_nusd += more_llm;
    store_row(sb->core, u);
}

void cg_usage_count(struct cg_core *c)
{
    for (struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        count(sb);
}

static void load(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *day = cg_json_str(j, "day");
    const char *sandbox = cg_json_str(j, "sandbox");
    struct cg_used u = {.compute_nusd = cg_json_int(j, "compute", 0),
                        .llm_nusd = cg_json_int(j, "llm", 0),
                        .running_ms = cg_json_int(j, "ms", 0)};
    (void)ctx;
    if (!day || !sandbox || !cg_day_valid(day) ||
        !cg_strlcpy(u.sandbox, sizeof u.sandbox, sandbox)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_usage"), CG_S("id", i->id));
        return;
    }
    cg_strlcpy(u.day, sizeof u.day, day);
    cg_strlcpy(u.account, sizeof u.account, i->account);
    add_row(&u);
    struct sum *s = sum_of(u.sandbox);
    s->compute_nusd += u.compute_nusd;
    s->llm_nusd += u.llm_nusd;
}

static void on_timer(uv_timer_t *t)
{
    cg_usage_count(t->data);
}

static void on_change(void *ctx, struct cg_sandbox *sb)
{
    (void)ctx;
    if (sb->status != CG_STATUS_RUNNING && sb->status != CG_STATUS_PENDING)
        count(sb);
}

bool cg_usage_start(struct cg_core *c, struct cg_err *e)
{
    if (!cg_store_each_item(c->store, kind_usage, load, c, e))
        return false;
    listener = (struct cg_listener){.next = c->listeners, .on_change = on_change};
    c->listeners = &listener;
    uv_timer_init(c->loop, &timer);
    timer.data = c;
    uv_timer_start(&timer, on_timer, COUNT_MS, COUNT_MS);
    return true;
}

void cg_usage_stop(struct cg_core *c)
{
    cg_usage_count(c);
    uv_timer_stop(&timer);
}

void cg_usage_each(const char *account, const char *from, const char *to,
                   void (*each)(void *ctx, const struct cg_used *u), void *ctx)
{
    for (size_t i = 0; i < nrows; i++)
        if (strcmp(rows[i].account, account) == 0 && (!from || strcmp(rows[i].day, from) >= 0) &&
            (!to || strcmp(rows[i].day, to) <= 0))
            each(ctx, &rows[i]);
}
