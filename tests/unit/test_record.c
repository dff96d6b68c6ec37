/* The record's promises: numbers without holes, nothing lost up to the watermark, torn ends cut and
 * told, floods counted, any number found again. */
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "record/reader.h"
#include "record/record.h"

struct fixture {
    char path[64];
    int dir;
    struct cg_record_options options;
};

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    cg_snprintf(f->path, sizeof f->path, "/tmp/cg-record-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->dir >= 0);
    f->options = (struct cg_record_options){.sandbox = "cage-aaaaaaaaaa"};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    close(f->dir);
    assert_true(cg_fs_remove_tree(f->path, &e));
    free(f);
    return 0;
}

static struct cg_record *must_open(struct fixture *f)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_record *r = cg_record_open(f->dir, &f->options, &e);
    if (!r)
        fail_msg("open: %s", e.text);
    return r;
}

static void must_sync(struct cg_record *r)
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_record_sync(r, &e))
        fail_msg("sync: %s", e.text);
}

static uint64_t add(struct cg_record *r, enum cg_record_type type, unsigned i)
{
    struct cg_jsonw *w = cg_record_begin(r, type, CG_SRC_HOST, NULL);
    cg_jsonw_kint(w, "i", i);
    cg_jsonw_kstr(w, "path", "/workspace/src/file.c");
    return cg_record_end(r);
}

/* Reads all behind `after`; checks that numbers have no holes, gives the last. */
static uint64_t read_all(struct fixture *f, uint64_t after, unsigned *lines)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_record_reader *reader = cg_record_reader_open(f->dir, after, &e);
    assert_non_null(reader);
    struct cg_slice text;
    struct cg_record_line line;
    uint64_t seq = after;
    *lines = 0;
    while (cg_record_read(reader, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        assert_int_equal(line.seq, ++seq);
        struct cg_json *o = cg_json_parse(text, NULL, &e);
        assert_non_null(o);
        assert_int_equal(cg_json_int(o, "seq", 0), seq);
        cg_json_destroy(o);
        ++*lines;
    }
    assert_int_equal(cg_record_reader_damaged(reader), 0);
    cg_record_reader_close(reader);
    return seq;
}

static char *read_segment(struct fixture *f, unsigned number, size_t *n)
{
    char path[128];
    char *text = NULL;
    struct cg_err e = CG_ERR_INIT;
    cg_snprintf(path, sizeof path, "%s/%06u.jsonl", f->path, number);
    assert_true(cg_fs_slurp(path, (size_t)64 << 20, &text, n, &e));
    return text;
}

static void test_lines_come_back_in_order_and_whole(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    for (unsigned i = 1; i <= 1000; i++)
        assert_int_equal(add(r, CG_REC_FILE_OP, i), i);
    assert_int_equal(cg_record_durable(r), 0);
    must_sync(r);
    assert_int_equal(cg_record_durable(r), 1000);
    unsigned lines = 0;
    assert_int_equal(read_all(f, 0, &lines), 1000);
    assert_int_equal(lines, 1000);
    assert_int_equal(read_all(f, 990, &lines), 1000);
    assert_int_equal(lines, 10);
    assert_int_equal(read_all(f, 1000, &lines), 1000);
    assert_int_equal(lines, 0);
    cg_record_close(r);
}

static void test_every_number_is_found_over_many_segments(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 300000;
    struct cg_record *r = must_open(f);
    for (unsigned i = 0; i < 20000; i++) {
        add(r, CG_REC_FILE_OP, i);
        if (i % 500 == 0)
            must_sync(r);
    }
    must_sync(r);
    uint64_t last = 0;
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_record_last_seq(f->dir, &last, &e));
    assert_int_equal(last, 20000);
    for (uint64_t after = 0; after < 20000; after += 777) {
        struct cg_record_reader *reader = cg_record_reader_open(f->dir, after, &e);
        struct cg_slice text;
        struct cg_record_line line;
        assert_int_equal(cg_record_read(reader, UINT64_MAX, &text, &line, &e), CG_RECORD_LINE);
        assert_int_equal(line.seq, after + 1);
        cg_record_reader_close(reader);
    }
    unsigned lines = 0;
    assert_int_equal(read_all(f, 0, &lines), 20000);
    cg_record_close(r);
}

