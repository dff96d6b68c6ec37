#include "core/snapshots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/copy.h"
#include "core/creation.h"

static const char item_kind[] = "snapshot";
static const char *const status_names[] = {"pending", "completed", "failed"};

static struct cg_map table; /* by id */

char *cg_snapshot_path(const struct cg_core *c, const struct cg_snapshot *s, const char *name)
{
    return cg_format("%s/snapshots/%s%s%s", c->options.state_dir, s->id, name ? "/" : "",
                     name ? name : "");
}

struct cg_snapshot *cg_snapshot_find(struct cg_core *c, const char *id)
{
    (void)c;
    return cg_map_get(&table, id);
}

bool cg_snapshot_usable(const struct cg_snapshot *s, struct cg_err *e)
{
    return s->status == CG_SNAPSHOT_COMPLETED ||
           cg_fail(e, CG_CONFLICT, "snapshot %s is %s, not completed", s->id,
                   status_names[s->status]);
}

static int by_creation(const void *a, const void *b)
{
    const struct cg_snapshot *const *x = a, *const *y = b;
    return ((*x)->created_wall > (*y)->created_wall) - ((*x)->created_wall < (*y)->created_wall);
}

void cg_snapshots_each(struct cg_core *c, const char *account, const char *sandbox,
                       void (*each)(void *ctx, const struct cg_snapshot *s), void *ctx)
{
    (void)c;
    CG_OWN(cg_drop_free)
    struct cg_snapshot **found = cg_alloc_array(table.count + 1, sizeof(struct cg_snapshot *));
    size_t n = 0, at = 0;
    const char *key;
    void *value;
    while (cg_map_next(&table, &at, &key, &value)) {
        struct cg_snapshot *s = value;
        if (!s->hidden && cg_streq(s->account, account) &&
            (!sandbox || cg_streq(s->sandbox, sandbox)))
            found[n++] = s;
    }
    if (n > 1) /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
        qsort(found, n, sizeof(struct cg_snapshot *), by_creation);
    for (size_t i = 0; i < n; i++)
        each(ctx, found[i]);
}

/* --- looks and rows --- */

static void write_members(const struct cg_snapshot *s, struct cg_jsonw *w)
{
    char text[CG_TIME_TEXT];
    cg_jsonw_kstr(w, "id", s->id);
    cg_jsonw_kstr(w, "sandbox_id", s->sandbox);
    cg_jsonw_kstr(w, "name", s->name);
    cg_jsonw_kstr(w, "description", s->description);
    cg_jsonw_kstr(w, "status", status_names[s->status]);
    cg_jsonw_kstr(w, "trigger", s->trigger);
    cg_jsonw_kbool(w, "memory", s->memory);
    cg_jsonw_kint(w, "size_bytes", s->size_bytes);
    cg_jsonw_knum(w, "stall_ms", (double)s->stall_ns / 1e6);
    cg_jsonw_kstr(w, "template", s->template_name);
    cg_jsonw_kint(w, "cpus", s->cpus);
    cg_jsonw_kint(w, "memory_mb", s->memory_mb);
    cg_jsonw_kint(w, "disk_gb", s->disk_gb);
    cg_time_format(s->created_wall, text);
    cg_jsonw_kstr(w, "created_at", text);
    if (s->completed_wall) {
        cg_time_format(s->completed_wall, text);
        cg_jsonw_kstr(w, "completed_at", text);
    }
    if (s->error.code != CG_OK)
        cg_jsonw_kstr(w, "error", s->error.text);
}

void cg_snapshot_write(const struct cg_snapshot *s, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    write_members(s, w);
    cg_jsonw_obj_end(w);
}

static void save(struct cg_core *c, const struct cg_snapshot *s, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 128 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    write_members(s, &w);
    cg_jsonw_key(&w, "internal");
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "created", s->created_wall);
    cg_jsonw_kint(&w, "completed", s->completed_wall);
    cg_jsonw_kint(&w, "stall_ns", s->stall_ns);
    cg_jsonw_kbool(&w, "hidden", s->hidden);
    cg_jsonw_kstr(&w, "base", s->base_path);
    cg_jsonw_kstr(&w, "env", s->env_json);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {item_kind, s->id, s->account, cg_buf_cstr(&b)};
    cg_store_put_item(c->store, &item, done, ctx);
}

