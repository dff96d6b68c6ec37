#include "intercept/intercept.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "intercept/end.h"
#include "intercept/rewrite.h"
#include "intercept/sight.h"

enum { SERVICES = 80, ROUNDS = 16, PIECE = CG_REWRITE_PIECE };

#define SECOND INT64_C(1000000000)

enum phase { PEEK, SHAKE, CONNECT, SHAKE_HOST, FLOW };

struct flow {
    struct flow *next, *prev;
    struct cg_intercept *i;
    enum phase phase;
    char name[CG_HELLO_NAME];
    uint32_t address; /* that the guest named */
    uint32_t to;      /* that is dialled */
    uint16_t port;
    uint64_t id;
    bool look, seen; /* as in cg_egress_peer */
    enum cg_egress_sight sight;
    int64_t since, deadline;
    struct cg_end guest;
    struct cg_end host; /* to the host, or plain to a service */
    bool has_host;
    struct cg_rewrite *rewrite; /* NULL: for a service, bytes pass as they are */
    struct cg_buf in;           /* of the guest, not taken yet */
    struct cg_buf up, down;
    unsigned handles;
    bool ended;
};

struct service {
    const char *host;
    cg_egress_serve_fn *serve;
    void *ctx;
};

struct cg_intercept {
    uv_loop_t *loop;
    struct cg_intercept_options o;
    struct cg_ca *ca; /* NULL: no TLS is read */
    char *more_ca_pem;
    uv_timer_t hush; /* runs while somebody is waited for shortly */
    SSL_CTX *client; /* NULL until the first connection */
    struct service services[SERVICES];
    unsigned nservices;
    struct flow *flows;
    unsigned nflows;  /* in the list */
    unsigned handles; /* open */
    bool destroyed;
};

struct cg_intercept *cg_intercept_create(uv_loop_t *loop, const struct cg_intercept_options *o)
{
    struct cg_intercept *i = cg_alloc(sizeof *i);
    i->loop = loop;
    i->o = *o;
    uv_timer_init(loop, &i->hush);
    i->hush.data = i;
    i->handles = 1;
    return i;
}

void cg_intercept_trust(struct cg_intercept *i, struct cg_ca *ca, const char *more_ca_pem)
{
    i->ca = ca;
    free(i->more_ca_pem);
    i->more_ca_pem = more_ca_pem ? cg_strdup(more_ca_pem) : NULL;
}

static void free_all(struct cg_intercept *i)
{
    SSL_CTX_free(i->client);
    free(i->more_ca_pem);
    free(i);
}

void cg_intercept_add_service(struct cg_intercept *i, const char *host, cg_egress_serve_fn *serve,
                              void *ctx)
{
    CG_ASSERT(i->nservices < SERVICES);
    i->services[i->nservices++] = (struct service){host, serve, ctx};
}

static const struct service *find_service(const struct cg_intercept *i, const char *host,
                                          uint16_t port)
{
    for (unsigned n = 0; n < i->nservices; n++)
        if (cg_secret_host_matches(i->services[n].host, host, port))
            return &i->services[n];
    return NULL;
}

bool cg_intercept_looks(const struct cg_intercept *i, uint16_t port)
{
    if (!i->ca)
        return false;
    if (port == 443 && i->nservices > 0)
        return true;
    for (unsigned n = 0; n < cg_secrets_count(i->o.secrets); n++) {
        const struct cg_secret *s = cg_secrets_at(i->o.secrets, n);
        for (unsigned h = 0; s->placeholder[0] && h < s->nhosts; h++) {
            const char *colon = strchr(s->hosts[h], ':');
            if ((colon ? strtol(colon + 1, NULL, 10) : 443) == port)
                return true;
        }
    }
    return false;
}

/* --- events --- */

static void begin_event(struct cg_buf *b, struct cg_jsonw *j, const struct flow *f,
                        const char *event)
{
    cg_buf_init(b, 8192);
    cg_jsonw_init(j, b);
    cg_jsonw_obj(j);
    cg_jsonw_kstr(j, "event", event);
    cg_jsonw_kuint(j, "conn", f->id);
    cg_jsonw_kstr(j, "name", f->name);
    cg_jsonw_kint(j, "port", f->port);
}

