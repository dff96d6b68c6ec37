/* Opening a record: lock, find the last segment, check its lines, cut a torn end.
 *
 * A crash can tear only what was written and not yet synced: the last batch. So a damage is cut
 * away when what is behind it is no longer than a batch can be; a damage further up is no crash of
 * ours, stays as it is for whoever looks into it, and the record goes on in a new segment, with
 * numbers behind all that can still be read. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/inner.h"
#include "record/span.h"

enum { TORN_MAX = 8 * 1024 * 1024, CHUNK = 4 * CG_RECORD_LINE_MAX };

struct scan {
    char *buf; /* CHUNK bytes */
    size_t held;
    uint64_t good; /* bytes of the file that are whole, right lines */
    uint64_t last_seq;
    int64_t last_t;
    crypto_generichash_state *hash;
};

static void read_boot_id(char out[CG_BOOT_ID_TEXT])
{
    char *text = NULL;
    size_t n = 0;
    out[0] = '\0';
    if (cg_fs_slurp("/proc/sys/kernel/random/boot_id", 256, &text, &n, NULL)) {
        text[strcspn(text, "\n")] = '\0';
        (void)cg_strlcpy(out, CG_BOOT_ID_TEXT, text);
    }
    free(text);
}

static bool lock(struct cg_tail *t, int dir_fd, struct cg_err *e)
{
    t->dir_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->dir_fd < 0)
        return cg_fail_sys(e, "open the record's folder");
    if (flock(t->dir_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return cg_fail(e, CG_CONFLICT, "the record is open for writing in another process");
    return cg_fail_sys(e, "lock the record");
}

static bool first_segment(struct cg_tail *t, const char *sandbox, struct cg_err *e)
{
    t->header = (struct cg_segment_header){.number = 1, .first_seq = 1};
    CG_ASSERT(cg_strlcpy(t->header.sandbox, sizeof t->header.sandbox, sandbox));
    read_boot_id(t->header.boot_id);
    t->header.epoch_mono = cg_mono_ns();
    cg_time_format(cg_wall_ns(), t->header.epoch);
    return cg_tail_create(t, e);
}

/* Takes the lines in the buffer; false at the first that is not right. */
static bool take_lines(struct scan *s)
{
    size_t at = 0;
    bool fine = true;
    const char *end;
    while (fine && (end = memchr(s->buf + at, '\n', s->held - at)) != NULL) {
        size_t n = (size_t)(end - (s->buf + at));
        struct cg_record_line line;
        fine = cg_record_line_parse((struct cg_slice){s->buf + at, n}, &line) &&
               line.seq == s->last_seq + 1 && line.t >= s->last_t;
        if (fine) {
            crypto_generichash_update(s->hash, (const unsigned char *)s->buf + at, n + 1);
            s->last_seq = line.seq;
            s->last_t = line.t;
            at += n + 1;
        }
    }
    s->good += at;
    s->held -= at;
    memmove(s->buf, s->buf + at, s->held);
    return fine && s->held < CG_RECORD_LINE_MAX;
}

static bool scan_lines(int fd, struct scan *s, struct cg_err *e)
{
    for (;;) {
        ssize_t n = pread(fd, s->buf + s->held, CHUNK - s->held, (off_t)(s->good + s->held));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cg_fail_sys(e, "read the record");
        s->held += (size_t)n;
        if (n == 0 || !take_lines(s))
            return true;
    }
}

static bool hash_header(struct cg_tail *t, size_t length, struct cg_err *e)
{
    char text[CG_SEGMENT_HEADER_MAX];
    if (pread(t->fd, text, length, 0) != (ssize_t)length)
        return cg_fail(e, CG_IO, "read a segment's header");
    crypto_generichash_init(&t->hash, NULL, 0, crypto_generichash_BYTES);
    crypto_generichash_update(&t->hash, (const unsigned char *)text, length);
    return true;
}

/* Behind a damage: the bytes go into the hash as they are, the numbers of lines that can be read
 * are taken, so that none is given out twice. */
static bool skim_rest(int fd, struct scan *s, struct cg_err *e)
{
    s->held = 0;
    for (;;) {
        ssize_t n = pread(fd, s->buf + s->held, CHUNK - s->held, (off_t)(s->good + s->held));
        if (n <= 0 && s->held == 0)
            return n == 0 || cg_fail_sys(e, "read the record");
        s->held += n > 0 ? (size_t)n : 0;
        const char *end = memchr(s->buf, '\n', s->held);
        size_t take = end ? (size_t)(end - s->buf) + 1 : s->held;
        struct cg_record_line line;
        if (cg_record_line_parse((struct cg_slice){s->buf, take - 1}, &line)) {
            s->last_seq = CG_MAX(s->last_seq, line.seq);
            s->last_t = CG_MAX(s->last_t, line.t);
        }
        crypto_generichash_update(s->hash, (const unsigned char *)s->buf, take);
        s->good += take;
        s->held -= take;
        memmove(s->buf, s->buf + take, s->held);
    }
}

static bool check_last(struct cg_tail *t, size_t header, struct cg_found *found, struct cg_err *e)
{
    if (!hash_header(t, header, e))
        return false;
    CG_OWN(cg_drop_free) char *buf = cg_alloc(CHUNK);
    struct scan s = {.buf = buf, .good = header, .last_seq = t->header.first_seq - 1};
    s.hash = &t->hash;
    struct stat st;
    if (!scan_lines(t->fd, &s, e))
        return false;
    if (fstat(t->fd, &st) != 0)
        return cg_fail_sys(e, "look at the record");
    uint64_t rest = (uint64_t)st.st_size - s.good;
    if (rest > TORN_MAX) {
        found->damaged_at = s.good;
        if (!skim_rest(t->fd, &s, e))
            return false;
        rest = 0;
    }
    found->last_seq = s.last_seq;
    found->last_t = s.last_t;
    t->size = s.good;
    found->torn_bytes = rest;
    if (rest > 0 && (ftruncate(t->fd, (off_t)s.good) != 0 || fdatasync(t->fd) != 0))
        return cg_fail_sys(e, "cut the torn end of the record");
    return true;
}

static void sum_sizes(struct cg_tail *t, uint32_t last, struct cg_found *found)
{
    for (uint32_t i = 1; i <= last; i++) {
        char name[CG_SPAN_NAME];
        struct stat st;
        cg_segment_name(i, name);
        bool there = fstatat(t->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        cg_span_name(i, name);
        if (there || fstatat(t->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            found->bytes += (uint64_t)st.st_size;
    }
}

/* The file that a crash left while a segment was being made: no complete header, no event. */
static bool unborn(struct cg_tail *t, uint32_t number)
{
    char name[CG_SEGMENT_NAME];
    char text[CG_SEGMENT_HEADER_MAX];
    cg_segment_name(number, name);
    CG_OWN(cg_drop_fd) int fd = openat(t->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text, 0);
    return n >= 0 && n < (ssize_t)sizeof text && !memchr(text, '\n', (size_t)n);
}

static bool open_last(struct cg_tail *t, uint32_t last, const char *sandbox, struct cg_found *found,
                      struct cg_err *e)
{
    size_t header = 0;
    if (!cg_segment_open(t->dir_fd, last, O_RDWR, &t->fd, &t->header, &header, e))
        return false;
    if (!cg_streq(t->header.sandbox, sandbox))
        return cg_fail(e, CG_CONFLICT, "the record belongs to %s, not to %s", t->header.sandbox,
                       sandbox);
    if (!check_last(t, header, found, e))
        return false;
    sum_sizes(t, last, found);
    if (found->damaged_at == 0)
        return true;
    return cg_tail_rotate(t, found->last_seq + 1, &found->bytes, e);
}

static bool remove_unborn(struct cg_tail *t, uint32_t number, struct cg_err *e)
{
    char name[CG_SEGMENT_NAME];
    cg_segment_name(number, name);
    if (unlinkat(t->dir_fd, name, 0) != 0)
        return cg_fail_sys(e, "remove the half-made %s", name);
    return true;
}

bool cg_tail_open(struct cg_tail *t, int dir_fd, const char *sandbox, struct cg_found *found,
                  struct cg_err *e)
{
    *t = (struct cg_tail){.dir_fd = -1, .fd = -1};
    *found = (struct cg_found){.last_seq = 0};
    uint32_t last = 0;
    if (!lock(t, dir_fd, e) || !cg_segment_last(t->dir_fd, &last, e))
        return false;
    if (last > 0 && unborn(t, last) && !remove_unborn(t, last--, e))
        return false;
    if (last > 0)
        return open_last(t, last, sandbox, found, e);
    found->fresh = true;
    if (!first_segment(t, sandbox, e))
        return false;
    found->bytes = t->size;
    return true;
}

/* Nanoseconds since 1970 of cg_time_format's text; -1 when it is none. */
static int64_t wall_of(const char *text)
{
    struct tm tm = {.tm_isdst = 0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    return rest ? (int64_t)timegm(&tm) * 1000000000 : -1;
}

int64_t cg_tail_clock(const struct cg_tail *t, int64_t last_t)
{
    char boot_id[CG_BOOT_ID_TEXT];
    read_boot_id(boot_id);
    if (boot_id[0] && cg_streq(boot_id, t->header.boot_id))
        return t->header.epoch_mono;
    int64_t epoch = wall_of(t->header.epoch);
    int64_t passed = epoch < 0 ? 0 : cg_wall_ns() - epoch;
    return cg_mono_ns() - CG_MAX(last_t, passed);
}
