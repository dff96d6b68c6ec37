/* Sealing of living records: every so often, one sandbox after the other, the server signs what the
 * wardens say is on disk (record/seal.h). Ended records are sealed by the archive. Loop's thread;
 * the work itself runs on the pool. */
#ifndef CG_CORE_SEALS_H
#define CG_CORE_SEALS_H

#include <uv.h>

#include "core/wclient.h"
#include "record/seal.h"

struct cg_core;
struct cg_sandbox;

struct cg_seals {
    struct cg_core *core;
    struct cg_seal_key key; /* not changed after start */
    uv_timer_t timer;
    struct cg_wcall call;
    uv_work_t work;
    struct cg_sandbox *at; /* whose turn it is; NULL: no round is under way */
    char *record, *memory;
    uint64_t limit;
    bool fine;
    struct cg_err err;
};

/* Reads or makes the installation's key and begins. */
CG_MUST_USE bool cg_seals_start(struct cg_core *c, struct cg_err *e);
void cg_seals_stop(struct cg_core *c);

/* Where the server remembers the last seal of a record; the caller's. */
CG_MUST_USE char *cg_seals_memory(const struct cg_core *c, const char *id);

#endif
