/* Blobs' promises: what is put is found again under the hash of its bytes, is on disk before a line
 * can name it, is never another content, and leaves only after the record says so. */
#include "check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    cg_snprintf(f->path, sizeof f->path, "/tmp/cg-blob-XXXXXX");
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

static void put(struct cg_record *r, struct cg_slice bytes, char name[CG_BLOB_NAME])
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_record_put_blob(r, bytes, name, &e))
        fail_msg("put: %s", e.text);
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_FILE_OP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(w, "blob", name);
    assert_true(cg_record_end(r) > 0);
}

static void sync_now(struct cg_record *r)
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_record_sync(r, &e))
        fail_msg("sync: %s", e.text);
}

static enum cg_code look(struct fixture *f, const char *name, struct cg_slice want)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf got;
    cg_buf_init(&got, CG_BLOB_MAX);
    if (!cg_blob_get(f->dir, name, CG_BLOB_MAX, &got, &e)) {
        assert_int_equal(got.n, 0);
        return e.code;
    }
    assert_int_equal(got.n, want.n);
    assert_int_equal(want.n ? memcmp(got.p, want.p, want.n) : 0, 0);
    return CG_OK;
}

/* Bytes that do not compress. */
static struct cg_slice noise(char *p, size_t n, unsigned seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (char)x;
    }
    return (struct cg_slice){p, n};
}

static void test_content_comes_back_under_the_hash_of_its_bytes(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    char name[CG_BLOB_NAME];
    static char large[3 << 20];
    const struct cg_slice contents[] = {
        {"abc", 3}, {NULL, 0}, noise(large, sizeof large, 1), {large, 65536}};
    char names[CG_COUNT(contents)][CG_BLOB_NAME];
    for (size_t i = 0; i < CG_COUNT(contents); i++) {
        put(r, contents[i], names[i]);
        put(r, contents[i], name); /* twice is once */
        assert_string_equal(name, names[i]);
    }
    assert_string_equal(names[0],
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sync_now(r);
    for (size_t i = 0; i < CG_COUNT(contents); i++)
        assert_int_equal(look(f, names[i], contents[i]), CG_OK);
    cg_record_close(r);
}

static void test_what_was_not_flushed_is_neither_named_nor_kept(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    char kept[CG_BLOB_NAME], gone[CG_BLOB_NAME];
    put(r, cg_slice_of("kept"), kept);
    sync_now(r);
    put(r, cg_slice_of("gone"), gone);
    assert_int_equal(look(f, gone, cg_slice_of("gone")), CG_NOT_FOUND);
    cg_record_close(r); /* as a crash: without sync */
    r = must_open(f);
    assert_int_equal(look(f, kept, cg_slice_of("kept")), CG_OK);
    assert_int_equal(look(f, gone, cg_slice_of("gone")), CG_NOT_FOUND);
    put(r, cg_slice_of("gone"), gone); /* and it can be put again */
    sync_now(r);
    assert_int_equal(look(f, gone, cg_slice_of("gone")), CG_OK);
    cg_record_close(r);
}

static void test_what_a_crash_left_half_made_is_removed(void **state)
{
    struct fixture *f = *state;
    char name[CG_BLOB_NAME];
    struct cg_record *r = must_open(f);
    put(r, cg_slice_of("one"), name);
    sync_now(r);
    cg_record_close(r);
    CG_OWN(cg_drop_free) char *left = cg_format("%s/blobs/%064d.new", f->path, 0);
    CG_OWN(cg_drop_fd) int fd = open(left, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    r = must_open(f);
    put(r, cg_slice_of("two"), name);
    sync_now(r);
    assert_false(cg_fs_exists(left));
    cg_record_close(r);
}

static void test_changed_bytes_are_never_given(void **state)
{
    struct fixture *f = *state;
    char one[CG_BLOB_NAME], two[CG_BLOB_NAME];
    static char text[200000];
    memset(text, 'x', sizeof text);
    struct cg_record *r = must_open(f);
    put(r, (struct cg_slice){text, sizeof text}, one);
    text[7] = 'y';
    put(r, (struct cg_slice){text, sizeof text}, two);
    sync_now(r);
    cg_record_close(r);
    CG_OWN(cg_drop_free) char *a = cg_format("%s/blobs/%s.zst", f->path, one);
    CG_OWN(cg_drop_free) char *b = cg_format("%s/blobs/%s.zst", f->path, two);
    /* another content under the name */
    assert_int_equal(rename(b, a), 0);
    assert_int_equal(look(f, one, cg_slice_of("")), CG_INVALID);
    /* any byte */
    struct stat st;
    assert_int_equal(stat(a, &st), 0);
    CG_OWN(cg_drop_fd) int fd = open(a, O_RDWR);
    for (off_t i = 0; i < st.st_size; i++) {
        unsigned char was, is;
        assert_int_equal(pread(fd, &was, 1, i), 1);
        is = was ^ 0x10;
        assert_int_equal(pwrite(fd, &is, 1, i), 1);
        enum cg_code code = look(f, two, (struct cg_slice){text, sizeof text});
        assert_true(code == CG_NOT_FOUND);
        assert_int_equal(look(f, one, cg_slice_of("")), CG_INVALID);
        assert_int_equal(pwrite(fd, &was, 1, i), 1);
    }
    /* any end */
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        assert_int_equal(ftruncate(fd, n), 0);
        assert_int_equal(look(f, one, cg_slice_of("")), CG_INVALID);
    }
    /* no file */
    assert_int_equal(unlink(a), 0);
    assert_int_equal(symlink("/dev/zero", a), 0);
    assert_int_not_equal(look(f, one, cg_slice_of("")), CG_OK);
    assert_int_equal(look(f, "../../../../etc/passwd", cg_slice_of("")), CG_INVALID);
}

static void test_content_is_bounded_when_put_and_when_read(void **state)
{
    struct fixture *f = *state;
    f->options.blobs.max_bytes = 1000;
    struct cg_record *r = must_open(f);
    struct cg_err e = CG_ERR_INIT;
    static char text[5000];
    char name[CG_BLOB_NAME];
    assert_false(cg_record_put_blob(r, (struct cg_slice){text, 1001}, name, &e));
    assert_int_equal(e.code, CG_TOO_LARGE);
    put(r, (struct cg_slice){text, 1000}, name);
    sync_now(r);
    for (size_t max = 0; max < 1000; max += 111) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        cg_buf_init(&b, 1 << 20);
        assert_false(cg_blob_get(f->dir, name, max, &b, &e));
        assert_int_equal(e.code, CG_TOO_LARGE);
        CG_OWN(cg_drop_buf) struct cg_buf small;
        cg_buf_init(&small, max);
        assert_false(cg_blob_get(f->dir, name, 1000, &small, &e));
        assert_int_equal(e.code, CG_TOO_LARGE);
    }
    cg_record_close(r);
}

