/* Growth doubles from 256 bytes and stops at the maximum plus one byte for the terminator. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cg_buf_init(struct cg_buf *b, size_t max)
{
    *b = (struct cg_buf){.max = max};
}

void cg_buf_finish(struct cg_buf *b)
{
    free(b->p);
    *b = (struct cg_buf){.max = b->max};
}

void cg_drop_buf(struct cg_buf *b)
{
    cg_buf_finish(b);
}

void cg_buf_clear(struct cg_buf *b)
{
    b->n = 0;
    b->full = false;
}

char *cg_buf_room(struct cg_buf *b, size_t n)
{
    if (n > b->max || b->n > b->max - n) {
        b->full = true;
        return NULL;
    }
    size_t need = b->n + n + 1;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < need)
            cap *= 2;
        if (cap > b->max + 1)
            cap = b->max + 1;
        b->p = cg_realloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->n;
}

void cg_buf_grew(struct cg_buf *b, size_t n)
{
    CG_ASSERT(b->n + n < b->cap);
    b->n += n;
}

bool cg_buf_add(struct cg_buf *b, const void *p, size_t n)
{
    char *to = cg_buf_room(b, n);
    if (!to)
        return false;
    if (n)
        memcpy(to, p, n);
    b->n += n;
    return true;
}

bool cg_buf_adds(struct cg_buf *b, const char *s)
{
    return cg_buf_add(b, s, strlen(s));
}

bool cg_buf_addc(struct cg_buf *b, char c)
{
    return cg_buf_add(b, &c, 1);
}

bool cg_buf_addf(struct cg_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_list again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *to = n < 0 ? NULL : cg_buf_room(b, (size_t)n);
    if (to) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    return to != NULL;
}

void cg_buf_consume(struct cg_buf *b, size_t n)
{
    CG_ASSERT(n <= b->n);
    b->n -= n;
    if (b->n && n)
        memmove(b->p, b->p + n, b->n);
}

const char *cg_buf_cstr(struct cg_buf *b)
{
    if (!b->p)
        return "";
    b->p[b->n] = '\0';
    return b->p;
}

char *cg_buf_take(struct cg_buf *b)
{
    if (!b->p)
        return cg_strdup("");
    b->p[b->n] = '\0';
    char *p = CG_MOVE(b->p);
    cg_buf_finish(b);
    return p;
}

struct cg_slice cg_buf_slice(const struct cg_buf *b)
{
    return (struct cg_slice){b->p, b->n};
}

struct cg_slice cg_slice_of(const char *s)
{
    return (struct cg_slice){s, strlen(s)};
}

bool cg_slice_eq(struct cg_slice a, const char *s)
{
    return strlen(s) == a.n && (a.n == 0 || memcmp(a.p, s, a.n) == 0);
}

char *cg_slice_dup(struct cg_slice s)
{
    return cg_strndup(s.p, s.n);
}
