/* /health, the account, its keys, socket tickets. */
#include <string.h>

#include "api/api.h"

void api_health(struct op *op)
{
    struct cg_jsonw *w = op_json(op);
    const struct cg_core *c = op->api->core;
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "status", c->stopping ? "stopping" : "ok");
    cg_jsonw_kstr(w, "version", CG_VERSION);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void write_wall(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    if (wall)
        cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall ? text : NULL);
}

void api_ticket(struct op *op)
{
    char ticket[96];
    cg_core_ticket_make(op->api->core, op->key, ticket, sizeof ticket);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "ticket", ticket);
    cg_jsonw_kint(w, "expires_in", 60);
    write_wall(w, "expires_at", cg_wall_ns() + (int64_t)60 * 1000000000);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static const char *shown_scope(const struct cg_store_key *k)
{
    return cg_streq(k->scope, "read") ? "read_only" : k->scope;
}

void api_account(struct op *op)
{
    const struct cg_store_account *a = cg_map_get(&op->api->core->accounts, op->key->account);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", a->id);
    cg_jsonw_kstr(w, "email", a->email);
    cg_jsonw_kstr(w, "name", a->name);
    cg_jsonw_kstr(w, "tier", a->tier);
    cg_jsonw_kbool(w, "email_verified", true);
    write_wall(w, "created_at", a->created_wall_ns);
    cg_jsonw_kstr(w, "scope", shown_scope(op->key));
    cg_jsonw_kstr(w, "key_id", op->key->id);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void write_key(struct cg_jsonw *w, const struct cg_store_key *k)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", k->id);
    cg_jsonw_kstr(w, "name", k->name);
    cg_jsonw_kstr(w, "prefix", k->prefix);
    cg_jsonw_kstr(w, "scope", shown_scope(k));
    write_wall(w, "last_used", k->used_wall_ns);
    write_wall(w, "expires_at", k->expires_wall_ns);
    write_wall(w, "created_at", k->created_wall_ns);
    cg_jsonw_obj_end(w);
}

void api_keys(struct op *op)
{
    struct cg_jsonw *w = op_json(op);
    size_t at = 0;
    const char *hash;
    void *value;
    cg_jsonw_arr(w);
    while (cg_map_next(&op->api->core->keys, &at, &hash, &value)) {
        const struct cg_store_key *k = value;
        if (cg_streq(k->account, op->key->account) && cg_has_prefix(k->id, "key-"))
            write_key(w, k);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

static unsigned count_keys(const struct op *op)
{
    unsigned n = 0;
    size_t at = 0;
    const char *hash;
    void *value;
    while (cg_map_next(&op->api->core->keys, &at, &hash, &value)) {
        const struct cg_store_key *k = value;
        n += cg_streq(k->account, op->key->account) && cg_has_prefix(k->id, "key-");
    }
    return n;
}

struct new_key {
    char text[CG_KEY_TEXT];
    struct cg_store_key key;
};

static void on_key_saved(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err) {
        op_fail(op, err);
        return;
    }
    op_send_json(op, 201);
}

static void create_key(struct op *op, const struct cg_json *body)
{
    const char *name = NULL;
    const char *scope = "full";
    const char *expires = NULL;
    int64_t expires_wall = 0;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "name", &name, &e) || !body_str(body, "scope", &scope, &e) ||
        !body_str(body, "expires_at", &expires, &e)) {
        op_fail(op, &e);
        return;
    }
    if (expires && (!cg_time_parse(expires, &expires_wall) || expires_wall <= cg_wall_ns())) {
        op_problem(op, 400, "invalid",
                   "expires_at must be a time to come, as in 2030-01-31T12:00:00Z, not %.64s",
                   expires);
        return;
    }
    if (cg_streq(scope, "read_only"))
        scope = "read";
    if (!name || !name[0] || strlen(name) > 100) {
        op_problem(op, 400, "invalid", "name must have 1 to 100 characters");
        return;
    }
    if (!cg_streq(scope, "full") && !cg_streq(scope, "sandbox") && !cg_streq(scope, "read")) {
        op_problem(op, 400, "invalid", "scope must be full, sandbox or read, not %.64s", scope);
        return;
    }
    const struct cg_plan *plan = cg_plan_of(op->api->core, op->key->account);
    if (plan && plan->keys && count_keys(op) >= plan->keys) {
        op_problem(op, 403, "plan_limit_reached", "the plan %s allows %u keys: delete one",
                   plan->name, plan->keys);
        return;
    }
    struct new_key n;
    cg_core_new_key(op->api->core, op->key->account, name, scope, expires_wall, n.text, &n.key);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "key", n.text);
    cg_jsonw_key(w, "info");
    write_key(w, &n.key);
    cg_jsonw_obj_end(w);
    op_outlive(op);
    cg_store_put_key(op->api->core->store, &n.key, on_key_saved, op);
}

void api_keys_create(struct op *op)
{
    op_read_json(op, create_key);
}

static void on_key_deleted(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

void op_end_key(struct op *op, const char *id)
{
    struct cg_core *c = op->api->core;
    size_t at = 0;
    const char *hash;
    void *value;
    while (cg_map_next(&c->keys, &at, &hash, &value)) {
        struct cg_store_key *k = value;
        if (!cg_streq(k->id, id) || !cg_has_prefix(id, "key-") ||
            !cg_streq(k->account, op->key->account))
            continue;
        CG_OWN(cg_drop_free) char *copy = cg_strdup(hash);
        cg_map_remove(&c->keys, copy); /* stays in memory: a ticket may point at it for a minute */
        k->expires_wall_ns = 1;
        op_outlive(op);
        cg_store_delete_key(c->store, k->id, on_key_deleted, op);
        return;
    }
    op_problem(op, 404, "not_found", "there is no key %.64s", id);
}

void api_keys_delete(struct op *op)
{
    const char *id = op_param(op, "key");
    if (cg_streq(op->key->id, id))
        op_problem(op, 409, "conflict", "a key cannot delete itself: use another one");
    else
        op_end_key(op, id);
}
