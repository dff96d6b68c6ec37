/* Sandboxes made in advance: restored VMM waiting, network, disk, a warden that waits for its
 * configuration. Whoever asks for one of the same template and shape gets it and saves the time
 * that all of that takes. They belong to nobody, stand in no list, hold no user's data, and are
 * ended with the server or when their golden snapshot is. One thread, the loop's. */
#ifndef CG_CORE_SPARES_H
#define CG_CORE_SPARES_H

#include "core/creation.h"

/* One that fits, out of the pool; NULL: none is ready. */
struct cg_creation *cg_spares_take(struct cg_core *c, const struct cg_spec *s);
void cg_spares_start(struct cg_core *c);
void cg_spares_finish(struct cg_core *c);

/* One of this shape was just restored: have as many ready as golden.spares says, soon. */
void cg_spares_want(struct cg_core *c, const struct cg_spec *like);
/* A spare has ended before it was taken. */
void cg_spares_forget(struct cg_core *c, const struct cg_creation *n);
/* Those of a golden snapshot (NULL: all) are ended. */
void cg_spares_drop(struct cg_core *c, const char *key);

#endif
