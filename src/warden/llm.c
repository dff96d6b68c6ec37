/* The ledger's rows are lines of the record (`cost`, event "ledger"), so that group commit makes
 * them durable and a restart replays them. A row that the disk refused is never counted as durable,
 * so nothing that depends on it goes upstream. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "intercept/intercept.h"
#include "warden/llm_inner.h"
#include "warden/ready.h"
#include "warden/secrets.h"

enum { BOOK_MAX = 8 << 20 };

/* --- rows --- */

static void on_row(void *ctx, const struct cg_ledger_row *row)
{
    struct llm *l = ctx;
    uint64_t seq = cg_ledger_row_append(l->w->record, row);
    if (seq == 0 || l->nseqs - l->at == LLM_PENDING_ROWS)
        l->poisoned = true;
    if (l->at > 0 && l->at == l->nseqs)
        l->at = l->nseqs = 0;
    if (l->nseqs == LLM_PENDING_ROWS) {
        memmove(l->seqs, l->seqs + l->at, (l->nseqs - l->at) * sizeof *l->seqs);
        l->nseqs -= l->at;
        l->at = 0;
    }
    if (l->nseqs < LLM_PENDING_ROWS)
        l->seqs[l->nseqs++] = seq;
}

void llm_progress(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l)
        return;
    l->poisoned |= w->commit.failing;
    if (l->poisoned) {
        if (l->gateway)
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
    llm_tell(l);
}

/* The ledger has given its alert already. */
static void on_broke(void *ctx)
{
    (void)ctx;
}

static void on_blob_begin(void *ctx, struct cg_slice bytes, struct cg_blob_work *work)
{
    cg_record_blob_begin(((struct llm *)ctx)->w->record, bytes, work);
}

static bool on_blob_end(void *ctx, struct cg_blob_work *work, char name[CG_BLOB_NAME])
{
    struct cg_err e = CG_ERR_INIT;
    return cg_record_blob_end(((struct llm *)ctx)->w->record, work, name, &e);
}

static void on_hurry(void *ctx)
{
    struct llm *l = ctx;
    commit_now(&l->w->commit);
}

static const struct cg_gateway_ops gateway_ops = {on_tell, on_blob_begin, on_blob_end, on_hurry,
                                                  on_broke};
static const struct cg_ledger_events ledger_events = {
    .row = on_row, .verdict = on_verdict, .alert = llm_alert, .want = llm_want};

void llm_keys(struct warden *w, const struct cg_json *keys)
{
    struct llm_config *c = &w->config.llm;
    for (size_t i = 0; i < c->nproviders; i++) {
        const char *key = cg_json_str(keys, c->providers[i].name);
        if (key && !strpbrk(key, "\r\n"))
            (void)cg_strlcpy(c->providers[i].key, sizeof c->providers[i].key, key);
    }
}

/* --- prices --- */

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
    struct cg_prices *made =
        ready_take_prices(l->w->fds.ready, cg_buf_slice(&book), cg_buf_slice(&own));
    if (!made)
        made = cg_prices_create(cg_buf_slice(&book), cg_buf_slice(&own), e);
    if (made)
        l->books[l->nbooks++] = made;
    return made != NULL;
}

/* Calls that are under way keep the book that they were admitted by. */
void llm_prices_open(struct warden *w, struct conn *c, struct cg_link_stream *s)
{
    struct llm *l = w->llm;
    struct cg_gateway_stats stats;
    struct cg_err e = CG_ERR_INIT;
    struct up u;
    if (!l || !l->gateway) {
        refuse(c, s, CG_UNSUPPORTED, "this sandbox has no gateway");
        return;
    }
    cg_gateway_get_stats(l->gateway, &stats);
    for (; stats.open == 0 && l->nbooks > 1; l->nbooks--) {
        cg_prices_destroy(l->books[0]);
        /* an array of pointers. NOLINTNEXTLINE(bugprone-sizeof-expression) */
        memmove(l->books, l->books + 1, (l->nbooks - 1) * sizeof *l->books);
    }
    if (l->nbooks == LLM_BOOKS) {
        refuse(c, s, CG_LIMIT, "prices changed too often while calls run");
        return;
    }
    if (!load_prices(l, &e)) {
        refuse(c, s, e.code, e.text);
        return;
    }
    cg_gateway_set_prices(l->gateway, l->books[l->nbooks - 1]);
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_COST, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "prices");
    cg_jsonw_kstr(j, "version", cg_prices_version(l->books[l->nbooks - 1]));
    cg_record_end(w->record);
    up_init(&u, NULL, c, s);
    up_close(&u, cg_slice_of("{}"));
}

