/* Inside of the options: the operator's file while it is read, for options.c and options_maps.c. */
#ifndef CG_CORE_OPTIONS_INNER_H
#define CG_CORE_OPTIONS_INNER_H

#include <yaml.h>

#include "core/options.h"

struct cg_options_file {
    yaml_document_t doc;
    const char *path;
    struct cg_err *e;
};

/* CG_INVALID with the file and the line of `at`. */
bool cg_options_bad(struct cg_options_file *f, const yaml_node_t *at, const char *what);
/* The text of a scalar; NULL for anything else. */
const char *cg_options_text(const yaml_node_t *n);

/* What holds where nothing else is said. */
void cg_options_defaults(struct cg_options *o);
CG_MUST_USE bool cg_options_file_read(const char *path, struct cg_options *o, struct cg_err *e);
/* Adds what a policy has on every machine, and its resolvers. */
void cg_options_complete(struct cg_options *o);

/* --- people and what has names of the operator's for keys (options_maps.c) --- */

CG_MUST_USE bool cg_options_provider(struct cg_options_file *f, const char *name, yaml_node_t *at,
                                     yaml_node_t *map, struct cg_options *o);
CG_MUST_USE bool cg_options_plan(struct cg_options_file *f, const char *name, yaml_node_t *at,
                                 yaml_node_t *map, struct cg_options *o);
/* accounts.signup: closed, invited or open. */
CG_MUST_USE bool cg_options_signup(struct cg_options_file *f, yaml_node_t *n, enum cg_signup *out);
/* accounts.plans: who has which. */
CG_MUST_USE bool cg_options_people(struct cg_options_file *f, yaml_node_t *map,
                                   struct cg_options *o);

#endif
