/* The only ways out of a sandbox: TCP connections that the packet filter redirects to a listening
 * socket, and DNS. Every connection ends here; what the policy allows is dialled from the host and
 * pumped both ways. Nothing is forwarded. One thread: the loop's. Bounded: connections, bytes in
 * each, events told a second. */
#ifndef CG_EGRESS_EGRESS_H
#define CG_EGRESS_EGRESS_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/jsonw.h"
#include "egress/judge.h"

struct cg_egress;

struct cg_egress_stats {
    uint32_t connections; /* open now */
    uint64_t opened, denied, failed;
    uint64_t bytes_out, bytes_in; /* from the guest, to the guest */
    uint64_t dns_queries, dns_malformed;
};

/* Who opened a connection, as the guest tells it. */
enum { CG_EGRESS_COMM = 16 };
struct cg_egress_process {
    bool udp;
    uint16_t sport; /* its local port */
    uint16_t port;
    uint32_t address; /* that it connected to, host order */
    int64_t pid;
    const char *comm;
    bool made; /* the guest says that the connection stands, not only that it was asked for */
};

/* A connection that only one side told of. */
enum cg_egress_fact { CG_EGRESS_CONNECTION, CG_EGRESS_SERVICE_CALL };
struct cg_egress_lone {
    bool host;                /* seen here, and the guest told no process; else the other way */
    enum cg_egress_fact fact; /* to a service of the platform, or elsewhere */
    uint64_t conn;            /* its number in the record; 0: not seen here */
    uint32_t address;
    uint16_t port;
    int64_t pid;
    const char *comm;
};

enum cg_egress_topic { CG_EGRESS_NETWORK, CG_EGRESS_DNS };

struct cg_egress_options {
    const struct cg_egress_policy *policy; /* stays the caller's and in place; may change */
    int tcp, dns, dns_tcp;                 /* taken over, also on failure; -1: not there */
    uint32_t connect_ms;
    const char *sandbox; /* its id, for the page of a refusal; stays the caller's */
    /* An event for the record: a JSON object, valid during the call. */
    void (*event)(void *ctx, enum cg_egress_topic topic, struct cg_slice data);
    void *ctx;
};

/* A connection that the platform serves itself instead of dialling out. */
struct cg_egress_peer {
    const char *name; /* the service's, or the name that the client asked for */
    uint32_t address; /* that the guest connected to, host order */
    uint32_t to;      /* where that is dialled */
    uint16_t port;
    bool tls;      /* the guest speaks TLS; the descriptor carries what is inside of it */
    uint64_t conn; /* its number in the record */
    bool look;     /* it may pass only if its first bytes are allowed */
    bool hush;     /* they are waited for shortly: the server may speak first, or it is refused */
    bool seen;     /* they are known: `sight`, and `name` when that has one */
    enum cg_egress_sight sight;
};
/* Takes fd over: a stream socket that carries plain bytes. `peer` is valid during the call. */
typedef void cg_egress_serve_fn(void *ctx, int fd, const struct cg_egress_peer *peer);

enum { CG_EGRESS_SERVICES = 4 };
struct cg_egress_service {
    const char *name; /* the rule that the record names; stays the caller's */
    uint32_t address; /* whole connections to address:port are the service's */
    uint16_t port;
    cg_egress_serve_fn *serve;
    void *ctx;
};

/* Looks at connections that the policy allows before they are dialled. */
struct cg_egress_reader {
    bool (*looks)(void *ctx, uint16_t port); /* connections to this port are taken */
    cg_egress_serve_fn *take;                /* fd is what the guest sent, nothing is read */
    /* What the first bytes of a connection are; `name` is set when that has one. False: more are
     * needed. Pure. */
    bool (*sight)(struct cg_slice in, uint16_t port, enum cg_egress_sight *sight,
                  char name[CG_EGRESS_NAME]);
    void *ctx;
};

CG_MUST_USE struct cg_egress *cg_egress_create(uv_loop_t *loop, const struct cg_egress_options *o,
                                               struct cg_err *e);
/* Before the loop runs. The packet filter must let the address through. */
void cg_egress_add_service(struct cg_egress *g, const struct cg_egress_service *s);
void cg_egress_set_reader(struct cg_egress *g, const struct cg_egress_reader *r);
/* A connection that the reader took goes on as if there were none, and is judged by what the
 * reader saw; fd is taken over. */
void cg_egress_go_on(struct cg_egress *g, int fd, const struct cg_egress_peer *peer);
/* What the policy says of it now. */
struct cg_egress_verdict cg_egress_permits(const struct cg_egress *g,
                                           const struct cg_egress_peer *peer);
/* Once a second: deadlines, summaries. */
void cg_egress_second(struct cg_egress *g);
/* The policy in place is another: connections that it no longer permits are cut here; those that
 * the reader has are the reader's to cut. */
void cg_egress_policy_changed(struct cg_egress *g);
/* The number that the connection (TCP) or the lookup (UDP to port 53) has in the record; 0: it is
 * not seen yet. What is told of it from now on names the process. */
uint64_t cg_egress_process(struct cg_egress *g, const struct cg_egress_process *p);
/* Writes pid and process of a connection into an object, if they are known. */
void cg_egress_write_process(const struct cg_egress *g, uint64_t conn, struct cg_jsonw *j);
/* Each TCP connection that one side told of before `before` (CLOCK_MONOTONIC) and the other never
 * did, once. What nobody can know is left out: while more came at once than is remembered, and what
 * the guest connects to inside of itself. */
void cg_egress_check(struct cg_egress *g, int64_t before,
                     void (*lone)(void *ctx, const struct cg_egress_lone *l), void *ctx);
/* What was told up to now by one side only stays unchecked: the other side's word was lost. */
void cg_egress_forgive(struct cg_egress *g);
void cg_egress_get_stats(const struct cg_egress *g, struct cg_egress_stats *out);
/* Tells the last events and closes everything; memory goes from the loop. NULL is fine. */
void cg_egress_destroy(struct cg_egress *g);

#endif
