/* The kinds that are passed through to the guest: their members, results, and what is recorded. */
#ifndef CG_WARDEN_KINDS_H
#define CG_WARDEN_KINDS_H

#include "warden/fields.h"

enum kind_record {
    KIND_QUIET,   /* nothing */
    KIND_COMMAND, /* command, terminal */
    KIND_FILE,    /* file_op when it ends */
    KIND_DIAL     /* network */
};

struct kind {
    const char *name;
    enum kind_record record;
    const char *op;               /* file_op */
    const struct field *request;  /* for the guest; common members aside */
    const struct field *accepted; /* of its ACCEPT */
    const struct field *result;   /* of its CLOSE */
};

const struct kind *kind_find(const char *name);
extern const struct field kind_own_fields[];     /* the warden's: not for the guest */
extern const struct field kind_control_fields[]; /* of CONTROL towards the guest */

#endif
