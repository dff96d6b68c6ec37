/* A stream that a server opened, as its kind sees it. Embedded in the kind's own object, which
 * lives at least until the stream is closed or lost. */
#ifndef CG_WARDEN_UP_H
#define CG_WARDEN_UP_H

#include "warden/inner.h"

struct up;
struct up_ops { /* any may be NULL */
    void (*on_data)(struct up *u, unsigned channel, struct cg_slice data);
    void (*on_eof)(struct up *u, unsigned channel);
    void (*on_control)(struct up *u, const struct cg_json *message);
    void (*on_writable)(struct up *u);
    /* The server cancelled: up_close has to follow, now or later. When `lost` the connection is
     * gone, u->s is NULL and nothing has to follow; the object may be freed here. */
    void (*on_cancel)(struct up *u, bool lost);
};

struct up {
    const struct up_ops *ops;
    struct warden *w;
    struct conn *conn; /* NULL once closed or lost, and s too */
    struct cg_link_stream *s;
    struct up *next;
    struct up *prev;
};

void up_init(struct up *u, const struct up_ops *ops, struct conn *c, struct cg_link_stream *s);
/* These do nothing once u->s is NULL. */
void up_accept(struct up *u, struct cg_slice info);
void up_close(struct up *u, struct cg_slice result);
void up_close_error(struct up *u, enum cg_code code, const char *text);
void up_kick(struct up *u); /* something was sent on u->s */

/* Closes a stream that never got an object. */
void refuse(struct conn *c, struct cg_link_stream *s, enum cg_code code, const char *text);
void error_write(struct cg_buf *out, enum cg_code code, const char *text);

#endif
