/* Promises of the JSON reader and writer: strict, bounded, and nothing that a guest says can break
 * out of the line it is written into. */
#include "check.h"

#include <string.h>

#include "base/json.h"
#include "base/jsonw.h"

static struct cg_json *parse(const char *text, struct cg_err *e)
{
    return cg_json_parse(cg_slice_of(text), NULL, e);
}

static void reads_every_kind_of_value(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json)
    struct cg_json *j = parse(" {\"a\":[1,-2.5,true,null,\"x\\n\\u00e9\\ud83d\\ude00\"],\"b\":{},"
                              "\"big\":9223372036854775807,\"huge\":1e300} ",
                              &e);
    assert_non_null(j);
    const struct cg_json *a = cg_json_get(j, "a");
    assert_int_equal(a->count, 5);
    assert_int_equal(a->child->integer, 1);
    const struct cg_json *s = a->child->next->next->next->next;
    assert_string_equal(s->str.p, "x\n\xc3\xa9\xf0\x9f\x98\x80");
    assert_true(cg_json_int(j, "big", 0) == INT64_MAX);
    assert_true(cg_json_num(j, "huge", 0) > 1e299);
    assert_int_equal(cg_json_int(j, "missing", 42), 42);
    assert_null(cg_json_str(j, "a"));
}

static void refuses_what_the_rfc_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "nul",
        "'a'",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\t\"",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "1 2",
        "[]]",
        "{\"a\":1 \"b\":2}",
        "1e999",
        "{\"a\":1,\"a\":2}",
        "\"\\ud83d\\u0041\"",
        "tru",
        "-",
    };
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_err e = CG_ERR_INIT;
        struct cg_json *j = parse(bad[i], &e);
        if (j)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.code, CG_INVALID);
    }
}

static void depth_and_size_are_bounded(void **state)
{
    (void)state;
    char deep[200];
    memset(deep, '[', sizeof deep);
    struct cg_err e = CG_ERR_INIT;
    assert_null(cg_json_parse((struct cg_slice){deep, sizeof deep}, NULL, &e));
    const struct cg_json_limits tight = {8, 4, 4};
    assert_null(cg_json_parse(cg_slice_of("[1,2,3,4]"), &tight, &e));
    assert_int_equal(e.code, CG_TOO_LARGE);
    assert_null(cg_json_parse(cg_slice_of("[1,2,3]"), &(struct cg_json_limits){8, 4, 3}, &e));
    assert_non_null(strstr(e.text, "too many values"));
}

static void a_hostile_string_stays_inside_its_line(void **state)
{
    (void)state;
    static const char evil[] = "a\"\\\n\r\x1b]0;x\x07\x7f\xc2\x9b"
                               "\xe2\x80\xae\xe2\x80\xa8\xff\xc0\xaf\xed\xa0\x80\0z";
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 1024);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstrn(&w, "s", evil, sizeof evil - 1);
    cg_jsonw_kint(&w, "n", -1);
    cg_jsonw_obj_end(&w);
    const char *text = cg_buf_cstr(&b);
    for (size_t i = 0; i < b.n; i++)
        assert_true((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
    assert_null(strstr(text, "\xe2\x80"));
    assert_null(strstr(text, "\xc2\x9b"));
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *j = parse(text, &e);
    assert_non_null(j);
    assert_int_equal(cg_json_int(j, "n", 0), -1);
    assert_int_equal(j->count, 2);
}

static void overflow_of_the_buffer_is_seen(void **state)
{
    (void)state;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 16);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_str(&w, "this is longer than sixteen bytes");
    assert_true(b.full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind_of_value),
        cmocka_unit_test(refuses_what_the_rfc_refuses),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(a_hostile_string_stays_inside_its_line),
        cmocka_unit_test(overflow_of_the_buffer_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
