/* Unpacks the layers of a container image, each over the ones before. */
#ifndef CG_IMAGE_LAYER_H
#define CG_IMAGE_LAYER_H

#include "image/store.h"
#include "image/tree.h"

/* What an image may at most unpack to, over all its layers. */
struct cg_layer_limits {
    int64_t max_bytes;
    int64_t max_entries;
};

/* 32 GiB, 2,000,000 entries. */
extern const struct cg_layer_limits cg_layer_default_limits;

/* An unpacking: where it goes and what it has used of its limits. */
struct cg_unpack {
    struct cg_tree tree;
    struct cg_layer_limits limits;
    int64_t bytes;
    int64_t entries;
    struct cg_task *task; /* asked now and then whether to go on; may be NULL */
};

/* A blob of the layout, open for reading, with what its descriptor promises. */
struct cg_blob {
    int fd;
    int64_t size;
    char digest[65]; /* SHA-256, lower-case hex */
};

/* Reads a blob through and compares size and digest. Errors: CG_PROTOCOL when they differ, CG_IO.
 */
CG_MUST_USE bool cg_blob_verify(const struct cg_blob *b, struct cg_err *e);

/* Applies one layer (a tar file, plain or compressed by gzip or zstd): size and digest are checked
 * first, then its whiteouts take effect, then its entries are unpacked.
 * Errors: CG_PROTOCOL for a layer that is damaged or tries to leave the tree, CG_TOO_LARGE over the
 * limits, CG_CLOSED when interrupted, CG_IO. The tree is to be thrown away then. */
CG_MUST_USE bool cg_layer_apply(struct cg_unpack *u, const struct cg_blob *blob, struct cg_err *e);

#endif
