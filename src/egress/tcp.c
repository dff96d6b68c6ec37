/* Connections of the guest. Each is two sockets and a pump each way: bytes are read into one shared
 * buffer and sent on at once; only what the other side does not take is kept (at most one read),
 * and until it is gone nothing more is read. An end of file is passed on as a half-close, a failure
 * as a reset. The original destination is what the packet filter saw (SO_ORIGINAL_DST). */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "egress/inner.h"

enum { READS = 8, ACCEPTS = 16 };

struct side {
    uv_poll_t poll;
    int fd;
    int events; /* polled for now; -1: not started */
    bool eof;   /* it has sent all it will */
    bool shut;  /* we have told it that no more comes */
    char *rest; /* bytes for it that it did not take, malloc'd; NULL: none */
    size_t rest_n, rest_at;
    uint64_t bytes; /* read from it */
};

struct conn {
    struct conn *next;
    struct conn *prev;
    struct cg_egress *g;
    struct side guest;
    struct side host;
    unsigned closing; /* handles still to close */
    bool connecting;
    bool told; /* its opening is in the record, so its end will be */
    uint64_t id;
    int64_t since;
    int64_t deadline;
};

static char shared[CG_EGRESS_BUFFER]; /* one loop thread; emptied before the callback returns */

/* --- events --- */

static void tell(struct cg_egress *g, struct cg_buf *b)
{
    if (!b->full)
        g->o.event(g->o.ctx, CG_EGRESS_NETWORK, cg_buf_slice(b));
}

static void tell_open(struct cg_egress *g, uint64_t id, uint32_t address, uint16_t port,
                      const struct cg_egress_verdict *v, const char *rule)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    char text[16];
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "open");
    cg_jsonw_kuint(&j, "conn", id);
    egress_address_text(address, text);
    cg_jsonw_kstr(&j, "address", text);
    cg_jsonw_kint(&j, "port", port);
    if (v->address != address) {
        egress_address_text(v->address, text);
        cg_jsonw_kstr(&j, "to", text);
    }
    cg_jsonw_kstr(&j, "verdict", v->allow ? "allow" : "deny");
    cg_jsonw_kstr(&j, "rule", rule);
    cg_jsonw_obj_end(&j);
    tell(g, &b);
}

static void tell_close(struct conn *c, const char *reason)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "close");
    cg_jsonw_kuint(&j, "conn", c->id);
    cg_jsonw_kuint(&j, "bytes_out", c->guest.bytes);
    cg_jsonw_kuint(&j, "bytes_in", c->host.bytes);
    cg_jsonw_kint(&j, "duration_ms", (cg_mono_ns() - c->since) / 1000000);
    cg_jsonw_kstr(&j, "reason", reason);
    cg_jsonw_obj_end(&j);
    tell(c->g, &b);
}

static void tell_flood(struct cg_egress *g)
{
    static const struct flood none;
    if (memcmp(&g->flood, &none, sizeof none) == 0)
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "summary");
    cg_jsonw_kuint(&j, "opened", g->flood.opened);
    cg_jsonw_kuint(&j, "denied", g->flood.denied);
    cg_jsonw_kuint(&j, "closed", g->flood.closed);
    cg_jsonw_kuint(&j, "bytes_out", g->flood.bytes_out);
    cg_jsonw_kuint(&j, "bytes_in", g->flood.bytes_in);
    cg_jsonw_obj_end(&j);
    tell(g, &b);
    g->flood = none;
}

/* --- ending --- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct cg_egress *g = c->g;
    if (--c->closing == 0) {
        free(c->guest.rest);
        free(c->host.rest);
        free(c);
    }
    egress_closed(g);
}

/* So that close() sends a reset. */
static void set_reset(int fd)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void end_side(struct conn *c, struct side *s, bool reset)
{
    if (reset)
        set_reset(s->fd);
    egress_unwatch(c->g, &s->poll, on_closed);
    cg_drop_fd(&s->fd);
}

