#include "core/alerts.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/money.h"
#include "core/notify.h"
#include "core/scores.h"

enum { SAMPLES = 64, RECENT = 5, TEXT = 256 };

static const char kind_alert[] = "alert";
static const char kind_rule[] = "alert_rule";
static const int64_t anomaly_floor_nusd = 50 * 1000 * 1000; /* 5 cents */

enum number { PERCENT, MULTIPLIER, IDLE, ERRORS, WINDOW, SCORE, NUMBERS };

static const struct {
    const char *name;
    double min, max;
} numbers[NUMBERS] = {
    [PERCENT] = {"threshold_percent", 0, 100}, [MULTIPLIER] = {"multiplier_threshold", 0, 1000},
    [IDLE] = {"idle_minutes", 0, 1440},        [ERRORS] = {"error_count_threshold", 0, 10000},
    [WINDOW] = {"window_minutes", 0, 1440},    [SCORE] = {"score_threshold", 0, 100},
};

enum type { BUDGET, ANOMALY, STUCK, SPIKE, LOW, BROKEN, IDLED, TYPES };

static const struct {
    const char *name;
    double number[NUMBERS]; /* what 0 stands for; -1: not of this rule */
} types[TYPES] = {
    [BUDGET] = {"budget_exceeded", {80, -1, -1, -1, -1, -1}},
    [ANOMALY] = {"cost_anomaly", {-1, 3, -1, -1, -1, -1}},
    [STUCK] = {"agent_stuck", {-1, -1, 10, -1, -1, -1}},
    [SPIKE] = {"error_spike", {-1, -1, -1, 10, 5, -1}},
    [LOW] = {"trust_score_low", {-1, -1, -1, -1, -1, 0}}, /* 0: the band of the rules of trust */
    [BROKEN] = {"sandbox_error", {-1, -1, -1, -1, -1, -1}},
    [IDLED] = {"idle_timeout", {-1, -1, -1, -1, -1, -1}},
};

struct rule {
    struct rule *next;
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    enum type type;
    bool enabled;
    double number[NUMBERS];
    int64_t created_wall;
};

struct alert {
    struct alert *next; /* newest first */
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char rule[CG_ID_TEXT];
    char sandbox[CG_ID_TEXT];
    char session[48];
    char step[24]; /* with rule and sandbox: what may be open once */
    enum type type;
    char severity[12];
    char title[TEXT / 2];
    char message[TEXT * 2];
    char *meta; /* a JSON object of texts */
    int64_t created_wall, resolved_wall;
};

/* What is remembered of a sandbox between looks. */
struct seen {
    enum cg_status status;
    bool known;
    int64_t spent[SAMPLES]; /* a step each; a ring */
    int64_t failed[SAMPLES];
    int64_t at_wall[SAMPLES];
    unsigned n;
    int64_t last_nusd, last_failed;
    uint64_t moves; /* a sum of everything that moves when work goes on */
    int64_t moved_mono;
    struct cg_wcall call;
    struct cg_sandbox *sb;
    bool asking;
};

static struct state {
    struct cg_core *core;
    struct rule *rules;
    struct alert *alerts;
    struct cg_map seen; /* sandbox: struct seen */
    struct cg_listener listener;
    uv_timer_t *timer;
} state;

/* --- rules --- */

static void save_rule(const struct rule *r, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", types[r->type].name);
    cg_jsonw_kbool(&w, "enabled", r->enabled);
    cg_jsonw_kint(&w, "created", r->created_wall);
    for (unsigned i = 0; i < NUMBERS; i++)
        cg_jsonw_knum(&w, numbers[i].name, r->number[i]);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_rule, r->id, r->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

static struct rule *rule_of(const char *account, enum type type)
{
    for (struct rule *r = state.rules; r; r = r->next)
        if (r->type == type && cg_streq(r->account, account))
            return r;
    struct rule *r = cg_alloc(sizeof *r);
    *r = (struct rule){.next = state.rules, .type = type, .enabled = true};
    cg_id_make("rule", r->id);
    (void)cg_strlcpy(r->account, sizeof r->account, account);
    r->created_wall = cg_wall_ns();
    state.rules = r;
    save_rule(r, NULL, NULL);
    return r;
}

static double number_of(const struct rule *r, enum number n)
{
    return r->number[n] > 0 ? r->number[n] : types[r->type].number[n];
}

static void put_time(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall ? text : NULL);
}