static void free_snapshot(struct cg_snapshot *s)
{
    free(s->base_path);
    free(s->env_json);
    free(s);
}

static char *dup_member(const struct cg_json *o, const char *key)
{
    const char *text = cg_json_str(o, key);
    return text ? cg_strdup(text) : NULL;
}

static void copy_member(const struct cg_json *o, const char *key, char *out, size_t size)
{
    const char *text = cg_json_str(o, key);
    cg_strlcpy(out, size, text ? text : "");
}

static void load(void *ctx, const struct cg_store_item *i)
{
    (void)ctx;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const struct cg_json *inner = cg_json_get(j, "internal");
    if (!inner || !cg_id_valid(i->id, "snap")) {
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_snapshot"), CG_S("id", i->id));
        return;
    }
    struct cg_snapshot *s = cg_alloc(sizeof *s);
    cg_strlcpy(s->id, sizeof s->id, i->id);
    cg_strlcpy(s->account, sizeof s->account, i->account);
    copy_member(j, "sandbox_id", s->sandbox, sizeof s->sandbox);
    copy_member(j, "name", s->name, sizeof s->name);
    copy_member(j, "description", s->description, sizeof s->description);
    copy_member(j, "trigger", s->trigger, sizeof s->trigger);
    copy_member(j, "template", s->template_name, sizeof s->template_name);
    s->memory = cg_json_bool(j, "memory", false);
    s->size_bytes = cg_json_int(j, "size_bytes", 0);
    s->cpus = (uint32_t)cg_json_int(j, "cpus", 1);
    s->memory_mb = (uint32_t)cg_json_int(j, "memory_mb", 512);
    s->disk_gb = (uint32_t)cg_json_int(j, "disk_gb", 1);
    s->created_wall = cg_json_int(inner, "created", 0);
    s->completed_wall = cg_json_int(inner, "completed", 0);
    s->stall_ns = cg_json_int(inner, "stall_ns", 0);
    s->hidden = cg_json_bool(inner, "hidden", false);
    s->base_path = dup_member(inner, "base");
    s->env_json = dup_member(inner, "env");
    s->status = cg_streq(cg_json_str(j, "status"), "completed") ? CG_SNAPSHOT_COMPLETED
                                                                : CG_SNAPSHOT_FAILED;
    const char *why = cg_json_str(j, "error");
    if (s->status == CG_SNAPSHOT_FAILED)
        cg_fail(&s->error, CG_CLOSED, "%s",
                why ? why : "the server was restarted while it was made");
    cg_map_put(&table, s->id, s);
}

/* Hidden ones of a fork that was cut, and what is left of failed ones. */
static void sweep(struct cg_core *c)
{
    CG_OWN(cg_drop_free) char *parent = cg_format("%s/snapshots", c->options.state_dir);
    CG_OWN(cg_drop_dir) DIR *d = opendir(parent);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        struct cg_snapshot *s = cg_map_get(&table, entry->d_name);
        if (entry->d_name[0] == '.' || (s && s->status == CG_SNAPSHOT_COMPLETED && !s->hidden))
            continue;
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", parent, entry->d_name);
        (void)!cg_fs_remove_tree(path, NULL);
        if (s && s->hidden) {
            cg_store_delete_item(c->store, item_kind, s->id, NULL, NULL);
            cg_map_remove(&table, s->id);
            free_snapshot(s);
        }
    }
}

bool cg_snapshots_start(struct cg_core *c, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *parent = cg_format("%s/snapshots", c->options.state_dir);
    if (!cg_fs_mkdirs(parent, 0700, e) || !cg_store_each_item(c->store, item_kind, load, c, e))
        return false;
    sweep(c);
    return true;
}

/* --- making --- */

struct taking {
    struct cg_core *core;
    struct cg_sandbox *sb; /* lives as long as the core */
    struct cg_snapshot *s;
    struct cg_wcall call;
    uv_work_t work;
    int64_t limit; /* bytes */
    char *from;    /* the sandbox's directory */
    struct cg_err err;
    bool ok, runs, frozen, closed;
    cg_snapshot_done *done;
    void *ctx;
};

static const char moved[] = "vm.state.original";

static int64_t blocks_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_blocks * 512 : 0;
}

