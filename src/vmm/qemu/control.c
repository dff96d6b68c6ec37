/* The warden's view of a running QEMU: names of QMP become words of vmm.h. Each request carries its
 * caller's callback in a small heap object that lives until the answer. */
#include "vmm/qemu/qemu.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/qemu/qmp.h"

enum { ANSWER_MS = 10000 };

struct qemu {
    struct cg_vmm vm; /* first: what the interface hands around */
    struct cg_qmp *qmp;
    struct cg_vmm_handlers h;
    void *ctx;
    bool destroyed;
};

struct request {
    cg_vmm_done *done;
    cg_vmm_state_done *state_done;
    void *ctx;
};

static struct qemu *of(struct cg_vmm *vm)
{
    return CG_CONTAINER(vm, struct qemu, vm);
}

static void on_event(void *ctx, const char *name, const struct cg_json *data)
{
    static const struct {
        const char *name;
        enum cg_vmm_event event;
    } table[] = {
        {"STOP", CG_VMM_EVENT_PAUSED},
        {"RESUME", CG_VMM_EVENT_RESUMED},
        {"GUEST_PANICKED", CG_VMM_EVENT_GUEST_PANIC},
        {"BLOCK_IO_ERROR", CG_VMM_EVENT_DISK_ERROR},
    };
    struct qemu *q = ctx;
    if (!q->h.on_event)
        return;
    if (strcmp(name, "SHUTDOWN") == 0) {
        if (cg_json_bool(data, "guest", false))
            q->h.on_event(q->ctx, cg_streq(cg_json_str(data, "reason"), "guest-reset")
                                      ? CG_VMM_EVENT_GUEST_RESET
                                      : CG_VMM_EVENT_GUEST_OFF);
        return;
    }
    for (size_t i = 0; i < CG_COUNT(table); i++) {
        if (strcmp(name, table[i].name) == 0) {
            q->h.on_event(q->ctx, table[i].event);
            return;
        }
    }
}

static void on_gone(void *ctx, const struct cg_err *why)
{
    struct qemu *q = ctx;
    if (q->h.on_gone)
        q->h.on_gone(q->ctx, why);
}

struct cg_vmm *cg_qemu_attach(uv_loop_t *loop, int control, const struct cg_vmm_handlers *h,
                              void *ctx, struct cg_err *e)
{
    struct qemu *q = cg_alloc(sizeof *q);
    q->h = *h;
    q->ctx = ctx;
    q->qmp = cg_qmp_create(loop, control, &(struct cg_qmp_handlers){on_event, on_gone}, q, e);
    if (!q->qmp) {
        free(q);
        return NULL;
    }
    return &q->vm;
}

void cg_qemu_destroy(struct cg_vmm *vm)
{
    struct qemu *q = of(vm);
    if (q->destroyed) /* from a result that this very call is delivering */
        return;
    q->destroyed = true;
    q->h = (struct cg_vmm_handlers){.on_gone = NULL};
    cg_qmp_destroy(q->qmp);
    free(q);
}

static void on_done(void *ctx, const struct cg_json *result, const struct cg_err *err)
{
    (void)result;
    struct request r = *(struct request *)ctx;
    free(ctx);
    r.done(r.ctx, err);
}

static enum cg_vmm_state state_of(const char *name)
{
    static const struct {
        const char *name;
        enum cg_vmm_state state;
    } table[] = {
        {"running", CG_VMM_RUNNING},       {"paused", CG_VMM_PAUSED},
        {"prelaunch", CG_VMM_STARTING},    {"inmigrate", CG_VMM_STARTING},
        {"suspended", CG_VMM_PAUSED},      {"postmigrate", CG_VMM_PAUSED},
        {"finish-migrate", CG_VMM_PAUSED}, {"save-vm", CG_VMM_PAUSED},
        {"restore-vm", CG_VMM_STARTING},   {"shutdown", CG_VMM_DOWN},
        {"guest-panicked", CG_VMM_BROKEN}, {"io-error", CG_VMM_BROKEN},
        {"internal-error", CG_VMM_BROKEN}, {"watchdog", CG_VMM_BROKEN},
    };
    for (size_t i = 0; i < CG_COUNT(table); i++) {
        if (cg_streq(name, table[i].name))
            return table[i].state;
    }
    return CG_VMM_BROKEN;
}

static void on_status(void *ctx, const struct cg_json *result, const struct cg_err *err)
{
    struct request r = *(struct request *)ctx;
    free(ctx);
    r.state_done(r.ctx, err ? CG_VMM_BROKEN : state_of(cg_json_str(result, "status")), err);
}

static bool ask(struct cg_vmm *vm, const char *name, const char *arguments, cg_qmp_done *answer,
                struct request request, struct cg_err *e)
{
    struct request *r = cg_alloc(sizeof *r);
    *r = request;
    if (cg_qmp_command(of(vm)->qmp, name, arguments, ANSWER_MS, answer, r, e))
        return true;
    free(r);
    return false;
}

bool cg_qemu_status(struct cg_vmm *vm, cg_vmm_state_done *done, void *ctx, struct cg_err *e)
{
    return ask(vm, "query-status", NULL, on_status, (struct request){NULL, done, ctx}, e);
}

bool cg_qemu_pause(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e)
{
    return ask(vm, "stop", NULL, on_done, (struct request){done, NULL, ctx}, e);
}

bool cg_qemu_resume(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e)
{
    return ask(vm, "cont", NULL, on_done, (struct request){done, NULL, ctx}, e);
}

bool cg_qemu_stop(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e)
{
    return ask(vm, "quit", NULL, on_done, (struct request){done, NULL, ctx}, e);
}

bool cg_qemu_block_resize(struct cg_vmm *vm, uint64_t bytes, cg_vmm_done *done, void *ctx,
                          struct cg_err *e)
{
    char arguments[80];
    cg_snprintf(arguments, sizeof arguments, "{\"node-name\":\"disk\",\"size\":%llu}",
                (unsigned long long)bytes);
    return ask(vm, "block_resize", arguments, on_done, (struct request){done, NULL, ctx}, e);
}
