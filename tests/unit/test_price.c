/* The price book: names, dates, bands, tiers; what others' files become; what is set here wins. */
#include "check.h"

#include <string.h>

#include "gateway/price.h"

static const char book_text[] =
    "{\"models\":[{\"provider\":\"anthropic\",\"model\":\"m-1\",\"input\":3,\"output\":15,"
    "\"cache_read\":0.3,\"context\":200000,\"max_output\":64000,\"aliases\":[\"m-latest\"],"
    "\"tiers\":[{\"over_input_tokens\":100000,\"input\":6,\"output\":22.5}],"
    "\"batch\":{\"input\":1.5,\"output\":7.5}},"
    "{\"provider\":\"anthropic\",\"model\":\"m-2\",\"input\":1,\"output\":5,\"to\":\"2026-10-07\"},"
    "{\"provider\":\"anthropic\",\"model\":\"m-2\",\"input\":2,\"output\":9,\"from\":\"2026-10-"
    "07\"}]}";

static struct cg_prices *make(const char *own)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_prices *b = cg_prices_create(cg_slice_of(book_text), cg_slice_of(own), &e);
    if (!b)
        fail_msg("%s", e.text);
    return b;
}

static int64_t day(const char *text)
{
    int64_t ns = 0;
    assert_true(cg_price_date(text, &ns));
    return ns;
}

static int64_t npm(const struct cg_prices *b, const char *model, const char *when,
                   enum cg_class class_)
{
    struct cg_rates r;
    const struct cg_price *p = cg_prices_find(b, "anthropic", model, day(when));
    assert_non_null(p);
    assert_true(cg_price_rates(p, CG_TIER_STANDARD, 10, false, &r));
    return r.npm[class_];
}

static void a_price_counts_from_its_day_to_its_last(void **state)
{
    struct cg_prices *b = make("");
    (void)state;
    assert_int_equal(npm(b, "m-2", "2026-10-06T23:59:59Z", CG_CLASS_INPUT), CG_USD);
    assert_int_equal(npm(b, "m-2", "2026-10-07", CG_CLASS_INPUT), 2 * CG_USD);
    cg_prices_destroy(b);
}

static void names_lead_to_a_row_or_to_none(void **state)
{
    static const char *const good[] = {"m-1",          "anthropic/m-1",  "m-1-20251001",
                                       "m-1@20251001", "m-1-2025-10-01", "m-latest"};
    static const char *const bad[] = {"m", "m-1-mini", "m-11", "M-1", "", "m-1-2025"};
    struct cg_prices *b = make("");
    (void)state;
    for (size_t i = 0; i < CG_COUNT(good); i++)
        assert_non_null(cg_prices_find(b, "anthropic", good[i], day("2026-11-01")));
    for (size_t i = 0; i < CG_COUNT(bad); i++)
        assert_null(cg_prices_find(b, "anthropic", bad[i], day("2026-11-01")));
    cg_prices_destroy(b);
}

static void bands_and_tiers_price_the_whole_prompt(void **state)
{
    struct cg_prices *b = make("");
    struct cg_rates r;
    const struct cg_price *p = cg_prices_find(b, "anthropic", "m-1", day("2026-11-01"));
    (void)state;
    assert_true(cg_price_rates(p, CG_TIER_STANDARD, 100000, false, &r));
    assert_int_equal(r.npm[CG_CLASS_INPUT], 3 * CG_USD);
    assert_true(cg_price_rates(p, CG_TIER_STANDARD, 100001, false, &r));
    assert_int_equal(r.npm[CG_CLASS_INPUT], 6 * CG_USD);
    assert_int_equal(r.npm[CG_CLASS_CACHE_READ], 6 * CG_USD / 10); /* keeps its ratio */
    assert_true(cg_price_rates(p, CG_TIER_BATCH, 100001, false, &r));
    assert_int_equal(r.npm[CG_CLASS_OUTPUT], 11250000000);
    assert_false(cg_price_rates(p, CG_TIER_FAST, 1, false, &r));
    assert_true(cg_price_rates(p, CG_TIER_STANDARD, 1, false, &r));
    assert_int_equal(r.npm[CG_CLASS_CACHE_WRITE_5M], 3750000000);
    assert_int_equal(r.npm[CG_CLASS_CACHE_WRITE_1H], 6 * CG_USD);
    cg_prices_destroy(b);
}

static void import_all(const char *text, const char *name, struct cg_buf *out, size_t want)
{
    struct cg_err e = CG_ERR_INIT;
    size_t n = 0;
    struct cg_buf merged;
    cg_buf_init(&merged, 1 << 20);
    if (!cg_prices_import(cg_slice_of(text), name, cg_buf_slice(out), &merged, &n, &e))
        fail_msg("%s", e.text);
    assert_int_equal(n, want);
    cg_buf_finish(out);
    *out = merged;
}

