/* Fuzz body of the JSON reader and writer: what is read can be written, and reads the same again.
 */
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/jsonw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put(struct cg_jsonw *w, const struct cg_json *v)
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
        for (const struct cg_json *item = v->child; item; item = item->next)
            put(w, item);
        cg_jsonw_arr_end(w);
        break;
    case CG_JSON_OBJ:
        cg_jsonw_obj(w);
        for (const struct cg_json *member = v->child; member; member = member->next) {
            char key[256];
            if (member->key.n >= sizeof key || memchr(member->key.p, 0, member->key.n))
                continue; /* our own keys are short C strings */
            memcpy(key, member->key.p, member->key.n);
            key[member->key.n] = '\0';
            cg_jsonw_key(w, key);
            put(w, member);
        }
        cg_jsonw_obj_end(w);
        break;
    }
}

static bool same(struct cg_slice a, struct cg_slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static void compare(const struct cg_json *a, const struct cg_json *b)
{
    const struct cg_json *y = b->child;

    CG_ASSERT(a->type == b->type || (a->type == CG_JSON_NUM && b->type == CG_JSON_INT));
    CG_ASSERT(a->type != CG_JSON_STR || same(a->str, b->str));
    CG_ASSERT(a->type != CG_JSON_INT || a->integer == b->integer);
    for (const struct cg_json *x = a->child; x; x = x->next) {
        if (a->type == CG_JSON_OBJ && (x->key.n >= 256 || memchr(x->key.p, 0, x->key.n)))
            continue;
        CG_ASSERT(y && (a->type != CG_JSON_OBJ || same(x->key, y->key)));
        compare(x, y);
        y = y->next;
    }
    CG_ASSERT(!y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_buf buf;
    struct cg_jsonw w;
    struct cg_json *first = cg_json_parse((struct cg_slice){(const char *)data, n}, NULL, &e),
                   *second;

    if (!first) {
        CG_ASSERT(e.text[0]);
        return 0;
    }
    cg_buf_init(&buf, 64u << 20);
    cg_jsonw_init(&w, &buf);
    put(&w, first);
    const struct cg_json_limits wide = {
        .max_bytes = 64u << 20, .max_depth = 64, .max_values = 1u << 20};
    second = cg_json_parse(cg_buf_slice(&buf), &wide, &e);
    if (!memmem(buf.p, buf.n, "\xef\xbf\xbd", 3)) {
        CG_ASSERT(second);
        compare(first, second);
    }
    cg_json_destroy(first);
    cg_json_destroy(second);
    cg_buf_finish(&buf);
    return 0;
}
