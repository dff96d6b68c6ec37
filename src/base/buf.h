/* A growable byte buffer with a hard maximum, and slices of bytes that somebody else owns.
 * Appending past the maximum fails and sets `full`: nothing grows without a bound. */
#ifndef CG_BASE_BUF_H
#define CG_BASE_BUF_H

#include "base/defs.h"

/* Bytes owned by somebody else; not NUL-terminated. */
struct cg_slice {
    const char *p;
    size_t n;
};

struct cg_buf {
    char *p;    /* NULL while empty; after cg_buf_cstr NUL-terminated at p[n] */
    size_t n;   /* bytes held */
    size_t cap; /* bytes allocated */
    size_t max; /* appending beyond this fails */
    bool full;  /* an append was refused since the last clear */
};

void cg_buf_init(struct cg_buf *b, size_t max);
void cg_buf_finish(struct cg_buf *b); /* frees; the buffer may be used again after init */
void cg_drop_buf(struct cg_buf *b);   /* the same, for CG_OWN */
void cg_buf_clear(struct cg_buf *b);  /* keeps the memory */

/* All return false, without a partial append, when `max` would be passed. */
bool cg_buf_add(struct cg_buf *b, const void *p, size_t n);
bool cg_buf_adds(struct cg_buf *b, const char *s);
bool cg_buf_addc(struct cg_buf *b, char c);
bool cg_buf_addf(struct cg_buf *b, const char *fmt, ...) CG_PRINTF(2, 3);

/* Makes room for n more bytes and returns where they go; NULL past the maximum.
 * The caller writes up to n bytes there and calls cg_buf_grew with how many. */
CG_MUST_USE char *cg_buf_room(struct cg_buf *b, size_t n);
void cg_buf_grew(struct cg_buf *b, size_t n);

void cg_buf_consume(struct cg_buf *b, size_t n); /* drops n bytes in front */
const char *cg_buf_cstr(struct cg_buf *b); /* NUL-terminated view, valid until the next change */
CG_MUST_USE char *cg_buf_take(struct cg_buf *b); /* the NUL-terminated bytes, now the caller's */
struct cg_slice cg_buf_slice(const struct cg_buf *b);

struct cg_slice cg_slice_of(const char *s);
bool cg_slice_eq(struct cg_slice a, const char *s);
CG_MUST_USE char *cg_slice_dup(struct cg_slice s);

#endif