/* The names in the `gap` lines with reason `thinned`, one after the other. */
static unsigned told_thinned(struct fixture *f, char names[][CG_BLOB_NAME], unsigned max)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_slice text;
    struct cg_record_line line;
    unsigned n = 0;
    struct cg_record_reader *reader = cg_record_reader_open(f->dir, 0, &e);
    assert_non_null(reader);
    while (cg_record_read(reader, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(line.data, NULL, NULL);
        if (!cg_streq(cg_json_str(data, "reason"), "thinned"))
            continue;
        for (const struct cg_json *x = cg_json_get(data, "blobs")->child; x; x = x->next) {
            assert_true(n < max);
            memcpy(names[n++], x->str.p, CG_BLOB_NAME);
        }
    }
    cg_record_reader_close(reader);
    return n;
}

static void test_past_the_quota_the_oldest_leave_and_the_record_says_which(void **state)
{
    struct fixture *f = *state;
    f->options.blobs.quota_bytes = 40 * 4096;
    struct cg_record *r = must_open(f);
    char names[60][CG_BLOB_NAME], told[60][CG_BLOB_NAME];
    char text[3000], first[3000];
    for (unsigned i = 0; i < 60; i++) {
        struct cg_slice bytes = noise(text, sizeof text, i + 10);
        put(r, bytes, names[i]);
        if (i == 0)
            memcpy(first, text, sizeof first);
        else /* named again and again: never the oldest */
            put(r, (struct cg_slice){first, sizeof first}, names[0]);
        sync_now(r);
    }
    unsigned n = told_thinned(f, told, 60);
    assert_int_equal(n, 60 - 40);
    for (unsigned i = 0; i < n; i++) {
        assert_string_equal(told[i], names[i + 1]); /* in their order */
        assert_int_equal(look(f, told[i], cg_slice_of("")), CG_NOT_FOUND);
    }
    for (unsigned i = 0; i < 60; i++)
        if (i == 0 || i > n)
            assert_int_equal(look(f, names[i], noise(text, sizeof text, i + 10)), CG_OK);
    cg_record_close(r);
    /* the order outlives the writer */
    r = must_open(f);
    put(r, noise(text, sizeof text, 500), told[0]);
    sync_now(r);
    assert_int_equal(look(f, names[0], noise(text, sizeof text, 10)), CG_OK);
    assert_int_equal(look(f, names[n + 1], noise(text, sizeof text, n + 11)), CG_NOT_FOUND);
    cg_record_close(r);
}

static void test_a_failed_flush_keeps_no_blob_and_no_line(void **state)
{
    struct fixture *f = *state;
    struct cg_record *r = must_open(f);
    struct cg_err e = CG_ERR_INIT;
    char name[CG_BLOB_NAME], other[CG_BLOB_NAME];
    put(r, cg_slice_of("here"), other);
    sync_now(r);
    put(r, cg_slice_of("lost"), name);
    /* the disk: the waiting file is gone when the flush comes */
    CG_OWN(cg_drop_free) char *path = cg_format("%s/blobs/%s.new", f->path, name);
    assert_int_equal(unlink(path), 0);
    assert_false(cg_record_sync(r, &e));
    assert_int_equal(look(f, name, cg_slice_of("lost")), CG_NOT_FOUND);
    uint64_t last = 0;
    assert_true(cg_record_last_seq(f->dir, &last, &e));
    assert_int_equal(last, 1);
    cg_record_tick(r, true); /* the gap, and all is well again */
    sync_now(r);
    put(r, cg_slice_of("lost"), name);
    sync_now(r);
    assert_int_equal(look(f, name, cg_slice_of("lost")), CG_OK);
    cg_record_close(r);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_content_comes_back_under_the_hash_of_its_bytes),
        T(test_what_was_not_flushed_is_neither_named_nor_kept),
        T(test_what_a_crash_left_half_made_is_removed),
        T(test_changed_bytes_are_never_given),
        T(test_content_is_bounded_when_put_and_when_read),
        T(test_past_the_quota_the_oldest_leave_and_the_record_says_which),
        T(test_a_failed_flush_keeps_no_blob_and_no_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
