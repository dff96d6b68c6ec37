/* Rows of the ledger as JSON objects, one a line of the record. Amounts are integers: what a sum is
 * made of is never a fraction in binary. */
#include <string.h>

#include "base/json.h"
#include "gateway/ledger.h"

const char *const cg_ledger_kind_names[CG_ROW_KIND_COUNT] = {
    [CG_ROW_LIMIT] = "limit",         [CG_ROW_RESERVE] = "reserve", [CG_ROW_EXTEND] = "extend",
    [CG_ROW_SETTLE] = "settle",       [CG_ROW_CORRECT] = "correct", [CG_ROW_COMPUTE] = "compute",
    [CG_ROW_OVERSHOOT] = "overshoot",
};

void cg_ledger_row_write(const struct cg_ledger_row *row, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "row", cg_ledger_kind_names[row->kind]);
    cg_jsonw_kint(w, "t", row->t_ns);
    cg_jsonw_kint(w, "node", row->node);
    if (row->kind == CG_ROW_LIMIT)
        cg_jsonw_kint(w, "parent", row->parent);
    if (row->call)
        cg_jsonw_kuint(w, "call", row->call);
    cg_jsonw_kint(w, "nusd", row->nusd);
    cg_jsonw_kint(w, "tokens", row->tokens);
    if (row->kind == CG_ROW_SETTLE) {
        cg_jsonw_kint(w, "low", row->low_nusd);
        cg_jsonw_kbool(w, "estimated", row->estimated);
    }
    if (row->kind == CG_ROW_COMPUTE)
        cg_jsonw_kint(w, "hold", row->hold_nusd);
    if (row->kind == CG_ROW_RESERVE) {
        cg_jsonw_kint(w, "cap", row->cap);
        cg_jsonw_kstr(w, "prices", row->prices);
    }
    cg_jsonw_obj_end(w);
}

static bool kind_of(const char *name, enum cg_ledger_kind *out)
{
    for (int i = 0; i < CG_ROW_KIND_COUNT; i++) {
        if (cg_streq(name, cg_ledger_kind_names[i])) {
            *out = (enum cg_ledger_kind)i;
            return true;
        }
    }
    return false;
}

bool cg_ledger_row_parse(struct cg_slice json, struct cg_ledger_row *out, struct cg_err *e)
{
    static const struct cg_json_limits limits = {4096, 3, 64};
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(json, &limits, e);
    *out = (struct cg_ledger_row){.parent = CG_LEDGER_NONE, .cap = -1};
    if (!o)
        return cg_wrap(e, "ledger row");
    int64_t node = cg_json_int(o, "node", -1), parent = cg_json_int(o, "parent", CG_LEDGER_NONE);
    int64_t call = cg_json_int(o, "call", 0);
    if (!kind_of(cg_json_str(o, "row"), &out->kind) || node < 0 || node >= CG_LEDGER_NODES_MAX ||
        parent < CG_LEDGER_NONE || parent >= CG_LEDGER_NODES_MAX || call < 0)
        return cg_fail(e, CG_INVALID, "ledger row with a wrong row, node, parent or call");
    out->t_ns = cg_json_int(o, "t", 0);
    out->node = (int32_t)node;
    out->parent = (int32_t)parent;
    out->call = (uint64_t)call;
    out->nusd = cg_json_int(o, "nusd", -1);
    out->tokens = cg_json_int(o, "tokens", -1);
    out->low_nusd = cg_json_int(o, "low", 0);
    out->hold_nusd = cg_json_int(o, "hold", 0);
    out->cap = cg_json_int(o, "cap", -1);
    out->estimated = cg_json_bool(o, "estimated", false);
    const char *prices = cg_json_str(o, "prices");
    if (out->nusd < 0 || out->tokens < 0 || out->low_nusd < 0 || out->hold_nusd < 0 ||
        (prices && !cg_strlcpy(out->prices, sizeof out->prices, prices)))
        return cg_fail(e, CG_INVALID, "ledger row with a wrong amount");
    return true;
}
