/* The store of a record's blobs: what is there, in the order in which it was put last; what waits
 * for the next flush; what is to leave with it. Memory: one entry of about 200 bytes a blob, and
 * the quota counts blocks of 4 KiB, so that the default of 512 MiB means at most 131,072 of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/map.h"
#include "record/blob.h"

enum { LEVEL = 1, BLOCK = 4096, PENDING_MAX = 256, NAME_ROOM = CG_BLOB_NAME + 8 };

#define DEFAULT_QUOTA (UINT64_C(512) << 20)
#define PENDING_BYTES_MAX (UINT64_C(64) << 20)

enum state {
    WAITING, /* put; the next flush makes it durable */
    FLYING,  /* with the flush that is under way */
    STORED,
    DOOMED, /* thinned; leaves the disk with the next flush */
    LEAVING /* with the flush that is under way */
};

struct entry {
    struct entry *older, *newer; /* in the order of the last put */
    enum state state;
    uint64_t bytes; /* in blocks */
    int64_t age;    /* while the folder is read: time of the last change */
    char name[CG_BLOB_NAME];
};

struct cg_blobs {
    int dir;
    struct cg_map map;
    struct entry *oldest, *newest;
    uint64_t quota, bytes;
    size_t max_bytes;
    unsigned waiting, doomed;
    uint64_t waiting_bytes, thinned;
    uint64_t parting; /* bytes of what is doomed or leaving */
    /* the flush under way: names only, so that `run` may be on another thread */
    char (*flight)[CG_BLOB_NAME];
    unsigned flight_count;
    char (*leave)[CG_BLOB_NAME];
    unsigned leave_count;
};

static void file_name(const char *name, char out[NAME_ROOM])
{
    cg_snprintf(out, NAME_ROOM, "%s.zst", name);
}

/* Under this name it waits: a file with its own name is whole and on disk. */
static void waiting_name(const char *name, char out[NAME_ROOM])
{
    cg_snprintf(out, NAME_ROOM, "%s.new", name);
}

static uint64_t blocks(uint64_t n)
{
    return (n + BLOCK - 1) / BLOCK * BLOCK + (n == 0 ? BLOCK : 0);
}

uint64_t cg_blobs_bound(size_t length)
{
    return blocks(ZSTD_compressBound(length));
}

/* --- the order --- */

static void unlink_entry(struct cg_blobs *b, struct entry *x)
{
    *(x->older ? &x->older->newer : &b->oldest) = x->newer;
    *(x->newer ? &x->newer->older : &b->newest) = x->older;
    x->older = x->newer = NULL;
}

static void link_newest(struct cg_blobs *b, struct entry *x)
{
    x->older = b->newest;
    x->newer = NULL;
    *(b->newest ? &b->newest->newer : &b->oldest) = x;
    b->newest = x;
}

static struct entry *add_entry(struct cg_blobs *b, const char *name, uint64_t bytes,
                               enum state state)
{
    struct entry *x = cg_alloc(sizeof *x);
    *x = (struct entry){.state = state, .bytes = bytes};
    memcpy(x->name, name, CG_BLOB_NAME);
    cg_map_put(&b->map, x->name, x);
    link_newest(b, x);
    b->bytes += bytes;
    return x;
}

static void drop_entry(struct cg_blobs *b, struct entry *x)
{
    b->bytes -= x->bytes;
    unlink_entry(b, x);
    cg_map_remove(&b->map, x->name);
    free(x);
}

/* --- opening --- */

static int by_age(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    if ((*x)->age != (*y)->age)
        return (*x)->age < (*y)->age ? -1 : 1;
    return strcmp((*x)->name, (*y)->name);
}

