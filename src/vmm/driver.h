/* What a driver of a VMM supplies; only src/vmm includes this. */
#ifndef CG_VMM_DRIVER_H
#define CG_VMM_DRIVER_H

#include "vmm/vmm.h"

/* A VMM's control connection. Drivers embed it first in their own object. */
struct cg_vmm {
    const struct cg_vmm_driver *driver;
};

/* Builds that must not run. `from` <= version < `below`, as major * 10000 + minor * 100 + micro. */
struct cg_vmm_bad_version {
    unsigned from, below;
    bool packages_too; /* else a distribution's package is trusted to carry the fix */
    const char *why;
};

struct cg_vmm_driver {
    const char *name;
    const char *const *programs; /* absolute paths, the first that exists is taken */
    const char *package;         /* what to install */
    const char *const *modules;
    const char *const *firmware;
    const char *version_mark; /* the text in front of the version number */
    const struct cg_vmm_bad_version *bad;
    size_t nbad;
    uint32_t (*overhead_mib)(uint32_t mem_mib);
    bool (*args)(const struct cg_vmm_launch *l, struct cg_vmm_args *out, struct cg_err *e);

    struct cg_vmm *(*attach)(uv_loop_t *loop, int control, const struct cg_vmm_handlers *h,
                             void *ctx, struct cg_err *e);
    void (*hand_over)(struct cg_vmm *vm, const struct cg_vmm_handlers *h, void *ctx);
    void (*destroy)(struct cg_vmm *vm);
    bool (*status)(struct cg_vmm *vm, cg_vmm_state_done *done, void *ctx, struct cg_err *e);
    bool (*pause)(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
    bool (*resume)(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
    bool (*stop)(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
    bool (*move)(struct cg_vmm *vm, int fd, bool saving, bool without_ram, cg_vmm_done *done,
                 void *ctx, struct cg_err *e);
    bool (*block_resize)(struct cg_vmm *vm, uint64_t bytes, cg_vmm_done *done, void *ctx,
                         struct cg_err *e);
};

/* Adds one argument; panics past CG_VMM_ARGS_MAX. */
void cg_vmm_arg(struct cg_vmm_args *a, const char *fmt, ...) CG_PRINTF(2, 3);

extern const struct cg_vmm_driver cg_vmm_qemu;

#endif
