/* Start and end of the core: the database, what an earlier server left, the acceleration probe. */
#include "core/core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/creation.h"
#include "core/golden.h"
#include "core/leases.h"
#include "core/models.h"
#include "core/snapshots.h"
#include "jail/jail.h"

enum { SWEEP_MS = 5000, SWEEP_STEP_MS = 20 };

/* --- what an earlier server left --- */

static void load_row(void *ctx, const struct cg_store_sandbox *row)
{
    struct cg_core *c = ctx;
    struct cg_sandbox *sb = cg_sandbox_load(c, row);
    if (sb)
        cg_sandbox_add(c, sb);
    else
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_row"), CG_S("id", row->id));
}

bool cg_keeper_lives(const struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_free) char *run = cg_run_path(sb->core, sb->id, NULL);
    CG_OWN(cg_drop_fd) int dir = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int pid = 0;
    return dir >= 0 && cg_jail_keeper_of(dir, &pid, NULL) && pid > 0;
}

static void adopt(struct cg_sandbox *sb)
{
    struct cg_err e = CG_ERR_INIT;
    if (sb->status == CG_STATUS_RUNNING && cg_keeper_lives(sb) && cg_sandbox_connect(sb, &e)) {
        cg_log(CG_LOG_INFO, CG_EVENT("sandbox.adopted"), CG_S("id", sb->id));
        bool cut =
            sb->init == CG_INIT_RUNNING || (sb->init == CG_INIT_PENDING && !sb->spec.defer_init);
        if (cut) { /* it ended with our connection; how far it came is in the record */
            sb->init = CG_INIT_FAILED;
            sb->init_exit = 1;
            cg_sandbox_text(&sb->init_tail, "the server was restarted while the init script ran");
            cg_sandbox_save(sb, NULL, NULL);
        }
        return;
    }
    if (sb->status == CG_STATUS_RUNNING && !cg_keeper_lives(sb) && cg_pause_whole(sb)) {
        cg_pause_done(sb); /* the server ended before it could say so */
        return;
    }
    if (sb->status == CG_STATUS_PAUSED && !cg_keeper_lives(sb))
        return;
    if (sb->error.code == CG_OK)
        cg_fail(&sb->error, CG_CLOSED, "%s",
                sb->status == CG_STATUS_PENDING ? "the server was restarted while it was made"
                                                : "it ended while no server was running");
    cg_core_end(sb, CG_STATUS_ERROR, "found_dead");
}

/* A sandbox that runs while no row knows of it (the database was lost, or it was a helper of an
 * earlier server) is ended. True: it is gone. */
static bool end_orphan(struct cg_core *c, const char *id, int64_t deadline_ns)
{
    struct cg_sandbox ghost = {.core = c};
    cg_strlcpy(ghost.id, sizeof ghost.id, id);
    if (!cg_keeper_lives(&ghost))
        return true;
    struct cg_jail_request r = {.magic = CG_JAIL_MAGIC, .size = sizeof r, .op = CG_JAIL_KILL};
    struct cg_err e = CG_ERR_INIT;
    cg_strlcpy(r.id, sizeof r.id, id);
    if (!cg_jail_send(c->broker, &r, NULL, 0, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("jail.kill_failed"), CG_S("id", id), CG_E(&e));
    cg_log(CG_LOG_WARN, CG_EVENT("orphan.killed"), CG_S("id", id));
    while (cg_keeper_lives(&ghost)) {
        if (cg_mono_ns() > deadline_ns)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = SWEEP_STEP_MS * 1000000}, NULL);
    }
    return true;
}

/* Directories of sandboxes that no row owns. */
static void sweep_orphans(struct cg_core *c, const char *parent, int64_t deadline_ns)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir(parent);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        const struct cg_sandbox *sb = cg_map_get(&c->by_id, entry->d_name);
        if (!cg_id_valid(entry->d_name, "cage") || (sb && sb->slot > 0))
            continue;
        if (!end_orphan(c, entry->d_name, deadline_ns))
            continue; /* the next start has another try */
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", parent, entry->d_name);
        struct cg_err e = CG_ERR_INIT;
        bool ok = cg_fs_remove_tree(path, &e);
        cg_log(ok ? CG_LOG_INFO : CG_LOG_WARN, CG_EVENT("orphan.swept"), CG_S("path", path),
               CG_E(&e));
    }
}