static void prices_of_models_dev_and_litellm_become_ours(void **state)
{
    static const char dev[] =
        "{\"anthropic\":{\"id\":\"anthropic\",\"models\":{\"m-3\":{\"cost\":{\"input\":4,"
        "\"output\":20,\"cache_read\":0.4,\"cache_write\":5},\"limit\":{\"context\":300000,"
        "\"output\":32000}},\"free\":{\"limit\":{}}}}}";
    static const char toml[] = "name = \"M 4\"\n[cost]\ninput = 1.25 # dollars\noutput = 10\n"
                               "cache_read = 0.125\n\n[[cost.tiers]]\ntier = { size = 200_000 }\n"
                               "input = 2.5\noutput = 15\n[limit]\ncontext = 1_000_000\n"
                               "output = 65_536\n";
    static const char lite[] =
        "{\"sample_spec\":{\"litellm_provider\":\"x\"},\"anthropic/m-5\":{\"litellm_provider\":"
        "\"anthropic\",\"input_cost_per_token\":2e-06,\"output_cost_per_token\":0.00001,"
        "\"cache_creation_input_token_cost_above_1hr\":4e-06,"
        "\"input_cost_per_token_above_200k_tokens\":4e-06,"
        "\"output_cost_per_token_above_200k_tokens\":1.5e-05,\"input_cost_per_token_flex\":1e-06,"
        "\"output_cost_per_token_flex\":5e-06,\"max_input_tokens\":1000000,"
        "\"max_output_tokens\":64000}}";
    struct cg_buf own;
    (void)state;
    cg_buf_init(&own, 1);
    import_all(dev, NULL, &own, 1);
    import_all(toml, "anthropic/m-4.toml", &own, 1);
    import_all(lite, NULL, &own, 1);
    import_all(lite, NULL, &own, 1); /* takes its own place */
    struct cg_prices *b = make(cg_buf_cstr(&own));
    struct cg_rates r;
    assert_int_equal(cg_prices_count(b), 6);
    assert_int_equal(npm(b, "m-3", "2026-11-01", CG_CLASS_CACHE_WRITE_5M), 5 * CG_USD);
    assert_int_equal(npm(b, "m-4", "2026-11-01", CG_CLASS_INPUT), 1250000000);
    const struct cg_price *p = cg_prices_find(b, "anthropic", "m-4", day("2026-11-01"));
    assert_int_equal(p->context, 1000000);
    assert_int_equal(p->max_output, 65536);
    assert_true(cg_price_rates(p, CG_TIER_STANDARD, 200001, false, &r));
    assert_int_equal(r.npm[CG_CLASS_OUTPUT], 15 * CG_USD);
    p = cg_prices_find(b, "anthropic", "m-5", day("2026-11-01"));
    assert_true(cg_price_rates(p, CG_TIER_FLEX, 1, false, &r));
    assert_int_equal(r.npm[CG_CLASS_OUTPUT], 5 * CG_USD);
    assert_true(cg_price_rates(p, CG_TIER_STANDARD, 200001, false, &r));
    assert_int_equal(r.npm[CG_CLASS_INPUT], 4 * CG_USD);
    assert_int_equal(npm(b, "m-5", "2026-11-01", CG_CLASS_CACHE_WRITE_1H), 4 * CG_USD);
    cg_prices_destroy(b);
    cg_buf_finish(&own);
}

static void what_is_set_here_wins_and_changes_the_version(void **state)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_buf own;
    const struct cg_price_set set = {.provider = "anthropic",
                                     .model = "m-1",
                                     .npm = {7 * CG_USD, -1, -1, -1, 8 * CG_USD},
                                     .from_ns = INT64_MIN};
    (void)state;
    cg_buf_init(&own, 1 << 20);
    assert_true(cg_prices_set(&set, cg_slice_of(""), &own, &e));
    struct cg_prices *a = make("");
    struct cg_prices *b = make(cg_buf_cstr(&own));
    assert_int_equal(npm(b, "m-1", "2026-11-01", CG_CLASS_INPUT), 7 * CG_USD);
    assert_int_equal(npm(b, "m-1", "2026-11-01", CG_CLASS_CACHE_READ), 7 * CG_USD); /* never 0 */
    assert_string_not_equal(cg_prices_version(a), cg_prices_version(b));
    cg_prices_destroy(a);
    cg_prices_destroy(b);
    cg_buf_finish(&own);
}

static void what_is_no_price_is_refused_with_its_place(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[1]",
        "{\"models\":[{\"provider\":\"p\",\"model\":\"m\",\"input\":-1,\"output\":1}]}",
        "{\"models\":[{\"provider\":\"p\",\"model\":\"m\",\"input\":1}]}",
        "{\"models\":[{\"provider\":\"p\",\"model\":\"a b\",\"input\":1,\"output\":1}]}",
        "{\"models\":[{\"provider\":\"p\",\"model\":\"m\",\"input\":1e30,\"output\":1}]}",
        "{\"a\":{\"models\":{\"m\":{\"cost\":{\"input\":\"1\",\"output\":2}}}}}",
        "[cost]\ninput = 1\n"};
    (void)state;
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_err e = CG_ERR_INIT;
        struct cg_buf out;
        size_t n = 0;
        cg_buf_init(&out, 1 << 20);
        assert_false(
            cg_prices_import(cg_slice_of(bad[i]), "p/m.toml", cg_slice_of(""), &out, &n, &e));
        assert_true(e.text[0] != '\0');
        cg_buf_finish(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_price_counts_from_its_day_to_its_last),
        cmocka_unit_test(names_lead_to_a_row_or_to_none),
        cmocka_unit_test(bands_and_tiers_price_the_whole_prompt),
        cmocka_unit_test(prices_of_models_dev_and_litellm_become_ours),
        cmocka_unit_test(what_is_set_here_wins_and_changes_the_version),
        cmocka_unit_test(what_is_no_price_is_refused_with_its_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
