/* Kernel modules: reading .ko, .ko.xz, .ko.zst and .ko.gz, and what .modinfo says of them. */
#ifndef CG_IMAGE_MODINFO_H
#define CG_IMAGE_MODINFO_H

#include "base/buf.h"
#include "base/err.h"
#include "image/strv.h"

/* The module as the kernel wants it, decompressed where need be. Errors: CG_NOT_FOUND, CG_IO,
 * CG_TOO_LARGE. */
CG_MUST_USE bool cg_module_read(const char *path, struct cg_buf *out, struct cg_err *e);

/* The names in `depends=` of the ELF section .modinfo; empty when it has none.
 * Errors: CG_INVALID when this is no 64-bit little-endian ELF file. */
CG_MUST_USE bool cg_module_depends(struct cg_slice elf, struct cg_strv *out, struct cg_err *e);

/* "virtio-rng.ko.xz" to "virtio_rng", as `depends=` and /proc/modules write it; NULL when that is
 * no module's file name. The caller's. */
CG_MUST_USE char *cg_module_name(const char *file);

/* Finds the wanted modules below kernel_dir (lib/modules/VERSION) and everything they depend on.
 * `paths` gets full paths in loading order, each once; modules built into the kernel are left out.
 * Errors: CG_NOT_FOUND names a module that is neither a file nor built in. */
CG_MUST_USE bool cg_module_resolve(const char *kernel_dir, const struct cg_strv *wanted,
                                   struct cg_strv *paths, struct cg_err *e);

#endif
