/* Exactly one member or frame: what is behind it would be bytes that another reader may see. */
#include "gateway/decode.h"

#include <strings.h>
#include <zlib.h>
#include <zstd.h>

enum { STEP = 64 * 1024, WINDOW_LOG_MAX = 25 };

static bool unzip(struct cg_slice in, size_t max, struct cg_buf *out, struct cg_err *e)
{
    z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
    if (inflateInit2(&z, MAX_WBITS + 32) != Z_OK) /* 32: gzip or zlib, by its head */
        return cg_fail(e, CG_INTERNAL, "zlib does not start");
    int rc = Z_OK;
    while (rc == Z_OK) {
        char *room = cg_buf_room(out, CG_MIN((size_t)STEP, max + 1 - out->n));
        if (!room)
            break;
        size_t n = CG_MIN((size_t)STEP, max + 1 - out->n);
        z.next_out = (Bytef *)room;
        z.avail_out = (uInt)n;
        rc = inflate(&z, Z_NO_FLUSH);
        cg_buf_grew(out, n - z.avail_out);
        if (out->n > max)
            break;
        if (rc == Z_BUF_ERROR && z.avail_in == 0)
            break;
    }
    bool whole = rc == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    if (out->n > max)
        return cg_fail(e, CG_TOO_LARGE, "the body has more than %zu bytes unpacked", max);
    return whole || cg_fail(e, CG_INVALID, "the body is not one whole gzip or zlib text");
}

static bool unzstd(struct cg_slice in, size_t max, struct cg_buf *out, struct cg_err *e)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer from = {in.p, in.n, 0};
    size_t left = 1;
    CG_ASSERT(z);
    ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    while (left != 0) {
        size_t n = CG_MIN((size_t)STEP, max + 1 - out->n);
        char *room = n ? cg_buf_room(out, n) : NULL;
        if (!room)
            break;
        ZSTD_outBuffer to = {room, n, 0};
        size_t before = from.pos;
        left = ZSTD_decompressStream(z, &to, &from);
        if (ZSTD_isError(left))
            break;
        cg_buf_grew(out, to.pos);
        if (left != 0 && to.pos == 0 && from.pos == before)
            break; /* it wants bytes that are not there */
    }
    ZSTD_freeDStream(z);
    if (out->n > max)
        return cg_fail(e, CG_TOO_LARGE, "the body has more than %zu bytes unpacked", max);
    return (left == 0 && from.pos == in.n) ||
           cg_fail(e, CG_INVALID, "the body is not one whole zstd frame");
}

bool cg_decode_plain(const char *encoding)
{
    return !encoding || !encoding[0] || strcasecmp(encoding, "identity") == 0;
}

bool cg_decode(const char *encoding, struct cg_slice in, size_t max, struct cg_buf *out,
               struct cg_err *e)
{
    cg_buf_init(out, max + 1);
    if (cg_decode_plain(encoding)) {
        if (in.n > max || !cg_buf_add(out, in.p, in.n))
            return cg_fail(e, CG_TOO_LARGE, "the body has more than %zu bytes", max);
        return true;
    }
    if (strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "x-gzip") == 0 ||
        strcasecmp(encoding, "deflate") == 0)
        return unzip(in, max, out, e);
    if (strcasecmp(encoding, "zstd") == 0)
        return unzstd(in, max, out, e);
    return cg_fail(e, CG_UNSUPPORTED,
                   "Content-Encoding %.40s: identity, gzip, deflate and zstd "
                   "are understood",
                   encoding);
}
