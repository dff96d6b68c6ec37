/* Open addressing with linear probing; a removal closes the hole, so that there are no tombstones
 * to gather. Numbers are mixed by a multiplication: they are dense, and the guest cannot make them
 * collide more than it can make them be. */
#include "warden/pids.h"

#include <stdlib.h>

struct pids_slot {
    uint32_t pid; /* 0: free */
    uint8_t value;
};

enum { FIRST = 256 };

static size_t home(const struct pids *p, uint32_t pid)
{
    return (size_t)(pid * UINT32_C(2654435769) >> 7) & (p->cap - 1);
}

void pids_finish(struct pids *p)
{
    free(p->slots);
    *p = (struct pids){.slots = NULL};
}

/* Where it stands, or would. */
static size_t place(const struct pids *p, uint32_t pid)
{
    size_t at = home(p, pid);
    while (p->slots[at].pid && p->slots[at].pid != pid)
        at = (at + 1) & (p->cap - 1);
    return at;
}

static bool number(int64_t pid, uint32_t *out)
{
    *out = (uint32_t)pid;
    return pid > 0 && pid <= INT32_MAX;
}

bool pids_get(const struct pids *p, int64_t pid, uint8_t *value)
{
    uint32_t n;
    if (!number(pid, &n) || p->count == 0)
        return false;
    size_t at = place(p, n);
    *value = p->slots[at].value;
    return p->slots[at].pid == n;
}

static void grow(struct pids *p)
{
    struct pids old = *p;
    p->cap = old.cap ? 2 * old.cap : FIRST;
    p->slots = cg_alloc_array(p->cap, sizeof *p->slots);
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].pid)
            p->slots[place(p, old.slots[i].pid)] = old.slots[i];
    free(old.slots);
}

void pids_put(struct pids *p, int64_t pid, uint8_t value)
{
    uint32_t n;
    if (!number(pid, &n))
        return;
    if (2 * (p->count + 1) > p->cap && p->cap < 2 * PIDS_MAX)
        grow(p);
    size_t at = place(p, n);
    if (!p->slots[at].pid && p->count == PIDS_MAX)
        return;
    p->count += !p->slots[at].pid;
    p->slots[at] = (struct pids_slot){n, value};
}

static void remove_at(struct pids *p, size_t hole)
{
    size_t mask = p->cap - 1;
    for (size_t at = (hole + 1) & mask; p->slots[at].pid; at = (at + 1) & mask) {
        size_t wants = home(p, p->slots[at].pid);
        if (((at - wants) & mask) < ((at - hole) & mask))
            continue; /* it stands between the hole and its home */
        p->slots[hole] = p->slots[at];
        hole = at;
    }
    p->slots[hole].pid = 0;
    p->count--;
}

void pids_remove(struct pids *p, int64_t pid)
{
    uint32_t n;
    if (!number(pid, &n) || p->count == 0)
        return;
    size_t at = place(p, n);
    if (p->slots[at].pid == n)
        remove_at(p, at);
}

void pids_forget(struct pids *p, uint8_t value)
{
    for (size_t at = 0; at < p->cap;) {
        if (p->slots[at].pid && p->slots[at].value == value)
            remove_at(p, at); /* another may have moved here: look again */
        else
            at++;
    }
}
