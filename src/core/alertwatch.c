/* Looks at sandboxes, at every change and once a step of time, and raises what is worth a look. */
#include <stdlib.h>
#include <string.h>

#include "base/money.h"
#include "core/alerting.h"
#include "core/scores.h"

enum { SAMPLES = 64, RECENT = 5 };

static const int64_t anomaly_floor_nusd = 50 * 1000 * 1000; /* 5 cents */

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

static struct {
    struct cg_core *core;
    struct cg_map seen; /* sandbox: struct seen */
    struct cg_listener listener;
    uv_timer_t *timer;
} state;

/* --- what raises them --- */

void cg_alerts_score(struct cg_sandbox *sb, const struct cg_json *last)
{
    const struct cg_pack *p = state.core ? cg_scores_pack(state.core) : NULL;
    int score = cg_score_of(sb, NULL);
    if (!p || score < 0)
        return;
    double own = cg_alert_rule_of(sb->account, CG_ALERT_LOW)->number[CG_ALERT_SCORE];
    double low = own > 0 ? own : p->bands.alert;
    bool critical = score < (int)p->bands.critical;
    if (!critical && score >= low)
        return;
    const char *rule = cg_json_str(last, "rule");
    struct cg_alert_news n = {.type = CG_ALERT_LOW,
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
    cg_alert_raise(sb, &n);
}

static void say_budget(const struct cg_sandbox *sb, int64_t spent, char *out, size_t size)
{
    const struct cg_spec *s = &sb->spec;
    if (s->has_budget && s->budget_nusd > 0)
        cg_snprintf(out, size, "Sandbox %s has spent $%.4f of its $%.2f.", sb->id,
                    cg_money_usd(spent), cg_money_usd(s->budget_nusd));
    else if (s->budget_tokens > 0)
        cg_snprintf(out, size, "Sandbox %s has used up its budget: %lld tokens of %lld.", sb->id,
                    (long long)sb->llm_tokens, (long long)s->budget_tokens);
    else
        cg_snprintf(out, size, "Sandbox %s was stopped: the account's budget is used up.", sb->id);
}

static void check_budget(struct cg_sandbox *sb)
{
    static const struct {
        int percent;
        const char *step, *severity, *title;
    } steps[] = {{100, "100", "critical", "Budget used up"},
                 {95, "95", "critical", "Budget nearly used up"},
                 {0, "first", "warning", "Budget Threshold Exceeded"}};
    bool money = sb->spec.has_budget && sb->spec.budget_nusd > 0;
    /* the guard acts before the last of it is spent: what would come next could not be paid */
    bool over = sb->guarded ||
                (sb->status == CG_STATUS_PAUSED && cg_streq(sb->pause_reason, "budget_exceeded"));
    if (sb->helper || (!money && !over))
        return;
    int64_t spent = cg_money_add(sb->compute_nusd, sb->llm_nusd);
    double percent = money ? 100.0 * (double)spent / (double)sb->spec.budget_nusd : 0;
    percent = over ? CG_MAX(percent, 100.0) : percent;
    double first =
        cg_alert_rule_number(cg_alert_rule_of(sb->account, CG_ALERT_BUDGET), CG_ALERT_PERCENT);
    for (size_t i = 0; i < CG_COUNT(steps); i++) {
        if (percent < (steps[i].percent ? steps[i].percent : first))
            continue;
        struct cg_alert_news n = {.type = CG_ALERT_BUDGET,
                                  .step = steps[i].step,
                                  .severity = steps[i].severity,
                                  .title = steps[i].title,
                                  .meta_key = "percent"};
        cg_snprintf(n.meta, sizeof n.meta, "%.0f", CG_MIN(percent, 100000.0));
        say_budget(sb, spent, n.message, sizeof n.message);
        cg_alert_raise(sb, &n);
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
        struct cg_alert_news n = {.type = CG_ALERT_BROKEN,
                                  .step = "error",
                                  .severity = "critical",
                                  .title = "Sandbox failed",
                                  .meta_key = "code"};
        (void)cg_strlcpy(n.meta, sizeof n.meta, cg_code_name(sb->error.code));
        cg_snprintf(n.message, sizeof n.message, "Sandbox %s ended by a failure: %.200s", sb->id,
                    sb->error.text);
        cg_alert_raise(sb, &n);
    }
    if (moved && sb->status == CG_STATUS_PAUSED && cg_streq(sb->pause_reason, "idle")) {
        struct cg_alert_news n = {
            .type = CG_ALERT_IDLED, .step = "idle", .severity = "info", .title = "Sandbox sleeps"};
        cg_snprintf(n.message, sizeof n.message,
                    "Sandbox %s did nothing for a while and was paused; its next use wakes it.",
                    sb->id);
        cg_alert_raise(sb, &n);
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
    double times =
        cg_alert_rule_number(cg_alert_rule_of(sb->account, CG_ALERT_ANOMALY), CG_ALERT_MULTIPLIER);
    for (unsigned i = 0; i < n; i++)
        ordered[i] = s->spent[(s->n - n + i) % SAMPLES];
    if (!cg_alerts_anomaly(ordered, n, RECENT, times))
        return;
    struct cg_alert_news news = {.type = CG_ALERT_ANOMALY,
                                 .step = "anomaly",
                                 .severity = "warning",
                                 .title = "Costs rise unusually",
                                 .meta_key = "multiplier"};
    cg_snprintf(news.meta, sizeof news.meta, "%g", times);
    cg_snprintf(news.message, sizeof news.message,
                "Sandbox %s spends at least %g times of what it did before.", sb->id, times);
    cg_alert_raise(sb, &news);
}

static void check_spike(struct cg_sandbox *sb, const struct seen *s)
{
    const struct cg_alert_rule *r = cg_alert_rule_of(sb->account, CG_ALERT_SPIKE);
    int64_t window = (int64_t)(cg_alert_rule_number(r, CG_ALERT_WINDOW) * 60e9);
    int64_t count = 0;
    int64_t now = cg_wall_ns();
    for (unsigned i = 0; i < CG_MIN(s->n, (unsigned)SAMPLES); i++)
        count += now - s->at_wall[i] <= window ? s->failed[i] : 0;
    if ((double)count < cg_alert_rule_number(r, CG_ALERT_ERRORS))
        return;
    struct cg_alert_news n = {.type = CG_ALERT_SPIKE,
                              .step = "spike",
                              .severity = "warning",
                              .title = "Commands fail one after the other",
                              .meta_key = "errors"};
    cg_snprintf(n.meta, sizeof n.meta, "%lld", (long long)count);
    cg_snprintf(n.message, sizeof n.message, "In sandbox %s %lld commands failed in %g minutes.",
                sb->id, (long long)count, cg_alert_rule_number(r, CG_ALERT_WINDOW));
    cg_alert_raise(sb, &n);
}

static void check_stuck(struct cg_sandbox *sb, struct seen *s, bool busy, uint64_t moves)
{
    const struct cg_alert_rule *r = cg_alert_rule_of(sb->account, CG_ALERT_STUCK);
    if (!busy || moves != s->moves)
        s->moved_mono = cg_mono_ns();
    s->moves = moves;
    double minutes = (double)(cg_mono_ns() - s->moved_mono) / 60e9;
    if (minutes < cg_alert_rule_number(r, CG_ALERT_IDLE))
        return;
    struct cg_alert_news n = {.type = CG_ALERT_STUCK,
                              .step = "stuck",
                              .severity = "warning",
                              .title = "A command does nothing",
                              .meta_key = "minutes"};
    cg_snprintf(n.meta, sizeof n.meta, "%.0f", CG_MIN(minutes, 1e6));
    cg_snprintf(n.message, sizeof n.message,
                "A command in sandbox %s runs, but for %.0f minutes nothing was started, written, "
                "sent or asked of a model.",
                sb->id, CG_MIN(minutes, 1e6));
    cg_alert_raise(sb, &n);
}

/* --- looks, one a step of time and sandbox --- */

static uint64_t moves_of(const struct cg_json *status)
{
    const struct cg_json *net = cg_json_get(status, "network");
    const struct cg_json *costs = cg_json_get(status, "costs");
    const struct cg_json *observed = cg_json_get(status, "observed");
    return (uint64_t)(cg_json_int(observed, "told", 0) - cg_json_int(observed, "beats", 0)) +
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
        if (sb->status == CG_STATUS_RUNNING && !sb->creating && !sb->destroying && !sb->helper) {
            check_budget(sb); /* machine time is no change that anybody is told of */
            look(sb);
        }
}

/* --- life --- */

void cg_alert_watch_start(struct cg_core *c)
{
    uint64_t every = (uint64_t)(c->options.alert_interval_s ? c->options.alert_interval_s : 60);
    state.core = c;
    cg_map_init(&state.seen);
    state.listener = (struct cg_listener){c->listeners, on_change, NULL};
    c->listeners = &state.listener;
    state.timer = cg_alloc(sizeof *state.timer);
    uv_timer_init(c->loop, state.timer);
    uv_timer_start(state.timer, on_timer, every * 1000, every * 1000);
    uv_unref((uv_handle_t *)state.timer);
}

static void free_timer(uv_handle_t *h)
{
    free(h);
}

void cg_alert_watch_finish(void)
{
    size_t at = 0;
    const char *id;
    void *value;
    if (!state.core)
        return;
    uv_close((uv_handle_t *)state.timer, free_timer);
    while (cg_map_next(&state.seen, &at, &id, &value)) {
        struct seen *s = value;
        if (s->asking)
            cg_wcall_forget(&s->call);
        free(s);
    }
    cg_map_finish(&state.seen);
    struct cg_listener **l = &state.core->listeners;
    while (*l && *l != &state.listener)
        l = &(*l)->next;
    if (*l)
        *l = state.listener.next;
    state.core = NULL;
}
