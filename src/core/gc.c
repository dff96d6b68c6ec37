#include "core/gc.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/audit.h"
#include "core/creation.h"
#include "core/golden.h"
#include "core/retain.h"
#include "core/snapshots.h"

enum { YOUNG_S = 600, OPEN_DIRS = 16, FIRST_S = 60, EVERY_S = 3600 };

struct gc {
    uv_work_t work;
    struct cg_core *core;
    bool dry;
    struct cg_gc_item items[CG_GC_MAX];
    unsigned n, first_record; /* items from here on are records */
    struct cg_retain retain;
    struct cg_err err;
    cg_gc_done *done;
    void *ctx;
};

static bool is_young(const char *path)
{
    struct stat st;
    return lstat(path, &st) != 0 || cg_wall_ns() / 1000000000 - st.st_mtime < YOUNG_S;
}

/* --- what is owned --- */

static bool owned_sandbox(struct cg_core *c, const char *name)
{
    const struct cg_sandbox *sb = cg_map_get(&c->by_id, name);
    struct cg_sandbox ghost = {.core = c};
    if (!cg_id_valid(name, "cage") || (sb && sb->slot > 0))
        return true;
    cg_strlcpy(ghost.id, sizeof ghost.id, name);
    return cg_keeper_lives(&ghost); /* a spare, or a helper at work */
}

static bool owned_snapshot(struct cg_core *c, const char *name)
{
    const struct cg_snapshot *s = cg_snapshot_find(c, name);
    return !cg_id_valid(name, "snap") || (s && s->status != CG_SNAPSHOT_FAILED);
}

static bool owned_golden(struct cg_core *c, const char *name)
{
    return strlen(name) == CG_GOLDEN_KEY - 1 || cg_snapshot_find(c, name);
}

static void look(struct gc *g, const char *parent, const char *what,
                 bool (*owned)(struct cg_core *c, const char *name))
{
    CG_OWN(cg_drop_dir) DIR *d = opendir(parent);
    struct dirent *entry;
    while (d && (entry = readdir(d)) && g->n < CG_GC_MAX) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", parent, entry->d_name);
        if (entry->d_name[0] == '.' || owned(g->core, entry->d_name) || is_young(path))
            continue;
        g->items[g->n++] = (struct cg_gc_item){.path = CG_MOVE(path), .what = what};
    }
}

/* --- on the pool --- */

static _Thread_local int64_t sum;

static int add_size(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)path;
    (void)kind;
    (void)at;
    sum += (int64_t)st->st_blocks * 512;
    return 0;
}

static void pick_records(struct gc *g)
{
    unsigned room = CG_GC_MAX - g->n;
    CG_OWN(cg_drop_free) struct cg_retain_item *old = cg_alloc_array(room + 1, sizeof *old);
    unsigned n = cg_retain_pick(&g->retain, old, room);
    for (unsigned i = 0; i < n; i++) {
        struct cg_gc_item *item = &g->items[g->n++];
        *item = (struct cg_gc_item){.what = "record", .bytes = old[i].bytes};
        item->path = cg_format("%s/archive/%s/record", g->retain.state_dir, old[i].id);
        (void)cg_strlcpy(item->id, sizeof item->id, old[i].id);
    }
}

static void clear_work(uv_work_t *work)
{
    struct gc *g = CG_CONTAINER(work, struct gc, work);
    g->first_record = g->n;
    pick_records(g);
    for (unsigned i = 0; i < g->first_record; i++) {
        struct cg_gc_item *item = &g->items[i];
        sum = 0;
        nftw(item->path, add_size, OPEN_DIRS, FTW_PHYS | FTW_MOUNT);
        item->bytes = sum;
        item->removed = !g->dry && cg_fs_remove_tree(item->path, &g->err);
        if (item->removed)
            cg_log(CG_LOG_INFO, CG_EVENT("gc.removed"), CG_S("path", item->path),
                   CG_I("bytes", item->bytes));
    }
}

static void remove_work(uv_work_t *work)
{
    struct gc *g = CG_CONTAINER(work, struct gc, work);
    for (unsigned i = g->first_record; i < g->n; i++) {
        struct cg_gc_item *item = &g->items[i];
        item->removed = cg_retain_remove(g->retain.state_dir, item->id, &g->err);
        if (item->removed)
            cg_log(CG_LOG_INFO, CG_EVENT("retention.removed"), CG_S("id", item->id),
                   CG_I("bytes", item->bytes));
    }
}

