/* Loading and attaching the eBPF objects. An object loads as a whole or not at all, so there are
 * four: one that this kernel does not take costs its own hooks only. */
#ifndef CG_BPF_LOAD_H
#define CG_BPF_LOAD_H

#include <sys/types.h>

#include "base/err.h"
#include "record.h"
#include "ring.h"

enum { CG_PARTS = 4, CG_PART_HOOKS = 9 };

struct cg_part_hook {
    enum cg_obs_hook hook;
    int prog_fd;
    int link_fd;     /* -1 when not attached */
    uint64_t missed; /* runs that the kernel left out, as told so far */
};

struct cg_part {
    const char *name;
    void *skeleton; /* NULL when not loaded */
    struct cg_part_hook hook[CG_PART_HOOKS];
    unsigned hooks;
    int ring_fd, counters_fd, scratch_fd;
    struct cg_ring ring;
    uint64_t taken[CG_OBS_KINDS]; /* records taken out of the ring */
};

struct cg_part_config {
    pid_t skip_pid;
    struct cg_obs_scope scope[CG_OBS_SCOPE_MAX];
};

/* Loads part number `which` (0 exec, 1 file, 2 more, 3 security) and attaches all its hooks, or
 * leaves nothing behind. */
CG_MUST_USE bool cg_part_load(struct cg_part *p, unsigned which,
                              const struct cg_part_config *config, struct cg_err *e);
void cg_part_unload(struct cg_part *p); /* an unloaded part is fine */

/* Sums the counters of all CPUs. */
CG_MUST_USE bool cg_part_counters(const struct cg_part *p, struct cg_obs_counters *sum);

/* True while the link of the hook is there and holds its program. */
bool cg_part_attached(const struct cg_part_hook *h);

/* Runs of the program that the kernel left out since the last call. */
uint64_t cg_part_missed(struct cg_part_hook *h);

#endif
