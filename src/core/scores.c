#include "core/scores.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/alerts.h"
#include "core/registries.h"
#include "record/reader.h"

enum { TRUST_LINES = 4000 };

/* The rules, as every new sandbox gets them. */
static struct rules {
    char *text;
    size_t n;
    const char *over; /* of the options; NULL: none */
    struct cg_pack *pack;
} rules;

bool cg_scores_start(struct cg_core *c, struct cg_err *e)
{
    CG_OWN(cg_drop_free)
    char *path = cg_format("%s/../../share/caged/data/trust/default.yaml", c->libexec_dir);
    const char *own = c->options.trust_rules;
    cg_scores_finish(c);
    if (!cg_fs_slurp(path, CG_PACK_MAX, &rules.text, &rules.n, e))
        return cg_wrap(e, "rules of trust");
    rules.over = c->options.trust_text;
    rules.pack = cg_pack_read(path, (struct cg_slice){rules.text, rules.n}, own ? own : "",
                              cg_slice_of(rules.over ? rules.over : ""), e);
    return rules.pack != NULL;
}

void cg_scores_finish(struct cg_core *c)
{
    (void)c;
    cg_pack_destroy(rules.pack);
    free(rules.text);
    rules = (struct rules){.text = NULL};
}

const struct cg_pack *cg_scores_pack(const struct cg_core *c)
{
    (void)c;
    return rules.pack;
}

struct cg_pack *cg_scores_lay(struct cg_slice over, struct cg_err *e)
{
    return cg_pack_read("default.yaml", (struct cg_slice){rules.text, rules.n}, "rules", over, e);
}

/* --- for wardens --- */

bool cg_scores_place(const struct cg_sandbox *sb, const char *dir, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *to = cg_format("%s/trust.yaml", dir);
    CG_OWN(cg_drop_free) char *to_own = cg_format("%s/trust.own.yaml", dir);
    (void)sb;
    if (!rules.text || !cg_fs_place(to, rules.text, rules.n, 0644, e))
        return rules.text == NULL || cg_wrap(e, "rules of trust");
    if (!rules.over)
        return unlink(to_own) == 0 || true;
    return cg_fs_place(to_own, rules.over, strlen(rules.over), 0644, e) ||
           cg_wrap(e, "rules of trust");
}

/* "https://name:port/…" or "git@name:…": the name. */
static void put_url_host(struct cg_jsonw *w, const char *url)
{
    const char *at = url ? strstr(url, "://") : NULL;
    const char *name = at ? at + 3 : url;
    size_t n = name ? strcspn(name, "/?#") : 0;
    const char *user = name ? memchr(name, '@', n) : NULL;
    if (user) {
        n -= (size_t)(user + 1 - name);
        name = user + 1;
    }
    const char *port = name ? memchr(name, ':', n) : NULL;
    n = port ? (size_t)(port - name) : n;
    if (n > 0 && n < 254)
        cg_jsonw_strn(w, name, n);
}

static void put_all(struct cg_jsonw *w, const char *json)
{
    CG_OWN(cg_drop_json)
    struct cg_json *list = json ? cg_json_parse(cg_slice_of(json), NULL, NULL) : NULL;
    for (const struct cg_json *v = list && list->type == CG_JSON_ARR ? list->child : NULL; v;
         v = v->next)
        if (v->type == CG_JSON_STR && !cg_streq(v->str.p, "registries"))
            cg_jsonw_strn(w, v->str.p, v->str.n);
}

/* What the account allowed by name, it knows. */
static void put_allowed(struct cg_jsonw *w, const char *network_json)
{
    CG_OWN(cg_drop_json)
    struct cg_json *net =
        network_json ? cg_json_parse(cg_slice_of(network_json), NULL, NULL) : NULL;
    const struct cg_json *allow = cg_json_get(net, "allow");
    for (const struct cg_json *v = allow && allow->type == CG_JSON_ARR ? allow->child : NULL; v;
         v = v->next)
        if (v->type == CG_JSON_STR && !cg_streq(v->str.p, "registries"))
            cg_jsonw_strn(w, v->str.p, v->str.n);
}

