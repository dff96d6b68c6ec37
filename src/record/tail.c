/* The end of a record on disk. A failed write is undone by truncating back to the last good size
 * before the next try, so that a segment holds whole lines only, in order. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/inner.h"

static bool write_at(int fd, const char *p, size_t n, uint64_t at, struct cg_err *e)
{
    while (n > 0) {
        ssize_t done = pwrite(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return cg_fail_sys(e, "write the record");
        p += done;
        n -= (size_t)done;
        at += (uint64_t)done;
    }
    return true;
}

bool cg_tail_create(struct cg_tail *t, struct cg_err *e)
{
    struct cg_buf text;
    cg_buf_init(&text, CG_SEGMENT_HEADER_MAX);
    cg_segment_header_write(&t->header, &text);
    CG_ASSERT(!text.full);
    CG_OWN(cg_drop_buf) struct cg_buf owned = text;
    char name[CG_SEGMENT_NAME];
    cg_segment_name(t->header.number, name);
    /* O_TRUNC: an earlier try may have left a part, which no event was ever written behind */
    CG_OWN(cg_drop_fd)
    int fd = openat(t->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0660);
    if (fd < 0)
        return cg_fail_sys(e, "make %s", name);
    if (!write_at(fd, owned.p, owned.n, 0, e))
        return false;
    cg_drop_fd(&t->fd);
    t->fd = CG_MOVE_FD(fd);
    t->size = owned.n;
    t->ragged = false;
    t->unlisted = true;
    crypto_generichash_init(&t->hash, NULL, 0, crypto_generichash_BYTES);
    crypto_generichash_update(&t->hash, (const unsigned char *)owned.p, owned.n);
    return true;
}

bool cg_tail_rotate(struct cg_tail *t, uint64_t first_seq, uint64_t *bytes_added, struct cg_err *e)
{
    struct cg_segment_header old = t->header;
    unsigned char digest[crypto_generichash_BYTES];
    char hex[2 * sizeof digest + 1];
    crypto_generichash_state copy = t->hash;
    crypto_generichash_final(&copy, digest, sizeof digest);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    cg_snprintf(t->header.prev, sizeof t->header.prev, "blake2b-256:%s", hex);
    t->header.number++;
    t->header.first_seq = first_seq;
    if (!cg_tail_create(t, e)) {
        t->header = old;
        return cg_wrap(e, "start a new segment");
    }
    *bytes_added += t->size;
    return true;
}

bool cg_tail_write(struct cg_tail *t, struct cg_slice lines, uint64_t first_seq,
                   uint64_t *bytes_added, struct cg_err *e)
{
    *bytes_added = 0;
    if (t->ragged && ftruncate(t->fd, (off_t)t->size) != 0)
        return cg_fail_sys(e, "cut a failed write off the record");
    t->ragged = false;
    if (t->size >= t->allowance && !cg_tail_rotate(t, first_seq, bytes_added, e))
        return false;
    t->ragged = true;
    if (!write_at(t->fd, lines.p, lines.n, t->size, e))
        return false;
    if (fdatasync(t->fd) != 0 || (t->unlisted && fsync(t->dir_fd) != 0))
        return cg_fail_sys(e, "sync the record");
    t->unlisted = false;
    t->ragged = false;
    t->size += lines.n;
    *bytes_added += lines.n;
    crypto_generichash_update(&t->hash, (const unsigned char *)lines.p, lines.n);
    return true;
}

void cg_tail_close(struct cg_tail *t)
{
    cg_drop_fd(&t->fd);
    cg_drop_fd(&t->dir_fd);
}
