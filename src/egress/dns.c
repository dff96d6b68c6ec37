/* The resolver. Names of the operator's configuration get their address; names that the policy lets
 * be looked up are asked of this machine's resolvers, for A records only, and what is answered is
 * pinned; all else does not exist, and does not leave. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "egress/dnsmsg.h"
#include "egress/inner.h"

enum { DATAGRAMS = 32 };

#define SECOND_NS INT64_C(1000000000)
#define TCP_LIFE_NS (10 * SECOND_NS)

struct dns_conn {
    struct dns_conn *next;
    struct cg_egress *g;
    uv_poll_t poll;
    int fd;
    int64_t deadline;
    size_t held;
    unsigned char buf[2 + CG_DNS_QUERY_MAX];
};

/* --- events --- */

struct told {
    const char *name;
    uint16_t type;
    const char *verdict;
    const char *rule; /* or NULL */
    const struct asker *from;
    bool waited; /* for a lookup */
};

/* A number for the line, and whose it is. */
static void put_owner(struct cg_egress *g, const struct asker *from, struct cg_jsonw *j)
{
    struct sockaddr_in in;
    uint64_t id = ++g->lookup_seq;
    cg_jsonw_kuint(j, "lookup", id);
    if (from->tcp || from->from.ss_family != AF_INET)
        return;
    memcpy(&in, &from->from, sizeof in);
    egress_owner_flow(g, true, ntohs(in.sin_port), 0, 53, id);
    egress_owner_write(g, true, id, j);
}

/* `a`: what the guest is told, or NULL. */
static void tell_query(struct cg_egress *g, const struct told *t, const struct cg_dns_addresses *a)
{
    if (!egress_token(&g->dns_tokens)) {
        g->dns_untold++;
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    char text[16];
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&j, &b);
    cg_dns_type_name(t->type, text);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "query");
    cg_jsonw_kstr(&j, "name", t->name);
    cg_jsonw_kstr(&j, "qtype", text);
    cg_jsonw_kstr(&j, "verdict", t->verdict);
    if (t->rule)
        cg_jsonw_kstr(&j, "rule", t->rule);
    if (a && a->n > 0) {
        cg_jsonw_key(&j, "addresses");
        cg_jsonw_arr(&j);
        for (unsigned i = 0; i < a->n; i++) {
            egress_address_text(a->of[i], text);
            cg_jsonw_str(&j, text);
        }
        cg_jsonw_arr_end(&j);
    }
    cg_jsonw_kstr(&j, "transport", t->from->tcp ? "tcp" : "udp");
    if (t->waited)
        cg_jsonw_kint(&j, "duration_ms", (cg_mono_ns() - t->from->since) / 1000000);
    put_owner(g, t->from, &j);
    cg_jsonw_obj_end(&j);
    g->o.event(g->o.ctx, CG_EGRESS_DNS, cg_buf_slice(&b));
}

/* --- answers --- */

