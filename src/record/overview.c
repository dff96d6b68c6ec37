#include "record/overview.h"

#include <stdlib.h>

#include "record/query.h"

enum { ENTRIES = 8192 };

static bool add_line(void *ctx, const struct cg_record_line *line)
{
    struct cg_overview *o = ctx;
    enum cg_record_type type = CG_REC_TYPE_COUNT;
    (void)!cg_record_type_parse(line->type, &type);
    (void)cg_record_sum_add(&o->sum, line, type);
    o->t = line->t;
    return true;
}

/* From the last mark before the moment on, line by line. */
static bool sum_up(const struct cg_index *ix, int record_dir, int64_t moment, struct cg_overview *o,
                   struct cg_err *e)
{
    struct cg_index_mark mark;
    struct cg_query q = {.limit = UINT32_MAX, .session = CG_TALLY_NONE, .to = CG_MAX(moment, 1)};
    struct cg_query_end end = {.more = true};
    q.after = cg_index_mark_at(ix, cg_index_at(ix, moment, false) - 1, &mark);
    o->sum = mark.sum;
    o->t = mark.t;
    end.next = q.after;
    while (end.more) {
        if (!cg_query_run(ix, record_dir, &q, add_line, o, &end, e))
            return false;
        q.after = end.next;
    }
    o->seq = end.next;
    return true;
}

static unsigned slot_of(const struct cg_overview *o, const struct cg_index_entry *entry)
{
    double part = o->t > 0 ? (double)entry->t_cs * 1e7 / (double)o->t : 0;
    return (unsigned)CG_MIN(part * o->nslots, (double)(o->nslots - 1));
}

static void count(const struct cg_index *ix, uint16_t session, struct cg_overview *o)
{
    CG_OWN(cg_drop_free) struct cg_index_entry *entries = cg_alloc_array(ENTRIES, sizeof *entries);
    size_t n = 0;
    for (uint64_t first = 1; first <= o->seq; first += n) {
        n = cg_index_read(ix, first, entries, CG_MIN((uint64_t)ENTRIES, o->seq - first + 1));
        if (n == 0)
            return;
        for (size_t i = 0; i < n; i++) {
            const struct cg_index_entry *entry = &entries[i];
            if (entry->type >= CG_REC_TYPE_COUNT ||
                (session != CG_TALLY_NONE && entry->session != session))
                continue;
            unsigned column = entry->ledger ? CG_REC_TYPE_COUNT : entry->type;
            o->counts[column]++;
            if (o->nslots > 0)
                o->slots[(size_t)slot_of(o, entry) * CG_OVERVIEW_COLUMNS + column]++;
        }
    }
}

bool cg_overview_make(const struct cg_index *ix, int record_dir, int64_t moment, uint16_t session,
                      unsigned nslots, struct cg_overview *out, struct cg_err *e)
{
    *out = (struct cg_overview){.nslots = CG_MIN(nslots, (unsigned)CG_OVERVIEW_SLOTS_MAX)};
    if (moment >= 0) {
        if (!sum_up(ix, record_dir, moment, out, e))
            return false;
    } else {
        out->seq = ix->count;
        out->t = ix->last_t;
        out->sum = ix->sum;
    }
    if (out->nslots > 0)
        out->slots = cg_alloc_array((size_t)out->nslots * CG_OVERVIEW_COLUMNS, sizeof *out->slots);
    count(ix, session, out);
    return true;
}

void cg_overview_finish(struct cg_overview *o)
{
    free(o->slots);
    o->slots = NULL;
}
