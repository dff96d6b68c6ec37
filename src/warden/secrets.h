/* The sandbox's secrets in the warden: taken from the `start` request, put as placeholders into the
 * guest's environment, swapped in by interception, kept out of the record. */
#ifndef CG_WARDEN_SECRETS_H
#define CG_WARDEN_SECRETS_H

#include "intercept/secrets.h"
#include "warden/inner.h"

/* `secrets`, `ca_pem` (trusted by us) and `guest_ca_pem` (trusted by the guest) of a `start`
 * request; only the first one counts. Makes the sandbox's CA and begins to intercept when there is
 * something to read. */
CG_MUST_USE bool secrets_start(struct warden *w, const struct cg_json *request, struct cg_err *e);
/* `env` and `ca_pem` of a setup request: the configured environment, placeholders, and where the
 * CAs are for programs that do not look at the system's bundle. */
void secrets_write_setup(const struct warden *w, struct cg_jsonw *j);
void secrets_second(struct warden *w);
/* Before the record closes: interception ends. */
/* For the warden that goes on after a pause: processes of the guest know this CA. */
CG_MUST_USE bool secrets_keep_ca(const struct warden *w, struct cg_err *e);
void secrets_close(struct warden *w);
/* Wipes the values; nothing of the warden uses them any more. */
void secrets_finish(struct warden *w);

/* Connections to a host are decrypted and served by the platform (host: "api.openai.com" or
 * "*.example.com", stays the caller's). After secrets_start, before the guest runs. */
CG_MUST_USE bool secrets_serve(struct warden *w, const char *host, cg_egress_serve_fn *serve,
                               void *ctx, struct cg_err *e);

#endif
