#include "record/scan.h"

#include <string.h>

enum { BUFFER = 4 * CG_RECORD_LINE_MAX };

struct window {
    char *p;
    size_t at, held;
};

/* The lines that are whole; false when `each` wants no more. */
static bool give_lines(struct window *w, cg_scan_line *each, void *ctx)
{
    const char *end;
    while ((end = memchr(w->p + w->at, '\n', w->held - w->at)) != NULL) {
        size_t n = (size_t)(end - (w->p + w->at));
        struct cg_slice text = {w->p + w->at, n};
        w->at += n + 1;
        if (!each(ctx, text, true))
            return false;
    }
    return true;
}

bool cg_scan(struct cg_span *s, cg_scan_line *each, void *ctx, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *buf = cg_alloc(BUFFER);
    struct window w = {buf, 0, 0};
    uint64_t offset = 0;
    for (;;) {
        ssize_t n = cg_span_pread(s, w.p + w.held, BUFFER - w.held, offset);
        if (n < 0)
            return cg_fail_sys(e, "read the record");
        offset += (uint64_t)n;
        w.held += (size_t)n;
        if (!give_lines(&w, each, ctx))
            return true;
        w.held -= w.at;
        memmove(w.p, w.p + w.at, w.held);
        w.at = 0;
        if (n > 0 && w.held < BUFFER)
            continue;
        if (w.held > 0 && !each(ctx, (struct cg_slice){w.p, w.held}, false))
            return true;
        w.held = 0;
        if (n == 0)
            return true;
    }
}
