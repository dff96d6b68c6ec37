/* Promises of the guest's observation that need no guest: paths come out as the guest knows them,
 * hostile names stay data, and no garbage in a ring leads the reader out of it. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "guest/bpf/format.h"
#include "guest/bpf/names.h"
#include "guest/bpf/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { HEAD = offsetof(struct cg_obs_rec, text), OVERLAY = 20, DISK = 254 << 20, TMP = 25 };

static struct cg_mounts mounts;
static struct cg_obs_places places;

static int set_up(void **state)
{
    (void)state;
    cg_mounts_init(&mounts);
    cg_mounts_parse(&mounts, cg_strdup("21 1 0:20 / / rw - overlay overlay rw\n"
                                       "24 21 0:20 /etc/hosts /mnt/hosts rw - overlay overlay rw\n"
                                       "nonsense\n22 21 x:y / /bad rw\n"
                                       "22 21 254:0 /workspace /workspace rw - ext4 /dev/vda rw\n"
                                       "23 21 0:25 / /mnt/a\\040b\\134 rw - tmpfs tmpfs rw"));
    places = (struct cg_obs_places){.mounts = &mounts, .scope = {"/workspace"}};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cg_mounts_finish(&mounts);
    return 0;
}

static void put(struct cg_obs_rec *r, const void *text, size_t n)
{
    memcpy(r->text + r->text_n, text, n);
    r->text_n += (uint32_t)n;
}

static struct cg_obs_rec *record(enum cg_obs_kind kind, enum cg_obs_op op)
{
    struct cg_obs_rec *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->kind = (uint8_t)kind;
    r->op = (uint8_t)op;
    r->pid = 7;
    memcpy(r->comm, "test", 4);
    return r;
}

/* Names from leaf to root, each with its NUL. */
static void put_path(struct cg_obs_rec *r, unsigned which, uint32_t dev, const char *names,
                     size_t n)
{
    r->path[which].dev = dev;
    r->path[which].n = (uint16_t)n;
    put(r, names, n);
}

#define PATH(r, which, dev, names) put_path(r, which, dev, names, sizeof(names) - 1)

/* Formats and frees the record; the line's JSON is the caller's. */
static struct cg_json *line_of(struct cg_obs_rec *r)
{
    struct cg_buf line;
    struct cg_err e = CG_ERR_INIT;

    cg_buf_init(&line, 65536);
    assert_true(cg_obs_format(&line, &places, r, HEAD + r->text_n));
    struct cg_json *json = cg_json_parse(cg_buf_slice(&line), NULL, &e);
    assert_non_null(json);
    cg_buf_finish(&line);
    free(r);
    return json;
}

static void expect_path(struct cg_obs_rec *r, const char *path, const char *dev)
{
    CG_OWN(cg_drop_json) struct cg_json *json = line_of(r);

    assert_string_equal(cg_json_str(json, "path"), path);
    if (dev)
        assert_string_equal(cg_json_str(json, "dev"), dev);
    else
        assert_null(cg_json_get(json, "dev"));
}

static void paths_are_those_of_the_guest(void **state)
{
    (void)state;
    struct cg_obs_rec *r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, OVERLAY, "hosts\0etc\0");
    expect_path(r, "/etc/hosts", NULL);

    r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, DISK, "b\0a\0");
    r->path[0].scope = 1;
    expect_path(r, "/workspace/a/b", NULL);

    r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, DISK, "b\0workspace\0");
    expect_path(r, "/workspace/b", NULL);

    r = record(CG_OBS_FILE, CG_OBS_RMDIR);
    PATH(r, 0, OVERLAY, "");
    expect_path(r, "/", NULL);

    r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, TMP, "f\0");
    expect_path(r, "/mnt/a b\\/f", NULL);
}

static void a_path_on_no_known_mount_names_its_device(void **state)
{
    (void)state;
    struct cg_obs_rec *r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, 99, "f\0d\0");
    expect_path(r, "/d/f", "0:99");

    r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, DISK, "f\0workspaces\0");
    expect_path(r, "/workspaces/f", "254:0");
}

static void a_path_that_was_cut_says_so(void **state)
{
    (void)state;
    struct cg_obs_rec *r = record(CG_OBS_FILE, CG_OBS_CREATE);
    PATH(r, 0, OVERLAY, "leaf\0dir\0");
    r->path[0].flags = CG_OBS_PATH_CUT;
    CG_OWN(cg_drop_json) struct cg_json *json = line_of(r);
    assert_string_equal(cg_json_str(json, "path"), ".../dir/leaf");
    assert_true(cg_json_bool(json, "cut", false));
}

