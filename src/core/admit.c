/* Admission: whether there is room for one more, decided and reserved at once. All of it happens on
 * the loop, between two events, so a thousand requests against room for ten give ten. */
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/creation.h"
#include "core/snapshots.h"

enum { DISK_FREE_MIN_MIB = 2048, DISK_PROMISED = 4, CPUS_A_PROCESSOR = 32 };

static unsigned living(const struct cg_core *c)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= CG_SLOTS; i++)
        n += c->slots[i];
    return n - c->nspares;
}

uint32_t cg_take_slot(struct cg_core *c)
{
    for (uint32_t i = 1; i <= CG_SLOTS; i++) {
        if (!c->slots[i]) {
            c->slots[i] = 1;
            return i;
        }
    }
    return 0;
}

/* Half as much again as the machine has: sandboxes share what none has changed, and few use all of
 * theirs. */
static uint64_t memory_limit_mb(const struct cg_core *c)
{
    if (c->options.max_memory_mb > 0)
        return c->options.max_memory_mb;
    int64_t pages = sysconf(_SC_PHYS_PAGES);
    int64_t page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 1048576 * 3 / 2 : UINT64_MAX;
}

static bool runs(const struct cg_sandbox *sb)
{
    return sb->slot > 0 && (sb->status != CG_STATUS_PAUSED || sb->creating);
}

static uint64_t memory_taken_mb(const struct cg_core *c, const struct cg_sandbox *but)
{
    uint64_t sum = 0;
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        sum += runs(sb) && sb != but ? sb->spec.memory_mb : 0;
    return sum;
}

static bool admit_memory(const struct cg_core *c, uint32_t memory_mb, const struct cg_sandbox *but,
                         struct cg_err *e)
{
    uint64_t taken = memory_taken_mb(c, but);
    uint64_t limit = memory_limit_mb(c);
    return taken + memory_mb <= limit ||
           cg_fail(e, CG_LIMIT,
                   "no room for %u MB of memory: running sandboxes have %llu of %llu MB "
                   "(limits.memory_mb); pause or destroy some",
                   memory_mb, (unsigned long long)taken, (unsigned long long)limit);
}

/* A vCPU is a thread: many may wait for work, few may be at it. */
static bool admit_cpus(const struct cg_core *c, uint32_t cpus, const struct cg_sandbox *but,
                       struct cg_err *e)
{
    int64_t processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t limit = c->options.max_cpus > 0 ? c->options.max_cpus
                                             : (uint64_t)CG_MAX(processors, 1) * CPUS_A_PROCESSOR;
    uint64_t taken = 0;
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        taken += runs(sb) && sb != but ? sb->spec.cpus : 0;
    return taken + cpus <= limit ||
           cg_fail(e, CG_LIMIT,
                   "no room for %u vCPUs: running sandboxes have %llu of %llu (limits.cpus); pause "
                   "or destroy some",
                   cpus, (unsigned long long)taken, (unsigned long long)limit);
}

bool cg_admit_running(const struct cg_core *c, uint32_t cpus, uint32_t memory_mb,
                      const struct cg_sandbox *but, struct cg_err *e)
{
    return admit_memory(c, memory_mb, but, e) && admit_cpus(c, cpus, but, e);
}

/* Disks are sparse, so more is promised than there is; and some of what there is has to be free. */
static bool admit_disk(const struct cg_core *c, uint32_t disk_gb, struct cg_err *e)
{
    struct statvfs fs;
    if (statvfs(c->options.state_dir, &fs) != 0)
        return cg_fail_sys(e, "look at the file system of %s", c->options.state_dir);
    uint64_t mib = (uint64_t)fs.f_bavail * fs.f_frsize / 1048576;
    if (mib < DISK_FREE_MIN_MIB)
        return cg_fail(e, CG_LIMIT, "only %llu MiB are free below %s, a sandbox needs %d at least",
                       (unsigned long long)mib, c->options.state_dir, (int)DISK_FREE_MIN_MIB);
    uint64_t limit = c->options.max_disk_gb;
    if (limit == 0)
        limit = (uint64_t)fs.f_blocks * fs.f_frsize / 1073741824 * DISK_PROMISED;
    uint64_t taken = 0;
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        taken += sb->slot > 0 ? sb->spec.disk_gb : 0;
    return taken + disk_gb <= limit ||
           cg_fail(e, CG_LIMIT,
                   "no room for a disk of %u GB: sandboxes have %llu of %llu GB (limits.disk_gb); "
                   "destroy some",
                   disk_gb, (unsigned long long)taken, (unsigned long long)limit);
}

/* It is there; its agents are known and fit, if they are not installed yet. */
static bool admit_template(const struct cg_core *c, const char *name, bool has_base,
                           struct cg_err *e)
{
    struct cg_image image = {0};
    CG_OWN(cg_drop_free) char *base = cg_strndup(name, strcspn(name, "+"));
    if (!cg_image_resolve(&c->images, base, &image, e))
        return false;
    cg_image_finish(&image);
    if (has_base || !strchr(name, '+'))
        return true;
    struct cg_err why = CG_ERR_INIT;
    bool there = cg_image_resolve(&c->images, name, &image, &why);
    cg_image_finish(&image);
    if (!there && why.code != CG_UNAVAILABLE) {
        *e = why;
        return false;
    }
    return true;
}

bool cg_admit(struct cg_core *c, const struct cg_spec *s, struct cg_err *e)
{
    if (c->stopping)
        return cg_fail(e, CG_UNAVAILABLE, "the server is stopping");
    unsigned n = living(c);
    if (n >= CG_MIN(c->options.max_sandboxes, (uint32_t)CG_SLOTS))
        return cg_fail(e, CG_LIMIT, "%u sandboxes exist already, limits.sandboxes is %u", n,
                       c->options.max_sandboxes);
    if (!cg_admit_running(c, s->cpus, s->memory_mb, NULL, e) || !admit_disk(c, s->disk_gb, e))
        return false;
    const struct cg_snapshot *from = s->snapshot[0] ? cg_snapshot_find(c, s->snapshot) : NULL;
    if (s->snapshot[0] && !from)
        return cg_fail(e, CG_NOT_FOUND, "there is no snapshot %s", s->snapshot);
    if (from && !cg_snapshot_usable(from, e))
        return false;
    return admit_template(c, s->template_name, from != NULL, e);
}
