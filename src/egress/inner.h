/* The inside of egress: egress.c owns, tcp.c moves connections, dns.c answers, lookup.c asks this
 * machine's resolvers. Every handle counts; the object is freed when the last is closed. */
#ifndef CG_EGRESS_INNER_H
#define CG_EGRESS_INNER_H

#include <sys/socket.h>

#include "base/jsonw.h"
#include "egress/egress.h"
#include "egress/judge.h"
#include "egress/pins.h"

enum {
    CG_EGRESS_CONNS = 1024,
    CG_EGRESS_DNS_CONNS = 16,
    CG_EGRESS_LOOKUPS = 64,       /* under way */
    CG_EGRESS_ASKERS = 256,       /* that wait for them */
    CG_EGRESS_BUFFER = 16 * 1024, /* what may wait in one direction of a connection */
    CG_EGRESS_OWNERS = 1024,      /* connections and lookups whose process is remembered */
    CG_EGRESS_EVENTS = 20,        /* told a second; a burst of five times that */
};

/* What a flood leaves untold, one line a second. */
struct flood {
    uint64_t opened, denied, closed, bytes_out, bytes_in;
};

/* A connection or a lookup of the guest, and the process that the guest says it is of: either half
 * may come first. */
struct egress_owner {
    uint64_t id; /* of the connection or the lookup; 0: it is not seen yet */
    int64_t at;
    int64_t pid;
    uint32_t address;
    uint16_t port, sport;
    bool udp, told;
    bool made; /* the guest says that it stands */
    bool checked;
    char comm[CG_EGRESS_COMM];
};

struct dns_conn;

/* A question of the guest that waits for a lookup. */
struct asker {
    struct asker *next;
    struct dns_conn *conn; /* over TCP; NULL: over UDP, or it has gone */
    bool tcp;
    struct sockaddr_storage from;
    socklen_t from_n;
    int64_t since;
    size_t n;
    unsigned char query[CG_DNS_QUERY_MAX];
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
    uint64_t conn_seq, lookup_seq;
    struct egress_owner *owners; /* a ring */
    unsigned owner_next;
    int64_t owner_blur; /* when one half was last pushed out before it met the other */
    struct dns_conn *dns_conns;
    unsigned ndns_conns;
    struct cg_pins *pins;
    struct lookup *lookups;
    unsigned nlookups, naskers;
};

/* What is known of a connection. */
struct egress_seen {
    uint64_t conn;    /* its number in the record */
    uint32_t address; /* that the guest named */
    uint16_t port;
    bool seen; /* its first bytes: `sight`, and `name` when that has one */
    enum cg_egress_sight sight;
    char name[CG_EGRESS_NAME];
};

struct egress_end {
    const struct egress_seen *seen;
    uint64_t bytes_out, bytes_in;
    int64_t duration_ms;
    const char *reason;
};

/* egress.c */
void egress_watch(struct cg_egress *g, uv_poll_t *poll, int fd, void *data);
void egress_unwatch(struct cg_egress *g, uv_poll_t *poll, uv_close_cb closed);
void egress_closed(struct cg_egress *g); /* a handle is closed; may free g */
bool egress_token(unsigned *tokens);
void egress_address_text(uint32_t address, char out[16]);

bool egress_is_own(uint32_t address); /* one of this machine's */
/* Of a connection of the guest; names stay in place until the next lookup ends. */
struct cg_egress_ask egress_ask(const struct cg_egress *g, uint32_t address, uint16_t port,
                                const char *names[CG_PIN_NAMES]);

/* owner.c */
/* Number `id` of the record comes from this local port; a lookup's address is not known: 0. */
void egress_owner_flow(struct cg_egress *g, bool udp, uint16_t sport, uint32_t address,
                       uint16_t port, uint64_t id);
/* Writes pid and process of it, if they are known. */
void egress_owner_write(const struct cg_egress *g, bool udp, uint64_t id, struct cg_jsonw *j);

/* tell.c */
void egress_tell_open(struct cg_egress *g, const struct egress_seen *s,
                      const struct cg_egress_verdict *v);
void egress_tell_close(struct cg_egress *g, const struct egress_end *end);
void egress_tell_flood(struct cg_egress *g);
/* A refusal as an answer to an HTTP request that waits on fd; what follows is dropped. */
void egress_send_page(const struct cg_egress *g, int fd, const struct egress_seen *s,
                      const struct cg_egress_verdict *v);

/* tcp.c */
void tcp_judge_again(struct cg_egress *g);
void tcp_accept(uv_poll_t *poll, int status, int events);
void tcp_second(struct cg_egress *g);
void tcp_close_all(struct cg_egress *g);

/* dns.c */
void dns_readable(uv_poll_t *poll, int status, int events);
void dns_accept(uv_poll_t *poll, int status, int events);
void dns_second(struct cg_egress *g);
void dns_close_all(struct cg_egress *g);
/* A lookup has ended: answers and frees the askers. `a` is NULL when nothing was found out. */
void dns_found(struct cg_egress *g, const char *name, struct asker *askers, enum cg_dns_rcode rcode,
               struct cg_dns_addresses *a);

/* lookup.c */
/* Takes the asker over. False: there is no room, and it is not taken. */
CG_MUST_USE bool lookup_start(struct cg_egress *g, const char *name, struct asker *a);
void lookup_forget(struct cg_egress *g, const struct dns_conn *c); /* the connection is going */
void lookup_second(struct cg_egress *g);
void lookup_close_all(struct cg_egress *g);

#endif
