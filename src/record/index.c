#include "record/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/reader.h"
#include "record/span.h"

enum { VERSION = 3, BATCH = 8192, SEGMENTS_MAX = 65536 };

static const char magic[8] = "cgindex";

struct head {
    char magic[8];
    uint32_t version, row_size;
    uint64_t count;
    int64_t epoch_wall, last_t;
    struct cg_record_sum sum;
    uint32_t nsegments, nsessions;
    uint8_t failed, ended;
    uint8_t spare[6];
};

/* --- state --- */

static bool read_part(int fd, void *p, size_t n)
{
    return n == 0 || cg_fd_read_full(fd, p, n, NULL);
}

static void forget(struct cg_index *ix)
{
    free(ix->segments);
    ix->segments = NULL;
    ix->nsegments = 0;
    ix->count = 0;
    ix->epoch_wall = 0;
    ix->last_t = 0;
    ix->sum = (struct cg_record_sum){.calls = 0};
    cg_tally_finish(&ix->tally);
}

static bool whole(int fd, uint64_t bytes)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (uint64_t)st.st_size >= bytes;
}

static bool fits(const struct cg_index *ix, const struct head *h)
{
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->version == VERSION &&
           h->row_size == sizeof(struct cg_session_row) && h->nsegments <= SEGMENTS_MAX &&
           h->nsessions <= CG_TALLY_SESSIONS_MAX && h->count < UINT64_MAX / 16 &&
           whole(ix->events, h->count * sizeof(struct cg_index_entry)) &&
           whole(ix->marks, h->count / CG_INDEX_STEP * sizeof(struct cg_index_mark));
}

