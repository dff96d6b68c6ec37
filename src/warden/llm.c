/* The ledger's rows are lines of the record (`cost`, event "ledger"), so that group commit makes
 * them durable and a restart replays them. A row that the disk refused is never counted as durable,
 * so nothing that depends on it goes upstream. At 100 percent the calls are cut, servers are told
 * (`costs`), and when none of them acts within a second the warden ends the sandbox itself. */
#include "warden/llm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "record/reader.h"
#include "warden/up.h"

enum { BOOK_MAX = 8 << 20, GUARD_TICKS = 2, PENDING_ROWS = 1 << 16 };

struct costs {
    struct costs *next;
    struct up up;
};

struct llm {
    struct warden *w;
    struct cg_prices *prices;
    struct cg_ledger *ledger;
    struct cg_gateway *gateway;
    struct cg_compute compute;
    int node;
    uint64_t *seqs; /* of rows that are not durable yet, in order */
    size_t nseqs, at;
    uint64_t durable_rows;
    uint64_t last_call;
    bool replaying, poisoned, exceeded, running;
    unsigned seconds_broke;
    int alerted;
    struct costs *watchers;
};

/* --- rows --- */

static void on_row(void *ctx, const struct cg_ledger_row *row)
{
    struct llm *l = ctx;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "ledger");
    cg_jsonw_key(&j, "row");
    cg_ledger_row_write(row, &j);
    cg_jsonw_obj_end(&j);
    uint64_t seq = cg_record_append(l->w->record, CG_REC_COST, CG_SRC_HOST, NULL, cg_buf_slice(&b));
    if (seq == 0 || l->nseqs - l->at == PENDING_ROWS)
        l->poisoned = true;
    if (l->at > 0 && l->at == l->nseqs)
        l->at = l->nseqs = 0;
    if (l->nseqs == PENDING_ROWS) {
        memmove(l->seqs, l->seqs + l->at, (l->nseqs - l->at) * sizeof *l->seqs);
        l->nseqs -= l->at;
        l->at = 0;
    }
    if (l->nseqs < PENDING_ROWS)
        l->seqs[l->nseqs++] = seq;
}

void llm_progress(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l)
        return;
    l->poisoned |= w->commit.failing;
    if (l->poisoned) {
        cg_gateway_block(l->gateway, true);
        return;
    }
    uint64_t durable = cg_record_durable(w->record);
    size_t before = l->at;
    while (l->at < l->nseqs && l->seqs[l->at] <= durable)
        l->at++;
    l->durable_rows += l->at - before;
    if (l->at != before)
        cg_ledger_durable(l->ledger, l->durable_rows);
    if (l->gateway) /* the last lines become durable after its end */
        cg_gateway_progress(l->gateway);
}

/* --- what is told --- */

static void write_costs(const struct llm *l, struct cg_jsonw *j)
{
    struct cg_budget b = {.limit_nusd = CG_LEDGER_UNLIMITED};
    (void)cg_ledger_get(l->ledger, l->node, &b);
    cg_jsonw_kint(j, "llm_nusd", b.llm_nusd);
    cg_jsonw_kint(j, "compute_nusd", b.compute_nusd);
    cg_jsonw_kint(j, "uncertain_nusd", b.uncertain_nusd);
    cg_jsonw_kint(j, "held_nusd", b.held_nusd);
    cg_jsonw_kint(j, "accrued_nusd", b.accrued_nusd);
    cg_jsonw_kint(j, "tokens", b.settled_tokens);
    cg_jsonw_kuint(j, "open_calls", b.open);
    cg_jsonw_key(j, "limit_nusd");
    if (b.limit_nusd == CG_LEDGER_UNLIMITED)
        cg_jsonw_null(j);
    else
        cg_jsonw_int(j, b.limit_nusd);
    cg_jsonw_kbool(j, "exceeded", l->exceeded);
}