static void write_rule(const struct rule *r, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", r->id);
    cg_jsonw_kstr(w, "account_id", r->account);
    cg_jsonw_kstr(w, "type", types[r->type].name);
    cg_jsonw_kbool(w, "enabled", r->enabled);
    cg_jsonw_key(w, "config");
    cg_jsonw_obj(w);
    for (unsigned i = 0; i < NUMBERS; i++)
        cg_jsonw_knum(w, numbers[i].name, r->number[i]);
    cg_jsonw_obj_end(w);
    put_time(w, "created_at", r->created_wall);
    cg_jsonw_obj_end(w);
}

void cg_alert_rules_write(struct cg_core *c, const char *account, struct cg_jsonw *w)
{
    (void)c;
    cg_jsonw_arr(w);
    for (unsigned t = 0; t < TYPES; t++)
        write_rule(rule_of(account, (enum type)t), w);
    cg_jsonw_arr_end(w);
}

static bool read_numbers(struct rule *r, const struct cg_json *config, struct cg_err *e)
{
    if (config && config->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "config must be an object of numbers");
    for (const struct cg_json *m = config ? config->child : NULL; m; m = m->next) {
        unsigned i = 0;
        while (i < NUMBERS && !cg_slice_eq(m->key, numbers[i].name))
            i++;
        if (i == NUMBERS || (m->type != CG_JSON_INT && m->type != CG_JSON_NUM))
            return cg_fail(e, CG_INVALID, "config.%.*s is no number that rules have",
                           (int)CG_MIN(m->key.n, 40), m->key.p);
        if (!(m->number >= numbers[i].min && m->number <= numbers[i].max))
            return cg_fail(e, CG_INVALID, "config.%s must be %g to %g", numbers[i].name,
                           numbers[i].min, numbers[i].max);
        r->number[i] = m->number;
    }
    return true;
}

bool cg_alert_rule_set(struct cg_core *c, const char *account, const char *id,
                       const struct cg_json *body, struct cg_jsonw *w, cg_store_done *done,
                       void *ctx, struct cg_err *e)
{
    struct rule *r = state.rules;
    const struct cg_json *enabled = cg_json_get(body, "enabled");
    (void)c;
    while (r && (!cg_streq(r->id, id) || !cg_streq(r->account, account)))
        r = r->next;
    if (!r)
        return cg_fail(e, CG_NOT_FOUND, "there is no rule %.64s", id);
    if (enabled && enabled->type != CG_JSON_BOOL && enabled->type != CG_JSON_NULL)
        return cg_fail(e, CG_INVALID, "enabled must be true or false");
    struct rule changed = *r;
    const struct cg_json *config = cg_json_get(body, "config");
    if (!read_numbers(&changed, config && config->type != CG_JSON_NULL ? config : NULL, e))
        return false;
    if (enabled && enabled->type == CG_JSON_BOOL)
        changed.enabled = enabled->boolean;
    *r = changed;
    write_rule(r, w);
    save_rule(r, done, ctx);
    return true;
}

/* --- alerts --- */

static void write_alert(const struct alert *a, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", a->id);
    cg_jsonw_kstr(w, "account_id", a->account);
    cg_jsonw_kstr(w, "rule_id", a->rule);
    cg_jsonw_kstr(w, "rule_type", types[a->type].name);
    cg_jsonw_kstr(w, "severity", a->severity);
    cg_jsonw_kstr(w, "state", a->resolved_wall ? "resolved" : "open");
    cg_jsonw_kstr(w, "title", a->title);
    cg_jsonw_kstr(w, "message", a->message);
    cg_jsonw_kstr(w, "sandbox_id", a->sandbox[0] ? a->sandbox : NULL);
    cg_jsonw_kstr(w, "session_id", a->session[0] ? a->session : NULL);
    cg_jsonw_key(w, "meta");
    cg_jsonw_raw(w, a->meta ? a->meta : "{}", a->meta ? strlen(a->meta) : 2);
    put_time(w, "created_at", a->created_wall);
    put_time(w, "resolved_at", a->resolved_wall);
    cg_jsonw_obj_end(w);
}

