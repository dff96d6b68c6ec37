/* From a request to a running guest, step by step, each asynchronous:
 *
 *   admit → row durable → files (pool: images, directory, disk, config.json) → jail → warden →
 *   boot → clone → running (durable) → init → told
 *
 * Whatever fails before `running` undoes everything and leaves a row in state `error` with the
 * reason; an init script that fails leaves the sandbox running.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/command.h"
#include "base/fs.h"
#include "base/log.h"
#include "core/copy.h"
#include "core/core.h"
#include "core/creation.h"
#include "core/golden.h"
#include "core/leases.h"
#include "core/providers.h"
#include "core/secrets.h"
#include "core/snapshots.h"
#include "core/spares.h"
#include "jail/jail.h"

enum { PIDS_MAX = 256, NET_MAX = 32 };

static void fail(struct cg_creation *n, const struct cg_err *why)
{
    struct cg_sandbox *sb = n->sb;
    cg_creation_failed(sb, why);
}

static void drop_fds(struct cg_creation *n)
{
    for (unsigned i = 0; i < CG_JAIL_FD_MAX; i++)
        cg_drop_fd(&n->fds[i]);
}

static void drop_creation(struct cg_creation *n)
{
    if (n->snapshot)
        n->snapshot->users--;
    drop_fds(n);
    cg_drop_fd(&n->ram);
    cg_buf_finish(&n->tail);
    free(n->probe_json);
    free(n->token);
    free(n);
}

static void on_saved(void *ctx, const struct cg_err *err);
static void start_work(struct cg_creation *n);
static void connect_warden(struct cg_creation *n);

static struct cg_creation *new_creation(struct cg_core *c, struct cg_spec *spec)
{
    struct cg_sandbox *sb = cg_alloc(sizeof *sb);
    sb->core = c;
    sb->keeper_sock = -1;
    sb->spec = *spec;
    sb->status = CG_STATUS_PENDING;
    sb->slot = cg_take_slot(c);
    sb->created_wall = cg_wall_ns();
    sb->creating = true;
    sb->init = spec->init_script ? CG_INIT_PENDING : CG_INIT_NONE;
    cg_id_make("cage", sb->id);
    cg_id_make("run", sb->run_token);
    struct cg_creation *n = cg_alloc(sizeof *n);
    n->sb = sb;
    for (unsigned i = 0; i < CG_JAIL_FD_MAX; i++)
        n->fds[i] = -1;
    n->ram = -1;
    n->snapshot = spec->snapshot[0] ? cg_snapshot_find(c, spec->snapshot) : NULL;
    if (n->snapshot)
        n->snapshot->users++;
    n->working = true; /* until the files are made: nobody may free it before */
    sb->work = n;
    return n;
}

void cg_creation_resume(struct cg_sandbox *sb)
{
    struct cg_creation *n = cg_alloc(sizeof *n);
    n->sb = sb;
    for (unsigned i = 0; i < CG_JAIL_FD_MAX; i++)
        n->fds[i] = -1;
    n->ram = -1;
    n->working = n->resume = true;
    n->cold = !cg_pause_whole(sb); /* only its disk was kept */
    sb->work = n;
    sb->creating = true;
    start_work(n);
}

struct cg_sandbox *cg_core_create_helper(struct cg_core *c, struct cg_spec *spec,
                                         cg_sandbox_done *done, void *ctx, struct cg_err *e)
{
    if (!cg_admit(c, spec, e)) {
        cg_spec_finish(spec);
        return NULL;
    }
    struct cg_creation *n = new_creation(c, spec);
    n->sb->helper = true;
    cg_sandbox_wait(&n->sb->create_waiters, done, ctx);
    start_work(n);
    return n->sb;
}

struct cg_creation *cg_creation_spare(struct cg_core *c, struct cg_spec *spec, struct cg_err *e)
{
    if (!cg_admit(c, spec, e))
        return NULL;
    struct cg_creation *n = new_creation(c, spec);
    n->sb->helper = n->spare = true;
    start_work(n);
    return n;
}