static void end_event(struct cg_buf *b, struct cg_jsonw *j, const struct flow *f)
{
    cg_jsonw_obj_end(j);
    f->i->o.event(f->i->o.ctx, cg_buf_slice(b));
    cg_buf_finish(b);
}

static void on_rewrite_event(void *ctx, const struct cg_rewrite_event *e)
{
    struct flow *f = ctx;
    struct cg_buf b;
    struct cg_jsonw j;
    begin_event(&b, &j, f, f->sight == CG_SIGHT_HTTP ? "http" : "secret");
    cg_jsonw_kstr(&j, "verdict", e->verdict);
    if (e->rule)
        cg_jsonw_kstr(&j, "rule", e->rule);
    if (e->secret)
        cg_jsonw_kstr(&j, "secret", e->secret);
    if (e->method.n > 0) {
        cg_jsonw_kstrn(&j, "method", e->method.p, e->method.n);
        cg_jsonw_kstrn(&j, "path", e->target.p, e->target.n);
    }
    end_event(&b, &j, f);
}

static void end_life_event(struct cg_buf *b, struct cg_jsonw *j, const struct flow *f)
{
    f->i->o.whose(f->i->o.ctx, f->id, j);
    end_event(b, j, f);
}

static void tell_end(const struct flow *f, const char *error)
{
    struct cg_buf b;
    struct cg_jsonw j;
    begin_event(&b, &j, f, "close");
    cg_jsonw_kstr(&j, "protocol", f->sight == CG_SIGHT_HTTP ? "http" : "tls");
    cg_jsonw_kbool(&j, "intercepted", true);
    cg_jsonw_kuint(&j, "bytes_out", f->guest.got);
    cg_jsonw_kuint(&j, "bytes_in", f->guest.sent);
    cg_jsonw_kint(&j, "duration_ms", (cg_mono_ns() - f->since) / 1000000);
    if (error)
        cg_jsonw_kstr(&j, "error", error);
    cg_jsonw_kstr(&j, "reason", error ? error : "done");
    end_life_event(&b, &j, f);
}

/* --- life of a flow --- */

static void on_closed(uv_handle_t *handle)
{
    struct flow *f = handle->data;
    struct cg_intercept *i = f->i;
    i->handles--;
    if (--f->handles == 0)
        free(f);
    if (i->destroyed && i->handles == 0)
        free_all(i);
}

static void wipe(struct cg_buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    cg_buf_finish(b);
}

static void leave_list(struct flow *f)
{
    if (f->prev)
        f->prev->next = f->next;
    else
        f->i->flows = f->next;
    if (f->next)
        f->next->prev = f->prev;
    f->i->nflows--;
}

static void end_flow(struct flow *f, const char *error)
{
    if (f->ended)
        return;
    f->ended = true;
    leave_list(f);
    if (f->phase != PEEK)
        tell_end(f, error);
    cg_rewrite_destroy(f->rewrite);
    f->rewrite = NULL;
    wipe(&f->in);
    wipe(&f->up);
    wipe(&f->down);
    if (f->has_host)
        cg_end_close(&f->host, on_closed);
    cg_end_close(&f->guest, on_closed);
}

static void on_host(uv_poll_t *poll, int status, int events);
static void on_guest(uv_poll_t *poll, int status, int events);

static void add_host(struct flow *f, int fd, SSL *ssl)
{
    cg_end_init(&f->host, f->i->loop, fd, ssl, on_host, f);
    f->has_host = true;
    f->handles++;
    f->i->handles++;
}

/* --- the host's side --- */

static int dial(uint32_t address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    const int on = 1;
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        cg_drop_fd(&fd);
    return fd;
}

