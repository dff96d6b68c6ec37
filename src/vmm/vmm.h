/* One interface over every VMM. The keeper uses the upper half: find the program, ask for its
 * argument vector. The warden uses the lower half on its loop: attach to the control socket and
 * pause, resume, resize, stop. Nothing above this header names a VMM. */
#ifndef CG_VMM_VMM_H
#define CG_VMM_VMM_H

#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

enum cg_accel { CG_ACCEL_TCG, CG_ACCEL_KVM };

const char *cg_accel_name(enum cg_accel accel); /* "tcg", "kvm" */
CG_MUST_USE bool cg_accel_parse(const char *name, enum cg_accel *out);

struct cg_vmm_driver;

/* NULL names the default. NULL when there is no driver of that name. */
const struct cg_vmm_driver *cg_vmm_driver(const char *name);
const char *cg_vmm_driver_name(const struct cg_vmm_driver *d);

/* ---- the keeper's side: plain blocking functions ---- */

struct cg_vmm_program {
    char path[128];
    char version[96]; /* as the program tells it */
};

/* Finds the driver's program on this machine and asks its version; blocking, some 20 ms.
 * Errors: CG_NOT_FOUND with the package to install; CG_UNSUPPORTED when the version is too old or
 * known to be vulnerable. */
CG_MUST_USE bool cg_vmm_find(const struct cg_vmm_driver *d, struct cg_vmm_program *out,
                             struct cg_err *e);

/* The verdict on a version text alone, as in "QEMU emulator version 7.2.22 (Debian ...)". */
CG_MUST_USE bool cg_vmm_version_ok(const struct cg_vmm_driver *d, const char *text,
                                   struct cg_err *e);

/* What the program reads besides itself and its libraries: NULL-terminated glob(7) patterns of
 * loadable modules (whose libraries are needed too) and of firmware. */
const char *const *cg_vmm_modules(const struct cg_vmm_driver *d);
const char *const *cg_vmm_firmware(const struct cg_vmm_driver *d);

/* Everything that a launch needs. Descriptors are numbers in the VMM's process; -1: without. */
struct cg_vmm_launch {
    enum cg_accel accel;
    uint32_t vcpus;          /* 1..8 */
    uint32_t mem_mib;        /* 128..8192 */
    uint64_t tsc_khz;        /* the host's TSC; 0: leave it to the guest */
    const char *kernel_args; /* more of them, or NULL */
    int kernel;              /* opened read-only; reopened through /proc/self/fd */
    int initramfs;           /* the same */
    int base;                /* O_RDONLY raw image: the guest's first disk, "caged-base" */
    int disk_rw, disk_ro;    /* one raw image O_RDWR and O_RDONLY: the second, "caged-disk" */
    int tap;                 /* attached tun device, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR */
    int link;                /* connected stream socket: the guest link */
    int control;             /* connected stream socket: cg_vmm_attach is at its other end */
    int console;             /* connected stream socket: the guest's serial console */
    int ram;                 /* memfd or file of mem_mib; -1: memory of its own */
    bool ram_shared;         /* the guest writes into `ram`, as a snapshot is made of it; else
                                copy-on-write: many guests share what none has changed */
    bool incoming;           /* stay empty until cg_vmm_restore */
};

enum { CG_VMM_ARGS_MAX = 80 };

struct cg_vmm_args {
    char *argv[CG_VMM_ARGS_MAX + 1]; /* NULL-terminated, owned */
    unsigned n;
};

/* argv[0] is the program's path. Errors: CG_INVALID for a shape out of range. */
CG_MUST_USE bool cg_vmm_args_build(const struct cg_vmm_driver *d, const char *program,
                                   const struct cg_vmm_launch *l, struct cg_vmm_args *out,
                                   struct cg_err *e);
void cg_vmm_args_finish(struct cg_vmm_args *a);
void cg_drop_vmm_args(struct cg_vmm_args *a);

/* Host memory that the VMM may need beside the guest's own, for limits. */
uint32_t cg_vmm_overhead_mib(const struct cg_vmm_driver *d, uint32_t mem_mib);

/* The rate of this machine's time stamp counter, measured against CLOCK_MONOTONIC_RAW for about
 * 50 ms; 0 where there is none. */