/* Somebody's from here on. */
static void adopt_spare(struct cg_creation *n, struct cg_spec *spec)
{
    struct cg_sandbox *sb = n->sb;
    cg_spec_finish(&sb->spec);
    sb->spec = *spec;
    sb->helper = n->spare = n->spare_ready = false;
    n->taken = n->working = true;
    sb->created_wall = cg_wall_ns();
    sb->init = spec->init_script ? CG_INIT_PENDING : CG_INIT_NONE;
}

static void personalise_work(uv_work_t *work)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    n->ok = cg_creation_personalise(n, &n->err);
}

static void personalised(uv_work_t *work, int status)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    struct cg_err e = n->err;
    (void)status;
    n->working = false;
    if (n->ok && (n->sb->doomed || n->lost))
        n->ok =
            cg_fail(&e, CG_CONFLICT, n->lost ? "its keeper ended" : "destroyed while it was made");
    if (n->ok)
        connect_warden(n);
    else
        fail(n, &e);
}

struct cg_sandbox *cg_core_create(struct cg_core *c, const char *account, struct cg_spec *spec,
                                  char *repo_token, cg_sandbox_done *done, void *ctx,
                                  struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *token = repo_token;
    if (!cg_leases_allow(c, account, e) || !cg_plan_admit(c, account, spec, e) ||
        !cg_admit(c, spec, e)) {
        cg_spec_finish(spec);
        return NULL;
    }
    struct cg_creation *n = spec->snapshot[0] ? NULL : cg_spares_take(c, spec);
    if (n)
        adopt_spare(n, spec);
    else
        n = new_creation(c, spec);
    struct cg_sandbox *sb = n->sb;
    cg_strlcpy(sb->account, sizeof sb->account, account);
    sb->leased = cg_leases_has(c, account);
    n->token = CG_MOVE(token);
    cg_sandbox_add(c, sb);
    cg_sandbox_wait(&sb->create_waiters, done, ctx);
    cg_sandbox_phase(sb, "prepare", 5);
    if (n->taken) { /* it was there before its row: without one it is nobody's, and removed */
        cg_sandbox_save(sb, NULL, NULL);
        uv_queue_work(c->loop, &n->work, personalise_work, personalised);
    } else {
        cg_sandbox_save(sb, on_saved, n);
    }
    return sb;
}

/* --- files --- */

static void prepare_work(uv_work_t *work)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    n->ok = cg_creation_prepare(n, &n->err);
}

/* --- the jail --- */

static void add_net(struct cg_jail_request *r, uint32_t address, uint8_t prefix, uint16_t port)
{
    if (r->net_count == NET_MAX)
        return;
    struct cg_jail_net *net = &r->net[r->net_count++];
    for (int i = 0; i < 4; i++)
        net->address[i] = (uint8_t)(address >> (24 - 8 * i));
    net->prefix = prefix;
    net->port = port;
}

/* What the packet filter lets through to the warden: the LLM gateway, the operator's list, and the
 * addresses that stand for a listed one. */
static void fill_net(struct cg_jail_request *r, const struct cg_egress_policy *p)
{
    add_net(r, CG_GATEWAY_ADDRESS, 32, CG_GATEWAY_PORT);
    add_net(r, CG_GATEWAY_ADDRESS, 32, CG_GATEWAY_TLS_PORT);
    for (unsigned i = 0; i < p->nrules; i++) {
        const struct cg_egress_rule *rule = &p->rules[i];
        add_net(r, rule->address, rule->prefix, rule->port);
        uint32_t mask = rule->prefix ? UINT32_MAX << (32 - rule->prefix) : 0;
        for (unsigned h = 0; h < p->nhosts; h++) {
            if (p->hosts[h].to && (p->hosts[h].to & mask) == rule->address)
                add_net(r, p->hosts[h].address, 32, rule->port);
        }
    }
}

