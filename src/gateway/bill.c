/* What a call cost: exactly when the provider has said its last word about usage, else a range of
 * which the ledger charges the high end. */
#include <string.h>

#include "gateway/reply.h"

static void add(struct cg_bill *b, int64_t nusd)
{
    b->total_nusd = cg_money_add(b->total_nusd, nusd);
}

bool cg_bill_usage(const struct cg_prices *book, const struct cg_price *price, enum cg_tier tier,
                   bool geo, const struct cg_usage *usage, struct cg_bill *out)
{
    struct cg_rates rates;
    int64_t prompt = 0;
    *out = (struct cg_bill){.tier = tier, .usage = *usage};
    for (int i = 0; i < CG_CLASS_COUNT; i++) {
        out->tokens += usage->tokens[i];
        prompt += i == CG_CLASS_OUTPUT ? 0 : usage->tokens[i];
    }
    if (!price || !cg_price_rates(price, tier, prompt, geo, &rates))
        return false;
    for (int i = 0; i < CG_CLASS_COUNT; i++) {
        if (usage->tokens[i] == 0) /* a bill is made at each event: most classes are empty */
            continue;
        out->nusd[i] = cg_money_tokens(usage->tokens[i], rates.npm[i]);
        add(out, out->nusd[i]);
    }
    for (int i = 0; i < CG_TOOL_COUNT; i++) {
        if (usage->tools[i] == 0)
            continue;
        int64_t each = cg_prices_tool(book, price->provider, (enum cg_server_tool)i);
        out->tools_nusd += usage->tools[i] * CG_MAX(each, 0);
    }
    add(out, out->tools_nusd);
    out->low_nusd = out->total_nusd;
    out->priced = true;
    return true;
}

int64_t cg_bill_output_high(const struct cg_reply *r, const struct cg_bill_hints *h)
{
    int64_t per = h->bytes_per_100 > 0 ? h->bytes_per_100 : CG_BILL_BYTES_PER_100;
    int64_t tps = h->tokens_per_s > 0 ? h->tokens_per_s : CG_BILL_TPS;
    int64_t told = r->usage.tokens[CG_CLASS_OUTPUT];
    if (r->usage_final && r->faults == 0)
        return told;
    int64_t shown = cg_money_muldiv(r->visible_bytes + r->thinking_bytes, 100, per);
    int64_t silent = r->started ? cg_money_muldiv(h->thinking_ns, tps, INT64_C(1000000000)) : 0;
    int64_t high = CG_MAX(told, shown + silent);
    /* a provider that goes on beyond the cap is not believed to keep it */
    bool keeps = (r->visible_bytes + r->thinking_bytes) / 4 <= h->cap_tokens;
    return h->cap_tokens >= 0 && keeps ? CG_MAX(told, CG_MIN(high, h->cap_tokens)) : high;
}

bool cg_bill_reply(const struct cg_prices *book, const struct cg_price *price,
                   const struct cg_llm_request *q, const struct cg_reply *r,
                   const struct cg_bill_hints *h, struct cg_bill *out)
{
    enum cg_tier tier = r->tier_told ? r->tier : q->tier;
    bool geo = q->geo || r->geo;
    struct cg_usage u = r->usage;
    if (price && !price->has[tier])
        tier = CG_TIER_STANDARD;
    if (r->usage_final && r->faults == 0)
        return cg_bill_usage(book, price, tier, geo, &u, out);
    if (r->failed && r->visible_bytes == 0 && !r->input_known) {
        memset(&u, 0, sizeof u);
        bool known = cg_bill_usage(book, price, tier, geo, &u, out);
        out->priced = true; /* nothing was billed, whatever the price */
        return known;
    }
    struct cg_bill low;
    (void)cg_bill_usage(book, price, tier, geo, &u, &low);
    if (!r->input_known || r->faults) {
        enum cg_class dear = q->ttl_1h    ? CG_CLASS_CACHE_WRITE_1H
                             : q->caching ? CG_CLASS_CACHE_WRITE_5M
                                          : CG_CLASS_INPUT;
        memset(u.tokens, 0, sizeof u.tokens);
        u.tokens[dear] = h->input_tokens;
    }
    u.tokens[CG_CLASS_OUTPUT] = cg_bill_output_high(r, h);
    bool ok = cg_bill_usage(book, price, tier, geo, &u, out);
    out->estimated = true;
    out->low_nusd = CG_MIN(low.total_nusd, out->total_nusd);
    return ok;
}
