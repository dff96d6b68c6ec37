/* SHA-256 over files and texts, for version ids and for the digests of OCI blobs. */
#ifndef CG_IMAGE_HASH_H
#define CG_IMAGE_HASH_H

#include <sodium.h>

#include "base/err.h"

enum { CG_HASH_TEXT = 65 }; /* 64 lower-case hex digits and NUL */

struct cg_hash {
    crypto_hash_sha256_state state;
};

void cg_hash_init(struct cg_hash *h);
void cg_hash_add(struct cg_hash *h, const void *p, size_t n);

/* A field: its length goes in first, so that "ab","c" and "a","bc" differ. NULL counts as "". */
void cg_hash_field(struct cg_hash *h, const char *text);

/* The content of a file. Errors: as open(2), CG_IO. */
CG_MUST_USE bool cg_hash_file(struct cg_hash *h, const char *path, struct cg_err *e);

void cg_hash_text(struct cg_hash *h, char out[CG_HASH_TEXT]);

#endif
