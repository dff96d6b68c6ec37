/* Inside of the HTTP server: conn.c (bytes and parsing), reply.c, ws.c, server.c. */
#ifndef CG_HTTP_INNER_H
#define CG_HTTP_INNER_H

#include <llhttp.h>

#include "http/http.h"
#include "loop/stream.h"

enum conn_wait {
    WAIT_NONE,  /* for ourselves */
    WAIT_HEAD,  /* from its first byte to its last */
    WAIT_IDLE,  /* between requests */
    WAIT_BODY,  /* for more of it */
    WAIT_WRITE, /* for the client to take something */
    WAIT_END,   /* for the client to close */
    WAIT_REST,  /* the same, while it still sends a body that nobody reads */
};

enum conn_state {
    CONN_HEAD,     /* waiting for or reading a head */
    CONN_BODY,     /* a request is handled; its body may still come */
    CONN_UPGRADED, /* bytes belong to the WebSocket or the pipe */
};

struct header {
    char *name; /* lower case */
    char *value;
};

struct cg_http_conn {
    struct cg_http_server *server;
    struct cg_http_conn *next, *prev;
    struct cg_stream *stream;
    enum conn_state state;
    llhttp_t parser;
    struct cg_buf in; /* a head, or bytes behind the present request */
    struct cg_buf out;
    size_t out_at;
    struct cg_http_req req;
    char peer[48];
    struct header headers[64];
    unsigned nheaders;
    bool req_live; /* the handler has the request */
    bool body_done;
    bool replied;  /* the head of the reply is out */
    bool finished; /* the reply is complete */
    bool chunked;
    bool keep;      /* the connection may serve another request */
    bool closing;   /* close once out is empty */
    bool lingering; /* all is sent, the sending side is shut */
    bool headless;  /* the answer to HEAD: no body */
    bool served;    /* a request was served on it before */
    bool ws_closing;
    bool dead;
    bool paused; /* by the handler */
    bool advancing;
    int64_t left; /* bytes of a reply of known length still due */
    enum conn_wait wait;
    int64_t deadline_ns; /* 0: none */
    struct cg_ws *ws;
    struct cg_http_pipe *pipe;
};

struct cg_http_server {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t tick;
    int fd;
    cg_http_handler *handler;
    void *ctx;
    struct cg_http_conn *conns;
    struct cg_http_conn *graves; /* ended, freed at the next tick */
    unsigned nconns;
    bool quiet;
    unsigned closing_handles;
    bool destroyed;
};

void conn_accept(struct cg_http_server *s, int fd);
void conn_destroy(struct cg_http_conn *c);
void conn_rearm(struct cg_http_conn *c, bool progress);
void conn_request_over(struct cg_http_conn *c); /* the reply is complete */
void conn_queue(struct cg_http_conn *c, const void *p, size_t n);
void conn_simple_reply(struct cg_http_conn *c, int status, const char *text);

/* request.c. head_judge: NULL when the head may be parsed, else what is wrong with it. */
const char *head_judge(const char *p, size_t n);
bool head_split_target(struct cg_http_req *r);

/* Goes as far as the bytes that have come allow. */
bool conn_advance(struct cg_http_conn *c);
/* Nothing more is served: what is queued goes out, then the connection ends. */
void conn_close_after_reply(struct cg_http_conn *c);

/* pipe.c */
void pipe_bytes(struct cg_http_pipe *p, struct cg_slice bytes);
void pipe_drained(struct cg_http_pipe *p);
void pipe_gone(struct cg_http_pipe *p);

/* ws.c */
bool ws_bytes(struct cg_ws *ws, struct cg_slice bytes);
void ws_gone(struct cg_ws *ws);
void ws_fill(struct cg_ws *ws); /* its frames into conn->out */
void ws_drained(struct cg_ws *ws);

#endif
