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
#include "core/providers.h"
#include "core/secrets.h"
#include "core/snapshots.h"
#include "jail/jail.h"

enum { PIDS_MAX = 256, PROBE_WAIT_MS = 60000, NET_MAX = 32, RESTORE_MS = 20000 };

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

/* --- admission --- */

static unsigned living(const struct cg_core *c)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= CG_SLOTS; i++)
        n += c->slots[i];
    return n;
}

static uint32_t take_slot(struct cg_core *c)
{
    for (uint32_t i = 1; i <= CG_SLOTS; i++) {
        if (!c->slots[i]) {
            c->slots[i] = 1;
            return i;
        }
    }
    return 0;
}

static bool admit(struct cg_core *c, const struct cg_spec *s, struct cg_err *e)
{
    if (c->stopping)
        return cg_fail(e, CG_UNAVAILABLE, "the server is stopping");
    unsigned n = living(c);
    if (n >= CG_MIN(c->options.max_sandboxes, (uint32_t)CG_SLOTS))
        return cg_fail(e, CG_LIMIT, "%u sandboxes exist already, limits.sandboxes is %u", n,
                       c->options.max_sandboxes);
    const struct cg_snapshot *from = s->snapshot[0] ? cg_snapshot_find(c, s->snapshot) : NULL;
    if (s->snapshot[0] && !from)
        return cg_fail(e, CG_NOT_FOUND, "there is no snapshot %s", s->snapshot);
    if (from && !cg_snapshot_usable(from, e))
        return false;
    struct cg_image image = {0};
    if (!cg_image_resolve(&c->images, s->template_name, &image, e))
        return false;
    cg_image_finish(&image);
    return true;
}

static void on_saved(void *ctx, const struct cg_err *err);
static void start_work(struct cg_creation *n);

static struct cg_creation *new_creation(struct cg_core *c, struct cg_spec *spec)
{
    struct cg_sandbox *sb = cg_alloc(sizeof *sb);
    sb->core = c;
    sb->keeper_sock = -1;
    sb->spec = *spec;
    sb->status = CG_STATUS_PENDING;
    sb->slot = take_slot(c);
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
    if (!admit(c, spec, e)) {
        cg_spec_finish(spec);
        return NULL;
    }
    struct cg_creation *n = new_creation(c, spec);
    n->sb->helper = true;
    cg_sandbox_wait(&n->sb->create_waiters, done, ctx);
    start_work(n);
    return n->sb;
}

struct cg_sandbox *cg_core_create(struct cg_core *c, const char *account, struct cg_spec *spec,
                                  char *repo_token, cg_sandbox_done *done, void *ctx,
                                  struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *token = repo_token;
    if (!admit(c, spec, e)) {
        cg_spec_finish(spec);
        return NULL;
    }
    struct cg_creation *n = new_creation(c, spec);
    struct cg_sandbox *sb = n->sb;
    cg_strlcpy(sb->account, sizeof sb->account, account);
    n->token = CG_MOVE(token);
    cg_sandbox_add(c, sb);
    cg_sandbox_wait(&sb->create_waiters, done, ctx);
    cg_sandbox_phase(sb, "prepare", 5);
    cg_sandbox_save(sb, on_saved, n);
    return sb;
}

/* --- files, on the pool --- */

/* The template's environment, and over it that of the request. */
static void write_env(const struct cg_sandbox *sb, const struct cg_image *image, struct cg_jsonw *w)
{
    CG_OWN(cg_drop_json)
    struct cg_json *asked =
        sb->spec.env_json ? cg_json_parse(cg_slice_of(sb->spec.env_json), NULL, NULL) : NULL;
    cg_jsonw_key(w, "env");
    cg_jsonw_obj(w);
    for (size_t i = 0; i < image->template.env.n; i++) {
        const char *pair = image->template.env.v[i];
        size_t n = strcspn(pair, "=");
        CG_OWN(cg_drop_free) char *name = cg_strndup(pair, n);
        if (pair[n] && !cg_json_get(asked, name))
            cg_jsonw_kstr(w, name, pair + n + 1);
    }
    cg_providers_env(sb, asked, w);
    for (const struct cg_json *m = asked ? asked->child : NULL; m; m = m->next)
        cg_jsonw_kstrn(w, m->key.p, m->str.p, m->str.n);
    cg_jsonw_obj_end(w);
}

void cg_creation_write_vm(const struct cg_creation *n, struct cg_jsonw *w)
{
    bool restore = n->golden || n->saved || (n->resume && !n->cold);
    bool same = n->resume && !n->cold && !cg_pause_of_other(n->sb);
    cg_jsonw_key(w, "vm");
    cg_jsonw_obj(w);
    cg_jsonw_kbool(w, "restore", restore);
    cg_jsonw_kbool(w, "same", same);
    cg_jsonw_kbool(w, "make_golden", n->sb->helper);
    cg_jsonw_kbool(w, "without_ram", n->golden || (n->sb->helper && !n->saved));
    cg_jsonw_obj_end(w);
    if (!restore)
        return;
    cg_jsonw_key(w, "timeouts"); /* a restore that is not there soon will never be */
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "boot_ms", RESTORE_MS);
    cg_jsonw_obj_end(w);
}

