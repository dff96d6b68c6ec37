/* Events against rules, in the order of the record. All state is of fixed size: when a table is
 * full its oldest entry gives way, so a flood can make the engine forget, never grow. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "trust/inner.h"
#include "trust/packfile.h"

/* --- life --- */

struct cg_trust *cg_trust_create(const struct cg_pack *pack, const struct cg_texts *known,
                                 void (*each)(void *ctx, const struct cg_trust_deduction *d),
                                 void *ctx)
{
    struct cg_trust *t = cg_alloc(sizeof *t);
    t->pack = pack;
    t->each = each;
    t->ctx = ctx;
    t->state = cg_alloc_array(CG_MAX(pack->nrules, 1), sizeof *t->state);
    for (unsigned i = 0; i < pack->nrules; i++)
        if (pack->rules[i].window.seconds > 0)
            t->state[i].ring = cg_alloc_array(CG_WINDOW_MAX, sizeof *t->state[i].ring);
    for (unsigned i = 0; known && i < known->n; i++)
        cg_texts_add(&t->known, known->v[i]);
    return t;
}

void cg_trust_destroy(struct cg_trust *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->pack->nrules; i++)
        free(t->state[i].ring);
    free(t->state);
    cg_texts_finish(&t->known);
    free(t);
}

/* --- scores --- */

static uint32_t left_of(uint32_t lost)
{
    return lost >= CG_TRUST_FULL ? 0 : CG_TRUST_FULL - lost;
}

uint32_t cg_trust_score(const struct cg_trust *t)
{
    return left_of(t->lost);
}

uint32_t cg_trust_deductions(const struct cg_trust *t)
{
    return t->count;
}

unsigned cg_trust_sessions(const struct cg_trust *t, const struct cg_trust_session **out)
{
    *out = t->session;
    return t->nsessions;
}

static struct cg_trust_session *find_session(const struct cg_trust *t, const char *id)
{
    for (unsigned i = 0; i < t->nsessions; i++)
        if (strcmp(t->session[i].id, id) == 0)
            return (struct cg_trust_session *)(uintptr_t)&t->session[i];
    return NULL;
}

uint32_t cg_trust_session_score(const struct cg_trust *t, const char *session)
{
    const struct cg_trust_session *s = find_session(t, session);
    return s ? left_of(s->points) : CG_TRUST_FULL;
}

const char *cg_trust_band(uint32_t score)
{
    return score >= 90   ? "excellent"
           : score >= 70 ? "good"
           : score >= 50 ? "caution"
           : score >= 30 ? "warning"
                         : "critical";
}

/* --- deductions --- */

static void charge_session(struct cg_trust *t, const char *id, uint32_t points, int64_t at)
{
    struct cg_trust_session *s = id[0] ? find_session(t, id) : NULL;
    if (!s && id[0] && t->nsessions < CG_TRUST_SESSIONS) {
        s = &t->session[t->nsessions++];
        (void)cg_strlcpy(s->id, sizeof s->id, id);
    }
    if (!s)
        return;
    s->points += points;
    s->t = points > 0 || s->t == 0 ? at : s->t;
}

static void add_evidence(struct cg_trust_deduction *d, uint64_t seq)
{
    unsigned at = d->nevidence;
    if (seq == 0)
        return;
    while (at > 0 && d->evidence[at - 1] > seq)
        at--;
    if ((at > 0 && d->evidence[at - 1] == seq) || d->nevidence == CG_TRUST_EVIDENCE)
        return;
    memmove(&d->evidence[at + 1], &d->evidence[at], (d->nevidence - at) * sizeof d->evidence[0]);
    d->evidence[at] = seq;
    d->nevidence++;
}

static void deduct(struct look *l, const struct cg_rule *r, struct rule_state *s)
{
    struct cg_trust *t = l->t;
    struct cg_trust_deduction d = {.rule = r, .t = l->e->t, .hits = CG_MAX(s->n, 1u)};
    d.points = CG_MIN(r->points, r->cap - s->spent);
    if (r->points > 0 && d.points == 0)
        return; /* it has cost what it may */
    s->spent += d.points;
    s->fired = true;
    s->last_t = l->e->t;
    t->lost += d.points;
    d.n = ++t->count;
    d.score = left_of(t->lost);
    add_evidence(&d, l->e->seq);
    add_evidence(&d, l->upstream);
    for (unsigned i = 0; i < s->n; i++)
        add_evidence(&d, s->ring[(s->first + i) % CG_WINDOW_MAX].seq);
    s->n = 0;
    (void)cg_strlcpy(d.session, sizeof d.session, l->e->session[0] ? l->e->session : t->current);
    charge_session(t, d.session, d.points, d.t);
    (void)cg_strlcpy(d.what, sizeof d.what,
                     l->what[0] ? l->what
                     : l->path  ? l->path
                     : l->host  ? l->host
                                : "");
    t->each(t->ctx, &d);
}