static void test_segments_are_chained_by_hash_also_over_a_reopen(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 5000;
    for (unsigned round = 0; round < 3; round++) {
        struct cg_record *r = must_open(f);
        for (unsigned i = 0; i < 60; i++) {
            add(r, CG_REC_COMMAND, i);
            must_sync(r);
        }
        cg_record_close(r);
    }
    char script[512];
    cg_snprintf(script, sizeof script,
                "import hashlib,json,glob,sys\n"
                "prev=None\n"
                "names=sorted(glob.glob('%s/*.jsonl'))\n"
                "assert len(names)>3, names\n"
                "for n in names:\n"
                "    b=open(n,'rb').read()\n"
                "    assert json.loads(b.split(b'\\n')[0])['prev']==prev, n\n"
                "    prev='blake2b-256:'+hashlib.blake2b(b,digest_size=32).hexdigest()\n",
                f->path);
    char path[128];
    cg_snprintf(path, sizeof path, "%s/check.py", f->path);
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fs_replace(path, script, strlen(script), 0600, &e));
    pid_t pid = fork();
    if (pid == 0) {
        execlp("/usr/bin/python3", "python3", path, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_a_torn_end_is_cut_and_told(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    for (unsigned i = 0; i < 50; i++)
        add(r, CG_REC_FILE_OP, i);
    must_sync(r);
    cg_record_close(r);
    size_t n = 0;
    char *whole = read_segment(f, 1, &n);
    char path[128];
    cg_snprintf(path, sizeof path, "%s/000001.jsonl", f->path);
    struct cg_err e = CG_ERR_INIT;
    const char *last = memrchr(whole, '\n', n - 1);
    size_t head_n = strcspn(whole, "\n") + 1;
    for (size_t keep = (size_t)(last - whole) + 2; keep < n; keep += 7) {
        assert_true(cg_fs_replace(path, whole, keep, 0640, &e));
        r = must_open(f);
        assert_int_equal(cg_record_durable(r), 49);
        must_sync(r);
        cg_record_close(r);
        unsigned lines = 0;
        assert_int_equal(read_all(f, 0, &lines), 50);
        size_t got = 0;
        char *text = read_segment(f, 1, &got);
        assert_non_null(strstr(text, "\"reason\":\"torn_tail\""));
        free(text);
    }
    /* a page of zeros, as a crash of the machine leaves it */
    CG_OWN(cg_drop_free) char *zeros = cg_alloc(n + 4096);
    memcpy(zeros, whole, head_n);
    assert_true(cg_fs_replace(path, zeros, n + 4096, 0640, &e));
    r = must_open(f);
    assert_int_equal(cg_record_durable(r), 0);
    cg_record_close(r);
    free(whole);
}

static void test_a_half_made_segment_is_made_again(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    add(r, CG_REC_LIFECYCLE, 1);
    must_sync(r);
    cg_record_close(r);
    char path[128];
    cg_snprintf(path, sizeof path, "%s/000002.jsonl", f->path);
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fs_replace(path, "{\"type\":\"seg", 12, 0640, &e));
    r = must_open(f);
    assert_int_equal(add(r, CG_REC_LIFECYCLE, 2), 2);
    must_sync(r);
    unsigned lines = 0;
    assert_int_equal(read_all(f, 0, &lines), 2);
    cg_record_close(r);
}

static void test_one_writer_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    struct cg_err e = CG_ERR_INIT;
    assert_null(cg_record_open(f->dir, &f->options, &e));
    assert_int_equal(e.code, CG_CONFLICT);
    cg_record_close(r);
    cg_record_close(must_open(f));
}

static void test_a_record_is_not_opened_for_another_sandbox(void **state)
{
    struct fixture *f = *state;
    cg_record_close(must_open(f));
    f->options.sandbox = "cage-bbbbbbbbbb";
    struct cg_err e = CG_ERR_INIT;
    assert_null(cg_record_open(f->dir, &f->options, &e));
    assert_int_equal(e.code, CG_CONFLICT);
}

static void test_past_the_quota_bulk_is_counted_and_told_and_commands_fit(void **state)
{
    struct fixture *f = *state;
    f->options.quota_bytes = 100000;
    f->options.backlog_bytes = 1 << 20;
    struct cg_record *r = must_open(f);
    unsigned told = 0;
    for (unsigned i = 0; i < 1000; i++)
        told += add(r, CG_REC_TERMINAL, i) != 0;
    assert_true(told < 500); /* half of the quota for one type */
    unsigned files = 0;
    for (unsigned i = 0; i < 1000; i++)
        files += add(r, CG_REC_FILE_OP, i) != 0;
    assert_true(files > 100); /* the flood of one type leaves room for another */
    for (unsigned i = 0; i < 100; i++)
        assert_true(add(r, CG_REC_COMMAND, i) != 0);
    cg_record_tick(r, true);
    must_sync(r);
    struct cg_record_stats stats;
    cg_record_get_stats(r, &stats);
    assert_int_equal(stats.lost[CG_REC_TERMINAL], 1000 - told);
    assert_int_equal(stats.lost[CG_REC_FILE_OP], 1000 - files);
    size_t n = 0;
    CG_OWN(cg_drop_free) char *text = read_segment(f, 1, &n);
    char expect[128];
    cg_snprintf(expect, sizeof expect,
                "{\"reason\":\"quota\",\"lost\":{\"file_op\":%u,\"terminal\":%u}}", 1000 - files,
                1000 - told);
    assert_non_null(strstr(text, expect));
    cg_record_close(r);
}

