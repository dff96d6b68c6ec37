/* An HTTP/1.1 answer, read: what a proxy needs of the client's side. Bytes go in, a head and body
 * bytes come out; what the peer said about framing stays here. llhttp parses strictly; heads are
 * bounded. RFC 9112. */
#ifndef CG_HTTP_ANSWER_H
#define CG_HTTP_ANSWER_H

#include "base/buf.h"
#include "base/err.h"

enum { CG_HTTP_ANSWER_HEAD_MAX = 64 * 1024, CG_HTTP_ANSWER_HEADERS = 100 };

struct cg_http_answer;

struct cg_http_answer_ops {
    /* The final answer's head is there (informational ones are skipped; 101 is final). */
    void (*on_head)(void *ctx, struct cg_http_answer *a);
    void (*on_body)(void *ctx, struct cg_slice bytes);
};

/* to_head: it answers a HEAD, so that no body follows whatever its head says. */
struct cg_http_answer *cg_http_answer_create(bool to_head, const struct cg_http_answer_ops *ops,
                                             void *ctx);
void cg_http_answer_destroy(struct cg_http_answer *a); /* NULL is fine; not from inside an op */

/* Takes bytes; *used is short of them only when the answer is complete, so what is left belongs to
 * nobody, or after a 101 to the other protocol. CG_PROTOCOL for what is no HTTP/1.1. */
CG_MUST_USE bool cg_http_answer_feed(struct cg_http_answer *a, struct cg_slice bytes, size_t *used,
                                     struct cg_err *e);
/* The peer sends no more: completes an answer that ends with its connection; CG_PROTOCOL for a cut
 * one. */
CG_MUST_USE bool cg_http_answer_end(struct cg_http_answer *a, struct cg_err *e);

bool cg_http_answer_complete(const struct cg_http_answer *a);
int cg_http_answer_status(const struct cg_http_answer *a);
int64_t cg_http_answer_length(const struct cg_http_answer *a); /* of the body; -1: not told */
/* The i-th header as it came; false behind the last. */
bool cg_http_answer_header(const struct cg_http_answer *a, unsigned i, const char **name,
                           const char **value);

#endif