static void save_alert(const struct alert *a, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 16 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "rule", a->rule);
    cg_jsonw_kstr(&w, "type", types[a->type].name);
    cg_jsonw_kstr(&w, "sandbox", a->sandbox);
    cg_jsonw_kstr(&w, "session", a->session);
    cg_jsonw_kstr(&w, "step", a->step);
    cg_jsonw_kstr(&w, "severity", a->severity);
    cg_jsonw_kstr(&w, "title", a->title);
    cg_jsonw_kstr(&w, "message", a->message);
    cg_jsonw_kstr(&w, "meta", a->meta);
    cg_jsonw_kint(&w, "created", a->created_wall);
    cg_jsonw_kint(&w, "resolved", a->resolved_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_alert, a->id, a->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

static struct alert *find_alert(const char *account, const char *id)
{
    for (struct alert *a = state.alerts; a; a = a->next)
        if (cg_streq(a->id, id) && cg_streq(a->account, account))
            return a;
    return NULL;
}

/* The oldest that is resolved, or, when all are open, the oldest. */
static void make_room(const char *account)
{
    unsigned n = 0;
    struct alert **victim = NULL;
    bool resolved = false;
    for (struct alert **at = &state.alerts; *at; at = &(*at)->next) {
        if (!cg_streq((*at)->account, account))
            continue;
        n++;
        if (!resolved || (*at)->resolved_wall)
            victim = at;
        resolved = resolved || (*at)->resolved_wall;
    }
    if (n < CG_ALERTS_MAX || !victim)
        return;
    struct alert *gone = *victim;
    *victim = gone->next;
    cg_store_delete_item(state.core->store, kind_alert, gone->id, NULL, NULL);
    free(gone->meta);
    free(gone);
}

struct telling {
    char account[CG_ID_TEXT];
    char id[CG_ID_TEXT];
};

/* The alert is durable: now it may be told. */
static void on_raised(void *ctx, const struct cg_err *err)
{
    struct telling *t = ctx;
    const struct alert *a = state.core ? find_alert(t->account, t->id) : NULL;
    if (err)
        cg_log(CG_LOG_ERROR, CG_EVENT("alert.not_saved"), CG_S("id", t->id), CG_E(err));
    if (a && !err) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        struct cg_jsonw w;
        cg_buf_init(&b, 16 * 1024);
        cg_jsonw_init(&w, &b);
        write_alert(a, &w);
        cg_notify(state.core, a->account, a->id, a->title, a->message, cg_buf_cstr(&b));
    }
    free(t);
}

struct news {
    enum type type;
    const char *step, *severity, *title, *meta_key;
    char meta[48];
    char message[TEXT * 2];
};

static void raise_alert(struct cg_sandbox *sb, const struct news *n)
{
    struct rule *r = rule_of(sb->account, n->type);
    if (!r->enabled)
        return;
    for (const struct alert *a = state.alerts; a; a = a->next)
        if (a->type == n->type && !a->resolved_wall && cg_streq(a->sandbox, sb->id) &&
            cg_streq(a->step, n->step))
            return;
    make_room(sb->account);
    struct alert *a = cg_alloc(sizeof *a);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_id_make("alert", a->id);
    (void)cg_strlcpy(a->account, sizeof a->account, sb->account);
    (void)cg_strlcpy(a->rule, sizeof a->rule, r->id);
    (void)cg_strlcpy(a->sandbox, sizeof a->sandbox, sb->id);
    (void)cg_strlcpy(a->step, sizeof a->step, n->step);
    (void)cg_strlcpy(a->severity, sizeof a->severity, n->severity);
    (void)cg_strlcpy(a->title, sizeof a->title, n->title);
    (void)cg_strlcpy(a->message, sizeof a->message, n->message);
    a->type = n->type;
    a->created_wall = cg_wall_ns();
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    if (n->meta_key)
        cg_jsonw_kstr(&w, n->meta_key, n->meta);
    if (sb->spec.name)
        cg_jsonw_kstr(&w, "sandbox_name", sb->spec.name);
    cg_jsonw_obj_end(&w);
    a->meta = cg_strdup(cg_buf_cstr(&b));
    a->next = state.alerts;
    state.alerts = a;
    cg_log(CG_LOG_WARN, CG_EVENT("alert.raised"), CG_S("id", a->id), CG_S("sandbox", sb->id),
           CG_S("type", types[a->type].name));
    struct telling *t = cg_alloc(sizeof *t);
    (void)cg_strlcpy(t->account, sizeof t->account, a->account);
    (void)cg_strlcpy(t->id, sizeof t->id, a->id);
    save_alert(a, on_raised, t);
}

