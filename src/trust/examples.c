/* The examples of rules, run: each step becomes a line of a record as the warden writes it, and
 * goes through the same reader as a real one.
 *
 *   "text"                                      a caller starts this shell text
 *   {sh: text, user: root, origin: init}        the same, told apart
 *   {exec: "rm -rf x", pid: 9, ppid: 5, uid: 0, cwd: /workspace}   a process, as observed
 *   {file: delete, path: "/workspace/{n}", by: rm, times: 12, to:, mode:, uid:, pid:, origin:}
 *   {net: open, host: h, address: a, port: 443, verdict: allow, out: 1, in: 1}
 *   {dns: name, verdict: deny, times: 50}       {n} in names counts
 *   {process: setuid, from: 1000, to: 0, by: x, path: p, type: t}
 *   {gap: detached}    {wait: 60} */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/jsonw.h"
#include "trust/inner.h"

enum { TIMES_MAX = 1000 };

struct stage {
    struct cg_trust *t;
    struct cg_sh *sh;
    uint64_t seq;
    int64_t now;
    const char *rule;
    bool fired;
};

static void on_deduction(void *ctx, const struct cg_trust_deduction *d)
{
    struct stage *s = ctx;
    s->fired = s->fired || strcmp(d->rule->id, s->rule) == 0;
}

static void send(struct stage *s, const char *type, const struct cg_buf *data)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_record_line line;
    cg_buf_init(&b, CG_RECORD_LINE_MAX);
    s->now += NS_PER_S / 100;
    cg_buf_addf(&b,
                "{\"seq\":%llu,\"t\":%lld,\"ts\":\"2026-01-02T03:04:05.678901Z\",\"type\":\"%s\","
                "\"src\":\"host\",\"session\":null,\"data\":",
                (unsigned long long)++s->seq, (long long)s->now, type);
    cg_buf_add(&b, data->p, data->n);
    cg_buf_addc(&b, '}');
    CG_ASSERT(!b.full && cg_record_line_parse(cg_buf_slice(&b), &line));
    cg_trust_line(s->t, &line);
}

/* "{n}" becomes the number of the repetition. */
static char *counted(const char *text, int64_t n)
{
    const char *at = text ? strstr(text, "{n}") : NULL;
    if (!at)
        return text ? cg_strdup(text) : NULL;
    return cg_format("%.*s%lld%s", (int)(at - text), text, (long long)n, at + 3);
}

static void copy_text(struct cg_jsonw *w, const struct cg_json *step, const char *from,
                      const char *to, int64_t n)
{
    CG_OWN(cg_drop_free) char *text = counted(cg_json_str(step, from), n);
    if (text)
        cg_jsonw_kstr(w, to, text);
}

static void copy_int(struct cg_jsonw *w, const struct cg_json *step, const char *from,
                     const char *to)
{
    const struct cg_json *v = cg_json_get(step, from);
    if (v && v->type == CG_JSON_INT)
        cg_jsonw_kint(w, to, v->integer);
}

static void put_exec(struct stage *s, const struct cg_json *step, struct cg_jsonw *w)
{
    const char *argv[CG_SH_ARGV];
    const char *cwd = cg_json_str(step, "cwd");
    cg_sh_parse(s->sh, cg_slice_of(cg_json_str(step, "exec")));
    int n = s->sh->ncommands > 0 ? cg_sh_argv(s->sh, 0, argv) : 0;
    cg_jsonw_kstr(w, "event", "exec");
    cg_jsonw_kint(w, "pid", cg_json_int(step, "pid", (int64_t)s->seq + 100));
    cg_jsonw_kint(w, "ppid", cg_json_int(step, "ppid", 50));
    cg_jsonw_kint(w, "uid", cg_json_int(step, "uid", 1000));
    cg_jsonw_kstr(w, "comm", n > 0 ? cg_sh_basename(argv[0]) : "");
    cg_jsonw_key(w, "argv");
    cg_jsonw_arr(w);
    for (int i = 0; i < n; i++)
        cg_jsonw_str(w, argv[i]);
    cg_jsonw_arr_end(w);
    cg_jsonw_kstr(w, "cwd", cwd ? cwd : "/workspace");
}

static void put_start(const struct cg_json *step, const char *text, struct cg_jsonw *w)
{
    const char *user = cg_json_str(step, "user");
    const char *origin = cg_json_str(step, "origin");
    const char *cwd = cg_json_str(step, "cwd");
    cg_jsonw_kstr(w, "phase", "start");
    cg_jsonw_kstr(w, "exec_id", "w1");
    cg_jsonw_kstr(w, "shell", text);
    cg_jsonw_kstr(w, "cwd", cwd ? cwd : "/workspace");
    cg_jsonw_kstr(w, "user", user ? user : "agent");
    cg_jsonw_kstr(w, "origin", origin ? origin : "api");
}

static void put_file(const struct cg_json *step, int64_t n, struct cg_jsonw *w)
{
    const char *origin = cg_json_str(step, "origin");
    copy_text(w, step, "file", "op", n);
    copy_text(w, step, "path", "path", n);
    copy_text(w, step, "to", "to", n);
    copy_text(w, step, "by", "comm", n);
    copy_int(w, step, "mode", "mode");
    copy_int(w, step, "pid", "pid");
    cg_jsonw_kint(w, "uid", cg_json_int(step, "uid", 1000));
    cg_jsonw_kstr(w, "origin", origin ? origin : "observed");
}

