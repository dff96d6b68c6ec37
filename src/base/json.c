/* Recursive descent over the text with explicit limits. All values and decoded strings of a
 * document sit in blocks that are chained behind the root and freed together. */
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/scan.h"

const struct cg_json_limits cg_json_default_limits = {1 << 20, 32, 65536};

/* Values are handed out of blocks, the first few with the document: an event of a stream has ten.
 * Decoded strings never outgrow the text, so one copy of the text's size holds them all. */
enum { FIRST_VALUES = 16, BLOCK_VALUES = 64 };

struct block {
    struct block *next;
    struct cg_json values[BLOCK_VALUES];
};

struct doc {
    struct cg_json root; /* first, so that the root is the document */
    struct block *blocks;
    char *strings;
    struct cg_json first[FIRST_VALUES];
};

struct parser {
    struct doc *doc;
    const char *start;
    const char *at;
    const char *end;
    char *out; /* next free byte of doc->strings */
    unsigned used;
    unsigned depth;
    unsigned values;
    const struct cg_json_limits *limits;
    struct cg_err *e;
};

static bool bad(struct parser *p, const char *what)
{
    return cg_fail(p->e, CG_INVALID, "JSON: %s at byte %zu", what, (size_t)(p->at - p->start));
}

static struct cg_json *new_value(struct parser *p)
{
    if (!p->doc->blocks && p->used < FIRST_VALUES) {
        struct cg_json *v = &p->doc->first[p->used++];
        *v = (struct cg_json){0};
        return v;
    }
    if (p->used == BLOCK_VALUES || !p->doc->blocks) {
        struct block *b = cg_alloc(sizeof *b);
        b->next = p->doc->blocks;
        p->doc->blocks = b;
        p->used = 0;
    }
    return &p->doc->blocks->values[p->used++];
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
        p->at++;
}

