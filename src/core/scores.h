/* Trust scores as the server knows them: what wardens tell, kept with the sandbox; the rules that
 * sandboxes get; what a low score does. */
#ifndef CG_CORE_SCORES_H
#define CG_CORE_SCORES_H

#include "core/core.h"
#include "trust/trust.h"

struct cg_score_session {
    char id[48];
    uint32_t score;
    int64_t changed_wall;
};

/* Of one sandbox; sb->score, NULL until something is known. */
struct cg_score {
    uint32_t score, deductions;
    int64_t changed_wall;
    bool paused; /* for its score, once */
    struct cg_score_session session[CG_TRUST_SESSIONS];
    unsigned nsessions;
};

/* Reads the default rules and the operator's, refusing wrong ones with file and line. */
CG_MUST_USE bool cg_scores_start(struct cg_core *c, struct cg_err *e);
void cg_scores_finish(struct cg_core *c);
const struct cg_pack *cg_scores_pack(const struct cg_core *c);
/* The default rules with others laid over them (empty: as they are); the caller's to destroy. */
CG_MUST_USE struct cg_pack *cg_scores_lay(struct cg_slice over, struct cg_err *e);

/* For a sandbox that is made: the rules into its folder, `trust` into its config.json. */
CG_MUST_USE bool cg_scores_place(const struct cg_sandbox *sb, const char *dir, struct cg_err *e);
void cg_scores_write_config(const struct cg_sandbox *sb, struct cg_jsonw *w);

/* Listens to a warden, once it is connected. */
void cg_scores_watch(struct cg_sandbox *sb);

/* 0 to 100; -1 while nothing is known. The session may be NULL: the sandbox's. */
int cg_score_of(const struct cg_sandbox *sb, const char *session);
/* "trust_score" and "trust_band", when known; and what the store keeps. */
void cg_scores_write_members(const struct cg_sandbox *sb, struct cg_jsonw *w);
void cg_scores_save(const struct cg_sandbox *sb, struct cg_jsonw *w);
void cg_scores_load(struct cg_sandbox *sb, const struct cg_json *inner);

/* The deductions of a record, as an array of {seq, at, …}; blocks, any thread. */
CG_MUST_USE bool cg_scores_read(const char *record_dir, struct cg_jsonw *w, struct cg_err *e);

#endif