static bool reply_tcp(const struct dns_conn *c, const unsigned char *p, size_t n)
{
    unsigned char out[2 + CG_DNS_ANSWER_MAX];
    out[0] = (unsigned char)(n >> 8);
    out[1] = (unsigned char)n;
    memcpy(out + 2, p, n);
    /* so small that a peer who reads has room for it */
    return send(c->fd, out, 2 + n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(2 + n);
}

static void reply(struct cg_egress *g, const struct asker *a, const unsigned char *p, size_t n)
{
    if (a->conn)
        (void)reply_tcp(a->conn, p, n); /* one that does not read is ended by its deadline */
    else if (!a->tcp)
        (void)sendto(g->o.dns, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&a->from,
                     a->from_n);
}

/* Addresses that no connection would be let to are no answer: a name must not lead inside. */
static bool drop_refused(const struct cg_egress *g, struct cg_dns_addresses *a, const char **why)
{
    unsigned n = 0;
    for (unsigned i = 0; i < a->n; i++) {
        const char *special = cg_egress_special(a->of[i]);
        if (!special && egress_is_own(a->of[i]))
            special = "this machine's own address";
        if (special && !cg_egress_opened(g->o.policy, a->of[i]))
            *why = special;
        else
            a->of[n++] = a->of[i];
    }
    bool dropped = n < a->n;
    a->n = n;
    return dropped;
}

void dns_found(struct cg_egress *g, const char *name, struct asker *askers, enum cg_dns_rcode rcode,
               struct cg_dns_addresses *a)
{
    struct cg_egress_verdict v = cg_egress_judge_name(g->o.policy, name);
    struct told t = {
        .name = name, .type = CG_DNS_A, .verdict = "allow", .rule = v.rule, .waited = true};
    const struct cg_dns_addresses *given = NULL;
    const char *why = NULL;
    if (!v.allow) { /* it changed meanwhile */
        rcode = CG_DNS_NXDOMAIN;
        t.verdict = "deny";
    } else if (!a) {
        t.verdict = "failed";
    } else if (drop_refused(g, a, &why) && a->n == 0) {
        rcode = CG_DNS_NXDOMAIN;
        t.verdict = "deny";
        t.rule = why;
    } else if (a->n > 0) {
        cg_pins_put(g->pins, name, a, cg_mono_ns() / SECOND_NS);
        given = a;
    }
    for (struct asker *next; askers; askers = next) {
        unsigned char out[CG_DNS_ANSWER_MAX];
        struct cg_dns_query q;
        enum cg_dns_rcode unused;
        next = askers->next;
        CG_ASSERT(cg_dns_parse(askers->query, askers->n, &q, &unused) == CG_DNS_QUERY);
        t.from = askers;
        tell_query(g, &t, given);
        reply(g, askers, out, cg_dns_answer(askers->query, &q, rcode, given, out));
        free(askers);
    }
}

/* A name that may be looked up: what is pinned, or a lookup. Length of the answer, 0: it comes
 * later. Other records than A stay here: they would carry things both ways that no connection
 * needs, and the guest has no IPv6. */
static size_t resolve(struct cg_egress *g, const struct asker *from, const struct cg_dns_query *q,
                      struct told *t, unsigned char out[CG_DNS_ANSWER_MAX])
{
    struct cg_dns_addresses a;
    if (q->type != CG_DNS_A) {
        tell_query(g, t, NULL);
        return cg_dns_answer(from->query, q, CG_DNS_OK, NULL, out);
    }
    if (cg_pins_get(g->pins, q->name, cg_mono_ns() / SECOND_NS, &a)) {
        tell_query(g, t, &a);
        return cg_dns_answer(from->query, q, CG_DNS_OK, &a, out);
    }
    struct asker *waits = cg_alloc(sizeof *waits);
    *waits = *from;
    if (lookup_start(g, q->name, waits))
        return 0;
    free(waits);
    t->verdict = "failed";
    tell_query(g, t, NULL);
    return cg_dns_answer(from->query, q, CG_DNS_SERVFAIL, NULL, out);
}

/* Length of the answer, 0: none, or it comes later. */
static size_t answer(struct cg_egress *g, const struct asker *from,
                     unsigned char out[CG_DNS_ANSWER_MAX])
{
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    enum cg_dns_got got = cg_dns_parse(from->query, from->n, &q, &rcode);
    if (got != CG_DNS_QUERY) {
        g->stats.dns_malformed++;
        g->malformed_untold++;
        return got == CG_DNS_BAD ? cg_dns_answer(from->query, &q, rcode, NULL, out) : 0;
    }
    g->stats.dns_queries++;
    bool fine = q.plain && q.class_ == 1;
    const struct cg_egress_host *host = fine ? cg_egress_find_host(g->o.policy, q.name) : NULL;
    struct told t = {.name = q.name, .type = q.type, .verdict = "static", .from = from};
    if (host) {
        const struct cg_dns_addresses a = {{host->address}, 1, CG_DNS_STATIC_TTL};
        tell_query(g, &t, NULL);
        return cg_dns_answer(from->query, &q, CG_DNS_OK, q.type == CG_DNS_A ? &a : NULL, out);
    }
    struct cg_egress_verdict v = cg_egress_judge_name(g->o.policy, q.name);
    t.rule = fine ? v.rule : "not a host name";
    t.verdict = fine && v.allow ? "allow" : "deny";
    if (fine && v.allow)
        return resolve(g, from, &q, &t, out);
    tell_query(g, &t, NULL);
    return cg_dns_answer(from->query, &q, CG_DNS_NXDOMAIN, NULL, out);
}

void dns_readable(uv_poll_t *poll, int status, int events)
{
    struct cg_egress *g = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < DATAGRAMS; i++) {
        unsigned char query[CG_DNS_QUERY_MAX + 1]; /* one more shows what is too long */
        unsigned char out[CG_DNS_ANSWER_MAX];
        struct asker from = {.from_n = sizeof from.from, .since = cg_mono_ns()};
        ssize_t n = recvfrom(g->o.dns, query, sizeof query, MSG_DONTWAIT,
                             (struct sockaddr *)&from.from, &from.from_n);
        if (n < 0)
            return;
        if (n > CG_DNS_QUERY_MAX)
            continue;
        from.n = (size_t)n;
        memcpy(from.query, query, from.n);
        size_t out_n = answer(g, &from, out);
        if (out_n > 0)
            reply(g, &from, out, out_n);
    }
}

