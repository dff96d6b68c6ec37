/* Headers of tar archives: POSIX ustar and pax (IEEE Std 1003.1, "pax - Interchange Format"), and
 * GNU's long names when reading. */
#ifndef CG_BASE_TARHEAD_H
#define CG_BASE_TARHEAD_H

#include "base/buf.h"
#include "base/err.h"

enum { CG_TAR_BLOCK = 512, CG_TAR_PATH = 4096, CG_TAR_META_MAX = 64 * 1024 };

struct cg_tar_entry {
    char path[CG_TAR_PATH];
    char link[CG_TAR_PATH];
    char type; /* '0' file, '1' hard link, '2' symlink, '5' folder, 'x' 'g' 'L' 'K' extensions */
    uint32_t mode;
    int64_t size;
    int64_t mtime_s;
};

/* Reads a header block; *zero is set for an all-zero block (the end). CG_PROTOCOL when it is no
 * header. */
CG_MUST_USE bool cg_tar_parse(const unsigned char b[CG_TAR_BLOCK], struct cg_tar_entry *e,
                              bool *zero, struct cg_err *err);

/* Applies the records of a pax extended header (path, linkpath, size, mtime). */
CG_MUST_USE bool cg_tar_apply_pax(struct cg_slice records, struct cg_tar_entry *e, bool *has_path,
                                  bool *has_link, bool *has_size, struct cg_err *err);

/* Appends the header blocks of an entry, with a pax header when a name is long; false when the
 * buffer is full. */
CG_MUST_USE bool cg_tar_write(struct cg_buf *out, const struct cg_tar_entry *e);

#endif
