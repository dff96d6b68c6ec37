/* The end of console.log, for errors. The guest writes it: at most 4 KiB and 40 lines, control
 * characters dropped (the writer escapes what else could act on a terminal). */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "warden/inner.h"

enum { TAIL = 4096, LINES = 40 };

static size_t read_tail(int dir, char out[TAIL])
{
    CG_OWN(cg_drop_fd)
    int fd = openat(dir, "console.log", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    ssize_t n = pread(fd, out, TAIL, st.st_size > TAIL ? st.st_size - TAIL : 0);
    return n > 0 ? (size_t)n : 0;
}

static size_t clean(char *p, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] >= 0x20 && p[i] != 0x7f)
            p[to++] = p[i];
    return to;
}

void console_write(struct warden *w, struct cg_jsonw *j)
{
    char text[TAIL];
    size_t n = read_tail(w->fds.dir, text);
    size_t at = n;
    int lines = 0;
    while (at > 0 && lines < LINES)
        lines += text[--at] == '\n';
    cg_jsonw_arr(j);
    while (at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end ? (size_t)(end - (text + at)) : n - at;
        size_t kept = clean(text + at, length);
        if (kept > 0)
            cg_jsonw_strn(j, text + at, kept);
        at += length + 1;
    }
    cg_jsonw_arr_end(j);
}
