/* Who may see what a sandbox serves: passwords of ports, and the tokens that a password or a share
 * link gives. Passwords are kept as argon2id hashes, and hashed on libuv's pool; tokens are signed
 * and end. One thread, the loop's. */
#ifndef CG_CORE_PREVIEWS_H
#define CG_CORE_PREVIEWS_H

#include "core/core.h"

enum { CG_PREVIEW_TOKEN = 64, CG_PREVIEW_LABEL = 40 };

/* Loads what is protected; after the sandboxes are known. */
CG_MUST_USE bool cg_previews_start(struct cg_core *c, struct cg_err *e);

/* "<sandbox>-<port>", the name of a preview, and back: false for what is none. */
void cg_preview_label(const char *sandbox, int port, char out[CG_PREVIEW_LABEL]);
bool cg_preview_parse(const char *label, size_t n, char sandbox[CG_ID_TEXT], int *port);

bool cg_preview_protected(const char *sandbox, int port);

typedef void cg_preview_done(void *ctx, const struct cg_err *err);

/* Visitors need this password from now on; tokens that were given before are none any more. done:
 * it is durable. */
void cg_preview_protect(struct cg_core *c, const struct cg_sandbox *sb, int port,
                        const char *password, cg_preview_done *done, void *ctx);
/* Nobody needs one any more. */
void cg_preview_open(struct cg_core *c, const char *sandbox, int port, cg_preview_done *done,
                     void *ctx);
/* CG_UNAUTHORIZED when it is not the password; CG_LIMIT after too many wrong ones, or when too many
 * are checked. */
void cg_preview_check(struct cg_core *c, const char *sandbox, int port, const char *password,
                      cg_preview_done *done, void *ctx);

/* Lets its holder see the port until then. */
void cg_preview_token(const char *sandbox, int port, int64_t until_s, char out[CG_PREVIEW_TOKEN]);
bool cg_preview_token_fine(const char *sandbox, int port, const char *token);

#endif
