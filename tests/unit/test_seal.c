/* The seals' promises: what was sealed and left alone verifies, whatever was cut, changed, moved,
 * exchanged or rolled back is found and named with its place; sealing goes on after any crash. */
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "record/export.h"
#include "record/reader.h"
#include "record/record.h"
#include "record/span.h"
#include "record/verify.h"

struct fixture {
    char path[64], record[96], memory[96];
    int dir;
    struct cg_record_options options;
    struct cg_seal_key key;
    char said[8192]; /* findings of the last verification */
    struct cg_verify_result result;
};

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    struct cg_err e = CG_ERR_INIT;
    cg_snprintf(f->path, sizeof f->path, "/tmp/cg-seal-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    cg_snprintf(f->record, sizeof f->record, "%s/record", f->path);
    cg_snprintf(f->memory, sizeof f->memory, "%s/memory", f->path);
    assert_int_equal(mkdir(f->record, 0700), 0);
    f->dir = open(f->record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->dir >= 0);
    f->options = (struct cg_record_options){.sandbox = "cage-aaaaaaaaaa", .segment_bytes = 4000};
    assert_true(cg_seal_key_load(f->path, &f->key, &e));
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

/* Appends events first..last, one flush each. */
static void append(struct fixture *f, unsigned first, unsigned last)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_record *r = cg_record_open(f->dir, &f->options, &e);
    if (!r)
        fail_msg("open: %s", e.text);
    for (unsigned i = first; i <= last; i++) {
        struct cg_jsonw *w = cg_record_begin(r, CG_REC_COMMAND, CG_SRC_HOST, NULL);
        cg_jsonw_kint(w, "i", i);
        cg_jsonw_kstr(w, "path", "/workspace/src/file.c and a little more text of no use");
        assert_int_equal(cg_record_end(r), i);
        assert_true(cg_record_sync(r, &e));
    }
    cg_record_close(r);
}

static bool seal(struct fixture *f, uint64_t limit, struct cg_err *e)
{
    const struct cg_sealer_options o = {f->record, f->memory, &f->key, limit};
    *e = (struct cg_err)CG_ERR_INIT;
    return cg_seal_run(&o, e);
}

static void must_seal(struct fixture *f, uint64_t limit)
{
    struct cg_err e = CG_ERR_INIT;
    if (!seal(f, limit, &e))
        fail_msg("seal: %s", e.text);
}

static void take_finding(void *ctx, const char *text)
{
    struct fixture *f = ctx;
    size_t n = strlen(f->said);
    snprintf(f->said + n, sizeof f->said - n, "%s\n", text);
}

/* Findings, with the server's memory or without. */
static uint64_t verify(struct fixture *f, bool with_memory)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_seal memory;
    struct cg_digest line;
    struct cg_verify_options o = {
        .key = f->key.text, .sandbox = "cage-aaaaaaaaaa", .told = take_finding, .ctx = f};
    if (with_memory && cg_seal_read(AT_FDCWD, f->memory, &memory, &line, &e))
        o.memory = &memory;
    f->said[0] = '\0';
    if (!cg_verify(f->dir, &o, &f->result, &e))
        fail_msg("verify: %s", e.text);
    return f->result.findings;
}

static void must_be_fine(struct fixture *f)
{
    if (verify(f, true) != 0)
        fail_msg("found: %s", f->said);
}

static void must_find(struct fixture *f, bool with_memory, const char *text)
{
    if (verify(f, with_memory) == 0)
        fail_msg("nothing was found, not: %s", text);
    if (!strstr(f->said, text))
        fail_msg("not \"%s\" but: %s", text, f->said);
}

static char *path_of(struct fixture *f, const char *name)
{
    return cg_format("%s/%s", f->record, name);
}

static void copy_file(struct fixture *f, const char *from, const char *to)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *a = path_of(f, from);
    CG_OWN(cg_drop_free) char *b = path_of(f, to);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    assert_true(cg_fs_slurp(a, 1 << 24, &text, &n, &e));
    assert_true(cg_fs_replace(b, text, n, 0600, &e));
}

