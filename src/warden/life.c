/* The states of a sandbox, and their ends:
 *
 *   pending --start--> booting --setup answered--> running --stop--> stopping --> destroyed
 *                         |                           |                 |
 *                         +-------- failure ----------+------> error <--+ (never: a stop ends)
 *
 * A running one may also be paused: its state is saved, the warden ends, and the next warden of
 * this sandbox restores it. Whatever ends it, the last lines are made durable before anybody is
 * answered, then the loop ends. Failures are only noted where they happen (deep inside the link,
 * say) and acted upon from the tick. The keeper ends the VMM with the warden; asking the VMM to
 * stop is the polite half. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "warden/secrets.h"
#include "warden/trust.h"
#include "warden/up.h"

enum { GONE_MS = 300, KILL_MS = 3000, OVER_MS = 1000, GRACE_MORE_MS = 3000, SETTLE_MS = 5000 };

#define MS INT64_C(1000000)

/* Somebody who waits for the start or the stop. */
struct starter {
    struct starter *next;
    struct starter **list;
    struct up up;
};

const char *life_state_name(const struct warden *w)
{
    static const char *const names[] = {"pending",   "pending", "running", "stopping",
                                        "destroyed", "error",   "paused"};
    return names[w->state];
}

void warden_active(struct warden *w)
{
    w->activity_mono = cg_mono_ns();
    w->activity_wall = cg_wall_ns();
}

/* --- waiters --- */

static void on_waiter_cancel(struct up *u, bool lost)
{
    struct starter *s = CG_CONTAINER(u, struct starter, up);
    struct starter **at = s->list;
    (void)lost;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    up_close(u, cg_slice_of("{}"));
    free(s);
}

static const struct up_ops waiter_ops = {.on_cancel = on_waiter_cancel};

static void add_waiter(struct starter **list, struct conn *c, struct cg_link_stream *stream)
{
    struct starter *s = cg_alloc(sizeof *s);
    s->list = list;
    s->next = *list;
    *list = s;
    up_init(&s->up, &waiter_ops, c, stream);
    up_accept(&s->up, cg_slice_of("{}"));
}

static void answer_waiters(struct starter **list, struct cg_slice result)
{
    while (*list) {
        struct starter *s = *list;
        *list = s->next;
        up_close(&s->up, result);
        free(s);
    }
}

static void tell_progress(struct warden *w, const char *phase)
{
    char text[64];
    cg_snprintf(text, sizeof text, "{\"progress\":\"%s\"}", phase);
    for (struct starter *s = w->starters; s; s = s->next) {
        cg_link_control(s->up.s, cg_slice_of(text));
        up_kick(&s->up);
    }
}

/* --- lines of the record --- */

static struct cg_jsonw *lifecycle(struct warden *w, const char *event)
{
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_LIFECYCLE, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", event);
    commit_now(&w->commit);
    return j;
}

/* --- start --- */

static void answer_started(struct warden *w)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    status_guest(w, &j);
    cg_jsonw_obj_end(&j);
    answer_waiters(&w->starters, cg_buf_slice(&b));
}

static void on_vmm_event(void *ctx, enum cg_vmm_event event)
{
    static const char *const texts[] = {
        [CG_VMM_EVENT_PAUSED] = NULL,
        [CG_VMM_EVENT_RESUMED] = NULL,
        [CG_VMM_EVENT_GUEST_OFF] = "the guest shut itself down",
        [CG_VMM_EVENT_GUEST_RESET] = "the guest reset itself",
        [CG_VMM_EVENT_GUEST_PANIC] = "the guest's kernel panicked",
        [CG_VMM_EVENT_DISK_ERROR] = "the guest's disk failed on the host",
    };
    struct warden *w = ctx;
    const char *text = texts[event];
    if (!text || w->state == W_STOPPING)
        return;
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_UNAVAILABLE, "%s", text);
    life_fail(w, CG_WARDEN_VMM_DIED, &e);
}

static void on_vmm_gone(void *ctx, const struct cg_err *why)
{
    struct warden *w = ctx;
    struct cg_err e = *why;
    w->vmm_gone = true;
    cg_vmm_destroy(w->vmm);
    w->vmm = NULL;
    warden_want_tick(w);
    if (w->state == W_STOPPING)
        return;
    cg_fail(&e, CG_UNAVAILABLE, "the VMM ended: %.150s", why->text);
    life_guest_gone(w, &e);
}

