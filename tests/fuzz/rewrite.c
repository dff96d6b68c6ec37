/* Fuzz body of the HTTP rewriter: first byte cuts the stream, the rest is what the guest says and,
 * behind a byte 0xff, what the host answers. No value ever reaches the guest, none goes up that was
 * not asked for by its placeholder, no placeholder goes up, nothing grows. */
#include <stdint.h>
#include <string.h>

#include "intercept/rewrite.h"

#define PLACEHOLDER "caged_ph_TOKEN_k3v9q2m7xa5ulrwz"
#define VALUE "ghp_real0123456789"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool has(const struct cg_buf *b, const char *s)
{
    return b->n > 0 && memmem(b->p, b->n, s, strlen(s)) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char json[] = "[{\"name\":\"TOKEN\",\"value\":\"" VALUE
                               "\",\"placeholder\":\"" PLACEHOLDER "\",\"hosts\":[\"api.test\"]}]";
    static struct cg_secrets *secrets;
    if (!secrets) {
        struct cg_json *j = cg_json_parse(cg_slice_of(json), NULL, NULL);
        secrets = cg_secrets_create();
        CG_ASSERT(cg_secrets_load(secrets, j, NULL));
        cg_json_destroy(j);
    }
    if (n < 1)
        return 0;
    size_t piece = (size_t)data[0] + 1;
    const char *request = (const char *)data + 1;
    size_t request_n = n - 1;
    const char *border = memchr(request, 0xff, request_n);
    const char *response = border ? border + 1 : request + request_n;
    size_t response_n = request_n - (size_t)(response - request);
    request_n = border ? (size_t)(border - request) : request_n;
    const bool asked =
        memmem(request, request_n, "caged_ph_TOKEN", 14) || memmem(request, request_n, "asic ", 5);
    const bool told = memmem(data, n, VALUE, sizeof VALUE - 1) != NULL;
    const struct cg_rewrite_options o = {.secrets = secrets, .host = "api.test", .port = 443};
    struct cg_rewrite *r = cg_rewrite_create(&o);
    struct cg_buf up;
    struct cg_buf down;
    cg_buf_init(&up, CG_REWRITE_OUT);
    cg_buf_init(&down, CG_REWRITE_OUT);
    size_t at = 0;
    size_t back = 0;
    for (bool moved = true; moved && !cg_rewrite_over(r);) {
        moved = false;
        if (at < request_n && cg_rewrite_wants(r)) {
            size_t used = cg_rewrite_request(
                r, (struct cg_slice){request + at, CG_MIN(piece, request_n - at)}, &up, &down);
            at += used;
            moved = used > 0;
        }
        if (!moved && back < response_n) {
            size_t part = CG_MIN(piece, response_n - back);
            cg_rewrite_response(r, (struct cg_slice){response + back, part}, &down);
            back += part;
            moved = true;
        }
    }
    cg_rewrite_response_end(r, &down);
    CG_ASSERT(cg_rewrite_over(r));
    CG_ASSERT(!up.full && !down.full);
    CG_ASSERT(!has(&down, VALUE));
    CG_ASSERT(asked || told || !has(&up, VALUE));
    CG_ASSERT(up.n <= 64 * n + 8192 && down.n <= 16 * n + 8192);
    cg_rewrite_destroy(r);
    cg_buf_finish(&up);
    cg_buf_finish(&down);
    return 0;
}
