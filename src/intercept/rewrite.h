/* What is done to the HTTP of a host that is bound to a secret, both ways, without any I/O: the
 * placeholder in a header becomes the value, anything else that holds a placeholder is refused,
 * and a value that comes back is masked. Every request is judged anew; one is under way at a time
 * (bytes of the next stay with the caller). docs/secrets.md has the rules. */
#ifndef CG_INTERCEPT_REWRITE_H
#define CG_INTERCEPT_REWRITE_H

#include "intercept/secrets.h"

enum {
    CG_REWRITE_PIECE = 16 * 1024, /* at most so many bytes of input a call */
    CG_REWRITE_HEAD = 32 * 1024,
    CG_REWRITE_OUT = 256 * 1024, /* output buffers must have room for this */
};

struct cg_rewrite_event {
    const char *verdict;            /* "allow", "refuse", "redact" */
    const char *rule;               /* why it was refused, or NULL */
    const char *secret;             /* its name, or NULL */
    struct cg_slice method, target; /* of the request; empty when it has none. The target ends at
                                       its "?" */
};

struct cg_rewrite_options {
    struct cg_secrets *secrets; /* NULL: heads and bodies pass as they are, only judged */
    const char *host; /* the name of the handshake or of the first Host, lower case; outlives it */
    uint16_t port;
    void (*event)(void *ctx, const struct cg_rewrite_event *e); /* valid during the call */
    void *ctx;
};

struct cg_rewrite;

CG_MUST_USE struct cg_rewrite *cg_rewrite_create(const struct cg_rewrite_options *o);
void cg_rewrite_destroy(struct cg_rewrite *r);

/* Bytes of the guest: what goes on is appended to `up`, an answer of ours to `down`. Returns how
 * many were taken; the rest waits for the response (cg_rewrite_wants). */
size_t cg_rewrite_request(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *up,
                          struct cg_buf *down);
/* Bytes of the host. All are taken; what follows the end of the connection is dropped. */
void cg_rewrite_response(struct cg_rewrite *r, struct cg_slice in, struct cg_buf *down);
/* The host has closed. */
void cg_rewrite_response_end(struct cg_rewrite *r, struct cg_buf *down);
/* The host could not be reached, or is not who it should be. */
void cg_rewrite_unreachable(struct cg_rewrite *r, const char *why, struct cg_buf *down);

bool cg_rewrite_wants(const struct cg_rewrite *r); /* bytes of the guest are taken now */
bool cg_rewrite_idle(const struct cg_rewrite *r);  /* between requests */
bool cg_rewrite_over(const struct cg_rewrite *r);  /* once `down` is out, both ends close */

#endif
