/* OCI image layouts on disk: from a reference to the blobs and settings that make an image. */
#ifndef CG_IMAGE_OCI_H
#define CG_IMAGE_OCI_H

#include "image/layer.h"

struct cg_oci {
    char *dir;
    char *tag;       /* NULL: the layout's only image, or the one called latest */
    char digest[65]; /* of the manifest */
    char *user;      /* of the configuration; NULL when it has none */
    char *workdir;
    struct cg_strv env;
    struct cg_strv titles;  /* "created", "title": texts for people from the annotations */
    struct cg_blob *layers; /* descriptors are opened by cg_oci_layer_open */
    size_t n_layers;
};

/* Takes "oci:DIR" or "oci:DIR:TAG" apart, reads the layout and checks index, manifest and
 * configuration (their digests, too). The image must be for this machine's architecture and Linux.
 * Errors: CG_INVALID for a reference that does not fit, CG_NOT_FOUND, CG_PROTOCOL. */
CG_MUST_USE bool cg_oci_open(const char *from, struct cg_oci *out, struct cg_err *e);
void cg_oci_finish(struct cg_oci *o);

/* Opens layer i; its descriptor is the caller's to close. */
CG_MUST_USE bool cg_oci_layer_open(const struct cg_oci *o, size_t i, struct cg_blob *out,
                                   struct cg_err *e);

#endif
