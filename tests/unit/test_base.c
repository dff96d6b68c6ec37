/* Promises of src/base: errors, buffers, maps, clocks, files. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/money.h"
#include "base/scan.h"

static void error_text_grows_outwards(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    errno = EPERM;
    assert_false(cg_fail_sys(&e, "open %s", "tap"));
    assert_false(cg_wrap(&e, "start sandbox %s", "cage-x"));
    assert_string_equal(e.text, "start sandbox cage-x: open tap: Operation not permitted");
    assert_int_equal(e.code, CG_FORBIDDEN);
    assert_int_equal(e.sys, EPERM);
}

static void error_text_is_cut_at_its_end_never_over_its_array(void **state)
{
    (void)state;
    char long_text[500];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_INVALID, "%s", long_text);
    for (int i = 0; i < 5; i++)
        cg_wrap(&e, "outer %d %s", i, long_text);
    assert_true(strlen(e.text) < sizeof e.text);
    assert_memory_equal(e.text, "outer 4 ", 8);
}

static void code_names_map_back_to_their_codes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CG_CODE_COUNT; i++) {
        assert_int_equal(cg_code_from_name(cg_code_name((enum cg_code)i)), i);
        assert_true(cg_code_http((enum cg_code)i) >= 200);
    }
    assert_int_equal(cg_code_from_name("no such name"), CG_INTERNAL);
}

static void buffer_refuses_to_pass_its_maximum_without_partial_appends(void **state)
{
    (void)state;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 10);
    assert_true(cg_buf_adds(&b, "12345678"));
    assert_false(cg_buf_adds(&b, "abc"));
    assert_true(b.full);
    assert_string_equal(cg_buf_cstr(&b), "12345678");
    assert_true(cg_buf_adds(&b, "ab"));
    assert_false(cg_buf_addf(&b, "%d", 1));
    assert_null(cg_buf_room(&b, (size_t)-1));
    cg_buf_consume(&b, 8);
    assert_string_equal(cg_buf_cstr(&b), "ab");
}

/* Every byte at every place of runs that end within, at and behind a step of the scan. */
static void a_scan_stops_where_a_look_at_each_byte_does(void **state)
{
    char text[64];
    (void)state;
    for (size_t n = 0; n < 50; n++) {
        memset(text, 'a', sizeof text);
        assert_ptr_equal(cg_scan_plain(text, text + n), text + n);
        for (size_t at = 0; at < n; at++) {
            for (int byte = 0; byte < 256; byte++) {
                bool odd = byte < 0x20 || byte == '"' || byte == '\\';
                text[at] = (char)byte;
                assert_ptr_equal(cg_scan_plain(text, text + n), odd ? text + at : text + n);
            }
            text[at] = 'a';
        }
    }
}

static void products_are_divided_upwards_whether_they_fit_or_not(void **state)
{
    (void)state;
    assert_int_equal(cg_money_muldiv(0, INT64_MAX, 7), 0);
    assert_int_equal(cg_money_muldiv(7, 3, 2), 11);
    assert_int_equal(cg_money_muldiv(8, 3, 2), 12);
    assert_int_equal(cg_money_muldiv(INT64_MAX, 1, 1), CG_MIN(INT64_MAX, CG_MONEY_MAX));
    /* just below, at and above what 63 and 64 bits hold */
    assert_int_equal(cg_money_muldiv(INT64_C(1) << 31, INT64_C(1) << 31, INT64_C(1) << 31),
                     INT64_C(1) << 31);
    assert_int_equal(cg_money_muldiv(INT64_C(1) << 32, INT64_C(1) << 31, INT64_C(1) << 32),
                     INT64_C(1) << 31);
    assert_int_equal(cg_money_muldiv(INT64_C(1) << 32, INT64_C(1) << 32, INT64_C(1) << 33),
                     INT64_C(1) << 31);
    assert_int_equal(cg_money_muldiv((INT64_C(1) << 32) + 1, INT64_C(1) << 32, INT64_C(1) << 33),
                     (INT64_C(1) << 31) + 1);
}

