/* HTTP/1.1 server on a libuv loop: one connection, one request at a time, bodies with
 * back-pressure. llhttp parses; what smugglers use is refused before it sees the head: bare LF,
 * obs-fold, NUL, a missing or doubled Host, both Content-Length and Transfer-Encoding, heads over
 * 16 KiB. RFC 9110, 9112; RFC 6455 for WebSocket (wslay). One thread, the loop's. */
#ifndef CG_HTTP_HTTP_H
#define CG_HTTP_HTTP_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    CG_HTTP_HEAD_MAX = 16 * 1024,
    CG_HTTP_CONNS_MAX = 4096,
    CG_HTTP_SEGMENTS = 12,
    CG_HTTP_OUT_MAX = 120 << 20, /* a reply may queue this much; more ends the connection */
};

struct cg_http_server;
struct cg_http_conn;

struct cg_http_req {
    struct cg_http_conn *conn;
    const char *method;              /* "GET" */
    char *target;                    /* as it came */
    char *path;                      /* without the query, still encoded */
    char *query;                     /* behind '?', or "" */
    char *segment[CG_HTTP_SEGMENTS]; /* decoded; no NUL, no '/' inside */
    unsigned segments;
    int64_t content_length; /* -1: none or chunked */
    bool has_body;
    char id[24];         /* request id, sent as X-Request-Id */
    const char *peer;    /* the client's address, without its port; "" where there is none */
    struct cg_buf extra; /* headers added to the reply */

    /* The handler's. `abort`: the client is gone, r is invalid when it returns; no reply is due.
     * `drain`: everything queued has been written. */
    void *user;
    void (*abort)(struct cg_http_req *r);
    void (*drain)(struct cg_http_req *r);

    /* Set by cg_http_read_body or cg_http_stream_body. */
    void (*on_body)(struct cg_http_req *r, struct cg_slice bytes);
    void (*on_end)(struct cg_http_req *r); /* the body is complete */
    struct cg_buf body;
};

/* Called when a head is complete. The handler replies now or later, and chooses what happens to the
 * body, if there is one: without a choice it is refused with the reply. */
typedef void cg_http_handler(void *ctx, struct cg_http_req *r);

/* Takes a listening socket over; -1: there is none, connections come by cg_http_server_adopt. */
CG_MUST_USE struct cg_http_server *cg_http_server_create(uv_loop_t *loop, int fd,
                                                         cg_http_handler *handler, void *ctx,
                                                         struct cg_err *e);
/* Takes a connected stream socket over and serves it. */
void cg_http_server_adopt(struct cg_http_server *s, int fd);
/* Stops accepting; idle connections end, requests under way may finish. */
void cg_http_server_quiesce(struct cg_http_server *s);
unsigned cg_http_server_conns(const struct cg_http_server *s);
void cg_http_server_destroy(struct cg_http_server *s); /* ends all connections */

/* The value of a header, NULL when absent; valid until the request ends. */
const char *cg_http_header(const struct cg_http_req *r, const char *name);

/* The i-th header as it came; false behind the last. */
bool cg_http_header_at(const struct cg_http_req *r, unsigned i, const char **name,
                       const char **value);

/* A decoded query parameter into out: false when absent, malformed or longer than size. */
bool cg_http_query(const struct cg_http_req *r, const char *name, char *out, size_t size);
bool cg_http_query_has(const struct cg_http_req *r, const char *name); /* whatever it is */

/* Gathers the body (at most max bytes, else 413 is sent) and calls done with it in r->body. */
void cg_http_read_body(struct cg_http_req *r, size_t max, void (*done)(struct cg_http_req *r));
/* Hands the body on as it comes. pause/resume hold the client back; up to 64 KiB may still come
 * after a pause. */
void cg_http_stream_body(struct cg_http_req *r,
                         void (*on_body)(struct cg_http_req *r, struct cg_slice bytes),
                         void (*on_end)(struct cg_http_req *r));
void cg_http_pause(struct cg_http_req *r);
void cg_http_resume(struct cg_http_req *r);

/* Before the reply. The value must hold no CR or LF. */
void cg_http_add_header(struct cg_http_req *r, const char *name, const char *value);

/* A whole reply. type may be NULL when there is no body. r is invalid afterwards. */
void cg_http_reply(struct cg_http_req *r, int status, const char *type, struct cg_slice body);

/* A reply in parts: length -1 goes chunked. Write and finish; `drain` tells when all is out. */
void cg_http_start(struct cg_http_req *r, int status, const char *type, int64_t length);
void cg_http_write(struct cg_http_req *r, struct cg_slice bytes);
size_t cg_http_pending(const struct cg_http_req *r);
void cg_http_finish(struct cg_http_req *r); /* r is invalid afterwards */
void cg_http_break(struct cg_http_req *r);  /* cuts the connection: the reply cannot be completed */

/* A reply with the headers of another server: "Name: value\r\n" each, none of which may be about
 * framing. Nothing is added but framing; go on with write and finish. */
void cg_http_relay(struct cg_http_req *r, int status, struct cg_slice headers, int64_t length);

const char *cg_http_status_text(int status);

/* --- another protocol, handed through --- */

struct cg_http_pipe;

struct cg_http_pipe_ops {
    void (*on_bytes)(void *ctx,
                     struct cg_slice bytes); /* at most 64 KiB, also once after a pause */
    void (*on_drain)(void *ctx);
    void (*on_close)(void *ctx); /* once; the pipe is invalid when it returns */
};

/* Sends the head (a whole 101) and takes the connection out of HTTP; r is invalid afterwards. Only
 * for requests whose body has come, or that have none. Call _begin next: it hands on what the
 * client sent early. */
struct cg_http_pipe *cg_http_pass(struct cg_http_req *r, struct cg_slice head,
                                  const struct cg_http_pipe_ops *ops, void *ctx);
void cg_http_pipe_begin(struct cg_http_pipe *p);
void cg_http_pipe_write(struct cg_http_pipe *p, struct cg_slice bytes);
size_t cg_http_pipe_pending(const struct cg_http_pipe *p);
void cg_http_pipe_pause(struct cg_http_pipe *p);
void cg_http_pipe_resume(struct cg_http_pipe *p);
void cg_http_pipe_end(struct cg_http_pipe *p); /* what is queued goes out first; on_close follows */

/* --- WebSocket --- */

struct cg_ws;

struct cg_ws_ops {
    void (*on_message)(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes);
    void (*on_drain)(void *ctx, struct cg_ws *ws);
    void (*on_close)(void *ctx, struct cg_ws *ws); /* once; ws is invalid when it returns */
};

enum { CG_WS_MESSAGE_MAX = 1 << 20 };

/* True when the request asks for a WebSocket and, if protocol is not NULL, offers it. */
bool cg_ws_wanted(const struct cg_http_req *r, const char *protocol);
/* Answers 101; r is invalid afterwards. NULL (with a 400 sent) when the request is none. */
struct cg_ws *cg_ws_accept(struct cg_http_req *r, const char *protocol, const struct cg_ws_ops *ops,
                           void *ctx);
void cg_ws_send(struct cg_ws *ws, bool text, struct cg_slice bytes);
void cg_ws_limit(struct cg_ws *ws, size_t message_max); /* instead of CG_WS_MESSAGE_MAX */
size_t cg_ws_pending(const struct cg_ws *ws);
void cg_ws_pause(struct cg_ws *ws);
void cg_ws_resume(struct cg_ws *ws);
/* Closing handshake with a status (1000 ...); on_close follows. */
void cg_ws_close(struct cg_ws *ws, unsigned status, const char *reason);

#endif
