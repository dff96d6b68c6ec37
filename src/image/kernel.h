/* The guest's kernel and initramfs. */
#ifndef CG_IMAGE_KERNEL_H
#define CG_IMAGE_KERNEL_H

#include "image/store.h"

struct cg_boot {
    char *kernel_id; /* version and package version: names the kernel's folder */
    char *kernel_path;
    char *kernel_version; /* "6.1.0-56-cloud-amd64" */
    char *modules_dir;    /* lib/modules/VERSION as unpacked */
    char *initramfs_path;
    char *initramfs_id; /* hash of everything that went into it */
};

void cg_boot_finish(struct cg_boot *b);
void cg_drop_boot(struct cg_boot *b);

/* What boot.json points to. Errors: CG_NOT_FOUND when no kernel was built, CG_IO. */
CG_MUST_USE bool cg_boot_load(const struct cg_image_config *c, struct cg_boot *out,
                              struct cg_err *e);

/* Gets the kernel unless it is there; with force looks for a newer one. */
CG_MUST_USE bool cg_kernel_build(struct cg_task *t, bool force, struct cg_err *e);

/* Makes the initramfs of the current agent, kernel and module list unless it is there. */
CG_MUST_USE bool cg_initramfs_build(struct cg_task *t, struct cg_err *e);

/* The version that cg_initramfs_build would make now. */
CG_MUST_USE bool cg_initramfs_id(const struct cg_image_config *c, const char *kernel_version,
                                 char out[65], struct cg_err *e);

/* Replaces boot.json. initramfs_id NULL: none fits yet. */
CG_MUST_USE bool cg_boot_save(const struct cg_image_config *c, const char *kernel_id,
                              const char *kernel_version, const char *initramfs_id,
                              struct cg_err *e);

#endif
