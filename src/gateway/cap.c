/* What a request may cost at most, and the cap on its output, written into its body. */
#include <stdlib.h>

#include "gateway/request.h"

enum { MODEL_CONTEXT = 1000000, OUTPUT_UNKNOWN = 128000, THINKING_LEAST = 1024 };

/* --- splices --- */

static void splice(struct cg_llm_splices *out, size_t at, size_t drop, const char *text)
{
    struct cg_llm_splice *s = &out->v[out->n++];
    s->at = at;
    s->drop = drop;
    cg_snprintf(s->text, sizeof s->text, "%s", text);
}

static int by_place(const void *a, const void *b)
{
    const struct cg_llm_splice *x = a;
    const struct cg_llm_splice *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static void set_cap(const struct cg_llm_request *r, int64_t cap, const char *chat_key,
                    struct cg_llm_splices *out)
{
    char text[CG_LLM_SPLICE_TEXT];
    const char *name = r->api == CG_LLM_MESSAGES    ? "max_tokens"
                       : r->api == CG_LLM_RESPONSES ? "max_output_tokens"
                       : r->api == CG_LLM_GEMINI    ? "maxOutputTokens"
                       : chat_key                   ? chat_key
                                                    : "max_completion_tokens";
    cg_snprintf(text, sizeof text, "%lld", (long long)cap);
    if (r->cap.n)
        splice(out, r->cap.at, r->cap.n, text);
    if (r->cap2.n)
        splice(out, r->cap2.at, r->cap2.n, text);
    if (r->cap.n || r->cap2.n)
        return;
    if (r->api == CG_LLM_GEMINI && r->config.n) {
        cg_snprintf(text, sizeof text, "\"%s\":%lld%s", name, (long long)cap,
                    r->config_empty ? "" : ",");
        splice(out, r->config.at + 1, 0, text);
    } else if (r->api == CG_LLM_GEMINI) {
        cg_snprintf(text, sizeof text, "\"generationConfig\":{\"%s\":%lld},", "maxOutputTokens",
                    (long long)cap);
        splice(out, r->cut_at, 0, text);
    } else {
        cg_snprintf(text, sizeof text, "\"%s\":%lld,", name, (long long)cap);
        splice(out, r->cut_at, 0, text);
    }
}

bool cg_llm_request_cap(const struct cg_llm_request *r, int64_t cap, const char *chat_key,
                        struct cg_llm_splices *out, struct cg_err *e)
{
    out->n = 0;
    if (cap >= 0 && r->thinking >= cap) {
        if (cap <= THINKING_LEAST)
            return cg_fail(e, CG_LIMIT, "Caged: what is left of the budget is too little to think");
        char text[CG_LLM_SPLICE_TEXT];
        cg_snprintf(text, sizeof text, "%lld", (long long)CG_MAX(THINKING_LEAST, cap / 2));
        splice(out, r->budget.at, r->budget.n, text);
    }
    if (cap >= 0)
        set_cap(r, CG_MAX(cap, 1), chat_key, out);
    if (r->api == CG_LLM_CHAT && r->stream && !r->include_usage) {
        if (r->usage_flag.n)
            splice(out, r->usage_flag.at, r->usage_flag.n, "true");
        else if (r->options.n)
            splice(out, r->options.at + 1, 0,
                   r->options_empty ? "\"include_usage\":true" : "\"include_usage\":true,");
        else
            splice(out, r->cut_at, 0, "\"stream_options\":{\"include_usage\":true},");
    }
    qsort(out->v, out->n, sizeof out->v[0], by_place);
    return true;
}

size_t cg_llm_splice(struct cg_slice body, const struct cg_llm_splices *s,
                     struct cg_slice out[CG_LLM_PIECES])
{
    size_t at = 0, n = 0;
    for (size_t i = 0; i < s->n; i++) {
        out[n++] = (struct cg_slice){body.p + at, s->v[i].at - at};
        out[n++] = cg_slice_of(s->v[i].text);
        at = s->v[i].at + s->v[i].drop;
    }
    out[n++] = (struct cg_slice){body.p + at, body.n - at};
    return n;
}

/* --- the bound --- */

static bool bound_tools(const struct cg_llm_request *r, const struct cg_prices *book,
                        const struct cg_price *price, bool strict, struct cg_llm_bound *out,
                        struct cg_err *e)
{
    for (int i = 0; i < CG_TOOL_COUNT; i++) {
        if (!(r->server_tools & 1u << i))
            continue;
        int64_t each = cg_prices_tool(book, price->provider, (enum cg_server_tool)i);
        if (each < 0 || (strict && r->tool_uses[i] < 0))
            return cg_fail(e, CG_UNSUPPORTED,
                           "Caged: %s runs at the provider and cannot be bounded; turn it off",
                           cg_tool_names[i]);
        out->input_nusd += each * CG_MAX(r->tool_uses[i], 1);
        out->input_tokens += CG_LLM_TOOL_TOKENS;
    }
    return true;
}

bool cg_llm_bound(const struct cg_llm_request *r, const struct cg_prices *book,
                  const struct cg_price *price, bool strict, struct cg_llm_bound *out,
                  struct cg_err *e)
{
    struct cg_rates rates;
    int64_t context = price->context ? price->context : MODEL_CONTEXT;
    int64_t text = (int64_t)(r->body_bytes - CG_MIN(r->media_bytes, r->body_bytes));
    *out = (struct cg_llm_bound){.least_output = 1};
    out->input_tokens = (strict ? text : (text + 1) / 2) + CG_LLM_OVERHEAD_TOKENS +
                        (int64_t)r->images * CG_LLM_IMAGE_TOKENS;
    if (r->documents || r->hidden_input)
        out->input_tokens = context;
    if (!bound_tools(r, book, price, strict, out, e))
        return false;
    out->input_tokens = CG_MIN(out->input_tokens, context);
    enum cg_tier tier = price->has[r->tier] ? r->tier : CG_TIER_STANDARD;
    if (!cg_price_rates(price, tier, out->input_tokens, r->geo, &rates))
        return cg_fail(e, CG_UNSUPPORTED, "Caged: model %.100s has no price in tier %s", r->model,
                       cg_tier_names[tier]);
    int64_t most = CG_MAX(rates.npm[CG_CLASS_INPUT], rates.npm[CG_CLASS_CACHE_READ]);
    if (r->caching || r->api != CG_LLM_MESSAGES)
        most = CG_MAX(most, rates.npm[CG_CLASS_CACHE_WRITE_5M]);
    if (r->ttl_1h)
        most = CG_MAX(most, rates.npm[CG_CLASS_CACHE_WRITE_1H]);
    out->input_nusd = cg_money_add(out->input_nusd, cg_money_tokens(out->input_tokens, most));
    out->output_npm = rates.npm[CG_CLASS_OUTPUT] * r->choices;
    int64_t model_max = price->max_output ? price->max_output : OUTPUT_UNKNOWN;
    out->max_output = r->max_output > 0 ? CG_MIN(r->max_output, model_max) : model_max;
    if (r->thinking > 0)
        out->least_output = THINKING_LEAST + 1;
    return true;
}