static void test_a_backlog_is_bounded_and_what_is_lost_is_counted(void **state)
{
    struct fixture *f = *state;
    f->options.backlog_bytes = 20000;
    struct cg_record *r = must_open(f);
    unsigned told = 0;
    for (unsigned i = 0; i < 10000; i++)
        told += add(r, CG_REC_FILE_OP, i) != 0;
    assert_true(cg_record_busy(r));
    assert_true(told < 300);
    assert_true(add(r, CG_REC_LIFECYCLE, 0) != 0);
    must_sync(r);
    assert_false(cg_record_busy(r));
    cg_record_tick(r, true);
    must_sync(r);
    unsigned lines = 0;
    read_all(f, 0, &lines);
    assert_int_equal(lines, told + 2);
    cg_record_close(r);
}

/* RLIMIT_FSIZE makes writes fail as a full disk does. */
static void test_a_full_disk_degrades_and_recovers_with_an_exact_count(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    for (unsigned i = 0; i < 10; i++)
        add(r, CG_REC_COMMAND, i);
    must_sync(r);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = {.rlim_cur = 3000, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (unsigned i = 0; i < 100; i++)
        add(r, CG_REC_COMMAND, i);
    struct cg_err e = CG_ERR_INIT;
    assert_false(cg_record_sync(r, &e));
    assert_int_equal(add(r, CG_REC_COMMAND, 0), 0);
    struct cg_record_stats stats;
    cg_record_get_stats(r, &stats);
    assert_true(stats.degraded);
    assert_int_equal(stats.durable_seq, 10);
    assert_int_equal(stats.lost[CG_REC_COMMAND], 101);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    cg_record_tick(r, true);
    must_sync(r);
    cg_record_get_stats(r, &stats);
    assert_false(stats.degraded);
    assert_int_equal(add(r, CG_REC_COMMAND, 1), 12);
    must_sync(r);
    unsigned lines = 0;
    assert_int_equal(read_all(f, 0, &lines), 12);
    size_t n = 0;
    CG_OWN(cg_drop_free) char *text = read_segment(f, 1, &n);
    assert_non_null(strstr(text, "\"lost\":{\"command\":101"));
    cg_record_close(r);
}

static void test_a_line_over_the_maximum_is_lost_and_told(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    CG_OWN(cg_drop_free) char *big = cg_alloc(CG_RECORD_LINE_MAX + 1);
    memset(big, 'x', CG_RECORD_LINE_MAX);
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_COMMAND, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(w, "argv", big);
    assert_int_equal(cg_record_end(r), 0);
    cg_record_tick(r, true);
    must_sync(r);
    unsigned lines = 0;
    assert_int_equal(read_all(f, 0, &lines), 1);
    cg_record_close(r);
}

static void test_damage_in_the_middle_stays_and_the_record_goes_on_behind_it(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    for (unsigned i = 0; i < 100000; i++) {
        add(r, CG_REC_COMMAND, i);
        if (i % 1000 == 0)
            must_sync(r);
    }
    must_sync(r);
    cg_record_close(r);
    char path[128];
    cg_snprintf(path, sizeof path, "%s/000001.jsonl", f->path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\0\0\0\0", 4, 1000), 4);
    close(fd);
    r = must_open(f);
    assert_int_equal(cg_record_durable(r), 100000);
    assert_int_equal(add(r, CG_REC_LIFECYCLE, 0), 100002);
    must_sync(r);
    cg_record_close(r);
    size_t n = 0;
    CG_OWN(cg_drop_free) char *text = read_segment(f, 2, &n);
    assert_non_null(strstr(text, "\"reason\":\"damaged\",\"segment\":1,\"offset\":"));
    struct cg_err e = CG_ERR_INIT;
    struct cg_record_reader *reader = cg_record_reader_open(f->dir, 0, &e);
    struct cg_slice got;
    struct cg_record_line line;
    unsigned lines = 0;
    while (cg_record_read(reader, UINT64_MAX, &got, &line, &e) == CG_RECORD_LINE)
        lines++;
    assert_int_equal(lines, 100001);
    assert_int_equal(cg_record_reader_damaged(reader), 1);
    cg_record_reader_close(reader);
}

static void test_a_reader_follows_a_growing_record_up_to_the_limit(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 2000;
    struct cg_err e = CG_ERR_INIT;
    struct cg_record_reader *reader = cg_record_reader_open(f->dir, 0, &e);
    struct cg_slice text;
    struct cg_record_line line;
    assert_int_equal(cg_record_read(reader, UINT64_MAX, &text, &line, &e), CG_RECORD_END);
    struct cg_record *r = must_open(f);
    uint64_t seen = 0;
    for (unsigned i = 1; i <= 200; i++) {
        add(r, CG_REC_COMMAND, i);
        must_sync(r);
        if (i % 3 == 0)
            continue;
        while (cg_record_read(reader, i - 1, &text, &line, &e) == CG_RECORD_LINE)
            assert_int_equal(line.seq, ++seen);
        assert_int_equal(seen, i - 1);
    }
    cg_record_reader_close(reader);
    cg_record_close(r);
}

static void test_what_a_guest_says_cannot_forge_a_line(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    static const char evil[] =
        "x\n{\"seq\":2,\"t\":1,\"type\":\"lifecycle\"}\n\x1b[2J\0\xff\xe2\x80\xae";
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_FILE_OP, CG_SRC_GUEST, NULL);
    cg_jsonw_kstrn(w, "path", evil, sizeof evil - 1);
    cg_record_end(r);
    must_sync(r);
    unsigned lines = 0;
    assert_int_equal(read_all(f, 0, &lines), 1);
    size_t n = 0;
    CG_OWN(cg_drop_free) char *text = read_segment(f, 1, &n);
    assert_int_equal(strlen(text), n);
    for (size_t i = 0; i < n; i++)
        assert_true((text[i] >= 0x20 || text[i] == '\n' || (text[i] & 0x80)) && text[i] != 0x7f);
    cg_record_close(r);
}

static void test_the_parser_of_lines_takes_only_what_the_writer_writes(void **state)
{
    (void)state;
    static const char good[] =
        "{\"seq\":17,\"t\":23,\"ts\":\"2026-01-02T03:04:07.989343Z\",\"type\":"
        "\"command\",\"src\":\"host\",\"session\":null,\"data\":{\"a\":1}}";
    struct cg_record_line line;
    assert_true(cg_record_line_parse(cg_slice_of(good), &line));
    assert_int_equal(line.seq, 17);
    assert_int_equal(line.t, 23);
    assert_true(cg_slice_eq(line.type, "command"));
    assert_true(cg_slice_eq(line.data, "{\"a\":1}"));
    for (size_t n = 0; n < sizeof good - 1; n++)
        assert_false(cg_record_line_parse((struct cg_slice){good, n}, &line));
    static const char *const bad[] = {
        "{\"seq\":017,\"t\":23,\"ts\":\"x\",\"type\":\"c\",\"src\":\"h\",\"session\":null,\"data\":"
        "{}}",
        "{\"seq\":0,\"t\":23,\"ts\":\"x\",\"type\":\"c\",\"src\":\"h\",\"session\":null,\"data\":{}"
        "}",
        "{\"seq\":-1,\"t\":23,\"ts\":\"x\",\"type\":\"c\",\"src\":\"h\",\"session\":null,\"data\":{"
        "}}",
        "{\"seq\":99999999999999999999,\"t\":23,\"ts\":\"x\",\"type\":\"c\",\"src\":\"h\","
        "\"session\":null,"
        "\"data\":{}}",
        "{\"seq\":1,\"t\":23,\"ts\":\"x\",\"type\":\"c\",\"src\":\"h\",\"session\":\"\",\"data\":{}"
        "}",
        "{\"seq\":1,\"t\":23,\"ts\":\"x\",\"type\":\"c\",\"src\":\"h\",\"session\":null,\"data\":[]"
        "}",
        "{\"seq\":1,\"t\":23,\"ts\":\"x\",\"type\":\"c\\\"\",\"src\":\"h\",\"session\":null,"
        "\"data\":{}}",
    };
    for (size_t i = 0; i < CG_COUNT(bad); i++)
        assert_false(cg_record_line_parse(cg_slice_of(bad[i]), &line));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_lines_come_back_in_order_and_whole),
        T(test_every_number_is_found_over_many_segments),
        T(test_segments_are_chained_by_hash_also_over_a_reopen),
        T(test_a_torn_end_is_cut_and_told),
        T(test_a_half_made_segment_is_made_again),
        T(test_one_writer_at_a_time),
        T(test_a_record_is_not_opened_for_another_sandbox),
        T(test_past_the_quota_bulk_is_counted_and_told_and_commands_fit),
        T(test_a_backlog_is_bounded_and_what_is_lost_is_counted),
        T(test_a_full_disk_degrades_and_recovers_with_an_exact_count),
        T(test_a_line_over_the_maximum_is_lost_and_told),
        T(test_damage_in_the_middle_stays_and_the_record_goes_on_behind_it),
        T(test_a_reader_follows_a_growing_record_up_to_the_limit),
        T(test_what_a_guest_says_cannot_forge_a_line),
        cmocka_unit_test(test_the_parser_of_lines_takes_only_what_the_writer_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
