/* The warden counts, the server listens: a `costs` stream a sandbox. When the warden says that the
 * budget is used up, its calls are refused already; the server ends the sandbox, keeping its
 * disk. */
#include <stdlib.h>

#include "base/log.h"
#include "core/creation.h"
#include "core/providers.h"

struct watch {
    struct cg_wcall call;
    struct cg_sandbox *sb;
};

static void on_costs(struct cg_wcall *call, const struct cg_json *m)
{
    struct watch *n = CG_CONTAINER(call, struct watch, call);
    struct cg_sandbox *sb = n->sb;
    int64_t llm = cg_json_int(m, "llm_nusd", 0) + cg_json_int(m, "accrued_nusd", 0);
    int64_t compute = cg_json_int(m, "compute_nusd", 0);
    bool moved = llm != sb->llm_nusd;
    sb->llm_nusd = llm;
    sb->compute_nusd = compute;
    if (moved)
        cg_sandbox_changed(sb);
    if (!cg_json_bool(m, "exceeded", false) || sb->destroying || sb->creating)
        return;
    cg_log(CG_LOG_WARN, CG_EVENT("budget.exceeded"), CG_S("id", sb->id), CG_I("llm_nusd", llm),
           CG_I("compute_nusd", compute));
    sb->keep_disk = true;
    cg_core_end(sb, CG_STATUS_DESTROYED, "budget_exceeded");
}

static void on_over(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    (void)result;
    (void)error; /* the connection is gone: the next one watches anew */
    free(CG_CONTAINER(call, struct watch, call));
}

void cg_costs_watch(struct cg_sandbox *sb)
{
    struct watch *n = cg_alloc(sizeof *n);
    n->sb = sb;
    n->call = (struct cg_wcall){.on_control = on_costs, .on_close = on_over};
    if (!cg_wcall_open(sb->warden, &n->call, cg_slice_of("{\"kind\":\"costs\"}"), NULL))
        free(n);
}

struct setting {
    struct cg_wcall call;
    struct cg_sandbox *sb;
    int64_t nusd;
    cg_sandbox_done *done;
    void *ctx;
};

static void on_set(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    struct setting *n = CG_CONTAINER(call, struct setting, call);
    (void)result;
    if (!error) {
        n->sb->spec.has_budget = n->nusd >= 0;
        n->sb->spec.budget_nusd = CG_MAX(n->nusd, 0);
        cg_sandbox_save(n->sb, NULL, NULL);
        cg_sandbox_changed(n->sb);
    }
    n->done(n->ctx, n->sb, error);
    free(n);
}

bool cg_costs_set_budget(struct cg_sandbox *sb, int64_t nusd, cg_sandbox_done *done, void *ctx,
                         struct cg_err *e)
{
    char request[96];
    if (nusd >= 0)
        cg_snprintf(request, sizeof request, "{\"kind\":\"budget\",\"limit_nusd\":%lld}",
                    (long long)nusd);
    else
        cg_snprintf(request, sizeof request, "{\"kind\":\"budget\",\"limit_nusd\":null}");
    struct setting *n = cg_alloc(sizeof *n);
    *n = (struct setting){.sb = sb, .nusd = nusd, .done = done, .ctx = ctx};
    n->call.on_close = on_set;
    if (cg_wcall_open(sb->warden, &n->call, cg_slice_of(request), e))
        return true;
    free(n);
    return false;
}