static void move_file(struct fixture *f, const char *from, const char *to)
{
    CG_OWN(cg_drop_free) char *a = path_of(f, from);
    CG_OWN(cg_drop_free) char *b = path_of(f, to);
    assert_int_equal(rename(a, b), 0);
}

static void drop_file(struct fixture *f, const char *name)
{
    CG_OWN(cg_drop_free) char *a = path_of(f, name);
    assert_int_equal(unlink(a), 0);
}

static bool has_file(struct fixture *f, const char *name)
{
    CG_OWN(cg_drop_free) char *a = path_of(f, name);
    return cg_fs_exists(a);
}

/* Writes a segment anew, plain, with its lines as `edit` wants them. */
static void rewrite(struct fixture *f, uint32_t segment,
                    void (*edit)(char **lines, size_t *n, unsigned at), unsigned at)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_segment_header h;
    size_t length = 0;
    char name[CG_SPAN_NAME], packed[CG_SPAN_NAME];
    struct cg_span *s = cg_span_open(f->dir, segment, &h, &length, &e);
    assert_non_null(s);
    uint64_t size = 0;
    assert_true(cg_span_size(s, &size, &e));
    CG_OWN(cg_drop_free) char *text = cg_alloc((size_t)size + 1);
    assert_int_equal(cg_span_pread(s, text, (size_t)size, 0), (ssize_t)size);
    cg_span_close(s);
    char *lines[400] = {NULL};
    size_t n = 0;
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        lines[n++] = cg_strndup(p, strcspn(p, "\n"));
    edit(lines, &n, at);
    cg_segment_name(segment, name);
    cg_span_name(segment, packed);
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, 1 << 24);
    for (size_t i = 0; i < n; i++) {
        cg_buf_addf(&out, "%s\n", lines[i]);
        free(lines[i]);
    }
    CG_OWN(cg_drop_free) char *path = path_of(f, name);
    assert_true(cg_fs_replace(path, out.p, out.n, 0600, &e));
    if (has_file(f, packed))
        drop_file(f, packed);
}

/* Five segments, sealed and packed; 60 events. Segment 2 begins with event `*second`. */
static void make_record(struct fixture *f)
{
    append(f, 1, 40);
    must_seal(f, 40);
    append(f, 41, 60);
    must_seal(f, UINT64_MAX);
    assert_true(has_file(f, "000001.jsonl.zst") && !has_file(f, "000001.jsonl"));
    assert_true(has_file(f, "000003.jsonl.zst"));
    must_be_fine(f);
    assert_true(f->result.ended);
    assert_int_equal(f->result.events, 60);
    assert_int_equal(f->result.sealed_seq, 60);
}

static void test_a_sealed_record_verifies_and_reads_the_same(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_slice text;
    struct cg_record_line line;
    make_record(f);
    for (uint64_t after = 0; after <= 60; after++) {
        struct cg_record_reader *r = cg_record_reader_open(f->dir, after, &e);
        assert_non_null(r);
        for (uint64_t seq = after + 1; seq <= 60; seq++) {
            assert_int_equal(cg_record_read(r, UINT64_MAX, &text, &line, &e), CG_RECORD_LINE);
            assert_int_equal(line.seq, seq);
        }
        assert_int_equal(cg_record_read(r, UINT64_MAX, &text, &line, &e), CG_RECORD_END);
        assert_int_equal(cg_record_reader_damaged(r), 0);
        cg_record_reader_close(r);
    }
}

static void test_a_living_record_is_sealed_up_to_the_durable_line(void **state)
{
    struct fixture *f = *state;
    append(f, 1, 10);
    must_seal(f, 7);
    must_be_fine(f);
    assert_int_equal(f->result.sealed_seq, 7);
    assert_int_equal(f->result.last_seq, 10);
    assert_false(f->result.ended);
    for (unsigned i = 11; i <= 90; i++) { /* across segments, at every number */
        append(f, i, i);
        must_seal(f, i - 1);
        must_be_fine(f);
        assert_int_equal(f->result.sealed_seq, i - 1);
    }
}

static void edit_change(char **lines, size_t *n, unsigned at)
{
    (void)n;
    char *p = strstr(lines[at], "file.c");
    assert_non_null(p);
    p[0] = 'F';
}