void cg_scores_write_config(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    const struct cg_options *o = &sb->core->options;
    CG_OWN(cg_drop_free)
    char *registries = cg_registries_of(sb->core, sb->spec.template_name);
    cg_jsonw_key(w, "trust");
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "known");
    cg_jsonw_arr(w);
    put_all(w, registries);
    for (size_t i = 0; i < o->nproviders; i++)
        put_url_host(w, o->providers[i].base_url);
    put_url_host(w, sb->spec.repo_url);
    put_allowed(w, sb->spec.network_json);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

/* --- what wardens tell --- */

struct watch {
    struct cg_wcall call;
    struct cg_sandbox *sb;
};

static void on_paused(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    (void)ctx;
    if (err)
        cg_log(CG_LOG_WARN, CG_EVENT("trust.pause_failed"), CG_S("id", sb->id), CG_E(err));
}

/* Once a sandbox: whoever lets it go on has seen why it stood still. */
static void maybe_pause(struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_score *s = sb->score;
    if (!rules.pack || s->score >= rules.pack->bands.pause || s->paused || sb->creating ||
        sb->destroying || sb->status != CG_STATUS_RUNNING)
        return;
    s->paused = true;
    cg_log(CG_LOG_WARN, CG_EVENT("trust.pause"), CG_S("id", sb->id), CG_I("score", s->score));
    if (!cg_core_pause(sb, "trust", on_paused, NULL, &e))
        on_paused(NULL, sb, &e);
}

static struct cg_score_session *session_of(struct cg_score *s, const char *id)
{
    for (unsigned i = 0; i < s->nsessions; i++)
        if (cg_streq(s->session[i].id, id))
            return &s->session[i];
    if (s->nsessions == CG_TRUST_SESSIONS)
        return NULL;
    struct cg_score_session *made = &s->session[s->nsessions++];
    *made = (struct cg_score_session){.score = CG_TRUST_FULL, .changed_wall = cg_wall_ns()};
    (void)cg_strlcpy(made->id, sizeof made->id, id);
    return made;
}

static void take_sessions(struct cg_score *s, const struct cg_json *list)
{
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next) {
        const char *id = cg_json_str(v, "session_id");
        struct cg_score_session *at = id && cg_record_session_valid(id) ? session_of(s, id) : NULL;
        uint32_t score = (uint32_t)CG_MAX(0, CG_MIN(cg_json_int(v, "score", 100), 100));
        if (!at || at->score == score)
            continue;
        at->score = score;
        at->changed_wall = cg_wall_ns();
    }
}

static void on_score(struct cg_wcall *call, const struct cg_json *m)
{
    struct cg_sandbox *sb = CG_CONTAINER(call, struct watch, call)->sb;
    bool first = sb->score == NULL;
    if (first) {
        sb->score = cg_alloc(sizeof *sb->score);
        sb->score->score = CG_TRUST_FULL;
        sb->score->changed_wall = cg_wall_ns();
    }
    struct cg_score *s = sb->score;
    uint32_t score = (uint32_t)CG_MAX(0, CG_MIN(cg_json_int(m, "score", 100), 100));
    uint32_t deductions = (uint32_t)CG_MAX(0, CG_MIN(cg_json_int(m, "deductions", 0), 1 << 20));
    bool moved = score != s->score || deductions != s->deductions;
    take_sessions(s, cg_json_get(m, "sessions"));
    if (!moved && !first)
        return;
    s->score = score;
    s->deductions = deductions;
    s->changed_wall = cg_wall_ns();
    cg_sandbox_save(sb, NULL, NULL);
    cg_sandbox_changed(sb);
    if (moved)
        cg_alerts_score(sb, cg_json_get(m, "last"));
    maybe_pause(sb);
}

static void on_over(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    (void)result;
    (void)error; /* a sandbox of an older version, or the connection is gone */
    free(CG_CONTAINER(call, struct watch, call));
}

void cg_scores_watch(struct cg_sandbox *sb)
{
    if (sb->helper)
        return;
    struct watch *n = cg_alloc(sizeof *n);
    n->sb = sb;
    n->call = (struct cg_wcall){.on_control = on_score, .on_close = on_over};
    if (!cg_wcall_open(sb->warden, &n->call, cg_slice_of("{\"kind\":\"trust\"}"), NULL))
        free(n);
}