void cg_alerts_write(struct cg_core *c, const char *account, int64_t limit, int64_t offset,
                     struct cg_jsonw *w)
{
    int64_t total = 0;
    (void)c;
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "alerts");
    cg_jsonw_arr(w);
    for (const struct alert *a = state.alerts; a; a = a->next) {
        if (!cg_streq(a->account, account))
            continue;
        if (total >= offset && total < offset + limit)
            write_alert(a, w);
        total++;
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_kint(w, "total", total);
    cg_jsonw_kint(w, "limit", limit);
    cg_jsonw_kint(w, "offset", offset);
    cg_jsonw_obj_end(w);
}

bool cg_alert_write(struct cg_core *c, const char *account, const char *id, struct cg_jsonw *w,
                    struct cg_err *e)
{
    const struct alert *a = find_alert(account, id);
    (void)c;
    if (!a)
        return cg_fail(e, CG_NOT_FOUND, "there is no alert %.64s", id);
    write_alert(a, w);
    return true;
}

bool cg_alert_resolve(struct cg_core *c, const char *account, const char *id, cg_store_done *done,
                      void *ctx, struct cg_err *e)
{
    struct alert *a = find_alert(account, id);
    (void)c;
    if (!a)
        return cg_fail(e, CG_NOT_FOUND, "there is no alert %.64s", id);
    if (!a->resolved_wall)
        a->resolved_wall = cg_wall_ns();
    save_alert(a, done, ctx);
    return true;
}

/* --- what raises them --- */

void cg_alerts_score(struct cg_sandbox *sb, const struct cg_json *last)
{
    const struct cg_pack *p = state.core ? cg_scores_pack(state.core) : NULL;
    int score = cg_score_of(sb, NULL);
    if (!p || score < 0)
        return;
    double own = rule_of(sb->account, LOW)->number[SCORE];
    double low = own > 0 ? own : p->bands.alert;
    bool critical = score < (int)p->bands.critical;
    if (!critical && score >= low)
        return;
    const char *rule = cg_json_str(last, "rule");
    struct news n = {.type = LOW,
                     .step = critical ? "critical" : "low",
                     .severity = critical ? "critical" : "warning",
                     .title = critical ? "Trust is critical" : "Trust is low",
                     .meta_key = "score"};
    cg_snprintf(n.meta, sizeof n.meta, "%d", score);
    cg_snprintf(
        n.message, sizeof n.message,
        "Sandbox %s has %d of 100 points of trust left. The last ones went for %.60s: caged "
        "trust %s --explain",
        sb->id, score, rule ? rule : "an earlier event", sb->id);
    raise_alert(sb, &n);
}

