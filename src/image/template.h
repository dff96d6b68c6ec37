/* Templates on disk: the JSON that points to a base image, and the building of one. */
#ifndef CG_IMAGE_TEMPLATE_H
#define CG_IMAGE_TEMPLATE_H

#include "image/recipe.h"
#include "image/store.h"

/* What is written to templates/NAME.json once a base image is in place. */
struct cg_template_meta {
    const char *name;
    const char *description;
    const char *source;      /* "recipe" or "oci" */
    const char *fingerprint; /* of the recipe, or the manifest's digest */
    const char *user;        /* NULL: agent */
    const char *workdir;     /* NULL: /workspace */
    const struct cg_strv *aliases;
    const struct cg_strv *contents;
    const struct cg_strv *env;
};

/* Moves file `base` to its place as the new version of the template, points NAME.json to it,
 * forgets an earlier failure and removes versions older than the one before. The caller holds the
 * lock. */
CG_MUST_USE bool cg_template_commit(const struct cg_image_config *c, const char *base,
                                    const struct cg_template_meta *m, struct cg_err *e);

/* The registries that the files of an image and a template's environment name, as rules
 * (egress/registries.h). What cannot be read names none. */
void cg_template_registries(const char *image, const struct cg_strv *env, struct cg_strv *out);
/* Reads them for a template that was built before they were kept; the caller holds the lock. */
void cg_template_complete(const struct cg_image_config *c, const char *name);

/* Reads NAME.json. `fingerprint` (the caller's) may be NULL. Errors: CG_NOT_FOUND, CG_IO. */
CG_MUST_USE bool cg_template_load(const struct cg_image_config *c, const char *name,
                                  struct cg_template *out, char **fingerprint, struct cg_err *e);

/* Keeps why a build failed, for the list: NAME.failed.json. */
void cg_template_note_failure(const struct cg_image_config *c, const char *name,
                              const struct cg_err *why);
/* The kept reason, the caller's; NULL when the last build did not fail. */
CG_MUST_USE char *cg_template_failure(const struct cg_image_config *c, const char *name,
                                      bool *unavailable);

/* cg_image_resolve, read from the files. */
CG_MUST_USE bool cg_image_resolve_anew(const struct cg_image_config *c, const char *name,
                                       struct cg_image *out, struct cg_err *e);

/* Builds a recipe's template unless its current version is there. */
CG_MUST_USE bool cg_template_build(struct cg_task *t, const struct cg_recipe *r, bool force,
                                   struct cg_err *e);

/* NULL when the recipe can be built from this machine's mirrors, else why not; the caller's. */
CG_MUST_USE char *cg_recipe_obstacle(const struct cg_recipe *r);

/* The empty writable image that cg_image_make_writable copies; made unless it is there. */
CG_MUST_USE bool cg_writable_build(struct cg_task *t, struct cg_err *e);

#endif