static void conn_end(struct conn *c, const char *reason)
{
    struct cg_egress *g = c->g;
    bool reset = reason != NULL;
    if (c->told) {
        tell_close(c, reason ? reason : "done");
    } else {
        g->flood.closed++;
        g->flood.bytes_out += c->guest.bytes;
        g->flood.bytes_in += c->host.bytes;
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        g->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    g->stats.connections--;
    g->stats.failed += c->connecting;
    c->closing = 2;
    end_side(c, &c->guest, reset);
    end_side(c, &c->host, reset);
}

/* --- pump --- */

static void on_side(uv_poll_t *poll, int status, int events);

static void watch(struct side *s, int events)
{
    if (s->events == events)
        return;
    s->events = events;
    if (events)
        uv_poll_start(&s->poll, events, on_side);
    else
        uv_poll_stop(&s->poll);
}

static void update(struct conn *c)
{
    if (c->connecting) {
        watch(&c->host, UV_WRITABLE);
        watch(&c->guest, 0);
        return;
    }
    struct side *sides[2] = {&c->guest, &c->host};
    for (int i = 0; i < 2; i++) {
        struct side *s = sides[i];
        const struct side *other = sides[1 - i];
        int events = s->rest ? UV_WRITABLE : 0;
        if (!s->eof && !other->rest)
            events |= UV_READABLE;
        watch(s, events);
    }
}

static bool again(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Sends to `to`; keeps what it does not take. False: it failed. */
static bool pass_on(struct side *to, const char *p, size_t n)
{
    ssize_t sent = send(to->fd, p, n, MSG_NOSIGNAL);
    if (sent < 0 && !again())
        return false;
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (done == n)
        return true;
    to->rest_n = n - done;
    to->rest_at = 0;
    to->rest = cg_alloc(to->rest_n);
    memcpy(to->rest, p + done, to->rest_n);
    return true;
}

static bool send_rest(struct side *to)
{
    ssize_t sent = send(to->fd, to->rest + to->rest_at, to->rest_n - to->rest_at, MSG_NOSIGNAL);
    if (sent < 0)
        return again();
    to->rest_at += (size_t)sent;
    if (to->rest_at == to->rest_n) {
        free(to->rest);
        to->rest = NULL;
    }
    return true;
}

static bool move(struct side *from, struct side *to, uint64_t *total)
{
    for (int i = 0; i < READS && !from->eof && !to->rest; i++) {
        ssize_t n = recv(from->fd, shared, sizeof shared, 0);
        if (n < 0)
            return again();
        if (n == 0) {
            from->eof = true;
            break;
        }
        from->bytes += (uint64_t)n;
        *total += (uint64_t)n;
        if (!pass_on(to, shared, (size_t)n))
            return false;
    }
    return true;
}

static void half_close(const struct side *from, struct side *to)
{
    if (from->eof && !to->rest && !to->shut) {
        to->shut = true;
        shutdown(to->fd, SHUT_WR);
    }
}

static bool connected(struct conn *c)
{
    int err = 0;
    socklen_t n = sizeof err;
    if (getsockopt(c->host.fd, SOL_SOCKET, SO_ERROR, &err, &n) != 0 || err != 0) {
        conn_end(c, err == ECONNREFUSED ? "refused" : err == ETIMEDOUT ? "timeout" : "unreachable");
        return false;
    }
    c->connecting = false;
    return true;
}

static void on_side(uv_poll_t *poll, int status, int events)
{
    struct conn *c = poll->data;
    if (c->connecting && (&c->host.poll != poll || !connected(c)))
        return;
    struct side *s = poll == &c->guest.poll ? &c->guest : &c->host;
    struct side *other = s == &c->guest ? &c->host : &c->guest;
    if (status < 0) /* let the next call name the error */
        events = UV_READABLE | UV_WRITABLE;
    uint64_t *total = s == &c->guest ? &c->g->stats.bytes_out : &c->g->stats.bytes_in;
    bool fine = true;
    if ((events & UV_WRITABLE) && s->rest)
        fine = send_rest(s);
    if (fine && (events & UV_READABLE) && !other->rest)
        fine = move(s, other, total);
    if (!fine) {
        conn_end(c, "reset");
        return;
    }
    half_close(&c->guest, &c->host);
    half_close(&c->host, &c->guest);
    if (c->guest.shut && c->host.shut)
        conn_end(c, NULL);
    else
        update(c);
}

/* --- opening --- */

static bool destination(int fd, uint32_t *address, uint16_t *port)
{
    struct sockaddr_in to;
    socklen_t n = sizeof to;
    if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &to, &n) != 0 || to.sin_family != AF_INET)
        return false;
    *address = ntohl(to.sin_addr.s_addr);
    *port = ntohs(to.sin_port);
    return true;
}