static uint64_t window_key(const struct look *l, const struct cg_rule *r)
{
    switch (r->window.distinct) {
    case CG_DISTINCT_PATH:
        return l->path ? hash_text(l->path) : l->e->seq;
    case CG_DISTINCT_HOST:
    case CG_DISTINCT_NAME:
        return l->host ? hash_text(l->host) : l->e->seq;
    case CG_DISTINCT_NONE:
        break;
    }
    return l->e->seq;
}

/* Puts a hit into the rule's window; true when that is full. */
static bool window_full(const struct look *l, const struct cg_rule *r, struct rule_state *s)
{
    const struct cg_window *w = &r->window;
    uint64_t key = window_key(l, r);
    struct window_entry *same = NULL;
    int64_t out = 0;
    int64_t in = 0;
    while (s->n > 0 && l->e->t - s->ring[s->first].t > (int64_t)w->seconds * NS_PER_S) {
        s->first = (s->first + 1) % CG_WINDOW_MAX;
        s->n--;
    }
    for (unsigned i = 0; i < s->n && w->distinct && !same; i++)
        if (s->ring[(s->first + i) % CG_WINDOW_MAX].key == key)
            same = &s->ring[(s->first + i) % CG_WINDOW_MAX];
    if (same) {
        same->out += l->out;
        same->in += l->in;
    } else {
        if (s->n == CG_WINDOW_MAX) {
            s->first = (s->first + 1) % CG_WINDOW_MAX;
            s->n--;
        }
        s->ring[(s->first + s->n++) % CG_WINDOW_MAX] =
            (struct window_entry){l->e->t, l->e->seq, key, l->out, l->in};
    }
    for (unsigned i = 0; i < s->n; i++) {
        out += s->ring[(s->first + i) % CG_WINDOW_MAX].out;
        in += s->ring[(s->first + i) % CG_WINDOW_MAX].in;
    }
    return s->n >= w->count && out >= w->bytes_out && in >= w->bytes_in;
}

/* A host costs once, as long as it is remembered. */
static bool host_new(const struct look *l, struct rule_state *s)
{
    uint64_t h = hash_text(l->host ? l->host : "");
    for (unsigned i = 0; i < CG_MIN(s->nhosts, (unsigned)HOSTS_SEEN); i++)
        if (s->host[i] == h)
            return false;
    s->host[s->nhosts++ % HOSTS_SEEN] = h;
    return true;
}

static void hit(struct look *l, const struct cg_rule *r, struct rule_state *s)
{
    if (s->fired && l->e->t - s->last_t < (int64_t)r->cooldown_s * NS_PER_S)
        return;
    if (r->once_per_host && !host_new(l, s))
        return;
    if (r->window.seconds > 0 && !window_full(l, r, s))
        return;
    deduct(l, r, s);
}

static void look_at(struct look *l, enum cg_cond_kind kind)
{
    for (unsigned i = 0; i < l->t->pack->nrules; i++) {
        const struct cg_rule *r = &l->t->pack->rules[i];
        bool fits = false;
        l->path = l->host = NULL;
        l->out = l->in = 0;
        if (kind != CG_COND_DOWNLOADED)
            l->upstream = 0;
        for (unsigned k = 0; k < r->nwhen && !fits && !r->off; k++)
            fits = r->when[k].kind == kind && cond_matches(l, &r->when[k]);
        if (fits)
            hit(l, r, &l->t->state[i]);
    }
}

/* --- commands --- */

static void say_command(struct look *l)
{
    size_t n = 0;
    for (int i = 0; i < l->argc && n + 2 < sizeof l->what; i++) {
        if (i > 0)
            l->what[n++] = ' ';
        (void)cg_strlcpy(l->what + n, sizeof l->what - n, l->argv[i]);
        n += strlen(l->what + n);
    }
    l->what[n] = '\0';
}

static bool redirects(const struct cg_sh *sh, int command)
{
    for (int i = 0; i < sh->nredirects; i++)
        if (sh->redirect[i].command == command)
            return true;
    return false;
}

/* Every command of the engine's parsed text. */
static void look_at_text(const struct look *outer)
{
    struct cg_trust *t = outer->t;
    const char *argv[CG_SH_ARGV];
    for (int i = 0; i < t->sh.ncommands; i++) {
        struct look l = {.t = t,
                         .e = outer->e,
                         .argv = argv,
                         .argc = cg_sh_argv(&t->sh, i, argv),
                         .cwd = outer->cwd,
                         .sh = &t->sh,
                         .command = i,
                         .uid = outer->uid,
                         .pid = outer->pid};
        if (l.argc == 0 && redirects(&t->sh, i)) { /* "> file" is ": > file" */
            argv[0] = ":";
            l.argc = 1;
        }
        look_command(&l);
        say_command(&l);
        if (l.argc > 0)
            look_at(&l, CG_COND_COMMAND);
    }
}

