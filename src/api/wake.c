/* Waking: a sandbox that sleeps because nobody used it goes on as soon as somebody wants something
 * of it. One that was paused by request stays so until it is resumed. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

struct waking {
    struct op *op;
    op_next *next;
    char *body; /* JSON text; NULL: none */
};

static void on_awake(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct waking *w = ctx;
    struct op *op = w->op;
    op_next *next = w->next;
    CG_OWN(cg_drop_free) char *text = w->body;
    free(w);
    (void)sb;
    if (!op->r) {
        op_end(op);
        return;
    }
    if (err) {
        op_fail(op, err);
        return;
    }
    if (!op_still_seated(op))
        return;
    const struct cg_json_limits limits = {API_BODY_MAX * 2, 32, 65536};
    CG_OWN(cg_drop_json)
    struct cg_json *body = text ? cg_json_parse(cg_slice_of(text), &limits, NULL) : NULL;
    op_mortal(op);
    next(op, body);
}

void op_awake(struct op *op, const struct cg_json *body, op_next *next)
{
    const struct cg_sandbox *sb = op->sb;
    struct cg_err e = CG_ERR_INIT;
    bool sleeps = sb->status == CG_STATUS_PAUSED && strcmp(sb->pause_reason, "idle") == 0;
    if (!sleeps || op->api->core->options.stay_asleep) {
        next(op, body);
        return;
    }
    struct waking *w = cg_alloc(sizeof *w);
    w->op = op;
    w->next = next;
    if (body) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        struct cg_jsonw j;
        cg_buf_init(&b, API_BODY_MAX * 2);
        cg_jsonw_init(&j, &b);
        cg_jsonw_value(&j, body);
        w->body = b.full ? NULL : cg_buf_take(&b);
        if (!w->body)
            cg_fail(&e, CG_TOO_LARGE, "the request is too large to wait for the sandbox to wake");
    }
    op_outlive(op);
    if (e.code == CG_OK && cg_core_resume(op->sb, on_awake, w, &e))
        return;
    free(w->body);
    free(w);
    op_fail_room(op, &e);
}