/* --- the ledger --- */

/* What the server has decided since the last warden of this sandbox holds from here on. */
static void take_limits(struct llm *l)
{
    const struct llm_config *c = &l->w->config.llm;
    struct cg_budget b;
    bool same = cg_ledger_get(l->ledger, l->node, &b) && b.limit_nusd == c->budget_nusd &&
                b.limit_tokens == c->budget_tokens;
    if (!same)
        cg_ledger_limit(l->ledger, l->node, c->budget_nusd, c->budget_tokens, cg_mono_ns());
}

/* The account's budget may have come or gone while this one was paused: it has what it committed
 * and asks for more, or as much as it likes. */
static void take_lease(struct llm *l)
{
    struct cg_budget b = {.limit_nusd = 0};
    (void)cg_ledger_get(l->ledger, 0, &b);
    bool bound = b.limit_nusd != CG_LEDGER_UNLIMITED;
    if (l->w->config.llm.leased)
        cg_ledger_leased(l->ledger, 0, true, cg_mono_ns());
    if (l->w->config.llm.leased && !bound)
        cg_ledger_limit(l->ledger, 0, cg_money_add(b.settled_nusd, b.held_nusd),
                        CG_LEDGER_UNLIMITED, cg_mono_ns());
    if (!l->w->config.llm.leased && bound)
        cg_ledger_limit(l->ledger, 0, CG_LEDGER_UNLIMITED, CG_LEDGER_UNLIMITED, cg_mono_ns());
}

/* The ledger as the record tells it; what was open is settled at its full hold. */
static bool replay(struct llm *l, struct cg_err *e)
{
    const struct llm_config *c = &l->w->config.llm;
    l->replaying = true;
    bool ok = cg_ledger_replay_record(l->ledger, l->w->record_dir, &l->last_call, e);
    l->replaying = false;
    if (!ok)
        return false;
    int nodes = cg_ledger_nodes(l->ledger);
    if (nodes == 0) {
        int root = cg_ledger_budget(l->ledger, CG_LEDGER_NONE, c->leased ? 0 : CG_LEDGER_UNLIMITED,
                                    CG_LEDGER_UNLIMITED, cg_mono_ns());
        l->node = cg_ledger_budget(l->ledger, root, c->budget_nusd, c->budget_tokens, cg_mono_ns());
    } else {
        l->node = nodes - 1;
        cg_ledger_recover(l->ledger, cg_mono_ns());
        take_limits(l);
    }
    if (l->node != 0)
        take_lease(l);
    return true;
}

/* --- life --- */

static void on_serve(void *ctx, int fd, const struct cg_egress_peer *peer)
{
    struct llm *l = ctx;
    if (!l->gateway)
        close(fd);
    else
        cg_gateway_serve(l->gateway, fd,
                         peer->tls && !cg_streq(peer->name, CG_GATEWAY_HOST) ? peer->name : NULL);
}

/* TLS to the gateway's address: for a name that the guest looked up. */
static void on_serve_tls(void *ctx, int fd, const struct cg_egress_peer *peer)
{
    struct llm *l = ctx;
    if (l->w->intercept)
        cg_intercept_take(l->w->intercept, fd, peer);
    else
        close(fd);
}