static void edit_time(char **lines, size_t *n, unsigned at)
{
    (void)n;
    char *p = strstr(lines[at], "\"ts\":\"2");
    assert_non_null(p);
    p[10] = p[10] == '9' ? '8' : '9';
}

static void edit_delete(char **lines, size_t *n, unsigned at)
{
    free(lines[at]);
    for (size_t i = at; i + 1 < *n; i++)
        lines[i] = lines[i + 1];
    --*n;
}

static void edit_swap(char **lines, size_t *n, unsigned at)
{
    (void)n;
    char *t = lines[at];
    lines[at] = lines[at + 1];
    lines[at + 1] = t;
}

static void edit_insert(char **lines, size_t *n, unsigned at)
{
    for (size_t i = *n; i > at; i--)
        lines[i] = lines[i - 1];
    lines[at] = cg_strdup(lines[at + 1]);
    ++*n;
}

static void edit_cut(char **lines, size_t *n, unsigned at)
{
    while (*n > at)
        free(lines[--*n]);
}

static void edit_header(char **lines, size_t *n, unsigned at)
{
    (void)n;
    (void)at;
    char *p = strstr(lines[0], "\"epoch_mono\":");
    assert_non_null(p);
    p[13] = p[13] == '1' ? '2' : '1';
}

static void edit_none(char **lines, size_t *n, unsigned at)
{
    (void)lines;
    (void)n;
    (void)at;
}

static void test_an_edited_line_is_named(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    rewrite(f, 2, edit_none, 0); /* plain again, and the same */
    must_be_fine(f);
    struct cg_segment_header h;
    size_t length;
    struct cg_err e = CG_ERR_INIT;
    cg_span_close(cg_span_open(f->dir, 2, &h, &length, &e));
    char want[80];
    cg_snprintf(want, sizeof want, "segment 2, line 4 (seq %llu): it is not what was sealed",
                (unsigned long long)h.first_seq + 2);
    rewrite(f, 2, edit_change, 3);
    must_find(f, false, want);
}

static void test_a_line_whose_time_or_header_changed_is_found(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    rewrite(f, 3, edit_time, 2);
    must_find(f, false, "segment 3, line 3 (seq ");
    rewrite(f, 1, edit_header, 0);
    must_find(f, false, "segment 1, line 1: it is not what was sealed");
}

static void test_deleted_repeated_and_moved_lines_are_named(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    struct cg_segment_header h;
    size_t length;
    struct cg_err e = CG_ERR_INIT;
    cg_span_close(cg_span_open(f->dir, 2, &h, &length, &e));
    unsigned long long first = h.first_seq;
    char want[96];
    copy_file(f, "000002.jsonl.zst", "keep");
    rewrite(f, 2, edit_delete, 5); /* line 0 is the header */
    cg_snprintf(want, sizeof want, "segment 2: seq %llu to %llu are missing", first + 4, first + 4);
    must_find(f, false, want);
    drop_file(f, "000002.jsonl");
    copy_file(f, "keep", "000002.jsonl.zst");
    rewrite(f, 2, edit_swap, 5);
    cg_snprintf(want, sizeof want, "seq %llu stands behind seq %llu: repeated or out of order",
                first + 4, first + 5);
    must_find(f, false, want);
    drop_file(f, "000002.jsonl");
    copy_file(f, "keep", "000002.jsonl.zst");
    rewrite(f, 2, edit_insert, 5);
    cg_snprintf(want, sizeof want, "seq %llu stands behind seq %llu: repeated or out of order",
                first + 4, first + 4);
    must_find(f, false, want);
    drop_file(f, "000002.jsonl");
    copy_file(f, "keep", "000002.jsonl.zst");
    must_be_fine(f);
}

static void test_a_cut_end_is_named(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    uint32_t last = f->result.segments;
    rewrite(f, last, edit_cut, 3);
    must_find(f, false, "its end was cut off");
    must_find(f, false, "but was sealed up to seq 60");
}

