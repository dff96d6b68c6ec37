/* JSON reader: strict RFC 8259, bounded in size, depth and count, for control frames and small
 * files on both ends of the guest link (the agent is static and libc-only, so no library there;
 * host programs read the bodies of HTTP requests with yyjson). Duplicate keys are refused.
 * A document is one allocation tree; values live until cg_json_destroy. */
#ifndef CG_BASE_JSON_H
#define CG_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

enum cg_json_type {
    CG_JSON_NULL,
    CG_JSON_BOOL,
    CG_JSON_INT, /* no fraction, no exponent, fits int64 */
    CG_JSON_NUM,
    CG_JSON_STR, /* decoded; may hold NUL when the text says \u0000 */
    CG_JSON_ARR,
    CG_JSON_OBJ
};

struct cg_json {
    enum cg_json_type type;
    bool boolean;
    int64_t integer;
    double number;         /* also set for CG_JSON_INT */
    struct cg_slice key;   /* when the value is a member of an object */
    struct cg_slice str;   /* CG_JSON_STR; NUL-terminated behind its n bytes */
    size_t count;          /* members or items */
    struct cg_json *child; /* first member or item */
    struct cg_json *next;  /* next sibling */
};

struct cg_json_limits {
    size_t max_bytes; /* of text */
    unsigned max_depth;
    unsigned max_values;
};

/* 1 MiB, depth 32, 65,536 values. */
extern const struct cg_json_limits cg_json_default_limits;

/* Parses text whole. NULL with *e set (CG_INVALID, CG_TOO_LARGE) on anything but one valid value;
 * `limits` may be NULL for the default. The result is the caller's. */
CG_MUST_USE struct cg_json *cg_json_parse(struct cg_slice text, const struct cg_json_limits *limits,
                                          struct cg_err *e);
void cg_json_destroy(struct cg_json *root);
void cg_drop_json(struct cg_json **root);

/* Look-ups that accept NULL and wrong types: they give NULL or the fallback then. */
const struct cg_json *cg_json_get(const struct cg_json *obj, const char *key);
const char *cg_json_str(const struct cg_json *obj, const char *key); /* NULL also if it holds NUL */
int64_t cg_json_int(const struct cg_json *obj, const char *key, int64_t fallback);
double cg_json_num(const struct cg_json *obj, const char *key, double fallback);
bool cg_json_bool(const struct cg_json *obj, const char *key, bool fallback);

#endif