static void check_budget(struct cg_sandbox *sb)
{
    static const struct {
        int percent;
        const char *step, *severity, *title;
    } steps[] = {{100, "100", "critical", "Budget used up"},
                 {95, "95", "critical", "Budget nearly used up"},
                 {0, "first", "warning", "Budget Threshold Exceeded"}};
    if (!sb->spec.has_budget || sb->spec.budget_nusd <= 0 || sb->helper)
        return;
    int64_t spent = cg_money_add(sb->compute_nusd, sb->llm_nusd);
    double percent = 100.0 * (double)spent / (double)sb->spec.budget_nusd;
    double first = number_of(rule_of(sb->account, BUDGET), PERCENT);
    for (size_t i = 0; i < CG_COUNT(steps); i++) {
        if (percent < (steps[i].percent ? steps[i].percent : first))
            continue;
        struct news n = {.type = BUDGET,
                         .step = steps[i].step,
                         .severity = steps[i].severity,
                         .title = steps[i].title,
                         .meta_key = "percent"};
        cg_snprintf(n.meta, sizeof n.meta, "%.0f", CG_MIN(percent, 100000.0));
        cg_snprintf(n.message, sizeof n.message, "Sandbox %s has spent $%.4f of its $%.2f.", sb->id,
                    cg_money_usd(spent), cg_money_usd(sb->spec.budget_nusd));
        raise_alert(sb, &n);
        return;
    }
}

static struct seen *seen_of(struct cg_sandbox *sb)
{
    struct seen *s = cg_map_get(&state.seen, sb->id);
    if (s)
        return s;
    s = cg_alloc(sizeof *s);
    s->sb = sb;
    s->status = sb->status;
    s->moved_mono = cg_mono_ns();
    s->last_nusd = cg_money_add(sb->compute_nusd, sb->llm_nusd);
    cg_map_put(&state.seen, sb->id, s);
    return s;
}

static void on_change(void *ctx, struct cg_sandbox *sb)
{
    (void)ctx;
    if (sb->helper)
        return;
    struct seen *s = seen_of(sb);
    bool moved = s->status != sb->status;
    s->status = sb->status;
    check_budget(sb);
    if (moved && sb->status == CG_STATUS_ERROR) {
        struct news n = {.type = BROKEN,
                         .step = "error",
                         .severity = "critical",
                         .title = "Sandbox failed",
                         .meta_key = "code"};
        (void)cg_strlcpy(n.meta, sizeof n.meta, cg_code_name(sb->error.code));
        cg_snprintf(n.message, sizeof n.message, "Sandbox %s ended by a failure: %.200s", sb->id,
                    sb->error.text);
        raise_alert(sb, &n);
    }
    if (moved && sb->status == CG_STATUS_PAUSED && cg_streq(sb->pause_reason, "idle")) {
        struct news n = {
            .type = IDLED, .step = "idle", .severity = "info", .title = "Sandbox sleeps"};
        cg_snprintf(n.message, sizeof n.message,
                    "Sandbox %s did nothing for a while and was paused; its next use wakes it.",
                    sb->id);
        raise_alert(sb, &n);
    }
}

bool cg_alerts_anomaly(const int64_t *spent_nusd, unsigned n, unsigned recent, double times)
{
    int64_t last = 0;
    int64_t before = 0;
    if (n < 3 * recent)
        return false;
    for (unsigned i = 0; i < n; i++)
        *(i >= n - recent ? &last : &before) += spent_nusd[i];
    double usual = (double)before * recent / (double)(n - recent);
    return last >= anomaly_floor_nusd && (double)last >= times * usual;
}

static void check_anomaly(struct cg_sandbox *sb, struct seen *s)
{
    int64_t ordered[SAMPLES];
    unsigned n = CG_MIN(s->n, (unsigned)SAMPLES);
    double times = number_of(rule_of(sb->account, ANOMALY), MULTIPLIER);
    for (unsigned i = 0; i < n; i++)
        ordered[i] = s->spent[(s->n - n + i) % SAMPLES];
    if (!cg_alerts_anomaly(ordered, n, RECENT, times))
        return;
    struct news news = {.type = ANOMALY,
                        .step = "anomaly",
                        .severity = "warning",
                        .title = "Costs rise unusually",
                        .meta_key = "multiplier"};
    cg_snprintf(news.meta, sizeof news.meta, "%g", times);
    cg_snprintf(news.message, sizeof news.message,
                "Sandbox %s spends at least %g times of what it did before.", sb->id, times);
    raise_alert(sb, &news);
}