static void test_a_missing_segment_or_seal_is_named(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    move_file(f, "000002.jsonl.zst", "keep");
    must_find(f, false, "segment 2 is missing");
    move_file(f, "keep", "000002.jsonl.zst");
    move_file(f, "000002.seal", "keep");
    must_find(f, false, "the seal of segment 2 is missing");
    move_file(f, "keep", "000002.seal");
    must_be_fine(f);
    /* the last one: only the server's memory knows */
    uint32_t last = f->result.segments;
    CG_OWN(cg_drop_free) char *segment = cg_format("%06u.jsonl.zst", last);
    CG_OWN(cg_drop_free) char *mark = cg_format("%06u.seal", last);
    drop_file(f, segment);
    drop_file(f, mark);
    must_find(f, true, "is missing");
    must_find(f, true, "rolled back");
    assert_int_equal(verify(f, false), 0);
    assert_false(f->result.ended); /* and nobody says that it is complete */
}

static void test_an_exchanged_segment_is_named(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    copy_file(f, "000002.jsonl.zst", "keep");
    copy_file(f, "000003.jsonl.zst", "000002.jsonl.zst");
    must_find(f, false, "segment 2: its header says segment 3");
    copy_file(f, "keep", "000002.jsonl.zst");
    must_be_fine(f);
    /* with its seal, from another record of the same sandbox and key */
    char other[] = "/tmp/cg-seal-other-XXXXXX";
    assert_non_null(mkdtemp(other));
    struct fixture g = *f;
    cg_snprintf(g.record, sizeof g.record, "%s", other);
    cg_snprintf(g.memory, sizeof g.memory, "%s/memory", other);
    g.dir = open(other, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    append(&g, 1, 60);
    must_seal(&g, UINT64_MAX);
    const char *const names[] = {"000002.jsonl.zst", "000002.seal", "000002.leaves"};
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        CG_OWN(cg_drop_free) char *from = cg_format("%s/%s", other, names[i]);
        CG_OWN(cg_drop_free) char *to = path_of(f, names[i]);
        assert_int_equal(rename(from, to), 0);
    }
    close(g.dir);
    must_find(f, false, "segment 2 begins at another epoch: it was exchanged");
    must_find(f, false, "the seal of segment 2 does not follow that of segment 1");
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fs_remove_tree(other, &e));
}

static void test_a_rolled_back_tail_is_named(void **state)
{
    struct fixture *f = *state;
    append(f, 1, 10);
    must_seal(f, 10);
    copy_file(f, "000001.jsonl", "old");
    copy_file(f, "000001.seal", "old.seal");
    copy_file(f, "000001.leaves", "old.leaves");
    append(f, 11, 12);
    must_seal(f, 12);
    copy_file(f, "old", "000001.jsonl"); /* lines only */
    must_find(f, false, "segment 1 ends with seq 10, but was sealed up to seq 12: its end was cut");
    struct cg_err e = CG_ERR_INIT;
    assert_false(seal(f, UINT64_MAX, &e)); /* nothing is signed over it */
    assert_int_equal(e.code, CG_CONFLICT);
    copy_file(f, "old.seal", "000001.seal"); /* and the seal: only the server knows */
    copy_file(f, "old.leaves", "000001.leaves");
    assert_int_equal(verify(f, false), 0);
    must_find(f, true, "the record ends with seq 10, but the server sealed it up to seq 12");
    assert_false(seal(f, UINT64_MAX, &e));
    assert_int_equal(e.code, CG_CONFLICT);
    append(f, 11, 13); /* another story behind it */
    must_find(f, true, "the server sealed this record up to seq 12");
    assert_false(seal(f, 13, &e));
    assert_int_equal(e.code, CG_CONFLICT);
}

static void test_a_seal_of_another_key_is_named(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *key = cg_format("%s/signing.key", f->path);
    assert_int_equal(unlink(key), 0);
    struct cg_seal_key old = f->key;
    assert_true(cg_seal_key_load(f->path, &f->key, &e));
    assert_string_not_equal(old.text, f->key.text);
    must_find(f, false, "was made with another key");
    assert_false(seal(f, UINT64_MAX, &e));
    f->key = old;
    must_be_fine(f);
}

