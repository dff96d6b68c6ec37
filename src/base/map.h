/* Hash map from a NUL-terminated key (copied) to a pointer that the caller owns. Keys from outside
 * are hashed with a per-process random seed (SipHash-1-3), so that nobody can choose collisions. */
#ifndef CG_BASE_MAP_H
#define CG_BASE_MAP_H

#include "base/defs.h"

struct cg_map {
    struct cg_map_slot *slots;
    size_t count;
    size_t cap;
};

void cg_map_init(struct cg_map *m);
void cg_map_finish(struct cg_map *m); /* frees keys, never values */

void *cg_map_get(const struct cg_map *m, const char *key);        /* NULL when absent */
void *cg_map_put(struct cg_map *m, const char *key, void *value); /* the value it replaced */
void *cg_map_remove(struct cg_map *m, const char *key);           /* the value it had */

/* Walks in no order; start with *at = 0; false at the end. Do not change the map in between:
 * collect keys first, then remove. */
bool cg_map_next(const struct cg_map *m, size_t *at, const char **key, void **value);

#endif
