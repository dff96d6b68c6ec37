/* The warden's view of a running QEMU: names of QMP become words of vmm.h. Each request carries its
 * caller's callback in a small heap object that lives until the answer. */
#include "vmm/qemu/qemu.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/qemu/qmp.h"

enum { ANSWER_MS = 10000, LOOKS = 1000 };

struct qemu {
    struct cg_vmm vm; /* first: what the interface hands around */
    struct cg_qmp *qmp;
    struct cg_vmm_handlers h;
    void *ctx;
    bool destroyed;
    struct {
        bool on, saving;
        int fd; /* until the VMM has it */
        unsigned looks;
        cg_vmm_done *done;
        void *ctx;
    } move; /* a save or restore under way */
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

static void end_move(struct qemu *q, const struct cg_err *err)
{
    if (!q->move.on)
        return;
    q->move.on = false;
    cg_drop_fd(&q->move.fd);
    q->move.done(q->move.ctx, err);
}

static void look_again(struct qemu *q);

/* "completed" is told before the VMM has tidied up after a save, and until then it refuses to go
 * on. Each question is a turn of its main loop, in one of which it does. */
static void on_tidy(void *ctx, const struct cg_json *result, const struct cg_err *err)
{
    struct qemu *q = ctx;
    if (!err && q->move.looks++ < LOOKS &&
        cg_streq(cg_json_str(result, "status"), "finish-migrate"))
        look_again(q);
    else
        end_move(q, err);
}

static void look_again(struct qemu *q)
{
    struct cg_err e = CG_ERR_INIT;
    if (q->move.on && !cg_qmp_command(q->qmp, "query-status", NULL, ANSWER_MS, on_tidy, q, &e))
        end_move(q, &e);
}

static void on_migration(struct qemu *q, const char *status)
{
    struct cg_err e = CG_ERR_INIT;
    if (cg_streq(status, "completed") && q->move.saving) {
        q->move.looks = 0;
        look_again(q);
    } else if (cg_streq(status, "completed")) {
        end_move(q, NULL);
    } else if (cg_streq(status, "failed") || cg_streq(status, "cancelled")) {
        cg_fail(&e, CG_IO, "the VMM could not %s the guest's state",
                q->move.saving ? "save" : "restore");
        end_move(q, &e);
    }
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
    if (strcmp(name, "MIGRATION") == 0) {
        on_migration(q, cg_json_str(data, "status"));
        return;
    }
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
    struct cg_err closed = *why;
    closed.code = CG_CLOSED;
    end_move(q, &closed);
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

void cg_qemu_hand_over(struct cg_vmm *vm, const struct cg_vmm_handlers *h, void *ctx)
{
    struct qemu *q = of(vm);
    q->h = *h;
    q->ctx = ctx;
}

void cg_qemu_destroy(struct cg_vmm *vm)
{
    struct qemu *q = of(vm);
    if (q->destroyed) /* from a result that this very call is delivering */
        return;
    q->destroyed = true;
    q->h = (struct cg_vmm_handlers){.on_gone = NULL};
    cg_qmp_destroy(q->qmp);
    struct cg_err closed = CG_ERR_INIT;
    cg_fail(&closed, CG_CLOSED, "the connection to the VMM was ended");
    end_move(q, &closed);
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

/* --- save and restore ---
 *
 * Both are a migration through a descriptor: capabilities, parameters, getfd, then the move itself,
 * whose end is an event. x-ignore-shared leaves memory out that both sides have in the same file.
 */

static void on_step(void *ctx, const struct cg_json *result, const struct cg_err *err)
{
    (void)result;
    if (err)
        end_move(ctx, err);
}

static void step(struct qemu *q, const char *name, const char *arguments, cg_qmp_done *answer)
{
    struct cg_err e = CG_ERR_INIT;
    if (q->move.on && !cg_qmp_command(q->qmp, name, arguments, ANSWER_MS, answer, q, &e))
        end_move(q, &e);
}

static void on_capable(void *ctx, const struct cg_json *result, const struct cg_err *err)
{
    struct qemu *q = ctx;
    struct cg_err e = CG_ERR_INIT;
    (void)result;
    if (!q->move.on)
        return;
    if (err || !cg_qmp_send_fd(q->qmp, q->move.fd, &e)) {
        end_move(q, err ? err : &e);
        return;
    }
    cg_drop_fd(&q->move.fd);
    step(q, "getfd", "{\"fdname\":\"state\"}", on_step);
    if (q->move.saving) /* in bytes a second: no limit */
        step(q, "migrate-set-parameters", "{\"max-bandwidth\":1099511627776}", on_step);
    step(q, q->move.saving ? "migrate" : "migrate-incoming", "{\"uri\":\"fd:state\"}", on_step);
}

bool cg_qemu_move(struct cg_vmm *vm, int fd, bool saving, bool without_ram, cg_vmm_done *done,
                  void *ctx, struct cg_err *e)
{
    struct qemu *q = of(vm);
    char arguments[200];
    cg_snprintf(arguments, sizeof arguments,
                "{\"capabilities\":[{\"capability\":\"events\",\"state\":true},"
                "{\"capability\":\"x-ignore-shared\",\"state\":%s}]}",
                without_ram ? "true" : "false");
    if (q->move.on) {
        close(fd);
        return cg_fail(e, CG_CONFLICT, "the VMM is being saved or restored already");
    }
    if (!cg_qmp_command(q->qmp, "migrate-set-capabilities", arguments, ANSWER_MS, on_capable, q,
                        e)) {
        close(fd);
        return false;
    }
    q->move.on = true;
    q->move.saving = saving;
    q->move.fd = fd;
    q->move.done = done;
    q->move.ctx = ctx;
    return true;
}
