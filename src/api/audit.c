/* Which requests stand in the audit log, and reading it. What happens inside of a sandbox
 * (commands, files) is in the sandbox's own record. */
#include "core/audit.h"

#include <string.h>

#include "api/api.h"

enum { PAGE = 100, PAGE_MAX = 1000 };

static bool wanted(const struct op *op)
{
    static api_handler *const not_these[] = {
        api_ticket,       api_exec,        api_content_put,  api_raw_put, api_archive_put,
        api_files_delete, api_files_mkdir, api_files_rename, api_ingest,  api_trust_preview};
    const struct route *t = op_route(op);
    if (strncmp(t->name, "GET ", 4) == 0 || (!op->key && !op->audited[0]))
        return false;
    for (size_t i = 0; i < CG_COUNT(not_these); i++)
        if (t->handler == not_these[i])
            return false;
    return true;
}

bool api_audit(struct op *op, int status, cg_audit_done *done)
{
    struct cg_audit a = {.status = status};
    if (op->noted || !wanted(op))
        return false;
    op->noted = true;
    cg_strlcpy(a.account, sizeof a.account, op->audited[0] ? op->audited : op->key->account);
    cg_strlcpy(a.person, sizeof a.person, op->key ? op->person : op->audited);
    cg_strlcpy(a.key, sizeof a.key, op->key ? op->key->id : "");
    (void)cg_strlcpy(a.action, sizeof a.action, op_route(op)->name);
    if (op->r) {
        (void)cg_strlcpy(a.target, sizeof a.target, op->r->path);
        (void)cg_strlcpy(a.ip, sizeof a.ip, op->r->peer);
        (void)cg_strlcpy(a.request, sizeof a.request, op->r->id);
    }
    if (done)
        op_outlive(op);
    cg_audit_note(op->api->core, &a, done, op);
    return true;
}

struct page {
    struct cg_core *core;
    struct cg_jsonw *w;
    unsigned left;
    bool more;
};

static bool write_entry(void *ctx, const struct cg_audit *a)
{
    struct page *p = ctx;
    char text[CG_TIME_TEXT];
    if (p->left == 0) {
        p->more = true;
        return false;
    }
    p->left--;
    cg_time_format(a->wall, text);
    cg_jsonw_obj(p->w);
    cg_jsonw_kuint(p->w, "seq", a->seq);
    cg_jsonw_kstr(p->w, "timestamp", text);
    const struct cg_store_account *who =
        cg_map_get(&p->core->accounts, a->person[0] ? a->person : a->account);
    cg_jsonw_kstr(p->w, "actor_id", a->person[0] ? a->person : a->account);
    cg_jsonw_kstr(p->w, "actor_email", who ? who->email : NULL);
    cg_jsonw_kstr(p->w, "key_id", a->key[0] ? a->key : NULL);
    cg_jsonw_kstr(p->w, "action", a->action);
    cg_jsonw_kstr(p->w, "target", a->target);
    cg_jsonw_kint(p->w, "status", a->status);
    cg_jsonw_kstr(p->w, "ip", a->ip);
    cg_jsonw_kstr(p->w, "request_id", a->request);
    cg_jsonw_obj_end(p->w);
    return true;
}

void api_audit_list(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    int64_t limit = PAGE;
    int64_t before = 0;
    if (!op_query_int(op, "limit", INT64_MIN, INT64_MAX, &limit, &e) ||
        !op_query_int(op, "before", INT64_MIN, INT64_MAX, &before, &e)) {
        op_fail(op, &e);
        return;
    }
    if (limit < 1 || limit > PAGE_MAX)
        limit = PAGE;
    struct page p = {.core = op->api->core, .w = op_json(op), .left = (unsigned)limit};
    cg_jsonw_obj(p.w);
    cg_jsonw_key(p.w, "entries");
    cg_jsonw_arr(p.w);
    cg_audit_each(op->key->account, before > 0 ? (uint64_t)before : 0, write_entry, &p);
    cg_jsonw_arr_end(p.w);
    cg_jsonw_kbool(p.w, "has_more", p.more);
    cg_jsonw_obj_end(p.w);
    op_send_json(op, 200);
}
