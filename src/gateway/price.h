/* The price book: what a token of each class costs, by provider, model, date, prompt size and
 * service tier. Data, not code: data/prices.json, under prices that the operator sets or imports.
 * Pure: texts in, rates out. Books are immutable once built and may be read by any thread. */
#ifndef CG_GATEWAY_PRICE_H
#define CG_GATEWAY_PRICE_H

#include "base/jsonw.h"
#include "base/money.h"

/* Classes of tokens that have a price of their own. Reasoning is output. */
enum cg_class {
    CG_CLASS_INPUT, /* neither read from nor written to a cache */
    CG_CLASS_CACHE_READ,
    CG_CLASS_CACHE_WRITE_5M,
    CG_CLASS_CACHE_WRITE_1H,
    CG_CLASS_OUTPUT,
    CG_CLASS_COUNT
};
extern const char *const cg_class_names[CG_CLASS_COUNT]; /* "input", "cache_read", ... */

/* Ways a provider serves a call, each with its own price. */
enum cg_tier {
    CG_TIER_STANDARD,
    CG_TIER_PRIORITY,
    CG_TIER_FLEX,
    CG_TIER_BATCH,
    CG_TIER_FAST,
    CG_TIER_COUNT
};
extern const char *const cg_tier_names[CG_TIER_COUNT];

/* Tools that the provider runs, counted in uses. */
enum cg_server_tool {
    CG_TOOL_WEB_SEARCH,
    CG_TOOL_WEB_FETCH,
    CG_TOOL_FILE_SEARCH,
    CG_TOOL_CODE,
    CG_TOOL_COUNT
};
extern const char *const cg_tool_names[CG_TOOL_COUNT];

struct cg_rates {
    int64_t npm[CG_CLASS_COUNT]; /* nano-dollars per million tokens */
};

struct cg_band {
    int64_t over_tokens; /* of the whole prompt: cached, written and fresh */
    struct cg_rates rates;
};

enum { CG_BANDS_MAX = 4, CG_PRICE_VERSION = 24, CG_MODEL_MAX = 128, CG_PROVIDER_MAX = 40 };

struct cg_price {
    const char *provider;
    const char *model;
    const char *source;
    int64_t from_ns; /* wall clock; valid in [from, to) */
    int64_t to_ns;
    int64_t context;    /* tokens; 0: not published */
    int64_t max_output; /* 0: not published */
    bool has[CG_TIER_COUNT];
    struct cg_rates base[CG_TIER_COUNT];
    size_t bands_n; /* of the standard tier, rising; other tiers follow its ratios */
    struct cg_band bands[CG_BANDS_MAX];
    int64_t geo_permille; /* for calls pinned to a region: 1100 */
    bool override;        /* set or imported by the operator */
};

struct cg_prices;

/* Builds a book of our own JSON (data/prices.json; the same form with `from`, `to`, `aliases`).
 * `overrides` may be empty; its rows win over rows of the same provider and model while they are
 * valid. Errors: CG_INVALID, CG_TOO_LARGE, naming the row. The caller's to destroy. */
CG_MUST_USE struct cg_prices *cg_prices_create(struct cg_slice book, struct cg_slice overrides,
                                               struct cg_err *e);
void cg_prices_destroy(struct cg_prices *b);
void cg_drop_prices(struct cg_prices **b);

/* 16 hex digits that name the prices, whatever the spelling of the files. Stands on ledger rows. */
const char *cg_prices_version(const struct cg_prices *b);

/* The row for a model as a request or reply names it, at a time: the exact name, else an alias,
 * else the name without "models/", a provider's prefix ("anthropic/"), or a date behind it
 * (-20251001, -2025-10-01, @20251001). Never a prefix of a name: NULL means the price is unknown.
 * A provider of which the book has no row at all (NULL too) finds a model that only one has. */
const struct cg_price *cg_prices_find(const struct cg_prices *b, const char *provider,
                                      const char *model, int64_t wall_ns);

/* Rows in order of provider, model, from. */
size_t cg_prices_count(const struct cg_prices *b);
const struct cg_price *cg_prices_at(const struct cg_prices *b, size_t i);

/* What a use of a server tool costs there; -1: unknown, so a call that may use it is refused. */
int64_t cg_prices_tool(const struct cg_prices *b, const char *provider, enum cg_server_tool tool);

/* The rates for a prompt of that size. `geo`: the call is pinned to a region. False when the tier
 * has no price. */
CG_MUST_USE bool cg_price_rates(const struct cg_price *p, enum cg_tier tier, int64_t prompt_tokens,
                                bool geo, struct cg_rates *out);

/* The row as JSON, dollars per million tokens; for API and files. */
void cg_price_write(const struct cg_price *p, struct cg_jsonw *w);

/* "2026-10-07" or "2026-10-07T12:00:00Z". */
CG_MUST_USE bool cg_price_date(const char *text, int64_t *wall_ns);

/* Reads prices in our own form, models.dev's (its JSON; or the TOML of one model, with `name` as
 * "provider/model.toml") or LiteLLM's, and writes them as overrides merged into `overrides` (our
 * form, may be empty): a row takes the place of one with the same provider, model and date. *count
 * is the number of rows; rows without a price of input and output are left out. */
CG_MUST_USE bool cg_prices_import(struct cg_slice text, const char *name, struct cg_slice overrides,
                                  struct cg_buf *out, size_t *count, struct cg_err *e);

/* One model's price as an override: the same as an import of one row. Nano-dollars per million
 * tokens, -1 for what is not given. */
struct cg_price_set {
    const char *provider;
    const char *model;
    int64_t npm[CG_CLASS_COUNT];
    int64_t context;
    int64_t max_output;
    int64_t from_ns; /* INT64_MIN: always */
};
CG_MUST_USE bool cg_prices_set(const struct cg_price_set *set, struct cg_slice overrides,
                               struct cg_buf *out, struct cg_err *e);

#endif
