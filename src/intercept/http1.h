/* HTTP/1.1 messages (RFC 9112) as strictly as two ends that must not disagree need it: heads whole
 * or not at all, and the framing of bodies. A parser of its own instead of llhttp's, because a head
 * that is rewritten has to be in memory whole anyway, and because what is lenient anywhere (bare
 * line feeds, folded lines, doubled lengths) is an error here. No I/O, nothing is copied but heads
 * cut by the stream. */
#ifndef CG_INTERCEPT_HTTP1_H
#define CG_INTERCEPT_HTTP1_H

#include "base/buf.h"

enum { CG_HTTP1_FIELDS = 100, CG_HTTP1_TRAILERS = 8192 };

enum cg_http1_got { CG_HTTP1_MORE, CG_HTTP1_DATA, CG_HTTP1_END, CG_HTTP1_BAD };

struct cg_http1_field {
    struct cg_slice name;
    struct cg_slice value; /* without blanks around it */
};

struct cg_http1_head {
    struct cg_slice first[3]; /* method, target, version; or version, status, reason */
    struct cg_http1_field fields[CG_HTTP1_FIELDS];
    unsigned n;
};

/* Moves bytes of `in` into `head` up to the end of a head; *used is their number. BAD: not a head,
 * or longer than head->max. */
enum cg_http1_got cg_http1_take(struct cg_buf *head, struct cg_slice in, size_t *used);
/* The slices point into the text, which is a whole head. */
CG_MUST_USE bool cg_http1_request(struct cg_slice text, struct cg_http1_head *out);
CG_MUST_USE bool cg_http1_response(struct cg_slice text, struct cg_http1_head *out);

bool cg_http1_is(struct cg_slice s, const char *word); /* letters of either case */
/* How many fields have that name; *value is the last one's. */
unsigned cg_http1_get(const struct cg_http1_head *h, const char *name, struct cg_slice *value);
/* A list of words holds this one, in whichever field of that name. */
bool cg_http1_has(const struct cg_http1_head *h, const char *name, const char *word);

enum cg_http1_framing { CG_HTTP1_NONE, CG_HTTP1_LENGTH, CG_HTTP1_CHUNKED, CG_HTTP1_CLOSE };

struct cg_http1_body {
    enum cg_http1_framing framing;
    uint64_t left;
    unsigned step;
    unsigned line; /* bytes of the line that is read */
    unsigned trailers;
};

/* Reads Content-Length and Transfer-Encoding. False: they are not fit to be trusted. */
CG_MUST_USE bool cg_http1_framing(const struct cg_http1_head *h, struct cg_http1_body *out);

/* The next piece: DATA with *data inside of `in`, END of the body, BAD, or MORE bytes are needed.
 * *used bytes were taken. Call it until it says something else than DATA. */
enum cg_http1_got cg_http1_body(struct cg_http1_body *b, struct cg_slice in, size_t *used,
                                struct cg_slice *data);

#endif