static void map_agrees_with_a_plain_list_over_random_steps(void **state)
{
    (void)state;
    struct cg_map m;
    cg_map_init(&m);
    static int model[512]; /* value + 1, or 0 */
    static int values[512];
    unsigned seed = 7;
    for (int step = 0; step < 200000; step++) {
        seed = seed * 1103515245 + 12345;
        int k = (int)(seed >> 16 & 511);
        char key[16];
        snprintf(key, sizeof key, "k%d", k);
        if (seed >> 28 & 1) {
            void *old = cg_map_put(&m, key, &values[k]);
            assert_ptr_equal(old, model[k] ? &values[k] : NULL);
            model[k] = 1;
        } else {
            void *old = cg_map_remove(&m, key);
            assert_ptr_equal(old, model[k] ? &values[k] : NULL);
            model[k] = 0;
        }
    }
    size_t expected = 0;
    for (int k = 0; k < 512; k++)
        expected += (size_t)model[k];
    assert_int_equal(m.count, expected);
    size_t at = 0;
    size_t walked = 0;
    const char *key;
    void *value;
    while (cg_map_next(&m, &at, &key, &value)) {
        assert_ptr_equal(value, &values[atol(key + 1)]);
        walked++;
    }
    assert_int_equal(walked, expected);
    cg_map_finish(&m);
}

static void a_time_is_read_as_rfc3339_has_it(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"2026-01-02T03:04:05.678901Z", 1767323045678901000},
                {"2026-01-02T05:04:05+02:00", 1767323045000000000},
                {"2026-01-01t21:04:05.5-06:00", 1767323045500000000},
                {"2024-02-29T00:00:00Z", 1709164800000000000}};
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-01-02",
                                      "2026-01-02T03:04:05",
                                      "2026-02-29T00:00:00Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-01-02T24:04:05Z",
                                      "2026-01-02T03:04:05.Z",
                                      "2026-01-02T03:04:05Zx",
                                      "2026-01-02T03:04:05+2:00",
                                      "1969-12-31T23:59:59Z",
                                      "9999-01-01T00:00:00Z",
                                      " 2026-01-02T03:04:05Z"};
    int64_t ns = -1;
    for (size_t i = 0; i < CG_COUNT(good); i++) {
        assert_true(cg_time_parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        if (cg_time_parse(bad[i], &ns))
            fail_msg("taken for a time: %s", bad[i]);
    }
}

static void time_is_rfc3339_utc_with_microseconds(void **state)
{
    (void)state;
    char text[CG_TIME_TEXT];
    cg_time_format(1767323045678901234, text);
    assert_string_equal(text, "2026-01-02T03:04:05.678901Z");
}

static void identifiers_carry_their_prefix_and_differ(void **state)
{
    (void)state;
    char a[CG_ID_TEXT];
    char b[CG_ID_TEXT];
    cg_id_make("cage", a);
    cg_id_make("cage", b);
    assert_true(cg_id_valid(a, "cage"));
    assert_string_not_equal(a, b);
    assert_false(cg_id_valid(a, "snap"));
    assert_false(cg_id_valid("cage-short", "cage"));
    assert_false(cg_id_valid("cage-abcdefgh/..", "cage"));
    assert_false(cg_id_valid("cage-ABCDEFGH", "cage"));
}

static char *make_dir(void)
{
    char *dir = cg_strdup("/tmp/caged-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void slurp_refuses_files_over_its_maximum(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free) char *dir = make_dir();
    CG_OWN(cg_drop_free) char *path = cg_format("%s/f", dir);
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fs_replace(path, "12345", 5, 0640, &e));
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    assert_true(cg_fs_slurp(path, 5, &text, &n, &e));
    assert_int_equal(n, 5);
    assert_string_equal(text, "12345");
    char *none = NULL;
    assert_false(cg_fs_slurp(path, 4, &none, &n, &e));
    assert_int_equal(e.code, CG_TOO_LARGE);
    assert_null(none);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_true(cg_fs_remove_tree(dir, &e));
}

