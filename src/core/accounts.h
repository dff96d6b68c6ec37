/* People: accounts with passwords, login sessions, the device flow of `caged login`. The owner of a
 * self-hosted server needs none of it: the key in owner.key is enough. One thread, the loop's;
 * passwords are hashed (argon2id) on libuv's pool, one at a time, since each takes 64 MiB. */
#ifndef CG_CORE_ACCOUNTS_H
#define CG_CORE_ACCOUNTS_H

#include "core/core.h"

enum {
    CG_EMAIL_TEXT = 128,
    CG_USER_CODE_TEXT = 12,
    CG_DEVICE_LIFE_S = 600,
    CG_DEVICE_INTERVAL_S = 5
};

/* Where a request comes from: for the list of sessions and for slowing down guesses. */
struct cg_peer {
    const char *address;
    const char *user_agent;
};

/* err NULL: the account, and for a login the session's key with its token; all valid during the
 * call. */
struct cg_login {
    const struct cg_store_account *account;
    const struct cg_store_key *session;
    const char *token;
};
typedef void cg_login_done(void *ctx, const struct cg_login *l, const struct cg_err *err);

/* Loads passwords and sessions; after cg_core_bootstrap. */
CG_MUST_USE bool cg_accounts_start(struct cg_core *c, struct cg_err *e);

/* One @, a name and a domain of plain characters, lower-cased into out. */
CG_MUST_USE bool cg_email_read(const char *text, char out[CG_EMAIL_TEXT], struct cg_err *e);

/* A new account and a session of it. CG_FORBIDDEN unless the operator opened signup, or opened it
 * for who was invited into a team and this is such an invitation (may be NULL; joining is the
 * caller's business); CG_INVALID for an email or password that will not do; CG_CONFLICT for an
 * email that is taken. */
void cg_account_signup(struct cg_core *c, const char *email, const char *password, const char *name,
                       const char *invitation, const struct cg_peer *peer, cg_login_done *done,
                       void *ctx);
/* A session. CG_UNAUTHORIZED without saying which of the two was wrong, and in the same time;
 * CG_LIMIT after too many failures, with the seconds to wait in *wait_s of cg_account_wait. */
void cg_account_login(struct cg_core *c, const char *email, const char *password,
                      const struct cg_peer *peer, cg_login_done *done, void *ctx);
/* Seconds that this email from this address has to wait before the next try; 0: none. */
int cg_account_wait(const char *email, const char *address);

/* `current` may be NULL only when the account has no password yet. Ends the other sessions. */
void cg_account_set_password(struct cg_core *c, const char *account, const char *current,
                             const char *next, const struct cg_store_key *keep, cg_login_done *done,
                             void *ctx);
bool cg_account_has_password(const char *account);
struct cg_store_account *cg_account_by_email(struct cg_core *c, const char *email);

/* --- sessions --- */

bool cg_key_is_session(const struct cg_store_key *k);
struct cg_session {
    const struct cg_store_key *key; /* id, times */
    const char *user_agent;
    const char *address;
};
void cg_sessions_each(struct cg_core *c, const char *account,
                      void (*each)(void *ctx, const struct cg_session *s), void *ctx);
/* CG_NOT_FOUND when the account has no such session. */
CG_MUST_USE bool cg_session_end(struct cg_core *c, const char *account, const char *id,
                                cg_store_done *done, void *ctx, struct cg_err *e);

/* --- device flow (RFC 8628, as far as the clients know it) --- */

enum cg_device_state { CG_DEVICE_PENDING, CG_DEVICE_APPROVED, CG_DEVICE_DENIED, CG_DEVICE_EXPIRED };

struct cg_device {
    char device_code[64];
    char user_code[CG_USER_CODE_TEXT]; /* "BCDF-GHJK" */
};
/* CG_LIMIT when too many wait. */
CG_MUST_USE bool cg_device_begin(const struct cg_peer *peer, struct cg_device *out,
                                 struct cg_err *e);
/* Of a user code, case and dash as people type them: who asks (valid until the loop turns). */
CG_MUST_USE bool cg_device_look(const char *user_code, struct cg_peer *out, struct cg_err *e);
/* The verdict of somebody who is signed in. CG_NOT_FOUND for a code that is unknown or too old. */
CG_MUST_USE bool cg_device_decide(const char *user_code, const char *account, bool approve,
                                  struct cg_err *e);
/* What became of it; when approved, *account is set and the code is used up. */
enum cg_device_state cg_device_poll(const char *device_code, char account[CG_ID_TEXT],
                                    char agent[128]);

#endif
