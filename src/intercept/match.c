/* The tree has a node a byte of the patterns, children in a list: patterns are few, long and
 * different, so a list has one member nearly everywhere but at the root, which has a table. */
#include "intercept/match.h"

#include <stdlib.h>
#include <string.h>

enum { ROOT = 0, NONE = UINT8_MAX };

struct node {
    uint32_t child, sibling; /* 0: none */
    uint32_t fail;
    uint32_t depth;
    uint32_t found; /* length of the longest pattern that ends here; 0: none */
    uint8_t tag;
    uint8_t byte;
};

struct cg_match {
    struct node *nodes;
    uint32_t n, cap;
    uint32_t first[256]; /* children of the root */
    bool ready;
};

struct cg_match *cg_match_create(void)
{
    struct cg_match *m = cg_alloc(sizeof *m);
    m->cap = 64;
    m->n = 1;
    m->nodes = cg_alloc_array(m->cap, sizeof *m->nodes);
    m->nodes[ROOT].tag = NONE;
    return m;
}

void cg_match_destroy(struct cg_match *m)
{
    if (!m)
        return;
    explicit_bzero(m->nodes, m->cap * sizeof *m->nodes);
    free(m->nodes);
    explicit_bzero(m, sizeof *m);
    free(m);
}

bool cg_match_empty(const struct cg_match *m)
{
    return !m || m->n == 1;
}

static uint32_t child_of(const struct cg_match *m, uint32_t at, uint8_t byte)
{
    if (at == ROOT)
        return m->first[byte];
    uint32_t c = m->nodes[at].child;
    while (c && m->nodes[c].byte != byte)
        c = m->nodes[c].sibling;
    return c;
}

/* By hand: realloc would leave the old bytes behind. */
static void grow(struct cg_match *m)
{
    struct node *more = cg_alloc_array((size_t)m->cap * 2, sizeof *more);
    memcpy(more, m->nodes, m->n * sizeof *more);
    explicit_bzero(m->nodes, m->cap * sizeof *m->nodes);
    free(m->nodes);
    m->nodes = more;
    m->cap *= 2;
}

static uint32_t add_child(struct cg_match *m, uint32_t at, uint8_t byte)
{
    if (m->n == m->cap)
        grow(m);
    uint32_t c = m->n++;
    m->nodes[c] = (struct node){.byte = byte, .depth = m->nodes[at].depth + 1, .tag = NONE};
    if (at == ROOT) {
        m->first[byte] = c;
    } else {
        m->nodes[c].sibling = m->nodes[at].child;
        m->nodes[at].child = c;
    }
    return c;
}

bool cg_match_add(struct cg_match *m, const void *p, size_t n, unsigned tag)
{
    const uint8_t *s = p;
    CG_ASSERT(!m->ready && tag < CG_MATCH_TAGS);
    if (n == 0)
        return true;
    if (n > CG_MATCH_BYTES - m->n)
        return false;
    uint32_t at = ROOT;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = child_of(m, at, s[i]);
        at = c ? c : add_child(m, at, s[i]);
    }
    if (m->nodes[at].found == 0) {
        m->nodes[at].found = (uint32_t)n;
        m->nodes[at].tag = (uint8_t)tag;
    }
    return true;
}

static uint32_t step(const struct cg_match *m, uint32_t at, uint8_t byte)
{
    for (;;) {
        uint32_t c = child_of(m, at, byte);
        if (c || at == ROOT)
            return c;
        at = m->nodes[at].fail;
    }
}

static void link_child(struct cg_match *m, uint32_t parent, uint32_t c)
{
    struct node *node = &m->nodes[c];
    node->fail = parent == ROOT ? ROOT : step(m, m->nodes[parent].fail, node->byte);
    const struct node *shorter = &m->nodes[node->fail];
    if (node->found == 0) {
        node->found = shorter->found;
        node->tag = shorter->tag;
    }
}

void cg_match_ready(struct cg_match *m)
{
    uint32_t *queue = cg_alloc_array(m->n, sizeof *queue);
    uint32_t head = 0;
    uint32_t tail = 0;
    for (unsigned b = 0; b < 256; b++) {
        if (m->first[b]) {
            link_child(m, ROOT, m->first[b]);
            queue[tail++] = m->first[b];
        }
    }
    while (head < tail) {
        uint32_t at = queue[head++];
        for (uint32_t c = m->nodes[at].child; c; c = m->nodes[c].sibling) {
            link_child(m, at, c);
            queue[tail++] = c;
        }
    }
    free(queue);
    m->ready = true;
}

