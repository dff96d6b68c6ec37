/* The network policy of one sandbox: GET and PATCH …/network. A change goes to the warden first and
 * is kept when it holds there; of a paused sandbox it is kept for when it goes on. */
#include "core/network.h"

#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/registries.h"
#include "egress/lists.h"

enum { BODY_MAX = 512 * 1024 };

static void write_texts(struct cg_jsonw *w, const char *key, const struct cg_json *list)
{
    cg_jsonw_key(w, key);
    if (list) {
        cg_jsonw_value(w, list);
        return;
    }
    cg_jsonw_arr(w);
    cg_jsonw_arr_end(w);
}

static void reply(struct op *op)
{
    const struct cg_egress_policy *p = &op->api->core->options.network;
    CG_OWN(cg_drop_free)
    char *registries = cg_registries_of(op->api->core, op->sb->spec.template_name);
    struct cg_jsonw *w = op_json(op);
    const char *text = op->sb->spec.network_json;
    CG_OWN(cg_drop_json)
    struct cg_json *o = text ? cg_json_parse(cg_slice_of(text), NULL, NULL) : NULL;
    const char *mode = cg_json_str(o, "mode");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "mode", mode ? mode : "full");
    write_texts(w, "allow", cg_json_get(o, "allow"));
    write_texts(w, "deny", cg_json_get(o, "deny"));
    cg_jsonw_key(w, "operator");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < p->nrules; i++) {
        char rule[CG_EGRESS_RULE_TEXT];
        cg_egress_rule_format(&p->rules[i], rule);
        cg_jsonw_str(w, rule);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_key(w, "registries");
    cg_jsonw_raw(w, registries, strlen(registries));
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

void api_network(struct op *op)
{
    reply(op);
}

static void drop_own(struct op *op)
{
    free(op->own);
    op->own = NULL;
}

static void keep(struct op *op)
{
    free(op->sb->spec.network_json);
    op->sb->spec.network_json = op->own;
    op->own = NULL;
    cg_sandbox_save(op->sb, NULL, NULL);
    cg_sandbox_changed(op->sb);
    reply(op);
}

static void on_changed(struct cg_wcall *call, const struct cg_json *result,
                       const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    (void)result;
    if (error)
        op_fail(op, error);
    else
        keep(op);
}

static void change(struct op *op, const struct cg_json *body)
{
    struct cg_err e = CG_ERR_INIT;
    char *rules = NULL;
    if (op->sb->status == CG_STATUS_DESTROYED || op->sb->status == CG_STATUS_ERROR)
        cg_fail(&e, CG_CONFLICT, "sandbox %s has ended", op->sb->id);
    else if (op->sb->status == CG_STATUS_PENDING)
        cg_fail(&e, CG_CONFLICT, "sandbox %s is being made", op->sb->id);
    if (e.code != CG_OK || !cg_network_change(op->sb->spec.network_json, body, &rules, &e)) {
        op_fail(op, &e);
        return;
    }
    op->own = rules;
    op->finish = drop_own;
    if (op->sb->status == CG_STATUS_PAUSED) {
        keep(op);
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, BODY_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "network");
    cg_network_write_rules(op->sb, rules, &w);
    cg_jsonw_obj_end(&w);
    op->call.on_close = on_changed;
    op_outlive(op); /* what the warden took must be kept */
    if (!op_call(op, &b))
        return;
}

void api_network_change(struct op *op)
{
    op_read_json(op, change);
}
