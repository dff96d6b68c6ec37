/* Fuzz body of the link: whatever a peer sends, in whatever pieces, memory and streams stay
 * bounded, a broken link says why and stays dead. The first byte chooses the side and the size of
 * the pieces. */
#include <stdint.h>

#include "link/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { OUTPUT_MAX = 64u << 20 };

static const struct cg_slice empty = {"{}", 2};

static void on_open(void *ctx, struct cg_link_stream *s, const struct cg_json *request)
{
    (void)ctx;
    CG_ASSERT(request->type == CG_JSON_OBJ);
    cg_link_accept(s, empty);
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice bytes)
{
    bool *opener = ctx;
    CG_ASSERT(channel <= CG_LINK_STDERR && bytes.n <= CG_LINK_MAX_DATA);
    if (!*opener) {
        size_t sent = cg_link_send(s, CG_LINK_STDOUT, bytes.p, bytes.n);
        CG_ASSERT(sent <= bytes.n);
    }
    cg_link_grant(s, bytes.n);
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    bool *opener = ctx;
    (void)result;
    if (!*opener)
        cg_link_close(s, empty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct cg_link_handlers handlers = {
        .on_open = on_open, .on_data = on_data, .on_close = on_close};
    static const char request[] = "{\"kind\":\"exec\"}";
    struct cg_err e = CG_ERR_INIT;

    if (n == 0)
        return 0;
    bool opener = data[0] & 1;
    size_t piece = (size_t)(data[0] >> 1) + 1, written = 0;
    struct cg_link *l = cg_link_create(opener, NULL, &handlers, &opener);
    for (int i = 0; opener && i < 3; i++)
        if (!cg_link_open(l, (struct cg_slice){request, sizeof request - 1}, NULL, &e))
            break;
    for (size_t at = 1; at < n; at += piece) {
        size_t take = n - at < piece ? n - at : piece;
        if (!cg_link_feed(l, (const char *)data + at, take, &e)) {
            CG_ASSERT(e.text[0] && cg_link_dead(l));
            break;
        }
        CG_ASSERT(cg_link_stream_count(l) <= CG_LINK_MAX_STREAMS);
        for (struct cg_slice out = cg_link_output(l); out.n > 0; out = cg_link_output(l)) {
            cg_link_wrote(l, out.n);
            written += out.n;
            CG_ASSERT(written < OUTPUT_MAX);
        }
    }
    cg_link_destroy(l);
    return 0;
}
