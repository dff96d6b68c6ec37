/* What a record tells about the sessions of its sandbox, gathered line by line: a pure function of
 * the lines, so that it can be made again from the record at any time. The lines may come from a
 * warden that went bad: everything is bounded, and sums stay where they are rather than wrap. */
#ifndef CG_RECORD_TALLY_H
#define CG_RECORD_TALLY_H

#include "base/clock.h"
#include "record/line.h"

enum {
    CG_TALLY_SESSIONS_MAX = 4096, /* of one record; those beyond are not told apart */
    CG_TALLY_NONE = 65535,
};

enum cg_session_status { CG_SESSION_ACTIVE, CG_SESSION_COMPLETED, CG_SESSION_FAILED };

/* Plain memory: the index keeps these as they are. */
struct cg_session_row {
    char id[48];
    char agent[24]; /* "claude-code"; empty: unknown, or a terminal */
    char kind[12];  /* "agent", "terminal" */
    char how[12];
    char exec_id[64];
    char model[96]; /* of its last call of a model; empty: none */
    char api[24];
    char user_agent[96];
    char reason[32]; /* of its end */
    uint32_t status; /* enum cg_session_status */
    int32_t exit_code;
    int32_t has_exit;
    int32_t spare;
    int64_t opened_t, last_t, closed_t; /* on the record's clock; closed_t -1: it goes on */
    int64_t opened_wall, closed_wall;
    uint64_t first_seq, last_seq;
    uint64_t events;
    uint64_t by_type[CG_REC_TYPE_COUNT];
    uint64_t calls;
    int64_t tokens_in, tokens_out;
    int64_t llm_nusd, compute_nusd;
};

struct cg_tally {
    struct cg_session_row *rows; /* in the order in which they were first named */
    size_t n, cap;
    bool failed; /* an `error` line came */
    bool ended;  /* the sandbox has */
};

void cg_tally_finish(struct cg_tally *t);
/* The number of the line's session, CG_TALLY_NONE when it has none. */
uint16_t cg_tally_line(struct cg_tally *t, const struct cg_record_line *line,
                       enum cg_record_type type);
/* The number of a session by its id, CG_TALLY_NONE when there is none. */
uint16_t cg_tally_find(const struct cg_tally *t, const char *id);

/* When a line was written, by the wall; 0 when it does not tell. */
int64_t cg_tally_wall(const struct cg_record_line *line);

const char *cg_session_status_name(uint32_t status);

#endif