static void check_spike(struct cg_sandbox *sb, const struct seen *s)
{
    const struct rule *r = rule_of(sb->account, SPIKE);
    int64_t window = (int64_t)(number_of(r, WINDOW) * 60e9);
    int64_t count = 0;
    int64_t now = cg_wall_ns();
    for (unsigned i = 0; i < CG_MIN(s->n, (unsigned)SAMPLES); i++)
        count += now - s->at_wall[i] <= window ? s->failed[i] : 0;
    if ((double)count < number_of(r, ERRORS))
        return;
    struct news n = {.type = SPIKE,
                     .step = "spike",
                     .severity = "warning",
                     .title = "Commands fail one after the other",
                     .meta_key = "errors"};
    cg_snprintf(n.meta, sizeof n.meta, "%lld", (long long)count);
    cg_snprintf(n.message, sizeof n.message, "In sandbox %s %lld commands failed in %g minutes.",
                sb->id, (long long)count, number_of(r, WINDOW));
    raise_alert(sb, &n);
}

static void check_stuck(struct cg_sandbox *sb, struct seen *s, bool busy, uint64_t moves)
{
    const struct rule *r = rule_of(sb->account, STUCK);
    if (!busy || moves != s->moves)
        s->moved_mono = cg_mono_ns();
    s->moves = moves;
    double minutes = (double)(cg_mono_ns() - s->moved_mono) / 60e9;
    if (minutes < number_of(r, IDLE))
        return;
    struct news n = {.type = STUCK,
                     .step = "stuck",
                     .severity = "warning",
                     .title = "A command does nothing",
                     .meta_key = "minutes"};
    cg_snprintf(n.meta, sizeof n.meta, "%.0f", CG_MIN(minutes, 1e6));
    cg_snprintf(n.message, sizeof n.message,
                "A command in sandbox %s runs, but for %.0f minutes nothing was started, written, "
                "sent or asked of a model.",
                sb->id, CG_MIN(minutes, 1e6));
    raise_alert(sb, &n);
}

/* --- looks, one a step of time and sandbox --- */

static uint64_t moves_of(const struct cg_json *status)
{
    const struct cg_json *net = cg_json_get(status, "network");
    const struct cg_json *costs = cg_json_get(status, "costs");
    return (uint64_t)cg_json_int(cg_json_get(status, "observed"), "told", 0) +
           (uint64_t)cg_json_int(net, "bytes_out", 0) + (uint64_t)cg_json_int(net, "bytes_in", 0) +
           (uint64_t)cg_json_int(status, "exec_count", 0) +
           (uint64_t)cg_json_int(status, "output_bytes", 0) +
           (uint64_t)cg_json_int(costs, "tokens", 0);
}

static void on_status(struct cg_wcall *call, const struct cg_json *status,
                      const struct cg_err *error)
{
    struct seen *s = CG_CONTAINER(call, struct seen, call);
    struct cg_sandbox *sb = s->sb;
    s->asking = false;
    if (error || !status || !state.core)
        return;
    int64_t failed = cg_json_int(status, "exec_failed", 0);
    int64_t now_nusd = cg_money_add(sb->compute_nusd, sb->llm_nusd);
    unsigned at = s->n % SAMPLES;
    if ((!s->known && !sb->started_mono) || failed < s->last_failed)
        s->last_failed = s->known ? 0 : failed; /* another server, another warden counted those */
    s->spent[at] = CG_MAX(now_nusd - s->last_nusd, 0);
    s->last_nusd = now_nusd;
    s->at_wall[at] = cg_wall_ns();
    s->failed[at] = failed - s->last_failed;
    s->last_failed = failed;
    s->n++;
    s->known = true;
    check_anomaly(sb, s);
    check_spike(sb, s);
    check_stuck(sb, s, cg_json_bool(status, "busy", false), moves_of(status));
}

static void look(struct cg_sandbox *sb)
{
    struct seen *s = seen_of(sb);
    if (s->asking || !sb->warden)
        return;
    s->call = (struct cg_wcall){.on_close = on_status};
    s->asking = cg_wcall_open(sb->warden, &s->call, cg_slice_of("{\"kind\":\"status\"}"), NULL);
}

static void on_timer(uv_timer_t *t)
{
    (void)t;
    for (struct cg_sandbox *sb = state.core->first; sb; sb = sb->next)
        if (sb->status == CG_STATUS_RUNNING && !sb->creating && !sb->destroying && !sb->helper)
            look(sb);
}

