/* A list of strings that ends in NULL, so that it is an argv as it stands. */
#ifndef CG_IMAGE_STRV_H
#define CG_IMAGE_STRV_H

#include "base/defs.h"

struct cg_strv {
    char **v; /* v[n] is NULL once something was added */
    size_t n;
};

/* Copies are kept; the list owns them. */
void cg_strv_add(struct cg_strv *s, const char *text);
void cg_strv_addn(struct cg_strv *s, const char *text, size_t n);
void cg_strv_addf(struct cg_strv *s, const char *fmt, ...) CG_PRINTF(2, 3);
void cg_strv_add_all(struct cg_strv *s, const struct cg_strv *more);
bool cg_strv_has(const struct cg_strv *s, const char *text);

/* The texts with `sep` between them; the caller's. */
CG_MUST_USE char *cg_strv_join(const struct cg_strv *s, const char *sep);

void cg_strv_finish(struct cg_strv *s);

#endif
