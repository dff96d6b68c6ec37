/* What goes out, and in which order: frames of the link itself first, then one frame of each stream
 * in turn, so that a flood on one stream delays another by at most one frame. */
#include "link/inner.h"

enum { OUT_TARGET = 64 * 1024 }; /* enough to keep the transport busy between two calls */

static bool encode(struct cg_buf *b, struct cg_frame f, const void *p)
{
    unsigned char header[CG_LINK_HEADER];
    cg_frame_put(header, f);
    if (!cg_buf_room(b, sizeof header + f.length))
        return false;
    return cg_buf_add(b, header, sizeof header) && cg_buf_add(b, p, f.length);
}

static void too_much(struct cg_link *l)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_LIMIT, "the other side does not read: too much is queued for it");
    cg_link_fail(l, &e);
}

void cg_link_queue_first(struct cg_link *l, enum cg_frame_type type, const void *p, size_t n)
{
    if (!encode(&l->first, (struct cg_frame){(uint32_t)n, 0, (uint8_t)type, 0}, p))
        too_much(l);
}

static void join_turns(struct cg_link_stream *s)
{
    struct cg_link *l = s->link;
    if (s->queued)
        return;
    s->queued = true;
    s->turn_next = NULL;
    if (l->turn_last)
        l->turn_last->turn_next = s;
    else
        l->turn_first = s;
    l->turn_last = s;
}

/* Takes what went to the output off the queue, once it is the larger part: a stream whose reader is
 * slow may have something queued for ever. */
static void drop_moved(struct cg_link_stream *s)
{
    if (s->queue_at < s->queue.n - s->queue_at)
        return;
    s->last_data = s->last_data == SIZE_MAX || s->last_data < s->queue_at
                       ? SIZE_MAX
                       : s->last_data - s->queue_at;
    cg_buf_consume(&s->queue, s->queue_at);
    s->queue_at = 0;
}

void cg_link_queue(struct cg_link_stream *s, enum cg_frame_type type, unsigned flags, const void *p,
                   size_t n)
{
    if (s->link->dead)
        return;
    CG_ASSERT(n <= CG_LINK_MAX_PAYLOAD);
    drop_moved(s);
    size_t at = s->queue.n;
    if (!encode(&s->queue, (struct cg_frame){(uint32_t)n, s->id, (uint8_t)type, (uint8_t)flags},
                p)) {
        too_much(s->link);
        return;
    }
    s->last_data = type == CG_FRAME_DATA ? at : SIZE_MAX;
    join_turns(s);
}

/* Moves the first queued frame of a stream to the output; false when it does not fit any more. */
static bool move_frame(struct cg_link_stream *s)
{
    struct cg_link *l = s->link;
    const char *p = s->queue.p + s->queue_at;
    size_t n = CG_LINK_HEADER + cg_frame_get((const unsigned char *)p).length;
    if (!cg_buf_add(&l->out, p, n))
        return false;
    s->queue_at += n;
    if (s->queue_at == s->queue.n) {
        /* an idle stream keeps no memory */
        cg_buf_finish(&s->queue);
        s->queue_at = 0;
        s->last_data = SIZE_MAX;
    }
    return true;
}

static struct cg_link_stream *next_turn(struct cg_link *l)
{
    struct cg_link_stream *s = l->turn_first;
    l->turn_first = s->turn_next;
    if (!l->turn_first)
        l->turn_last = NULL;
    s->queued = false;
    return s;
}

static void fill(struct cg_link *l)
{
    if (l->first.n > 0 && cg_buf_add(&l->out, l->first.p, l->first.n))
        cg_buf_clear(&l->first);
    while (l->turn_first && !l->held && l->out.n < OUT_TARGET) {
        struct cg_link_stream *s = next_turn(l);
        bool moved = move_frame(s);
        if (cg_link_pending(s) > 0)
            join_turns(s);
        else if (s->closing)
            cg_link_remove(s);
        if (!moved)
            break;
    }
}

struct cg_slice cg_link_output(struct cg_link *l)
{
    if (l->out_at == l->out.n) {
        cg_buf_clear(&l->out);
        l->out_at = 0;
        if (!l->dead)
            fill(l);
    }
    return (struct cg_slice){l->out.p + l->out_at, l->out.n - l->out_at};
}

void cg_link_wrote(struct cg_link *l, size_t n)
{
    CG_ASSERT(n <= l->out.n - l->out_at);
    l->out_at += n;
}
