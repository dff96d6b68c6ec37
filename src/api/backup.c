/* POST /v1/backup: a copy of the database for `caged backup`, which packs the rest itself. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

static void on_copied(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err)
        op_fail(op, err);
    else
        op_send_json(op, 200);
}

void api_backup(struct op *op)
{
    struct cg_core *c = op->api->core;
    const struct cg_store_account *a = cg_map_get(&c->accounts, op->key->account);
    if (!a || !cg_streq(a->tier, "owner")) {
        op_problem(op, 403, "policy_denied", "only the owner of this server may back it up");
        return;
    }
    CG_OWN(cg_drop_free) char *path = cg_format("%s/backup.db", c->options.state_dir);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "database", path);
    cg_jsonw_obj_end(w);
    op_outlive(op);
    cg_store_copy(c->store, path, on_copied, op);
}
