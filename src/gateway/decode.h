/* Bodies that a client has compressed (Content-Encoding), bounded: what they say may be read. */
#ifndef CG_GATEWAY_DECODE_H
#define CG_GATEWAY_DECODE_H

#include "base/buf.h"
#include "base/err.h"

/* `encoding` as the header says it: NULL, "", "identity", "gzip", "x-gzip", "deflate", "zstd".
 * `out` is made here, at most `max` bytes. CG_UNSUPPORTED, CG_INVALID, CG_TOO_LARGE. */
CG_MUST_USE bool cg_decode(const char *encoding, struct cg_slice in, size_t max, struct cg_buf *out,
                           struct cg_err *e);

/* It says "identity", or nothing: the bytes are the body. */
bool cg_decode_plain(const char *encoding);

#endif
