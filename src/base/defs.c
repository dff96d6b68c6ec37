/* Allocation, assertion and droppers. Out-of-memory ends the process: see defs.h. */
#include "base/defs.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cg_drop_fd(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

void cg_drop_free(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}

void cg_drop_file(void *pp)
{
    FILE **f = pp;
    if (!*f)
        return;
    int saved = errno;
    fclose(*f);
    errno = saved;
    *f = NULL;
}

void cg_drop_dir(void *pp)
{
    DIR **d = pp;
    if (!*d)
        return;
    int saved = errno;
    closedir(*d);
    errno = saved;
    *d = NULL;
}

void cg_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, what);
    abort();
}

static void *checked(void *p)
{
    if (!p)
        cg_panic(__FILE__, __LINE__, "memory is exhausted");
    return p;
}

void *cg_alloc(size_t size)
{
    return checked(calloc(1, size ? size : 1));
}

void *cg_alloc_array(size_t count, size_t size)
{
    return checked(calloc(count ? count : 1, size ? size : 1));
}

void *cg_realloc(void *p, size_t size)
{
    return checked(realloc(p, size ? size : 1));
}

char *cg_strndup(const char *s, size_t n)
{
    char *copy = cg_alloc(n + 1);
    memcpy(copy, s, n);
    return copy;
}

char *cg_strdup(const char *s)
{
    return cg_strndup(s, strlen(s));
}

char *cg_format(const char *fmt, ...)
{
    char *out = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&out, fmt, ap);
    va_end(ap);
    CG_ASSERT(n >= 0);
    return out;
}

void cg_snprintf(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, size, fmt, ap);
    va_end(ap);
    CG_ASSERT(n >= 0 && (size_t)n < size);
}

bool cg_strlcpy(char *out, size_t size, const char *s)
{
    size_t n = strnlen(s, size);
    size_t keep = n < size ? n : size - 1;
    memcpy(out, s, keep);
    out[keep] = '\0';
    return n < size;
}

bool cg_streq(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0;
}

bool cg_has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool cg_has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s);
    size_t m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}
