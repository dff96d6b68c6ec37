/* A byte stream on a libuv loop, pulled rather than pushed: the stream asks its owner for output
 * when the descriptor can take it, and stops reading while the owner says so. No buffer of its own
 * grows; back-pressure is the default. Works for sockets, pipes and PTYs. One thread: the loop's.
 */
#ifndef CG_LOOP_STREAM_H
#define CG_LOOP_STREAM_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_stream;

struct cg_stream_ops {
    /* Bytes arrived (at most 64 KiB). Return false with *e set to end the stream. */
    bool (*on_read)(void *ctx, struct cg_slice bytes, struct cg_err *e);
    /* What to write next; an empty slice when there is nothing. The bytes stay valid until
     * `wrote` or the next event on the owner's side. May be NULL for a stream that only reads. */
    struct cg_slice (*output)(void *ctx);
    void (*wrote)(void *ctx, size_t n);
    /* Once, from the loop, when the stream has ended by itself: CG_CLOSED for an orderly end of
     * file, another code for a failure. The owner calls cg_stream_destroy then (or from here). */
    void (*on_end)(void *ctx, const struct cg_err *why);
};

/* Takes the descriptor over (closed by destroy) and starts reading. The ops are copied. */
CG_MUST_USE struct cg_stream *cg_stream_create(uv_loop_t *loop, int fd,
                                               const struct cg_stream_ops *ops, void *ctx,
                                               struct cg_err *e);

/* There is output: it is written when this turn of the loop is over, or when the descriptor takes
 * it. Cheap; call it freely. */
void cg_stream_kick(struct cg_stream *s);

void cg_stream_read_pause(struct cg_stream *s);
void cg_stream_read_resume(struct cg_stream *s);

/* Sends what output() has, then shuts the sending side down (sockets only); reading goes on. */
void cg_stream_finish_writing(struct cg_stream *s);

/* Ends it now: no callback follows. NULL is fine; safe from inside a callback. */
void cg_stream_destroy(struct cg_stream *s);

int cg_stream_fd(const struct cg_stream *s);

#endif
