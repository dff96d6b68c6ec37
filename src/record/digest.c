#include "record/digest.h"

#include <string.h>

static const char prefix[] = "blake2b-256:";

enum { LEAF = 0, NODE = 1, RAW = 2, HEX = 2 * CG_DIGEST };

struct cg_digest cg_digest_of(struct cg_slice bytes)
{
    struct cg_digest d;
    crypto_generichash(d.b, sizeof d.b, (const unsigned char *)bytes.p, bytes.n, NULL, 0);
    return d;
}

void cg_digest_text(const struct cg_digest *d, char out[CG_DIGEST_TEXT])
{
    char hex[HEX + 1];
    sodium_bin2hex(hex, sizeof hex, d->b, sizeof d->b);
    cg_snprintf(out, CG_DIGEST_TEXT, "%s%s", prefix, hex);
}

bool cg_digest_parse(struct cg_slice text, struct cg_digest *out)
{
    size_t n = 0;
    return text.n == sizeof prefix - 1 + HEX && memcmp(text.p, prefix, sizeof prefix - 1) == 0 &&
           sodium_hex2bin(out->b, sizeof out->b, text.p + sizeof prefix - 1, HEX, NULL, &n, NULL) ==
               0 &&
           n == sizeof out->b;
}

bool cg_digest_eq(const struct cg_digest *a, const struct cg_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool cg_digest_redacted(struct cg_slice data, struct cg_digest *out)
{
    static const char key[] = "{\"redacted\":\"";
    size_t text = sizeof prefix - 1 + HEX;
    if (data.n < sizeof key - 1 + text + 2 || memcmp(data.p, key, sizeof key - 1) != 0)
        return false;
    const char *p = data.p + sizeof key - 1;
    return p[text] == '"' && cg_digest_parse((struct cg_slice){p, text}, out);
}

static struct cg_digest tagged(unsigned char tag, struct cg_slice a, struct cg_slice b)
{
    struct cg_digest d;
    crypto_generichash_state s;
    crypto_generichash_init(&s, NULL, 0, sizeof d.b);
    crypto_generichash_update(&s, &tag, 1);
    crypto_generichash_update(&s, (const unsigned char *)a.p, a.n);
    crypto_generichash_update(&s, (const unsigned char *)b.p, b.n);
    crypto_generichash_final(&s, d.b, sizeof d.b);
    return d;
}

static struct cg_slice slice(const struct cg_digest *d)
{
    return (struct cg_slice){(const char *)d->b, sizeof d->b};
}

struct cg_digest cg_digest_leaf(struct cg_slice text, const struct cg_record_line *line)
{
    if (!line)
        return tagged(RAW, text, (struct cg_slice){"", 0});
    struct cg_digest data;
    if (!cg_digest_redacted(line->data, &data))
        data = cg_digest_of(line->data);
    return tagged(LEAF, slice(&data), (struct cg_slice){text.p, (size_t)(line->data.p - text.p)});
}

void cg_tree_add(struct cg_tree *t, const struct cg_digest *leaf)
{
    struct cg_digest d = *leaf;
    unsigned i = 0;
    for (; t->count >> i & 1; i++)
        d = tagged(NODE, slice(&t->part[i]), slice(&d));
    CG_ASSERT(i < CG_COUNT(t->part));
    t->part[i] = d;
    t->count++;
}

struct cg_digest cg_tree_root(const struct cg_tree *t)
{
    struct cg_digest d = cg_digest_of((struct cg_slice){"", 0});
    bool any = false;
    for (unsigned i = 0; i < CG_COUNT(t->part) && t->count >> i; i++) {
        if (!(t->count >> i & 1))
            continue;
        d = any ? tagged(NODE, slice(&t->part[i]), slice(&d)) : t->part[i];
        any = true;
    }
    return d;
}
