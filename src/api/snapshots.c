/* /v1/sandboxes/{id}/snapshots, /v1/snapshots, …/fork. */
#include "core/snapshots.h"

#include <stdlib.h>
#include <string.h>

#include "api/api.h"

static void list_one(void *ctx, const struct cg_snapshot *s)
{
    cg_snapshot_write(s, ctx);
}

static void list(struct op *op, const char *sandbox)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    cg_snapshots_each(op->api->core, op->key->account, sandbox, list_one, w);
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

void api_sandbox_snapshots(struct op *op)
{
    list(op, op->sb->id);
}

void api_snapshots(struct op *op)
{
    list(op, NULL);
}

/* --- create --- */

static void on_snapshot(void *ctx, struct cg_snapshot *s, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err) {
        op_fail(op, err);
        return;
    }
    cg_snapshot_write(s, op_json(op));
    op_send_json(op, 201);
}

static void create(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_snapshot_order o = {.trigger = "manual"};
    if (!body_str(b, "name", &o.name, &e) || !body_str(b, "description", &o.description, &e) ||
        !body_bool(b, "memory", &o.memory, &e)) {
        op_fail(op, &e);
        return;
    }
    if ((o.name && strlen(o.name) >= CG_SNAPSHOT_NAME) ||
        (o.description && strlen(o.description) >= CG_SNAPSHOT_TEXT)) {
        op_problem(op, 400, "invalid", "name has at most %d bytes, description %d",
                   CG_SNAPSHOT_NAME - 1, CG_SNAPSHOT_TEXT - 1);
        return;
    }
    op_outlive(op);
    if (!cg_core_snapshot(op->sb, &o, on_snapshot, op, &e))
        op_fail_room(op, &e);
}

void api_snapshots_create(struct op *op)
{
    op_read_json(op, create);
}

/* --- one --- */

static struct cg_snapshot *find(struct op *op)
{
    const char *id = op_param(op, "snapshot");
    struct cg_snapshot *s = cg_snapshot_find(op->api->core, id);
    if (s && !s->hidden && cg_streq(s->account, op->key->account))
        return s;
    op_problem(op, 404, "not_found", "there is no snapshot %.64s", id);
    return NULL;
}

void api_snapshot(struct op *op)
{
    const struct cg_snapshot *s = find(op);
    if (!s)
        return;
    cg_snapshot_write(s, op_json(op));
    op_send_json(op, 200);
}

static void on_deleted(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

void api_snapshot_delete(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_snapshot *s = find(op);
    if (!s)
        return;
    op_outlive(op);
    if (!cg_snapshot_delete(op->api->core, s, on_deleted, op, &e))
        op_fail(op, &e);
}

static void on_restored(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct op *op = ctx;
    (void)sb;
    if (err) {
        op_fail_room(op, err);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "status", "restored");
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void restore(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    const char *target = NULL;
    struct cg_snapshot *s = find(op);
    if (!s)
        return;
    if (!body_str(b, "target_sandbox_id", &target, &e) ||
        (!target && !body_str(b, "sandbox_id", &target, &e))) {
        op_fail(op, &e);
        return;
    }
    if (!target) {
        op_problem(op, 400, "invalid", "target_sandbox_id is needed");
        return;
    }
    struct cg_sandbox *sb = cg_core_find(op->api->core, target);
    if (!sb || !op_owns(op, sb)) {
        op_problem(op, 404, "not_found", "there is no sandbox %.64s", target);
        return;
    }
    op_outlive(op);
    if (!cg_core_restore(s, sb, on_restored, op, &e))
        op_fail_room(op, &e);
}

void api_snapshot_restore(struct op *op)
{
    op_read_json(op, restore);
}

/* --- fork --- */

static void on_forked(void *ctx, struct cg_sandbox *const *made, unsigned count, int64_t stall_ns,
                      const struct cg_err *err)
{
    struct op *op = ctx;
    unsigned fine = 0;
    for (unsigned i = 0; i < count; i++)
        fine += made[i] != NULL;
    if (fine == 0 && err) {
        op_fail_room(op, err);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "sandboxes");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < count; i++) {
        if (made[i])
            cg_sandbox_write(made[i], w);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_knum(w, "stall_ms", (double)stall_ns / 1e6);
    cg_jsonw_kint(w, "failed", count - fine);
    cg_jsonw_kstr(w, "error", err ? err->text : NULL);
    cg_jsonw_obj_end(w);
    op_send_json(op, 201);
}

static void fork_it(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    const char *name = NULL;
    int64_t count = 1;
    if (!body_int(b, "count", 1, CG_FORK_MAX, &count, &e) || !body_str(b, "name", &name, &e)) {
        op_fail(op, &e);
        return;
    }
    if (name && strlen(name) > 40) {
        op_problem(op, 400, "invalid", "name has at most 40 bytes");
        return;
    }
    op_outlive(op);
    if (!cg_core_fork(op->sb, count ? (unsigned)count : 1, name, on_forked, op, &e))
        op_fail_room(op, &e);
}

void api_sandbox_fork(struct op *op)
{
    op_read_json(op, fork_it);
}