static void look_at_inline(const struct look *l)
{
    const char *text = cg_sh_inline_text(l->argv, l->argc);
    if (!text)
        return;
    cg_sh_parse(&l->t->sh, cg_slice_of(text));
    look_at_text(l);
}

/* Programs that read their program from standard input and stand beside a process that has just
 * begun: what feeds them may come after them. */
static void look_at_readers(struct cg_trust *t, const struct look *fed)
{
    const struct proc *me = procs_find(&t->procs, fed->pid);
    for (unsigned i = 0; me && i < CG_MIN(t->procs.nreaders, (unsigned)READERS); i++) {
        const struct proc r = t->procs.reader[i];
        const char *argv[] = {r.program};
        if (r.pid == fed->pid || r.ppid != me->ppid || r.ppid <= 1)
            continue;
        struct look l = {.t = t,
                         .e = fed->e,
                         .argv = argv,
                         .argc = 1,
                         .cwd = fed->cwd,
                         .uid = fed->uid,
                         .pid = r.pid,
                         .reader = true};
        look_command(&l);
        (void)cg_strlcpy(l.what, sizeof l.what, fed->what);
        look_at(&l, CG_COND_COMMAND);
    }
}

static uint64_t downloaded_by(struct look *l)
{
    char path[PATH_BYTES];
    const char *exe = cg_event_text(l->e, "exe");
    path_whole(l->cwd, l->argv[l->script >= 0 ? l->script : l->program], l->uid, path);
    uint64_t h = hash_text(path);
    uint64_t x = hash_text(exe ? exe : "");
    for (unsigned i = 0; i < CG_MIN(l->t->ndownloads, (unsigned)DOWNLOADS); i++)
        if (l->t->download[i].path == h || l->t->download[i].path == x)
            return l->t->download[i].seq;
    return 0;
}

static void on_exec(struct cg_trust *t, struct cg_event *e)
{
    const char *argv[CG_SH_ARGV];
    struct look l = {.t = t, .e = e, .argv = argv};
    l.argc = cg_event_texts(e, "argv", argv, CG_SH_ARGV);
    if (l.argc == 0)
        return;
    l.cwd = cg_event_text(e, "cwd");
    l.uid = cg_event_int(e, "uid", -1);
    l.pid = cg_event_int(e, "pid", 0);
    look_command(&l);
    say_command(&l);
    if (l.program >= l.argc)
        return;
    procs_exec(&t->procs, &l, cg_event_int(e, "ppid", 0));
    look_at(&l, CG_COND_COMMAND);
    l.upstream = downloaded_by(&l);
    if (l.upstream)
        look_at(&l, CG_COND_DOWNLOADED);
    look_at_inline(&l);
    look_at_readers(t, &l);
}

static void on_start(struct cg_trust *t, struct cg_event *e)
{
    const char *argv[CG_SH_ARGV];
    const char *shell = cg_event_text(e, "shell");
    const char *user = cg_event_text(e, "user");
    struct look l = {.t = t, .e = e, .argv = argv, .uid = -1};
    if (!cg_streq(cg_event_text(e, "phase"), "start"))
        return;
    l.cwd = cg_event_text(e, "cwd");
    l.uid = cg_streq(user, "root") ? 0 : 1000;
    (void)cg_strlcpy(t->current, sizeof t->current, e->session); /* or none: nobody's command */
    l.argc = shell ? 0 : cg_event_texts(e, "argv", argv, CG_SH_ARGV);
    look_command(&l);
    if (shell) {
        cg_sh_parse(&t->sh, cg_slice_of(shell));
        look_at_text(&l);
        l.sh = &t->sh;
        (void)cg_strlcpy(l.what, sizeof l.what, shell);
    } else if (l.argc > 0) {
        say_command(&l);
        look_at(&l, CG_COND_COMMAND);
        look_at_inline(&l);
    }
    look_at(&l, CG_COND_START);
}

/* --- the rest --- */

