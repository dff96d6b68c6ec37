/* The two parsers of the gateway that strangers feed: bodies of requests and streams of replies. A
 * body that is taken is valid JSON, and with a cap put in still is, with the cap as its only word
 * on output. A stream gives the same figures whole and cut in two. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "gateway/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const enum cg_llm_api apis[] = {CG_LLM_MESSAGES, CG_LLM_RESPONSES, CG_LLM_CHAT,
                                       CG_LLM_GEMINI};

static void try_request(enum cg_llm_api api, struct cg_slice body)
{
    struct cg_llm_route route = {.api = api, .shape = api, .model = "m"};
    struct cg_llm_request q;
    struct cg_llm_splices splices;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, body.n + 1024);
    if (!cg_llm_request_parse(&route, body, &q, &e))
        return;
    if (!cg_llm_request_cap(&q, 2000, NULL, &splices, &e))
        return;
    struct cg_slice pieces[CG_LLM_PIECES];
    size_t n = cg_llm_splice(body, &splices, pieces);
    for (size_t i = 0; i < n; i++)
        CG_ASSERT(cg_buf_add(&out, pieces[i].p, pieces[i].n));
    struct cg_llm_request again;
    if (!cg_llm_request_parse(&route, cg_buf_slice(&out), &again, &e))
        abort();
    CG_ASSERT(again.max_output == 2000 && cg_streq(again.model, q.model));
    CG_ASSERT(again.stream == q.stream && again.choices == q.choices && again.tier == q.tier);
}

static void feed(struct cg_tap *t, struct cg_slice part)
{
    struct cg_err e = CG_ERR_INIT;
    CG_ASSERT(cg_tap_feed(t, part, &e));
}

static void try_reply(enum cg_llm_api api, struct cg_slice bytes, size_t cut)
{
    const struct cg_llm_request q = {.api = api};
    struct cg_tap *whole = cg_tap_create(&q, NULL, NULL);
    struct cg_tap *parts = cg_tap_create(&q, NULL, NULL);
    feed(whole, bytes);
    feed(parts, (struct cg_slice){bytes.p, cut});
    feed(parts, (struct cg_slice){bytes.p + cut, bytes.n - cut});
    cg_tap_end(whole);
    cg_tap_end(parts);
    const struct cg_reply *a = cg_tap_reply(whole);
    const struct cg_reply *b = cg_tap_reply(parts);
    CG_ASSERT(memcmp(&a->usage, &b->usage, sizeof a->usage) == 0);
    CG_ASSERT(a->usage_final == b->usage_final && a->faults == b->faults);
    CG_ASSERT(a->visible_bytes == b->visible_bytes && a->events == b->events);
    for (int i = 0; i < CG_CLASS_COUNT; i++)
        CG_ASSERT(a->usage.tokens[i] >= 0);
    cg_tap_destroy(whole);
    cg_tap_destroy(parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    enum cg_llm_api api = apis[data[0] % CG_COUNT(apis)];
    struct cg_slice rest = {(const char *)data + 2, n - 2};
    try_request(api, rest);
    try_reply(api, rest, rest.n ? data[1] % (rest.n + 1) : 0);
    return 0;
}
