/* See ring.h. */
#include "ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEAD = 8 };
#define BUSY (1U << 31)
#define DISCARD (1U << 30)

bool cg_ring_map(struct cg_ring *r, int fd, size_t size, struct cg_err *e)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *reader = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (reader == MAP_FAILED)
        return cg_fail_sys(e, "map ring");
    void *rest = mmap(NULL, page + 2 * size, PROT_READ, MAP_SHARED, fd, (off_t)page);
    if (rest == MAP_FAILED) {
        int why = errno;
        munmap(reader, page);
        errno = why;
        return cg_fail_sys(e, "map ring of %zu bytes", size);
    }
    *r = (struct cg_ring){.reader = reader,
                          .writer = rest,
                          .data = (const uint8_t *)rest + page,
                          .size = size,
                          .map = {reader, rest}};
    return true;
}

void cg_ring_unmap(struct cg_ring *r)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (r->map[0])
        munmap(r->map[0], page);
    if (r->map[1])
        munmap(r->map[1], page + 2 * r->size);
    *r = (struct cg_ring){.size = 0};
}

uint64_t cg_ring_end(const struct cg_ring *r)
{
    return r->size ? __atomic_load_n(r->writer, __ATOMIC_ACQUIRE) : 0;
}

static uint32_t head_at(const struct cg_ring *r, uint64_t pos)
{
    const void *p = r->data + (pos & (r->size - 1));

    return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE);
}

static uint64_t after(uint64_t pos, uint32_t head)
{
    uint64_t n = head & ~(BUSY | DISCARD);

    return pos + ((n + HEAD + 7) & ~(uint64_t)7);
}

const void *cg_ring_peek(struct cg_ring *r, uint64_t end, size_t *n)
{
    if (r->size == 0)
        return NULL;
    for (uint64_t pos = *r->reader; pos < end; pos = *r->reader) {
        uint32_t head = head_at(r, pos);
        if (head & BUSY)
            return NULL;
        uint64_t next = after(pos, head);
        if (next > end || end - pos > r->size) {
            __atomic_store_n(r->reader, end, __ATOMIC_RELEASE);
            return NULL;
        }
        if (!(head & DISCARD)) {
            *n = head;
            return r->data + (pos & (r->size - 1)) + HEAD;
        }
        __atomic_store_n(r->reader, next, __ATOMIC_RELEASE);
    }
    return NULL;
}

void cg_ring_next(struct cg_ring *r)
{
    uint64_t pos = *r->reader;

    /* sequentially consistent: the kernel's writer looks at it to decide on a wake-up */
    __atomic_store_n(r->reader, after(pos, head_at(r, pos)), __ATOMIC_SEQ_CST);
}
