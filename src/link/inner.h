/* The inside of a link, shared by link.c (streams), input.c (frames that come) and output.c (frames
 * that go). Nothing outside of src/link includes this. */
#ifndef CG_LINK_INNER_H
#define CG_LINK_INNER_H

#include "link/frame.h"
#include "link/link.h"

enum { CG_LINK_BUCKETS = 256 };

struct cg_link_stream {
    struct cg_link *link;
    struct cg_link_stream *bucket_next; /* streams with the same id % CG_LINK_BUCKETS */
    struct cg_link_stream *turn_next; /* streams with queued frames, in the order of their turns */
    void *user;
    struct cg_buf queue; /* encoded frames; DATA in it has its credit already */
    size_t queue_at;     /* bytes of `queue` that went to the output */
    size_t last_data; /* where the header of the last frame is, when that is DATA; else SIZE_MAX */
    uint32_t send_credit; /* what the peer lets us send */
    uint32_t recv_window; /* what we let the peer send */
    uint32_t grant_due;   /* dealt with, not yet told to the peer */
    uint16_t id;
    uint8_t eof_sent; /* bit a channel */
    uint8_t eof_got;
    bool accepted;
    bool queued;    /* it is in the list of turns */
    bool starved;   /* cg_link_send took less than it was given */
    bool closing;   /* acceptor: the result is queued; frames that come are ignored */
    bool cancelled; /* opener: CANCEL was sent; acceptor: it came, or the link failed */
    bool forgotten; /* opener: no handler is called any more */
};

struct cg_link {
    struct cg_link_handlers on;
    void *ctx;
    struct cg_link_stream *buckets[CG_LINK_BUCKETS];
    struct cg_link_stream *turn_first;
    struct cg_link_stream *turn_last;
    struct cg_buf in;    /* an unfinished frame */
    struct cg_buf first; /* frames of stream 0, ahead of all others */
    struct cg_buf out;   /* what the transport writes next */
    size_t out_at;       /* bytes of `out` that are written */
    unsigned streams;
    uint16_t next_id;
    bool opener;
    bool hello_got;
    bool held; /* streams wait, the link's own frames go */
    bool dead;
};

struct cg_link_stream *cg_link_find(struct cg_link *l, unsigned id);
struct cg_link_stream *cg_link_add(struct cg_link *l, unsigned id);
void cg_link_remove(struct cg_link_stream *s); /* out of the tables, freed */

/* Queues a frame of a stream, or of the link itself. Too much queued ends the link. */
void cg_link_queue(struct cg_link_stream *s, enum cg_frame_type type, unsigned flags, const void *p,
                   size_t n);
void cg_link_queue_first(struct cg_link *l, enum cg_frame_type type, const void *p, size_t n);

#endif