static void argv_keeps_empty_words_and_hostile_bytes(void **state)
{
    (void)state;
    struct cg_obs_rec *r = record(CG_OBS_EXEC, 0);
    static const char argv[] = "a\nb\0\0\xff\x1b[31m\0\xe2\x80\xae";
    put(r, argv, sizeof argv);
    r->argv_n = sizeof argv;
    PATH(r, 0, OVERLAY, "true\0bin\0");
    PATH(r, 1, OVERLAY, "");
    CG_OWN(cg_drop_json) struct cg_json *json = line_of(r);
    const struct cg_json *a = cg_json_get(json, "argv");
    assert_int_equal(a->count, 4);
    assert_string_equal(a->child->str.p, "a\nb");
    assert_string_equal(a->child->next->str.p, "");
    assert_string_equal(a->child->next->next->str.p, "\xef\xbf\xbd\x1b[31m");
    assert_string_equal(cg_json_str(json, "exe"), "/bin/true");
    assert_string_equal(cg_json_str(json, "cwd"), "/");
}

static void the_longest_record_of_escapes_fits_a_line(void **state)
{
    (void)state;
    struct cg_obs_rec *r = record(CG_OBS_EXEC, 0);
    char text[CG_OBS_ARGV];
    memset(text, 1, sizeof text);
    put(r, text, CG_OBS_ARGV);
    r->argv_n = CG_OBS_ARGV;
    for (unsigned i = 0; i < 2; i++)
        put_path(r, i, OVERLAY, text, CG_OBS_PATH_SHORT);
    cg_json_destroy(line_of(r));

    r = record(CG_OBS_FILE, CG_OBS_RENAME);
    for (unsigned i = 0; i < 2; i++)
        put_path(r, i, OVERLAY, text, CG_OBS_PATH_LONG);
    cg_json_destroy(line_of(r));
}

static void an_exit_tells_code_or_signal(void **state)
{
    (void)state;
    struct cg_obs_rec *r = record(CG_OBS_EXIT, 0);
    r->num[0] = 42 << 8;
    struct cg_json *json = line_of(r);
    assert_int_equal(cg_json_int(json, "code", -1), 42);
    assert_int_equal(cg_json_get(json, "signal")->type, CG_JSON_NULL);
    cg_json_destroy(json);

    r = record(CG_OBS_EXIT, 0);
    r->num[0] = 9 | 0x80;
    json = line_of(r);
    assert_int_equal(cg_json_int(json, "code", -1), 137);
    assert_string_equal(cg_json_str(json, "signal"), "KILL");
    cg_json_destroy(json);
}

static void records_with_wrong_lengths_are_refused(void **state)
{
    (void)state;
    struct cg_buf line;
    struct cg_obs_rec *r = record(CG_OBS_FILE, CG_OBS_CREATE);

    cg_buf_init(&line, 65536);
    PATH(r, 0, OVERLAY, "f\0");
    assert_false(cg_obs_format(&line, &places, r, HEAD - 1));
    assert_false(cg_obs_format(&line, &places, r, HEAD + r->text_n + 8));
    r->path[0].n = 3;
    assert_false(cg_obs_format(&line, &places, r, HEAD + r->text_n));
    r->path[0].n = 2;
    r->argv_n = UINT32_MAX;
    assert_false(cg_obs_format(&line, &places, r, HEAD + r->text_n));
    r->argv_n = 0;
    r->op = CG_OBS_OPS;
    assert_false(cg_obs_format(&line, &places, r, HEAD + r->text_n));
    r->kind = CG_OBS_KINDS;
    assert_false(cg_obs_format(&line, &places, r, HEAD + r->text_n));
    assert_int_equal(cg_obs_kind_of(r, HEAD + r->text_n), CG_OBS_KINDS);
    assert_int_equal(line.n, 0);
    cg_buf_finish(&line);
    free(r);
}

/* Lays out a record as the kernel does; returns the position behind it. */
static uint64_t lay(uint64_t *memory, uint64_t pos, uint32_t head, char fill)
{
    uint32_t n = head & 0x3fffffff;

    memory[pos / 8] = head;
    memset(&memory[pos / 8 + 1], fill, n);
    return pos + ((n + 8 + 7) & ~7U);
}

