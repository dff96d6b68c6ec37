/* See jsonw.h. UTF-8 is checked as RFC 3629 says: no overlong forms, no surrogates, <= U+10FFFF. */
#include "base/jsonw.h"

#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void cg_jsonw_init(struct cg_jsonw *w, struct cg_buf *buf)
{
    *w = (struct cg_jsonw){.buf = buf};
}

static void separate(struct cg_jsonw *w)
{
    if (w->comma)
        cg_buf_addc(w->buf, ',');
    w->comma = true;
}

static void open_with(struct cg_jsonw *w, char c)
{
    separate(w);
    cg_buf_addc(w->buf, c);
    w->comma = false;
}

static void close_with(struct cg_jsonw *w, char c)
{
    cg_buf_addc(w->buf, c);
    w->comma = true;
}

void cg_jsonw_obj(struct cg_jsonw *w)
{
    open_with(w, '{');
}

void cg_jsonw_obj_end(struct cg_jsonw *w)
{
    close_with(w, '}');
}

void cg_jsonw_arr(struct cg_jsonw *w)
{
    open_with(w, '[');
}

void cg_jsonw_arr_end(struct cg_jsonw *w)
{
    close_with(w, ']');
}

/* Length of the valid UTF-8 sequence at s, with its code point; 0 when there is none. */
static size_t utf8_at(const unsigned char *s, size_t n, uint32_t *cp)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
    if (len == 0 || len > n || s[0] > 0xf4)
        return 0;
    uint32_t c = len == 1 ? s[0] : (uint32_t)(s[0] & (0x7f >> len));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = (c << 6) | (s[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *cp = c;
    return len;
}

static bool must_escape(uint32_t c)
{
    return c < 0x20 || c == '"' || c == '\\' || (c >= 0x7f && c <= 0x9f) || c == 0x061c ||
           (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void escape(struct cg_buf *b, uint32_t c)
{
    switch (c) {
    case '"':
        cg_buf_adds(b, "\\\"");
        break;
    case '\\':
        cg_buf_adds(b, "\\\\");
        break;
    case '\n':
        cg_buf_adds(b, "\\n");
        break;
    case '\r':
        cg_buf_adds(b, "\\r");
        break;
    case '\t':
        cg_buf_adds(b, "\\t");
        break;
    default:
        cg_buf_addf(b, "\\u%04x", (unsigned)c);
    }
}

static void quoted(struct cg_buf *b, const char *str, size_t n)
{
    const unsigned char *s = (const unsigned char *)str;
    cg_buf_addc(b, '"');
    size_t plain = 0; /* bytes before s that can be copied as they are */
    while (n > 0) {
        uint32_t c = 0;
        size_t len = utf8_at(s, n, &c);
        if (len > 0 && !must_escape(c)) {
            plain += len;
            s += len;
            n -= len;
            continue;
        }
        cg_buf_add(b, s - plain, plain);
        plain = 0;
        if (len == 0) {
            cg_buf_adds(b, "\xef\xbf\xbd");
            len = 1;
        } else {
            escape(b, c);
        }
        s += len;
        n -= len;
    }
    cg_buf_add(b, s - plain, plain);
    cg_buf_addc(b, '"');
}

void cg_jsonw_key(struct cg_jsonw *w, const char *key)
{
    cg_jsonw_keyn(w, key, strlen(key));
}

void cg_jsonw_keyn(struct cg_jsonw *w, const char *key, size_t n)
{
    separate(w);
    quoted(w->buf, key, n);
    cg_buf_addc(w->buf, ':');
    w->comma = false;
}

void cg_jsonw_strn(struct cg_jsonw *w, const char *s, size_t n)
{
    separate(w);
    quoted(w->buf, s, n);
}

void cg_jsonw_str(struct cg_jsonw *w, const char *s)
{
    if (s)
        cg_jsonw_strn(w, s, strlen(s));
    else
        cg_jsonw_null(w);
}

void cg_jsonw_int(struct cg_jsonw *w, int64_t v)
{
    separate(w);
    cg_buf_addf(w->buf, "%" PRId64, v);
}

void cg_jsonw_uint(struct cg_jsonw *w, uint64_t v)
{
    separate(w);
    cg_buf_addf(w->buf, "%" PRIu64, v);
}

void cg_jsonw_num(struct cg_jsonw *w, double v)
{
    if (!isfinite(v)) {
        cg_jsonw_null(w);
        return;
    }
    separate(w);
    char text[32];
    cg_snprintf(text, sizeof text, "%.15g", v);
    cg_buf_adds(w->buf, text);
}

void cg_jsonw_bool(struct cg_jsonw *w, bool v)
{
    separate(w);
    cg_buf_adds(w->buf, v ? "true" : "false");
}

void cg_jsonw_null(struct cg_jsonw *w)
{
    separate(w);
    cg_buf_adds(w->buf, "null");
}

void cg_jsonw_raw(struct cg_jsonw *w, const char *json, size_t n)
{
    separate(w);
    cg_buf_add(w->buf, json, n);
}

void cg_jsonw_kstr(struct cg_jsonw *w, const char *key, const char *s)
{
    cg_jsonw_key(w, key);
    cg_jsonw_str(w, s);
}

void cg_jsonw_kstrn(struct cg_jsonw *w, const char *key, const char *s, size_t n)
{
    cg_jsonw_key(w, key);
    cg_jsonw_strn(w, s, n);
}

void cg_jsonw_kint(struct cg_jsonw *w, const char *key, int64_t v)
{
    cg_jsonw_key(w, key);
    cg_jsonw_int(w, v);
}

void cg_jsonw_kuint(struct cg_jsonw *w, const char *key, uint64_t v)
{
    cg_jsonw_key(w, key);
    cg_jsonw_uint(w, v);
}

void cg_jsonw_knum(struct cg_jsonw *w, const char *key, double v)
{
    cg_jsonw_key(w, key);
    cg_jsonw_num(w, v);
}

void cg_jsonw_kbool(struct cg_jsonw *w, const char *key, bool v)
{
    cg_jsonw_key(w, key);
    cg_jsonw_bool(w, v);
}

static void put_children(struct cg_jsonw *w, const struct cg_json *v, bool keys)
{
    for (const struct cg_json *m = v->child; m; m = m->next) {
        if (keys)
            cg_jsonw_keyn(w, m->key.p, m->key.n);
        cg_jsonw_value(w, m);
    }
}

/* The parser bounds the depth. */
void cg_jsonw_value(struct cg_jsonw *w, const struct cg_json *v)
{
    switch (v->type) {
    case CG_JSON_NULL:
        cg_jsonw_null(w);
        break;
    case CG_JSON_BOOL:
        cg_jsonw_bool(w, v->boolean);
        break;
    case CG_JSON_INT:
        cg_jsonw_int(w, v->integer);
        break;
    case CG_JSON_NUM:
        cg_jsonw_num(w, v->number);
        break;
    case CG_JSON_STR:
        cg_jsonw_strn(w, v->str.p, v->str.n);
        break;
    case CG_JSON_ARR:
        cg_jsonw_arr(w);
        put_children(w, v, false);
        cg_jsonw_arr_end(w);
        break;
    case CG_JSON_OBJ:
        cg_jsonw_obj(w);
        put_children(w, v, true);
        cg_jsonw_obj_end(w);
        break;
    }
}