static bool ask_jail(struct cg_creation *n, struct cg_err *e)
{
    struct cg_sandbox *sb = n->sb;
    const struct cg_core *c = sb->core;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return cg_fail_sys(e, "make a socket");
    struct cg_jail_request r = {.magic = CG_JAIL_MAGIC,
                                .size = sizeof r,
                                .op = CG_JAIL_START,
                                .slot = sb->slot,
                                .vcpus = sb->spec.cpus,
                                .mem_mib = sb->spec.memory_mb,
                                .accel = (uint32_t)c->accel,
                                .pids_max = PIDS_MAX,
                                .tsc_khz = c->tsc_khz,
                                .disk_bytes = (uint64_t)sb->spec.disk_gb << 30};
    cg_strlcpy(r.id, sizeof r.id, sb->id);
    fill_net(&r, &c->options.network);
    bool with_ram = n->fds[CG_JAIL_FD_RAM] >= 0;
    if (with_ram)
        r.flags = CG_JAIL_WITH_RAM | (n->golden ? CG_JAIL_INCOMING : CG_JAIL_RAM_SHARED) |
                  (n->saved ? CG_JAIL_INCOMING : 0);
    else if (n->saved || (n->resume && !n->cold))
        r.flags = CG_JAIL_INCOMING;
    n->fds[CG_JAIL_FD_REPLY] = pair[1];
    bool ok = cg_jail_send(c->broker, &r, n->fds, with_ram ? CG_JAIL_FD_MAX : CG_JAIL_FD_COUNT, e);
    drop_fds(n);
    if (!ok) {
        close(pair[0]);
        return cg_wrap(e, "the jail's broker is gone: restart the server, sandboxes run on");
    }
    cg_strlcpy(sb->accel, sizeof sb->accel, cg_accel_name(c->accel));
    cg_sandbox_watch_keeper(sb, pair[0]);
    cg_sandbox_phase(sb, "jail", 25);
    return true;
}

static void go_on(struct cg_creation *n)
{
    struct cg_core *c = n->sb->core;
    struct cg_err e = CG_ERR_INIT;
    if (n->probe_json && !c->probed)
        cg_core_probed(c, n->probe_json);
    if (n->sb->doomed && n->ok)
        n->ok = cg_fail(&n->err, CG_CONFLICT, "destroyed while it was made");
    if (!n->ok) {
        e = n->err;
        fail(n, &e);
        return;
    }
    if (!ask_jail(n, &e))
        fail(n, &e);
}

static void prepared(uv_work_t *work, int status)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    (void)status;
    n->working = false;
    go_on(n);
}

static void start_work(struct cg_creation *n)
{
    /* the first of its kind waits until the agents are fetched */
    cg_sandbox_phase(n->sb, strchr(n->sb->spec.template_name, '+') ? "agents" : "disk", 10);
    uv_queue_work(n->sb->core->loop, &n->work, prepare_work, prepared);
}

void cg_creations_go_on(struct cg_core *c)
{
    struct cg_creation *n = CG_MOVE(c->waiting);
    while (n) {
        struct cg_creation *next = n->next_waiting;
        start_work(n);
        n = next;
    }
}

static void on_saved(void *ctx, const struct cg_err *err)
{
    struct cg_creation *n = ctx;
    struct cg_core *c = n->sb->core;
    if (err) {
        n->working = false;
        fail(n, err);
        return;
    }
    if (c->probe_runs) {
        cg_sandbox_phase(n->sb, "probe", 8);
        n->next_waiting = c->waiting;
        c->waiting = n;
        return;
    }
    start_work(n);
}

/* --- the warden --- */

/* The golden snapshot is no good: away with it and with what was made of it, then a boot. */
static void begin_again(struct cg_creation *n, const struct cg_err *why)
{
    struct cg_sandbox *sb = n->sb;
    cg_log(CG_LOG_WARN, CG_EVENT("golden.restore_failed"), CG_S("id", sb->id), CG_E(why));
    cg_strlcpy(n->fell_back, sizeof n->fell_back, why->text);
    if (n->golden)
        cg_golden_broken(sb->core, n->golden_key);
    n->again = true;
    cg_jail_kill(sb);
    if (sb->keeper_sock < 0)
        cg_creation_keeper_gone(sb, why);
}

static void clear_work(uv_work_t *work)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(n->sb);
    CG_OWN(cg_drop_free) char *run = cg_run_path(n->sb->core, n->sb->id, NULL);
    n->ok = (n->resume || cg_fs_remove_tree(dir, &n->err)) && cg_fs_remove_tree(run, &n->err);
}

static void cleared(uv_work_t *work, int status)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    (void)status;
    if (n->ok && !n->sb->doomed)
        start_work(n);
    else
        prepared(work, status); /* which knows what to do about it */
}

