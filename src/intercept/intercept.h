/* Connections that are read. TLS interception: connections of the guest to hosts that are bound to
 * one of its secrets (or that a service of the platform answers) end here, with a certificate of
 * the sandbox's own CA; what they say is judged and rewritten (rewrite.h) and goes on over TLS of
 * our own, to the address that the policy allowed, with the certificate checked against the name.
 * Plain HTTP, where names decide, goes on through here too, so that every request of it is to the
 * same host. Everything else is handed back unread: the first bytes are only peeked at. Bounded:
 * connections, bytes in each direction, time of a handshake, silence. One thread, the loop's. */
#ifndef CG_INTERCEPT_INTERCEPT_H
#define CG_INTERCEPT_INTERCEPT_H

#include <uv.h>

#include "base/jsonw.h"
#include "egress/egress.h"
#include "intercept/ca.h"
#include "intercept/secrets.h"

enum {
    CG_INTERCEPT_FLOWS = 1024,
    CG_INTERCEPT_SHAKE_S = 15,
    CG_INTERCEPT_SILENCE_S = 900,
    CG_INTERCEPT_LOOK_MS = 5000, /* for the first bytes where they decide */
    CG_INTERCEPT_HUSH_MS = 300,  /* the same when cg_egress_peer.hush */
};

struct cg_intercept;

struct cg_intercept_options {
    struct cg_secrets *secrets; /* borrowed, loaded */
    /* What the policy says of a connection now. */
    struct cg_egress_verdict (*permits)(void *ctx, const struct cg_egress_peer *peer);
    /* A connection that is not to be read goes on as it would have without us; fd is given back.
     */
    void (*pass)(void *ctx, int fd, const struct cg_egress_peer *peer);
    /* An event of topic network for the record: a JSON object, valid during the call. */
    void (*event)(void *ctx, struct cg_slice data);
    /* Adds what is known of the process of a connection to an event of it. */
    void (*whose)(void *ctx, uint64_t conn, struct cg_jsonw *j);
    void *ctx;
};

CG_MUST_USE struct cg_intercept *cg_intercept_create(uv_loop_t *loop,
                                                     const struct cg_intercept_options *o);
/* From here on TLS is read where it is to be, with certificates of `ca` (borrowed); more_ca_pem are
 * trusted beside this machine's trust store, or NULL; copied. */
void cg_intercept_trust(struct cg_intercept *i, struct cg_ca *ca, const char *more_ca_pem);
/* Ends all connections; memory goes from the loop. NULL is fine. */
void cg_intercept_destroy(struct cg_intercept *i);

/* Hosts whose connections are decrypted and given to a service of the platform as plain bytes; the
 * text stays the caller's. */
void cg_intercept_add_service(struct cg_intercept *i, const char *host, cg_egress_serve_fn *serve,
                              void *ctx);

/* Connections to this port are to be looked at. */
bool cg_intercept_looks(const struct cg_intercept *i, uint16_t port);
/* Takes fd over: a connection of the guest that the policy allows. it is dialled at
 * peer->to. */
void cg_intercept_take(struct cg_intercept *i, int fd, const struct cg_egress_peer *peer);
/* Connections that the policy no longer permits are cut. */
void cg_intercept_policy_changed(struct cg_intercept *i);
/* Once a second: deadlines. */
void cg_intercept_second(struct cg_intercept *i);

#endif
