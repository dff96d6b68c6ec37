/* Sockets, clocks and life. The listening sockets are in the sandbox's network namespace; sockets
 * made here are in the warden's, which is the host's. */
#include "egress/egress.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "egress/inner.h"

enum { BURST = 5 };

#define SECOND_NS INT64_C(1000000000)

void egress_watch(struct cg_egress *g, uv_poll_t *poll, int fd, void *data)
{
    CG_ASSERT(uv_poll_init(g->loop, poll, fd) == 0);
    poll->data = data;
    g->handles++;
}

void egress_unwatch(struct cg_egress *g, uv_poll_t *poll, uv_close_cb closed)
{
    (void)g;
    uv_poll_stop(poll);
    uv_close((uv_handle_t *)poll, closed);
}

static void egress_free(struct cg_egress *g)
{
    cg_pins_destroy(g->pins);
    free(g->owners);
    free(g);
}

void egress_closed(struct cg_egress *g)
{
    if (--g->handles == 0 && g->destroyed)
        egress_free(g);
}

bool egress_token(unsigned *tokens)
{
    if (*tokens == 0)
        return false;
    --*tokens;
    return true;
}

void egress_address_text(uint32_t a, char out[16])
{
    cg_snprintf(out, 16, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

/* The kernel takes an address of its own as the source for itself. Nothing is sent. */
bool egress_is_own(uint32_t address)
{
    CG_OWN(cg_drop_fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(address)};
    struct sockaddr_in from = {0};
    socklen_t n = sizeof from;
    return fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
           getsockname(fd, (struct sockaddr *)&from, &n) == 0 &&
           from.sin_addr.s_addr == to.sin_addr.s_addr;
}

struct cg_egress_ask egress_ask(const struct cg_egress *g, uint32_t address, uint16_t port,
                                const char *names[CG_PIN_NAMES])
{
    return (struct cg_egress_ask){
        .address = address,
        .port = port,
        .own = egress_is_own(cg_egress_leads_to(g->o.policy, address)),
        .names = names,
        .nnames = cg_pins_names(g->pins, address, cg_mono_ns() / SECOND_NS, names),
    };
}

void cg_egress_policy_changed(struct cg_egress *g)
{
    cg_pins_drop(g->pins, g->o.policy);
    tcp_judge_again(g);
}

static void on_own_closed(uv_handle_t *handle)
{
    egress_closed(handle->data);
}

static bool prepare(struct cg_egress *g, int fd, uv_poll_t *poll, uv_poll_cb cb, bool *on,
                    struct cg_err *e)
{
    if (fd < 0)
        return true;
    if (!cg_fd_set_nonblock(fd, true, e))
        return false;
    egress_watch(g, poll, fd, g);
    uv_poll_start(poll, UV_READABLE, cb);
    *on = true;
    return true;
}

struct cg_egress *cg_egress_create(uv_loop_t *loop, const struct cg_egress_options *o,
                                   struct cg_err *e)
{
    struct cg_egress *g = cg_alloc(sizeof *g);
    g->loop = loop;
    g->o = *o;
    g->pins = cg_pins_create();
    g->owners = cg_alloc_array(CG_EGRESS_OWNERS, sizeof *g->owners);
    g->now = cg_mono_ns();
    g->net_tokens = g->dns_tokens = BURST * CG_EGRESS_EVENTS;
    if (prepare(g, o->tcp, &g->accept_poll, tcp_accept, &g->accepting, e) &&
        prepare(g, o->dns, &g->dns_poll, dns_readable, &g->dns_on, e) &&
        prepare(g, o->dns_tcp, &g->dns_accept_poll, dns_accept, &g->dns_accepting, e))
        return g;
    cg_egress_destroy(g);
    return NULL;
}

void cg_egress_add_service(struct cg_egress *g, const struct cg_egress_service *s)
{
    CG_ASSERT(g->nservices < CG_EGRESS_SERVICES);
    g->services[g->nservices++] = *s;
}

void cg_egress_set_reader(struct cg_egress *g, const struct cg_egress_reader *r)
{
    g->reader = *r;
}

void cg_egress_second(struct cg_egress *g)
{
    g->now = cg_mono_ns();
    unsigned most = BURST * CG_EGRESS_EVENTS;
    g->net_tokens = CG_MIN(most, g->net_tokens + CG_EGRESS_EVENTS);
    g->dns_tokens = CG_MIN(most, g->dns_tokens + CG_EGRESS_EVENTS);
    /* taken off the poll when descriptors had run out */
    if (g->accepting)
        uv_poll_start(&g->accept_poll, UV_READABLE, tcp_accept);
    tcp_second(g);
    dns_second(g);
    lookup_second(g);
}

void cg_egress_get_stats(const struct cg_egress *g, struct cg_egress_stats *out)
{
    *out = g->stats;
}

static void end(struct cg_egress *g, uv_poll_t *poll, bool *on, int *fd)
{
    if (*on)
        egress_unwatch(g, poll, on_own_closed);
    *on = false;
    cg_drop_fd(fd);
}

void cg_egress_destroy(struct cg_egress *g)
{
    if (!g)
        return;
    end(g, &g->accept_poll, &g->accepting, &g->o.tcp);
    end(g, &g->dns_poll, &g->dns_on, &g->o.dns);
    end(g, &g->dns_accept_poll, &g->dns_accepting, &g->o.dns_tcp);
    tcp_close_all(g);
    lookup_close_all(g);
    dns_close_all(g);
    tcp_second(g); /* the last summaries */
    dns_second(g);
    g->destroyed = true;
    if (g->handles == 0)
        egress_free(g);
}
