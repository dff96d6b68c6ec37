/* The ends of a sandbox: on request, by failure, found dead at a start. Whatever the way, the
 * keeper ends first (everything that runs), then the files go, the record moves to the archive, and
 * the row gets its final state. Nothing here waits for ever: a keeper that does not end is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/archive.h"
#include "core/creation.h"
#include "core/leases.h"
#include "core/providers.h"
#include "core/scores.h"
#include "jail/jail.h"

enum { STOP_MS = 12000, POLL_MS = 100, GRACE_MS = 2000, KILLS_MAX = 50 };
enum { RECONNECT_MS = 200, RECONNECTS_MAX = 15 };

struct ending {
    struct cg_sandbox *sb;
    enum cg_status to;
    char reason[64];
    struct cg_wcall call;
    uv_timer_t timer;
    uv_work_t work;
    struct cg_archive archive;
    int64_t deadline_ns;
    unsigned kills;
    bool cleaning; /* files are being removed */
};

/* --- the warden's connection --- */

struct retry {
    struct cg_sandbox *sb;
    uv_timer_t timer;
};

static void free_retry(uv_handle_t *h)
{
    free(CG_CONTAINER(h, struct retry, timer));
}

static int keeper_pid(const struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_free) char *run = cg_run_path(sb->core, sb->id, NULL);
    CG_OWN(cg_drop_fd) int dir = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int pid = 0;
    return dir >= 0 && cg_jail_keeper_of(dir, &pid, NULL) ? pid : 0;
}

static void lost(struct cg_sandbox *sb, const char *text, const char *reason)
{
    cg_fail(&sb->error, CG_CLOSED, "%s", text);
    cg_core_end(sb, CG_STATUS_ERROR, reason);
}

/* The warden hung up: it ends, and its keeper will say so (or its lock is free, for one adopted
 * from an earlier server), or only the connection broke, and it takes another one. True when done.
 */
static bool retry_now(struct cg_sandbox *sb)
{
    if (sb->warden || sb->destroying || sb->creating || sb->pausing || sb->core->stopping ||
        sb->status != CG_STATUS_RUNNING)
        return true;
    if (sb->keeper_sock < 0 && keeper_pid(sb) == 0 && cg_pause_whole(sb)) {
        cg_pause_done(sb);
        return true;
    }
    if (sb->keeper_sock < 0 && keeper_pid(sb) == 0) {
        lost(sb, "its keeper and warden ended", "died");
        return true;
    }
    if (cg_sandbox_connect(sb, NULL)) {
        cg_log(CG_LOG_INFO, CG_EVENT("warden.reconnected"), CG_S("id", sb->id));
        cg_sandbox_changed(sb); /* streams go on */
        return true;
    }
    if (++sb->reconnects <= RECONNECTS_MAX)
        return false;
    lost(sb, "its warden does not answer any more", "warden_silent");
    return true;
}

static void on_retry(uv_timer_t *timer)
{
    struct retry *r = CG_CONTAINER(timer, struct retry, timer);
    if (retry_now(r->sb))
        uv_close((uv_handle_t *)timer, free_retry);
}

static void on_warden_down(void *ctx, const struct cg_err *why)
{
    struct cg_sandbox *sb = ctx;
    sb->warden = NULL;
    if (sb->creating) {
        cg_creation_failed(sb, why);
        return;
    }
    if (sb->destroying || sb->pausing || sb->core->stopping)
        return;
    struct retry *r = cg_alloc(sizeof *r);
    r->sb = sb;
    sb->reconnects = 0;
    uv_timer_init(sb->core->loop, &r->timer);
    uv_timer_start(&r->timer, on_retry, RECONNECT_MS, RECONNECT_MS);
}

bool cg_sandbox_connect(struct cg_sandbox *sb, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_run_path(sb->core, sb->id, "w.sock");
    sb->warden = cg_wclient_connect(sb->core->loop, path, on_warden_down, sb, e);
    if (sb->warden) {
        cg_costs_watch(sb);
        cg_scores_watch(sb);
    }
    return sb->warden != NULL;
}

/* --- the keeper's socket --- */

static void hurry(struct ending *n);

static void free_poll(uv_handle_t *h)
{
    free(h);
}

static void drop_keeper(struct cg_sandbox *sb)
{
    if (sb->keeper_poll) {
        uv_poll_stop(sb->keeper_poll);
        uv_close((uv_handle_t *)sb->keeper_poll, free_poll);
        sb->keeper_poll = NULL;
    }
    cg_drop_fd(&sb->keeper_sock);
}

static const char *cause_text(const struct cg_jail_end *end)
{
    switch (end->cause) {
    case CG_JAIL_WARDEN_ENDED:
        return "its warden ended";
    case CG_JAIL_VMM_ENDED:
        return "its VMM ended";
    case CG_JAIL_KILLED:
        return "it was killed";
    default:
        return "its keeper broke";
    }
}

