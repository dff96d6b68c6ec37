#include "core/retain.h"

#include <dirent.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"

enum { OPEN_DIRS = 16, DAY_S = 86400 };

static const char half_gone[] = "record.gone";

static _Thread_local int64_t sum;

static int add_size(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)path;
    (void)kind;
    (void)at;
    sum += (int64_t)st->st_blocks * 512;
    return 0;
}

static void finish_removal(const char *archive, const char *id)
{
    CG_OWN(cg_drop_free) char *gone = cg_format("%s/%s/%s", archive, id, half_gone);
    struct cg_err e = CG_ERR_INIT;
    if (cg_fs_exists(gone) && !cg_fs_remove_tree(gone, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("retention.not_removed"), CG_S("id", id), CG_E(&e));
}

static bool look(const char *archive, const char *id, struct cg_retain_item *out)
{
    CG_OWN(cg_drop_free) char *record = cg_format("%s/%s/record", archive, id);
    struct stat st;
    if (lstat(record, &st) != 0 || !S_ISDIR(st.st_mode))
        return false;
    *out = (struct cg_retain_item){.ended_wall = (int64_t)st.st_mtim.tv_sec * 1000000000 +
                                                 st.st_mtim.tv_nsec};
    (void)cg_strlcpy(out->id, sizeof out->id, id);
    sum = 0;
    nftw(record, add_size, OPEN_DIRS, FTW_PHYS | FTW_MOUNT);
    out->bytes = sum;
    return true;
}

static int oldest_first(const void *a, const void *b)
{
    const struct cg_retain_item *x = a;
    const struct cg_retain_item *y = b;
    if (x->ended_wall != y->ended_wall)
        return x->ended_wall < y->ended_wall ? -1 : 1;
    return strcmp(x->id, y->id);
}

/* All of the archive, oldest first; the caller's. */
static struct cg_retain_item *list(const char *archive, size_t *n)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir(archive);
    struct cg_retain_item *all = NULL;
    size_t cap = 0;
    struct dirent *entry;
    *n = 0;
    while (d && (entry = readdir(d))) {
        if (!cg_id_valid(entry->d_name, "cage"))
            continue;
        finish_removal(archive, entry->d_name);
        if (*n == cap) {
            struct cg_retain_item *more = cg_alloc_array(cap = cap ? 2 * cap : 64, sizeof *more);
            if (all)
                memcpy(more, all, *n * sizeof *more);
            free(all);
            all = more;
        }
        *n += look(archive, entry->d_name, &all[*n]);
    }
    if (all)
        qsort(all, *n, sizeof *all, oldest_first);
    return all;
}

unsigned cg_retain_pick(const struct cg_retain *r, struct cg_retain_item *out, unsigned max)
{
    CG_OWN(cg_drop_free) char *archive = cg_format("%s/archive", r->state_dir);
    size_t n = 0;
    CG_OWN(cg_drop_free) struct cg_retain_item *all = list(archive, &n);
    int64_t total = 0;
    int64_t most = (int64_t)r->keep_mb << 20;
    int64_t oldest = r->now_wall - (int64_t)r->keep_days * DAY_S * 1000000000;
    unsigned picked = 0;
    for (size_t i = 0; i < n; i++)
        total += all[i].bytes;
    for (size_t i = 0; i < n && picked < max; i++) {
        bool old = r->keep_days > 0 && all[i].ended_wall < oldest;
        bool over = r->keep_mb > 0 && total > most;
        if (!old && !over)
            break; /* what follows is younger, and together smaller */
        out[picked++] = all[i];
        total -= all[i].bytes;
    }
    return picked;
}

bool cg_retain_gone(const struct cg_sandbox *sb, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_record_dir(sb);
    CG_OWN(cg_drop_free) char *memory = cg_seals_memory(sb->core, sb->id);
    if (sb->slot > 0 || cg_fs_exists(dir) || !cg_fs_exists(memory))
        return false;
    (void)cg_fail(e, CG_NOT_FOUND,
                  "the record of %s is not kept any more: the operator's retention removed it, and "
                  "the audit log says when",
                  sb->id);
    return true;
}

bool cg_retain_remove(const char *state_dir, const char *id, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *record = cg_format("%s/archive/%s/record", state_dir, id);
    CG_OWN(cg_drop_free) char *gone = cg_format("%s/archive/%s/%s", state_dir, id, half_gone);
    CG_OWN(cg_drop_free) char *index = cg_format("%s/index/%s", state_dir, id);
    if (rename(record, gone) != 0)
        return cg_fail_sys(e, "set aside the record of %s", id);
    return cg_fs_remove_tree(gone, e) && (!cg_fs_exists(index) || cg_fs_remove_tree(index, e));
}
