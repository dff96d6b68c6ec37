/* Up to HEAD + 2 * TAIL the file is simply appended to. Then it is cut back to its head, a line
 * says how much is missing, the last TAIL bytes follow from a ring in memory, and appending goes
 * on. So a reader always finds the beginning, the newest text, and one mark where they part. */
#include "jail/sink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

void cg_sink_init(struct cg_sink *s, int fd)
{
    struct stat st;
    *s = (struct cg_sink){.fd = fd};
    if (fstat(fd, &st) == 0)
        s->size = (size_t)st.st_size;
}

void cg_sink_finish(struct cg_sink *s)
{
    free(s->ring);
    *s = (struct cg_sink){.fd = -1};
}

static void append(struct cg_sink *s, const char *p, size_t n)
{
    if (cg_fd_write_full(s->fd, p, n, NULL))
        s->size += n;
}

static void remember(struct cg_sink *s, const char *p, size_t n)
{
    if (!s->ring)
        s->ring = cg_alloc(CG_SINK_TAIL);
    s->seen += n;
    if (n > CG_SINK_TAIL) {
        p += n - CG_SINK_TAIL;
        n = CG_SINK_TAIL;
    }
    size_t first = CG_MIN(n, CG_SINK_TAIL - s->at);
    memcpy(s->ring + s->at, p, first);
    memcpy(s->ring, p + first, n - first);
    s->at = (s->at + n) % CG_SINK_TAIL;
}

static void cut_back(struct cg_sink *s)
{
    if (ftruncate(s->fd, CG_SINK_HEAD) != 0)
        return;
    s->size = CG_SINK_HEAD;
    size_t kept = (size_t)CG_MIN(s->seen, (uint64_t)CG_SINK_TAIL);
    s->cut = s->seen - kept;
    char mark[80];
    cg_snprintf(mark, sizeof mark, "\n[caged: %llu bytes left out]\n", (unsigned long long)s->cut);
    append(s, mark, strlen(mark));
    if (kept == CG_SINK_TAIL) {
        append(s, s->ring + s->at, CG_SINK_TAIL - s->at);
        append(s, s->ring, s->at);
    } else {
        append(s, s->ring, kept);
    }
}

void cg_sink_write(struct cg_sink *s, const char *p, size_t n)
{
    if (s->size < CG_SINK_HEAD) {
        size_t room = CG_MIN(n, CG_SINK_HEAD - s->size);
        append(s, p, room);
        p += room;
        n -= room;
    }
    if (n == 0)
        return;
    remember(s, p, n);
    if (s->size + n > CG_SINK_HEAD + 2 * CG_SINK_TAIL)
        cut_back(s);
    else
        append(s, p, n);
}
