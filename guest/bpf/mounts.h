/* Where the file systems are mounted: turns a device and a path inside of its file system into a
 * path of the guest. Facts from proc(5), mountinfo. Bounded: what is beyond CG_MOUNTS_MAX is not
 * known. */
#ifndef CG_BPF_MOUNTS_H
#define CG_BPF_MOUNTS_H

#include <stdint.h>

#include "base/defs.h"

enum { CG_MOUNTS_MAX = 2048, CG_MOUNTS_TEXT = 512 * 1024, CG_MOUNTS_PATH = 1024 };

struct cg_mounts {
    char *text; /* holds the strings of the entries */
    struct cg_mounts_entry *entry;
    size_t count;
    int fd; /* of mountinfo, -1 when not opened */
};

void cg_mounts_init(struct cg_mounts *m);
void cg_mounts_finish(struct cg_mounts *m);

/* Replaces the table by that of a mountinfo text, which it takes over (malloc'd, NUL-terminated).
 * Lines that make no sense are skipped. */
void cg_mounts_parse(struct cg_mounts *m, char *text);

/* Reads /proc/self/mountinfo when it has changed since the last call, or was never read. */
void cg_mounts_refresh(struct cg_mounts *m);

/* The mount that shows most of the file system `dev` (major << 20 | minor) and shows `path` of it.
 * *point is its mount point ("" for the root), *skip the length of the part of `path` that it
 * replaces. False when there is none. */
bool cg_mounts_find(const struct cg_mounts *m, uint32_t dev, const char *path, const char **point,
                    size_t *skip);

/* The device that is mounted last at exactly `point`; false when none is. */
bool cg_mounts_dev(const struct cg_mounts *m, const char *point, uint32_t *dev);

#endif
