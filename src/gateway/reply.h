/* The reply side of the LLM APIs: a tap that reads what an upstream sends, as a stream of events or
 * as one JSON text, and gathers usage, stop reason, model, tool calls and what is needed to
 * estimate a call that ends early. Any cut of the bytes gives the same result. Pure; one tap a
 * call. */
#ifndef CG_GATEWAY_REPLY_H
#define CG_GATEWAY_REPLY_H

#include "gateway/request.h"

struct cg_usage {
    int64_t tokens[CG_CLASS_COUNT];
    int64_t reasoning; /* part of output */
    int64_t tools[CG_TOOL_COUNT];
};

enum {
    CG_REPLY_EVENT_MAX = 16 << 20,
    CG_REPLY_TOOLS_MAX = 32,
    CG_REPLY_NAME = 96,
    CG_REPLY_RAW_MAX = 4096,
};

struct cg_reply_tool {
    char name[CG_REPLY_NAME];
    char id[CG_REPLY_NAME];
};

struct cg_reply {
    bool started;     /* something of a reply has come */
    bool finished;    /* the reply says that it is whole */
    bool usage_final; /* usage is the provider's last word: settle exactly */
    bool input_known; /* the prompt's classes are told, though the output may still grow */
    unsigned faults;  /* usage fields refused: negative, fraction, text, absurd, contradicting */
    struct cg_usage usage;
    char *raw_usage; /* the last usage object as sent, NULL: none; at most CG_REPLY_RAW_MAX */
    char model[CG_MODEL_MAX];
    char id[CG_REPLY_NAME];
    char stop[CG_REPLY_NAME];
    bool tier_told;
    enum cg_tier tier;
    bool geo;
    int64_t cost_told_nusd; /* OpenRouter's usage.cost; -1 */
    int64_t visible_bytes;  /* of text and tool arguments */
    int64_t thinking_bytes; /* of thinking that is shown */
    bool thinking_hidden;   /* thinks, and shows less than is billed */
    bool thinking_now;      /* silence counts as thinking */
    int64_t events;
    int64_t sequence; /* Responses: the last sequence_number; -1 */
    unsigned tools_n; /* seen; only the first CG_REPLY_TOOLS_MAX are kept */
    struct cg_reply_tool tools[CG_REPLY_TOOLS_MAX];
    bool failed; /* an error came instead of, or inside, the reply */
    char error_type[CG_REPLY_NAME];
    char error_message[256];
};

struct cg_tap;

/* One whole event with its line ends, as it came. `hide`: the client must not see it (the usage
 * chunk of a chat that asked for none). Comments and pings are events too. */
typedef void (*cg_tap_event_fn)(void *ctx, struct cg_slice raw, bool hide);

/* `request` is only read now. `event` may be NULL. The caller's to destroy. */
CG_MUST_USE struct cg_tap *cg_tap_create(const struct cg_llm_request *request,
                                         cg_tap_event_fn event, void *ctx);
void cg_tap_destroy(struct cg_tap *t);

/* Bytes of an event stream. CG_TOO_LARGE: an event beyond CG_REPLY_EVENT_MAX; the tap is dead then
 * (what it has gathered stays). */
CG_MUST_USE bool cg_tap_feed(struct cg_tap *t, struct cg_slice bytes, struct cg_err *e);

/* The stream has ended: a last event without a blank line behind it is given out and counts. */
void cg_tap_end(struct cg_tap *t);

/* A reply that is one JSON text (or an error body of status >= 400). CG_INVALID: it is not JSON. */
CG_MUST_USE bool cg_tap_json(struct cg_tap *t, struct cg_slice body, struct cg_err *e);

const struct cg_reply *cg_tap_reply(const struct cg_tap *t);

/* ---- what a call cost ---- */

struct cg_bill {
    bool priced; /* false: no price is known; never to be shown as 0 */
    bool estimated;
    enum cg_tier tier;
    struct cg_usage usage; /* as billed; estimates in it when `estimated` */
    int64_t nusd[CG_CLASS_COUNT];
    int64_t tools_nusd;
    int64_t total_nusd; /* the high end: what the ledger charges */
    int64_t low_nusd;   /* equal unless estimated */
    int64_t tokens;     /* all classes */
};

/* Prices usage exactly. False (out->priced is false, tokens are filled) when price is NULL or the
 * tier has no price. */
bool cg_bill_usage(const struct cg_prices *book, const struct cg_price *price, enum cg_tier tier,
                   bool geo, const struct cg_usage *usage, struct cg_bill *out);

struct cg_bill_hints {
    int64_t input_tokens;  /* upper bound from cg_llm_bound */
    int64_t input_low;     /* what is likely, -1: a quarter of the body's bytes */
    int64_t cap_tokens;    /* the cap that was sent upstream; -1 */
    int64_t thinking_ns;   /* silence while reply.thinking_now, or all the time when hidden */
    int64_t tokens_per_s;  /* ceiling of the model's speed; 0: CG_BILL_TPS */
    int64_t bytes_per_100; /* fewest bytes per 100 tokens, 250 when 0 */
};

enum { CG_BILL_TPS = 150, CG_BILL_BYTES_PER_100 = 250 };

/* Output tokens so far, at most: told usage or bytes over the fewest bytes a token, plus thinking.
 */
int64_t cg_bill_output_high(const struct cg_reply *r, const struct cg_bill_hints *h);

/* The bill of a call: exact when the reply's usage is final and faultless; else estimated, low and
 * high. A call that was refused upstream before its reply began costs nothing. */
bool cg_bill_reply(const struct cg_prices *book, const struct cg_price *price,
                   const struct cg_llm_request *q, const struct cg_reply *r,
                   const struct cg_bill_hints *h, struct cg_bill *out);

/* ---- saying no in the vendor's own words ---- */

enum cg_refusal {
    CG_REFUSE_BUDGET,  /* the money or tokens are used up */
    CG_REFUSE_INVALID, /* the request cannot be let through */
    CG_REFUSE_UPSTREAM /* the provider could not be reached */
};

/* The body of an HTTP 400 (agents stop at it at once, where they retry a 402, 429 or 5xx; 502 for
 * CG_REFUSE_UPSTREAM). */
void cg_refusal_body(enum cg_llm_api shape, enum cg_refusal why, const char *message,
                     struct cg_buf *out);
int cg_refusal_status(enum cg_refusal why);

/* Event bytes that end a stream under way: an error event, response.failed, an error chunk. */
void cg_refusal_event(enum cg_llm_api shape, enum cg_refusal why, const char *message,
                      const struct cg_reply *r, struct cg_buf *out);

#endif