static void finish(struct gc *g)
{
    if (g->done)
        g->done(g->ctx, g->items, g->n, g->err.code == CG_OK ? NULL : &g->err);
    for (unsigned i = 0; i < g->n; i++)
        free(g->items[i].path);
    free(g);
}

static void removed(uv_work_t *work, int status)
{
    (void)status;
    finish(CG_CONTAINER(work, struct gc, work));
}

/* It is on disk that they go: now they may. */
static void on_noted(void *ctx, const struct cg_err *err)
{
    struct gc *g = ctx;
    if (err) {
        g->err = *err;
        finish(g);
        return;
    }
    uv_queue_work(g->core->loop, &g->work, remove_work, removed);
}

static void cleared(uv_work_t *work, int status)
{
    struct gc *g = CG_CONTAINER(work, struct gc, work);
    (void)status;
    if (g->dry || g->first_record == g->n) {
        finish(g);
        return;
    }
    for (unsigned i = g->first_record; i < g->n; i++) {
        const struct cg_sandbox *sb = cg_map_get(&g->core->by_id, g->items[i].id);
        struct cg_audit a = {.action = "retention", .status = 200};
        (void)cg_strlcpy(a.account, sizeof a.account, sb ? sb->account : "");
        cg_snprintf(a.target, sizeof a.target, "/v1/sandboxes/%s/record", g->items[i].id);
        cg_audit_note(g->core, &a, i + 1 == g->n ? on_noted : NULL, g);
    }
}

static struct gc *begin(struct cg_core *c)
{
    struct gc *g = cg_alloc(sizeof *g);
    g->core = c;
    g->retain = (struct cg_retain){c->options.state_dir, c->options.record_keep_days,
                                   c->options.record_keep_mb, cg_wall_ns()};
    return g;
}

void cg_core_gc(struct cg_core *c, bool dry, cg_gc_done *done, void *ctx)
{
    struct gc *g = begin(c);
    CG_OWN(cg_drop_free) char *sandboxes = cg_format("%s/sandboxes", c->options.state_dir);
    CG_OWN(cg_drop_free) char *snapshots = cg_format("%s/snapshots", c->options.state_dir);
    CG_OWN(cg_drop_free) char *golden = cg_format("%s/golden", c->options.state_dir);
    g->dry = dry;
    g->done = done;
    g->ctx = ctx;
    look(g, sandboxes, "sandbox", owned_sandbox);
    look(g, c->options.run_dir, "socket", owned_sandbox);
    look(g, snapshots, "snapshot", owned_snapshot);
    look(g, golden, "golden", owned_golden);
    uv_queue_work(c->loop, &g->work, clear_work, cleared);
}

/* --- by itself --- */

static uv_timer_t *timer;
static bool under_way;

static void on_old_gone(void *ctx, const struct cg_gc_item *items, unsigned n,
                        const struct cg_err *err)
{
    (void)ctx;
    (void)items;
    under_way = false;
    if (err)
        cg_log(CG_LOG_WARN, CG_EVENT("retention.failed"), CG_I("records", n), CG_E(err));
}

static void on_timer(uv_timer_t *t)
{
    const struct cg_core *c = t->data; /* what is kept may be configured by a later reload */
    if (under_way || (c->options.record_keep_days == 0 && c->options.record_keep_mb == 0))
        return;
    struct gc *g = begin(t->data);
    under_way = true;
    g->done = on_old_gone;
    uv_queue_work(g->core->loop, &g->work, clear_work, cleared);
}

void cg_gc_start(struct cg_core *c)
{
    timer = cg_alloc(sizeof *timer);
    timer->data = c;
    uv_timer_init(c->loop, timer);
    uv_timer_start(timer, on_timer, FIRST_S * 1000, EVERY_S * 1000);
    uv_unref((uv_handle_t *)timer);
}

static void free_timer(uv_handle_t *h)
{
    free(h);
}

void cg_gc_stop(struct cg_core *c)
{
    (void)c;
    if (timer)
        uv_close((uv_handle_t *)timer, free_timer);
    timer = NULL;
}