static void tell_watchers(struct llm *l)
{
    if (!l->watchers)
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 2048);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    write_costs(l, &j);
    cg_jsonw_obj_end(&j);
    for (struct costs *c = l->watchers; c; c = c->next) {
        cg_link_control(c->up.s, cg_buf_slice(&b));
        up_kick(&c->up);
    }
}

void llm_status(const struct warden *w, struct cg_jsonw *j)
{
    struct cg_gateway_stats s;
    if (!w->llm)
        return;
    cg_gateway_get_stats(w->llm->gateway, &s);
    cg_jsonw_key(j, "costs");
    cg_jsonw_obj(j);
    write_costs(w->llm, j);
    cg_jsonw_kuint(j, "calls", s.calls);
    cg_jsonw_kuint(j, "refused", s.refused);
    cg_jsonw_kuint(j, "cut", s.cut);
    cg_jsonw_obj_end(j);
}

static void on_costs_cancel(struct up *u, bool lost)
{
    struct costs *c = CG_CONTAINER(u, struct costs, up);
    struct costs **at = &u->w->llm->watchers;
    (void)lost;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    up_close(u, cg_slice_of("{}"));
    free(c);
}

void llm_costs_open(struct warden *w, struct conn *conn, struct cg_link_stream *s)
{
    static const struct up_ops ops = {.on_cancel = on_costs_cancel};
    if (!w->llm) {
        refuse(conn, s, CG_UNSUPPORTED, "this sandbox has no gateway");
        return;
    }
    struct costs *c = cg_alloc(sizeof *c);
    c->next = w->llm->watchers;
    w->llm->watchers = c;
    up_init(&c->up, &ops, conn, s);
    up_accept(&c->up, cg_slice_of("{}"));
    tell_watchers(w->llm);
}

/* --- the guard --- */

static void exceeded(struct llm *l)
{
    if (l->exceeded || l->replaying)
        return;
    l->exceeded = true;
    l->seconds_broke = 0;
    cg_gateway_block(l->gateway, false);
    tell_watchers(l);
    commit_now(&l->w->commit);
}

static void on_alert(void *ctx, int node, int percent, int64_t spent, int64_t limit)
{
    static const char *const names[] = {"budget_warning", "budget_critical", "budget_exceeded"};
    struct llm *l = ctx;
    (void)node;
    if (l->replaying)
        return;
    struct cg_jsonw *j = cg_record_begin(l->w->record, CG_REC_COST, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", names[percent >= 100 ? 2 : percent >= 95 ? 1 : 0]);
    cg_jsonw_kint(j, "percent", percent);
    cg_jsonw_kint(j, "spent_nusd", spent);
    cg_jsonw_kint(j, "limit_nusd", limit);
    cg_record_end(l->w->record);
    if (percent >= 100)
        exceeded(l);
}

static void on_broke(void *ctx)
{
    (void)ctx; /* the ledger has given its alert already */
}

void llm_budget_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                     const struct cg_json *request)
{
    struct llm *l = w->llm;
    const struct cg_json *v = cg_json_get(request, "limit_nusd");
    struct up u;
    if (!l || !v || (v->type != CG_JSON_INT && v->type != CG_JSON_NULL) ||
        (v->type == CG_JSON_INT && v->integer < 0)) {
        refuse(c, s, CG_INVALID, "budget needs limit_nusd: nano-dollars, or null for none");
        return;
    }
    int64_t limit = v->type == CG_JSON_INT ? v->integer : CG_LEDGER_UNLIMITED;
    l->exceeded = false;
    cg_gateway_unblock(l->gateway);
    cg_ledger_limit(l->ledger, l->node, limit, CG_LEDGER_UNLIMITED, cg_mono_ns());
    commit_now(&w->commit);
    tell_watchers(l);
    up_init(&u, NULL, c, s);
    up_close(&u, cg_slice_of("{}"));
}

static uint64_t egress_bytes(const struct warden *w)
{
    struct cg_egress_stats s = {.connections = 0};
    if (w->egress)
        cg_egress_get_stats(w->egress, &s);
    return s.bytes_out;
}