static void place_writes_what_differs_and_nothing_else(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free) char *dir = make_dir();
    CG_OWN(cg_drop_free) char *path = cg_format("%s/f", dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    struct cg_err e = CG_ERR_INIT;
    struct stat first, again, other;
    assert_true(cg_fs_place(path, "one", 3, 0644, &e));
    assert_int_equal(stat(path, &first), 0);
    assert_true(cg_fs_place(path, "one", 3, 0644, &e));
    assert_int_equal(stat(path, &again), 0);
    assert_true(first.st_ino == again.st_ino);
    assert_true(cg_fs_place(path, "on", 2, 0644, &e)); /* a beginning of it is not it */
    assert_int_equal(stat(path, &other), 0);
    assert_true(first.st_ino != other.st_ino);
    assert_true(cg_fs_place(path, "once", 4, 0644, &e));
    assert_true(cg_fs_slurp(path, 5, &text, NULL, &e));
    assert_string_equal(text, "once");
    assert_true(cg_fs_remove_tree(dir, &e));
}

static void remove_tree_never_follows_a_symlink(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free) char *dir = make_dir();
    CG_OWN(cg_drop_free) char *victim = make_dir();
    CG_OWN(cg_drop_free) char *kept = cg_format("%s/kept", victim);
    CG_OWN(cg_drop_free) char *deep = cg_format("%s/a/b/c", dir);
    CG_OWN(cg_drop_free) char *trap = cg_format("%s/a/trap", dir);
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fs_mkdirs(deep, 0700, &e));
    assert_true(cg_fs_replace(kept, "x", 1, 0600, &e));
    assert_int_equal(symlink(victim, trap), 0);
    assert_true(cg_fs_remove_tree(dir, &e));
    assert_false(cg_fs_exists(dir));
    assert_true(cg_fs_exists(kept));
    assert_true(cg_fs_remove_tree(dir, &e)); /* a missing path is fine */
    assert_true(cg_fs_remove_tree(victim, &e));
}

static void descriptors_travel_over_a_socket(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fd_send(pair[0], "hi", 2, pipes, 2, &e));
    char text[8];
    size_t n = 0;
    int fds[2] = {-1, -1};
    unsigned nfds = 0;
    assert_true(cg_fd_recv(pair[1], text, sizeof text, &n, fds, 2, &nfds, &e));
    assert_int_equal(n, 2);
    assert_int_equal(nfds, 2);
    assert_int_equal(write(fds[1], "z", 1), 1);
    assert_int_equal(read(pipes[0], text, 1), 1);
    assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);

    /* more descriptors than the receiver agreed to take are refused and closed */
    assert_true(cg_fd_send(pair[0], "hi", 2, pipes, 2, &e));
    assert_false(cg_fd_recv(pair[1], text, sizeof text, &n, fds, 1, &nfds, &e));
    assert_int_equal(e.code, CG_PROTOCOL);
    close(pair[0]);
    assert_false(cg_fd_recv(pair[1], text, sizeof text, &n, fds, 2, &nfds, &e));
    assert_int_equal(e.code, CG_CLOSED);
}

static void socket_path_too_long_is_named(void **state)
{
    (void)state;
    char path[200];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    path[0] = '/';
    struct cg_err e = CG_ERR_INIT;
    assert_int_equal(cg_unix_listen(path, 0600, &e), -1);
    assert_int_equal(e.code, CG_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_text_grows_outwards),
        cmocka_unit_test(error_text_is_cut_at_its_end_never_over_its_array),
        cmocka_unit_test(code_names_map_back_to_their_codes),
        cmocka_unit_test(buffer_refuses_to_pass_its_maximum_without_partial_appends),
        cmocka_unit_test(a_scan_stops_where_a_look_at_each_byte_does),
        cmocka_unit_test(products_are_divided_upwards_whether_they_fit_or_not),
        cmocka_unit_test(map_agrees_with_a_plain_list_over_random_steps),
        cmocka_unit_test(a_time_is_read_as_rfc3339_has_it),
        cmocka_unit_test(time_is_rfc3339_utc_with_microseconds),
        cmocka_unit_test(identifiers_carry_their_prefix_and_differ),
        cmocka_unit_test(slurp_refuses_files_over_its_maximum),
        cmocka_unit_test(place_writes_what_differs_and_nothing_else),
        cmocka_unit_test(remove_tree_never_follows_a_symlink),
        cmocka_unit_test(descriptors_travel_over_a_socket),
        cmocka_unit_test(socket_path_too_long_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