static void on_item(void *ctx, const struct cg_err *err)
{
    struct taking *t = ctx;
    struct cg_snapshot *s = t->s;
    const struct cg_err *why = s->status == CG_SNAPSHOT_FAILED ? &s->error : err;
    cg_log(why ? CG_LOG_WARN : CG_LOG_INFO,
           CG_EVENT(why ? "snapshot.failed" : "snapshot.completed"), CG_S("id", s->id),
           CG_S("sandbox", s->sandbox), CG_I("bytes", s->size_bytes), CG_E(why));
    if (t->done)
        t->done(t->ctx, s, why);
    free(t->from);
    free(t);
}

static int64_t account_bytes(const char *account)
{
    size_t at = 0;
    const char *key;
    void *value;
    int64_t bytes = 0;
    while (cg_map_next(&table, &at, &key, &value)) {
        const struct cg_snapshot *s = value;
        if (s->status == CG_SNAPSHOT_COMPLETED && cg_streq(s->account, account))
            bytes += s->size_bytes;
    }
    return bytes;
}

/* Those of several sandboxes may be made at once, each with all the room that was left. */
static bool still_fits(const struct taking *t, struct cg_err *e)
{
    int64_t most = (int64_t)t->core->options.max_snapshots_mb << 20;
    int64_t bytes = account_bytes(t->s->account);
    return bytes + t->s->size_bytes <= most ||
           cg_fail(e, CG_TOO_LARGE, "the snapshot has %lld MiB, %lld are left of the account's",
                   (long long)(t->s->size_bytes >> 20), (long long)((most - bytes) >> 20));
}

static void finish(struct taking *t)
{
    struct cg_snapshot *s = t->s;
    t->sb->snapshotting = false;
    t->ok = t->ok && still_fits(t, &t->err);
    s->completed_wall = cg_wall_ns();
    s->status = t->ok ? CG_SNAPSHOT_COMPLETED : CG_SNAPSHOT_FAILED;
    if (!t->ok) {
        s->error = t->err;
        s->size_bytes = 0;
        CG_OWN(cg_drop_free) char *dir = cg_snapshot_path(t->core, s, NULL);
        (void)!cg_fs_remove_tree(dir, NULL);
    }
    struct cg_sandbox *sb = t->sb;
    save(t->core, s, on_item, t);
    cg_pause_settled(sb);
}

/* The second half, off the guest's time: a copy of the state (the original was a file of the
 * sandbox's uid, and uids are given out again), and all of it to disk. */
static bool settle(struct taking *t, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_snapshot_path(t->core, t->s, NULL);
    CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", dir);
    CG_OWN(cg_drop_free)
    char *state_from =
        cg_format("%s/%s", t->frozen ? dir : t->from, t->frozen ? moved : "vm.state");
    CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", dir);
    if (t->s->memory && !cg_copy_file(state_from, state, 0644, 0, e))
        return false;
    if (t->s->memory && t->frozen)
        unlink(state_from);
    t->s->size_bytes = blocks_of(disk) + (t->s->memory ? blocks_of(state) : 0);
    if (t->s->size_bytes > t->limit)
        return cg_fail(e, CG_TOO_LARGE, "the snapshot would have %lld MiB, at most %lld are left",
                       (long long)(t->s->size_bytes >> 20), (long long)(t->limit >> 20));
    CG_OWN(cg_drop_fd) int fd = open(disk, O_RDONLY | O_CLOEXEC);
    CG_OWN(cg_drop_fd) int state_fd = t->s->memory ? open(state, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || fsync(fd) != 0 || (t->s->memory && (state_fd < 0 || fsync(state_fd) != 0)))
        return cg_fail_sys(e, "sync the snapshot");
    return true;
}

static void settle_work(uv_work_t *work)
{
    struct taking *t = CG_CONTAINER(work, struct taking, work);
    t->ok = settle(t, &t->err);
}

static void settled(uv_work_t *work, int status)
{
    (void)status;
    finish(CG_CONTAINER(work, struct taking, work));
}