static const struct cg_vmm_handlers vmm_handlers = {on_vmm_event, on_vmm_gone};

static void on_resumed(void *ctx, const struct cg_err *err)
{
    struct warden *w = ctx;
    if (err && w->state == W_BOOTING)
        cg_log(CG_LOG_WARN, CG_EVENT("vmm.resume_failed"), CG_E(err));
}

static bool attach_vmm(struct warden *w, struct cg_err *e)
{
    if (w->fds.restored) {
        w->vmm = CG_MOVE(w->fds.restored);
        cg_vmm_hand_over(w->vmm, &vmm_handlers, w);
        return cg_vmm_resume(w->vmm, on_resumed, w, e);
    }
    if (w->fds.vmm < 0)
        return true;
    const char *name = w->config.driver[0] ? w->config.driver : NULL;
    const struct cg_vmm_driver *driver = cg_vmm_driver(name);
    if (!driver)
        return cg_fail(e, CG_INVALID, "there is no VMM driver \"%s\"", w->config.driver);
    int fd = w->fds.vmm;
    w->fds.vmm = -1;
    w->vmm = cg_vmm_attach(w->loop, driver, fd, &vmm_handlers, w, e);
    if (!w->vmm)
        return false;
    return w->config.restore ? golden_restore(w, e) : cg_vmm_resume(w->vmm, on_resumed, w, e);
}

static void boot(struct warden *w)
{
    struct cg_err e = CG_ERR_INIT;
    w->state = W_BOOTING;
    w->start_mono = cg_mono_ns();
    w->deadline = w->start_mono + (int64_t)w->config.boot_ms * MS;
    lifecycle(w, "booting");
    cg_record_end(w->record);
    tell_progress(w, "booting");
    warden_want_tick(w);
    if (!attach_vmm(w, &e) || !guest_start(w, &e))
        life_fail(w, CG_WARDEN_NO_BOOT, &e);
}

void life_start(struct warden *w, struct conn *c, struct cg_link_stream *s,
                const struct cg_json *request)
{
    struct cg_err e = CG_ERR_INIT;
    if (w->state == W_STOPPING) {
        refuse(c, s, CG_CONFLICT, "the sandbox is being stopped");
        return;
    }
    if (!secrets_start(w, request, &e) || !llm_intercept(w, &e)) {
        refuse(c, s, e.code, e.text);
        return;
    }
    add_waiter(&w->starters, c, s);
    warden_active(w);
    if (w->state == W_PENDING)
        boot(w);
    else if (w->state == W_RUNNING)
        answer_started(w);
}

static void on_started_durable(struct commit_wait *wait)
{
    struct warden *w = CG_CONTAINER(wait, struct warden, started_wait);
    if (w->state == W_RUNNING)
        answer_started(w);
}

void life_up(struct warden *w)
{
    w->state = W_RUNNING;
    w->deadline = 0;
    w->boot_ns = cg_mono_ns() - w->start_mono;
    w->started_wall = cg_wall_ns();
    llm_running(w, true);
    warden_active(w);
    freeze_over(w);
    struct cg_jsonw *j = lifecycle(w, w->config.same ? "resumed" : "started");
    status_guest(w, j);
    uint64_t seq = cg_record_end(w->record);
    cg_log(CG_LOG_INFO, CG_EVENT("sandbox.started"), CG_I("boot_ms", w->boot_ns / 1000000));
    w->started_wait.done = on_started_durable;
    commit_wait(&w->commit, &w->started_wait, seq);
}

void life_golden(struct warden *w)
{
    w->deadline = 0;
    lifecycle(w, "saved");
    cg_record_end(w->record);
    answer_waiters(&w->starters, cg_slice_of("{}"));
}

/* --- pause --- */

void life_pause(struct warden *w, struct conn *c, struct cg_link_stream *s,
                const struct cg_json *request)
{
    struct cg_err e = CG_ERR_INIT;
    const char *reason = cg_json_str(request, "reason");
    if (!w->pausers && !freeze_pause(w, &e)) {
        refuse(c, s, e.code, e.text);
        return;
    }
    (void)cg_strlcpy(w->stop_reason, sizeof w->stop_reason, reason ? reason : "request");
    add_waiter(&w->pausers, c, s);
}

