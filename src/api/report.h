/* What a coding agent says about its run, out of its output: one JSON object, or one a line. It is
 * the guest's word and never more than a claim. */
#ifndef CG_API_REPORT_H
#define CG_API_REPORT_H

#include "base/buf.h"
#include "image/agents.h"

struct report {
    bool any;   /* the output held JSON */
    char *text; /* its answer; owned, NULL: none was found */
    bool has_cost, has_tokens, has_turns;
    double cost_usd;
    int64_t tokens_in, tokens_out, turns;
};

/* `paths` of the profile's `report` say where what is: "usage.input_tokens". Of several lines that
 * have it the last counts, tokens are added up. */
void report_read(const struct cg_agent *a, struct cg_slice output, struct report *r);
void report_finish(struct report *r);

#endif