/* --- life --- */

static bool parse_type(const char *name, enum type *out)
{
    for (unsigned i = 0; i < TYPES; i++) {
        if (cg_streq(types[i].name, name)) {
            *out = (enum type)i;
            return true;
        }
    }
    return false;
}

static void load_rule(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct rule *r = cg_alloc(sizeof *r);
    (void)ctx;
    if (!parse_type(cg_json_str(j, "type"), &r->type)) {
        free(r);
        return;
    }
    (void)cg_strlcpy(r->id, sizeof r->id, i->id);
    (void)cg_strlcpy(r->account, sizeof r->account, i->account);
    r->enabled = cg_json_bool(j, "enabled", true);
    r->created_wall = cg_json_int(j, "created", 0);
    for (unsigned n = 0; n < NUMBERS; n++)
        r->number[n] = cg_json_num(j, numbers[n].name, 0);
    r->next = state.rules;
    state.rules = r;
}

static void copy(char *to, size_t size, const struct cg_json *j, const char *key)
{
    const char *text = cg_json_str(j, key);
    (void)cg_strlcpy(to, size, text ? text : "");
}

static void load_alert(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct alert *a = cg_alloc(sizeof *a);
    (void)ctx;
    if (!parse_type(cg_json_str(j, "type"), &a->type)) {
        free(a);
        return;
    }
    (void)cg_strlcpy(a->id, sizeof a->id, i->id);
    (void)cg_strlcpy(a->account, sizeof a->account, i->account);
    copy(a->rule, sizeof a->rule, j, "rule");
    copy(a->sandbox, sizeof a->sandbox, j, "sandbox");
    copy(a->session, sizeof a->session, j, "session");
    copy(a->step, sizeof a->step, j, "step");
    copy(a->severity, sizeof a->severity, j, "severity");
    copy(a->title, sizeof a->title, j, "title");
    copy(a->message, sizeof a->message, j, "message");
    const char *meta = cg_json_str(j, "meta");
    a->meta = cg_strdup(meta ? meta : "{}");
    a->created_wall = cg_json_int(j, "created", 0);
    a->resolved_wall = cg_json_int(j, "resolved", 0);
    a->next = state.alerts;
    state.alerts = a;
}

bool cg_alerts_start(struct cg_core *c, struct cg_err *e)
{
    state = (struct state){.core = c};
    cg_map_init(&state.seen);
    if (!cg_store_each_item(c->store, kind_rule, load_rule, c, e) ||
        !cg_store_each_item(c->store, kind_alert, load_alert, c, e) || !cg_notify_start(c, e))
        return false;
    state.listener = (struct cg_listener){c->listeners, on_change, NULL};
    c->listeners = &state.listener;
    state.timer = cg_alloc(sizeof *state.timer);
    uv_timer_init(c->loop, state.timer);
    uint64_t every = (uint64_t)(c->options.alert_interval_s ? c->options.alert_interval_s : 60);
    uv_timer_start(state.timer, on_timer, every * 1000, every * 1000);
    uv_unref((uv_handle_t *)state.timer);
    return true;
}

static void free_timer(uv_handle_t *h)
{
    free(h);
}

void cg_alerts_finish(struct cg_core *c)
{
    size_t at = 0;
    const char *id;
    void *value;
    if (!state.core)
        return;
    cg_notify_finish(c);
    uv_close((uv_handle_t *)state.timer, free_timer);
    while (cg_map_next(&state.seen, &at, &id, &value)) {
        struct seen *s = value;
        if (s->asking)
            cg_wcall_forget(&s->call);
        free(s);
    }
    cg_map_finish(&state.seen);
    for (struct cg_listener **l = &c->listeners; *l; l = &(*l)->next) {
        if (*l == &state.listener) {
            *l = state.listener.next;
            break;
        }
    }
    for (struct rule *r = state.rules, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    for (struct alert *a = state.alerts, *next; a; a = next) {
        next = a->next;
        free(a->meta);
        free(a);
    }
    state = (struct state){.core = NULL};
}