static void sweep(struct cg_core *c)
{
    CG_OWN(cg_drop_free) char *dirs = cg_format("%s/sandboxes", c->options.state_dir);
    int64_t deadline_ns = cg_mono_ns() + (int64_t)SWEEP_MS * 1000000;
    sweep_orphans(c, dirs, deadline_ns);
    sweep_orphans(c, c->options.run_dir, deadline_ns);
    struct cg_jail_request r = {.magic = CG_JAIL_MAGIC, .size = sizeof r, .op = CG_JAIL_SWEEP};
    struct cg_err e = CG_ERR_INIT;
    if (c->broker >= 0 && !cg_jail_send(c->broker, &r, NULL, 0, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("jail.sweep_failed"), CG_E(&e));
}

bool cg_adopt_all(struct cg_core *c, struct cg_err *e)
{
    if (!cg_store_each_sandbox(c->store, load_row, c, e))
        return false;
    for (struct cg_sandbox *sb = c->first; sb; sb = sb->next) {
        if (sb->slot > 0)
            adopt(sb);
    }
    sweep(c);
    return true;
}

/* --- the probe --- */

struct probe {
    struct cg_core *core;
    uv_poll_t poll;
    int fd;
    char text[4096];
    size_t n;
};

void cg_core_probed(struct cg_core *c, const char *json)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(json), NULL, NULL);
    const char *accel = cg_json_str(j, "accel");
    const char *reason = cg_json_str(j, "reason");
    if (!accel || !cg_accel_parse(accel, &c->accel)) {
        cg_log(CG_LOG_WARN, CG_EVENT("probe.unreadable"), CG_S("text", json));
        return;
    }
    c->tsc_khz = (uint64_t)cg_json_int(j, "tsc_khz", 0);
    const char *vmm = cg_json_str(j, "vmm");
    cg_strlcpy(c->vmm_version, sizeof c->vmm_version, vmm ? vmm : "");
    cg_strlcpy(c->accel_reason, sizeof c->accel_reason, reason ? reason : "");
    c->probed = true;
    cg_log(CG_LOG_INFO, CG_EVENT("probe.done"), CG_S("accel", accel),
           CG_S("reason", c->accel_reason));
}

static void free_probe(uv_handle_t *h)
{
    struct probe *p = CG_CONTAINER(h, struct probe, poll);
    close(p->fd);
    free(p);
}

static void on_probe(uv_poll_t *poll, int status, int events)
{
    struct probe *p = CG_CONTAINER(poll, struct probe, poll);
    (void)status;
    (void)events;
    size_t room = sizeof p->text - 1 - p->n;
    ssize_t n = room ? read(p->fd, p->text + p->n, room) : 0;
    if (n > 0) {
        p->n += (size_t)n;
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    struct cg_core *c = p->core;
    uv_poll_stop(poll);
    uv_close((uv_handle_t *)poll, free_probe);
    c->probe_runs = false;
    cg_core_probed(c, p->text);
    cg_creations_go_on(c);
}

void cg_core_await_probe(struct cg_core *c, int fd)
{
    struct probe *p = cg_alloc(sizeof *p);
    p->core = c;
    p->fd = fd;
    c->probe_runs = true;
    if (!cg_fd_set_nonblock(fd, true, NULL) || uv_poll_init(c->loop, &p->poll, fd) != 0) {
        c->probe_runs = false;
        close(fd);
        free(p);
        return;
    }
    uv_poll_start(&p->poll, UV_READABLE, on_probe);
}

/* --- start and end --- */

bool cg_core_start(struct cg_core *c, struct cg_err *e)
{
    cg_map_init(&c->by_id);
    cg_map_init(&c->keys);
    cg_map_init(&c->accounts);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/server.db", c->options.state_dir);
    CG_OWN(cg_drop_free) char *boxes = cg_format("%s/sandboxes", c->options.state_dir);
    CG_OWN(cg_drop_free) char *archive = cg_format("%s/archive", c->options.state_dir);
    if (!cg_fs_mkdirs(boxes, 0711, e) || !cg_fs_mkdirs(archive, 0711, e))
        return false;
    c->store = cg_store_open(c->loop, path, e);
    if (!c->store)
        return false;
    cg_models_start(c);
    if (!cg_leases_start(c, e) || !cg_snapshots_start(c, e))
        return false;
    cg_golden_start(c);
    cg_replay_start(c);
    return cg_seals_start(c, e);
}

void cg_core_finish(struct cg_core *c)
{
    c->stopping = true;
    cg_seals_stop(c);
    cg_replay_stop(c);
    for (struct cg_sandbox *sb = c->first; sb; sb = sb->next) {
        cg_wclient_destroy(sb->warden);
        sb->warden = NULL;
    }
    cg_golden_finish(c);
    cg_leases_finish(c);
    cg_models_finish(c);
    cg_store_close(c->store);
    c->store = NULL;
}
