/* The pieces of the QEMU driver: its command line (args.c), its control (control.c over qmp.c). */
#ifndef CG_VMM_QEMU_QEMU_H
#define CG_VMM_QEMU_QEMU_H

#include "vmm/driver.h"

CG_MUST_USE bool cg_qemu_args(const struct cg_vmm_launch *l, struct cg_vmm_args *a,
                              struct cg_err *e);

/* As their namesakes in vmm/vmm.h. */
CG_MUST_USE struct cg_vmm *cg_qemu_attach(uv_loop_t *loop, int control,
                                          const struct cg_vmm_handlers *h, void *ctx,
                                          struct cg_err *e);
void cg_qemu_hand_over(struct cg_vmm *vm, const struct cg_vmm_handlers *h, void *ctx);
void cg_qemu_destroy(struct cg_vmm *vm);
CG_MUST_USE bool cg_qemu_status(struct cg_vmm *vm, cg_vmm_state_done *done, void *ctx,
                                struct cg_err *e);
CG_MUST_USE bool cg_qemu_pause(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_qemu_resume(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_qemu_stop(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_qemu_block_resize(struct cg_vmm *vm, uint64_t bytes, cg_vmm_done *done,
                                      void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_qemu_move(struct cg_vmm *vm, int fd, bool saving, bool without_ram,
                              cg_vmm_done *done, void *ctx, struct cg_err *e);

#endif