static void charge(struct llm *l, int64_t nusd)
{
    sessions_compute(l->w->sessions, nusd);
    int64_t ahead = l->running ? cg_compute_ahead(&l->compute, INT64_C(2000000000)) : 0;
    if (!cg_ledger_compute(l->ledger, l->node, nusd, ahead, cg_mono_ns()) && l->running)
        exceeded(l);
}

void llm_running(struct warden *w, bool running)
{
    struct llm *l = w->llm;
    if (!l || l->running == running)
        return;
    l->running = running;
    charge(l, cg_compute_run(&l->compute, running, cg_mono_ns()));
}

static void settle(void *ctx)
{
    struct llm *l = ctx;
    if (l->running)
        charge(l, cg_compute_take(&l->compute, cg_mono_ns(), egress_bytes(l->w)));
}

void llm_second(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l)
        return;
    settle(l);
    tell_watchers(l);
    if (l->exceeded && ++l->seconds_broke >= GUARD_TICKS) {
        w->stop_grace_ms = 500;
        life_stop_now(w, "budget_exceeded");
    }
}

/* --- the gateway's callbacks --- */

static void on_verdict(void *ctx, uint64_t call, enum cg_verdict v, int64_t cap)
{
    struct llm *l = ctx;
    if (l->gateway)
        cg_gateway_verdict(l->gateway, call, v, cap);
}

static void on_tell(void *ctx, struct cg_slice data)
{
    struct llm *l = ctx;
    warden_active(l->w);
    const char *session = sessions_call(l->w->sessions, data);
    cg_record_append(l->w->record, CG_REC_LLM_CALL, CG_SRC_HOST, session, data);
    tell_watchers(l);
}

static bool on_blob(void *ctx, struct cg_slice bytes, char name[65])
{
    struct llm *l = ctx;
    struct cg_err e = CG_ERR_INIT;
    return cg_record_put_blob(l->w->record, bytes, name, &e);
}

static void on_hurry(void *ctx)
{
    struct llm *l = ctx;
    commit_now(&l->w->commit);
}

static const struct cg_gateway_ops gateway_ops = {on_tell, on_blob, on_hurry, on_broke};
static const struct cg_ledger_events ledger_events = {
    .row = on_row, .verdict = on_verdict, .alert = on_alert};

void llm_keys(struct warden *w, const struct cg_json *keys)
{
    struct llm_config *c = &w->config.llm;
    for (size_t i = 0; i < c->nproviders; i++) {
        const char *key = cg_json_str(keys, c->providers[i].name);
        if (key && !strpbrk(key, "\r\n"))
            (void)cg_strlcpy(c->providers[i].key, sizeof c->providers[i].key, key);
    }
}

/* --- life --- */