static void load(struct cg_index *ix)
{
    struct head h;
    CG_OWN(cg_drop_fd) int fd = openat(ix->dir, "state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    forget(ix);
    if (fd < 0 || !read_part(fd, &h, sizeof h) || !fits(ix, &h))
        return;
    ix->segments = cg_alloc_array((size_t)h.nsegments + 1, sizeof *ix->segments);
    ix->tally.rows = cg_alloc_array((size_t)h.nsessions + 1, sizeof *ix->tally.rows);
    ix->tally.cap = (size_t)h.nsessions + 1;
    if (!read_part(fd, ix->segments, h.nsegments * sizeof *ix->segments) ||
        !read_part(fd, ix->tally.rows, h.nsessions * sizeof *ix->tally.rows)) {
        forget(ix);
        return;
    }
    ix->nsegments = h.nsegments;
    ix->count = h.count;
    ix->epoch_wall = h.epoch_wall;
    ix->last_t = h.last_t;
    ix->sum = h.sum;
    ix->tally.n = h.nsessions;
    ix->tally.failed = h.failed;
    ix->tally.ended = h.ended;
}

static bool save(struct cg_index *ix, struct cg_err *e)
{
    const struct head h = {.magic = "cgindex",
                           .version = VERSION,
                           .row_size = sizeof(struct cg_session_row),
                           .count = ix->count,
                           .epoch_wall = ix->epoch_wall,
                           .last_t = ix->last_t,
                           .sum = ix->sum,
                           .nsegments = (uint32_t)ix->nsegments,
                           .nsessions = (uint32_t)ix->tally.n,
                           .failed = ix->tally.failed,
                           .ended = ix->tally.ended};
    CG_OWN(cg_drop_fd)
    int fd = openat(ix->dir, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return cg_fail_sys(e, "make the index's state");
    /* what the state counts must be there before it */
    bool fine = fdatasync(ix->events) == 0 && fdatasync(ix->marks) == 0;
    fine = fine && cg_fd_write_full(fd, &h, sizeof h, e);
    fine = fine && cg_fd_write_full(fd, ix->segments, ix->nsegments * sizeof *ix->segments, e);
    fine = fine && cg_fd_write_full(fd, ix->tally.rows, ix->tally.n * sizeof *ix->tally.rows, e);
    fine = fine && fdatasync(fd) == 0 && renameat(ix->dir, "state.new", ix->dir, "state") == 0;
    return fine || cg_fail_sys(e, "write the index");
}

struct cg_index *cg_index_open(const char *dir, struct cg_err *e)
{
    if (!cg_fs_mkdirs(dir, 0750, e))
        return NULL;
    struct cg_index *ix = cg_alloc(sizeof *ix);
    ix->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ix->events = ix->dir < 0 ? -1 : openat(ix->dir, "events", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    ix->marks = ix->dir < 0 ? -1 : openat(ix->dir, "marks", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (ix->events < 0 || ix->marks < 0) {
        cg_fail_sys(e, "open the index %s", dir);
        cg_index_close(ix);
        return NULL;
    }
    load(ix);
    return ix;
}

void cg_index_close(struct cg_index *ix)
{
    if (!ix)
        return;
    forget(ix);
    cg_drop_fd(&ix->events);
    cg_drop_fd(&ix->marks);
    cg_drop_fd(&ix->dir);
    free(ix);
}

/* --- taking lines in --- */

struct batch {
    struct cg_index *ix;
    struct cg_index_entry entries[BATCH];
    size_t n;
};

static bool write_at(int fd, const void *p, size_t n, uint64_t at, struct cg_err *e)
{
    size_t done = 0;
    while (done < n) {
        ssize_t put = pwrite(fd, (const char *)p + done, n - done, (off_t)(at + done));
        if (put < 0 && errno != EINTR)
            return cg_fail_sys(e, "write the index");
        done += put > 0 ? (size_t)put : 0;
    }
    return true;
}

static bool flush(struct batch *b, struct cg_err *e)
{
    uint64_t at = (b->ix->count - b->n) * sizeof b->entries[0];
    size_t n = b->n;
    b->n = 0;
    return write_at(b->ix->events, b->entries, n * sizeof b->entries[0], at, e);
}

static bool push(struct batch *b, const struct cg_index_entry *entry,
                 const struct cg_record_line *line, struct cg_err *e)
{
    struct cg_index *ix = b->ix;
    uint64_t seq = ++ix->count;
    b->entries[b->n++] = *entry;
    if (seq % CG_INDEX_STEP == 0) {
        const struct cg_index_mark at = {line->t, cg_tally_wall(line), ix->sum};
        if (!write_at(ix->marks, &at, sizeof at, (seq / CG_INDEX_STEP - 1) * sizeof at, e))
            return false;
    }
    return b->n < BATCH || flush(b, e);
}

static void note_segment(struct cg_index *ix, uint32_t number, uint64_t seq)
{
    if (ix->nsegments > 0 && ix->segments[ix->nsegments - 1].number == number)
        return;
    if (ix->nsegments == SEGMENTS_MAX)
        return;
    ix->segments = cg_realloc(ix->segments, (ix->nsegments + 1) * sizeof *ix->segments);
    ix->segments[ix->nsegments++] = (struct cg_index_segment){seq, number, 0};
}

static bool take(struct batch *b, const struct cg_record_reader *r,
                 const struct cg_record_line *line, struct cg_err *e)
{
    static const struct cg_index_entry hole = {0, CG_TALLY_NONE, CG_INDEX_HOLE, 0, 0};
    enum cg_record_type type = CG_REC_TYPE_COUNT;
    uint32_t segment;
    uint64_t offset;
    cg_record_reader_place(r, &segment, &offset);
    if (line->seq - b->ix->count > UINT64_C(1) << 32)
        return cg_fail(e, CG_INVALID, "the record jumps to line %llu",
                       (unsigned long long)line->seq);
    while (b->ix->count + 1 < line->seq)
        if (!push(b, &hole, line, e))
            return false;
    (void)!cg_record_type_parse(line->type, &type);
    note_segment(b->ix, segment, line->seq);
    const struct cg_index_entry entry = {
        (uint32_t)offset, cg_tally_line(&b->ix->tally, line, type), (uint8_t)type,
        cg_record_sum_add(&b->ix->sum, line, type),
        (uint32_t)CG_MAX(0, CG_MIN(line->t / 10000000, UINT32_MAX))};
    b->ix->last_t = line->t;
    return push(b, &entry, line, e);
}

static void read_epoch(struct cg_index *ix, int record_dir)
{
    struct cg_segment_header h;
    size_t length;
    struct cg_span *s = cg_span_open(record_dir, 1, &h, &length, NULL);
    if (s && !cg_time_parse(h.epoch, &ix->epoch_wall))
        ix->epoch_wall = 0;
    cg_span_close(s);
}

static bool take_all(struct cg_index *ix, int record_dir, uint64_t limit, struct cg_err *e)
{
    struct cg_record_reader *r = cg_record_reader_open(record_dir, ix->count, e);
    enum cg_record_got got = r ? CG_RECORD_LINE : CG_RECORD_ERROR;
    struct batch *b = cg_alloc(sizeof *b);
    b->ix = ix;
    bool fine = r != NULL;
    while (fine && got == CG_RECORD_LINE) {
        struct cg_slice text;
        struct cg_record_line line;
        got = cg_record_read(r, limit, &text, &line, e);
        fine = got != CG_RECORD_ERROR && (got == CG_RECORD_END || take(b, r, &line, e));
    }
    fine = fine && flush(b, e);
    free(b);
    cg_record_reader_close(r);
    return fine;
}

bool cg_index_update(struct cg_index *ix, int record_dir, uint64_t limit, struct cg_err *e)
{
    if (flock(ix->dir, LOCK_EX) != 0)
        return cg_fail_sys(e, "lock the index");
    load(ix); /* somebody may have been faster */
    uint64_t before = ix->count;
    if (ix->epoch_wall == 0)
        read_epoch(ix, record_dir);
    bool fine = limit <= ix->count || take_all(ix, record_dir, limit, e);
    fine = fine && (ix->count == before || save(ix, e));
    if (!fine)
        load(ix);
    (void)flock(ix->dir, LOCK_UN);
    return fine;
}

/* --- reading --- */

size_t cg_index_read(const struct cg_index *ix, uint64_t first, struct cg_index_entry *out,
                     size_t max)
{
    if (first == 0 || first > ix->count)
        return 0;
    size_t want = (size_t)CG_MIN((uint64_t)max, ix->count - first + 1);
    ssize_t n = pread(ix->events, out, want * sizeof *out, (off_t)((first - 1) * sizeof *out));
    return n > 0 ? (size_t)n / sizeof *out : 0;
}

uint64_t cg_index_at(const struct cg_index *ix, int64_t moment, bool wall)
{
    uint64_t low = 0; /* steps that are older */
    uint64_t high = ix->count / CG_INDEX_STEP;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct cg_index_mark at = {.t = INT64_MAX, .wall = INT64_MAX};
        if (pread(ix->marks, &at, sizeof at, (off_t)(middle * sizeof at)) == (ssize_t)sizeof at &&
            (wall ? at.wall : at.t) < moment)
            low = middle + 1;
        else
            high = middle;
    }
    return low * CG_INDEX_STEP + 1;
}

uint64_t cg_index_mark_at(const struct cg_index *ix, uint64_t seq, struct cg_index_mark *out)
{
    uint64_t n = CG_MIN(seq, ix->count) / CG_INDEX_STEP;
    if (n > 0 &&
        pread(ix->marks, out, sizeof *out, (off_t)((n - 1) * sizeof *out)) == (ssize_t)sizeof *out)
        return n * CG_INDEX_STEP;
    *out = (struct cg_index_mark){.t = 0};
    return 0;
}

const struct cg_index_segment *cg_index_segment(const struct cg_index *ix, uint64_t seq)
{
    const struct cg_index_segment *found = NULL;
    for (size_t low = 0, high = ix->nsegments; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (ix->segments[middle].first_seq <= seq) {
            found = &ix->segments[middle];
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return found;
}
