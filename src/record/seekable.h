/* Words of the zstd seekable format (contrib/seekable_format of zstd): a skippable frame at the
 * end with the packed and plain length of every frame, without checksums (the frames have theirs).
 */
#ifndef CG_RECORD_SEEKABLE_H
#define CG_RECORD_SEEKABLE_H

#include "base/defs.h"

enum {
    CG_SEEK_HEAD = 8,  /* magic, length */
    CG_SEEK_ENTRY = 8, /* packed, plain */
    CG_SEEK_FOOT = 9,  /* frames, descriptor, magic */
    CG_SEEK_FRAMES_MAX = 1 << 20,
};

#define CG_SEEK_SKIPPABLE UINT32_C(0x184D2A5E)
#define CG_SEEK_MAGIC UINT32_C(0x8F92EAB1)

static inline uint32_t cg_seek_get(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void cg_seek_put(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

#endif
