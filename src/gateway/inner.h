/* The inside of the gateway: gateway.c takes requests and admits, call.c moves one call to its end,
 * tell.c writes what the record says about it, keep.c
 * keeps its bodies. */
#ifndef CG_GATEWAY_INNER_H
#define CG_GATEWAY_INNER_H

#include "gateway/gateway.h"
#include "gateway/upstream.h"
#include "http/http.h"

enum {
    CALL_PENDING_MAX = 256 * 1024, /* waits for the client before the upstream is held back */
    CALL_KEEP_MAX = 8 << 20,       /* of a reply, for the record */
    CALL_REPLY_MAX = 32 << 20,     /* of a reply that is no stream */
    CALL_BODIES_MAX = 256 << 20,   /* of all calls together */
    CALL_TICK_MS = 250,
};

enum keep_body { KEEP_REQUEST, KEEP_REPLY, KEEP_BODIES };

enum call_phase { CALL_WAITING, CALL_FLYING, CALL_OVER };

struct call {
    struct call *next, *prev;
    struct cg_gateway *g;
    uint64_t id;
    enum call_phase phase;
    struct cg_http_req *r; /* NULL: the client is gone or has its answer */
    const struct cg_gateway_provider *provider;
    bool intercepted;
    char *path; /* as the provider's server sees it */
    struct cg_llm_route route;
    struct cg_llm_request q;
    bool understood;              /* q is valid */
    const struct cg_prices *book; /* as it was when the call came */
    const struct cg_price *price;
    struct cg_llm_bound bound;
    int64_t cap;
    struct cg_buf body;            /* as the client means it: decoded */
    struct cg_llm_splices splices; /* the cap, in what is sent */
    struct cg_buf reply; /* as it came, at most CALL_KEEP_MAX; whole for what is no stream */
    struct cg_buf held;  /* events that wait for the disk */
    struct cg_tap *tap;
    struct cg_fetch *fetch;
    int64_t opened, sent_at, first_at, last_at; /* monotonic */
    int64_t thinking_ns;
    int status;
    char type[96];
    bool sse, started, reserved, go, cut, hung, draining, waiting_disk;
    const char *verdict; /* how it ended, for the record */
    struct cg_bill bill;
    int64_t over_at;
    bool keeping; /* its bodies wait, or are packed */
    bool packing;
    struct cg_blob_work blob[KEEP_BODIES];
    struct call *keep_next;
    bool told;
    char why[256];
};

struct keep {
    struct call *first, *last; /* whose bodies wait */
    size_t bytes;
    unsigned calls;
    struct keep_job *job; /* under way */
    uv_timer_t timer;
};

struct cg_gateway {
    uv_loop_t *loop;
    struct cg_gateway_options o;
    struct cg_upstream *up;
    struct cg_http_server *http;  /* base URL */
    struct cg_http_server *inner; /* intercepted */
    struct call *calls;
    uint64_t last_call;
    size_t body_bytes;
    struct cg_gateway_stats stats;
    uv_timer_t tick;
    uv_timer_t soon; /* what may not be done inside the ledger's callbacks */
    struct keep keep;
    bool blocked, closing;
    unsigned closing_handles;
};

/* gateway.c */
void call_refuse(struct call *c, enum cg_refusal why, const char *message);
void call_free(struct call *c);
void gateway_soon(struct cg_gateway *g);

/* call.c */
void call_launch(struct call *c);
void call_over(struct call *c, const char *verdict);
void call_cut(struct call *c, const char *why);
void call_accrue(struct call *c, int64_t now);
void call_flush(struct call *c);
void call_hung_up(struct call *c);
void call_bill(struct call *c, struct cg_bill *out);

/* keep.c */
void keep_call(struct call *c); /* it is over: its last line follows */
void keep_begin(struct cg_gateway *g);
void keep_due(uv_timer_t *timer);
/* Puts a body that the line is about to name; false: it is not kept. */
bool keep_put(struct call *c, enum keep_body which, char name[CG_BLOB_NAME]);
void keep_stop(struct cg_gateway *g); /* waits for the worker; what waits is the caller's to tell */

/* tell.c */
void tell_call_open(struct call *c);
void tell_call_close(struct call *c, const struct cg_bill *bill);

#endif
