/* Secrets of accounts: sealed in the database (XChaCha20-Poly1305 under secrets.key of the state
 * directory, a nonce for each, account and name as associated data), opened only to hand them to
 * the warden of a sandbox that asks for them. No function gives a value to anybody else. */
#ifndef CG_CORE_SECRETS_H
#define CG_CORE_SECRETS_H

#include "core/core.h"

enum { CG_ACCOUNT_SECRETS = 200 };

/* Reads or makes secrets.key, loads the table; after cg_core_bootstrap. */
CG_MUST_USE bool cg_core_secrets_start(struct cg_core *c, struct cg_err *e);

/* Inserts or replaces. `hosts` is a JSON array of names, NULL: the defaults of a well-known name
 * (or those it had). Errors name the secret, never the value. */
CG_MUST_USE bool cg_core_secret_set(struct cg_core *c, const char *account, const char *name,
                                    struct cg_slice value, const struct cg_json *hosts,
                                    cg_store_done *done, void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_core_secret_delete(struct cg_core *c, const char *account, const char *name,
                                       cg_store_done *done, void *ctx, struct cg_err *e);
/* All of an account. */
void cg_core_secrets_forget(struct cg_core *c, const char *account);
/* Names, hosts, times, as an array of objects. */
void cg_core_secrets_write(struct cg_core *c, const char *account, struct cg_jsonw *w);
/* One as an object; null when there is none. */
void cg_core_secret_write(struct cg_core *c, const char *account, const char *name,
                          struct cg_jsonw *w);

/* `names` is a JSON array: each must exist and have a host. */
CG_MUST_USE bool cg_core_secrets_check(struct cg_core *c, const char *account,
                                       const struct cg_json *names, struct cg_err *e);
/* The `start` request of a sandbox with the secrets that it may use: those it names with a
 * placeholder, and the keys of LLM providers without. Contains values: wipe it with
 * cg_core_wipe after sending. */
CG_MUST_USE bool cg_core_secrets_request(struct cg_sandbox *sb, struct cg_buf *out,
                                         struct cg_err *e);
void cg_core_wipe(struct cg_buf *b);

/* The same seal for other things that are kept for an account: hex, the caller's. Opens only under
 * the account and name that it was sealed with, into out (NUL-terminated); false when not. */
CG_MUST_USE char *cg_core_seal(const char *account, const char *name, struct cg_slice value);
CG_MUST_USE bool cg_core_unseal(const char *account, const char *name, const char *sealed,
                                char *out, size_t size);

#endif
