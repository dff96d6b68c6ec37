/* The resolver: names of the operator's configuration get their address, all else does not exist.
 * Nothing ever leaves, so a name cannot carry anything out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "egress/dnsmsg.h"
#include "egress/inner.h"

enum { DATAGRAMS = 32 };

#define TCP_LIFE_NS (INT64_C(5) * 1000000000)

struct dns_conn {
    struct dns_conn *next;
    struct cg_egress *g;
    uv_poll_t poll;
    int fd;
    int64_t deadline;
    size_t held;
    unsigned char buf[2 + CG_DNS_QUERY_MAX];
};

static void tell_query(struct cg_egress *g, const struct cg_dns_query *q, bool known,
                       const char *transport)
{
    if (!egress_token(&g->dns_tokens)) {
        g->dns_untold++;
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    char type[16];
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&j, &b);
    cg_dns_type_name(q->type, type);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "query");
    cg_jsonw_kstr(&j, "name", q->name);
    cg_jsonw_kstr(&j, "qtype", type);
    cg_jsonw_kstr(&j, "verdict", known ? "static" : "deny");
    cg_jsonw_kstr(&j, "transport", transport);
    cg_jsonw_obj_end(&j);
    g->o.event(g->o.ctx, CG_EGRESS_DNS, cg_buf_slice(&b));
}

/* Length of the answer, 0: say nothing. */
static size_t answer(struct cg_egress *g, const void *p, size_t n, const char *transport,
                     unsigned char out[CG_DNS_ANSWER_MAX])
{
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    enum cg_dns_got got = cg_dns_parse(p, n, &q, &rcode);
    if (got != CG_DNS_QUERY) {
        g->stats.dns_malformed++;
        g->malformed_untold++;
        return got == CG_DNS_BAD ? cg_dns_answer(p, &q, rcode, NULL, out) : 0;
    }
    g->stats.dns_queries++;
    const struct cg_egress_host *host =
        q.plain && q.class_ == 1 ? cg_egress_find_host(g->o.policy, q.name) : NULL;
    tell_query(g, &q, host != NULL, transport);
    if (!host)
        return cg_dns_answer(p, &q, CG_DNS_NXDOMAIN, NULL, out);
    return cg_dns_answer(p, &q, CG_DNS_OK, q.type == CG_DNS_A ? &host->address : NULL, out);
}

void dns_readable(uv_poll_t *poll, int status, int events)
{
    struct cg_egress *g = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < DATAGRAMS; i++) {
        unsigned char query[CG_DNS_QUERY_MAX + 1]; /* one more shows what is too long */
        unsigned char reply[CG_DNS_ANSWER_MAX];
        struct sockaddr_storage from;
        socklen_t from_n = sizeof from;
        ssize_t n = recvfrom(g->o.dns, query, sizeof query, MSG_DONTWAIT, (struct sockaddr *)&from,
                             &from_n);
        if (n < 0)
            return;
        size_t reply_n = n > CG_DNS_QUERY_MAX ? 0 : answer(g, query, (size_t)n, "udp", reply);
        if (reply_n > 0)
            (void)sendto(g->o.dns, reply, reply_n, MSG_DONTWAIT | MSG_NOSIGNAL,
                         (const struct sockaddr *)&from, from_n);
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
    unsigned char reply[2 + CG_DNS_ANSWER_MAX];
    size_t reply_n = answer(c->g, c->buf + 2, n, "tcp", reply + 2);
    reply[0] = (unsigned char)(reply_n >> 8);
    reply[1] = (unsigned char)reply_n;
    c->held -= 2 + n;
    memmove(c->buf, c->buf + 2 + n, c->held);
    /* so small that a peer who reads has room for it */
    return reply_n > 0 &&
           send(c->fd, reply, 2 + reply_n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(2 + reply_n);
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