/* Nothing runs any more, and what was saved is still there. */
static void back_to_paused(struct cg_creation *n)
{
    struct cg_sandbox *sb = n->sb;
    struct cg_err e = n->err;
    if (sb->doomed || !cg_pause_whole(sb)) {
        n->resume = n->giving_up = false;
        sb->keep_disk = !sb->doomed;
        cg_creation_failed(sb, &e);
        return;
    }
    cg_wclient_destroy(sb->warden);
    sb->warden = NULL;
    sb->error = (struct cg_err)CG_ERR_INIT;
    sb->creating = false;
    sb->work = NULL;
    drop_creation(n);
    cg_log(CG_LOG_WARN, CG_EVENT("sandbox.resume_failed"), CG_S("id", sb->id), CG_E(&e));
    cg_sandbox_changed(sb);
    cg_sandbox_tell(sb, &sb->create_waiters, &e);
}

static void give_up(struct cg_creation *n, const struct cg_err *why)
{
    n->err = *why;
    n->giving_up = true;
    cg_wcall_forget(&n->call);
    if (n->sb->keeper_sock >= 0)
        cg_jail_kill(n->sb);
    else
        back_to_paused(n);
}

void cg_creation_keeper_gone(struct cg_sandbox *sb, const struct cg_err *why)
{
    struct cg_creation *n = sb->work;
    if (n && n->working) { /* the spare that it is made of */
        n->lost = true;
        return;
    }
    if (n && n->giving_up) {
        back_to_paused(n);
        return;
    }
    if (!n || !n->again) {
        cg_creation_failed(sb, why);
        return;
    }
    n->again = n->golden = n->saved = false;
    n->cold = n->working = true;
    sb->error = (struct cg_err)CG_ERR_INIT;
    sb->jail_cause = 0;
    cg_wcall_forget(&n->call);
    cg_wclient_destroy(sb->warden);
    sb->warden = NULL;
    uv_queue_work(sb->core->loop, &n->work, clear_work, cleared);
}

static void keep_work(uv_work_t *work)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    n->ok = cg_golden_keep(n, &n->err);
}

static void kept(uv_work_t *work, int status)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    struct cg_sandbox *sb = n->sb;
    struct cg_err e = n->err;
    (void)status;
    n->working = false;
    if (!n->ok) {
        fail(n, &e);
        return;
    }
    sb->creating = false;
    sb->work = NULL;
    drop_creation(n);
    cg_core_end(sb, CG_STATUS_DESTROYED, "saved");
}

static void on_booted(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct cg_creation *n = CG_CONTAINER(call, struct cg_creation, call);
    (void)result;
    bool restores = n->golden || n->saved || (n->resume && !n->cold);
    if (error && restores && !n->sb->helper && !n->sb->doomed && !n->again) {
        begin_again(n, error);
        return;
    }
    if (!error && n->sb->helper) {
        n->working = true;
        uv_queue_work(n->sb->core->loop, &n->work, keep_work, kept);
        return;
    }
    n->sb->restored = n->resume ? n->sb->restored : n->golden || n->saved;
    if (error) {
        struct cg_err e = *error;
        cg_wrap(&e, "start the guest");
        fail(n, &e);
        return;
    }
    if (n->resume || n->snapshot)
        cg_creation_running(n);
    else
        cg_creation_clone(n);
}

static void on_running_saved(void *ctx, const struct cg_err *err)
{
    struct cg_sandbox *sb = ctx;
    struct cg_creation *n = sb->work;
    if (!sb->creating || sb->destroying || !n)
        return; /* it ended meanwhile */
    if (err)
        fail(n, err);
    else
        cg_creation_init(n);
}

/* The guest is whole: from here on a restart of the server keeps it. */
void cg_creation_running(struct cg_creation *n)
{
    cg_sandbox_set_status(n->sb, CG_STATUS_RUNNING);
    cg_log(CG_LOG_INFO, CG_EVENT("sandbox.running"), CG_S("id", n->sb->id));
    if (n->resume || n->snapshot || !cg_creation_inits(n))
        cg_creation_done(n); /* which saves the row itself */
    else
        cg_sandbox_save(n->sb, on_running_saved, n->sb);
}

