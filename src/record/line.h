/* One line of a record: the words of its head and how it is read back. docs/record-format.md is
 * the specification. */
#ifndef CG_RECORD_LINE_H
#define CG_RECORD_LINE_H

#include "base/buf.h"

enum {
    CG_RECORD_FORMAT = 1,
    CG_RECORD_LINE_MAX = 65536 /* with the line end */
};

enum cg_record_type {
    CG_REC_LIFECYCLE,
    CG_REC_COMMAND,
    CG_REC_PROCESS,
    CG_REC_FILE_OP,
    CG_REC_TERMINAL,
    CG_REC_NETWORK,
    CG_REC_DNS,
    CG_REC_PORT,
    CG_REC_GAP,
    CG_REC_ERROR,
    CG_REC_CLAIM,
    CG_REC_TRUST,
    CG_REC_LLM_CALL,
    CG_REC_COST,
    CG_REC_SESSION,
    CG_REC_CONTENT,
    CG_REC_TYPE_COUNT
};

/* Who vouches for a line. */
enum cg_record_src { CG_SRC_HOST, CG_SRC_GUEST, CG_SRC_CLAIM, CG_SRC_SERVER, CG_SRC_COUNT };

const char *cg_record_type_name(enum cg_record_type t);
bool cg_record_type_parse(struct cg_slice name, enum cg_record_type *out);
const char *cg_record_src_name(enum cg_record_src s);

/* Types that may be thinned when the quota is used up. */
bool cg_record_type_bulk(enum cg_record_type t);

/* True for "sess-" and 1 to 40 characters of a-z, 0-9 and "-". */
bool cg_record_session_valid(const char *session);

struct cg_record_line {
    uint64_t seq;
    int64_t t;            /* ns since the record's epoch */
    struct cg_slice ts;   /* RFC 3339 */
    struct cg_slice type; /* a name; newer writers may know more of them */
    struct cg_slice src;
    struct cg_slice session; /* empty: null */
    struct cg_slice data;    /* a JSON object, from { to }; its inside is not checked here */
};

/* Reads a line without its line end. The slices point into it. False on anything that no writer
 * of format 1 writes, headers and seals included. Allocates nothing. */
bool cg_record_line_parse(struct cg_slice text, struct cg_record_line *out);

#endif
