/* Parts of the warden that stand alone: its configuration, the tables that a guest's values pass,
 * and terminals in the record. The whole is tested by tests/integration/test_warden.py. */
#include "check.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/reader.h"
#include "warden/config.h"
#include "warden/fields.h"
#include "warden/term.h"

static bool parse(const char *text, struct cg_warden_config *c, struct cg_err *e)
{
    *e = (struct cg_err)CG_ERR_INIT;
    return cg_warden_config_parse(cg_slice_of(text), c, e);
}

static void test_a_small_configuration_has_defaults(void **state)
{
    (void)state;
    struct cg_warden_config c;
    struct cg_err e;
    assert_true(parse("{\"v\":1,\"id\":\"cage-aaaaaaaaaa\"}", &c, &e));
    assert_string_equal(c.hostname, "cage-aaaaaaaaaa");
    assert_int_equal(c.boot_ms, 60000);
    assert_int_equal(c.quota_bytes, 0);
    assert_int_equal(c.network.nrules, 0);
    assert_null(c.env);
    cg_warden_config_finish(&c);
}

static void test_a_whole_configuration_is_taken(void **state)
{
    (void)state;
    struct cg_warden_config c;
    struct cg_err e;
    bool fine = parse(
        "{\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"account\":\"acct-1\",\"template\":\"minimal\","
        "\"hostname\":\"box\",\"agent\":null,\"driver\":\"qemu\",\"isolation\":{\"accel\":\"tcg\"},"
        "\"shape\":{\"vcpus\":2,\"mem_mib\":512,\"disk_mib\":4096},\"env\":{\"A\":\"b\"},"
        "\"network\":{\"allow\":[\"127.0.0.1/32:9418\"],\"hosts\":[{\"name\":\"Host.Internal\","
        "\"address\":\"172.30.0.1\",\"to\":\"127.0.0.1\"}]},"
        "\"record\":{\"quota_bytes\":1000000},\"timeouts\":{\"boot_ms\":1000}}",
        &c, &e);
    if (!fine)
        fail_msg("%s", e.text);
    assert_int_equal(c.vcpus, 2);
    assert_int_equal(c.network.rules[0].port, 9418);
    assert_string_equal(c.network.hosts[0].name, "host.internal");
    assert_int_equal(c.network.hosts[0].to, 0x7f000001);
    assert_string_equal(cg_json_str(c.env, "A"), "b");
    assert_int_equal(c.quota_bytes, 1000000);
    cg_warden_config_finish(&c);
}

static void test_what_a_configuration_gets_wrong_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        const char *named;
    } cases[] = {
        {"\"v\":2,\"id\":\"cage-aaaaaaaaaa\"", "v must be 1"},
        {"\"v\":1", "id is missing"},
        {"\"v\":1,\"id\":\"../../etc\"", "not a sandbox id"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"surprise\":1", "surprise"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"shape\":{\"cpus\":1}", "cpus in shape"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"shape\":{\"vcpus\":\"2\"}", "vcpus"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"shape\":{\"vcpus\":0}", "vcpus"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"env\":{\"A\":1}", "env.A"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"network\":{\"allow\":[\"x\"]}", "network.allow"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"network\":{\"hosts\":[{}]}", "network.hosts"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"timeouts\":{\"boot_ms\":1}", "boot_ms"},
        {"\"v\":1,\"id\":\"cage-aaaaaaaaaa\",\"isolation\":[]", "isolation"},
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct cg_warden_config c;
        struct cg_err e;
        CG_OWN(cg_drop_free) char *text = cg_format("{%s}", cases[i].members);
        assert_false(parse(text, &c, &e));
        if (!strstr(e.text, cases[i].named))
            fail_msg("%s: \"%s\" does not name \"%s\"", text, e.text, cases[i].named);
    }
}

/* --- fields --- */

static const struct field inner[] = {{"n", FIELD_INT, 0, NULL}, {NULL, FIELD_INT, 0, NULL}};
static const struct field table[] = {{"text", FIELD_STR, 4, NULL}, {"list", FIELD_STRS, 20, NULL},
                                     {"num", FIELD_NUM, 0, NULL},  {"lost", FIELD_COUNTS, 0, NULL},
                                     {"sub", FIELD_OBJ, 0, inner}, {"all", FIELD_LIST, 2, inner},
                                     {NULL, FIELD_INT, 0, NULL}};

static void expect_copy(const char *in, const char *out, bool cut)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(cg_slice_of(in), NULL, &e);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    assert_non_null(o);
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    assert_int_equal(fields_copy(table, o, &w), cut);
    cg_jsonw_obj_end(&w);
    assert_string_equal(cg_buf_cstr(&b), out);
}

static void test_only_known_members_of_the_right_type_pass(void **state)
{
    (void)state;
    expect_copy("{\"x\":1,\"text\":\"ab\",\"num\":3}", "{\"text\":\"ab\",\"num\":3}", false);
    expect_copy("{\"text\":7,\"list\":\"x\",\"num\":\"1\",\"sub\":[],\"lost\":1}", "{}", false);
    expect_copy("{\"text\":null}", "{\"text\":null}", false);
    expect_copy("{\"sub\":{\"n\":1,\"m\":2}}", "{\"sub\":{\"n\":1}}", false);
    expect_copy("{\"lost\":{\"a_1\":1,\"A\":2,\"b\":\"x\",\"\":3}}", "{\"lost\":{\"a_1\":1}}",
                false);
}