/* Names of the providers lead to the gateway, whatever the sandbox may reach. */
static void name_hosts(struct warden *w)
{
    const struct llm_config *c = &w->config.llm;
    struct cg_egress_policy *p = &w->config.network;
    for (size_t i = 0; i < c->nproviders; i++) {
        for (size_t k = 0; k < CG_GATEWAY_HOSTS && c->providers[i].hosts[k][0]; k++) {
            if (p->nhosts == CG_EGRESS_HOSTS || cg_egress_find_host(p, c->providers[i].hosts[k]))
                continue;
            struct cg_egress_host *h = &p->hosts[p->nhosts++];
            *h = (struct cg_egress_host){.address = CG_GATEWAY_ADDRESS};
            (void)cg_strlcpy(h->name, sizeof h->name, c->providers[i].hosts[k]);
        }
    }
}

bool llm_intercept(struct warden *w, struct cg_err *e)
{
    const struct llm_config *c = &w->config.llm;
    struct llm *l = w->llm;
    if (!l || !c->intercept || l->intercepts)
        return true;
    l->intercepts = true;
    if (!secrets_serve(w, CG_GATEWAY_HOST, on_serve, l, e))
        return false;
    for (size_t i = 0; i < c->nproviders; i++)
        for (size_t k = 0; k < CG_GATEWAY_HOSTS && c->providers[i].hosts[k][0]; k++)
            if (!secrets_serve(w, c->providers[i].hosts[k], on_serve, l, e))
                return false;
    return true;
}

static bool make_gateway(struct llm *l, struct cg_err *e)
{
    const struct llm_config *c = &l->w->config.llm;
    struct cg_gateway_options o = {.prices = l->books[l->nbooks - 1],
                                   .ledger = l->ledger,
                                   .providers = c->providers,
                                   .nproviders = c->nproviders,
                                   .node = l->node,
                                   .last_call = l->last_call,
                                   .bodies = c->bodies,
                                   .strict = c->strict,
                                   .ops = &gateway_ops,
                                   .ctx = l};
    (void)cg_strlcpy(o.token, sizeof o.token, c->token);
    l->gateway = cg_gateway_create(l->w->loop, &o, e);
    if (!l->gateway)
        return false;
    if (l->exceeded)
        cg_gateway_block(l->gateway, false);
    const struct cg_egress_service service = {"gateway", CG_GATEWAY_ADDRESS, CG_GATEWAY_PORT,
                                              on_serve, l};
    cg_egress_add_service(l->w->egress, &service);
    if (c->intercept) {
        const struct cg_egress_service tls = {"gateway", CG_GATEWAY_ADDRESS, CG_GATEWAY_TLS_PORT,
                                              on_serve_tls, l};
        cg_egress_add_service(l->w->egress, &tls);
        name_hosts(l->w);
    }
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
    l->seqs = cg_alloc_array(LLM_PENDING_ROWS, sizeof *l->seqs);
    cg_compute_init(&l->compute, &c->machine, w->config.vcpus, w->config.mem_mib,
                    w->config.disk_mib);
    const struct cg_ledger_options o = {.mode = c->strict ? CG_LEDGER_STRICT : CG_LEDGER_FLOW};
    l->ledger = cg_ledger_create(&o, &ledger_events, l);
    sessions_set_settle(w->sessions, llm_settle, l);
    return load_prices(l, e) && replay(l, e) && make_gateway(l, e);
}

void llm_close(struct warden *w)
{
    struct llm *l = w->llm;
    if (!l || !l->gateway)
        return;
    llm_running(w, false);
    cg_gateway_destroy(CG_MOVE(l->gateway));
    llm_tell(l);
}

void llm_free(struct warden *w)
{
    struct llm *l = CG_MOVE(w->llm);
    if (!l)
        return;
    sessions_set_settle(w->sessions, NULL, NULL);
    cg_ledger_destroy(l->ledger);
    for (size_t i = 0; i < l->nbooks; i++)
        cg_prices_destroy(l->books[i]);
    free(l->seqs);
    free(l);
}
