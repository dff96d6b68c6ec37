/* Login sessions: tokens that work like API keys of scope full until they expire. Inside of core.
 */
#ifndef CG_CORE_SESSIONS_H
#define CG_CORE_SESSIONS_H

#include "core/accounts.h"

struct cg_session_made {
    const struct cg_store_key *key;
    const char *token;
};

CG_MUST_USE bool cg_sessions_start(struct cg_core *c, struct cg_err *e);
/* done once the session is durable, with everything that was queued to the store before it. */
void cg_session_begin(struct cg_core *c, const char *account, const struct cg_peer *peer,
                      void (*done)(void *ctx, const struct cg_session_made *m,
                                   const struct cg_err *err),
                      void *ctx);
void cg_sessions_end_all(struct cg_core *c, const char *account, const char *but_id);

#endif