static SSL *client_of(struct flow *f, struct cg_err *e)
{
    struct cg_intercept *i = f->i;
    if (!i->client)
        i->client = cg_ca_client(i->more_ca_pem, e);
    SSL *ssl = i->client ? SSL_new(i->client) : NULL;
    if (ssl && SSL_set_tlsext_host_name(ssl, f->name) == 1 && SSL_set1_host(ssl, f->name) == 1) {
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        SSL_set_connect_state(ssl);
        return ssl;
    }
    SSL_free(ssl);
    if (e->code == CG_OK)
        cg_fail(e, CG_INTERNAL, "prepare TLS: %s", cg_ca_why());
    return NULL;
}

static void give_up_host(struct flow *f, const char *why)
{
    cg_rewrite_unreachable(f->rewrite, why, &f->down);
    f->phase = FLOW; /* what is in `down` goes out, then it ends */
}

/* The guest's handshake is through, or there is none. */
static void open_host(struct flow *f)
{
    struct cg_err e = CG_ERR_INIT;
    bool plain = f->sight == CG_SIGHT_HTTP;
    const struct cg_rewrite_options o = {.secrets = plain ? NULL : f->i->o.secrets,
                                         .host = f->name,
                                         .port = f->port,
                                         .event = on_rewrite_event,
                                         .ctx = f};
    f->rewrite = cg_rewrite_create(&o);
    SSL *ssl = plain ? NULL : client_of(f, &e);
    int fd = ssl || plain ? dial(f->to, f->port) : -1;
    if (fd < 0) {
        SSL_free(ssl);
        give_up_host(f, e.code == CG_OK ? "connect failed" : e.text);
        return;
    }
    add_host(f, fd, ssl);
    f->phase = CONNECT;
}

static void open_service(struct flow *f, const struct service *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        end_flow(f, "no_socket");
        return;
    }
    const struct cg_egress_peer peer = {
        .name = f->name, .address = f->address, .port = f->port, .tls = true, .conn = f->id};
    add_host(f, pair[0], NULL);
    f->phase = FLOW;
    s->serve(s->ctx, pair[1], &peer);
}