/* Every byte of a seal, turned: it verifies no longer. */
static void test_a_changed_seal_is_found(void **state)
{
    struct fixture *f = *state;
    append(f, 1, 5);
    must_seal(f, UINT64_MAX);
    must_be_fine(f);
    CG_OWN(cg_drop_free) char *path = path_of(f, "000001.seal");
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDWR);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t i = 0; i < st.st_size; i++) {
        unsigned char was, is;
        assert_int_equal(pread(fd, &was, 1, i), 1);
        is = was ^ 1;
        assert_int_equal(pwrite(fd, &is, 1, i), 1);
        if (verify(f, false) == 0)
            fail_msg("byte %lld of the seal does not matter", (long long)i);
        assert_int_equal(pwrite(fd, &was, 1, i), 1);
    }
    must_be_fine(f);
}

/* Every byte of a packed segment, turned: no other lines verify. Every end. */
static void test_a_changed_packed_segment_is_found(void **state)
{
    struct fixture *f = *state;
    append(f, 1, 5);
    must_seal(f, UINT64_MAX);
    CG_OWN(cg_drop_free) char *path = path_of(f, "000001.jsonl.zst");
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDWR);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    unsigned harmless = 0;
    for (off_t i = 0; i < st.st_size; i++) {
        unsigned char was, is;
        assert_int_equal(pread(fd, &was, 1, i), 1);
        is = was ^ 0x20;
        assert_int_equal(pwrite(fd, &is, 1, i), 1);
        harmless += verify(f, false) == 0;
        assert_int_equal(pwrite(fd, &was, 1, i), 1);
    }
    /* a bit or two of zstd's own headers mean nothing: the lines are the same then */
    assert_true(harmless <= 4);
    must_be_fine(f);
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        assert_int_equal(ftruncate(fd, n), 0);
        assert_true(verify(f, false) > 0);
    }
}

static void edit_redact(char **lines, size_t *n, unsigned at)
{
    (void)n;
    struct cg_record_line line;
    char hash[CG_DIGEST_TEXT];
    assert_true(cg_record_line_parse(cg_slice_of(lines[at]), &line));
    struct cg_digest d = cg_digest_of(line.data);
    cg_digest_text(&d, hash);
    char *stub = cg_format("%.*s{\"redacted\":\"%s\",\"reason\":\"secret\"}}",
                           (int)(line.data.p - lines[at]), lines[at], hash);
    free(lines[at]);
    lines[at] = stub;
}

static void test_content_can_be_taken_out_and_the_record_still_verifies(void **state)
{
    struct fixture *f = *state;
    make_record(f);
    rewrite(f, 2, edit_redact, 4);
    must_be_fine(f);
    assert_int_equal(f->result.redacted, 1);
    rewrite(f, 2, edit_time, 4); /* but its head cannot be changed */
    must_find(f, false, "segment 2, line 5 (seq ");
}

/* Killed at any step, again and again: the record verifies, and the end is the same. */
static void test_a_sealer_killed_anywhere_goes_on(void **state)
{
    struct fixture *f = *state;
    append(f, 1, 120);
    unsigned killed = 0;
    for (unsigned us = 0; us < 40000; us = us * 5 / 4 + 50) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct cg_err e = CG_ERR_INIT;
            _exit(seal(f, UINT64_MAX - 1, &e) ? 0 : 1);
        }
        usleep(us);
        kill(child, SIGKILL);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status) != 0;
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        must_be_fine(f);
        assert_int_equal(f->result.events, 120);
    }
    assert_true(killed > 0);
    must_seal(f, UINT64_MAX);
    must_be_fine(f);
    assert_true(f->result.ended);
    assert_int_equal(f->result.sealed_seq, 120);
}

static void test_the_key_is_nobody_elses(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_seal_key again;
    struct stat st;
    CG_OWN(cg_drop_free) char *key = cg_format("%s/signing.key", f->path);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(cg_seal_key_load(f->path, &again, &e));
    assert_string_equal(again.text, f->key.text);
    assert_int_equal(chmod(key, 0644), 0);
    assert_false(cg_seal_key_load(f->path, &again, &e));
    assert_int_equal(e.code, CG_FORBIDDEN);
}