static void on_boot_progress(struct cg_wcall *call, const struct cg_json *m)
{
    struct cg_creation *n = CG_CONTAINER(call, struct cg_creation, call);
    (void)m;
    cg_sandbox_phase(n->sb, "boot", 50);
}

void cg_creation_keeper_said(struct cg_sandbox *sb, const void *p, size_t size)
{
    struct cg_creation *n = sb->work;
    struct cg_jail_reply r;
    struct cg_err e = CG_ERR_INIT;
    if (size != sizeof r || !n || !sb->creating)
        return;
    memcpy(&r, p, sizeof r);
    r.text[sizeof r.text - 1] = '\0';
    if (r.magic != CG_JAIL_MAGIC || !r.ok) {
        cg_fail(&e, r.code < CG_CODE_COUNT ? (enum cg_code)r.code : CG_INTERNAL, "%s", r.text);
        fail(n, &e);
        return;
    }
    sb->warnings = r.warnings;
    if (n->spare)
        n->spare_ready = true;
    else
        connect_warden(n);
}

static void connect_warden(struct cg_creation *n)
{
    struct cg_sandbox *sb = n->sb;
    struct cg_err e = CG_ERR_INIT;
    cg_sandbox_phase(sb, "boot", 35);
    n->call = (struct cg_wcall){.on_close = on_booted, .on_control = on_boot_progress};
    struct cg_buf start = {.n = 0};
    bool fine = cg_core_secrets_request(sb, &start, &e) && cg_sandbox_connect(sb, &e) &&
                cg_wcall_open(sb->warden, &n->call, cg_buf_slice(&start), &e);
    cg_core_wipe(&start);
    if (!fine)
        fail(n, &e);
}

/* --- the end of it --- */

/* Who waited for this one: whoever asks for more of the sandbox (its init script) while the row is
 * being written waits for that, and is not told of this. */
struct made {
    struct cg_sandbox *sb;
    struct cg_waiter *waiters;
    bool first; /* nothing in the store says yet that it runs */
};

static void on_done_saved(void *ctx, const struct cg_err *err)
{
    struct made *m = ctx;
    if (err && m->first && m->sb->status == CG_STATUS_RUNNING && !m->sb->destroying) {
        m->sb->error = *err;
        cg_core_end(m->sb, CG_STATUS_ERROR, "create_failed");
    }
    cg_sandbox_tell(m->sb, &m->waiters, err);
    free(m);
}

void cg_creation_done(struct cg_creation *n)
{
    struct cg_sandbox *sb = n->sb;
    bool pooled = n->golden && !n->snapshot && !n->resume;
    bool first = !n->resume && !n->init_only;
    CG_OWN(cg_drop_free) char *key = cg_strdup(sb->restored || n->snapshot ? "" : n->golden_key);
    sb->creating = false;
    sb->work = NULL;
    drop_creation(n);
    sb->pause_reason[0] = '\0';
    cg_golden_want(sb->core, key, &sb->spec);
    if (pooled)
        cg_spares_want(sb->core, &sb->spec);
    cg_sandbox_phase(sb, "ready", 100);
    struct made *m = cg_alloc(sizeof *m);
    *m = (struct made){sb, CG_MOVE(sb->create_waiters), first};
    cg_sandbox_save(sb, on_done_saved, m);
}

void cg_creation_failed(struct cg_sandbox *sb, const struct cg_err *why)
{
    struct cg_creation *n = sb->work;
    if (!n || !sb->creating || n->failed || n->again || n->giving_up)
        return;
    if (n->resume && !sb->doomed) {
        give_up(n, why);
        return;
    }
    n->failed = true;
    if (n->spare)
        cg_spares_forget(sb->core, n);
    struct cg_err reason = *why; /* it may lie in what is freed here */
    cg_log(CG_LOG_WARN, CG_EVENT("sandbox.create_failed"), CG_S("id", sb->id), CG_E(&reason));
    cg_wcall_forget(&n->call);
    sb->error = reason;
    sb->creating = false;
    sb->work = NULL;
    drop_creation(n);
    cg_core_end(sb, sb->doomed ? CG_STATUS_DESTROYED : CG_STATUS_ERROR,
                sb->doomed ? "destroyed" : "create_failed");
}
