/* The link: many streams over one byte stream, with credit for each stream and direction.
 *
 * Used between warden and guest agent (virtio-serial, vsock) and between server and warden (unix
 * socket); docs/link-protocol.md is the specification. This is a state machine without I/O: feed it
 * the bytes that came, write out the bytes it has, so that it runs on libuv and on a bare epoll
 * loop alike and every input can be fuzzed. It never blocks and never calls back from inside
 * cg_link_open, cg_link_send or cg_link_close; handlers run only from cg_link_feed.
 *
 * One side is the opener (server towards warden, warden towards agent), the other the acceptor.
 * Memory is bounded: a stream holds at most one window of unsent bytes in each direction, streams
 * are limited in number, frames in size. Peer errors end the link, with the reason, for good.
 */
#ifndef CG_LINK_LINK_H
#define CG_LINK_LINK_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum {
    CG_LINK_HEADER = 8,
    CG_LINK_MAX_PAYLOAD = 256 * 1024, /* JSON frames; DATA frames carry at most CG_LINK_MAX_DATA */
    CG_LINK_MAX_DATA = 32 * 1024,
    CG_LINK_WINDOW = 256 * 1024, /* credit at the start of a stream, each direction */
    CG_LINK_MAX_STREAMS = 1024,
    CG_LINK_VERSION = 1,
    CG_LINK_NONCE = 16,
    CG_LINK_RESET = CG_LINK_HEADER + CG_LINK_NONCE
};

/* Channels of DATA and EOF frames. */
enum { CG_LINK_STDIN = 0, CG_LINK_STDOUT = 1, CG_LINK_STDERR = 2 };

struct cg_link;
struct cg_link_stream;

/* Handlers; any may be NULL. `s` is valid until on_close has returned (opener), or until the
 * acceptor's own cg_link_close. JSON arguments are valid during the call only. */
struct cg_link_handlers {
    /* The peer said HELLO; the link is up. */
    void (*on_hello)(void *ctx, const struct cg_json *hello);
    /* Acceptor: a stream was opened. Set its user pointer, answer with cg_link_accept or
     * cg_link_close. */
    void (*on_open)(void *ctx, struct cg_link_stream *s, const struct cg_json *request);
    /* Opener: the acceptor accepted. */
    void (*on_accept)(void *ctx, struct cg_link_stream *s, const struct cg_json *info);
    /* Bytes came. The receiver gives the credit back with cg_link_grant when it has passed them
     * on; until then the peer can send only what is left of the window. */
    void (*on_data)(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice data);
    void (*on_eof)(void *ctx, struct cg_link_stream *s, unsigned channel);
    void (*on_control)(void *ctx, struct cg_link_stream *s, const struct cg_json *message);
    /* Room to send again after cg_link_send took less than it was given. */
    void (*on_writable)(void *ctx, struct cg_link_stream *s);
    /* Opener: the stream ended; `result` is the acceptor's, or, when the link failed, an object
     * with "error". Acceptor: the opener cancelled it (result NULL); the acceptor still has to
     * call cg_link_close. */
    void (*on_close)(void *ctx, struct cg_link_stream *s, const struct cg_json *result);
    /* Answer to cg_link_ping. */
    void (*on_pong)(void *ctx, uint64_t token, int64_t peer_mono_ns);
    /* Acceptor: another opener is there, who knows nothing of this link's streams. The link is
     * dead when this returns and takes no more bytes: say the nonce, bare, as the first bytes of
     * a new link. */
    void (*on_reset)(void *ctx, const unsigned char nonce[CG_LINK_NONCE]);
};

/* `opener` says which side this is. hello_json (an object, may be NULL) goes out in HELLO. */
CG_MUST_USE struct cg_link *cg_link_create(bool opener, const char *hello_json,
                                           const struct cg_link_handlers *handlers, void *ctx);
void cg_link_destroy(struct cg_link *l); /* calls no handler */

/* Takes bytes from the peer. false when the peer broke the protocol (e says how): the link is dead
 * then, all streams of an opener get on_close with an error. */
CG_MUST_USE bool cg_link_feed(struct cg_link *l, const char *p, size_t n, struct cg_err *e);

/* The transport is gone: as a protocol error with this reason. */
void cg_link_fail(struct cg_link *l, const struct cg_err *why);

/* Bytes to write to the peer: an empty slice when there are none. Streams take turns by frame.
 * cg_link_wrote takes off what was written. */
struct cg_slice cg_link_output(struct cg_link *l);
void cg_link_wrote(struct cg_link *l, size_t n);

/* Opener: a new stream; NULL with CG_LIMIT when there are too many, CG_CLOSED when the link is
 * dead. `request` is a JSON object with "kind". */
CG_MUST_USE struct cg_link_stream *cg_link_open(struct cg_link *l, struct cg_slice request,
                                                void *user, struct cg_err *e);

/* Acceptor: says yes with a JSON object (may be empty: "{}"). */
void cg_link_accept(struct cg_link_stream *s, struct cg_slice info);

/* Queues bytes and returns how many were taken: fewer than n when credit or room ran out, then
 * on_writable comes later. */
CG_MUST_USE size_t cg_link_send(struct cg_link_stream *s, unsigned channel, const char *p,
                                size_t n);
size_t cg_link_room(const struct cg_link_stream *s); /* what cg_link_send would take now */
/* Asks for on_writable when more credit has come, as a short cg_link_send does. */
void cg_link_want_room(struct cg_link_stream *s);
size_t cg_link_pending(const struct cg_link_stream *s); /* queued, not yet in the output */

void cg_link_eof(struct cg_link_stream *s, unsigned channel);
void cg_link_control(struct cg_link_stream *s, struct cg_slice message);

/* Gives credit back: n bytes that on_data delivered were dealt with. */
void cg_link_grant(struct cg_link_stream *s, size_t n);

/* Acceptor: ends the stream with its result after everything queued; `s` is gone.
 * Opener: cancels; on_close comes when the acceptor has answered, unless user is set to NULL and
 * `forget` is true, then no handler is called for it any more. */
void cg_link_close(struct cg_link_stream *s, struct cg_slice result);
void cg_link_cancel(struct cg_link_stream *s, bool forget);

void cg_link_ping(struct cg_link *l, uint64_t token);

/* Held, no frame of a stream begins to go out; the link's own frames do. A PONG to a PING sent
 * afterwards means that the peer has read all there is, up to the end of a frame. */
void cg_link_hold(struct cg_link *l, bool held);

/* The frame with which an opener takes over an acceptor that is in the middle of something: the
 * first bytes it sends. Everything that comes up to the bare nonce is of the time before. */
void cg_link_reset_frame(const unsigned char nonce[CG_LINK_NONCE],
                         unsigned char out[CG_LINK_RESET]);

void *cg_link_user(const struct cg_link_stream *s);
void cg_link_set_user(struct cg_link_stream *s, void *user);
unsigned cg_link_id(const struct cg_link_stream *s);
unsigned cg_link_stream_count(const struct cg_link *l);
bool cg_link_dead(const struct cg_link *l);

#endif
