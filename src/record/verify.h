/* Verifying a record offline: a folder, living, finished or unpacked from an export. Everything
 * that is wrong is told with its place; nothing in the folder is trusted but what a signature
 * covers. Blocks; any thread. */
#ifndef CG_RECORD_VERIFY_H
#define CG_RECORD_VERIFY_H

#include "record/seal.h"

enum { CG_VERIFY_TOLD_MAX = 50 }; /* findings that are told; all are counted */

struct cg_verify_options {
    const char *key;              /* "ed25519:…" that must have signed; NULL: one key, any */
    const struct cg_seal *memory; /* the last seal that the server remembers; NULL: unknown */
    const char *sandbox;          /* whose record it must be; NULL: anybody's */
    void (*told)(void *ctx, const char *finding);
    void *ctx;
};

struct cg_verify_result {
    char sandbox[CG_ID_TEXT];
    char key[CG_SEAL_KEY_TEXT]; /* empty: nothing is signed */
    uint32_t segments;
    uint64_t events, bytes; /* bytes of lines */
    uint64_t last_seq;
    uint64_t sealed_seq;     /* up to here it is signed */
    bool ended;              /* signed as complete */
    uint64_t redacted;       /* lines whose content was taken out */
    uint64_t blobs, thinned; /* named and whole; named and thinned, as the record says */
    uint64_t findings;       /* 0: it is what it was */
};

/* False only when it cannot be looked at at all (*e); what is wrong with it is in the findings. */
CG_MUST_USE bool cg_verify(int dir_fd, const struct cg_verify_options *o,
                           struct cg_verify_result *out, struct cg_err *e);

#endif