static void note_end(struct cg_sandbox *sb, const struct cg_jail_end *end)
{
    sb->jail_cause = end->cause;
    if (sb->destroying || sb->error.code != CG_OK)
        return;
    if (WIFSIGNALED(end->status))
        cg_fail(&sb->error, CG_CLOSED, "%s by signal %d", cause_text(end), WTERMSIG(end->status));
    else
        cg_fail(&sb->error, CG_CLOSED, "%s with status %d", cause_text(end),
                WEXITSTATUS(end->status));
}

static void keeper_gone(struct cg_sandbox *sb)
{
    drop_keeper(sb);
    if (sb->destroying) {
        hurry(sb->work);
        return;
    }
    if (!sb->creating && cg_pause_whole(sb)) { /* also one that its warden paused by itself */
        cg_pause_done(sb);
        return;
    }
    struct cg_err e = CG_ERR_INIT;
    if (sb->error.code == CG_OK)
        cg_fail(&sb->error, CG_CLOSED, "its keeper was killed");
    e = sb->error;
    if (sb->creating) {
        cg_creation_keeper_gone(sb, &e);
        return;
    }
    cg_core_end(sb, CG_STATUS_ERROR, "died");
}

static void on_keeper(uv_poll_t *poll, int status, int events)
{
    struct cg_sandbox *sb = poll->data;
    (void)status;
    (void)events;
    char message[1024];
    size_t n = 0;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_fd_recv(sb->keeper_sock, message, sizeof message, &n, NULL, 0, NULL, &e)) {
        if (e.sys != EAGAIN)
            keeper_gone(sb);
        return;
    }
    struct cg_jail_end end;
    if (n == sizeof end) {
        memcpy(&end, message, sizeof end);
        if (end.magic == CG_JAIL_MAGIC)
            note_end(sb, &end);
        return;
    }
    cg_creation_keeper_said(sb, message, n);
}

void cg_sandbox_watch_keeper(struct cg_sandbox *sb, int sock)
{
    sb->keeper_sock = sock;
    if (!cg_fd_set_nonblock(sock, true, NULL))
        return;
    sb->keeper_poll = cg_alloc(sizeof *sb->keeper_poll);
    sb->keeper_poll->data = sb;
    uv_poll_init(sb->core->loop, sb->keeper_poll, sock);
    uv_poll_start(sb->keeper_poll, UV_READABLE, on_keeper);
}

static void clean_work(uv_work_t *work)
{
    struct ending *n = CG_CONTAINER(work, struct ending, work);
    cg_archive_run(&n->archive);
}

static void on_timer_closed(uv_handle_t *h)
{
    free(CG_CONTAINER(h, struct ending, timer));
}

static void on_row(void *ctx, const struct cg_err *err)
{
    struct cg_sandbox *sb = ctx;
    sb->destroying = false;
    cg_log(CG_LOG_INFO, CG_EVENT("sandbox.ended"), CG_S("id", sb->id),
           CG_S("status", cg_status_name(sb->status)));
    cg_sandbox_tell(sb, &sb->create_waiters, sb->error.code != CG_OK ? &sb->error : err);
    cg_sandbox_tell(sb, &sb->pause_waiters, sb->error.code != CG_OK ? &sb->error : err);
    cg_sandbox_tell(sb, &sb->destroy_waiters, err);
}

/* Of a helper nothing is left, not even its row. */
static void end_helper(struct cg_sandbox *sb)
{
    cg_sandbox_tell(sb, &sb->create_waiters, sb->error.code != CG_OK ? &sb->error : NULL);
    cg_spec_finish(&sb->spec);
    free(sb->console_tail);
    free(sb->init_tail);
    free(sb->base_path);
    free(sb->score);
    free(sb);
}

static void cleaned(uv_work_t *work, int status)
{
    struct ending *n = CG_CONTAINER(work, struct ending, work);
    struct cg_sandbox *sb = n->sb;
    (void)status;
    if (n->to == CG_STATUS_ERROR) {
        struct cg_archive *a = &n->archive;
        if (a->found.code != CG_OK) { /* the warden knew why */
            struct cg_err outer = sb->error;
            cg_fail(&sb->error, a->found.code, "%s (%s)", a->found.text, outer.text);
        }
        cg_sandbox_text(&sb->console_tail, a->console);
    }
    if (n->archive.counted) {
        sb->llm_nusd = n->archive.llm_nusd;
        sb->compute_nusd = n->archive.compute_nusd;
        sb->llm_tokens = n->archive.tokens;
    }
    cg_leases_ended(sb, n->archive.counted ? n->archive.committed_nusd : -1);
    cg_archive_finish(&n->archive);
    sb->core->slots[sb->slot] = 0;
    sb->slot = 0;
    sb->work = NULL;
    enum cg_status to = n->to;
    uv_close((uv_handle_t *)&n->timer, on_timer_closed);
    cg_sandbox_set_status(sb, to);
    if (sb->helper)
        end_helper(sb);
    else
        cg_sandbox_save(sb, on_row, sb);
}

