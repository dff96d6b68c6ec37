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
    *r = (struct cg_ring){.at = *(const uint64_t *)reader,
                          .reader = reader,
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

/* Sequentially consistent: the kernel's writer looks at it to decide on a wake-up. */
static void move(struct cg_ring *r, uint64_t to)
{
    r->at = to;
    __atomic_store_n(r->reader, to, __ATOMIC_SEQ_CST);
}

const void *cg_ring_peek(struct cg_ring *r, uint64_t end, size_t *n)
{
    while (r->at < end && r->size > 0) {
        if (end - r->at > r->size) {
            move(r, end); /* overrun */
            break;
        }
        uint32_t head = head_at(r, r->at);
        if (head & BUSY)
            break;
        uint64_t next = after(r->at, head);
        if (next > end) {
            move(r, end);
            break;
        }
        if (!(head & DISCARD)) {
            *n = head;
            return r->data + (r->at & (r->size - 1)) + HEAD;
        }
        move(r, next);
    }
    return NULL;
}

void cg_ring_next(struct cg_ring *r)
{
    move(r, after(r->at, head_at(r, r->at)));
}
