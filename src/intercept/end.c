/* TLS runs over memory (BIO), so that the socket is read and written here only and the same way
 * for both kinds. */
#include "intercept/end.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 16 * 1024 };

void cg_end_init(struct cg_end *e, uv_loop_t *loop, int fd, SSL *ssl, uv_poll_cb cb, void *data)
{
    *e = (struct cg_end){.cb = cb, .fd = fd, .ssl = ssl, .shaken = ssl == NULL, .events = -1};
    cg_buf_init(&e->out, 8 * (size_t)CG_END_OUT);
    if (ssl)
        cg_end_secure(e, ssl);
    CG_ASSERT(uv_poll_init(loop, &e->poll, fd) == 0);
    e->poll.data = data;
    e->polling = true;
}

void cg_end_secure(struct cg_end *e, SSL *ssl)
{
    e->ssl = ssl;
    e->shaken = false;
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

static bool again(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* What TLS wants on the wire. */
static void drain(struct cg_end *e)
{
    char piece[PIECE];
    int n;
    while ((n = BIO_read(SSL_get_wbio(e->ssl), piece, sizeof piece)) > 0) {
        if (!cg_buf_add(&e->out, piece, (size_t)n))
            e->dead = true;
    }
}

/* What is on the wire for TLS. False: nothing now. */
static bool fill(struct cg_end *e)
{
    char piece[PIECE];
    if (BIO_ctrl_pending(SSL_get_rbio(e->ssl)) > 0)
        return true;
    if (e->eof)
        return false;
    ssize_t n = recv(e->fd, piece, sizeof piece, 0);
    if (n > 0)
        return BIO_write(SSL_get_rbio(e->ssl), piece, (int)n) == n;
    if (n == 0 || !again())
        e->eof = true;
    return false;
}

bool cg_end_shake(struct cg_end *e)
{
    for (;;) {
        int rc = SSL_do_handshake(e->ssl);
        int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(e->ssl, rc);
        drain(e);
        cg_end_flush(e);
        e->shaken = rc == 1;
        if (rc == 1)
            return true;
        if (why != SSL_ERROR_WANT_READ || (!fill(e) && e->eof))
            e->dead = true;
        if (e->dead || BIO_ctrl_pending(SSL_get_rbio(e->ssl)) == 0)
            return false;
    }
}

static size_t read_plain(struct cg_end *e, char *p, size_t n)
{
    ssize_t got = recv(e->fd, p, n, 0);
    if (got > 0)
        return (size_t)got;
    if (got == 0 || !again())
        e->eof = true;
    return 0;
}

size_t cg_end_read(struct cg_end *e, char *p, size_t n)
{
    size_t total = 0;
    if (!e->ssl) {
        total = e->eof ? 0 : read_plain(e, p, n);
        e->got += total;
        return total;
    }
    for (;;) {
        ERR_clear_error();
        int got = SSL_read(e->ssl, p, (int)n);
        if (got > 0) {
            e->got += (size_t)got;
            return (size_t)got;
        }
        int why = SSL_get_error(e->ssl, got);
        drain(e);
        if (why == SSL_ERROR_ZERO_RETURN)
            e->eof = true;
        else if (why != SSL_ERROR_WANT_READ)
            e->eof = e->dead = true;
        if (why != SSL_ERROR_WANT_READ || !fill(e))
            return 0;
    }
}

void cg_end_write(struct cg_end *e, const char *p, size_t n)
{
    if (e->dead || n == 0)
        return;
    e->sent += n;
    if (!e->ssl) {
        e->dead = !cg_buf_add(&e->out, p, n);
        return;
    }
    ERR_clear_error();
    if (SSL_write(e->ssl, p, (int)n) != (int)n) /* memory takes all of it */
        e->dead = true;
    drain(e);
}

bool cg_end_full(const struct cg_end *e)
{
    return e->out.n >= CG_END_OUT;
}

void cg_end_flush(struct cg_end *e)
{
    while (e->out.n > 0 && !e->dead) {
        ssize_t n = send(e->fd, e->out.p, e->out.n, MSG_NOSIGNAL);
        if (n < 0) {
            e->dead = !again();
            return;
        }
        cg_buf_consume(&e->out, (size_t)n);
    }
}

void cg_end_shutdown(struct cg_end *e)
{
    if (e->shut || e->dead)
        return;
    e->shut = true;
    if (e->ssl && e->shaken) {
        ERR_clear_error();
        (void)SSL_shutdown(e->ssl);
        drain(e);
    }
    cg_end_flush(e);
    if (e->out.n == 0)
        shutdown(e->fd, SHUT_WR);
}

void cg_end_watch(struct cg_end *e, bool read, bool write)
{
    int events = (e->out.n > 0 || write ? UV_WRITABLE : 0) | (read && !e->eof ? UV_READABLE : 0);
    if (events == e->events || !e->polling)
        return;
    e->events = events;
    if (events == 0)
        uv_poll_stop(&e->poll);
    else
        uv_poll_start(&e->poll, events, e->cb);
}

bool cg_end_close(struct cg_end *e, uv_close_cb closed)
{
    bool had = e->polling;
    SSL_free(e->ssl);
    e->ssl = NULL;
    if (e->out.p)
        explicit_bzero(e->out.p, e->out.n);
    cg_buf_finish(&e->out);
    if (had) {
        uv_poll_stop(&e->poll);
        uv_close((uv_handle_t *)&e->poll, closed);
        e->polling = false;
        cg_drop_fd(&e->fd);
    }
    return had;
}