/* While the guest goes on: most of the disk, torn as it may be. */
static void precopy_work(uv_work_t *work)
{
    struct taking *t = CG_CONTAINER(work, struct taking, work);
    CG_OWN(cg_drop_free) char *dir = cg_snapshot_path(t->core, t->s, NULL);
    CG_OWN(cg_drop_free) char *from = cg_format("%s/disk.img", t->from);
    CG_OWN(cg_drop_free) char *to = cg_format("%s/disk.img", dir);
    int64_t bytes = blocks_of(from);
    t->ok = cg_fs_mkdirs(dir, 0700, &t->err);
    if (t->ok && bytes > t->limit)
        t->ok = cg_fail(&t->err, CG_TOO_LARGE, "the disk has %lld MiB, at most %lld are left",
                        (long long)(bytes >> 20), (long long)(t->limit >> 20));
    t->ok = t->ok && cg_copy_file(from, to, 0600, 0, &t->err);
    /* when a guest stops its VMM waits until its disk is durable: most of that now */
    CG_OWN(cg_drop_fd) int fd = t->runs ? open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (t->ok && fd >= 0)
        (void)!fdatasync(fd);
}

/* While it stands still: what changed since. */
static void copy_work(uv_work_t *work)
{
    struct taking *t = CG_CONTAINER(work, struct taking, work);
    CG_OWN(cg_drop_free) char *from = cg_format("%s/disk.img", t->from);
    CG_OWN(cg_drop_free) char *to = cg_snapshot_path(t->core, t->s, "disk.img");
    t->ok = cg_copy_changes(from, to, &t->err);
    if (t->ok && t->s->memory) { /* before the next one is saved there */
        CG_OWN(cg_drop_free) char *state = cg_format("%s/vm.state", t->from);
        CG_OWN(cg_drop_free) char *away = cg_snapshot_path(t->core, t->s, moved);
        t->ok = rename(state, away) == 0 || cg_fail_sys(&t->err, "take %s", state);
    }
}

static void copied(uv_work_t *work, int status)
{
    struct taking *t = CG_CONTAINER(work, struct taking, work);
    (void)status;
    if (t->frozen) {
        t->s->stall_ns += cg_mono_ns();
        if (t->closed)
            t->ok = t->ok && cg_fail(&t->err, CG_CLOSED, "the sandbox ended meanwhile");
        else
            cg_wcall_forget(&t->call); /* the guest goes on */
    }
    if (t->ok)
        uv_queue_work(t->core->loop, &t->work, settle_work, settled);
    else
        finish(t);
}

static void on_frozen(struct cg_wcall *call, const struct cg_json *info)
{
    struct taking *t = CG_CONTAINER(call, struct taking, call);
    t->frozen = true;
    t->s->stall_ns = cg_json_int(info, "stall_ns", 0) - cg_mono_ns();
    uv_queue_work(t->core->loop, &t->work, copy_work, copied);
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct taking *t = CG_CONTAINER(call, struct taking, call);
    (void)result;
    if (t->frozen) { /* in the middle of the copy: it is not of one moment */
        t->closed = true;
        return;
    }
    t->ok = false;
    if (error)
        t->err = *error;
    else
        cg_fail(&t->err, CG_CLOSED, "the sandbox ended meanwhile");
    finish(t);
}

static bool room_for(const struct cg_sandbox *sb, int64_t *left, struct cg_err *e)
{
    size_t at = 0;
    const char *key;
    void *value;
    unsigned of_sandbox = 0;
    int64_t bytes = account_bytes(sb->account);
    while (cg_map_next(&table, &at, &key, &value)) {
        const struct cg_snapshot *s = value;
        bool counts = !s->hidden && s->status != CG_SNAPSHOT_FAILED &&
                      !cg_streq(s->trigger, CG_SNAPSHOT_AUTO);
        of_sandbox += counts && cg_streq(s->sandbox, sb->id);
    }
    const struct cg_options *o = &sb->core->options;
    *left = CG_MIN((int64_t)o->max_snapshot_mb << 20, ((int64_t)o->max_snapshots_mb << 20) - bytes);
    if (of_sandbox >= o->max_snapshots)
        return cg_fail(e, CG_LIMIT,
                       "sandbox %s has %u snapshots already, the limit is %u (limits.snapshots): "
                       "delete some",
                       sb->id, of_sandbox, o->max_snapshots);
    if (*left <= 0)
        return cg_fail(e, CG_LIMIT,
                       "the account's snapshots have %lld MiB, the limit is %u "
                       "(limits.snapshots_mb): delete some",
                       (long long)(bytes >> 20), o->max_snapshots_mb);
    return true;
}

