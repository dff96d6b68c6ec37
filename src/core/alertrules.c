/* The rules by which alerts are raised: one of each type an account, which it switches and tunes.
 */
#include <stdlib.h>
#include <string.h>

#include "core/alerting.h"

static const char kind_rule[] = "alert_rule";

static const struct {
    const char *name;
    double min, max;
} numbers[CG_ALERT_NUMBERS] = {
    [CG_ALERT_PERCENT] = {"threshold_percent", 0, 100},
    [CG_ALERT_MULTIPLIER] = {"multiplier_threshold", 0, 1000},
    [CG_ALERT_IDLE] = {"idle_minutes", 0, 1440},
    [CG_ALERT_ERRORS] = {"error_count_threshold", 0, 10000},
    [CG_ALERT_WINDOW] = {"window_minutes", 0, 1440},
    [CG_ALERT_SCORE] = {"score_threshold", 0, 100},
};

static const struct {
    const char *name;
    double number[CG_ALERT_NUMBERS]; /* what 0 stands for; -1: not of this rule */
} types[CG_ALERT_TYPES] = {
    [CG_ALERT_BUDGET] = {"budget_exceeded", {80, -1, -1, -1, -1, -1}},
    [CG_ALERT_ANOMALY] = {"cost_anomaly", {-1, 3, -1, -1, -1, -1}},
    [CG_ALERT_STUCK] = {"agent_stuck", {-1, -1, 10, -1, -1, -1}},
    [CG_ALERT_SPIKE] = {"error_spike", {-1, -1, -1, 10, 5, -1}},
    [CG_ALERT_LOW] = {"trust_score_low",
                      {-1, -1, -1, -1, -1, 0}}, /* 0: the band of the rules of trust */
    [CG_ALERT_BROKEN] = {"sandbox_error", {-1, -1, -1, -1, -1, -1}},
    [CG_ALERT_IDLED] = {"idle_timeout", {-1, -1, -1, -1, -1, -1}},
};

static struct {
    struct cg_core *core;
    struct cg_alert_rule *rules;
} state;

bool cg_alert_type_parse(const char *name, enum cg_alert_type *out)
{
    for (unsigned i = 0; i < CG_ALERT_TYPES; i++) {
        if (cg_streq(types[i].name, name)) {
            *out = (enum cg_alert_type)i;
            return true;
        }
    }
    return false;
}

const char *cg_alert_type_name(enum cg_alert_type type)
{
    return types[type].name;
}

static void save_rule(const struct cg_alert_rule *r, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", types[r->type].name);
    cg_jsonw_kbool(&w, "enabled", r->enabled);
    cg_jsonw_kint(&w, "created", r->created_wall);
    for (unsigned i = 0; i < CG_ALERT_NUMBERS; i++)
        cg_jsonw_knum(&w, numbers[i].name, r->number[i]);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_rule, r->id, r->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

struct cg_alert_rule *cg_alert_rule_of(const char *account, enum cg_alert_type type)
{
    for (struct cg_alert_rule *r = state.rules; r; r = r->next)
        if (r->type == type && cg_streq(r->account, account))
            return r;
    struct cg_alert_rule *r = cg_alloc(sizeof *r);
    *r = (struct cg_alert_rule){.next = state.rules, .type = type, .enabled = true};
    cg_id_make("rule", r->id);
    (void)cg_strlcpy(r->account, sizeof r->account, account);
    r->created_wall = cg_wall_ns();
    state.rules = r;
    save_rule(r, NULL, NULL);
    return r;
}

double cg_alert_rule_number(const struct cg_alert_rule *r, enum cg_alert_number n)
{
    return r->number[n] > 0 ? r->number[n] : types[r->type].number[n];
}

void cg_alert_put_time(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall ? text : NULL);
}

static void write_rule(const struct cg_alert_rule *r, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", r->id);
    cg_jsonw_kstr(w, "account_id", r->account);
    cg_jsonw_kstr(w, "type", types[r->type].name);
    cg_jsonw_kbool(w, "enabled", r->enabled);
    cg_jsonw_key(w, "config");
    cg_jsonw_obj(w);
    for (unsigned i = 0; i < CG_ALERT_NUMBERS; i++)
        cg_jsonw_knum(w, numbers[i].name, r->number[i]);
    cg_jsonw_obj_end(w);
    cg_alert_put_time(w, "created_at", r->created_wall);
    cg_jsonw_obj_end(w);
}

void cg_alert_rules_write(struct cg_core *c, const char *account, struct cg_jsonw *w)
{
    (void)c;
    cg_jsonw_arr(w);
    for (unsigned t = 0; t < CG_ALERT_TYPES; t++)
        write_rule(cg_alert_rule_of(account, (enum cg_alert_type)t), w);
    cg_jsonw_arr_end(w);
}

static bool read_numbers(struct cg_alert_rule *r, const struct cg_json *config, struct cg_err *e)
{
    if (config && config->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "config must be an object of numbers");
    for (const struct cg_json *m = config ? config->child : NULL; m; m = m->next) {
        unsigned i = 0;
        while (i < CG_ALERT_NUMBERS && !cg_slice_eq(m->key, numbers[i].name))
            i++;
        if (i == CG_ALERT_NUMBERS || (m->type != CG_JSON_INT && m->type != CG_JSON_NUM))
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
    struct cg_alert_rule *r = state.rules;
    const struct cg_json *enabled = cg_json_get(body, "enabled");
    (void)c;
    while (r && (!cg_streq(r->id, id) || !cg_streq(r->account, account)))
        r = r->next;
    if (!r)
        return cg_fail(e, CG_NOT_FOUND, "there is no rule %.64s", id);
    if (enabled && enabled->type != CG_JSON_BOOL && enabled->type != CG_JSON_NULL)
        return cg_fail(e, CG_INVALID, "enabled must be true or false");
    struct cg_alert_rule changed = *r;
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

/* --- life --- */

static void load_rule(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct cg_alert_rule *r = cg_alloc(sizeof *r);
    (void)ctx;
    if (!cg_alert_type_parse(cg_json_str(j, "type"), &r->type)) {
        free(r);
        return;
    }
    (void)cg_strlcpy(r->id, sizeof r->id, i->id);
    (void)cg_strlcpy(r->account, sizeof r->account, i->account);
    r->enabled = cg_json_bool(j, "enabled", true);
    r->created_wall = cg_json_int(j, "created", 0);
    for (unsigned n = 0; n < CG_ALERT_NUMBERS; n++)
        r->number[n] = cg_json_num(j, numbers[n].name, 0);
    r->next = state.rules;
    state.rules = r;
}

bool cg_alert_rules_start(struct cg_core *c, struct cg_err *e)
{
    state.core = c;
    return cg_store_each_item(c->store, kind_rule, load_rule, c, e);
}

void cg_alert_rules_finish(void)
{
    for (struct cg_alert_rule *r = state.rules, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    state.core = NULL;
    state.rules = NULL;
}
