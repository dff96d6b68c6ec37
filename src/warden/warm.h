/* A guest made ready for its first command. What a restored guest does for the first time is
 * slow: pages are read in, and without KVM every piece of code is translated. So a guest is put
 * through a `setup` and a command of nobody's before somebody waits for it: when a golden snapshot
 * is made (pages then are in its memory), and in every spare (translations then are in its VMM). */
#ifndef CG_WARDEN_WARM_H
#define CG_WARDEN_WARM_H

#include <uv.h>

#include "base/buf.h"
#include "vmm/vmm.h"

/* The requests of it; disk_bytes 0: as it is, ca_pem NULL: none. What `setup` sets here, the next
 * one sets again. */
void warm_setup(struct cg_buf *out, int64_t disk_bytes, const char *ca_pem);
extern const char warm_golden[];

/* For a spare, before its warden has a configuration: restores the guest out of vm.state in `dir`,
 * lets it go through that, with the certificate authority that it will most likely have, and stops
 * it. Runs the loop; the link stays open. Takes `control` over. The VMM, paused, is the caller's;
 * NULL with *e set: the spare is of no use. */
CG_MUST_USE struct cg_vmm *warm_restore(uv_loop_t *loop, int dir, int control, int link,
                                        const char *ca_pem, struct cg_err *e);

#endif
