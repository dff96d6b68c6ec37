/* The LLM gateway: HTTP/1.1 towards the guest, one pipeline for every call whichever way it came.
 * A call is read whole, understood, priced, admitted by the ledger (whose reserve row is on disk
 * before the first byte goes upstream), sent to its provider with the provider's key in place of
 * the guest's run token, and streamed back event by event while its cost is counted. What is not a
 * known path of a model API is refused. docs/gateway.md. One thread, the loop's. */
#ifndef CG_GATEWAY_GATEWAY_H
#define CG_GATEWAY_GATEWAY_H

#include <uv.h>

#include "gateway/ledger.h"
#include "gateway/reply.h"
#include "record/blob.h"

struct cg_gateway;

enum {
    CG_GATEWAY_PROVIDERS = 24,
    CG_GATEWAY_HEADERS = 4,
    CG_GATEWAY_HOSTS = 4,
    CG_GATEWAY_HOST_MAX = 128,
    CG_GATEWAY_CALLS = 2048,
    CG_GATEWAY_URL = 256,
    CG_GATEWAY_KEY = 512,
    CG_GATEWAY_TOKEN = 64,
};

/* Where calls of one provider go. */
struct cg_gateway_provider {
    char name[CG_PROVIDER_MAX];    /* of the price book; also a word in the path */
    char base_url[CG_GATEWAY_URL]; /* "https://api.anthropic.com", without a slash at the end */
    char key[CG_GATEWAY_KEY];      /* empty: none is known */
    char headers[CG_GATEWAY_HEADERS][CG_GATEWAY_URL];  /* "Name: value"; "": none */
    char hosts[CG_GATEWAY_HOSTS][CG_GATEWAY_HOST_MAX]; /* names of it that guests call; "": none */
    bool old_chat;                                     /* knows max_tokens only */
};

struct cg_gateway_ops {
    /* A line for the record: the data of an `llm_call`; valid during the call. */
    void (*tell)(void *ctx, struct cg_slice data);
    /* Keep a body: cg_blob_work_run comes between the two, on another thread. False: it was not
     * kept. */
    void (*blob_begin)(void *ctx, struct cg_slice bytes, struct cg_blob_work *w);
    bool (*blob_end)(void *ctx, struct cg_blob_work *w, char name[CG_BLOB_NAME]);
    /* The ledger wants its rows on disk soon. */
    void (*hurry)(void *ctx);
    /* A call wanted money that is not there: the guard acts. */
    void (*broke)(void *ctx);
};

struct cg_gateway_options {
    char token[CG_GATEWAY_TOKEN];   /* the guest's run token: first word of the path */
    const struct cg_prices *prices; /* these four stay the caller's */
    struct cg_ledger *ledger;
    const struct cg_gateway_provider *providers;
    size_t nproviders;
    int node;           /* the sandbox's budget in the ledger */
    uint64_t last_call; /* numbers of calls go on behind it */
    bool bodies;        /* are kept */
    bool strict;        /* as the ledger: inputs are held at a token a byte */
    const struct cg_gateway_ops *ops;
    void *ctx;
};

struct cg_gateway_stats {
    uint64_t calls, refused, cut, unpriced;
    unsigned open;
};

/* Starts the libraries that a gateway uses, which takes milliseconds: whoever has time for it does
 * it in advance. */
void cg_gateway_start_libraries(void);

CG_MUST_USE struct cg_gateway *
cg_gateway_create(uv_loop_t *loop, const struct cg_gateway_options *o, struct cg_err *e);
/* Ends all calls (settled high, told) and closes everything; memory goes by the loop. */
void cg_gateway_destroy(struct cg_gateway *g);

/* Takes a connection of the guest over. `host` NULL: base URL, the token stands in the path; else
 * the name of the provider's host that it believes to talk to. */
void cg_gateway_serve(struct cg_gateway *g, int fd, const char *host);

/* What the ledger's owner passes on: its verdict callback, and that rows have become durable. */
void cg_gateway_verdict(struct cg_gateway *g, uint64_t call, enum cg_verdict v, int64_t cap);
void cg_gateway_progress(struct cg_gateway *g);
/* No further call is admitted; those under way are cut when `now`. */
void cg_gateway_block(struct cg_gateway *g, bool now);
void cg_gateway_unblock(struct cg_gateway *g);
/* Calls that start from here on are priced by this book, the caller's too; the one before must stay
 * until no call is open. */
void cg_gateway_set_prices(struct cg_gateway *g, const struct cg_prices *prices);
void cg_gateway_get_stats(const struct cg_gateway *g, struct cg_gateway_stats *out);

#endif