static bool write_config(struct cg_creation *n, const struct cg_image *image, const char *dir,
                         struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    const struct cg_egress_policy *p = &sb->core->options.network;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 256 * 1024);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "v", 1);
    cg_jsonw_kint(&w, "idle_s", sb->spec.timeout_s);
    cg_jsonw_kstr(&w, "id", sb->id);
    cg_jsonw_kstr(&w, "account", sb->account);
    cg_jsonw_kstr(&w, "template", sb->spec.template_name);
    cg_jsonw_kstr(&w, "hostname", sb->id);
    cg_jsonw_key(&w, "shape");
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "vcpus", sb->spec.cpus);
    cg_jsonw_kint(&w, "mem_mib", sb->spec.memory_mb);
    cg_jsonw_kint(&w, "disk_mib", (int64_t)sb->spec.disk_gb * 1024);
    cg_jsonw_obj_end(&w);
    cg_jsonw_key(&w, "isolation");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "vmm", "qemu");
    cg_jsonw_kstr(&w, "accel", cg_accel_name(sb->core->accel));
    cg_jsonw_kbool(&w, "rootless", sb->core->rootless);
    cg_jsonw_obj_end(&w);
    write_env(sb, image, &w);
    cg_providers_write(sb, &w);
    cg_jsonw_key(&w, "network");
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "allow");
    cg_jsonw_arr(&w);
    for (unsigned i = 0; i < p->nrules; i++) {
        char text[CG_EGRESS_RULE_TEXT];
        cg_egress_rule_format(&p->rules[i], text);
        cg_jsonw_str(&w, text);
    }
    cg_jsonw_arr_end(&w);
    cg_creation_write_hosts(p, &w);
    cg_jsonw_obj_end(&w);
    cg_creation_write_vm(n, &w);
    cg_jsonw_key(&w, "record");
    cg_jsonw_obj(&w);
    cg_jsonw_kuint(&w, "quota_bytes", sb->core->options.record_quota_bytes);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    if (b.full)
        return cg_fail(e, CG_TOO_LARGE, "env is too large");
    CG_OWN(cg_drop_free) char *path = cg_format("%s/config.json", dir);
    return cg_fs_replace(path, b.p, b.n, 0644, e);
}

static bool open_fd(struct cg_creation *n, unsigned which, const char *path, int flags,
                    struct cg_err *e)
{
    n->fds[which] = open(path, flags | O_CLOEXEC | O_NOCTTY, 0660);
    return n->fds[which] >= 0 || cg_fail_sys(e, "open %s", path);
}

static bool open_files(struct cg_creation *n, const struct cg_image *image, const char *dir,
                       const char *run, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *console = cg_format("%s/console.log", dir);
    CG_OWN(cg_drop_free) char *log = cg_format("%s/warden.log", dir);
    CG_OWN(cg_drop_free) char *control = cg_format("%s/w.sock", run);
    if (!n->golden && !n->resume && !n->snapshot &&
        !cg_image_make_writable(&n->sb->core->images, disk, (int64_t)n->sb->spec.disk_gb << 30, e))
        return false;
    bool ok = open_fd(n, CG_JAIL_FD_DIR, dir, O_RDONLY | O_DIRECTORY, e) &&
              open_fd(n, CG_JAIL_FD_RUN, run, O_RDONLY | O_DIRECTORY, e) &&
              open_fd(n, CG_JAIL_FD_KERNEL, image->kernel_path, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_INITRAMFS, image->initramfs_path, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_BASE, n->sb->base_path, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_DISK_RW, disk, O_RDWR, e) &&
              open_fd(n, CG_JAIL_FD_DISK_RO, disk, O_RDONLY, e) &&
              open_fd(n, CG_JAIL_FD_CONSOLE, console, O_WRONLY | O_APPEND | O_CREAT, e) &&
              open_fd(n, CG_JAIL_FD_LOG, log, O_WRONLY | O_APPEND | O_CREAT, e);
    if (!ok)
        return false;
    fchmod(n->fds[CG_JAIL_FD_CONSOLE], 0664); /* the warden quotes it when the guest fails */
    n->fds[CG_JAIL_FD_CONTROL] = cg_unix_listen(control, 0600, e);
    return n->fds[CG_JAIL_FD_CONTROL] >= 0;
}

/* Which acceleration works, when the start of the server could not find out: no images then. */
static bool probe_now(struct cg_creation *n, const struct cg_image *image, struct cg_err *e)
{
    const struct cg_core *c = n->sb->core;
    CG_OWN(cg_drop_free) char *jail = cg_format("%s/caged-jail", c->libexec_dir);
    CG_OWN(cg_drop_free) char *cache = cg_format("%s/probe.json", c->options.state_dir);
    const char *const argv[] = {
        jail, "--probe", image->kernel_path, image->initramfs_path, "--cache", cache, NULL};
    n->probe_json = cg_alloc(4096);
    return cg_command_output(argv, NULL, PROBE_WAIT_MS, n->probe_json, 4096, e) ||
           cg_wrap(e, "find out which acceleration works");
}

