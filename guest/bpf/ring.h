/* Reader of a BPF ring buffer: the kernel's ring is mapped and read in place. Facts from
 * Documentation/bpf/ringbuf.rst: one page with the reader's position, one with the writers', then
 * the data, mapped twice in a row so that no record is broken. */
#ifndef CG_BPF_RING_H
#define CG_BPF_RING_H

#include "base/err.h"

struct cg_ring {
    uint64_t at;            /* our position; the shared one below is only ever written: root in the
                             * guest can map the ring too, and move it */
    uint64_t *reader;       /* position of the reader as the kernel sees it */
    const uint64_t *writer; /* position of the writers */
    const uint8_t *data;    /* 2 * size bytes */
    size_t size;            /* a power of two */
    void *map[2];           /* NULL when the memory is somebody else's (tests) */
};

/* Maps the ring of `fd`; the descriptor stays the caller's. */
CG_MUST_USE bool cg_ring_map(struct cg_ring *r, int fd, size_t size, struct cg_err *e);
void cg_ring_unmap(struct cg_ring *r);

uint64_t cg_ring_end(const struct cg_ring *r); /* the writers' position now */

/* The next record that lies before `end` and is complete; discarded ones are skipped. NULL when
 * there is none. Stays valid until cg_ring_next. A ring whose heads make no sense is skipped up to
 * its end: the counters then do not add up and tell it. */
const void *cg_ring_peek(struct cg_ring *r, uint64_t end, size_t *n);
void cg_ring_next(struct cg_ring *r);

#endif