uint64_t cg_vmm_tsc_khz(void);

/* Whether that rate is the same in all the CPU's states (CPUID 8000_0007h, EDX bit 8). */
bool cg_vmm_tsc_is_steady(void);

/* ---- the warden's side: on its loop, one thread, no call blocks ---- */

struct cg_vmm;

enum cg_vmm_state {
    CG_VMM_STARTING, /* not running yet */
    CG_VMM_RUNNING,
    CG_VMM_PAUSED,
    CG_VMM_DOWN,   /* the guest has shut down */
    CG_VMM_BROKEN, /* guest panic, or an I/O or internal error stopped it */
};

enum cg_vmm_event {
    CG_VMM_EVENT_PAUSED,
    CG_VMM_EVENT_RESUMED,
    CG_VMM_EVENT_GUEST_OFF,   /* the guest powered itself off */
    CG_VMM_EVENT_GUEST_RESET, /* it asked for a reset, which ends the VMM */
    CG_VMM_EVENT_GUEST_PANIC,
    CG_VMM_EVENT_DISK_ERROR,
};

struct cg_vmm_handlers {
    void (*on_event)(void *ctx, enum cg_vmm_event event); /* may be NULL */
    /* Once: the control connection has ended or the VMM broke its protocol. Pending results came
     * with CG_CLOSED before it. Only cg_vmm_destroy may follow (from here, too). */
    void (*on_gone)(void *ctx, const struct cg_err *why);
};

/* err is NULL for success. */
typedef void cg_vmm_done(void *ctx, const struct cg_err *err);
typedef void cg_vmm_state_done(void *ctx, enum cg_vmm_state state, const struct cg_err *err);

/* Takes the control descriptor over, also on failure. Calls may follow at once; they wait until
 * the VMM has greeted. Handlers are copied. */
CG_MUST_USE struct cg_vmm *cg_vmm_attach(uv_loop_t *loop, const struct cg_vmm_driver *d,
                                         int control, const struct cg_vmm_handlers *h, void *ctx,
                                         struct cg_err *e);

/* Somebody else's from here on. Nothing may be pending. */
void cg_vmm_hand_over(struct cg_vmm *vm, const struct cg_vmm_handlers *h, void *ctx);

/* Ends the connection, not the VMM. Results still pending come with CG_CLOSED before it returns;
 * on_gone does not. NULL is fine; safe from inside any callback. */
void cg_vmm_destroy(struct cg_vmm *vm);

/* Requests. When one returns true, done is called exactly once, later: with the result, CG_TIMEOUT
 * after 10 s, or CG_CLOSED. When it returns false (connection gone, too many pending), never. */
CG_MUST_USE bool cg_vmm_status(struct cg_vmm *vm, cg_vmm_state_done *done, void *ctx,
                               struct cg_err *e);
CG_MUST_USE bool cg_vmm_pause(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_vmm_resume(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
/* Ends the VMM at once, as pulling the plug does. */
CG_MUST_USE bool cg_vmm_stop(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
/* The state of a paused guest into a regular file, from its beginning; the descriptor is taken
 * over, also on failure. without_ram: for a guest with ram_shared, whose memory is in its file
 * already. The guest stays paused. One save or restore at a time (CG_CONFLICT); it has no time
 * limit of its own: who waits for long enough destroys. */
CG_MUST_USE bool cg_vmm_save(struct cg_vmm *vm, int fd, bool without_ram, cg_vmm_done *done,
                             void *ctx, struct cg_err *e);
/* The same file into a VMM that was launched with `incoming` and the same shape, paused: resume
 * lets the guest go on. After a failure the VMM is of no use any more. */
CG_MUST_USE bool cg_vmm_restore(struct cg_vmm *vm, int fd, bool without_ram, cg_vmm_done *done,
                                void *ctx, struct cg_err *e);
/* Tells the guest the new size of its writable disk; the image must have it already. */
CG_MUST_USE bool cg_vmm_block_resize(struct cg_vmm *vm, uint64_t bytes, cg_vmm_done *done,
                                     void *ctx, struct cg_err *e);

#endif