int cg_match_find(const struct cg_match *m, struct cg_slice in, size_t *at, size_t *n)
{
    if (cg_match_empty(m))
        return -1;
    uint32_t node = ROOT;
    for (size_t i = 0; i < in.n; i++) {
        node = step(m, node, (uint8_t)in.p[i]);
        const struct node *found = &m->nodes[node];
        if (found->found == 0)
            continue;
        if (at)
            *at = i + 1 - found->found;
        if (n)
            *n = found->found;
        return found->tag;
    }
    return -1;
}

int cg_match_step(const struct cg_match *m, uint32_t *node, unsigned char byte)
{
    if (cg_match_empty(m))
        return -1;
    *node = step(m, *node, byte);
    return m->nodes[*node].found ? m->nodes[*node].tag : -1;
}

/* --- streams --- */

void cg_redact_init(struct cg_redact *r, const struct cg_match *m, const char *const *names)
{
    *r = (struct cg_redact){
        .m = cg_match_empty(m) ? NULL : m, .names = names, .last = -1, .run = -1};
}

void cg_redact_finish(struct cg_redact *r)
{
    if (r->held) {
        explicit_bzero(r->held, 2 * r->cap);
        free(r->held);
    }
    *r = (struct cg_redact){.m = r->m, .names = r->names, .last = -1, .run = -1};
}

size_t cg_redact_held(const struct cg_redact *r)
{
    return r->n;
}

static void make_room(struct cg_redact *r)
{
    if (r->at + r->n < r->cap)
        return;
    if (r->at >= r->cap / 2 && r->cap > 0) {
        memmove(r->held, r->held + r->at, r->n);
        memmove(r->held + r->cap, r->held + r->cap + r->at, r->n);
        r->at = 0;
        return;
    }
    size_t cap = CG_MAX(r->cap * 2, (size_t)128);
    unsigned char *more = cg_alloc(2 * cap);
    if (r->held) {
        memcpy(more, r->held + r->at, r->n);
        memcpy(more + cap, r->held + r->cap + r->at, r->n);
        explicit_bzero(r->held, 2 * r->cap);
        free(r->held);
    }
    r->held = more;
    r->cap = cap;
    r->at = 0;
}

static bool put_replacement(struct cg_redact *r, int tag, struct cg_buf *out)
{
    if (!r->names)
        return cg_buf_addc(out, '*');
    bool again = r->run == tag;
    r->run = tag;
    return again || cg_buf_addf(out, "[REDACTED:%s]", r->names[tag]);
}

/* Writes the oldest bytes until `keep` are held. */
static bool let_go(struct cg_redact *r, size_t keep, struct cg_buf *out)
{
    bool fine = true;
    while (r->n > keep) {
        size_t i = r->at;
        size_t run = 0;
        const unsigned char *whose = r->held + r->cap + i;
        if (whose[0] == NONE) {
            while (run < r->n - keep && whose[run] == NONE)
                run++;
            fine &= cg_buf_add(out, r->held + i, run);
            r->run = -1;
        } else {
            run = 1;
            fine &= put_replacement(r, whose[0], out);
        }
        r->at += run;
        r->n -= run;
    }
    if (r->n == 0)
        r->at = 0;
    return fine;
}

static void hold(struct cg_redact *r, unsigned char byte)
{
    make_room(r);
    r->held[r->at + r->n] = byte;
    r->held[r->cap + r->at + r->n] = NONE;
    r->n++;
}

bool cg_redact_feed(struct cg_redact *r, struct cg_slice in, struct cg_buf *out)
{
    if (!r->m)
        return cg_buf_add(out, in.p, in.n);
    bool fine = true;
    for (size_t i = 0; i < in.n && fine; i++) {
        if (r->node == ROOT && r->n == 0) { /* what begins nothing goes in one piece */
            size_t run = i;
            while (run < in.n && !r->m->first[(uint8_t)in.p[run]])
                run++;
            if (run > i) {
                fine = cg_buf_add(out, in.p + i, run - i);
                r->run = -1;
                i = run - 1;
                continue;
            }
        }
        r->node = step(r->m, r->node, (uint8_t)in.p[i]);
        const struct node *node = &r->m->nodes[r->node];
        hold(r, (unsigned char)in.p[i]);
        if (node->found) {
            memset(r->held + r->cap + r->at + r->n - node->found, node->tag, node->found);
            r->hits++;
            r->last = node->tag;
        }
        fine = let_go(r, node->depth, out);
    }
    return fine;
}

bool cg_redact_end(struct cg_redact *r, struct cg_buf *out)
{
    bool fine = let_go(r, 0, out);
    r->node = ROOT;
    r->run = -1;
    return fine;
}
