/* Open addressing with linear probing and back-shift deletion; at most 3/4 full. */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct cg_map_slot {
    char *key;
    void *value;
    uint64_t hash;
};

static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012). */
static uint64_t hash_of(const char *s)
{
    static uint64_t seed[2];
    if (!seed[0])
        cg_rand_bytes(seed, sizeof seed);
    size_t n = strlen(s);
    uint64_t v[4] = {0x736f6d6570736575 ^ seed[0], 0x646f72616e646f6d ^ seed[1],
                     0x6c7967656e657261 ^ seed[0], 0x7465646279746573 ^ seed[1]};
    size_t left = n;
    for (; left >= 8; left -= 8, s += 8) {
        uint64_t w;
        memcpy(&w, s, 8);
        v[3] ^= w;
        sip_round(v);
        v[0] ^= w;
    }
    uint64_t last = (uint64_t)n << 56;
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)(unsigned char)s[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void cg_map_init(struct cg_map *m)
{
    *m = (struct cg_map){0};
}

void cg_map_finish(struct cg_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        free(m->slots[i].key);
    free(m->slots);
    *m = (struct cg_map){0};
}

/* The slot that holds the key, or the empty one where it would go. */
static size_t find(const struct cg_map *m, const char *key, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);
    while (m->slots[i].key && (m->slots[i].hash != hash || strcmp(m->slots[i].key, key) != 0))
        i = (i + 1) & (m->cap - 1);
    return i;
}

void *cg_map_get(const struct cg_map *m, const char *key)
{
    if (!m->cap)
        return NULL;
    const struct cg_map_slot *s = &m->slots[find(m, key, hash_of(key))];
    return s->key ? s->value : NULL;
}

static void grow(struct cg_map *m)
{
    struct cg_map old = *m;
    m->cap = old.cap ? old.cap * 2 : 16;
    m->slots = cg_alloc_array(m->cap, sizeof *m->slots);
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].key)
            m->slots[find(m, old.slots[i].key, old.slots[i].hash)] = old.slots[i];
    }
    free(old.slots);
}

void *cg_map_put(struct cg_map *m, const char *key, void *value)
{
    if ((m->count + 1) * 4 > m->cap * 3)
        grow(m);
    uint64_t hash = hash_of(key);
    struct cg_map_slot *s = &m->slots[find(m, key, hash)];
    void *old = s->key ? s->value : NULL;
    if (!s->key) {
        *s = (struct cg_map_slot){.key = cg_strdup(key), .hash = hash};
        m->count++;
    }
    s->value = value;
    return old;
}

void *cg_map_remove(struct cg_map *m, const char *key)
{
    if (!m->cap)
        return NULL;
    size_t i = find(m, key, hash_of(key));
    if (!m->slots[i].key)
        return NULL;
    void *value = m->slots[i].value;
    free(m->slots[i].key);
    m->count--;
    size_t mask = m->cap - 1;
    for (size_t j = (i + 1) & mask; m->slots[j].key; j = (j + 1) & mask) {
        size_t home = m->slots[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slots[i] = m->slots[j];
            i = j;
        }
    }
    m->slots[i] = (struct cg_map_slot){0};
    return value;
}

bool cg_map_next(const struct cg_map *m, size_t *at, const char **key, void **value)
{
    while (*at < m->cap) {
        const struct cg_map_slot *s = &m->slots[(*at)++];
        if (!s->key)
            continue;
        *key = s->key;
        *value = s->value;
        return true;
    }
    return false;
}
