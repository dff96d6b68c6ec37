/* JSON writer into a cg_buf: always valid UTF-8, always escaped, no white space, so that one line
 * is one value. Bytes that are not UTF-8 become U+FFFD; control characters, U+2028/2029 and bidi
 * controls are written as \u escapes, so that a guest's string can neither break a line nor act on
 * a terminal that shows the raw record. Overflow of the buffer shows in `buf->full`. */
#ifndef CG_BASE_JSONW_H
#define CG_BASE_JSONW_H

#include "base/buf.h"

struct cg_jsonw {
    struct cg_buf *buf;
    bool comma; /* a separator is due before the next value or key */
};

void cg_jsonw_init(struct cg_jsonw *w, struct cg_buf *buf);

void cg_jsonw_obj(struct cg_jsonw *w);     /* { */
void cg_jsonw_obj_end(struct cg_jsonw *w); /* } */
void cg_jsonw_arr(struct cg_jsonw *w);
void cg_jsonw_arr_end(struct cg_jsonw *w);
void cg_jsonw_key(struct cg_jsonw *w, const char *key);
void cg_jsonw_keyn(struct cg_jsonw *w, const char *key, size_t n);

void cg_jsonw_str(struct cg_jsonw *w, const char *s); /* NULL is written as null */
void cg_jsonw_strn(struct cg_jsonw *w, const char *s, size_t n);
void cg_jsonw_int(struct cg_jsonw *w, int64_t v);
void cg_jsonw_uint(struct cg_jsonw *w, uint64_t v);
void cg_jsonw_num(struct cg_jsonw *w, double v); /* NaN and infinities: null */
void cg_jsonw_bool(struct cg_jsonw *w, bool v);
void cg_jsonw_null(struct cg_jsonw *w);
void cg_jsonw_raw(struct cg_jsonw *w, const char *json, size_t n); /* the caller vouches for it */

struct cg_json;
void cg_jsonw_value(struct cg_jsonw *w, const struct cg_json *v); /* a parsed value, whole */

/* Key and value in one. */
void cg_jsonw_kstr(struct cg_jsonw *w, const char *key, const char *s);
void cg_jsonw_kstrn(struct cg_jsonw *w, const char *key, const char *s, size_t n);
void cg_jsonw_kint(struct cg_jsonw *w, const char *key, int64_t v);
void cg_jsonw_kuint(struct cg_jsonw *w, const char *key, uint64_t v);
void cg_jsonw_knum(struct cg_jsonw *w, const char *key, double v);
void cg_jsonw_kbool(struct cg_jsonw *w, const char *key, bool v);

#endif
