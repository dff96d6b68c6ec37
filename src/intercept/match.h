/* Finding many byte patterns at once in a stream that comes in any pieces (Aho and Corasick, 1975),
 * and replacing what is found. Built once, then read-only and shared by any number of streams.
 * Patterns may be secrets: the memory is wiped when it is given back. */
#ifndef CG_INTERCEPT_MATCH_H
#define CG_INTERCEPT_MATCH_H

#include "base/buf.h"

enum {
    CG_MATCH_TAGS = 250,          /* a pattern's tag is below it */
    CG_MATCH_BYTES = 1024 * 1024, /* of all patterns together */
};

struct cg_match;

CG_MUST_USE struct cg_match *cg_match_create(void);
void cg_match_destroy(struct cg_match *m); /* NULL is fine */

/* Copied. An empty pattern is none; of two equal ones the first keeps its tag. False: it does not
 * fit any more. Not after cg_match_ready. */
CG_MUST_USE bool cg_match_add(struct cg_match *m, const void *p, size_t n, unsigned tag);
void cg_match_ready(struct cg_match *m);
bool cg_match_empty(const struct cg_match *m);

/* The first pattern that ends in the bytes: its tag, -1: none. *at is its first byte, *n its
 * length; both may be NULL. */
int cg_match_find(const struct cg_match *m, struct cg_slice in, size_t *at, size_t *n);

/* One byte of a stream whose place in the patterns is *node, 0 at its start: the tag of a pattern
 * that ends with it, or -1. */
int cg_match_step(const struct cg_match *m, uint32_t *node, unsigned char byte);

/* A stream. Bytes that may be the beginning of a pattern are held back until they are not. */
struct cg_redact {
    const struct cg_match *m; /* borrowed */
    const char *const *names; /* by tag: "[REDACTED:<name>]" is put in its place; NULL: as many
                                 "*" as it had bytes, so that nothing changes its length */
    uint64_t hits;            /* patterns found */
    int last;                 /* tag of the last one, -1: none */
    uint32_t node;
    unsigned char *held; /* [at, at + n): bytes and, behind them at `cap`, whose they are */
    size_t at, n, cap;
    int run; /* tag whose replacement was the last thing written; -1: none */
};

/* `m` NULL or empty: everything passes. */
void cg_redact_init(struct cg_redact *r, const struct cg_match *m, const char *const *names);
void cg_redact_finish(struct cg_redact *r);

/* Appends to out. False: out is full, the stream is not usable any more. */
CG_MUST_USE bool cg_redact_feed(struct cg_redact *r, struct cg_slice in, struct cg_buf *out);
/* What is held back, since nothing follows; the stream begins anew. */
CG_MUST_USE bool cg_redact_end(struct cg_redact *r, struct cg_buf *out);
size_t cg_redact_held(const struct cg_redact *r);

#endif