static struct cg_snapshot *new_snapshot(const struct cg_sandbox *sb,
                                        const struct cg_snapshot_order *o)
{
    struct cg_snapshot *s = cg_alloc(sizeof *s);
    cg_id_make("snap", s->id);
    cg_strlcpy(s->sandbox, sizeof s->sandbox, sb->id);
    cg_strlcpy(s->account, sizeof s->account, sb->account);
    cg_strlcpy(s->name, sizeof s->name, o->name && o->name[0] ? o->name : s->id);
    cg_strlcpy(s->description, sizeof s->description, o->description ? o->description : "");
    cg_strlcpy(s->trigger, sizeof s->trigger, o->trigger);
    cg_strlcpy(s->template_name, sizeof s->template_name, sb->spec.template_name);
    s->memory = o->memory;
    s->hidden = o->hidden;
    s->created_wall = cg_wall_ns();
    s->base_path = sb->base_path ? cg_strdup(sb->base_path) : NULL;
    s->env_json = sb->spec.env_json ? cg_strdup(sb->spec.env_json) : NULL;
    s->cpus = sb->spec.cpus;
    s->memory_mb = sb->spec.memory_mb;
    s->disk_gb = sb->spec.disk_gb;
    cg_map_put(&table, s->id, s);
    return s;
}

static bool may_snapshot(const struct cg_sandbox *sb, bool memory, struct cg_err *e)
{
    bool paused = sb->status == CG_STATUS_PAUSED && !sb->creating;
    if (sb->snapshotting)
        return cg_fail(e, CG_CONFLICT, "another snapshot of sandbox %s is under way", sb->id);
    if (sb->pausing || (sb->creating && sb->status == CG_STATUS_RUNNING))
        return cg_fail(e, CG_CONFLICT, "sandbox %s is %s", sb->id,
                       sb->pausing ? "being paused" : "not whole yet");
    if (paused && memory && !cg_pause_whole(sb))
        return cg_fail(e, CG_CONFLICT, "sandbox %s is paused without its memory", sb->id);
    return paused || cg_sandbox_usable(sb, e);
}

static void precopied(uv_work_t *work, int status)
{
    struct taking *t = CG_CONTAINER(work, struct taking, work);
    struct cg_sandbox *sb = t->sb;
    (void)status;
    if (!t->runs) {
        copied(work, 0);
        return;
    }
    const char *request =
        t->s->memory ? "{\"kind\":\"freeze\",\"ram\":true}" : "{\"kind\":\"freeze\",\"ram\":false}";
    t->ok = t->ok &&
            ((sb->status == CG_STATUS_RUNNING && sb->warden) ||
             cg_fail(&t->err, CG_CLOSED, "the sandbox ended meanwhile")) &&
            cg_wcall_open(sb->warden, &t->call, cg_slice_of(request), &t->err);
    if (!t->ok)
        finish(t);
}

struct cg_snapshot *cg_core_snapshot(struct cg_sandbox *sb, const struct cg_snapshot_order *o,
                                     cg_snapshot_done *done, void *ctx, struct cg_err *e)
{
    int64_t left = 0;
    if (!may_snapshot(sb, o->memory, e) || !room_for(sb, &left, e))
        return NULL;
    struct taking *t = cg_alloc(sizeof *t);
    t->core = sb->core;
    t->sb = sb;
    t->limit = left;
    t->done = done;
    t->ctx = ctx;
    t->call = (struct cg_wcall){.on_accept = on_frozen, .on_close = on_close};
    t->runs = sb->status == CG_STATUS_RUNNING;
    sb->snapshotting = true;
    t->from = cg_sandbox_dir(sb);
    t->s = new_snapshot(sb, o);
    save(t->core, t->s, NULL, NULL);
    uv_queue_work(t->core->loop, &t->work, precopy_work, precopied);
    return t->s;
}

/* --- end --- */

bool cg_snapshot_delete(struct cg_core *c, struct cg_snapshot *s, cg_store_done *done, void *ctx,
                        struct cg_err *e)
{
    if (s->status == CG_SNAPSHOT_PENDING || s->users > 0)
        return cg_fail(e, CG_CONFLICT, "snapshot %s is %s", s->id,
                       s->users > 0 ? "in use" : "not completed yet");
    CG_OWN(cg_drop_free) char *dir = cg_snapshot_path(c, s, NULL);
    cg_store_delete_item(c->store, item_kind, s->id, done, ctx);
    (void)!cg_fs_remove_tree(dir, NULL);
    cg_map_remove(&table, s->id);
    free_snapshot(s);
    return true;
}
