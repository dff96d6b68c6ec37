/* Golden snapshots: the booted state of a template in a shape, kept so that sandboxes are restored
 * from it instead of booted. It holds nothing of any user: it is saved before `setup`.
 *
 *   <state>/golden/<key>/   vm.state  the devices, as the VMM saved them
 *                           ram       the memory, sparse
 *                           disk.img  the writable disk, 1 GiB, sparse
 *                           meta.json what it was made of
 *
 * The key is a hash over the template's fingerprint (kernel, initramfs with the agent, base), the
 * shape, the acceleration and the VMM's version: when one of them changes, so does the key. The
 * memory of those in use lies in sealed memfds: clones map them copy-on-write and cannot write. */
#ifndef CG_CORE_GOLDEN_H
#define CG_CORE_GOLDEN_H

#include "core/creation.h"
#include "core/snapshots.h"

enum { CG_GOLDEN_DISK_GB = 1 };

/* Reads what is there, removes what an earlier server left half made. */
void cg_golden_start(struct cg_core *c);
void cg_golden_finish(struct cg_core *c);

/* On the pool. The key of a creation's shape into n->golden_key. */
void cg_golden_key(struct cg_creation *n, const struct cg_image *image);
/* On the pool: when there is one for n->golden_key, puts its disk and state into `dir` and its
 * memory into n->fds, and is true. */
bool cg_golden_take(struct cg_creation *n, const char *dir);
/* On the pool: an empty memfd of the shape into n->fds. */
CG_MUST_USE bool cg_golden_prepare(struct cg_creation *n, struct cg_err *e);
/* On the pool: what a golden creation has saved becomes the golden snapshot of its key. */
CG_MUST_USE bool cg_golden_keep(struct cg_creation *n, struct cg_err *e);

/* On the loop. A sandbox of this shape was booted cold: make the next ones quicker. */
void cg_golden_want(struct cg_core *c, const char *key, const struct cg_spec *like);
/* A restore from it failed: it is removed, and made anew at the next wish. */
void cg_golden_broken(struct cg_core *c, const char *key);

/* A snapshot with memory becomes a golden one whose key is its id, for the sandboxes of a fork;
 * false when it cannot. cg_golden_drop ends it. */
CG_MUST_USE bool cg_golden_of_snapshot(struct cg_core *c, const struct cg_snapshot *s,
                                       void (*done)(void *ctx, const struct cg_err *err),
                                       void *ctx);
void cg_golden_drop(struct cg_core *c, const char *key);

#endif
