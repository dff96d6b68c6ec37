/* A YAML file of rules under way: nodes, named lists, errors with their line. Inside of trust. */
#ifndef CG_TRUST_PACKFILE_H
#define CG_TRUST_PACKFILE_H

#include <yaml.h>

#include "trust/pack.h"

struct cg_packfile {
    const char *name;
    struct cg_pack *pack;
    bool over; /* it changes what is there */
    bool open;
    yaml_document_t doc;
    struct cg_err *e;
};

CG_MUST_USE bool cg_packfile_open(struct cg_packfile *f, const char *name, struct cg_slice text,
                                  struct cg_pack *p, bool over, struct cg_err *e);
void cg_packfile_close(struct cg_packfile *f);
const yaml_node_t *cg_packfile_root(struct cg_packfile *f);

/* Always false: fails with "<name>:<line>: …". */
bool cg_packfile_bad(struct cg_packfile *f, const yaml_node_t *at, const char *fmt, ...)
    CG_PRINTF(3, 4);

const char *cg_packfile_text(const yaml_node_t *n); /* NULL: no text */
/* Walk a map or a list; start with *at = 0; false at the end or for another type. */
bool cg_packfile_each(struct cg_packfile *f, const yaml_node_t *map, size_t *at,
                      const yaml_node_t **key, const yaml_node_t **value);
bool cg_packfile_item(struct cg_packfile *f, const yaml_node_t *list, size_t *at,
                      const yaml_node_t **item);

CG_MUST_USE bool cg_packfile_number(struct cg_packfile *f, const yaml_node_t *n, const char *what,
                                    int64_t max, int64_t *out);
/* A text or a list of texts; "$name" stands for the list of that name. Replaces *out. */
CG_MUST_USE bool cg_packfile_list(struct cg_packfile *f, const yaml_node_t *n, const char *what,
                                  struct cg_texts *out);
CG_MUST_USE bool cg_packfile_lists(struct cg_packfile *f, const yaml_node_t *map);
/* Each example becomes the JSON text of its steps. */
CG_MUST_USE bool cg_packfile_examples(struct cg_packfile *f, const yaml_node_t *n,
                                      struct cg_texts *out);

void cg_texts_add(struct cg_texts *t, const char *s);
void cg_texts_finish(struct cg_texts *t);

#endif
