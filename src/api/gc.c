/* POST /v1/gc: the operator's broom. */
#include "core/gc.h"

#include "api/api.h"

static void on_done(void *ctx, const struct cg_gc_item *items, unsigned n, const struct cg_err *err)
{
    struct op *op = ctx;
    int64_t bytes = 0;
    if (!op->r) {
        op_end(op);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "items");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < n; i++) {
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "path", items[i].path);
        cg_jsonw_kstr(w, "what", items[i].what);
        cg_jsonw_kint(w, "bytes", items[i].bytes);
        cg_jsonw_kbool(w, "removed", items[i].removed);
        cg_jsonw_obj_end(w);
        bytes += items[i].bytes;
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_kint(w, "bytes", bytes);
    cg_jsonw_kstr(w, "error", err ? err->text : NULL);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void run(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    bool dry = false;
    const struct cg_store_account *a = cg_map_get(&op->api->core->accounts, op->key->account);
    if (!a || !cg_streq(a->tier, "owner")) {
        op_problem(op, 403, "policy_denied", "only the owner of this server may clean it up");
        return;
    }
    if (!body_bool(b, "dry_run", &dry, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    cg_core_gc(op->api->core, dry, on_done, op);
}

void api_gc(struct op *op)
{
    op_read_json(op, run);
}
