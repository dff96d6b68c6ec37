/* The request side of the LLM APIs: which path is what, what a body asks for, the upper bound of
 * what it can cost, and the cap on its output, written as splices so that no other byte of the body
 * changes. Bodies are hostile: one strict pass, bounded in size and depth; a key that matters is
 * refused when it stands twice, in another case, or under two spellings, because servers disagree
 * on which of them counts. Pure. */
#ifndef CG_GATEWAY_REQUEST_H
#define CG_GATEWAY_REQUEST_H

#include "gateway/price.h"

enum cg_llm_api {
    CG_LLM_NONE, /* no path of a model API that we know */
    CG_LLM_MESSAGES,
    CG_LLM_RESPONSES,
    CG_LLM_CHAT,
    CG_LLM_GEMINI,
    CG_LLM_FREE, /* costs nothing: lists of models, counting of tokens */
    CG_LLM_API_COUNT
};
extern const char *const cg_llm_api_names[CG_LLM_API_COUNT];

struct cg_llm_route {
    enum cg_llm_api api;
    enum cg_llm_api shape; /* whose shape an error has; for CG_LLM_FREE too */
    bool stream;           /* the path says so (Gemini) */
    bool count_tokens;
    char model[CG_MODEL_MAX]; /* when the path names it */
};

/* `path` as the provider's server would see it ("/v1/messages?beta=true"). Never fails: what is
 * unknown is CG_LLM_NONE. */
void cg_llm_route(struct cg_slice method, struct cg_slice path, struct cg_llm_route *out);

enum {
    CG_LLM_BODY_MAX = 32 << 20,
    CG_LLM_SPLICES_MAX = 6,
    CG_LLM_SPLICE_TEXT = 48,
};

/* Somewhere in the body: [at, at + n). n = 0 and at = 0: not there. */
struct cg_llm_span {
    size_t at;
    size_t n;
};

struct cg_llm_request {
    enum cg_llm_api api;
    char model[CG_MODEL_MAX];
    bool stream;
    bool include_usage;    /* chat: the client itself asked for it */
    int64_t max_output;    /* as asked; -1: not said */
    int64_t choices;       /* n, candidateCount; 1 when not said */
    int64_t thinking;      /* budget of thinking tokens; -1: none said */
    bool tier_said;        /* service_tier other than auto */
    enum cg_tier tier;     /* what was said, else standard */
    bool geo;              /* pinned to a region */
    bool ttl_1h;           /* some cache_control says 1h */
    bool caching;          /* some cache_control stands in it */
    bool hidden_input;     /* previous_response_id, stored prompts, files: input that is not here */
    unsigned images;       /* each bounded by CG_LLM_IMAGE_TOKENS */
    unsigned documents;    /* PDF, audio, video: bounded by the model's context only */
    unsigned tools;        /* declared */
    unsigned messages;     /* messages, input items, contents */
    unsigned server_tools; /* bit 1 << enum cg_server_tool */
    int64_t tool_uses[CG_TOOL_COUNT]; /* as bounded by the body; -1: not bounded */
    size_t body_bytes;
    size_t media_bytes; /* base64 of images, not counted as text */
    size_t cut_at;      /* where a member can be put into the body's object */
    bool empty;         /* the object has no member */
    struct cg_llm_span cap, cap2, budget, config, options, usage_flag;
    bool config_empty, options_empty;
};

/* Reads a body. `route` from cg_llm_route with a priced api. CG_INVALID: the body is refused and
 * the text says why, for the client. CG_UNSUPPORTED: it asks for something that cannot be bounded
 * (background, batch, tools of the provider without a price). */
CG_MUST_USE bool cg_llm_request_parse(const struct cg_llm_route *route, struct cg_slice body,
                                      struct cg_llm_request *out, struct cg_err *e);

struct cg_llm_splice {
    size_t at;
    size_t drop; /* bytes of the body that go */
    char text[CG_LLM_SPLICE_TEXT];
};
struct cg_llm_splices {
    size_t n;
    struct cg_llm_splice v[CG_LLM_SPLICES_MAX]; /* by rising position */
};

/* The splices that set the output cap to `cap` tokens (one choice) and, for a streamed chat, ask
 * for usage. `chat_key`: the member to add when a chat has no cap ("max_completion_tokens" when
 * NULL; "max_tokens" for older servers). cap < 0 leaves the cap alone. False when the cap is too
 * small for what the body asks (thinking needs 1024 tokens of it). */
CG_MUST_USE bool cg_llm_request_cap(const struct cg_llm_request *r, int64_t cap,
                                    const char *chat_key, struct cg_llm_splices *out,
                                    struct cg_err *e);

enum { CG_LLM_PIECES = 2 * CG_LLM_SPLICES_MAX + 1 };

/* The body with the splices in it, as pieces of the body and of the splices' texts. Their count. */
size_t cg_llm_splice(struct cg_slice body, const struct cg_llm_splices *s,
                     struct cg_slice out[CG_LLM_PIECES]);

enum { CG_LLM_IMAGE_TOKENS = 8192, CG_LLM_OVERHEAD_TOKENS = 1024, CG_LLM_TOOL_TOKENS = 20000 };

/* Upper bound of what a call may cost, at any tier that its reply may name. */
struct cg_llm_bound {
    int64_t input_tokens;
    int64_t input_nusd; /* with fees of tools */
    int64_t output_npm; /* of a token, times choices */
    int64_t
        max_output; /* what it may emit at most when no cap is set: asked, model's, or 128,000 */
    int64_t least_output; /* below this a cap makes no sense (thinking) */
};

/* Flow mode: two bytes a token, tools' fees once where unbounded. Strict: a byte a token (no
 * byte-level vocabulary does worse), and unbounded tools are refused with CG_UNSUPPORTED. */
CG_MUST_USE bool cg_llm_bound(const struct cg_llm_request *r, const struct cg_prices *book,
                              const struct cg_price *price, bool strict, struct cg_llm_bound *out,
                              struct cg_err *e);

#endif
