/* Files below the state directory that nothing owns: of sandboxes, snapshots and golden snapshots
 * that are gone, left behind when something was killed at a bad moment. The server looks at its
 * start; this is for in between. And records of ended sandboxes that the operator keeps no longer
 * (retain.h): these go by themselves too, once an hour. */
#ifndef CG_CORE_GC_H
#define CG_CORE_GC_H

#include "core/core.h"

enum { CG_GC_MAX = 4096 };

struct cg_gc_item {
    char *path;
    const char *what;    /* "sandbox", "socket", "snapshot", "golden", "record" */
    char id[CG_ID_TEXT]; /* of a record; empty otherwise */
    int64_t bytes;       /* on disk */
    bool removed;
};

/* `items` is valid during the call. */
typedef void cg_gc_done(void *ctx, const struct cg_gc_item *items, unsigned n,
                        const struct cg_err *err);

/* Looks for them and, unless `dry`, removes them. What is younger than ten minutes stays: it may be
 * under way. done comes later, on the loop. */
void cg_core_gc(struct cg_core *c, bool dry, cg_gc_done *done, void *ctx);

/* Old records go from now on, if the operator's configuration says so. */
void cg_gc_start(struct cg_core *c);
void cg_gc_stop(struct cg_core *c);

#endif