static void test_long_values_are_cut_and_it_is_told(void **state)
{
    (void)state;
    expect_copy("{\"text\":\"abcdef\"}", "{\"text\":\"abcd\"}", true);
    expect_copy("{\"text\":\"abc\\u00fc\"}", "{\"text\":\"abc\xef\xbf\xbd\"}", true);
    expect_copy("{\"list\":[\"aaaaaaaa\",\"bbbb\",\"c\"]}", "{\"list\":[\"aaaaaaaa\",\"bbbb\"]}",
                true);
    expect_copy("{\"list\":[\"\",\"\",\"\",\"\",\"\",\"\"]}",
                "{\"list\":[\"\",\"\",\"\",\"\",\"\"]}", true);
    expect_copy("{\"all\":[{\"n\":1},{},{\"n\":3}]}", "{\"all\":[{\"n\":1},{}]}", true);
}

/* --- terminals --- */

struct fixture {
    char path[64];
    int dir;
    struct cg_record *record;
};

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    const struct cg_record_options o = {.sandbox = "cage-aaaaaaaaaa", .backlog_bytes = 4 << 20};
    struct cg_err e = CG_ERR_INIT;
    cg_snprintf(f->path, sizeof f->path, "/tmp/cg-term-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->record = cg_record_open(f->dir, &o, &e);
    assert_non_null(f->record);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    cg_record_close(f->record);
    close(f->dir);
    assert_true(cg_fs_remove_tree(f->path, &e));
    free(f);
    return 0;
}

/* What a record says that a terminal showed, put together; the number of lines. */
static unsigned collect(struct fixture *f, struct cg_buf *out, unsigned *base64)
{
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_record_sync(f->record, &e));
    struct cg_record_reader *r = cg_record_reader_open(f->dir, 0, &e);
    struct cg_slice text;
    struct cg_record_line line;
    unsigned lines = 0;
    while (cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line.data, NULL, &e);
        assert_non_null(o);
        lines++;
        const struct cg_json *plain = cg_json_get(o, "text");
        if (plain) {
            assert_true(cg_buf_add(out, plain->str.p, plain->str.n));
            continue;
        }
        const char *coded = cg_json_str(o, "base64");
        static unsigned char bytes[32768];
        size_t n = 0;
        assert_non_null(coded);
        assert_int_equal(sodium_base642bin(bytes, sizeof bytes, coded, strlen(coded), NULL, &n,
                                           NULL, sodium_base64_VARIANT_ORIGINAL),
                         0);
        assert_true(cg_buf_add(out, bytes, n));
        ++*base64;
    }
    cg_record_reader_close(r);
    return lines;
}

static void test_a_character_cut_by_two_reads_is_one_text(void **state)
{
    struct fixture *f = *state;
    struct term *t = term_create(f->record, NULL, "e1", NULL);
    term_add(t, TERM_OUT, cg_slice_of("gr\xc3"), 0);
    term_tick(t, 60000000);
    term_add(t, TERM_OUT, cg_slice_of("\xbcn"), 61000000);
    term_tick(t, 200000000);
    assert_false(term_waits(t));
    CG_OWN(cg_drop_buf) struct cg_buf out;
    unsigned base64 = 0;
    cg_buf_init(&out, 4096);
    assert_int_equal(collect(f, &out, &base64), 2);
    assert_int_equal(base64, 0);
    assert_string_equal(cg_buf_cstr(&out), "gr\xc3\xbcn");
    term_destroy(t);
}

static void test_a_lone_half_character_does_not_wait_for_ever(void **state)
{
    struct fixture *f = *state;
    struct term *t = term_create(f->record, NULL, "e1", NULL);
    term_add(t, TERM_OUT, cg_slice_of("\xe2\x82"), 0);
    for (int64_t ms = 0; ms < 300 && term_waits(t); ms += 25)
        term_tick(t, ms * 1000000);
    assert_false(term_waits(t));
    term_destroy(t);
}

static void test_any_bytes_in_any_pieces_come_back_the_same(void **state)
{
    struct fixture *f = *state;
    struct term *t = term_create(f->record, NULL, "e1", "sess-1");
    static char bytes[400000];
    static const char *const pieces[] = {"plain text\r\n",   "\xc3\xbc", "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80", "\x1b[31m", "\xff",
                                         "\xed\xa0\x80",     "\xc3"};
    uint64_t seed = 12345;
    size_t n = 0;
    while (n < sizeof bytes - 16) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const char *piece = pieces[(seed >> 33) % ((seed >> 50) % 16 ? 5 : CG_COUNT(pieces))];
        memcpy(bytes + n, piece, strlen(piece));
        n += strlen(piece);
    }
    for (size_t at = 0, now = 0; at < n; now += 20000000) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t step = CG_MIN((seed >> 33) % 3000 + 1, n - at);
        term_add(t, TERM_OUT, (struct cg_slice){bytes + at, step}, (int64_t)now);
        term_tick(t, (int64_t)now);
        at += step;
    }
    term_flush(t);
    CG_OWN(cg_drop_buf) struct cg_buf out;
    unsigned base64 = 0;
    cg_buf_init(&out, sizeof bytes);
    collect(f, &out, &base64);
    assert_int_equal(out.n, n);
    assert_memory_equal(out.p, bytes, n);
    term_destroy(t);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_small_configuration_has_defaults),
        cmocka_unit_test(test_a_whole_configuration_is_taken),
        cmocka_unit_test(test_what_a_configuration_gets_wrong_is_named),
        cmocka_unit_test(test_only_known_members_of_the_right_type_pass),
        cmocka_unit_test(test_long_values_are_cut_and_it_is_told),
        T(test_a_character_cut_by_two_reads_is_one_text),
        T(test_a_lone_half_character_does_not_wait_for_ever),
        T(test_any_bytes_in_any_pieces_come_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
