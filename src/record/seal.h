/* Seals: what the server vouches for. A seal is one signed line (docs/record-format.md) about the
 * first lines of a segment; it lies beside it in `000001.seal`. Wardens hold no key: the server
 * reads what is on disk, signs it, and never signs anything else for the same place again. Blocks;
 * any thread. */
#ifndef CG_RECORD_SEAL_H
#define CG_RECORD_SEAL_H

#include "base/clock.h"
#include "record/digest.h"

enum cg_seal_state {
    CG_SEAL_OPEN,   /* more may come in this segment */
    CG_SEAL_CLOSED, /* another segment follows */
    CG_SEAL_END     /* nothing follows */
};

enum { CG_SEAL_MAX = 2048, CG_SEAL_KEY_TEXT = 64, CG_SEAL_NAME = 24 };

struct cg_seal {
    char sandbox[CG_ID_TEXT];
    uint32_t segment;
    enum cg_seal_state state;
    uint64_t first_seq, last_seq; /* last_seq is first_seq - 1 while there is no event */
    uint64_t lines;               /* with the header */
    uint64_t bytes;               /* of those lines as they were written */
    struct cg_digest hash;        /* of those bytes */
    struct cg_digest root;        /* of the leaves of those lines */
    bool has_prev;
    struct cg_digest prev; /* of the seal line of the segment before */
    char sealed_at[CG_TIME_TEXT];
    char key[CG_SEAL_KEY_TEXT]; /* "ed25519:" and the public key in base64 */
};

/* An installation's key. */
struct cg_seal_key {
    unsigned char secret[crypto_sign_SECRETKEYBYTES];
    char text[CG_SEAL_KEY_TEXT]; /* of the public half */
};

/* Reads `<state>/signing.key`, or makes it at the first start (mode 0600), and beside it
 * `signing.pub`. */
CG_MUST_USE bool cg_seal_key_load(const char *state_dir, struct cg_seal_key *out, struct cg_err *e);
void cg_seal_key_wipe(struct cg_seal_key *k);

/* The signed line with its line end, behind what `out` holds. */
void cg_seal_write(const struct cg_seal *s, const struct cg_seal_key *k, struct cg_buf *out);

/* Reads a seal line without its line end. CG_INVALID: it is none. CG_FORBIDDEN: its signature does
 * not fit the key that it names; *out is filled then. */
CG_MUST_USE bool cg_seal_parse(struct cg_slice line, struct cg_seal *out, struct cg_err *e);

void cg_seal_name(uint32_t segment, char out[CG_SEAL_NAME]);   /* "000001.seal" */
void cg_leaves_name(uint32_t segment, char out[CG_SEAL_NAME]); /* "000001.leaves" */

/* Reads a file of a folder whole, not through a link; CG_NOT_FOUND, CG_TOO_LARGE. */
CG_MUST_USE bool cg_seal_slurp(int dir_fd, const char *name, size_t max, struct cg_buf *out,
                               struct cg_err *e);
/* The seal of a segment; *line is its digest, the next one's prev. */
CG_MUST_USE bool cg_seal_read(int dir_fd, const char *name, struct cg_seal *out,
                              struct cg_digest *line, struct cg_err *e);

struct cg_sealer_options {
    const char *record; /* the record's folder */
    const char *memory; /* a file of the server's own: the last seal of this record */
    const struct cg_seal_key *key;
    uint64_t limit; /* lines behind this number are not on disk for sure; UINT64_MAX: ended */
};

/* Seals what has been written since the last time, and packs the segments that are closed.
 * CG_CONFLICT: what is on disk is not what was sealed before; nothing is signed then. CG_NOT_FOUND:
 * there is no record. A crash anywhere in it is made good by the next run. */
CG_MUST_USE bool cg_seal_run(const struct cg_sealer_options *o, struct cg_err *e);

#endif
