/* The trust score: lines of a record in, deductions out. A pure function of the lines and the pack:
 * no clock, no randomness, no memory that grows. The same lines give the same deductions in a
 * warden, in the server and in `caged trust recompute`. docs/trust.md. */
#ifndef CG_TRUST_TRUST_H
#define CG_TRUST_TRUST_H

#include "record/line.h"
#include "trust/pack.h"

enum { CG_TRUST_FULL = 100, CG_TRUST_EVIDENCE = 16, CG_TRUST_SESSIONS = 64, CG_TRUST_WHAT = 200 };

struct cg_trust_deduction {
    uint32_t n; /* 1, 2, 3, … */
    const struct cg_rule *rule;
    uint32_t points;
    uint32_t score;                       /* of the sandbox, after it */
    int64_t t;                            /* of the line that completed it */
    uint64_t evidence[CG_TRUST_EVIDENCE]; /* sequence numbers, rising */
    unsigned nevidence;
    unsigned hits;            /* lines that count; may be more than the evidence holds */
    char session[48];         /* empty: none */
    char what[CG_TRUST_WHAT]; /* the command, path or host, for people; a guest's text */
};

struct cg_trust_session {
    char id[48];
    uint32_t points; /* lost */
    int64_t t;       /* of its last change */
};

struct cg_trust;

/* `known` (may be NULL): hosts beside those of the pack. The pack must outlive it. */
CG_MUST_USE struct cg_trust *
cg_trust_create(const struct cg_pack *pack, const struct cg_texts *known,
                void (*each)(void *ctx, const struct cg_trust_deduction *d), void *ctx);
void cg_trust_destroy(struct cg_trust *t);

/* One line; those of an unknown form and the engine's own are passed over. A `trust` line `pack`
 * adds the hosts that were known when the record was begun. */
void cg_trust_line(struct cg_trust *t, const struct cg_record_line *line);

uint32_t cg_trust_score(const struct cg_trust *t);
uint32_t cg_trust_deductions(const struct cg_trust *t);
/* Sessions that lines named, the first first. */
unsigned cg_trust_sessions(const struct cg_trust *t, const struct cg_trust_session **out);
uint32_t cg_trust_session_score(const struct cg_trust *t, const char *session);

/* "excellent", "good", "caution", "warning", "critical" */
const char *cg_trust_band(uint32_t score);

/* Runs the examples of every rule; calls `failed` for each that does not do what it says. The
 * number of examples. */
unsigned cg_trust_examples(const struct cg_pack *pack,
                           void (*failed)(void *ctx, const char *rule, const char *text),
                           void *ctx);

/* The members of a deduction, into an object that is open: what a `trust` line holds. */
struct cg_jsonw;
void cg_trust_write(const struct cg_trust_deduction *d, struct cg_jsonw *w);

#endif
