/* Agent and terminal sessions of all sandboxes, and the index of every record (record/index.h),
 * which is brought up to date while a sandbox lives and once more when it has ended. Both are made
 * from the records alone; `<state>/index/<id>/` may be deleted at any time. Loop's thread; what
 * reads files runs on the pool. */
#ifndef CG_CORE_REPLAY_H
#define CG_CORE_REPLAY_H

#include <uv.h>

#include "base/map.h"
#include "core/wclient.h"
#include "record/tally.h"

struct cg_core;
struct cg_sandbox;

struct cg_agent_session {
    char sandbox[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    struct cg_session_row row;
};

struct cg_replay {
    struct cg_core *core;
    struct cg_map by_id; /* struct cg_agent_session, never freed before the server ends */
    uv_timer_t timer;
    char at[CG_ID_TEXT]; /* the sandbox whose turn it was last */
    bool loaded, busy;
};

void cg_replay_start(struct cg_core *c);
void cg_replay_stop(struct cg_core *c);

/* NULL: there is none of that account. */
struct cg_agent_session *cg_replay_find(struct cg_core *c, const char *account, const char *id);

/* Those of an account (of one sandbox unless `sandbox` is NULL), newest first. The array is the
 * caller's. */
CG_MUST_USE struct cg_agent_session **cg_replay_list(struct cg_core *c, const char *account,
                                                     const char *sandbox, size_t *n);

/* Brings the index of a sandbox up to what is durable now; `done` comes later, from the loop. */
typedef void cg_replay_done(void *ctx, const struct cg_err *err);
void cg_replay_refresh(struct cg_sandbox *sb, cg_replay_done *done, void *ctx);

/* Where the index of a record is; the caller's. */
CG_MUST_USE char *cg_replay_dir(const struct cg_core *c, const char *id);

struct cg_jsonw;
void cg_agent_session_write(const struct cg_core *c, const struct cg_agent_session *s,
                            struct cg_jsonw *w);

#endif
