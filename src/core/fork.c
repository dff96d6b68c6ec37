/* Restores of a snapshot into a sandbox, and forks. A fork is a hidden snapshot with memory and
 * sandboxes made of it; for more than one, the snapshot is first turned into a golden one (its
 * memory in a sealed file that all map copy-on-write), off the source's time. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/copy.h"
#include "core/creation.h"
#include "core/golden.h"
#include "core/snapshots.h"

/* --- restore --- */

struct restoring {
    struct cg_core *core;
    struct cg_snapshot *s;
    struct cg_sandbox *sb;
    uv_work_t work;
    struct cg_err err;
    bool ok, memory;
    cg_sandbox_done *done;
    void *ctx;
};

static void restore_over(struct restoring *r, const struct cg_err *err)
{
    r->s->users--;
    if (r->done)
        r->done(r->ctx, r->sb, err);
    free(r);
}

static void on_resumed(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    (void)sb;
    restore_over(ctx, err);
}

/* Whatever is cut in between leaves a disk that is whole, and no memory that belongs to another. */
static bool replace(struct restoring *r, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(r->sb);
    CG_OWN(cg_drop_free) char *facts = cg_format("%s/pause.json", dir);
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", dir);
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *new_disk = cg_format("%s/disk.new", dir);
    CG_OWN(cg_drop_free) char *disk_from = cg_snapshot_path(r->core, r->s, "disk.img");
    CG_OWN(cg_drop_free) char *state_from = cg_snapshot_path(r->core, r->s, "vm.state");
    CG_OWN(cg_drop_fd) int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unlink(new_disk);
    if (!cg_copy_file(disk_from, new_disk, 0600, (off_t)r->sb->spec.disk_gb << 30, e))
        return false;
    unlink(facts);
    unlink(state);
    if (at < 0 || fsync(at) != 0 || rename(new_disk, disk) != 0 || fsync(at) != 0)
        return cg_fail_sys(e, "put the snapshot's disk in place");
    static const char text[] = "{\"observed\":-1,\"other\":true}";
    return !r->memory || (cg_copy_file(state_from, state, 0644, 0, e) &&
                          cg_fs_replace(facts, text, sizeof text - 1, 0644, e));
}

static void replace_work(uv_work_t *work)
{
    struct restoring *r = CG_CONTAINER(work, struct restoring, work);
    r->ok = replace(r, &r->err);
}

static void replaced(uv_work_t *work, int status)
{
    struct restoring *r = CG_CONTAINER(work, struct restoring, work);
    struct cg_err e = r->err;
    (void)status;
    r->sb->snapshotting = false;
    cg_log(r->ok ? CG_LOG_INFO : CG_LOG_WARN,
           CG_EVENT(r->ok ? "snapshot.restored" : "snapshot.restore_failed"), CG_S("id", r->s->id),
           CG_S("sandbox", r->sb->id), CG_E(&e));
    struct cg_sandbox *sb = r->sb;
    if (!r->ok || !cg_core_resume(sb, on_resumed, r, &e))
        restore_over(r, &e);
    cg_pause_settled(sb);
}

static void on_paused(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct restoring *r = ctx;
    if (err) {
        restore_over(r, err);
        return;
    }
    sb->snapshotting = true; /* nobody else touches its files */
    uv_queue_work(r->core->loop, &r->work, replace_work, replaced);
}

static bool fits(const struct cg_snapshot *s, const struct cg_sandbox *sb, struct cg_err *e)
{
    if (!s->base_path || !sb->base_path || strcmp(s->base_path, sb->base_path) != 0)
        return cg_fail(e, CG_CONFLICT,
                       "snapshot %s is of the template %s as it was built then, sandbox %s is not: "
                       "make a new one with `caged up --from-snapshot %s`",
                       s->id, s->template_name, sb->id, s->id);
    if (s->disk_gb > sb->spec.disk_gb)
        return cg_fail(e, CG_CONFLICT, "the snapshot's disk has %u GB, that of sandbox %s %u",
                       s->disk_gb, sb->id, sb->spec.disk_gb);
    return true;
}

bool cg_core_restore(struct cg_snapshot *s, struct cg_sandbox *target, cg_sandbox_done *done,
                     void *ctx, struct cg_err *e)
{
    if (!cg_snapshot_usable(s, e) || !fits(s, target, e))
        return false;
    if (target->snapshotting || target->creating)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is busy with a snapshot or its start",
                       target->id);
    struct restoring *r = cg_alloc(sizeof *r);
    *r = (struct restoring){.core = target->core, .s = s, .sb = target, .done = done, .ctx = ctx};
    r->memory = s->memory && s->cpus == target->spec.cpus && s->memory_mb == target->spec.memory_mb;
    if (target->status == CG_STATUS_PAUSED) {
        s->users++;
        on_paused(r, target, NULL);
        return true;
    }
    if (!cg_core_pause(target, "restore", on_paused, r, e)) {
        free(r);
        return false;
    }
    s->users++;
    return true;
}

