/* One end of an intercepted connection: a non-blocking socket, with TLS on it or plain. Bytes wait
 * in `out` only, which its owner bounds by asking cg_end_full first. One thread, the loop's. */
#ifndef CG_INTERCEPT_END_H
#define CG_INTERCEPT_END_H

#include <openssl/ssl.h>
#include <uv.h>

#include "base/buf.h"

enum { CG_END_OUT = 64 * 1024 };

struct cg_end {
    int fd;
    SSL *ssl;    /* NULL: plain */
    bool shaken; /* the handshake is through */
    bool eof;    /* nothing comes any more */
    bool dead;   /* nor goes */
    bool shut;
    uv_poll_t poll;
    uv_poll_cb cb;
    bool polling;
    int events;
    struct cg_buf out; /* on the wire: encrypted when it is TLS */
    uint64_t got, sent;
};

/* Takes fd over, and ssl with its reference (server or client side is set). cb gets the poll. */
void cg_end_init(struct cg_end *e, uv_loop_t *loop, int fd, SSL *ssl, uv_poll_cb cb, void *data);
/* TLS from here on, on a plain end that has said nothing. */
void cg_end_secure(struct cg_end *e, SSL *ssl);
/* Handshake as far as it goes. True when it is through; e->dead when it failed. */
bool cg_end_shake(struct cg_end *e);
/* Plain bytes: their number, 0 when none are there now, or e->eof, e->dead. */
size_t cg_end_read(struct cg_end *e, char *p, size_t n);
void cg_end_write(struct cg_end *e, const char *p, size_t n);
bool cg_end_full(const struct cg_end *e);
/* Sends what waits. */
void cg_end_flush(struct cg_end *e);
/* After everything is sent: says that nothing follows. */
void cg_end_shutdown(struct cg_end *e);
/* `write`: call as soon as the socket takes bytes, also when none wait. */
void cg_end_watch(struct cg_end *e, bool read, bool write);
/* Closes; `closed` comes from the loop when there was a poll: then the memory is free. False:
 * there was none, and nothing comes. */
bool cg_end_close(struct cg_end *e, uv_close_cb closed);

#endif
