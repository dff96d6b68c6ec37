/* The verbs of src/cli/verb_image.c and src/cli/verb_templates.c. They work on the images directory
 * and need no server. argv[0] is the verb; the result is the exit code (2 for wrong usage). */
#ifndef CG_CLI_VERB_IMAGES_H
#define CG_CLI_VERB_IMAGES_H

/* caged image build [TEMPLATE...] [--all] [--force] [--from oci:DIR[:TAG] --name NAME] */
int cg_verb_image(int argc, char **argv);

/* caged templates [--format table|json|yaml] [--json] */
int cg_verb_templates(int argc, char **argv);

#endif