/* --- fork --- */

struct forking {
    struct cg_core *core;
    struct cg_sandbox *source;
    struct cg_snapshot *s;
    char name[48];
    unsigned count, left;
    struct cg_sandbox *made[CG_FORK_MAX];
    struct cg_err err;
    cg_fork_done *done;
    void *ctx;
};

struct child {
    struct forking *f;
    unsigned at;
};

static void fork_over(struct forking *f)
{
    struct cg_err e = CG_ERR_INIT;
    const struct cg_err *why = f->err.code != CG_OK ? &f->err : NULL;
    f->done(f->ctx, f->made, f->count, f->s ? f->s->stall_ns : 0, why);
    if (f->s) {
        cg_golden_drop(f->core, f->s->id);
        if (!cg_snapshot_delete(f->core, f->s, NULL, NULL, &e))
            cg_log(CG_LOG_WARN, CG_EVENT("fork.snapshot_left"), CG_E(&e));
    }
    free(f);
}

static void on_child(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct child *ch = ctx;
    struct forking *f = ch->f;
    f->made[ch->at] = err ? NULL : sb;
    if (err && f->err.code == CG_OK)
        f->err = *err;
    free(ch);
    if (--f->left == 0)
        fork_over(f);
}

static void make_child(struct forking *f, unsigned i)
{
    const struct cg_spec *p = &f->source->spec;
    struct cg_spec spec = {.cpus = f->s->cpus,
                           .memory_mb = f->s->memory_mb,
                           .disk_gb = f->s->disk_gb,
                           .timeout_s = p->timeout_s,
                           .has_budget = p->has_budget,
                           .budget_nusd = p->budget_nusd,
                           .budget_tokens = p->budget_tokens,
                           .budget_pause = p->budget_pause};
    struct cg_err e = CG_ERR_INIT;
    cg_strlcpy(spec.template_name, sizeof spec.template_name, f->s->template_name);
    cg_strlcpy(spec.snapshot, sizeof spec.snapshot, f->s->id);
    if (f->name[0])
        spec.name = f->count > 1 ? cg_format("%s-%u", f->name, i + 1) : cg_strdup(f->name);
    spec.network_json = p->network_json ? cg_strdup(p->network_json) : NULL;
    spec.env_json = f->s->env_json ? cg_strdup(f->s->env_json) : NULL;
    spec.repo_url = p->repo_url ? cg_strdup(p->repo_url) : NULL;
    spec.repo_branch = p->repo_branch ? cg_strdup(p->repo_branch) : NULL;
    struct child *ch = cg_alloc(sizeof *ch);
    *ch = (struct child){f, i};
    if (!cg_core_create(f->core, f->s->account, &spec, NULL, on_child, ch, &e))
        on_child(ch, NULL, &e);
}

static void make_children(struct forking *f)
{
    f->left = f->count + 1; /* one for us, as the first may fail at once */
    for (unsigned i = 0; i < f->count; i++)
        make_child(f, i);
    if (--f->left == 0)
        fork_over(f);
}

/* Without it the children are made all the same, each with memory of its own. */
static void on_golden(void *ctx, const struct cg_err *err)
{
    if (err)
        cg_log(CG_LOG_WARN, CG_EVENT("fork.not_shared"), CG_E(err));
    make_children(ctx);
}

static void on_snapshot(void *ctx, struct cg_snapshot *s, const struct cg_err *err)
{
    struct forking *f = ctx;
    f->s = s;
    if (err) {
        f->err = *err;
        fork_over(f);
        return;
    }
    if (f->count == 1 || !cg_golden_of_snapshot(f->core, s, on_golden, f))
        make_children(f);
}

bool cg_core_fork(struct cg_sandbox *sb, unsigned count, const char *name, cg_fork_done *done,
                  void *ctx, struct cg_err *e)
{
    if (count < 1 || count > CG_FORK_MAX)
        return cg_fail(e, CG_INVALID, "count must be from 1 to %d", (int)CG_FORK_MAX);
    struct forking *f = cg_alloc(sizeof *f);
    *f = (struct forking){.core = sb->core, .source = sb, .count = count, .done = done, .ctx = ctx};
    cg_strlcpy(f->name, sizeof f->name, name ? name : "");
    const struct cg_snapshot_order o = {.trigger = "fork", .memory = true, .hidden = true};
    if (cg_core_snapshot(sb, &o, on_snapshot, f, e))
        return true;
    free(f);
    return false;
}
