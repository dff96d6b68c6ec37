/* Questions to this machine's resolvers: A records of names that the policy lets be looked up. Each
 * has a socket of its own, so a port and an id that nobody can guess; servers are asked in turn
 * until one answers. Guests that ask for the same name wait for the same lookup. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "egress/inner.h"

enum { ROUNDS = 2, PORT = 53 };

#define TRY_NS (INT64_C(2) * 1000000000)

/* One question to one server. It outlives its lookup until its handle is closed. */
struct attempt {
    uv_poll_t poll;
    int fd;
    struct cg_egress *g;
    struct lookup *of; /* NULL: nobody waits for it */
};

struct lookup {
    struct lookup *next;
    struct cg_egress *g;
    struct attempt *attempt;
    struct asker *askers;
    uint16_t id;
    unsigned tries;
    int64_t deadline;
    char name[CG_EGRESS_NAME];
};

static void on_closed(uv_handle_t *handle)
{
    struct attempt *t = handle->data;
    struct cg_egress *g = t->g;
    free(t);
    egress_closed(g);
}

static void drop_attempt(struct lookup *l)
{
    struct attempt *t = CG_MOVE(l->attempt);
    if (!t)
        return;
    t->of = NULL;
    egress_unwatch(t->g, &t->poll, on_closed);
    cg_drop_fd(&t->fd);
}

/* Ends it: whoever waits gets the answer. */
static void end(struct cg_egress *g, struct lookup *l, enum cg_dns_rcode rcode,
                struct cg_dns_addresses *a)
{
    struct lookup **at = &g->lookups;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    g->nlookups--;
    drop_attempt(l);
    for (const struct asker *k = l->askers; k; k = k->next)
        g->naskers--;
    dns_found(g, l->name, l->askers, rcode, a);
    free(l);
}

static void on_reply(uv_poll_t *poll, int status, int events);

static int ask_server(struct lookup *l, const struct cg_egress_rule *server)
{
    unsigned char query[CG_DNS_QUERY_MAX];
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(server->port ? server->port : PORT),
                             .sin_addr.s_addr = htonl(server->address)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cg_rand_bytes(&l->id, sizeof l->id);
    size_t n = cg_dns_ask(l->id, l->name, query);
    if (fd >= 0 && (connect(fd, (const struct sockaddr *)&to, sizeof to) != 0 ||
                    send(fd, query, n, MSG_NOSIGNAL) != (ssize_t)n))
        cg_drop_fd(&fd);
    return fd;
}

/* The next server, in turn. */
static void try_next(struct lookup *l)
{
    struct cg_egress *g = l->g;
    const struct cg_egress_policy *p = g->o.policy;
    drop_attempt(l);
    while (l->tries < ROUNDS * p->nresolvers) {
        int fd = ask_server(l, &p->resolvers[l->tries++ % p->nresolvers]);
        if (fd < 0)
            continue;
        struct attempt *t = cg_alloc(sizeof *t);
        t->fd = fd;
        t->g = g;
        t->of = l;
        l->attempt = t;
        l->deadline = cg_mono_ns() + TRY_NS;
        egress_watch(g, &t->poll, fd, t);
        uv_poll_start(&t->poll, UV_READABLE, on_reply);
        return;
    }
    end(g, l, CG_DNS_SERVFAIL, NULL);
}

static void on_reply(uv_poll_t *poll, int status, int events)
{
    const struct attempt *t = poll->data;
    struct lookup *l = t->of;
    unsigned char reply[CG_DNS_REPLY_MAX];
    struct cg_dns_addresses a;
    enum cg_dns_rcode rcode = CG_DNS_SERVFAIL;
    (void)status;
    (void)events;
    if (!l)
        return;
    ssize_t n = recv(t->fd, reply, sizeof reply, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) { /* refused, unreachable */
        try_next(l);
        return;
    }
    if (!cg_dns_take(reply, (size_t)n, l->id, l->name, &rcode, &a))
        return; /* forged, or late: the true one may still come */
    if (rcode == CG_DNS_OK || rcode == CG_DNS_NXDOMAIN)
        end(l->g, l, rcode, &a);
    else
        try_next(l);
}

bool lookup_start(struct cg_egress *g, const char *name, struct asker *a)
{
    struct lookup *l = g->lookups;
    if (g->naskers >= CG_EGRESS_ASKERS)
        return false;
    while (l && strcmp(l->name, name) != 0)
        l = l->next;
    bool first = !l;
    if (first) {
        if (g->nlookups >= CG_EGRESS_LOOKUPS)
            return false;
        l = cg_alloc(sizeof *l);
        l->g = g;
        (void)cg_strlcpy(l->name, sizeof l->name, name);
        l->next = g->lookups;
        g->lookups = l;
        g->nlookups++;
    }
    a->next = l->askers;
    l->askers = a;
    g->naskers++;
    if (first)
        try_next(l);
    return true;
}

void lookup_forget(struct cg_egress *g, const struct dns_conn *c)
{
    for (struct lookup *l = g->lookups; l; l = l->next)
        for (struct asker *a = l->askers; a; a = a->next)
            if (a->conn == c)
                a->conn = NULL;
}

static struct lookup *overdue(const struct cg_egress *g, int64_t now)
{
    struct lookup *l = g->lookups;
    while (l && now < l->deadline)
        l = l->next;
    return l;
}

/* Looked for anew each time: an answer to a guest can end any lookup. */
void lookup_second(struct cg_egress *g)
{
    int64_t now = cg_mono_ns();
    struct lookup *l;
    while ((l = overdue(g, now)) != NULL)
        try_next(l);
}

void lookup_close_all(struct cg_egress *g)
{
    while (g->lookups)
        end(g, g->lookups, CG_DNS_SERVFAIL, NULL);
}
