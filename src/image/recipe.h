/* Recipes of templates: data/templates/NAME.yaml. docs/images.md lists the keys. */
#ifndef CG_IMAGE_RECIPE_H
#define CG_IMAGE_RECIPE_H

#include "image/image.h"

struct cg_recipe {
    char *name;
    char *description;
    char *suite;  /* "host": this machine's own */
    char *reason; /* said when the suite cannot be had here */
    struct cg_strv aliases;
    struct cg_strv extra_suites;
    struct cg_strv packages;
    struct cg_strv build_packages; /* removed again when the steps have run */
    struct cg_strv npm;
    struct cg_strv pip;
    struct cg_strv run;         /* shell lines, as root in the tree */
    struct cg_strv env;         /* KEY=VALUE */
    struct cg_strv check_names; /* what the template is said to contain ... */
    struct cg_strv check_lines; /* ... and the shell line that prints its version */
    char fingerprint[65];       /* changes when a build would give something else */
};

struct cg_recipes {
    struct cg_recipe *v; /* by name */
    size_t n;
};

/* Reads every recipe. Errors: CG_INVALID with file and line for unknown keys, wrong types, names
 * or aliases that are used twice; CG_NOT_FOUND without a templates folder. */
CG_MUST_USE bool cg_recipes_load(const struct cg_image_config *c, struct cg_recipes *out,
                                 struct cg_err *e);
void cg_recipes_finish(struct cg_recipes *r);

/* By name or alias; NULL when there is none. */
const struct cg_recipe *cg_recipes_find(const struct cg_recipes *r, const char *name);

/* Parses one recipe; `file` is for messages. */
CG_MUST_USE bool cg_recipe_parse(const char *file, const char *text, size_t n,
                                 struct cg_recipe *out, struct cg_err *e);
void cg_recipe_finish(struct cg_recipe *r);

/* 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit. */
bool cg_template_name_valid(const char *name);

#endif
