/* What a seal says about lines: a leaf for each, a Merkle root over them (the tree of RFC 6962 with
 * BLAKE2b-256). A leaf is made of the head of a line and of the hash of its data, so that data can
 * be taken out later while its hash, and with it the root, stays. */
#ifndef CG_RECORD_DIGEST_H
#define CG_RECORD_DIGEST_H

#include <sodium.h>

#include "record/line.h"

enum {
    CG_DIGEST = 32,
    CG_DIGEST_TEXT = 80, /* "blake2b-256:" and 64 hexadecimal digits */
};

struct cg_digest {
    unsigned char b[CG_DIGEST];
};

struct cg_tree {
    struct cg_digest part[40]; /* roots of the whole subtrees, smallest first */
    uint64_t count;            /* of leaves; at most 2^40 - 1 */
};

/* Of any bytes. */
struct cg_digest cg_digest_of(struct cg_slice bytes);
void cg_digest_text(const struct cg_digest *d, char out[CG_DIGEST_TEXT]);
CG_MUST_USE bool cg_digest_parse(struct cg_slice text, struct cg_digest *out);
bool cg_digest_eq(const struct cg_digest *a, const struct cg_digest *b);

/* The leaf of a line without its line end; `line` is what it parsed to, NULL when it is none (a
 * header, or what a crash left). */
struct cg_digest cg_digest_leaf(struct cg_slice text, const struct cg_record_line *line);

/* The hash of what was taken out, when `data` is `{"redacted":"blake2b-256:…"…}`. */
CG_MUST_USE bool cg_digest_redacted(struct cg_slice data, struct cg_digest *out);

void cg_tree_add(struct cg_tree *t, const struct cg_digest *leaf);
struct cg_digest cg_tree_root(const struct cg_tree *t); /* of no leaf: the hash of nothing */

#endif