static void note_file(struct cg_trust *t, struct cg_event *e)
{
    static const char *const downloaders[] = {"curl", "wget", "aria2c", "axel", "scp", "sftp"};
    const char *op = cg_event_text(e, "op");
    const char *path = cg_event_text(e, "path");
    const char *by = cg_event_text(e, "comm");
    const char *to = cg_event_text(e, "to");
    if (!op || !path || !cg_streq(cg_event_text(e, "origin"), "observed"))
        return;
    bool makes = strcmp(op, "create") == 0;
    bool moves = strcmp(op, "rename") == 0 && to;
    if ((makes && !cg_streq(by, "git")) ||
        (moves && t->fresh[hash_text(path) % FRESH] == hash_text(path))) {
        uint64_t h = hash_text(moves ? to : path);
        t->fresh[h % FRESH] = h;
    }
    if (strcmp(op, "delete") == 0 && t->fresh[hash_text(path) % FRESH] == hash_text(path))
        t->fresh[hash_text(path) % FRESH] = 0; /* whatever has this name next is another file */
    bool loads = false;
    for (size_t i = 0; i < CG_COUNT(downloaders) && !loads; i++)
        loads = cg_streq(by, downloaders[i]) && (makes || strcmp(op, "write") == 0);
    for (unsigned i = 0; moves && i < CG_MIN(t->ndownloads, (unsigned)DOWNLOADS) && !loads; i++)
        loads = t->download[i].path == hash_text(path);
    if (loads)
        t->download[t->ndownloads++ % DOWNLOADS] =
            (struct download){hash_text(moves ? to : path), e->seq};
}

static void simple(struct cg_trust *t, struct cg_event *e, enum cg_cond_kind kind)
{
    struct look l = {.t = t, .e = e, .uid = cg_event_int(e, "uid", -1)};
    l.pid = cg_event_int(e, "pid", 0);
    if (kind == CG_COND_PROCESS) {
        const char *event = cg_event_text(e, "event");
        const char *by = cg_event_text(e, "comm");
        size_t n = 0;
        (void)cg_strlcpy(l.what, sizeof l.what, event ? event : "");
        n = strlen(l.what);
        (void)cg_strlcpy(l.what + n, sizeof l.what - n, " by ");
        n = strlen(l.what);
        (void)cg_strlcpy(l.what + n, sizeof l.what - n, by ? by : "?");
    }
    look_at(&l, kind);
}

/* The first `trust` line of a record: hosts that were known then. */
static void on_pack(struct cg_trust *t, struct cg_event *e)
{
    const char *hosts[CG_SH_ARGV];
    if (t->count > 0 || t->known.n > 0 || !cg_streq(cg_event_text(e, "event"), "pack"))
        return;
    int n = cg_event_texts(e, "known", hosts, CG_SH_ARGV);
    for (int i = 0; i < n; i++)
        cg_texts_add(&t->known, hosts[i]);
}

void cg_trust_line(struct cg_trust *t, const struct cg_record_line *line)
{
    struct cg_event *e = &t->event;
    if (!cg_event_read(e, line) || e->claim)
        return;
    if (e->session[0])
        charge_session(t, e->session, 0, e->t);
    switch (e->type) {
    case CG_REC_PROCESS:
        if (cg_streq(cg_event_text(e, "event"), "exec"))
            on_exec(t, e);
        else if (!cg_streq(cg_event_text(e, "event"), "exit"))
            simple(t, e, CG_COND_PROCESS);
        break;
    case CG_REC_COMMAND:
        on_start(t, e);
        break;
    case CG_REC_FILE_OP:
        simple(t, e, CG_COND_FILE);
        note_file(t, e);
        break;
    case CG_REC_NETWORK:
        simple(t, e, CG_COND_NETWORK);
        break;
    case CG_REC_DNS:
        simple(t, e, CG_COND_DNS);
        break;
    case CG_REC_GAP:
        simple(t, e, CG_COND_GAP);
        break;
    case CG_REC_TRUST:
        on_pack(t, e);
        break;
    case CG_REC_LIFECYCLE:
    case CG_REC_TERMINAL:
    case CG_REC_PORT:
    case CG_REC_ERROR:
    case CG_REC_CLAIM:
    case CG_REC_LLM_CALL:
    case CG_REC_COST:
    case CG_REC_SESSION:
    case CG_REC_CONTENT:
    case CG_REC_TYPE_COUNT:
        break;
    }
}

void cg_trust_write(const struct cg_trust_deduction *d, struct cg_jsonw *w)
{
    cg_jsonw_kstr(w, "event", "deduction");
    cg_jsonw_kuint(w, "n", d->n);
    cg_jsonw_kstr(w, "rule", d->rule->id);
    cg_jsonw_kstr(w, "severity", cg_severity_name(d->rule->severity));
    cg_jsonw_kuint(w, "points", d->points);
    cg_jsonw_kuint(w, "score", d->score);
    cg_jsonw_key(w, "evidence");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < d->nevidence; i++)
        cg_jsonw_uint(w, d->evidence[i]);
    cg_jsonw_arr_end(w);
    cg_jsonw_kuint(w, "hits", d->hits);
    cg_jsonw_kstr(w, "what", d->what);
    cg_jsonw_kstr(w, "session", d->session[0] ? d->session : NULL);
}