void life_second(struct warden *w)
{
    struct cg_err e = CG_ERR_INIT;
    if (w->config.idle_s == 0 || w->state != W_RUNNING || w->freeze)
        return;
    if (pass_busy(w))
        warden_active(w);
    if (cg_mono_ns() - w->activity_mono < (int64_t)w->config.idle_s * 1000 * MS)
        return;
    if (freeze_pause(w, &e))
        (void)cg_strlcpy(w->stop_reason, sizeof w->stop_reason, "idle");
    else
        cg_log(CG_LOG_WARN, CG_EVENT("idle.pause_failed"), CG_E(&e));
    warden_active(w); /* the next try, if it fails, is not at once */
}

void life_pause_failed(struct warden *w, const struct cg_err *why)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    error_write(&b, why->code, why->text);
    answer_waiters(&w->pausers, cg_buf_slice(&b));
}

void life_paused(struct warden *w)
{
    w->state = W_PAUSED;
    warden_want_tick(w);
}

/* --- failure --- */

void life_fail(struct warden *w, int exit_code, const struct cg_err *why)
{
    if (w->state == W_ERROR || w->state == W_DESTROYED || w->state == W_STOPPING ||
        w->state == W_PAUSED)
        return;
    w->state = W_ERROR;
    w->error = *why;
    w->exit_code = exit_code;
    w->deadline = 0;
    cg_log(CG_LOG_ERROR, CG_EVENT("sandbox.failed"), CG_E(why));
    warden_want_tick(w);
}

void life_guest_gone(struct warden *w, const struct cg_err *why)
{
    warden_want_tick(w);
    if (w->state != W_BOOTING && w->state != W_RUNNING)
        return;
    if (w->guest.garbled) {
        struct cg_err e = *why;
        cg_wrap(&e, "the guest broke the link's rules");
        life_fail(w, CG_WARDEN_BAD_GUEST, &e);
    } else if (!w->gone_at) {
        /* the VMM may yet say why */
        w->gone_at = cg_mono_ns() + GONE_MS * MS;
        w->gone = *why;
    }
}

static void tell_gone(struct warden *w)
{
    struct cg_err e = w->gone;
    cg_wrap(&e, w->state == W_BOOTING ? "the guest ended while it booted" : "the guest ended");
    life_fail(w, CG_WARDEN_VMM_DIED, &e);
}

static void no_boot(struct warden *w)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_TIMEOUT, "the guest did not %s within %u ms",
            w->guest.hello ? "finish its setup" : "answer", (unsigned)w->config.boot_ms);
    life_fail(w, CG_WARDEN_NO_BOOT, &e);
}

/* --- the end --- */

/* Everything but the last line; then the score reads it. True once the last line may come. */
static bool settle(struct warden *w)
{
    int64_t now = cg_mono_ns();
    if (!w->settle_at) {
        freeze_end(w);
        guest_close(w); /* streams end, exits are recorded */
        llm_close(w);
        secrets_close(w);
        cg_egress_destroy(w->egress);
        w->egress = NULL;
        observe_second(w);
        contents_close(w->contents);
        bool broke = w->state == W_ERROR || cg_streq(w->stop_reason, "budget_exceeded");
        if (w->state != W_PAUSED)
            sessions_close(w->sessions, broke, w->state == W_ERROR ? "error" : w->stop_reason);
        cg_record_tick(w->record, true);
        commit_now(&w->commit);
        w->settle_at = now + SETTLE_MS * MS;
    }
    return trust_settled(w) || now >= w->settle_at;
}

static void last_lines(struct warden *w)
{
    if (!settle(w))
        return;
    if (w->state == W_ERROR) {
        struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_ERROR, CG_SRC_HOST, NULL);
        cg_jsonw_kstr(j, "code", cg_code_name(w->error.code));
        cg_jsonw_kstr(j, "text", w->error.text);
        cg_jsonw_key(j, "console");
        console_write(w, j);
        cg_record_end(w->record);
        cg_record_tick(w->record, true);
    } else if (w->state == W_PAUSED) {
        cg_record_tick(w->record, true);
        struct cg_jsonw *j = lifecycle(w, "paused");
        cg_jsonw_kstr(j, "reason", w->stop_reason);
        cg_record_end(w->record);
    } else {
        w->state = W_DESTROYED;
        cg_record_tick(w->record, true);
        struct cg_jsonw *j = lifecycle(w, "destroyed");
        cg_jsonw_kstr(j, "reason", w->stop_reason);
        cg_jsonw_kuint(j, "exec_count", w->exec_count);
        if (w->started_wall)
            cg_jsonw_kint(j, "ran_ms", (cg_mono_ns() - w->start_mono - w->boot_ns) / MS);
        cg_record_end(w->record);
    }
    commit_now(&w->commit);
    w->final = true;
    w->deadline = cg_mono_ns() + OVER_MS * 5 * MS;
}