/* --- looks --- */

int cg_score_of(const struct cg_sandbox *sb, const char *session)
{
    const struct cg_score *s = sb->score;
    if (!s)
        return -1;
    if (!session)
        return (int)s->score;
    for (unsigned i = 0; i < s->nsessions; i++)
        if (cg_streq(s->session[i].id, session))
            return (int)s->session[i].score;
    return CG_TRUST_FULL;
}

void cg_scores_write_members(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    if (!sb->score)
        return;
    cg_jsonw_kuint(w, "trust_score", sb->score->score);
    cg_jsonw_kstr(w, "trust_band", cg_trust_band(sb->score->score));
}

void cg_scores_save(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    const struct cg_score *s = sb->score;
    if (!s)
        return;
    cg_jsonw_key(w, "trust");
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "score", s->score);
    cg_jsonw_kuint(w, "deductions", s->deductions);
    cg_jsonw_kint(w, "changed", s->changed_wall);
    cg_jsonw_kbool(w, "paused", s->paused);
    cg_jsonw_key(w, "sessions");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < s->nsessions; i++) {
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "session_id", s->session[i].id);
        cg_jsonw_kuint(w, "score", s->session[i].score);
        cg_jsonw_kint(w, "changed", s->session[i].changed_wall);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

void cg_scores_load(struct cg_sandbox *sb, const struct cg_json *inner)
{
    const struct cg_json *t = cg_json_get(inner, "trust");
    if (!t)
        return;
    struct cg_score *s = cg_alloc(sizeof *s);
    sb->score = s;
    s->score = (uint32_t)CG_MAX(0, CG_MIN(cg_json_int(t, "score", 100), 100));
    s->deductions = (uint32_t)CG_MAX(0, CG_MIN(cg_json_int(t, "deductions", 0), 1 << 20));
    s->changed_wall = cg_json_int(t, "changed", 0);
    s->paused = cg_json_bool(t, "paused", false);
    const struct cg_json *list = cg_json_get(t, "sessions");
    take_sessions(s, list);
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next) {
        const char *id = cg_json_str(v, "session_id");
        struct cg_score_session *at = id && cg_record_session_valid(id) ? session_of(s, id) : NULL;
        if (at)
            at->changed_wall = cg_json_int(v, "changed", 0);
    }
}

/* --- the deductions themselves --- */

static void put_line(const struct cg_record_line *line, struct cg_jsonw *w)
{
    CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(line->data, NULL, NULL);
    const char *id = cg_json_str(data, "rule");
    const struct cg_rule *rule = id && rules.pack ? cg_pack_rule(rules.pack, id) : NULL;
    if (!cg_streq(cg_json_str(data, "event"), "deduction"))
        return;
    cg_jsonw_obj(w);
    cg_jsonw_kuint(w, "seq", line->seq);
    cg_jsonw_key(w, "at");
    cg_jsonw_strn(w, line->ts.p, line->ts.n);
    for (const struct cg_json *m = data->child; m; m = m->next) {
        if (cg_slice_eq(m->key, "event"))
            continue;
        cg_jsonw_keyn(w, m->key.p, m->key.n);
        cg_jsonw_value(w, m);
    }
    if (rule)
        cg_jsonw_kstr(w, "reason", rule->explain);
    cg_jsonw_obj_end(w);
}

bool cg_scores_read(const char *record_dir, struct cg_jsonw *w, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int dir = open(record_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cg_fail_sys(e, "open %s", record_dir);
    struct cg_record_reader *r = cg_record_reader_open(dir, 0, e);
    enum cg_record_got got = r ? CG_RECORD_LINE : CG_RECORD_ERROR;
    unsigned n = 0;
    cg_jsonw_arr(w);
    while (got == CG_RECORD_LINE && n < TRUST_LINES) {
        struct cg_record_line line;
        struct cg_slice text;
        got = cg_record_read(r, UINT64_MAX, &text, &line, e);
        if (got == CG_RECORD_LINE && cg_slice_eq(line.type, "trust")) {
            put_line(&line, w);
            n++;
        }
    }
    cg_jsonw_arr_end(w);
    cg_record_reader_close(r);
    return got != CG_RECORD_ERROR;
}
