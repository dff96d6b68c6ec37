/* Calls by number: chained buckets, and two queues in order of arrival. What a budget has open and
 * accrued is kept beside it as calls move, so that no question walks the table. */
#include "gateway/ledger_inner.h"

static uint32_t bucket_of(uint64_t call)
{
    return (uint32_t)(call % LEDGER_BUCKETS);
}

static int32_t index_of(const struct cg_ledger *l, const struct ledger_entry *c)
{
    return (int32_t)(c - l->calls);
}

void ledger_table_init(struct cg_ledger *l)
{
    for (size_t i = 0; i < LEDGER_BUCKETS; i++)
        l->buckets[i] = LEDGER_NOBODY;
    l->spare = LEDGER_NOBODY;
    l->held = l->pending = (struct ledger_queue){LEDGER_NOBODY, LEDGER_NOBODY};
}

struct ledger_entry *ledger_find(const struct cg_ledger *l, uint64_t call)
{
    for (int32_t i = l->buckets[bucket_of(call)]; i >= 0; i = l->calls[i].chain)
        if (l->calls[i].ask.call == call)
            return (struct ledger_entry *)(uintptr_t)&l->calls[i];
    return NULL;
}

struct ledger_entry *ledger_add(struct cg_ledger *l, const struct cg_ledger_ask *ask)
{
    int32_t i = l->spare;
    if (i >= 0)
        l->spare = l->calls[i].next;
    else if (l->used < CG_LEDGER_CALLS_MAX)
        i = l->used++;
    else
        return NULL;
    int32_t *bucket = &l->buckets[bucket_of(ask->call)];
    l->calls[i] = (struct ledger_entry){
        .ask = *ask, .chain = *bucket, .next = LEDGER_NOBODY, .prev = LEDGER_NOBODY};
    *bucket = i;
    return &l->calls[i];
}

static bool queues(enum ledger_phase phase)
{
    return phase == LEDGER_HELD || phase == LEDGER_PENDING;
}

static struct ledger_queue *queue_of(struct cg_ledger *l, enum ledger_phase phase)
{
    return phase == LEDGER_HELD ? &l->held : &l->pending;
}

static void leave(struct cg_ledger *l, struct ledger_queue *q, struct ledger_entry *c)
{
    *(c->prev >= 0 ? &l->calls[c->prev].next : &q->first) = c->next;
    *(c->next >= 0 ? &l->calls[c->next].prev : &q->last) = c->prev;
    c->next = c->prev = LEDGER_NOBODY;
}

static void join(struct cg_ledger *l, struct ledger_queue *q, struct ledger_entry *c)
{
    c->prev = q->last;
    *(q->last >= 0 ? &l->calls[q->last].next : &q->first) = index_of(l, c);
    q->last = index_of(l, c);
}

static void unchain(struct cg_ledger *l, const struct ledger_entry *c)
{
    int32_t *at = &l->buckets[bucket_of(c->ask.call)];
    while (*at != index_of(l, c))
        at = &l->calls[*at].chain;
    *at = c->chain;
}

static void count(struct cg_ledger *l, const struct ledger_entry *c, bool flies)
{
    l->flying += flies ? 1u : -1u;
    for (int i = c->ask.node; i >= 0; i = l->nodes[i].parent)
        l->nodes[i].b.open += flies ? 1u : -1u;
}

void ledger_accrued(struct cg_ledger *l, struct ledger_entry *c, int64_t nusd)
{
    for (int i = c->ask.node; i >= 0; i = l->nodes[i].parent)
        l->nodes[i].b.accrued_nusd += nusd - c->accrued;
    c->accrued = nusd;
}

void ledger_move(struct cg_ledger *l, struct ledger_entry *c, enum ledger_phase to)
{
    bool flew = c->phase >= LEDGER_PENDING;
    if (queues(c->phase))
        leave(l, queue_of(l, c->phase), c);
    if (flew != (to >= LEDGER_PENDING))
        count(l, c, !flew);
    c->phase = to;
    if (queues(to))
        join(l, queue_of(l, to), c);
    if (to != LEDGER_FREE)
        return;
    ledger_accrued(l, c, 0);
    unchain(l, c);
    c->next = l->spare;
    l->spare = index_of(l, c);
}