static void sort_entries(struct cg_blobs *b)
{
    if (b->map.count < 2)
        return;
    struct entry **all = cg_alloc_array(b->map.count, sizeof(struct entry *));
    size_t n = 0;
    for (struct entry *x = b->oldest; x; x = x->newer)
        all[n++] = x;
    /* an array of pointers. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    qsort(all, n, sizeof *all, by_age);
    b->oldest = b->newest = NULL;
    for (size_t i = 0; i < n; i++)
        link_newest(b, all[i]);
    free(all);
}

static void take_file(struct cg_blobs *b, const char *file)
{
    char name[CG_BLOB_NAME];
    struct stat st;
    if (cg_has_suffix(file, ".new")) { /* a crash left it; no line names it */
        unlinkat(b->dir, file, 0);
        return;
    }
    if (strlen(file) != CG_BLOB_NAME - 1 + 4 || !cg_has_suffix(file, ".zst"))
        return;
    (void)cg_strlcpy(name, sizeof name, file);
    if (!cg_blob_name_valid(name) || fstatat(b->dir, file, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(st.st_mode))
        return;
    struct entry *x = add_entry(b, name, blocks((uint64_t)st.st_size), STORED);
    x->age = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

static bool list_folder(struct cg_blobs *b, struct cg_err *e)
{
    int fd = dup(b->dir);
    CG_OWN(cg_drop_dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        cg_drop_fd(&fd);
        return cg_fail_sys(e, "list the record's blobs");
    }
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        take_file(b, entry->d_name);
    sort_entries(b);
    return true;
}

struct cg_blobs *cg_blobs_open(int record_dir, const struct cg_blobs_options *o, struct cg_err *e)
{
    if (mkdirat(record_dir, CG_BLOB_DIR, 02770) != 0 && errno != EEXIST) {
        cg_fail_sys(e, "make the folder of the record's blobs");
        return NULL;
    }
    struct cg_blobs *b = cg_alloc(sizeof *b);
    cg_map_init(&b->map);
    b->quota = o->quota_bytes ? o->quota_bytes : DEFAULT_QUOTA;
    b->max_bytes = o->max_bytes ? CG_MIN(o->max_bytes, (size_t)CG_BLOB_MAX) : (size_t)CG_BLOB_MAX;
    b->dir = openat(record_dir, CG_BLOB_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (b->dir < 0)
        cg_fail_sys(e, "open the folder of the record's blobs");
    if (b->dir < 0 || !list_folder(b, e)) {
        cg_blobs_close(b);
        return NULL;
    }
    return b;
}

static void remove_waiting(struct cg_blobs *b, struct entry *x)
{
    char path[NAME_ROOM];
    waiting_name(x->name, path);
    unlinkat(b->dir, path, 0);
    drop_entry(b, x);
}

void cg_blobs_close(struct cg_blobs *b)
{
    if (!b)
        return;
    struct entry *next;
    for (struct entry *x = b->oldest; x; x = next) {
        next = x->newer;
        if (x->state == WAITING || x->state == FLYING)
            remove_waiting(b, x);
        else
            drop_entry(b, x);
    }
    cg_map_finish(&b->map);
    cg_drop_fd(&b->dir);
    free(b->flight);
    free(b->leave);
    free(b);
}

/* --- putting --- */

/* The kernel's own stamps are as coarse as its tick: many blobs would be of the same age. */
static void right_now(struct timespec out[2])
{
    clock_gettime(CLOCK_REALTIME, &out[0]);
    out[1] = out[0];
}

static bool write_waiting(struct cg_blobs *b, const char *name, const void *p, size_t n,
                          struct cg_err *e)
{
    char path[NAME_ROOM];
    waiting_name(name, path);
    CG_OWN(cg_drop_fd)
    int fd = openat(b->dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0660);
    if (fd < 0)
        return cg_fail_sys(e, "make blob %s", name);
    struct timespec now[2];
    right_now(now);
    if (cg_fd_write_full(fd, p, n, e)) {
        (void)futimens(fd, now);
        return true;
    }
    unlinkat(b->dir, path, 0);
    return cg_wrap(e, "write blob %s", name);
}

/* It is there: it becomes the newest, also for whoever opens the store next. */
static void put_again(struct cg_blobs *b, struct entry *x)
{
    char path[NAME_ROOM];
    unlink_entry(b, x);
    link_newest(b, x);
    if (x->state == DOOMED) {
        x->state = STORED;
        b->parting -= x->bytes;
        b->doomed--;
    }
    if (x->state != STORED)
        return;
    struct timespec now[2];
    right_now(now);
    file_name(x->name, path);
    (void)utimensat(b->dir, path, now, AT_SYMLINK_NOFOLLOW);
}

/* Room that there will be once all that is doomed has left. */
static bool fits(const struct cg_blobs *b, uint64_t bytes)
{
    return b->bytes - b->parting + bytes <= b->quota;
}

void cg_blobs_begin(const struct cg_blobs *b, struct cg_slice bytes, struct cg_blob_work *w)
{
    *w = (struct cg_blob_work){.bytes = bytes, .dir = b ? b->dir : -1};
}

static void pack(struct cg_blob_work *w)
{
    size_t bound = ZSTD_compressBound(w->bytes.n);
    char *packed = cg_realloc(NULL, bound);
    size_t n = ZSTD_compress(packed, bound, w->bytes.p ? w->bytes.p : "", w->bytes.n, LEVEL);
    if (ZSTD_isError(n)) {
        free(packed);
        return;
    }
    w->packed = packed;
    w->packed_n = n;
}

/* One that has its file is not packed again. If it leaves before the end, it is packed there. */
void cg_blob_work_run(struct cg_blob_work *w)
{
    char path[NAME_ROOM];
    cg_blob_name(w->bytes, w->name);
    file_name(w->name, path);
    if (w->dir < 0 || faccessat(w->dir, path, F_OK, 0) != 0)
        pack(w);
}

void cg_blob_work_finish(struct cg_blob_work *w)
{
    free(CG_MOVE(w->packed));
    cg_buf_finish(&w->clean);
}

bool cg_blobs_end(struct cg_blobs *b, struct cg_blob_work *w, struct cg_err *e)
{
    if (w->bytes.n > b->max_bytes)
        return cg_fail(e, CG_TOO_LARGE, "%zu bytes are more than a blob may have (%zu)", w->bytes.n,
                       b->max_bytes);
    if (!w->name[0])
        cg_blob_name(w->bytes, w->name);
    struct entry *x = cg_map_get(&b->map, w->name);
    if (x && x->state == LEAVING)
        return cg_fail(e, CG_LIMIT, "blob %s is being thinned at this moment", w->name);
    if (x) {
        put_again(b, x);
        return true;
    }
    if (!w->packed)
        pack(w);
    if (!w->packed)
        return cg_fail(e, CG_INTERNAL, "a blob could not be compressed");
    size_t n = w->packed_n;
    if (!fits(b, blocks(n)))
        return cg_fail(e, CG_LIMIT, "the record's blobs have used their %llu bytes",
                       (unsigned long long)b->quota);
    if (b->waiting >= PENDING_MAX || b->waiting_bytes + n > PENDING_BYTES_MAX)
        return cg_fail(e, CG_LIMIT, "too many blobs wait for the disk");
    if (!write_waiting(b, w->name, w->packed, n, e))
        return false;
    add_entry(b, w->name, blocks(n), WAITING);
    b->waiting++;
    b->waiting_bytes += n;
    return true;
}

bool cg_blobs_put(struct cg_blobs *b, struct cg_slice bytes, char name[CG_BLOB_NAME],
                  struct cg_err *e)
{
    struct cg_blob_work w;
    cg_blobs_begin(b, bytes, &w);
    bool ok = cg_blobs_end(b, &w, e);
    memcpy(name, w.name, CG_BLOB_NAME);
    cg_blob_work_finish(&w);
    return ok;
}

bool cg_blobs_thin(struct cg_blobs *b, uint64_t bytes, unsigned max,
                   void (*told)(void *ctx, const char *name), void *ctx)
{
    unsigned n = 0;
    for (struct entry *x = b->oldest; x && n < max && !fits(b, bytes); x = x->newer) {
        if (x->state != STORED)
            continue;
        x->state = DOOMED;
        b->parting += x->bytes;
        b->doomed++;
        b->thinned++;
        n++;
        told(ctx, x->name);
    }
    return fits(b, bytes);
}

void cg_blobs_spare(struct cg_blobs *b)
{
    for (struct entry *x = b->oldest; x && b->doomed > 0; x = x->newer) {
        if (x->state != DOOMED)
            continue;
        x->state = STORED;
        b->parting -= x->bytes;
        b->doomed--;
        b->thinned--;
    }
}

/* --- a flush --- */

void cg_blobs_take(struct cg_blobs *b)
{
    CG_ASSERT(b->flight_count == 0 && b->leave_count == 0);
    if (b->waiting == 0 && b->doomed == 0)
        return;
    b->flight = cg_realloc(b->flight, CG_MAX(b->waiting, 1U) * sizeof *b->flight);
    b->leave = cg_realloc(b->leave, CG_MAX(b->doomed, 1U) * sizeof *b->leave);
    /* what waits is among the newest, what is doomed among the oldest */
    for (struct entry *x = b->newest; x && b->flight_count < b->waiting; x = x->older)
        if (x->state == WAITING) {
            memcpy(b->flight[b->flight_count++], x->name, CG_BLOB_NAME);
            x->state = FLYING;
        }
    for (struct entry *x = b->oldest; x && b->leave_count < b->doomed; x = x->newer)
        if (x->state == DOOMED) {
            memcpy(b->leave[b->leave_count++], x->name, CG_BLOB_NAME);
            x->state = LEAVING;
        }
    b->waiting = b->doomed = 0;
    b->waiting_bytes = 0;
}

static bool sync_one(struct cg_blobs *b, const char *name, struct cg_err *e)
{
    char from[NAME_ROOM], to[NAME_ROOM];
    waiting_name(name, from);
    file_name(name, to);
    CG_OWN(cg_drop_fd) int fd = openat(b->dir, from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fdatasync(fd) != 0 || renameat(b->dir, from, b->dir, to) != 0)
        return cg_fail_sys(e, "sync blob %s", name);
    return true;
}

bool cg_blobs_run(struct cg_blobs *b, struct cg_err *e)
{
    for (unsigned i = 0; i < b->flight_count; i++)
        if (!sync_one(b, b->flight[i], e))
            return false;
    if (b->flight_count > 0 && fsync(b->dir) != 0)
        return cg_fail_sys(e, "sync the folder of the record's blobs");
    return true;
}

void cg_blobs_reap(struct cg_blobs *b)
{
    for (unsigned i = 0; i < b->leave_count; i++) {
        char path[NAME_ROOM];
        file_name(b->leave[i], path);
        (void)unlinkat(b->dir, path, 0);
    }
}

/* After a failed flush some of it may have its own name already. */
static void drop_flown(struct cg_blobs *b, struct entry *x)
{
    char path[NAME_ROOM];
    file_name(x->name, path);
    (void)unlinkat(b->dir, path, 0);
    remove_waiting(b, x);
}

void cg_blobs_done(struct cg_blobs *b, bool fine)
{
    for (unsigned i = 0; i < b->flight_count; i++) {
        struct entry *x = cg_map_get(&b->map, b->flight[i]);
        if (fine)
            x->state = STORED;
        else
            drop_flown(b, x);
    }
    for (unsigned i = 0; i < b->leave_count; i++) {
        struct entry *x = cg_map_get(&b->map, b->leave[i]);
        b->parting -= x->bytes;
        if (fine)
            drop_entry(b, x);
        else
            x->state = STORED;
    }
    b->flight_count = b->leave_count = 0;
    if (fine)
        return;
    cg_blobs_spare(b);
    struct entry *next;
    for (struct entry *x = b->oldest; x; x = next) {
        next = x->newer;
        if (x->state == WAITING)
            remove_waiting(b, x);
    }
    b->waiting = 0;
    b->waiting_bytes = 0;
}

bool cg_blobs_pending(const struct cg_blobs *b)
{
    return b->waiting > 0 || b->doomed > 0 || b->flight_count > 0 || b->leave_count > 0;
}

void cg_blobs_get_stats(const struct cg_blobs *b, struct cg_blobs_stats *out)
{
    *out = (struct cg_blobs_stats){b->bytes, b->quota, b->map.count, b->thinned};
}
