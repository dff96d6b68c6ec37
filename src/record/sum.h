/* What a record's lines add up to, whoever asks for the state at a moment: plain memory, gathered
 * line by line, never wrapping. Money and scores are told by the host alone. */
#ifndef CG_RECORD_SUM_H
#define CG_RECORD_SUM_H

#include "record/line.h"

struct cg_record_sum {
    int64_t llm_nusd, compute_nusd;
    uint64_t commands, failed;
    uint64_t calls;      /* of models */
    uint64_t deductions; /* of trust */
    uint64_t lost;       /* events that gaps tell of */
    int64_t score;       /* 0: nothing was told of trust; else the score + 1 */
};

/* Takes a line in. True when it is a row of the ledger. */
bool cg_record_sum_add(struct cg_record_sum *s, const struct cg_record_line *line,
                       enum cg_record_type type);

#endif
