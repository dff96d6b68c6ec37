/* Lists of strings. Memory is the list's; nothing here can fail but for want of memory, which ends
 * the process (base/defs.h). */
#include "image/strv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append(struct cg_strv *s, char *text)
{
    s->v = cg_realloc(s->v, (s->n + 2) * sizeof(*s->v));
    s->v[s->n++] = text;
    s->v[s->n] = NULL;
}

void cg_strv_add(struct cg_strv *s, const char *text)
{
    append(s, cg_strdup(text));
}

void cg_strv_addn(struct cg_strv *s, const char *text, size_t n)
{
    append(s, cg_strndup(text, n));
}

void cg_strv_addf(struct cg_strv *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    CG_ASSERT(n >= 0);
    append(s, text);
}

void cg_strv_add_all(struct cg_strv *s, const struct cg_strv *more)
{
    for (size_t i = 0; i < more->n; i++)
        cg_strv_add(s, more->v[i]);
}

bool cg_strv_has(const struct cg_strv *s, const char *text)
{
    for (size_t i = 0; i < s->n; i++)
        if (cg_streq(s->v[i], text))
            return true;
    return false;
}

char *cg_strv_join(const struct cg_strv *s, const char *sep)
{
    size_t len = 1;
    for (size_t i = 0; i < s->n; i++)
        len += strlen(s->v[i]) + strlen(sep);
    char *out = cg_alloc(len);
    char *at = out;
    for (size_t i = 0; i < s->n; i++)
        at += snprintf(at, len - (size_t)(at - out), "%s%s", i ? sep : "", s->v[i]);
    return out;
}

void cg_strv_finish(struct cg_strv *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct cg_strv){.v = NULL};
}
