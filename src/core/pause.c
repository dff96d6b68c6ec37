/* Pause and resume. A paused sandbox is its directory: the disk, the saved guest (vm.state), the
 * record, and pause.json, which the warden writes last and the next one removes when the guest runs
 * again. So whoever finds a directory with pause.json and no keeper knows what it is, whatever was
 * killed in between. It keeps its slot: its files belong to the slot's uid. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/creation.h"
#include "core/leases.h"
#include "core/network.h"
#include "core/providers.h"
#include "core/reload.h"
#include "core/snapshots.h"

enum { END_MS = 5000, POLL_MS = 20 };

struct pausing {
    struct cg_sandbox *sb;
    struct cg_wcall call;
    uv_timer_t timer;
    int64_t deadline_ns; /* the keeper is killed then */
};

bool cg_pause_whole(const struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    CG_OWN(cg_drop_free) char *facts = cg_format("%s/pause.json", dir);
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", dir);
    return cg_fs_exists(facts) && cg_fs_exists(state);
}

bool cg_pause_of_other(const struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/pause.json", dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    if (!cg_fs_slurp(path, 4096, &text, NULL, NULL))
        return false;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(text), NULL, NULL);
    return cg_json_bool(j, "other", false);
}

/* --- the snapshot of a pause --- */

struct older {
    const struct cg_snapshot *than;
    char found[CG_ID_TEXT];
};

static void find_older(void *ctx, const struct cg_snapshot *s)
{
    struct older *o = ctx;
    if (s != o->than && cg_streq(s->trigger, CG_SNAPSHOT_AUTO) && s->users == 0 &&
        s->status != CG_SNAPSHOT_PENDING)
        cg_strlcpy(o->found, sizeof o->found, s->id);
}

/* Its files as they were at the last pause: a later one takes the place of the earlier. */
static void on_kept(void *ctx, struct cg_snapshot *s, const struct cg_err *err)
{
    struct cg_sandbox *sb = ctx;
    struct cg_core *c = sb->core;
    if (err)
        cg_log(CG_LOG_WARN, CG_EVENT("pause.snapshot_failed"), CG_S("id", sb->id), CG_E(err));
    for (struct older o = {.than = s}; s && !err; o.found[0] = '\0') {
        struct cg_err e = CG_ERR_INIT;
        cg_snapshots_each(c, sb->account, sb->id, find_older, &o);
        struct cg_snapshot *old = o.found[0] ? cg_snapshot_find(c, o.found) : NULL;
        if (!old || !cg_snapshot_delete(c, old, NULL, NULL, &e))
            break;
    }
    cg_sandbox_tell(sb, &sb->pause_waiters, NULL);
}

static bool keep_files(struct cg_sandbox *sb)
{
    const struct cg_snapshot_order o = {.name = CG_SNAPSHOT_AUTO, .trigger = CG_SNAPSHOT_AUTO};
    struct cg_err e = CG_ERR_INIT;
    if (sb->core->options.pause_unsaved || sb->core->stopping ||
        cg_streq(sb->pause_reason, "restore")) /* no pause of anybody's */
        return false;
    if (cg_core_snapshot(sb, &o, on_kept, sb, &e))
        return true;
    cg_log(CG_LOG_WARN, CG_EVENT("pause.snapshot_failed"), CG_S("id", sb->id), CG_E(&e));
    return false;
}

/* --- pause --- */

static void on_row(void *ctx, const struct cg_err *err)
{
    struct cg_sandbox *sb = ctx;
    cg_log(CG_LOG_INFO, CG_EVENT("sandbox.paused"), CG_S("id", sb->id),
           CG_S("reason", sb->pause_reason));
    if (err || !keep_files(sb))
        cg_sandbox_tell(sb, &sb->pause_waiters, err);
}

struct syncing {
    uv_work_t work;
    struct cg_sandbox *sb;
    char *disk;
    struct cg_err err;
    bool ok;
};