static int dial(uint32_t address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    const int on = 1;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        cg_drop_fd(&fd);
    return fd;
}

static void refuse(struct cg_egress *g, int fd, uint32_t address, uint16_t port, const char *why)
{
    const struct cg_egress_verdict deny = {.allow = false, .address = address};
    g->stats.denied++;
    if (egress_token(&g->net_tokens))
        tell_open(g, ++g->conn_seq, address, port, &deny, why);
    else
        g->flood.denied++;
    set_reset(fd);
    close(fd);
}

static const struct cg_egress_service *find_service(const struct cg_egress *g, uint32_t address,
                                                    uint16_t port)
{
    for (unsigned i = 0; i < g->nservices; i++)
        if (g->services[i].address == address && g->services[i].port == port)
            return &g->services[i];
    return NULL;
}

/* The service keeps its own count of what it does; here it is an opening only. */
static void hand_over(struct cg_egress *g, const struct cg_egress_service *s, int fd)
{
    const struct cg_egress_verdict allow = {.allow = true, .address = s->address};
    const struct cg_egress_peer peer = {
        .name = s->name, .address = s->address, .port = s->port, .conn = ++g->conn_seq};
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    g->stats.opened++;
    if (egress_token(&g->net_tokens))
        tell_open(g, peer.conn, s->address, s->port, &allow, s->name);
    else
        g->flood.opened++;
    s->serve(s->ctx, fd, &peer);
}

static void open_conn(struct cg_egress *g, int fd)
{
    uint32_t address = 0;
    uint16_t port = 0;
    if (!destination(fd, &address, &port)) {
        refuse(g, fd, 0, 0, "no_destination");
        return;
    }
    const struct cg_egress_service *service = find_service(g, address, port);
    if (service) {
        hand_over(g, service, fd);
        return;
    }
    struct cg_egress_verdict v = cg_egress_decide(g->o.policy, address, port);
    if (v.allow && g->reader.looks && g->reader.looks(g->reader.ctx, port)) {
        const struct cg_egress_peer peer = {
            .address = address, .to = v.address, .port = port, .conn = ++g->conn_seq};
        g->reader.take(g->reader.ctx, fd, &peer);
        return;
    }
    cg_egress_go_on(g, fd, address, port);
}

void cg_egress_go_on(struct cg_egress *g, int fd, uint32_t address, uint16_t port)
{
    struct cg_egress_verdict v = cg_egress_decide(g->o.policy, address, port);
    if (!v.allow || g->stats.connections >= CG_EGRESS_CONNS) {
        refuse(g, fd, address, port, v.allow ? "too_many" : "default");
        return;
    }
    int host = dial(v.address, port);
    if (host < 0) {
        refuse(g, fd, address, port, "unreachable");
        return;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct conn *c = cg_alloc(sizeof *c);
    c->g = g;
    c->connecting = true;
    c->id = ++g->conn_seq;
    c->since = cg_mono_ns();
    c->deadline = c->since + (int64_t)g->o.connect_ms * 1000000;
    c->guest.fd = fd;
    c->host.fd = host;
    c->guest.events = c->host.events = -1;
    c->next = g->conns;
    if (c->next)
        c->next->prev = c;
    g->conns = c;
    g->stats.connections++;
    g->stats.opened++;
    c->told = egress_token(&g->net_tokens);
    char rule[CG_EGRESS_RULE_TEXT];
    cg_egress_rule_format(v.rule, rule);
    if (c->told)
        tell_open(g, c->id, address, port, &v, rule);
    else
        g->flood.opened++;
    egress_watch(g, &c->guest.poll, fd, c);
    egress_watch(g, &c->host.poll, host, c);
    update(c);
}

void tcp_accept(uv_poll_t *poll, int status, int events)
{
    struct cg_egress *g = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = accept4(g->o.tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            open_conn(g, fd);
        } else {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                uv_poll_stop(poll); /* until the next second */
            return;
        }
    }
}

void tcp_second(struct cg_egress *g)
{
    int64_t now = cg_mono_ns();
    struct conn *next;
    for (struct conn *c = g->conns; c; c = next) {
        next = c->next;
        if (c->connecting && now >= c->deadline)
            conn_end(c, "timeout");
    }
    tell_flood(g);
}

void tcp_close_all(struct cg_egress *g)
{
    while (g->conns)
        conn_end(g->conns, "sandbox_ended");
}
