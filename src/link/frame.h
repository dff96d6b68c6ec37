/* Frame headers of the link protocol (docs/link-protocol.md). Internal to src/link and its tests.
 */
#ifndef CG_LINK_FRAME_H
#define CG_LINK_FRAME_H

#include "base/defs.h"

enum cg_frame_type {
    CG_FRAME_HELLO = 1,
    CG_FRAME_OPEN,
    CG_FRAME_ACCEPT,
    CG_FRAME_DATA,
    CG_FRAME_EOF,
    CG_FRAME_CREDIT,
    CG_FRAME_CONTROL,
    CG_FRAME_CLOSE,
    CG_FRAME_CANCEL,
    CG_FRAME_PING,
    CG_FRAME_PONG,
    CG_FRAME_RESET,
    CG_FRAME_TYPES
};

struct cg_frame {
    uint32_t length;
    uint16_t stream;
    uint8_t type;
    uint8_t flags;
};

static inline uint32_t cg_get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t cg_get_u64(const unsigned char *p)
{
    return (uint64_t)cg_get_u32(p) | (uint64_t)cg_get_u32(p + 4) << 32;
}

static inline void cg_put_u32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static inline void cg_put_u64(unsigned char *p, uint64_t v)
{
    cg_put_u32(p, (uint32_t)v);
    cg_put_u32(p + 4, (uint32_t)(v >> 32));
}

static inline struct cg_frame cg_frame_get(const unsigned char *p)
{
    return (struct cg_frame){cg_get_u32(p), (uint16_t)(p[4] | p[5] << 8), p[6], p[7]};
}

static inline void cg_frame_put(unsigned char *p, struct cg_frame f)
{
    cg_put_u32(p, f.length);
    p[4] = (unsigned char)f.stream;
    p[5] = (unsigned char)(f.stream >> 8);
    p[6] = f.type;
    p[7] = f.flags;
}

#endif
