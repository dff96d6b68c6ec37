#include "warden/trust.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "record/reader.h"
#include "trust/trust.h"
#include "warden/ready.h"
#include "warden/up.h"

enum { BATCH_LINES = 4000, FOUND_MAX = 64, PUSH_MAX = 16 * 1024 };

struct watcher {
    struct watcher *next;
    struct up up;
};

struct trust {
    struct warden *w;
    struct cg_pack *pack;
    struct cg_trust *engine;
    struct cg_record_reader *reader;
    uv_work_t work;
    bool busy, broken;
    uint64_t limit, cursor;                     /* of the batch under way; the last line read */
    uint64_t replay_to;                         /* lines up to here were there before this warden */
    uint32_t told;                              /* deductions that stand in the record */
    bool full;                                  /* the batch ended because found[] was full */
    struct cg_trust_deduction found[FOUND_MAX]; /* not told yet */
    unsigned nfound;
    uint32_t score, count; /* after what was told */
    struct watcher *watchers;
};

/* --- the engine, on the pool --- */

static void on_deduction(void *ctx, const struct cg_trust_deduction *d)
{
    struct trust *t = ctx;
    if (d->n <= t->told)
        return;
    if (t->nfound == FOUND_MAX) { /* only while a record is read again: the latest count */
        memmove(&t->found[0], &t->found[1], (FOUND_MAX - 1) * sizeof t->found[0]);
        t->nfound--;
    }
    t->found[t->nfound++] = *d;
}

/* What a `trust` line of the record itself says was told. */
static void note_told(struct trust *t, const struct cg_record_line *line)
{
    if (!cg_slice_eq(line->type, "trust"))
        return;
    CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(line->data, NULL, NULL);
    int64_t n = cg_json_int(data, "n", 0);
    if (cg_streq(cg_json_str(data, "event"), "deduction") && n > t->told && n < UINT32_MAX)
        t->told = (uint32_t)n;
}

static void on_work(uv_work_t *work)
{
    struct trust *t = work->data;
    struct cg_err e = CG_ERR_INIT;
    struct cg_record_line line;
    struct cg_slice text;
    t->full = false;
    for (unsigned i = 0; i < BATCH_LINES; i++) {
        bool replays = t->cursor < t->replay_to;
        if (!replays && t->nfound > FOUND_MAX / 2) {
            t->full = true;
            return;
        }
        enum cg_record_got got = cg_record_read(t->reader, t->limit, &text, &line, &e);
        if (got == CG_RECORD_ERROR) {
            cg_log(CG_LOG_ERROR, CG_EVENT("trust.read_failed"), CG_E(&e));
            t->broken = true;
            return;
        }
        if (got == CG_RECORD_END) {
            t->cursor = t->limit;
            return;
        }
        note_told(t, &line);
        cg_trust_line(t->engine, &line);
        t->cursor = line.seq;
    }
    t->full = true;
}

/* --- telling --- */

static void write_score(const struct trust *t, struct cg_jsonw *j)
{
    cg_jsonw_kuint(j, "score", t->score);
    cg_jsonw_kuint(j, "deductions", t->count);
}

static void push(struct trust *t, const struct cg_trust_deduction *last, struct watcher *only)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    const struct cg_trust_session *s = NULL;
    struct cg_jsonw j;
    if (!t->watchers)
        return;
    cg_buf_init(&b, PUSH_MAX);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    write_score(t, &j);
    cg_jsonw_key(&j, "sessions");
    cg_jsonw_arr(&j);
    unsigned n = t->busy ? 0 : cg_trust_sessions(t->engine, &s);
    for (unsigned i = 0; i < n; i++) {
        cg_jsonw_obj(&j);
        cg_jsonw_kstr(&j, "session_id", s[i].id);
        cg_jsonw_kuint(&j, "score", cg_trust_session_score(t->engine, s[i].id));
        cg_jsonw_obj_end(&j);
    }
    cg_jsonw_arr_end(&j);
    if (last) {
        cg_jsonw_key(&j, "last");
        cg_jsonw_obj(&j);
        cg_trust_write(last, &j);
        cg_jsonw_obj_end(&j);
    }
    cg_jsonw_obj_end(&j);
    for (struct watcher *v = t->watchers; v; v = v->next) {
        if (only && v != only)
            continue;
        cg_link_control(v->up.s, cg_buf_slice(&b));
        up_kick(&v->up);
    }
}

/* False: the record takes no line now; the rest is told at the next turn. */
static bool tell(struct trust *t, const struct cg_trust_deduction *d)
{
    const char *session = cg_record_session_valid(d->session) ? d->session : NULL;
    struct cg_jsonw *j = cg_record_begin(t->w->record, CG_REC_TRUST, CG_SRC_HOST, session);
    cg_trust_write(d, j);
    if (cg_record_end(t->w->record) == 0)
        return false;
    t->told = d->n;
    t->score = d->score;
    t->count = d->n;
    push(t, d, NULL);
    return true;
}

static void tell_found(struct trust *t)
{
    unsigned i = 0;
    if (t->cursor < t->replay_to)
        return;
    while (i < t->nfound && (t->found[i].n <= t->told || tell(t, &t->found[i])))
        i++;
    memmove(&t->found[0], &t->found[i], (t->nfound - i) * sizeof t->found[0]);
    t->nfound -= i;
}

