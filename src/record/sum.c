#include "record/sum.h"

#include "base/json.h"

static const struct cg_json_limits limits = {CG_RECORD_LINE_MAX, 16, 8192};

static void add_money(int64_t *to, int64_t n)
{
    int64_t sum;
    if (n > 0 && !__builtin_add_overflow(*to, n, &sum))
        *to = sum;
}

static void add_command(struct cg_record_sum *s, const struct cg_json *o)
{
    const char *phase = cg_json_str(o, "phase");
    if (cg_streq(phase, "start"))
        s->commands++;
    else if (cg_streq(phase, "exit"))
        s->failed += cg_json_int(o, "exit_code", 0) != 0 || cg_json_get(o, "error") != NULL;
}

static void add_call(struct cg_record_sum *s, const struct cg_json *o)
{
    if (cg_streq(cg_json_str(o, "event"), "open"))
        s->calls++;
    else
        add_money(&s->llm_nusd, cg_json_int(o, "cost_nusd", 0));
}

static bool add_cost(struct cg_record_sum *s, const struct cg_json *o)
{
    const struct cg_json *row = cg_json_get(o, "row");
    if (!cg_streq(cg_json_str(o, "event"), "ledger"))
        return false;
    if (cg_streq(cg_json_str(row, "row"), "compute"))
        add_money(&s->compute_nusd, cg_json_int(row, "nusd", 0));
    return true;
}

static void add_trust(struct cg_record_sum *s, const struct cg_json *o)
{
    int64_t score = cg_json_int(o, "score", -1);
    s->deductions += cg_streq(cg_json_str(o, "event"), "deduction");
    if (score >= 0 && score <= 100)
        s->score = score + 1;
    else if (s->score == 0)
        s->score = 101; /* the line that names the rules */
}

static void add_gap(struct cg_record_sum *s, const struct cg_json *o)
{
    const struct cg_json *lost = cg_json_get(o, "lost");
    if (!lost || lost->type != CG_JSON_OBJ)
        return;
    for (const struct cg_json *m = lost->child; m; m = m->next)
        if (m->type == CG_JSON_INT && m->integer > 0)
            s->lost += (uint64_t)m->integer;
}

bool cg_record_sum_add(struct cg_record_sum *s, const struct cg_record_line *line,
                       enum cg_record_type type)
{
    bool summed = type == CG_REC_COMMAND || type == CG_REC_LLM_CALL || type == CG_REC_COST ||
                  type == CG_REC_TRUST || type == CG_REC_GAP;
    if (!summed)
        return false;
    bool host = cg_slice_eq(line->src, "host");
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line->data, &limits, NULL);
    if (type == CG_REC_COMMAND)
        add_command(s, o);
    else if (type == CG_REC_GAP)
        add_gap(s, o);
    else if (type == CG_REC_LLM_CALL && host)
        add_call(s, o);
    else if (type == CG_REC_TRUST && host)
        add_trust(s, o);
    return type == CG_REC_COST && host && add_cost(s, o);
}
