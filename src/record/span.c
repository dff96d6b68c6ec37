/* Reading segments, plain or packed. */
#include "record/span.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "record/seekable.h"

struct cg_span {
    int fd;
    bool packed, damaged;
    uint32_t frames;
    uint64_t *packed_at; /* frames + 1 of each */
    uint64_t *plain_at;
    uint32_t held; /* frame in `plain`; `frames`: none */
    char *plain, *in;
    ZSTD_DCtx *zstd;
};

void cg_span_name(uint32_t number, char out[CG_SPAN_NAME])
{
    char plain[CG_SEGMENT_NAME];
    cg_segment_name(number, plain);
    cg_snprintf(out, CG_SPAN_NAME, "%s.zst", plain);
}

bool cg_span_exists(int dir_fd, uint32_t number)
{
    char plain[CG_SEGMENT_NAME];
    char packed[CG_SPAN_NAME];
    struct stat st;
    if (number == 0 || number > 999999)
        return false;
    cg_segment_name(number, plain);
    cg_span_name(number, packed);
    return fstatat(dir_fd, plain, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
           fstatat(dir_fd, packed, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool read_at(int fd, void *p, size_t n, uint64_t at)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(fd, (char *)p + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

/* Fills the offsets from the table's entries; false when they do not describe the file. */
static bool take_table(struct cg_span *s, const unsigned char *entries, uint64_t table_at)
{
    s->packed_at = cg_alloc_array((size_t)s->frames + 1, sizeof(uint64_t));
    s->plain_at = cg_alloc_array((size_t)s->frames + 1, sizeof(uint64_t));
    for (uint32_t i = 0; i < s->frames; i++, entries += CG_SEEK_ENTRY) {
        uint32_t packed = cg_seek_get(entries);
        uint32_t plain = cg_seek_get(entries + 4);
        if (packed == 0 || packed > ZSTD_COMPRESSBOUND(CG_SPAN_FRAME) || plain == 0 ||
            plain > CG_SPAN_FRAME)
            return false;
        s->packed_at[i + 1] = s->packed_at[i] + packed;
        s->plain_at[i + 1] = s->plain_at[i] + plain;
    }
    return s->packed_at[s->frames] == table_at;
}

static bool read_table(struct cg_span *s, uint64_t size)
{
    unsigned char foot[CG_SEEK_FOOT];
    if (size < CG_SEEK_HEAD + CG_SEEK_FOOT ||
        !read_at(s->fd, foot, sizeof foot, size - sizeof foot))
        return false;
    s->frames = cg_seek_get(foot);
    uint64_t table = CG_SEEK_HEAD + (uint64_t)s->frames * CG_SEEK_ENTRY + CG_SEEK_FOOT;
    if (cg_seek_get(foot + 5) != CG_SEEK_MAGIC || foot[4] != 0 || s->frames == 0 ||
        s->frames > CG_SEEK_FRAMES_MAX || table > size)
        return false;
    CG_OWN(cg_drop_free) unsigned char *text = cg_alloc((size_t)table);
    if (!read_at(s->fd, text, (size_t)table, size - table) ||
        cg_seek_get(text) != CG_SEEK_SKIPPABLE || cg_seek_get(text + 4) != table - CG_SEEK_HEAD)
        return false;
    return take_table(s, text + CG_SEEK_HEAD, size - table);
}

static bool open_packed(struct cg_span *s, const char *name, struct cg_err *e)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return cg_fail_sys(e, "look at %s", name);
    if (!read_table(s, (uint64_t)st.st_size))
        return cg_fail(e, CG_INVALID, "%s: its seek table is damaged", name);
    s->held = s->frames;
    s->plain = cg_alloc(CG_SPAN_FRAME);
    s->in = cg_alloc(ZSTD_COMPRESSBOUND(CG_SPAN_FRAME));
    s->zstd = ZSTD_createDCtx();
    CG_ASSERT(s->zstd);
    return true;
}

static int open_regular(int dir_fd, const char *name, struct cg_err *e)
{
    struct stat st;
    CG_OWN(cg_drop_fd)
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        cg_fail_sys(e, "open %s", name);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        cg_fail(e, CG_INVALID, "%s is not a regular file", name);
        return -1;
    }
    return CG_MOVE_FD(fd);
}

static bool open_either(struct cg_span *s, int dir_fd, uint32_t number, struct cg_err *e)
{
    char name[CG_SPAN_NAME];
    struct cg_err why = CG_ERR_INIT;
    cg_segment_name(number, name);
    s->fd = open_regular(dir_fd, name, &why);
    if (s->fd >= 0)
        return true;
    if (why.code != CG_NOT_FOUND) {
        *e = why;
        return false;
    }
    cg_span_name(number, name);
    s->packed = true;
    s->fd = open_regular(dir_fd, name, e);
    return s->fd >= 0 && open_packed(s, name, e);
}

static bool read_header(struct cg_span *s, uint32_t number, struct cg_segment_header *h,
                        size_t *length, struct cg_err *e)
{
    char text[CG_SEGMENT_HEADER_MAX];
    ssize_t n = cg_span_pread(s, text, sizeof text, 0);
    const char *end = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
    if (n < 0)
        return cg_fail_sys(e, "read segment %u", (unsigned)number);
    if (!end)
        return cg_fail(e, CG_INVALID, "segment %u: no complete header", (unsigned)number);
    *length = (size_t)(end - text) + 1;
    if (!cg_segment_header_parse((struct cg_slice){text, *length - 1}, h, e))
        return cg_wrap(e, "segment %u", (unsigned)number);
    if (h->number != number)
        return cg_fail(e, CG_INVALID, "segment %u: its header says segment %u", (unsigned)number,
                       (unsigned)h->number);
    return true;
}

struct cg_span *cg_span_open(int dir_fd, uint32_t number, struct cg_segment_header *h,
                             size_t *length, struct cg_err *e)
{
    struct cg_span *s = cg_alloc(sizeof *s);
    struct cg_err why = CG_ERR_INIT;
    s->fd = -1;
    if (open_either(s, dir_fd, number, &why) && read_header(s, number, h, length, &why))
        return s;
    if (e)
        *e = why;
    cg_span_close(s);
    return NULL;
}

void cg_span_close(struct cg_span *s)
{
    if (!s)
        return;
    cg_drop_fd(&s->fd);
    free(s->packed_at);
    free(s->plain_at);
    free(s->plain);
    free(s->in);
    ZSTD_freeDCtx(s->zstd);
    free(s);
}

bool cg_span_size(struct cg_span *s, uint64_t *size, struct cg_err *e)
{
    struct stat st;
    if (s->packed) {
        *size = s->plain_at[s->frames];
        return true;
    }
    if (fstat(s->fd, &st) != 0)
        return cg_fail_sys(e, "look at the record");
    *size = (uint64_t)st.st_size;
    return true;
}

static uint32_t frame_at(const struct cg_span *s, uint64_t offset)
{
    uint32_t low = 0;
    uint32_t high = s->frames - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (s->plain_at[middle] <= offset)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static void hold(struct cg_span *s, uint32_t frame)
{
    if (s->held == frame)
        return;
    size_t packed = (size_t)(s->packed_at[frame + 1] - s->packed_at[frame]);
    size_t plain = (size_t)(s->plain_at[frame + 1] - s->plain_at[frame]);
    s->held = frame;
    if (read_at(s->fd, s->in, packed, s->packed_at[frame]) &&
        ZSTD_decompressDCtx(s->zstd, s->plain, plain, s->in, packed) == plain)
        return;
    s->damaged = true;
    memset(s->plain, 0, plain);
    s->plain[plain - 1] = '\n';
}

ssize_t cg_span_pread(struct cg_span *s, void *p, size_t n, uint64_t offset)
{
    if (!s->packed) {
        ssize_t got;
        do {
            got = pread(s->fd, p, n, (off_t)offset);
        } while (got < 0 && errno == EINTR);
        return got;
    }
    size_t done = 0;
    while (done < n && offset + done < s->plain_at[s->frames]) {
        uint32_t frame = frame_at(s, offset + done);
        hold(s, frame);
        uint64_t from = offset + done - s->plain_at[frame];
        size_t take = (size_t)CG_MIN((uint64_t)(n - done),
                                     s->plain_at[frame + 1] - s->plain_at[frame] - from);
        memcpy((char *)p + done, s->plain + from, take);
        done += take;
    }
    return (ssize_t)done;
}

bool cg_span_damaged(const struct cg_span *s)
{
    return s->damaged;
}

bool cg_span_packed(const struct cg_span *s)
{
    return s->packed;
}