static void a_ring_gives_whole_records_in_order_and_no_others(void **state)
{
    (void)state;
    uint64_t memory[2 * 128] = {0}, reader = 0, writer = 0;
    struct cg_ring ring = {.reader = &reader,
                           .writer = &writer,
                           .data = (const uint8_t *)memory,
                           .size = sizeof memory / 2};
    size_t n;

    writer = lay(memory, writer, 5, 'a');
    writer = lay(memory, writer, 16 | 1U << 30, 'x'); /* discarded */
    writer = lay(memory, writer, 9, 'b');
    writer = lay(memory, writer, 8 | 1U << 31, 'c'); /* not complete yet */
    uint64_t end = cg_ring_end(&ring);
    const char *p = cg_ring_peek(&ring, end, &n);
    assert_int_equal(n, 5);
    assert_int_equal(p[0], 'a');
    cg_ring_next(&ring);
    p = cg_ring_peek(&ring, end, &n);
    assert_int_equal(n, 9);
    assert_int_equal(p[0], 'b');
    cg_ring_next(&ring);
    assert_null(cg_ring_peek(&ring, end, &n));
    assert_int_equal(reader, 16 + 24 + 24);
}

static void a_ring_whose_heads_make_no_sense_is_skipped(void **state)
{
    (void)state;
    uint64_t memory[2 * 128] = {0}, reader = 0, writer = 64;
    struct cg_ring ring = {.reader = &reader,
                           .writer = &writer,
                           .data = (const uint8_t *)memory,
                           .size = sizeof memory / 2};
    size_t n;

    lay(memory, 0, 8, 'a');
    memory[0] = 4000; /* longer than what was written */
    assert_null(cg_ring_peek(&ring, 64, &n));
    assert_int_equal(reader, 64);
}

static void a_reader_position_that_somebody_moved_is_not_believed(void **state)
{
    (void)state;
    uint64_t memory[2 * 128] = {0}, reader = 0, writer = 0;
    struct cg_ring ring = {.reader = &reader,
                           .writer = &writer,
                           .data = (const uint8_t *)memory,
                           .size = sizeof memory / 2};
    size_t n;

    writer = lay(memory, writer, 8, 'a');
    writer = lay(memory, writer, 8, 'b');
    reader = writer;
    for (char c = 'a'; c <= 'b'; c++) {
        const char *p = cg_ring_peek(&ring, writer, &n);
        assert_non_null(p);
        assert_int_equal(p[0], c);
        cg_ring_next(&ring);
        reader = 0;
    }
    assert_null(cg_ring_peek(&ring, writer, &n));
}

static void every_word_has_a_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CG_HOOKS; i++) {
        assert_non_null(cg_obs_hook_name(i));
        assert_non_null(cg_obs_kind_name(cg_obs_hook_kind((enum cg_obs_hook)i)));
    }
    for (unsigned i = 0; i < CG_OBS_OPS; i++)
        assert_non_null(cg_obs_op_name(i));
    assert_null(cg_obs_hook_name(CG_HOOKS));
    assert_string_equal(cg_obs_signal_name(15), "TERM");
    assert_null(cg_obs_signal_name(0));
    assert_null(cg_obs_signal_name(-1));
    assert_null(cg_obs_signal_name(64));
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void garbage_in_a_ring_is_survived(void **state)
{
    (void)state;
    uint64_t seed = 0x9e3779b97f4a7c15;
    uint8_t bytes[8192];

    for (unsigned round = 0; round < 20000; round++) {
        size_t n = next_random(&seed) % (round % 16 == 0 ? sizeof bytes : 512);
        for (size_t i = 0; i < n; i++) {
            uint64_t r = next_random(&seed);
            /* many zeros: they end names, and small lengths make more sense */
            bytes[i] = r & 0x300 ? (uint8_t)(r & 0x1f & (r >> 12)) : (uint8_t)r;
        }
        LLVMFuzzerTestOneInput(bytes, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_those_of_the_guest),
        cmocka_unit_test(a_path_on_no_known_mount_names_its_device),
        cmocka_unit_test(a_path_that_was_cut_says_so),
        cmocka_unit_test(argv_keeps_empty_words_and_hostile_bytes),
        cmocka_unit_test(the_longest_record_of_escapes_fits_a_line),
        cmocka_unit_test(an_exit_tells_code_or_signal),
        cmocka_unit_test(records_with_wrong_lengths_are_refused),
        cmocka_unit_test(a_ring_gives_whole_records_in_order_and_no_others),
        cmocka_unit_test(a_ring_whose_heads_make_no_sense_is_skipped),
        cmocka_unit_test(a_reader_position_that_somebody_moved_is_not_believed),
        cmocka_unit_test(every_word_has_a_name),
        cmocka_unit_test(garbage_in_a_ring_is_survived),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
