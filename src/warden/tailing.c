/* `events`: lines of the record as they become durable. They are read back from the record's own
 * files (from the page cache, as a rule), so that a slow reader costs no memory here. */
#include <stdlib.h>

#include "record/reader.h"
#include "warden/up.h"

enum { TAILINGS = 16 }; /* each has a buffer of 128 KiB */

struct tailing {
    struct tailing *next;
    struct warden *w;
    struct up up;
    struct cg_record_reader *reader;
    struct cg_slice line; /* the rest of a line that did not fit, with its line end */
};

static const struct up_ops ops;

static void drop(struct tailing *t)
{
    struct tailing **at = &t->w->tails;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    cg_record_reader_close(t->reader);
    free(t);
}

/* Sends the rest of the present line; false when it did not fit whole. */
static bool send_rest(struct tailing *t)
{
    size_t n = cg_link_send(t->up.s, CG_LINK_STDOUT, t->line.p, t->line.n);
    t->line.p += n;
    t->line.n -= n;
    return t->line.n == 0;
}

static void pump(struct tailing *t)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_record_line line;
    enum cg_record_got got = CG_RECORD_LINE;
    uint64_t durable = cg_record_durable(t->w->record);
    if (!t->up.s)
        return;
    while (t->line.n == 0 || send_rest(t)) {
        got = cg_record_read(t->reader, durable, &t->line, &line, &e);
        if (got != CG_RECORD_LINE) {
            t->line.n = 0;
            break;
        }
        t->line.n++; /* its line end stands behind it in the reader's buffer */
    }
    up_kick(&t->up);
    if (got == CG_RECORD_ERROR) {
        up_close_error(&t->up, e.code, e.text);
        drop(t);
    }
}

static void on_writable(struct up *u)
{
    pump(CG_CONTAINER(u, struct tailing, up));
}

static void on_cancel(struct up *u, bool lost)
{
    struct tailing *t = CG_CONTAINER(u, struct tailing, up);
    (void)lost;
    up_close(u, cg_slice_of("{}"));
    drop(t);
}

static const struct up_ops ops = {.on_writable = on_writable, .on_cancel = on_cancel};

void tailing_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                  const struct cg_json *request)
{
    struct cg_err e = CG_ERR_INIT;
    unsigned open = 0;
    for (const struct tailing *t = w->tails; t; t = t->next)
        open++;
    if (open >= TAILINGS) {
        refuse(c, s, CG_LIMIT, "too many readers of the record's events");
        return;
    }
    int64_t after = cg_json_int(request, "after_seq", 0);
    struct cg_record_reader *reader =
        cg_record_reader_open(w->record_dir, after < 0 ? 0 : (uint64_t)after, &e);
    if (!reader) {
        refuse(c, s, e.code, e.text);
        return;
    }
    struct tailing *t = cg_alloc(sizeof *t);
    t->w = w;
    t->reader = reader;
    t->next = w->tails;
    w->tails = t;
    up_init(&t->up, &ops, c, s);
    up_accept(&t->up, cg_slice_of("{}"));
    pump(t);
}

void tailing_progress(struct warden *w)
{
    struct tailing *next;
    for (struct tailing *t = w->tails; t; t = next) {
        next = t->next;
        pump(t);
    }
}
