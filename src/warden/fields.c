/* A table is the only way from a guest's JSON to ours. Strings are cut by bytes; the writer turns a
 * cut character into U+FFFD. */
#include "warden/fields.h"

#include <string.h>

#include "base/err.h"

enum { COUNTS_MAX = 32, COUNT_NAME_MAX = 32, ERROR_TEXT_MAX = 1024 };

static void put_key(struct cg_jsonw *w, struct cg_slice key)
{
    /* keys come NUL-terminated from the parser, but may hold NUL */
    char name[256];
    size_t n = CG_MIN(key.n, sizeof name - 1);
    memcpy(name, key.p, n);
    name[n] = '\0';
    cg_jsonw_key(w, name);
}

static bool copy_strings(const struct cg_json *v, size_t max, struct cg_jsonw *w)
{
    bool cut = false;
    cg_jsonw_arr(w);
    for (const struct cg_json *m = v->child; m; m = m->next) {
        if (m->type != CG_JSON_STR || max == 0) {
            cut = true;
            break;
        }
        size_t n = CG_MIN(m->str.n, max);
        cut |= n < m->str.n;
        cg_jsonw_strn(w, m->str.p, n);
        max -= CG_MIN(max, n + 4); /* an empty string takes room too */
    }
    cg_jsonw_arr_end(w);
    return cut;
}

/* Names of counts are ours or a hook's: anything else could collide once it is cut or escaped. */
bool fields_plain_name(struct cg_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
              s.p[i] == '_'))
            return false;
    return s.n > 0 && s.n <= COUNT_NAME_MAX;
}

static void copy_counts(const struct cg_json *v, struct cg_jsonw *w)
{
    unsigned n = 0;
    cg_jsonw_obj(w);
    for (const struct cg_json *m = v->child; m && n < COUNTS_MAX; m = m->next) {
        if (m->type != CG_JSON_INT || !fields_plain_name(m->key))
            continue;
        put_key(w, m->key);
        cg_jsonw_int(w, m->integer);
        n++;
    }
    cg_jsonw_obj_end(w);
}

static bool fits(const struct field *f, const struct cg_json *v)
{
    switch (f->type) {
    case FIELD_INT:
        return v->type == CG_JSON_INT;
    case FIELD_NUM:
        return v->type == CG_JSON_INT || v->type == CG_JSON_NUM;
    case FIELD_BOOL:
        return v->type == CG_JSON_BOOL;
    case FIELD_STR:
        return v->type == CG_JSON_STR;
    case FIELD_STRS:
    case FIELD_LIST:
        return v->type == CG_JSON_ARR;
    case FIELD_COUNTS:
    case FIELD_OBJ:
        return v->type == CG_JSON_OBJ;
    case FIELD_ANY:
        return true;
    }
    return false;
}

static bool copy_list(const struct field *f, const struct cg_json *v, struct cg_jsonw *w)
{
    bool cut = false;
    size_t n = 0;
    cg_jsonw_arr(w);
    for (const struct cg_json *m = v->child; m; m = m->next) {
        if (m->type != CG_JSON_OBJ || n++ == f->max) {
            cut = true;
            break;
        }
        cg_jsonw_obj(w);
        cut |= fields_copy(f->sub, m, w);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    return cut;
}

static bool copy_one(const struct field *f, const struct cg_json *v, struct cg_jsonw *w)
{
    bool cut = false;
    cg_jsonw_key(w, f->name);
    if (f->type == FIELD_STR) {
        cut = v->str.n > f->max;
        cg_jsonw_strn(w, v->str.p, CG_MIN(v->str.n, f->max));
    } else if (f->type == FIELD_STRS) {
        cut = copy_strings(v, f->max, w);
    } else if (f->type == FIELD_COUNTS) {
        copy_counts(v, w);
    } else if (f->type == FIELD_OBJ) {
        cg_jsonw_obj(w);
        cut = fields_copy(f->sub, v, w);
        cg_jsonw_obj_end(w);
    } else if (f->type == FIELD_LIST) {
        cut = copy_list(f, v, w);
    } else {
        cg_jsonw_value(w, v);
    }
    return cut;
}

bool fields_copy(const struct field *table, const struct cg_json *o, struct cg_jsonw *w)
{
    bool cut = false;
    for (const struct field *f = table; f->name; f++) {
        const struct cg_json *v = cg_json_get(o, f->name);
        if (v && v->type == CG_JSON_NULL) {
            cg_jsonw_key(w, f->name);
            cg_jsonw_null(w);
        } else if (v && fits(f, v)) {
            cut |= copy_one(f, v, w);
        }
    }
    return cut;
}

static bool in_table(const struct field *table, struct cg_slice name)
{
    for (; table && table->name; table++)
        if (cg_slice_eq(name, table->name))
            return true;
    return false;
}

const struct cg_json *fields_unknown(const struct field *table, const struct field *more,
                                     const struct cg_json *o)
{
    for (const struct cg_json *m = o->child; m; m = m->next)
        if (!in_table(table, m->key) && !in_table(more, m->key))
            return m;
    return NULL;
}

bool fields_copy_error(const struct cg_json *o, struct cg_jsonw *w)
{
    const struct cg_json *error = cg_json_get(o, "error");
    if (!error || error->type == CG_JSON_NULL)
        return false;
    const struct cg_json *text = cg_json_get(error, "text");
    const char *code = cg_json_str(error, "code");
    cg_jsonw_key(w, "error");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "code", cg_code_name(cg_code_from_name(code ? code : "")));
    cg_jsonw_key(w, "text");
    if (text && text->type == CG_JSON_STR)
        cg_jsonw_strn(w, text->str.p, CG_MIN(text->str.n, (size_t)ERROR_TEXT_MAX));
    else
        cg_jsonw_str(w, "no reason given");
    cg_jsonw_obj_end(w);
    return true;
}