static bool take(struct parser *p, char c)
{
    skip_space(p);
    if (p->at >= p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static bool parse_hex4(struct parser *p, uint32_t *out)
{
    if (p->end - p->at < 4)
        return bad(p, "short \\u escape");
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = *p->at++;
        uint32_t d = 0;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            d = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            d = (uint32_t)(c - 'A' + 10);
        else
            return bad(p, "bad \\u escape");
        v = v << 4 | d;
    }
    *out = v;
    return true;
}

static void put_utf8(struct parser *p, uint32_t c)
{
    if (c < 0x80) {
        *p->out++ = (char)c;
    } else if (c < 0x800) {
        *p->out++ = (char)(0xc0 | c >> 6);
        *p->out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *p->out++ = (char)(0xe0 | c >> 12);
        *p->out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *p->out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *p->out++ = (char)(0xf0 | c >> 18);
        *p->out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *p->out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *p->out++ = (char)(0x80 | (c & 0x3f));
    }
}

static bool parse_unicode(struct parser *p)
{
    uint32_t c = 0;
    if (!parse_hex4(p, &c))
        return false;
    if (c >= 0xdc00 && c <= 0xdfff)
        return bad(p, "lone low surrogate");
    if (c >= 0xd800 && c <= 0xdbff) {
        uint32_t low = 0;
        if (p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u')
            return bad(p, "lone high surrogate");
        p->at += 2;
        if (!parse_hex4(p, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return bad(p, "bad surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(p, c);
    return true;
}

static bool parse_escape(struct parser *p)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (p->at >= p->end)
        return bad(p, "unfinished string");
    char c = *p->at++;
    if (c == 'u')
        return parse_unicode(p);
    const char *hit = c ? strchr(from, c) : NULL;
    if (!hit)
        return bad(p, "bad escape");
    *p->out++ = to[hit - from];
    return true;
}

/* At the opening quote's far side. UTF-8 validity of plain bytes is the reader's concern: the
 * writer repairs it, and comparisons are by bytes. */
static bool parse_string(struct parser *p, struct cg_slice *out)
{
    char *first = p->out;
    for (;;) {
        const char *stop = cg_scan_plain(p->at, p->end);
        memcpy(p->out, p->at, (size_t)(stop - p->at));
        p->out += stop - p->at;
        p->at = stop;
        if (stop >= p->end)
            break;
        if (*stop == '"') {
            p->at++;
            *out = (struct cg_slice){first, (size_t)(p->out - first)};
            *p->out++ = '\0';
            return true;
        }
        if (*stop != '\\')
            return bad(p, "control character in a string");
        p->at++;
        if (!parse_escape(p))
            return false;
    }
    return bad(p, "unfinished string");
}

static bool digits(struct parser *p)
{
    const char *first = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > first;
}

static bool parse_number(struct parser *p, struct cg_json *v)
{
    const char *first = p->at;
    bool whole = true;
    if (*p->at == '-')
        p->at++;
    const char *lead = p->at;
    if (!digits(p) || (*lead == '0' && p->at - lead > 1))
        return bad(p, "bad number");
    if (p->at < p->end && *p->at == '.') {
        whole = false;
        p->at++;
        if (!digits(p))
            return bad(p, "bad number");
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        whole = false;
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
            p->at++;
        if (!digits(p))
            return bad(p, "bad number");
    }
    char text[64];
    size_t n = (size_t)(p->at - first);
    if (n >= sizeof text)
        return bad(p, "number too long");
    memcpy(text, first, n);
    text[n] = '\0';
    errno = 0;
    v->integer = whole ? strtoll(text, NULL, 10) : 0;
    v->type = whole && errno == 0 ? CG_JSON_INT : CG_JSON_NUM;
    v->number = strtod(text, NULL);
    return isfinite(v->number) ? true : bad(p, "number out of range");
}

static bool parse_word(struct parser *p, struct cg_json *v)
{
    static const struct {
        const char *word;
        enum cg_json_type type;
        bool value;
    } words[] = {{"true", CG_JSON_BOOL, true},
                 {"false", CG_JSON_BOOL, false},
                 {"null", CG_JSON_NULL, false}};
    for (size_t i = 0; i < CG_COUNT(words); i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(p->end - p->at) >= n && memcmp(p->at, words[i].word, n) == 0) {
            p->at += n;
            v->type = words[i].type;
            v->boolean = words[i].value;
            return true;
        }
    }
    return bad(p, "unexpected character");
}

static bool parse_value(struct parser *p, struct cg_json *v);

static bool same_key(const struct cg_json *obj, struct cg_slice key)
{
    for (const struct cg_json *m = obj->child; m; m = m->next) {
        if (m->key.n == key.n && (key.n == 0 || memcmp(m->key.p, key.p, key.n) == 0))
            return true;
    }
    return false;
}

/* Members or items until the closing bracket; the opening one is taken. */
static bool parse_children(struct parser *p, struct cg_json *parent, char close)
{
    struct cg_json **link = &parent->child;
    if (take(p, close))
        return true;
    do {
        struct cg_slice key = {0};
        if (close == '}') {
            if (!take(p, '"'))
                return bad(p, "expected a key");
            if (!parse_string(p, &key))
                return false;
            if (same_key(parent, key))
                return bad(p, "duplicate key");
            if (!take(p, ':'))
                return bad(p, "expected ':'");
        }
        struct cg_json *v = new_value(p);
        if (!parse_value(p, v))
            return false;
        v->key = key;
        *link = v;
        link = &v->next;
        parent->count++;
    } while (take(p, ','));
    return take(p, close) ? true : bad(p, "expected ',' or a closing bracket");
}

static bool parse_nested(struct parser *p, struct cg_json *v, char close)
{
    if (++p->depth > p->limits->max_depth)
        return bad(p, "nested too deep");
    v->type = close == '}' ? CG_JSON_OBJ : CG_JSON_ARR;
    bool ok = parse_children(p, v, close);
    p->depth--;
    return ok;
}

static bool parse_value(struct parser *p, struct cg_json *v)
{
    if (++p->values > p->limits->max_values)
        return bad(p, "too many values");
    skip_space(p);
    if (p->at >= p->end)
        return bad(p, "unexpected end");
    char c = *p->at;
    if (c == '{' || c == '[') {
        p->at++;
        return parse_nested(p, v, c == '{' ? '}' : ']');
    }
    if (c == '"') {
        p->at++;
        v->type = CG_JSON_STR;
        return parse_string(p, &v->str);
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return parse_number(p, v);
    return parse_word(p, v);
}

struct cg_json *cg_json_parse(struct cg_slice text, const struct cg_json_limits *limits,
                              struct cg_err *e)
{
    if (!limits)
        limits = &cg_json_default_limits;
    if (text.n > limits->max_bytes) {
        cg_fail(e, CG_TOO_LARGE, "JSON: %zu bytes, at most %zu are allowed", text.n,
                limits->max_bytes);
        return NULL;
    }
    struct doc *doc = cg_realloc(NULL, sizeof *doc);
    doc->root = (struct cg_json){0};
    doc->blocks = NULL;
    doc->strings = cg_realloc(NULL, text.n + 1);
    struct parser p = {.doc = doc,
                       .start = text.p,
                       .at = text.p,
                       .end = text.p + text.n,
                       .out = doc->strings,
                       .limits = limits,
                       .e = e};
    bool ok = parse_value(&p, &doc->root);
    skip_space(&p);
    if (ok && p.at != p.end)
        ok = bad(&p, "trailing characters");
    if (!ok) {
        cg_json_destroy(&doc->root);
        return NULL;
    }
    return &doc->root;
}

void cg_json_destroy(struct cg_json *root)
{
    if (!root)
        return;
    struct doc *doc = CG_CONTAINER(root, struct doc, root);
    struct block *b = doc->blocks;
    while (b) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
    free(doc->strings);
    free(doc);
}

void cg_drop_json(struct cg_json **root)
{
    cg_json_destroy(CG_MOVE(*root));
}

const struct cg_json *cg_json_get(const struct cg_json *obj, const char *key)
{
    if (!obj || obj->type != CG_JSON_OBJ)
        return NULL;
    for (const struct cg_json *m = obj->child; m; m = m->next) {
        if (cg_slice_eq(m->key, key))
            return m;
    }
    return NULL;
}

const char *cg_json_str(const struct cg_json *obj, const char *key)
{
    const struct cg_json *v = cg_json_get(obj, key);
    if (!v || v->type != CG_JSON_STR || strlen(v->str.p) != v->str.n)
        return NULL;
    return v->str.p;
}

int64_t cg_json_int(const struct cg_json *obj, const char *key, int64_t fallback)
{
    const struct cg_json *v = cg_json_get(obj, key);
    return v && v->type == CG_JSON_INT ? v->integer : fallback;
}

double cg_json_num(const struct cg_json *obj, const char *key, double fallback)
{
    const struct cg_json *v = cg_json_get(obj, key);
    return v && (v->type == CG_JSON_INT || v->type == CG_JSON_NUM) ? v->number : fallback;
}

bool cg_json_bool(const struct cg_json *obj, const char *key, bool fallback)
{
    const struct cg_json *v = cg_json_get(obj, key);
    return v && v->type == CG_JSON_BOOL ? v->boolean : fallback;
}