static bool read_book(struct warden *w, const char *name, bool must, struct cg_buf *out,
                      struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = openat(w->fds.dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    cg_buf_init(out, BOOK_MAX);
    if (fd < 0 && !must)
        return true;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s", name);
    size_t n = (size_t)st.st_size;
    char *room = n > 0 && n < BOOK_MAX ? cg_buf_room(out, n) : NULL;
    if (!room || !cg_fd_read_full(fd, room, n, e))
        return cg_fail(e, CG_INVALID, "%s cannot be read, or has more than %d bytes", name,
                       BOOK_MAX);
    cg_buf_grew(out, n);
    return true;
}

static bool load_prices(struct llm *l, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf book;
    CG_OWN(cg_drop_buf) struct cg_buf own;
    cg_buf_init(&own, 1);
    if (!read_book(l->w, "prices.json", true, &book, e) ||
        !read_book(l->w, "prices.own.json", false, &own, e))
        return false;
    l->prices = cg_prices_create(cg_buf_slice(&book), cg_buf_slice(&own), e);
    return l->prices != NULL;
}

static bool replay_line(struct llm *l, const struct cg_record_line *line, struct cg_err *e)
{
    struct cg_ledger_row row;
    if (!cg_slice_eq(line->type, "cost") || !cg_slice_eq(line->src, "host"))
        return true;
    CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(line->data, NULL, NULL);
    if (!cg_streq(cg_json_str(data, "event"), "ledger"))
        return true;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_value(&j, cg_json_get(data, "row"));
    if (!cg_ledger_row_parse(cg_buf_slice(&b), &row, e) || !cg_ledger_replay(l->ledger, &row, e))
        return cg_wrap(e, "line %llu of the record", (unsigned long long)line->seq);
    l->last_call = CG_MAX(l->last_call, row.call);
    l->node = 0;
    return true;
}

/* The ledger as the record tells it; what was open is settled at its full hold. */
static bool replay(struct llm *l, struct cg_err *e)
{
    struct cg_record_reader *r = cg_record_reader_open(l->w->record_dir, 0, e);
    struct cg_record_line line;
    struct cg_slice text;
    bool ok = r != NULL;
    enum cg_record_got got = CG_RECORD_LINE;
    l->replaying = true;
    l->node = -1;
    while (ok && got == CG_RECORD_LINE) {
        got = cg_record_read(r, UINT64_MAX, &text, &line, e);
        ok = got != CG_RECORD_ERROR && (got == CG_RECORD_END || replay_line(l, &line, e));
    }
    cg_record_reader_close(r);
    l->replaying = false;
    if (!ok)
        return cg_wrap(e, "read the ledger of the record");
    if (l->node < 0)
        l->node = cg_ledger_budget(l->ledger, CG_LEDGER_NONE, l->w->config.llm.budget_nusd,
                                   CG_LEDGER_UNLIMITED, cg_mono_ns());
    else
        cg_ledger_recover(l->ledger, cg_mono_ns());
    return true;
}

static void on_serve(void *ctx, int fd, const struct cg_egress_peer *peer)
{
    struct llm *l = ctx;
    cg_gateway_serve(l->gateway, fd, peer->tls ? peer->name : NULL);
}

static bool make_gateway(struct llm *l, struct cg_err *e)
{
    const struct llm_config *c = &l->w->config.llm;
    struct cg_gateway_options o = {.prices = l->prices,
                                   .ledger = l->ledger,
                                   .providers = c->providers,
                                   .nproviders = c->nproviders,
                                   .node = l->node,
                                   .last_call = l->last_call,
                                   .bodies = c->bodies,
                                   .ops = &gateway_ops,
                                   .ctx = l};
    (void)cg_strlcpy(o.token, sizeof o.token, c->token);
    l->gateway = cg_gateway_create(l->w->loop, &o, e);
    if (!l->gateway)
        return false;
    const struct cg_egress_service service = {"gateway", CG_GATEWAY_ADDRESS, CG_GATEWAY_PORT,
                                              on_serve, l};
    cg_egress_add_service(l->w->egress, &service);
    return true;
}

bool llm_start(struct warden *w, struct cg_err *e)
{
    const struct llm_config *c = &w->config.llm;
    if (!c->on)
        return true;
    struct llm *l = cg_alloc(sizeof *l);
    w->llm = l;
    l->w = w;
    l->seqs = cg_alloc_array(PENDING_ROWS, sizeof *l->seqs);
    cg_compute_init(&l->compute, &cg_compute_default, w->config.vcpus, w->config.mem_mib,
                    w->config.disk_mib);
    const struct cg_ledger_options o = {.mode = c->strict ? CG_LEDGER_STRICT : CG_LEDGER_FLOW};
    l->ledger = cg_ledger_create(&o, &ledger_events, l);
    sessions_set_settle(w->sessions, settle, l);
    return load_prices(l, e) && replay(l, e) && make_gateway(l, e);
}

void llm_close(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l || !l->gateway)
        return;
    llm_running(w, false);
    cg_gateway_destroy(l->gateway);
    l->gateway = NULL;
}

void llm_free(struct warden *w)
{
    struct llm *l = CG_MOVE(w->llm);
    if (!l)
        return;
    sessions_set_settle(w->sessions, NULL, NULL);
    cg_ledger_destroy(l->ledger);
    cg_prices_destroy(l->prices);
    free(l->seqs);
    free(l);
}
