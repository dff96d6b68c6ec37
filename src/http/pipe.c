/* A connection whose bytes are no longer HTTP's: after a 101 that the handler got from elsewhere,
 * both directions are handed through as they come. */
#include <stdlib.h>

#include "http/inner.h"

struct cg_http_pipe {
    struct cg_http_conn *conn;
    struct cg_http_pipe_ops ops;
    void *ctx;
    bool gone;
};

struct cg_http_pipe *cg_http_pass(struct cg_http_req *r, struct cg_slice head,
                                  const struct cg_http_pipe_ops *ops, void *ctx)
{
    struct cg_http_conn *c = r->conn;
    CG_ASSERT(c->req_live && !c->replied && c->body_done);
    struct cg_http_pipe *p = cg_alloc(sizeof *p);
    *p = (struct cg_http_pipe){.conn = c, .ops = *ops, .ctx = ctx};
    c->req_live = false;
    c->replied = c->finished = true;
    c->state = CONN_UPGRADED;
    c->pipe = p;
    conn_queue(c, head.p, head.n);
    cg_stream_read_resume(c->stream);
    return p;
}

void cg_http_pipe_begin(struct cg_http_pipe *p)
{
    conn_advance(p->conn);
}

void pipe_bytes(struct cg_http_pipe *p, struct cg_slice bytes)
{
    p->ops.on_bytes(p->ctx, bytes);
}

void pipe_drained(struct cg_http_pipe *p)
{
    p->ops.on_drain(p->ctx);
}

void pipe_gone(struct cg_http_pipe *p)
{
    p->gone = true;
    p->ops.on_close(p->ctx);
    free(p);
}

void cg_http_pipe_write(struct cg_http_pipe *p, struct cg_slice bytes)
{
    if (!p->gone && !p->conn->closing)
        conn_queue(p->conn, bytes.p, bytes.n);
}

size_t cg_http_pipe_pending(const struct cg_http_pipe *p)
{
    return p->conn->out.n - p->conn->out_at;
}

void cg_http_pipe_pause(struct cg_http_pipe *p)
{
    cg_stream_read_pause(p->conn->stream);
}

void cg_http_pipe_resume(struct cg_http_pipe *p)
{
    cg_stream_read_resume(p->conn->stream);
}

void cg_http_pipe_end(struct cg_http_pipe *p)
{
    if (!p->gone && !p->conn->closing)
        conn_close_after_reply(p->conn);
}