static void sync_work(uv_work_t *work)
{
    struct syncing *n = CG_CONTAINER(work, struct syncing, work);
    CG_OWN(cg_drop_fd) int fd = open(n->disk, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    n->ok = (fd >= 0 && fsync(fd) == 0) || cg_fail_sys(&n->err, "sync %s", n->disk);
}

static void synced(uv_work_t *work, int status)
{
    struct syncing *n = CG_CONTAINER(work, struct syncing, work);
    struct cg_sandbox *sb = n->sb;
    (void)status;
    if (!n->ok)
        cg_log(CG_LOG_ERROR, CG_EVENT("disk.sync_failed"), CG_S("id", sb->id), CG_E(&n->err));
    free(n->disk);
    free(n);
    sb->pausing = sb->resting = false;
    if (sb->destroying)
        return;
    sb->paused_wall = cg_wall_ns();
    cg_sandbox_set_status(sb, CG_STATUS_PAUSED);
    cg_sandbox_save(sb, on_row, sb);
}

void cg_pause_done(struct cg_sandbox *sb)
{
    if (sb->resting) /* told by the end of its keeper and by the wait for it */
        return;
    sb->resting = true;
    if (!sb->pause_reason[0])
        cg_strlcpy(sb->pause_reason, sizeof sb->pause_reason, "idle");
    cg_wclient_destroy(sb->warden);
    sb->warden = NULL;
    sb->error = (struct cg_err)CG_ERR_INIT;
    sb->pausing = true;
    struct syncing *n = cg_alloc(sizeof *n);
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    n->sb = sb;
    n->disk = cg_format("%s/disk.img", dir);
    uv_queue_work(sb->core->loop, &n->work, sync_work, synced);
}

static void free_pausing(uv_handle_t *h)
{
    free(CG_CONTAINER(h, struct pausing, timer));
}

static void finish(struct pausing *n)
{
    cg_wcall_forget(&n->call);
    uv_close((uv_handle_t *)&n->timer, free_pausing);
}

/* Its warden has said that all is saved; its keeper ends now. */
static void on_timer(uv_timer_t *timer)
{
    struct pausing *n = CG_CONTAINER(timer, struct pausing, timer);
    struct cg_sandbox *sb = n->sb;
    if (sb->status != CG_STATUS_RUNNING || sb->destroying) { /* the end of the keeper was told */
        finish(n);
        return;
    }
    if (sb->keeper_sock < 0 && !cg_keeper_lives(sb)) {
        finish(n);
        cg_pause_done(sb);
        return;
    }
    if (cg_mono_ns() < n->deadline_ns)
        return;
    n->deadline_ns = cg_mono_ns() + (int64_t)END_MS * 1000000;
    cg_jail_kill(sb);
}

static void on_answer(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct pausing *n = CG_CONTAINER(call, struct pausing, call);
    struct cg_sandbox *sb = n->sb;
    (void)result;
    if (error && !(error->code == CG_CLOSED && cg_pause_whole(sb))) {
        struct cg_err e = *error;
        sb->pausing = false;
        sb->pause_reason[0] = '\0';
        finish(n);
        cg_wrap(&e, "pause sandbox %s", sb->id);
        cg_sandbox_tell(sb, &sb->pause_waiters, &e);
        return;
    }
    n->deadline_ns = cg_mono_ns() + (int64_t)END_MS * 1000000;
    uv_timer_start(&n->timer, on_timer, 0, POLL_MS);
}

bool cg_core_pause(struct cg_sandbox *sb, const char *reason, cg_sandbox_done *done, void *ctx,
                   struct cg_err *e)
{
    if (sb->status == CG_STATUS_PAUSED)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is paused already", sb->id);
    if (!cg_sandbox_usable(sb, e))
        return false;
    if (sb->creating || sb->snapshotting)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is %s", sb->id,
                       sb->creating ? "not whole yet" : "busy with a snapshot");
    if (sb->pausing) {
        cg_sandbox_wait(&sb->pause_waiters, done, ctx);
        return true;
    }
    char request[160];
    cg_snprintf(request, sizeof request, "{\"kind\":\"pause\",\"reason\":\"%s\"}", reason);
    struct pausing *n = cg_alloc(sizeof *n);
    n->sb = sb;
    n->call.on_close = on_answer;
    if (!cg_wcall_open(sb->warden, &n->call, cg_slice_of(request), e)) {
        free(n);
        return false;
    }
    uv_timer_init(sb->core->loop, &n->timer);
    sb->pausing = true;
    cg_strlcpy(sb->pause_reason, sizeof sb->pause_reason, reason);
    cg_sandbox_wait(&sb->pause_waiters, done, ctx);
    return true;
}

/* --- resume --- */

bool cg_core_resume(struct cg_sandbox *sb, cg_sandbox_done *done, void *ctx, struct cg_err *e)
{
    if (sb->core->stopping)
        return cg_fail(e, CG_UNAVAILABLE, "the server is stopping");
    if (sb->status != CG_STATUS_PAUSED)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is in state %s, not paused", sb->id,
                       cg_status_name(sb->status));
    if (sb->destroying)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is being ended", sb->id);
    if (sb->snapshotting) { /* its files are being copied: it goes on when they are */
        cg_sandbox_wait(&sb->create_waiters, done, ctx);
        sb->resume_wanted = true;
        return true;
    }
    sb->resume_wanted = false;
    if (sb->creating) { /* somebody else woke it a moment ago */
        cg_sandbox_wait(&sb->create_waiters, done, ctx);
        return true;
    }
    if (!cg_plan_admit(sb->core, sb->account, &sb->spec, e) ||
        !cg_admit_running(sb->core, sb->spec.cpus, sb->spec.memory_mb, sb, e))
        return false;
    cg_sandbox_wait(&sb->create_waiters, done, ctx);
    sb->leased = cg_leases_has(sb->core, sb->account);
    cg_creation_resume(sb);
    return true;
}

void cg_pause_settled(struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    if (!sb->resume_wanted || sb->snapshotting)
        return;
    sb->resume_wanted = false;
    if (!cg_core_resume(sb, NULL, NULL, &e))
        cg_sandbox_tell(sb, &sb->create_waiters, &e);
}

/* Its configuration is the one it was made with, but for where the guest comes from. */
bool cg_pause_config(const struct cg_creation *n, const char *dir, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/config.json", dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t size = 0;
    if (!cg_fs_slurp(path, 256 * 1024, &text, &size, e))
        return false;
    const struct cg_json_limits limits = {256 * 1024, 16, 8192};
    CG_OWN(cg_drop_json)
    struct cg_json *old = cg_json_parse((struct cg_slice){text, size}, &limits, e);
    if (!old)
        return cg_wrap(e, "read %s", path);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 512 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    for (const struct cg_json *m = old->child; m; m = m->next) {
        if (cg_slice_eq(m->key, "vm") || cg_slice_eq(m->key, "timeouts") ||
            cg_slice_eq(m->key, "network") || cg_slice_eq(m->key, "gateway"))
            continue;
        cg_jsonw_keyn(&w, m->key.p, m->key.n);
        cg_jsonw_value(&w, m);
    }
    cg_options_hold();
    cg_network_write_config(n->sb, &w); /* these may have changed meanwhile */
    cg_providers_write(n->sb, &w);
    cg_options_let_go();
    cg_creation_write_vm(n, &w);
    cg_jsonw_obj_end(&w);
    if (b.full)
        return cg_fail(e, CG_TOO_LARGE, "%s is too large", path);
    return cg_fs_replace(path, b.p, b.n, 0644, e);
}
