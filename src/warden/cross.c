#include "warden/cross.h"

#include <arpa/inet.h>
#include <string.h>

#include "warden/pass.h"

enum { NAMED_MAX = 16, AHEAD_S = 5 };

#define OLD_NS ((int64_t)AHEAD_S * 1000000000)

void cross_start(struct warden *w, const struct cg_json *observe)
{
    w->cross = (struct cross){.connections = cg_json_bool(observe, "security", false),
                              .exits = cg_json_bool(observe, "exec", false)};
}

static struct cg_jsonw *begin(struct warden *w, const char *fact, const char *seen_by,
                              const char *session)
{
    struct cg_jsonw *j =
        cg_record_begin(w->record, CG_REC_GAP, CG_SRC_HOST, session && session[0] ? session : NULL);
    cg_jsonw_kstr(j, "reason", "mismatch");
    cg_jsonw_kstr(j, "fact", fact);
    cg_jsonw_kstr(j, "seen_by", seen_by);
    return j;
}

/* --- connections and calls of models --- */

struct lone {
    uint64_t count;
    struct place {
        uint64_t conn;
        int64_t pid;
        char text[INET_ADDRSTRLEN + 8];
    } first[NAMED_MAX];
};

struct lones {
    struct lone of[2][2]; /* seen by the guest or the host; elsewhere or at the gateway */
};

static void take_lone(void *ctx, const struct cg_egress_lone *l)
{
    struct lones *all = ctx;
    struct lone *x = &all->of[l->host][l->fact == CG_EGRESS_SERVICE_CALL];
    if (x->count++ >= NAMED_MAX)
        return;
    struct place *p = &x->first[x->count - 1];
    const struct in_addr in = {htonl(l->address)};
    char address[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &in, address, sizeof address);
    cg_snprintf(p->text, sizeof p->text, "%s:%u", address, (unsigned)l->port);
    p->conn = l->conn;
    p->pid = l->pid;
}

static void tell_lone(struct warden *w, const struct lone *x, bool host, bool call)
{
    size_t named = CG_MIN(x->count, (uint64_t)NAMED_MAX);
    if (x->count == 0)
        return;
    struct cg_jsonw *j = begin(w, call ? "llm_call" : "connection", host ? "host" : "guest", NULL);
    cg_jsonw_kuint(j, "count", x->count);
    cg_jsonw_key(j, "to");
    cg_jsonw_arr(j);
    for (size_t i = 0; i < named; i++)
        cg_jsonw_str(j, x->first[i].text);
    cg_jsonw_arr_end(j);
    cg_jsonw_key(j, host ? "conns" : "pids");
    cg_jsonw_arr(j);
    for (size_t i = 0; i < named; i++) {
        if (host)
            cg_jsonw_uint(j, x->first[i].conn);
        else
            cg_jsonw_int(j, x->first[i].pid);
    }
    cg_jsonw_arr_end(j);
    cg_record_end(w->record);
}

static void check_connections(struct warden *w, int64_t before)
{
    struct lones all = {.of = {{{.count = 0}}}};
    cg_egress_check(w->egress, before, take_lone, &all);
    for (unsigned i = 0; i < 4; i++)
        tell_lone(w, &all.of[i / 2][i % 2], i / 2 == 1, i % 2 == 1);
}

/* --- exits --- */

static void put_code(struct cg_jsonw *j, const char *key, int64_t code)
{
    if (code >= 0)
        cg_jsonw_kint(j, key, code);
    else
        cg_jsonw_kstr(j, key, NULL);
}

static void differ(struct warden *w, const struct cross_exit *x, int64_t observed)
{
    struct cg_jsonw *j = begin(w, "exit", "agent", x->session);
    cg_jsonw_kstr(j, "exec_id", x->exec_id);
    cg_jsonw_kint(j, "pid", x->pid);
    put_code(j, "exit_code", x->code);
    put_code(j, "observed", observed);
    cg_record_end(w->record);
}

static void check_exits(struct warden *w)
{
    for (unsigned i = 0; i < CROSS_EXITS; i++) {
        struct cross_exit *x = &w->cross.exit[i];
        if (x->pid == 0 || ++x->beats < CROSS_BEATS)
            continue;
        differ(w, x, -1);
        x->pid = 0;
    }
}

static struct pass *pass_of(struct warden *w, int64_t pid)
{
    struct pass *p = pid > 0 ? w->passes : NULL;
    while (p && p->pid != pid)
        p = p->next;
    return p;
}

void cross_exec(struct warden *w, const struct cg_json *o)
{
    struct pass *p = pass_of(w, cg_json_int(o, "pid", 0));
    if (p)
        p->seen_start = true;
}

void cross_exited(struct warden *w, const struct cg_json *o)
{
    int64_t pid = cg_json_int(o, "pid", 0);
    int64_t code = cg_json_int(o, "code", -1);
    struct pass *p = pass_of(w, pid);
    if (p && p->seen_start && !p->seen_exit) {
        p->seen_exit = true;
        p->seen_code = code;
    }
    for (unsigned i = 0; pid > 0 && i < CROSS_EXITS; i++) {
        struct cross_exit *x = &w->cross.exit[i];
        if (x->pid != pid)
            continue;
        if (x->code != code)
            differ(w, x, code);
        x->pid = 0;
    }
}

void cross_ended(struct pass *p, int64_t code)
{
    struct cross *c = &p->w->cross;
    struct cross_exit x = {.pid = p->pid, .code = code};
    if (!c->exits || p->pid <= 0 || !p->seen_start)
        return;
    (void)cg_strlcpy(x.exec_id, sizeof x.exec_id, p->exec_id);
    (void)cg_strlcpy(x.session, sizeof x.session, p->session);
    if (p->seen_exit) {
        if (p->seen_code != code)
            differ(p->w, &x, p->seen_code);
        return;
    }
    for (unsigned i = 0; i < CROSS_EXITS; i++) {
        if (c->exit[i].pid == 0) {
            c->exit[i] = x;
            return;
        }
    }
}

/* --- when --- */

void cross_beat(struct warden *w)
{
    struct cross *c = &w->cross;
    int64_t now = cg_mono_ns();
    int64_t before = CG_MIN(c->beat[0], now - OLD_NS);
    memmove(&c->beat[0], &c->beat[1], (CROSS_BEATS - 1) * sizeof c->beat[0]);
    c->beat[CROSS_BEATS - 1] = now;
    if (w->egress && c->connections && before > 0)
        check_connections(w, before);
    if (c->exits)
        check_exits(w);
}

void cross_lost(struct warden *w, const struct cg_json *gap)
{
    const struct cg_json *lost = cg_json_get(gap, "lost");
    const char *reason = cg_json_str(gap, "reason");
    bool all = cg_streq(reason, "resume");
    if (w->egress && (all || cg_json_int(lost, "conn", 0) > 0))
        cg_egress_forgive(w->egress);
    if (!all && cg_json_int(lost, "exit", 0) <= 0)
        return;
    for (unsigned i = 0; i < CROSS_EXITS; i++)
        w->cross.exit[i].pid = 0;
    for (struct pass *p = w->passes; p; p = p->next)
        p->seen_start = false;
}
