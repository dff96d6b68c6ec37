/* Which acceleration really works here. A /dev/kvm that opens, and even makes machines, may still
 * not run a stock kernel: so a guest is booted under it and has to do some work within a deadline.
 */
#ifndef CG_VMM_PROBE_H
#define CG_VMM_PROBE_H

#include "base/buf.h"
#include "vmm/vmm.h"

struct cg_vmm_probe {
    enum cg_accel accel;
    bool cached;      /* the verdict is an earlier one for the same machine, kernel, VMM, guest */
    char reason[200]; /* why this acceleration and no other */
    uint64_t tsc_khz; /* measured each time: machines migrate */
    char cpu[80];
    char host_kernel[72];
    char kvm[40]; /* mode and owner of /dev/kvm: a repaired one is tried again */
    char vmm[96];
    char guest[24]; /* of kernel and initramfs */
};

enum { CG_VMM_PROBE_SECONDS = 20 }; /* a guest that has not worked by then does not work */

/* Blocking: 50 ms with a cached verdict, else up to CG_VMM_PROBE_SECONDS. Needs the rights that
 * will start VMMs. `cache` is a file that is read and replaced, or NULL. A KVM that does not work
 * is a result, not an error; errors are a missing VMM, kernel or initramfs. */
CG_MUST_USE bool cg_vmm_probe(const struct cg_vmm_driver *d, const char *kernel,
                              const char *initramfs, const char *cache, struct cg_vmm_probe *out,
                              struct cg_err *e);

/* Boots the guest once under `accel` and tells whether it did its work; *e says why not. */
CG_MUST_USE bool cg_vmm_probe_guest(const struct cg_vmm_driver *d,
                                    const struct cg_vmm_program *program, enum cg_accel accel,
                                    const char *kernel, const char *initramfs, int seconds,
                                    struct cg_err *e);

/* One line of JSON, as in the cache file. */
CG_MUST_USE bool cg_vmm_probe_json(const struct cg_vmm_probe *p, struct cg_buf *out);

#endif
