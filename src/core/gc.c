#include "core/gc.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/creation.h"
#include "core/golden.h"
#include "core/snapshots.h"

enum { YOUNG_S = 600, OPEN_DIRS = 16 };

struct gc {
    uv_work_t work;
    struct cg_core *core;
    bool dry;
    struct cg_gc_item items[CG_GC_MAX];
    unsigned n;
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

static void clear_work(uv_work_t *work)
{
    struct gc *g = CG_CONTAINER(work, struct gc, work);
    for (unsigned i = 0; i < g->n; i++) {
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

static void cleared(uv_work_t *work, int status)
{
    struct gc *g = CG_CONTAINER(work, struct gc, work);
    (void)status;
    g->done(g->ctx, g->items, g->n, g->err.code == CG_OK ? NULL : &g->err);
    for (unsigned i = 0; i < g->n; i++)
        free(g->items[i].path);
    free(g);
}

void cg_core_gc(struct cg_core *c, bool dry, cg_gc_done *done, void *ctx)
{
    struct gc *g = cg_alloc(sizeof *g);
    CG_OWN(cg_drop_free) char *sandboxes = cg_format("%s/sandboxes", c->options.state_dir);
    CG_OWN(cg_drop_free) char *snapshots = cg_format("%s/snapshots", c->options.state_dir);
    CG_OWN(cg_drop_free) char *golden = cg_format("%s/golden", c->options.state_dir);
    g->core = c;
    g->dry = dry;
    g->done = done;
    g->ctx = ctx;
    look(g, sandboxes, "sandbox", owned_sandbox);
    look(g, c->options.run_dir, "socket", owned_sandbox);
    look(g, snapshots, "snapshot", owned_snapshot);
    look(g, golden, "golden", owned_golden);
    uv_queue_work(c->loop, &g->work, clear_work, cleared);
}