/* --- over TCP --- */

static void on_closed(uv_handle_t *handle)
{
    struct dns_conn *c = handle->data;
    struct cg_egress *g = c->g;
    free(c);
    egress_closed(g);
}

static void drop(struct dns_conn *c)
{
    struct cg_egress *g = c->g;
    struct dns_conn **at = &g->dns_conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    g->ndns_conns--;
    lookup_forget(g, c);
    egress_unwatch(g, &c->poll, on_closed);
    cg_drop_fd(&c->fd);
}

/* Answers a whole query in the buffer. False: the connection ends. */
static bool take_query(struct dns_conn *c)
{
    size_t n = (size_t)c->buf[0] << 8 | c->buf[1];
    if (n > CG_DNS_QUERY_MAX)
        return false;
    if (c->held < 2 + n)
        return true;
    unsigned char out[CG_DNS_ANSWER_MAX];
    struct asker from = {.conn = c, .tcp = true, .n = n, .since = cg_mono_ns()};
    memcpy(from.query, c->buf + 2, n);
    c->held -= 2 + n;
    memmove(c->buf, c->buf + 2 + n, c->held);
    uint64_t malformed = c->g->stats.dns_malformed;
    size_t out_n = answer(c->g, &from, out);
    if (out_n == 0)
        return c->g->stats.dns_malformed == malformed; /* it comes later */
    return reply_tcp(c, out, out_n);
}

static void on_tcp(uv_poll_t *poll, int status, int events)
{
    struct dns_conn *c = poll->data;
    (void)status;
    (void)events;
    ssize_t n = recv(c->fd, c->buf + c->held, sizeof c->buf - c->held, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    c->held += (size_t)n;
    size_t before = 0;
    while (c->held >= 2 && c->held != before) {
        before = c->held;
        if (!take_query(c)) {
            drop(c);
            return;
        }
    }
}

void dns_accept(uv_poll_t *poll, int status, int events)
{
    struct cg_egress *g = poll->data;
    (void)status;
    (void)events;
    int fd = accept4(g->o.dns_tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (g->ndns_conns >= CG_EGRESS_DNS_CONNS) {
        close(fd);
        return;
    }
    struct dns_conn *c = cg_alloc(sizeof *c);
    c->g = g;
    c->fd = fd;
    c->deadline = cg_mono_ns() + TCP_LIFE_NS;
    c->next = g->dns_conns;
    g->dns_conns = c;
    g->ndns_conns++;
    egress_watch(g, &c->poll, fd, c);
    uv_poll_start(&c->poll, UV_READABLE, on_tcp);
}

void dns_second(struct cg_egress *g)
{
    int64_t now = cg_mono_ns();
    struct dns_conn *next;
    for (struct dns_conn *c = g->dns_conns; c; c = next) {
        next = c->next;
        if (now >= c->deadline)
            drop(c);
    }
    if (g->dns_untold == 0 && g->malformed_untold == 0)
        return;
    char text[128];
    cg_snprintf(text, sizeof text, "{\"event\":\"summary\",\"queries\":%llu,\"malformed\":%llu}",
                (unsigned long long)g->dns_untold, (unsigned long long)g->malformed_untold);
    g->o.event(g->o.ctx, CG_EGRESS_DNS, cg_slice_of(text));
    g->dns_untold = g->malformed_untold = 0;
}

void dns_close_all(struct cg_egress *g)
{
    while (g->dns_conns)
        drop(g->dns_conns);
}