static void clean(struct ending *n)
{
    if (n->cleaning)
        return;
    n->cleaning = true;
    uv_timer_stop(&n->timer);
    cg_wcall_forget(&n->call);
    cg_wclient_destroy(n->sb->warden);
    n->sb->warden = NULL;
    drop_keeper(n->sb);
    cg_archive_init(&n->archive, n->sb, n->to == CG_STATUS_ERROR, n->reason);
    uv_queue_work(n->sb->core->loop, &n->work, clean_work, cleaned);
}

/* --- stopping --- */

void cg_jail_kill(const struct cg_sandbox *sb)
{
    struct cg_jail_request r = {.magic = CG_JAIL_MAGIC, .size = sizeof r, .op = CG_JAIL_KILL};
    r.slot = sb->slot;
    cg_strlcpy(r.id, sizeof r.id, sb->id);
    struct cg_err e = CG_ERR_INIT;
    if (!cg_jail_send(sb->core->broker, &r, NULL, 0, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("jail.kill_failed"), CG_S("id", sb->id), CG_E(&e));
}

static void on_timer(uv_timer_t *timer)
{
    struct ending *n = CG_CONTAINER(timer, struct ending, timer);
    bool gone = n->sb->keeper_sock < 0 && keeper_pid(n->sb) == 0;
    if (!gone && n->kills > KILLS_MAX)
        cg_log(CG_LOG_ERROR, CG_EVENT("keeper.unkillable"), CG_S("id", n->sb->id));
    if (gone || n->kills > KILLS_MAX) {
        clean(n);
        return;
    }
    if (cg_mono_ns() < n->deadline_ns)
        return;
    n->kills++;
    n->deadline_ns = cg_mono_ns() + (int64_t)1000000000;
    cg_jail_kill(n->sb);
}

/* The keeper is gone: no need to wait for the next look. */
static void hurry(struct ending *n)
{
    if (!n->cleaning)
        uv_timer_start(&n->timer, on_timer, 0, POLL_MS);
}

static void on_stopped(struct cg_wcall *call, const struct cg_json *result,
                       const struct cg_err *error)
{
    struct ending *n = CG_CONTAINER(call, struct ending, call);
    (void)result;
    if (error && !n->cleaning)
        n->deadline_ns = CG_MIN(n->deadline_ns, cg_mono_ns() + (int64_t)2000000000);
}

static bool ask_to_stop(struct ending *n)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 512);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "stop");
    cg_jsonw_kstr(&w, "reason", n->reason);
    cg_jsonw_kint(&w, "grace_ms", n->to == CG_STATUS_DESTROYED ? 500 : GRACE_MS);
    cg_jsonw_obj_end(&w);
    n->call.on_close = on_stopped;
    return n->sb->warden && cg_wcall_open(n->sb->warden, &n->call, cg_buf_slice(&b), NULL);
}

void cg_core_end(struct cg_sandbox *sb, enum cg_status to, const char *reason)
{
    if (sb->destroying)
        return;
    sb->destroying = true;
    struct ending *n = cg_alloc(sizeof *n);
    n->sb = sb;
    n->to = to;
    cg_strlcpy(n->reason, sizeof n->reason, reason);
    if (to == CG_STATUS_ERROR && sb->error.code == CG_OK)
        cg_fail(&sb->error, CG_CLOSED, "%s", reason);
    sb->work = n;
    uv_timer_init(sb->core->loop, &n->timer);
    /* one that failed is not asked but ended: its warden has said what it had to say */
    bool asked = ask_to_stop(n);
    n->deadline_ns = cg_mono_ns() + (asked ? (int64_t)STOP_MS * 1000000 : 0);
    uv_timer_start(&n->timer, on_timer, 1, POLL_MS);
}

void cg_core_destroy(struct cg_sandbox *sb, const char *reason, cg_sandbox_done *done, void *ctx)
{
    cg_sandbox_wait(&sb->destroy_waiters, done, ctx);
    if (sb->destroying)
        return; /* told when that ends */
    if (sb->creating) {
        struct cg_creation *n = sb->work;
        struct cg_err e = CG_ERR_INIT;
        cg_fail(&e, CG_CONFLICT, "destroyed while it was made");
        sb->doomed = true;
        if (!n->working) /* else files are being made: it ends right behind them */
            cg_creation_failed(sb, &e);
        return;
    }
    if (sb->status == CG_STATUS_ERROR || sb->status == CG_STATUS_DESTROYED) {
        cg_sandbox_set_status(sb, CG_STATUS_DESTROYED);
        cg_sandbox_save(sb, on_row, sb);
        return;
    }
    cg_core_end(sb, CG_STATUS_DESTROYED, reason);
}