static void put_network(const struct cg_json *step, int64_t n, struct cg_jsonw *w)
{
    const char *verdict = cg_json_str(step, "verdict");
    copy_text(w, step, "net", "event", n);
    copy_text(w, step, "host", "name", n);
    copy_text(w, step, "address", "address", n);
    cg_jsonw_kint(w, "port", cg_json_int(step, "port", 443));
    cg_jsonw_kstr(w, "verdict", verdict ? verdict : "allow");
    copy_int(w, step, "out", "bytes_out");
    copy_int(w, step, "in", "bytes_in");
}

static void put_process(const struct cg_json *step, struct cg_jsonw *w)
{
    copy_text(w, step, "process", "event", 0);
    copy_text(w, step, "by", "comm", 0);
    copy_text(w, step, "path", "path", 0);
    copy_text(w, step, "type", "type", 0);
    copy_int(w, step, "from", "from");
    copy_int(w, step, "to", "to");
    copy_int(w, step, "pid", "pid");
    cg_jsonw_kint(w, "uid", cg_json_int(step, "uid", 1000));
}

/* One line; false when the step is of no known form. */
static bool play(struct stage *s, const struct cg_json *step, int64_t n)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    const char *type = NULL;
    const char *text = step->type == CG_JSON_STR ? step->str.p : cg_json_str(step, "sh");
    cg_buf_init(&b, CG_RECORD_LINE_MAX - 512);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    if (text) {
        type = "command";
        put_start(step, text, &w);
    } else if (cg_json_str(step, "exec")) {
        type = "process";
        put_exec(s, step, &w);
    } else if (cg_json_str(step, "file")) {
        type = "file_op";
        put_file(step, n, &w);
    } else if (cg_json_str(step, "net")) {
        type = "network";
        put_network(step, n, &w);
    } else if (cg_json_str(step, "dns")) {
        type = "dns";
        cg_jsonw_kstr(&w, "event", "query");
        copy_text(&w, step, "dns", "name", n);
        copy_text(&w, step, "verdict", "verdict", n);
    } else if (cg_json_str(step, "process")) {
        type = "process";
        put_process(step, &w);
    } else if (cg_json_str(step, "gap")) {
        type = "gap";
        copy_text(&w, step, "gap", "reason", n);
        copy_text(&w, step, "fact", "fact", n);
    }
    cg_jsonw_obj_end(&w);
    if (type)
        send(s, type, &b);
    return type != NULL;
}

static bool run(struct stage *s, const char *json)
{
    CG_OWN(cg_drop_json) struct cg_json *steps = cg_json_parse(cg_slice_of(json), NULL, NULL);
    bool fine = steps != NULL;
    for (const struct cg_json *step = steps ? steps->child : NULL; step && fine;
         step = step->next) {
        int64_t wait = cg_json_int(step, "wait", -1);
        int64_t times = CG_MIN(cg_json_int(step, "times", 1), (int64_t)TIMES_MAX);
        if (wait >= 0) {
            s->now += wait * NS_PER_S;
            continue;
        }
        for (int64_t i = 0; i < times && fine; i++)
            fine = play(s, step, i);
    }
    return fine;
}

static unsigned run_all(const struct cg_pack *pack, const struct cg_rule *r, bool fires,
                        struct stage *s,
                        void (*failed)(void *ctx, const char *rule, const char *text), void *ctx)
{
    static char known_host[] = "*.known.example";
    static char *hosts[] = {known_host};
    const struct cg_texts known = {hosts, 1};
    const struct cg_texts *all = fires ? &r->fires : &r->quiet;
    for (unsigned i = 0; i < all->n; i++) {
        s->t = cg_trust_create(pack, &known, on_deduction, s);
        s->seq = 0;
        s->now = NS_PER_S * 100000;
        s->rule = r->id;
        s->fired = false;
        bool fine = run(s, all->v[i]);
        if (!fine || s->fired != fires) {
            CG_OWN(cg_drop_free)
            char *text = cg_format("%s: %s",
                                   !fine   ? "is no example"
                                   : fires ? "must fire and does not"
                                           : "must not fire and does",
                                   all->v[i]);
            failed(ctx, r->id, text);
        }
        cg_trust_destroy(s->t);
    }
    return all->n;
}

unsigned cg_trust_examples(const struct cg_pack *pack,
                           void (*failed)(void *ctx, const char *rule, const char *text), void *ctx)
{
    struct stage s = {.sh = cg_alloc(sizeof *s.sh)};
    unsigned n = 0;
    for (unsigned i = 0; i < pack->nrules; i++) {
        const struct cg_rule *r = &pack->rules[i];
        if (r->off)
            continue;
        n += run_all(pack, r, true, &s, failed, ctx);
        n += run_all(pack, r, false, &s, failed, ctx);
        if (r->fires.n == 0 || r->quiet.n == 0)
            failed(ctx, r->id, "has no example that must fire, or none that must not");
    }
    free(s.sh);
    return n;
}