/* Unpacks an export into a new folder; its verification's findings, or -1 when it is refused. */
static int64_t try_export(struct fixture *f, const char *path, char *why)
{
    struct cg_err e = CG_ERR_INIT;
    char folder[] = "/tmp/cg-seal-import-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct fixture g = *f;
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY);
    CG_OWN(cg_drop_fd) int dir = open(folder, O_RDONLY | O_DIRECTORY);
    g.dir = dir;
    bool fine = cg_import(fd, dir, &e);
    int64_t findings = fine ? (int64_t)verify(&g, false) : -1;
    cg_snprintf(why, 512, "%.200s", fine ? g.said : e.text);
    f->result = g.result;
    assert_true(cg_fs_remove_tree(folder, &e));
    return findings;
}

static void test_an_export_verifies_anywhere_and_no_cut_of_it_does(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    char why[512], name[CG_BLOB_NAME];
    struct cg_record *r = cg_record_open(f->dir, &f->options, &e);
    assert_true(cg_record_put_blob(r, cg_slice_of("content"), name, &e));
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_FILE_OP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(w, "blob", name);
    cg_record_end(r);
    assert_true(cg_record_sync(r, &e));
    cg_record_close(r);
    append(f, 2, 40);
    must_seal(f, UINT64_MAX);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/out.tar", f->path);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(cg_export(f->dir, "cage-aaaaaaaaaa", fd, &e));
    if (try_export(f, path, why) != 0)
        fail_msg("%s", why);
    assert_true(f->result.ended);
    assert_int_equal(f->result.blobs, 1);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n -= n > 4096 ? 331 : 97) {
        assert_int_equal(ftruncate(fd, n), 0);
        assert_int_equal(try_export(f, path, why), -1);
        assert_true(strstr(why, "cut off") || strstr(why, "no export"));
    }
    close(fd);
}

/* A tar may say anything: nothing is made outside of the folder, or under another name. */
static void test_an_export_makes_only_the_files_of_a_record(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    char why[512];
    append(f, 1, 3);
    must_seal(f, UINT64_MAX);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/out.tar", f->path);
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(cg_export(f->dir, "cage-aaaaaaaaaa", fd, &e));
    unsigned char was[512], is[512];
    assert_int_equal(pread(fd, was, sizeof was, 0), 512);
    const char *const names[] = {"../000001.jsonl",  "/etc/000001.seal", "x/../../a",
                                 "x/blobs/../a.zst", "x/y/000001.seal",  "x/",
                                 "000001.seal",      "x/000001.seal/a",  "x/blobs/000001.seal"};
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        memcpy(is, was, sizeof is);
        memset(is, 0, 100);
        memcpy(is, names[i], strlen(names[i]));
        unsigned sum = 0;
        memset(is + 148, ' ', 8);
        for (size_t k = 0; k < sizeof is; k++)
            sum += is[k];
        char text[8];
        cg_snprintf(text, sizeof text, "%06o", sum);
        memcpy(is + 148, text, 7);
        assert_int_equal(pwrite(fd, is, sizeof is, 0), 512);
        /* "../000001.jsonl" is a folder ".." of the tar: its name is not used */
        if (i > 0)
            assert_int_equal(try_export(f, path, why), -1);
    }
    memcpy(is, was, sizeof is);
    is[156] = '2'; /* a symbolic link */
    assert_int_equal(pwrite(fd, is, sizeof is, 0), 512);
    assert_int_equal(try_export(f, path, why), -1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_sealed_record_verifies_and_reads_the_same),
        T(test_a_living_record_is_sealed_up_to_the_durable_line),
        T(test_an_edited_line_is_named),
        T(test_a_line_whose_time_or_header_changed_is_found),
        T(test_deleted_repeated_and_moved_lines_are_named),
        T(test_a_cut_end_is_named),
        T(test_a_missing_segment_or_seal_is_named),
        T(test_an_exchanged_segment_is_named),
        T(test_a_rolled_back_tail_is_named),
        T(test_a_seal_of_another_key_is_named),
        T(test_a_changed_seal_is_found),
        T(test_a_changed_packed_segment_is_found),
        T(test_content_can_be_taken_out_and_the_record_still_verifies),
        T(test_a_sealer_killed_anywhere_goes_on),
        T(test_the_key_is_nobody_elses),
        T(test_an_export_verifies_anywhere_and_no_cut_of_it_does),
        T(test_an_export_makes_only_the_files_of_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
