#include "core/copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
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