static bool check_base(const struct cg_sandbox *sb, struct cg_err *e)
{
    return (sb->base_path && cg_fs_exists(sb->base_path)) ||
           cg_fail(
               e, CG_CONFLICT,
               "the template %s was built anew since, and the base image of %s is gone: its disk "
               "is of no use without it",
               sb->spec.template_name, sb->id);
}

/* The disk, and the memory unless it is not wanted or of another shape. */
static bool place_snapshot(struct cg_creation *n, const char *dir, struct cg_err *e)
{
    const struct cg_sandbox *sb = n->sb;
    const struct cg_snapshot *s = n->snapshot;
    bool memory =
        s->memory && !n->cold && s->cpus == sb->spec.cpus && s->memory_mb == sb->spec.memory_mb;
    cg_strlcpy(n->golden_key, sizeof n->golden_key, s->id);
    n->golden = memory && !sb->helper && cg_golden_take(n, dir);
    if (n->golden)
        return true;
    CG_OWN(cg_drop_free) char *disk_from = cg_snapshot_path(sb->core, s, "disk.img");
    CG_OWN(cg_drop_free) char *state_from = cg_snapshot_path(sb->core, s, "vm.state");
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", dir);
    n->saved = memory;
    /* a link: it is read only, and removed when the guest runs */
    return cg_copy_file(disk_from, disk, 0600, (off_t)sb->spec.disk_gb << 30, e) &&
           (!memory || link(state_from, state) == 0 || cg_fail_sys(e, "link %s", state)) &&
           (!sb->helper || cg_golden_prepare(n, e));
}

static bool prepare(struct cg_creation *n, struct cg_err *e)
{
    struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    CG_OWN(cg_drop_free) char *run = cg_run_path(sb->core, sb->id, NULL);
    struct cg_image image = {0};
    if (!cg_image_resolve(&sb->core->images, sb->spec.template_name, &image, e))
        return false;
    bool ok = sb->core->probed || n->probe_json || probe_now(n, &image, e);
    ok = ok && (n->resume || cg_fs_mkdirs(dir, 0770, e));
    ok = ok && (!n->resume || cg_fs_remove_tree(run, e)) && cg_fs_mkdirs(run, 0700, e);
    ok = ok && (n->resume || chmod(dir, 0770) == 0 || cg_fail_sys(e, "set the mode of %s", dir));
    if (!ok) {
        cg_image_finish(&image);
        return false;
    }
    if (n->resume) {
        ok = check_base(sb, e) && cg_pause_config(n, dir, e);
    } else if (n->snapshot) {
        cg_sandbox_text(&sb->base_path, n->snapshot->base_path);
        ok = check_base(sb, e) && place_snapshot(n, dir, e) && write_config(n, &image, dir, e);
    } else {
        cg_sandbox_text(&sb->base_path, image.template.base_path);
        cg_golden_key(n, &image);
        if (sb->helper)
            ok = cg_golden_prepare(n, e);
        else
            n->golden = cg_golden_take(n, dir);
        ok = ok && write_config(n, &image, dir, e);
    }
    ok = ok && cg_providers_place_prices(sb, dir, e) && open_files(n, &image, dir, run, e);
    cg_image_finish(&image);
    return ok;
}

static void prepare_work(uv_work_t *work)
{
    struct cg_creation *n = CG_CONTAINER(work, struct cg_creation, work);
    n->ok = prepare(n, &n->err);
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
    cg_sandbox_phase(n->sb, "disk", 10);
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
    else if (n->resume || n->snapshot)
        cg_creation_done(n);
    else
        cg_creation_init(n);
}

/* The guest is whole: from here on a restart of the server keeps it. */
void cg_creation_running(struct cg_creation *n)
{
    cg_sandbox_set_status(n->sb, CG_STATUS_RUNNING);
    cg_log(CG_LOG_INFO, CG_EVENT("sandbox.running"), CG_S("id", n->sb->id));
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

static void on_done_saved(void *ctx, const struct cg_err *err)
{
    struct cg_sandbox *sb = ctx;
    cg_sandbox_tell(sb, &sb->create_waiters, err);
}

void cg_creation_done(struct cg_creation *n)
{
    struct cg_sandbox *sb = n->sb;
    CG_OWN(cg_drop_free) char *key = cg_strdup(sb->restored || n->snapshot ? "" : n->golden_key);
    sb->creating = false;
    sb->work = NULL;
    drop_creation(n);
    sb->pause_reason[0] = '\0';
    cg_golden_want(sb->core, key, &sb->spec);
    cg_sandbox_phase(sb, "ready", 100);
    cg_sandbox_save(sb, on_done_saved, sb);
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