static void connected(struct flow *f)
{
    int err = 0;
    socklen_t n = sizeof err;
    if (getsockopt(f->host.fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0)
        f->phase = f->host.ssl ? SHAKE_HOST : FLOW;
    else
        give_up_host(f, "connect failed");
    if (f->phase == FLOW)
        f->deadline = cg_mono_ns() + CG_INTERCEPT_SILENCE_S * SECOND;
}

static void shake_host(struct flow *f)
{
    if (cg_end_shake(&f->host)) {
        f->phase = FLOW;
        f->deadline = cg_mono_ns() + CG_INTERCEPT_SILENCE_S * SECOND;
        return;
    }
    if (!f->host.dead)
        return;
    long verified = SSL_get_verify_result(f->host.ssl);
    ERR_clear_error();
    give_up_host(f, verified == X509_V_OK ? "TLS failed" : X509_verify_cert_error_string(verified));
}

/* --- the pump --- */

static void put(struct cg_end *to, struct cg_buf *b)
{
    cg_end_write(to, b->p, b->n);
    if (b->p)
        explicit_bzero(b->p, b->n);
    cg_buf_clear(b);
}

/* Guest to host. True when something moved. */
static bool move_up(struct flow *f)
{
    char piece[PIECE];
    bool wants = f->rewrite ? cg_rewrite_wants(f->rewrite) : true;
    bool moved = false;
    if (!wants || !f->has_host || cg_end_full(&f->host) || f->down.n > 0)
        return false;
    if (f->in.n == 0) {
        size_t n = cg_end_read(&f->guest, piece, sizeof piece);
        if (n > 0 && !f->rewrite)
            cg_end_write(&f->host, piece, n);
        else if (n > 0)
            CG_ASSERT(cg_buf_add(&f->in, piece, n));
        moved = n > 0;
    }
    if (f->in.n > 0) {
        size_t used = cg_rewrite_request(f->rewrite, cg_buf_slice(&f->in), &f->up, &f->down);
        cg_buf_consume(&f->in, used);
        moved |= used > 0;
    }
    put(&f->host, &f->up);
    return moved;
}

/* Host to guest. */
static bool move_down(struct flow *f)
{
    char piece[PIECE];
    bool moved = f->down.n > 0;
    put(&f->guest, &f->down);
    if (!f->has_host || cg_end_full(&f->guest) || f->host.eof)
        return moved;
    size_t n = cg_end_read(&f->host, piece, sizeof piece);
    if (n > 0 && f->rewrite)
        cg_rewrite_response(f->rewrite, (struct cg_slice){piece, n}, &f->down);
    else if (n > 0)
        cg_end_write(&f->guest, piece, n);
    if (f->host.eof && f->rewrite)
        cg_rewrite_response_end(f->rewrite, &f->down);
    put(&f->guest, &f->down);
    explicit_bzero(piece, n);
    return moved || n > 0;
}

/* Whether it is over; *error says why when it is no good end. */
static bool is_over(struct flow *f, const char **error)
{
    *error = NULL;
    bool answered = f->rewrite ? cg_rewrite_over(f->rewrite) : f->host.eof;
    if (f->guest.dead) {
        *error = "reset";
        return true;
    }
    if (answered && f->guest.out.n == 0 && f->down.n == 0) {
        cg_end_shutdown(&f->guest);
        return f->guest.out.n == 0;
    }
    if (answered)
        return false;
    if (f->has_host && f->host.dead && !f->rewrite)
        return true;
    if (f->guest.eof && f->rewrite && cg_rewrite_idle(f->rewrite) && f->in.n == 0)
        return true;
    if (f->guest.eof && f->has_host && f->host.out.n == 0 && f->in.n == 0)
        cg_end_shutdown(&f->host);
    return false;
}

static void watch(struct flow *f, bool more)
{
    bool flowing = f->phase == FLOW;
    bool wants = !f->rewrite || cg_rewrite_wants(f->rewrite);
    bool up = f->has_host && !cg_end_full(&f->host) && wants && f->in.n == 0;
    bool down = !cg_end_full(&f->guest);
    cg_end_watch(&f->guest, flowing ? up : f->phase == SHAKE, more);
    if (f->has_host)
        cg_end_watch(&f->host, flowing ? down : f->phase == SHAKE_HOST, f->phase == CONNECT);
}

static void pump(struct flow *f)
{
    const char *error = NULL;
    bool moved = f->phase == FLOW;
    for (int i = 0; i < ROUNDS && moved; i++) {
        moved = move_up(f);
        moved |= move_down(f);
        cg_end_flush(&f->guest);
        if (f->has_host)
            cg_end_flush(&f->host);
        f->deadline = cg_mono_ns() + CG_INTERCEPT_SILENCE_S * SECOND;
    }
    if (f->phase == FLOW && is_over(f, &error))
        end_flow(f, error);
    else
        watch(f, moved); /* more may be in TLS's own memory, where no poll sees it */
}

/* --- the guest's side --- */

static struct cg_egress_peer peer_of(const struct flow *f)
{
    return (struct cg_egress_peer){.name = f->name,
                                   .address = f->address,
                                   .to = f->to,
                                   .port = f->port,
                                   .conn = f->id,
                                   .look = f->look,
                                   .seen = f->seen,
                                   .sight = f->sight};
}

static void hand_back(struct flow *f)
{
    struct cg_egress_peer peer = peer_of(f);
    struct cg_intercept *i = f->i;
    char name[CG_HELLO_NAME];
    const int one = 1;
    memcpy(name, f->name, sizeof name);
    peer.name = name;
    int fd = f->guest.fd;
    f->guest.fd = -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    end_flow(f, NULL);
    i->o.pass(i->o.ctx, fd, &peer);
}

static void tell_open(const struct flow *f, const char *rule)
{
    struct cg_buf b;
    struct cg_jsonw j;
    char text[16];
    begin_event(&b, &j, f, "open");
    cg_snprintf(text, sizeof text, "%u.%u.%u.%u", f->address >> 24, f->address >> 16 & 255,
                f->address >> 8 & 255, f->address & 255);
    cg_jsonw_kstr(&j, "address", text);
    cg_jsonw_kstr(&j, "protocol", f->sight == CG_SIGHT_HTTP ? "http" : "tls");
    cg_jsonw_kstr(&j, "verdict", "allow");
    cg_jsonw_kstr(&j, "rule", rule);
    cg_jsonw_kbool(&j, "intercepted", true);
    end_life_event(&b, &j, f);
}

static void begin_tls(struct flow *f)
{
    struct cg_err e = CG_ERR_INIT;
    SSL_CTX *context = cg_ca_server(f->i->ca, f->name, &e);
    SSL *ssl = context ? SSL_new(context) : NULL;
    f->phase = SHAKE;
    if (!ssl) {
        end_flow(f, "no_certificate");
        return;
    }
    SSL_set_accept_state(ssl);
    cg_end_secure(&f->guest, ssl);
}

/* Ends at a service of ours: where the guest wanted to go is never dialled, so no policy of it is
 * asked. */
static bool is_served(const struct flow *f)
{
    return f->sight == CG_SIGHT_TLS && f->i->ca && find_service(f->i, f->name, f->port);
}

/* The first bytes are known, or will not be. */
static void decide(struct flow *f)
{
    struct cg_intercept *i = f->i;
    f->seen = true;
    bool tls = is_served(f) || (f->sight == CG_SIGHT_TLS && i->ca &&
                                cg_secrets_want(i->o.secrets, f->name, f->port));
    bool plain = f->sight == CG_SIGHT_HTTP && f->look;
    const struct cg_egress_peer peer = peer_of(f);
    struct cg_egress_verdict v = {.allow = is_served(f), .rule = "gateway"};
    if (!v.allow && (tls || plain))
        v = i->o.permits(i->o.ctx, &peer);
    if (!v.allow) {
        hand_back(f);
        return;
    }
    f->to = v.address;
    tell_open(f, v.rule);
    if (tls)
        begin_tls(f);
    else
        open_host(f);
}

/* Looks at the first bytes without taking them. `late`: no more are waited for. */
static void peek(struct flow *f, bool late)
{
    static char bytes[CG_HELLO_MAX];
    ssize_t n = recv(f->guest.fd, bytes, sizeof bytes, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !late)
        return;
    const struct cg_slice in = {bytes, n > 0 ? (size_t)n : 0};
    if (n > 0 && !cg_sight(in, f->port, &f->sight, f->name) && !late) {
        int enough = (int)n + 1; /* poll stays quiet until more is there */
        setsockopt(f->guest.fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof enough);
        return;
    }
    if (n <= 0 || (late && !cg_sight(in, f->port, &f->sight, f->name)))
        f->sight = cg_sight_cut(in);
    decide(f);
}

static void shake_guest(struct flow *f)
{
    if (cg_end_shake(&f->guest)) {
        const struct service *s = find_service(f->i, f->name, f->port);
        f->deadline = cg_mono_ns() + CG_INTERCEPT_SHAKE_S * SECOND;
        if (s)
            open_service(f, s);
        else
            open_host(f);
    } else if (f->guest.dead) {
        ERR_clear_error();
        end_flow(f, "tls_refused");
    }
}

static void on_guest(uv_poll_t *poll, int status, int events)
{
    struct flow *f = poll->data;
    (void)status;
    (void)events;
    if (f->ended)
        return;
    if (f->phase == PEEK)
        peek(f, false);
    if (!f->ended && f->phase == SHAKE)
        shake_guest(f);
    if (!f->ended && f->phase != PEEK)
        pump(f);
}

static void on_host(uv_poll_t *poll, int status, int events)
{
    struct flow *f = poll->data;
    (void)status;
    (void)events;
    if (f->ended)
        return;
    if (f->phase == CONNECT)
        connected(f);
    if (f->phase == SHAKE_HOST)
        shake_host(f);
    pump(f);
}

static void refuse(struct cg_intercept *i, int fd, const struct cg_egress_peer *peer)
{
    char text[160];
    close(fd);
    if (i->destroyed)
        return;
    cg_snprintf(text, sizeof text,
                "{\"event\":\"open\",\"conn\":%llu,\"port\":%u,\"verdict\":\"deny\","
                "\"rule\":\"too_many\"}",
                (unsigned long long)peer->conn, (unsigned)peer->port);
    i->o.event(i->o.ctx, cg_slice_of(text));
}

/* Nobody is kept waiting whose server would speak first. */
static void on_hush(uv_timer_t *timer)
{
    struct cg_intercept *i = timer->data;
    int64_t now = cg_mono_ns();
    bool more = false;
    struct flow *next;
    for (struct flow *f = i->flows; f; f = next) {
        next = f->next;
        if (f->phase != PEEK)
            continue;
        if (now >= f->deadline)
            peek(f, true);
        else
            more = true;
    }
    if (!more)
        uv_timer_stop(&i->hush);
}

static int64_t patience(struct cg_intercept *i, const struct cg_egress_peer *peer)
{
    if (!peer->look)
        return CG_INTERCEPT_SHAKE_S * SECOND;
    if (peer->hush && !uv_is_active((const uv_handle_t *)&i->hush))
        uv_timer_start(&i->hush, on_hush, CG_INTERCEPT_HUSH_MS / 3, CG_INTERCEPT_HUSH_MS / 3);
    return (peer->hush ? CG_INTERCEPT_HUSH_MS : CG_INTERCEPT_LOOK_MS) * (SECOND / 1000);
}

void cg_intercept_take(struct cg_intercept *i, int fd, const struct cg_egress_peer *peer)
{
    if (i->nflows >= CG_INTERCEPT_FLOWS || i->destroyed) {
        refuse(i, fd, peer);
        return;
    }
    struct flow *f = cg_alloc(sizeof *f);
    f->i = i;
    f->address = peer->address;
    f->to = peer->to;
    f->port = peer->port;
    f->id = peer->conn;
    f->look = peer->look;
    f->since = cg_mono_ns();
    f->deadline = f->since + patience(i, peer);
    cg_buf_init(&f->in, PIECE);
    cg_buf_init(&f->up, 2 * CG_REWRITE_OUT);
    cg_buf_init(&f->down, 2 * CG_REWRITE_OUT);
    f->next = i->flows;
    if (f->next)
        f->next->prev = f;
    i->flows = f;
    i->nflows++;
    cg_end_init(&f->guest, i->loop, fd, NULL, on_guest, f);
    f->handles++;
    i->handles++;
    cg_end_watch(&f->guest, true, false);
}

void cg_intercept_second(struct cg_intercept *i)
{
    int64_t now = cg_mono_ns();
    struct flow *next;
    for (struct flow *f = i->flows; f; f = next) {
        next = f->next;
        if (now < f->deadline)
            continue;
        if (f->phase == PEEK)
            peek(f, true); /* a client that waits for the server's first word */
        else
            end_flow(f, "timeout");
    }
}

void cg_intercept_policy_changed(struct cg_intercept *i)
{
    struct flow *next;
    for (struct flow *f = i->flows; f; f = next) {
        next = f->next;
        const struct cg_egress_peer peer = peer_of(f);
        if (f->phase != PEEK && !is_served(f) && !i->o.permits(i->o.ctx, &peer).allow)
            end_flow(f, "policy");
    }
}

static void on_hush_closed(uv_handle_t *handle)
{
    struct cg_intercept *i = handle->data;
    if (--i->handles == 0)
        free_all(i);
}

void cg_intercept_destroy(struct cg_intercept *i)
{
    if (!i)
        return;
    while (i->flows)
        end_flow(i->flows, "sandbox_ended");
    i->destroyed = true;
    uv_timer_stop(&i->hush);
    uv_close((uv_handle_t *)&i->hush, on_hush_closed);
}
