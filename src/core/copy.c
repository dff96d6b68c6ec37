#include "core/copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

bool cg_copy_sparse(int from, int to, struct cg_err *e)
{
    static const size_t block_size = 1 << 20;
    CG_OWN(cg_drop_free) char *block = cg_alloc(block_size);
    for (off_t at = 0;;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0)
            return true; /* nothing but a hole is left */
        off_t hole = lseek(from, data, SEEK_HOLE);
        for (at = data; at < hole;) {
            size_t want = CG_MIN(block_size, (size_t)(hole - at));
            ssize_t n = pread(from, block, want, at);
            if (n <= 0 || pwrite(to, block, (size_t)n, at) != n)
                return cg_fail_sys(e, "copy an image");
            at += n;
        }
    }
}

bool cg_copy_file(const char *from, const char *to, mode_t mode, off_t size, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CG_OWN(cg_drop_fd) int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    struct stat st;
    if (in < 0 || out < 0 || fstat(in, &st) != 0)
        return cg_fail_sys(e, "copy %s", in < 0 ? from : to);
    bool ok = ioctl(out, FICLONE, in) == 0 || cg_copy_sparse(in, out, e);
    ok = ok && ((ftruncate(out, size ? size : st.st_size) == 0 && fchmod(out, mode) == 0) ||
                cg_fail_sys(e, "copy %s", to));
    if (!ok)
        unlink(to);
    return ok;
}

enum { BLOCK = 256 * 1024 };

/* What is read beyond the end of a file is zeros. */
static bool read_block(int fd, char *block, size_t want, off_t at, struct cg_err *e)
{
    ssize_t n = pread(fd, block, want, at);
    if (n < 0)
        return cg_fail_sys(e, "read an image");
    memset(block + n, 0, want - (size_t)n);
    return true;
}

static bool copy_differing(int from, int to, off_t begin, off_t end, char *blocks, struct cg_err *e)
{
    for (off_t at = begin; at < end; at += BLOCK) {
        size_t want = CG_MIN((size_t)BLOCK, (size_t)(end - at));
        if (!read_block(from, blocks, want, at, e) || !read_block(to, blocks + BLOCK, want, at, e))
            return false;
        if (memcmp(blocks, blocks + BLOCK, want) != 0 &&
            pwrite(to, blocks, want, at) != (ssize_t)want)
            return cg_fail_sys(e, "copy an image");
    }
    return true;
}

bool cg_copy_changes(const char *from, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CG_OWN(cg_drop_fd) int out = open(to, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (in < 0 || out < 0 || fstat(in, &st) != 0)
        return cg_fail_sys(e, "copy %s", in < 0 ? from : to);
    if (ioctl(out, FICLONE, in) == 0)
        return true;
    CG_OWN(cg_drop_free) char *blocks = cg_alloc(2 * (size_t)BLOCK);
    for (off_t at = 0; at < st.st_size;) {
        off_t data = lseek(in, at, SEEK_DATA);
        if (data < 0)
            data = st.st_size;
        /* a hole: the guest may have given back what the copy still has */
        if (data > at &&
            fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, data - at) != 0)
            return cg_fail_sys(e, "copy %s", to);
        at = data < st.st_size ? lseek(in, data, SEEK_HOLE) : data;
        if (at < 0 || !copy_differing(in, out, data, at, blocks, e))
            return at >= 0 ? false : cg_fail_sys(e, "copy %s", from);
    }
    return ftruncate(out, st.st_size) == 0 || cg_fail_sys(e, "copy %s", to);
}
