/* The certificate authority of one sandbox: an EC P-256 key made when the warden starts, in its
 * memory only, and gone with it, but for a pause. The guest is given the certificate at every
 * setup. A leaf for each name that is intercepted, as a context for TLS servers, cached. */
#ifndef CG_INTERCEPT_CA_H
#define CG_INTERCEPT_CA_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_ca;

CG_MUST_USE struct cg_ca *cg_ca_create(const char *sandbox, struct cg_err *e);
enum { CG_CA_KEPT = 4096 };

/* Key and certificate as PEM, and back: the same authority after its warden was gone. `out` has
 * CG_CA_KEPT bytes and is the caller's to wipe. */
CG_MUST_USE bool cg_ca_keep(const struct cg_ca *ca, char *out, size_t *n, struct cg_err *e);
CG_MUST_USE struct cg_ca *cg_ca_restore(struct cg_slice kept, struct cg_err *e);
void cg_ca_destroy(struct cg_ca *ca); /* NULL is fine */
const char *cg_ca_pem(const struct cg_ca *ca);

/* For connections to this name: borrowed, valid until the next call. HTTP/1.1 by ALPN, TLS 1.2 and
 * later. NULL with *e set on failure. */
CG_MUST_USE SSL_CTX *cg_ca_server(struct cg_ca *ca, const char *name, struct cg_err *e);

/* For connections outward: certificates are checked against this machine's trust store and, when
 * it is not NULL, the certificates in `more_pem`. The caller's. */
CG_MUST_USE SSL_CTX *cg_ca_client(const char *more_pem, struct cg_err *e);
/* What OpenSSL says went wrong last, as short as it gets. */
const char *cg_ca_why(void);

#endif
