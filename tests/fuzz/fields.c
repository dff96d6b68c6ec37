/* Fuzz body of the way from a guest's JSON to a record: what comes out is valid, known by table,
 * and has no byte that could act on a terminal or end a line. */
#include <stdint.h>
#include <string.h>

#include "warden/fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct field inner[] = {{"text", FIELD_STR, 8, NULL}, {NULL, FIELD_INT, 0, NULL}};
static const struct field table[] = {
    {"pid", FIELD_INT, 0, NULL},     {"load", FIELD_NUM, 0, NULL},
    {"cut", FIELD_BOOL, 0, NULL},    {"comm", FIELD_STR, 16, NULL},
    {"argv", FIELD_STRS, 64, NULL},  {"lost", FIELD_COUNTS, 0, NULL},
    {"resize", FIELD_OBJ, 0, inner}, {"list", FIELD_LIST, 3, inner},
    {NULL, FIELD_INT, 0, NULL}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct cg_json_limits limits = {65536, 8, 1024};
    struct cg_json *o = cg_json_parse((struct cg_slice){(const char *)data, n}, &limits, NULL);
    struct cg_buf b;
    struct cg_jsonw w;
    struct cg_err e = CG_ERR_INIT;

    if (!o || o->type != CG_JSON_OBJ) {
        cg_json_destroy(o);
        return 0;
    }
    cg_buf_init(&b, 1 << 20);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    fields_copy(table, o, &w);
    fields_copy_error(o, &w);
    cg_jsonw_obj_end(&w);
    CG_ASSERT(!b.full && b.n < 16384);
    for (size_t i = 0; i < b.n; i++)
        CG_ASSERT((unsigned char)b.p[i] >= 0x20 && b.p[i] != 0x7f);
    struct cg_json *copy = cg_json_parse(cg_buf_slice(&b), NULL, &e);
    CG_ASSERT(copy);
    for (const struct cg_json *m = copy->child; m; m = m->next)
        CG_ASSERT(cg_slice_eq(m->key, "error") || !fields_unknown(table, NULL, copy) ||
                  cg_json_get(copy, "error"));
    cg_json_destroy(copy);
    cg_json_destroy(o);
    cg_buf_finish(&b);
    return 0;
}
