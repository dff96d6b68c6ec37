/* Members of a JSON object by table: what may stand there, of which type, how long. Everything that
 * a guest says is copied through such a table, so that it adds no member, no type and no length
 * that we do not know. */
#ifndef CG_WARDEN_FIELDS_H
#define CG_WARDEN_FIELDS_H

#include "base/json.h"
#include "base/jsonw.h"

enum field_type {
    FIELD_INT,
    FIELD_NUM,
    FIELD_BOOL,
    FIELD_STR,    /* cut to `max` bytes */
    FIELD_STRS,   /* array of strings, `max` bytes in all */
    FIELD_COUNTS, /* object of integers, at most 32 */
    FIELD_OBJ,    /* by `sub` */
    FIELD_LIST,   /* array of at most `max` objects, each by `sub` */
    FIELD_ANY,    /* as it is: only for what a trusted side says */
};

struct field {
    const char *name; /* NULL ends a table */
    enum field_type type;
    size_t max;
    const struct field *sub;
};

/* Copies the members of `o` that the table knows and that have its type (null stays null), in the
 * table's order. The writer is inside an object. True when something was cut. */
bool fields_copy(const struct field *table, const struct cg_json *o, struct cg_jsonw *w);

/* The first member of `o` that neither table has; NULL: none. `more` may be NULL. */
const struct cg_json *fields_unknown(const struct field *table, const struct field *more,
                                     const struct cg_json *o);

/* A name of FIELD_COUNTS: 1 to 32 of a-z, 0-9 and "_"; others are left out. */
bool fields_plain_name(struct cg_slice s);

/* "error":{"code","text"} of a peer's result, with a code that we know. False: there is none. */
bool fields_copy_error(const struct cg_json *o, struct cg_jsonw *w);

#endif
