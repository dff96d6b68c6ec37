/* The inside of egress: egress.c owns, tcp.c moves connections, dns.c answers. Every handle counts;
 * the object is freed when the last is closed. */
#ifndef CG_EGRESS_INNER_H
#define CG_EGRESS_INNER_H

#include "base/jsonw.h"
#include "egress/egress.h"

enum {
    CG_EGRESS_CONNS = 256,
    CG_EGRESS_DNS_CONNS = 16,
    CG_EGRESS_BUFFER = 16 * 1024, /* what may wait in one direction of a connection */
    CG_EGRESS_EVENTS = 20,        /* told a second; a burst of five times that */
};

/* What a flood leaves untold, one line a second. */
struct flood {
    uint64_t opened, denied, closed, bytes_out, bytes_in;
};

struct cg_egress {
    uv_loop_t *loop;
    struct cg_egress_options o;
    struct cg_egress_stats stats;
    unsigned handles; /* open uv handles */
    bool destroyed;
    int64_t now; /* CLOCK_MONOTONIC of the last second */
    unsigned net_tokens, dns_tokens;
    struct flood flood;
    uint64_t dns_untold, malformed_untold;

    struct cg_egress_service services[CG_EGRESS_SERVICES];
    unsigned nservices;
    struct cg_egress_reader reader;

    uv_poll_t accept_poll, dns_poll, dns_accept_poll;
    bool accepting, dns_on, dns_accepting;
    struct conn *conns;
    uint64_t conn_seq;
    struct dns_conn *dns_conns;
    unsigned ndns_conns;
};

/* egress.c */
void egress_watch(struct cg_egress *g, uv_poll_t *poll, int fd, void *data);
void egress_unwatch(struct cg_egress *g, uv_poll_t *poll, uv_close_cb closed);
void egress_closed(struct cg_egress *g); /* a handle is closed; may free g */
bool egress_token(unsigned *tokens);
void egress_address_text(uint32_t address, char out[16]);

/* tcp.c */
void tcp_accept(uv_poll_t *poll, int status, int events);
void tcp_second(struct cg_egress *g);
void tcp_close_all(struct cg_egress *g);

/* dns.c */
void dns_readable(uv_poll_t *poll, int status, int events);
void dns_accept(uv_poll_t *poll, int status, int events);
void dns_second(struct cg_egress *g);
void dns_close_all(struct cg_egress *g);

#endif
