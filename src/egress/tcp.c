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
    bool first; /* of the guest's bytes, nothing has come */
    bool cut;   /* by the policy */
    struct egress_seen seen;
    bool told; /* its opening is in the record, so its end will be */
    int64_t since;
    int64_t deadline;
};

static char shared[CG_EGRESS_BUFFER]; /* one loop thread; emptied before the callback returns */

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
        const struct egress_end end = {.seen = &c->seen,
                                       .bytes_out = c->guest.bytes,
                                       .bytes_in = c->host.bytes,
                                       .duration_ms = (cg_mono_ns() - c->since) / 1000000,
                                       .reason = reason ? reason : "done"};
        egress_tell_close(g, &end);
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

static struct cg_egress_verdict judge(const struct cg_egress *g, const struct egress_seen *s,
                                      const char *names[CG_PIN_NAMES])
{
    const struct cg_egress_ask a = egress_ask(g, s->address, s->port, names);
    return s->seen ? cg_egress_judge_sight(g->o.policy, &a, s->sight, s->name)
                   : cg_egress_judge(g->o.policy, &a);
}

/* Bytes of a connection that was let through before it said anything. False: they say a name that
 * it must not. */
static bool first_bytes(struct conn *c, struct cg_slice in)
{
    const struct cg_egress *g = c->g;
    const char *names[CG_PIN_NAMES];
    bool waited = c->seen.seen; /* for them, in vain */
    c->first = false;
    if (!g->reader.sight || (waited && c->seen.sight != CG_SIGHT_SILENT))
        return true;
    c->seen.seen = g->reader.sight(in, c->seen.port, &c->seen.sight, c->seen.name);
    if (!waited)
        return true;
    struct cg_egress_verdict v = judge(g, &c->seen, names);
    c->cut = !v.allow || v.look;
    return !c->cut;
}

static bool move(struct conn *c, struct side *from, struct side *to, uint64_t *total)
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
        if (c->first && from == &c->guest && !first_bytes(c, (struct cg_slice){shared, (size_t)n}))
            return false;
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
        fine = move(c, s, other, total);
    if (!fine) {
        conn_end(c, c->cut ? "policy" : "reset");
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

/* Of the guest's end; 0: it has gone. */
static uint16_t source_port(int fd)
{
    struct sockaddr_in from = {0};
    socklen_t n = sizeof from;
    if (getpeername(fd, (struct sockaddr *)&from, &n) != 0 || from.sin_family != AF_INET)
        return 0;
    return ntohs(from.sin_port);
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

static void refuse(struct cg_egress *g, int fd, const struct egress_seen *s,
                   struct cg_egress_verdict v)
{
    v.allow = false;
    g->stats.denied++;
    if (egress_token(&g->net_tokens))
        egress_tell_open(g, s, &v);
    else
        g->flood.denied++;
    if (s->seen && (s->sight == CG_SIGHT_HTTP || s->sight == CG_SIGHT_HTTP_NO_NAME))
        egress_send_page(g, fd, s, &v);
    else
        set_reset(fd);
    close(fd);
}

static void refuse_as(struct cg_egress *g, int fd, const struct egress_seen *s, const char *why)
{
    struct cg_egress_verdict v = {.address = s->address};
    (void)cg_strlcpy(v.rule, sizeof v.rule, why);
    refuse(g, fd, s, v);
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
static void hand_over(struct cg_egress *g, const struct cg_egress_service *s, int fd, uint64_t conn)
{
    struct cg_egress_verdict allow = {.allow = true, .address = s->address};
    const struct egress_seen seen = {.conn = conn, .address = s->address, .port = s->port};
    (void)cg_strlcpy(allow.rule, sizeof allow.rule, s->name);
    const struct cg_egress_peer peer = {
        .name = s->name, .address = s->address, .port = s->port, .conn = conn};
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    g->stats.opened++;
    if (egress_token(&g->net_tokens))
        egress_tell_open(g, &seen, &allow);
    else
        g->flood.opened++;
    s->serve(s->ctx, fd, &peer);
}

static void open_conn(struct cg_egress *g, int fd)
{
    struct egress_seen s = {.conn = ++g->conn_seq};
    const char *names[CG_PIN_NAMES];
    if (!destination(fd, &s.address, &s.port)) {
        refuse_as(g, fd, &s, "no_destination");
        return;
    }
    egress_owner_flow(g, false, source_port(fd), s.address, s.port, s.conn);
    const struct cg_egress_service *service = find_service(g, s.address, s.port);
    if (service) {
        hand_over(g, service, fd, s.conn);
        return;
    }
    struct cg_egress_verdict v = judge(g, &s, names);
    bool page = !v.allow && s.port == 80; /* who speaks HTTP is told in HTTP */
    const struct cg_egress_peer peer = {.address = s.address,
                                        .to = v.address,
                                        .port = s.port,
                                        .look = v.look || page,
                                        .hush = page || (s.port != 80 && s.port != 443),
                                        .conn = s.conn};
    if (g->reader.take &&
        (page || (v.allow && v.look) || (v.allow && g->reader.looks(g->reader.ctx, s.port))))
        g->reader.take(g->reader.ctx, fd, &peer);
    else
        cg_egress_go_on(g, fd, &peer);
}

static struct egress_seen seen_of(const struct cg_egress_peer *peer)
{
    struct egress_seen s = {.conn = peer->conn,
                            .address = peer->address,
                            .port = peer->port,
                            .seen = peer->seen,
                            .sight = peer->sight};
    if (peer->seen && peer->name)
        (void)cg_strlcpy(s.name, sizeof s.name, peer->name);
    return s;
}

struct cg_egress_verdict cg_egress_permits(const struct cg_egress *g,
                                           const struct cg_egress_peer *peer)
{
    const char *names[CG_PIN_NAMES];
    const struct egress_seen s = seen_of(peer);
    struct cg_egress_verdict v = judge(g, &s, names);
    v.allow &= !v.look;
    return v;
}

void cg_egress_go_on(struct cg_egress *g, int fd, const struct cg_egress_peer *peer)
{
    const char *names[CG_PIN_NAMES];
    const struct egress_seen s = seen_of(peer);
    struct cg_egress_verdict v = judge(g, &s, names);
    if (v.allow && v.look)
        (void)cg_strlcpy(v.rule, sizeof v.rule, "its first bytes are not known");
    if (!v.allow || v.look) {
        refuse(g, fd, &s, v);
        return;
    }
    if (g->stats.connections >= CG_EGRESS_CONNS) {
        refuse_as(g, fd, &s, "too_many");
        return;
    }
    int host = dial(v.address, s.port);
    if (host < 0) {
        refuse_as(g, fd, &s, "unreachable");
        return;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct conn *c = cg_alloc(sizeof *c);
    c->g = g;
    c->connecting = true;
    c->seen = s;
    c->first = true;
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
    if (c->told)
        egress_tell_open(g, &s, &v);
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
    egress_tell_flood(g);
}

void tcp_judge_again(struct cg_egress *g)
{
    const char *names[CG_PIN_NAMES];
    struct conn *next;
    for (struct conn *c = g->conns; c; c = next) {
        next = c->next;
        struct cg_egress_verdict v = judge(g, &c->seen, names);
        if (!v.allow || v.look)
            conn_end(c, "policy");
    }
}

void tcp_close_all(struct cg_egress *g)
{
    while (g->conns)
        conn_end(g->conns, "sandbox_ended");
}
