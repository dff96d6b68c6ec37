/* A YAML file that is one map of known keys, read into a struct by a table. It is the operator's
 * own file, but a typing error in it must not go unseen: unknown keys and wrong types are refused
 * with their line. */
#ifndef CG_IMAGE_YAMLMAP_H
#define CG_IMAGE_YAMLMAP_H

#include "base/buf.h"
#include "base/err.h"
#include "image/strv.h"

enum cg_yaml_type {
    CG_YAML_TEXT,  /* char *, the struct's own */
    CG_YAML_LIST,  /* struct cg_strv */
    CG_YAML_MAP,   /* struct cg_strv of "KEY=VALUE" */
    CG_YAML_PAIRS, /* struct cg_strv of keys, and right behind it one of values */
};

struct cg_yaml_key {
    const char *name;
    enum cg_yaml_type type;
    size_t offset; /* of the member */
};

/* Reads text into *out, which is zero. On failure *out holds what was read before: finish it. */
CG_MUST_USE bool cg_yaml_read(const char *file, struct cg_slice text,
                              const struct cg_yaml_key *keys, size_t nkeys, void *out,
                              struct cg_err *e);
/* Frees the members that the table names. */
void cg_yaml_finish(const struct cg_yaml_key *keys, size_t nkeys, void *out);

#endif
