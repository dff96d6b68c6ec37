/* Packing a segment: frames of whole lines, each with a checksum, then the seek table. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/fs.h"
#include "record/seekable.h"
#include "record/span.h"

enum { LEVEL = 3, TABLE_MAX = CG_SEEK_FRAMES_MAX * CG_SEEK_ENTRY };

struct cg_packer {
    int dir_fd; /* the caller's */
    int fd;
    uint32_t number, frames;
    ZSTD_CCtx *zstd;
    size_t held;
    struct cg_buf table;
    char plain[CG_SPAN_FRAME];
    char packed[ZSTD_COMPRESSBOUND(CG_SPAN_FRAME)];
};

static void new_name(uint32_t number, char out[CG_SPAN_NAME])
{
    cg_segment_name(number, out);
    cg_snprintf(out + 12, CG_SPAN_NAME - 12, ".new");
}

struct cg_packer *cg_packer_open(int dir_fd, uint32_t number, struct cg_err *e)
{
    char name[CG_SPAN_NAME];
    new_name(number, name);
    (void)unlinkat(dir_fd, name, 0);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        cg_fail_sys(e, "make %s", name);
        return NULL;
    }
    struct cg_packer *p = cg_alloc(sizeof *p);
    p->dir_fd = dir_fd;
    p->fd = fd;
    p->number = number;
    cg_buf_init(&p->table, TABLE_MAX + CG_SEEK_HEAD + CG_SEEK_FOOT);
    p->zstd = ZSTD_createCCtx();
    CG_ASSERT(p->zstd);
    ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1);
    return p;
}

static bool flush(struct cg_packer *p, struct cg_err *e)
{
    unsigned char entry[CG_SEEK_ENTRY];
    if (p->held == 0)
        return true;
    size_t n = ZSTD_compress2(p->zstd, p->packed, sizeof p->packed, p->plain, p->held);
    if (ZSTD_isError(n))
        return cg_fail(e, CG_INTERNAL, "pack a segment: %s", ZSTD_getErrorName(n));
    cg_seek_put(entry, (uint32_t)n);
    cg_seek_put(entry + 4, (uint32_t)p->held);
    p->held = 0;
    if (++p->frames > CG_SEEK_FRAMES_MAX || !cg_buf_add(&p->table, entry, sizeof entry))
        return cg_fail(e, CG_TOO_LARGE, "the segment is too long to be packed");
    return cg_fd_write_full(p->fd, p->packed, n, e);
}

bool cg_packer_add(struct cg_packer *p, struct cg_slice line, struct cg_err *e)
{
    while (line.n > 0) {
        if (p->held + line.n > sizeof p->plain && !flush(p, e))
            return false;
        size_t n = CG_MIN(line.n, sizeof p->plain - p->held);
        memcpy(p->plain + p->held, line.p, n);
        p->held += n;
        line.p += n;
        line.n -= n;
    }
    return true;
}

static bool write_table(struct cg_packer *p, struct cg_err *e)
{
    unsigned char head[CG_SEEK_HEAD];
    unsigned char foot[CG_SEEK_FOOT] = {0};
    cg_seek_put(head, CG_SEEK_SKIPPABLE);
    cg_seek_put(head + 4, (uint32_t)(p->table.n + sizeof foot));
    cg_seek_put(foot, p->frames);
    cg_seek_put(foot + 5, CG_SEEK_MAGIC);
    return cg_fd_write_full(p->fd, head, sizeof head, e) &&
           cg_fd_write_full(p->fd, p->table.p, p->table.n, e) &&
           cg_fd_write_full(p->fd, foot, sizeof foot, e);
}

bool cg_packer_finish(struct cg_packer *p, struct cg_err *e)
{
    char from[CG_SPAN_NAME];
    char to[CG_SPAN_NAME];
    new_name(p->number, from);
    cg_span_name(p->number, to);
    if (!flush(p, e) || !write_table(p, e))
        return false;
    if (fsync(p->fd) != 0 || renameat(p->dir_fd, from, p->dir_fd, to) != 0 || fsync(p->dir_fd) != 0)
        return cg_fail_sys(e, "sync %s", to);
    cg_drop_fd(&p->fd);
    return true;
}

void cg_packer_close(struct cg_packer *p)
{
    if (!p)
        return;
    if (p->fd >= 0) {
        char name[CG_SPAN_NAME];
        new_name(p->number, name);
        (void)unlinkat(p->dir_fd, name, 0);
        cg_drop_fd(&p->fd);
    }
    ZSTD_freeCCtx(p->zstd);
    cg_buf_finish(&p->table);
    free(p);
}

/* Adds what stands in front of the last line end, or all when there is none. */
static bool add_lines(struct cg_packer *p, char *buf, size_t *held, bool end, struct cg_err *e)
{
    size_t at = 0;
    const char *stop;
    while ((stop = memchr(buf + at, '\n', *held - at)) != NULL) {
        size_t n = (size_t)(stop - (buf + at)) + 1;
        if (!cg_packer_add(p, (struct cg_slice){buf + at, n}, e))
            return false;
        at += n;
    }
    if ((at == 0 || end) && at < *held) {
        if (!cg_packer_add(p, (struct cg_slice){buf + at, *held - at}, e))
            return false;
        at = *held;
    }
    *held -= at;
    memmove(buf, buf + at, *held);
    return true;
}

static bool pack_all(struct cg_span *s, struct cg_packer *p, struct cg_err *e)
{
    enum { BUFFER = 4 * CG_RECORD_LINE_MAX };
    CG_OWN(cg_drop_free) char *buf = cg_alloc(BUFFER);
    size_t held = 0;
    uint64_t at = 0;
    for (;;) {
        ssize_t n = cg_span_pread(s, buf + held, BUFFER - held, at);
        if (n < 0)
            return cg_fail_sys(e, "read a segment");
        held += (size_t)n;
        at += (uint64_t)n;
        if (!add_lines(p, buf, &held, n == 0, e))
            return false;
        if (n == 0)
            return true;
    }
}

static bool remove_plain(int dir_fd, uint32_t number, struct cg_err *e)
{
    char name[CG_SEGMENT_NAME];
    cg_segment_name(number, name);
    if (unlinkat(dir_fd, name, 0) != 0 || fsync(dir_fd) != 0)
        return cg_fail_sys(e, "remove %s", name);
    return true;
}

bool cg_span_pack(int dir_fd, uint32_t number, struct cg_err *e)
{
    struct cg_segment_header header;
    size_t length = 0;
    struct cg_span *s = cg_span_open(dir_fd, number, &header, &length, e);
    if (!s || cg_span_packed(s)) {
        bool done = s != NULL;
        cg_span_close(s);
        return done;
    }
    struct cg_packer *p = cg_packer_open(dir_fd, number, e);
    bool fine = p && pack_all(s, p, e) && cg_packer_finish(p, e) && remove_plain(dir_fd, number, e);
    cg_packer_close(p);
    cg_span_close(s);
    return fine;
}