static void on_worked(uv_work_t *work, int status)
{
    struct trust *t = work->data;
    (void)status;
    t->busy = false;
    if (t->w->over)
        return;
    bool replayed = t->cursor >= t->replay_to;
    tell_found(t);
    if (replayed && t->nfound == 0 && t->score != cg_trust_score(t->engine)) {
        t->score = cg_trust_score(t->engine); /* of a record that was taken over */
        t->count = cg_trust_deductions(t->engine);
        push(t, NULL, NULL);
    }
    trust_progress(t->w);
}

void trust_progress(struct warden *w)
{
    struct trust *t = w->trust;
    if (!t || t->busy || t->broken || w->over)
        return;
    if (t->nfound > 0)
        tell_found(t);
    t->limit = cg_record_durable(w->record);
    if (t->limit <= t->cursor && !t->full)
        return;
    t->busy = true;
    t->work.data = t;
    CG_ASSERT(uv_queue_work(w->loop, &t->work, on_work, on_worked) == 0);
}

bool trust_settled(const struct warden *w)
{
    const struct trust *t = w->trust;
    struct cg_record_stats stats;
    if (!t || t->broken || w->commit.failing)
        return true;
    cg_record_get_stats(w->record, &stats);
    return !t->busy && t->nfound == 0 && t->cursor >= stats.seq;
}

bool trust_busy(const struct warden *w)
{
    return w->trust && w->trust->busy;
}

/* --- life --- */

static bool slurp(struct warden *w, const char *name, char **out, size_t *n, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = openat(w->fds.dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s", name);
    if (st.st_size > CG_PACK_MAX)
        return cg_fail(e, CG_TOO_LARGE, "%s has %lld bytes", name, (long long)st.st_size);
    *n = (size_t)st.st_size;
    *out = cg_alloc(*n + 1);
    return cg_fd_read_full(fd, *out, *n, e);
}

bool trust_start(struct warden *w, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    CG_OWN(cg_drop_free) char *over = NULL;
    struct cg_err why = CG_ERR_INIT;
    size_t n = 0;
    size_t over_n = 0;
    if (w->config.make_golden)
        return true;
    if (!slurp(w, "trust.yaml", &text, &n, &why)) {
        if (why.code == CG_NOT_FOUND)
            return true;
        *e = why;
        return false;
    }
    if (!slurp(w, "trust.own.yaml", &over, &over_n, &why) && why.code != CG_NOT_FOUND) {
        *e = why;
        return false;
    }
    struct trust *t = cg_alloc(sizeof *t);
    w->trust = t;
    t->w = w;
    t->score = CG_TRUST_FULL;
    const struct cg_slice rules = {text, n}, own = {over ? over : "", over_n};
    t->pack = ready_take_pack(w->fds.ready, rules, own);
    if (!t->pack)
        t->pack = cg_pack_read("trust.yaml", rules, "trust.own.yaml", own, e);
    if (!t->pack)
        return false;
    t->engine = cg_trust_create(t->pack, NULL, on_deduction, t);
    t->replay_to = cg_record_durable(w->record);
    t->reader = cg_record_reader_open(w->record_dir, 0, e);
    return t->reader != NULL;
}

/* What the score is computed with, so that anybody can do it again. */
void trust_opened(struct warden *w, bool first)
{
    const struct cg_json *known = cg_json_get(cg_json_get(w->config.root, "trust"), "known");
    if (!w->trust || !first)
        return;
    const struct cg_pack *p = w->trust->pack;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_TRUST, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "pack");
    cg_jsonw_kstr(j, "pack", p->name);
    cg_jsonw_kuint(j, "version", p->version);
    cg_jsonw_kstr(j, "hash", p->hash);
    if (known) {
        cg_jsonw_key(j, "known");
        cg_jsonw_value(j, known);
    }
    cg_record_end(w->record);
}

void trust_free(struct warden *w)
{
    struct trust *t = w->trust;
    if (!t)
        return;
    w->trust = NULL;
    cg_record_reader_close(t->reader);
    cg_trust_destroy(t->engine);
    cg_pack_destroy(t->pack);
    free(t);
}

/* --- for servers --- */

static void on_cancel(struct up *u, bool lost)
{
    struct watcher *v = CG_CONTAINER(u, struct watcher, up);
    struct watcher **at = &u->w->trust->watchers;
    (void)lost;
    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    up_close(u, cg_slice_of("{}"));
    free(v);
}

void trust_open(struct warden *w, struct conn *c, struct cg_link_stream *s)
{
    static const struct up_ops ops = {.on_cancel = on_cancel};
    if (!w->trust) {
        refuse(c, s, CG_UNSUPPORTED, "this sandbox has no rules of trust");
        return;
    }
    struct watcher *v = cg_alloc(sizeof *v);
    v->next = w->trust->watchers;
    w->trust->watchers = v;
    up_init(&v->up, &ops, c, s);
    up_accept(&v->up, cg_slice_of("{}"));
    push(w->trust, NULL, v);
}

void trust_status(const struct warden *w, struct cg_jsonw *j)
{
    if (!w->trust)
        return;
    cg_jsonw_key(j, "trust");
    cg_jsonw_obj(j);
    write_score(w->trust, j);
    cg_jsonw_kuint(j, "seq", w->trust->cursor);
    cg_jsonw_obj_end(j);
}
