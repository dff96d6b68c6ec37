/* Retention: records of sandboxes that have ended go when the operator's configuration says so -
 * older than so many days, or the oldest while all together are over so many bytes. A record goes
 * whole or not at all, after the audit log says so. Without a word of the operator none goes. */
#ifndef CG_CORE_RETAIN_H
#define CG_CORE_RETAIN_H

#include "core/core.h"

struct cg_retain_item {
    char id[CG_ID_TEXT];
    int64_t bytes;      /* on disk */
    int64_t ended_wall; /* ns */
};

struct cg_retain {
    const char *state_dir;
    uint32_t keep_days; /* 0: for ever */
    uint32_t keep_mb;   /* 0: whatever their size */
    int64_t now_wall;
};

/* The records that are to go, oldest first; at most `max`. Blocks. Also ends what an earlier
 * removal left half done. */
unsigned cg_retain_pick(const struct cg_retain *r, struct cg_retain_item *out, unsigned max);
/* Blocks. A crash in between leaves it to the next cg_retain_pick. */
CG_MUST_USE bool cg_retain_remove(const char *state_dir, const char *id, struct cg_err *e);

/* The sandbox had a record, sealed here, and it is not kept any more: says so in *e. */
bool cg_retain_gone(const struct cg_sandbox *sb, struct cg_err *e);

#endif