static void answer_all(struct warden *w)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    if (w->state == W_ERROR)
        error_write(&b, w->error.code, w->error.text);
    else
        error_write(&b, CG_CONFLICT, "the sandbox was stopped");
    answer_waiters(&w->starters, cg_buf_slice(&b));
    answer_waiters(&w->pausers, w->state == W_PAUSED ? cg_slice_of("{}") : cg_buf_slice(&b));
    answer_waiters(&w->stoppers, w->state == W_ERROR ? cg_buf_slice(&b) : cg_slice_of("{}"));
    tailing_progress(w);
    w->over = true;
    w->deadline = cg_mono_ns() + OVER_MS * MS;
}

/* --- stop --- */

void life_stop_now(struct warden *w, const char *reason)
{
    if (w->state == W_STOPPING || w->state == W_DESTROYED || w->state == W_ERROR ||
        w->state == W_PAUSED)
        return;
    bool up = w->guest.ready && !w->freeze; /* a frozen guest hears nothing */
    (void)cg_strlcpy(w->stop_reason, sizeof w->stop_reason, reason);
    w->state = W_STOPPING;
    struct cg_jsonw *j = lifecycle(w, "stopping");
    cg_jsonw_kstr(j, "reason", w->stop_reason);
    cg_record_end(w->record);
    w->deadline = cg_mono_ns();
    if (up) {
        guest_poweroff(w, w->stop_grace_ms);
        w->deadline += (w->stop_grace_ms + GRACE_MORE_MS) * MS;
    }
    warden_want_tick(w);
}

void life_stop(struct warden *w, struct conn *c, struct cg_link_stream *s,
               const struct cg_json *request)
{
    const char *reason = cg_json_str(request, "reason");
    int64_t grace = cg_json_int(request, "grace_ms", w->config.grace_ms);
    add_waiter(&w->stoppers, c, s);
    w->stop_grace_ms = CG_MAX(0, CG_MIN(grace, 600000));
    char text[sizeof w->stop_reason];
    (void)cg_strlcpy(text, sizeof text, reason ? reason : "request");
    life_stop_now(w, text);
}

static void on_vmm_stopped(void *ctx, const struct cg_err *err)
{
    (void)ctx;
    (void)err; /* what counts is that the control connection ends */
}

/* Power off, then pull the plug, then go on without. */
static void stopping(struct warden *w, int64_t now)
{
    bool guest_gone = !w->guest.link;
    bool vmm_there = w->vmm && !w->vmm_gone;
    if (!guest_gone && now < w->deadline)
        return;
    if (vmm_there && !w->stop_killed) {
        struct cg_err e = CG_ERR_INIT;
        w->stop_killed = true;
        w->deadline = now + KILL_MS * MS;
        if (!cg_vmm_stop(w->vmm, on_vmm_stopped, w, &e))
            cg_log(CG_LOG_WARN, CG_EVENT("vmm.stop_failed"), CG_E(&e));
        return;
    }
    if (!vmm_there || now >= w->deadline)
        last_lines(w);
}

void life_tick(struct warden *w, int64_t now)
{
    if (w->over) {
        if (conns_drained(w) || now >= w->deadline)
            uv_stop(w->loop);
    } else if (w->final) {
        if (commit_idle(&w->commit) || now >= w->deadline)
            answer_all(w);
    } else if (w->state == W_ERROR || w->state == W_PAUSED) {
        last_lines(w);
    } else if (w->state == W_STOPPING) {
        stopping(w, now);
    } else if (w->golden_at) {
        golden_tick(w, now);
    } else if (w->gone_at && now >= w->gone_at) {
        tell_gone(w);
    } else if (w->state == W_BOOTING && w->deadline && now >= w->deadline) {
        no_boot(w);
    } else {
        freeze_tick(w, now);
    }
}

bool life_wants_tick(const struct warden *w)
{
    return w->state != W_PENDING && (w->state != W_RUNNING || w->gone_at || w->freeze);
}
