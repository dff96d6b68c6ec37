/* The index of a record and what is read by it: pages, sessions, the workspace at a number. What it
 * says is compared with a plain reading of the whole record. */
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "record/diff.h"
#include "record/overview.h"
#include "record/query.h"
#include "record/reader.h"
#include "record/record.h"
#include "record/span.h"
#include "record/workspace.h"

struct fixture {
    char path[64], index[96];
    int dir;
    struct cg_record *record;
};

static struct cg_err e;

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    char record[96];
    cg_snprintf(f->path, sizeof f->path, "/tmp/cg-replay-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    cg_snprintf(f->index, sizeof f->index, "%s/index", f->path);
    cg_snprintf(record, sizeof record, "%s/record", f->path);
    assert_int_equal(mkdir(record, 0700), 0);
    f->dir = open(record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct cg_record_options o = {.sandbox = "cage-aaaaaaaaaa", .segment_bytes = 20000};
    f->record = cg_record_open(f->dir, &o, &e);
    assert_non_null(f->record);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    cg_record_close(f->record);
    close(f->dir);
    assert_true(cg_fs_remove_tree(f->path, &e));
    free(f);
    return 0;
}

static uint64_t put(struct fixture *f, enum cg_record_type type, enum cg_record_src src,
                    const char *session, const char *data)
{
    return cg_record_append(f->record, type, src, session, cg_slice_of(data));
}

static struct cg_index *fresh(struct fixture *f)
{
    assert_true(cg_record_sync(f->record, &e));
    struct cg_index *ix = cg_index_open(f->index, &e);
    assert_non_null(ix);
    assert_true(cg_index_update(ix, f->dir, cg_record_durable(f->record), &e));
    return ix;
}

/* 3,000 lines of three sessions and none, in many segments. */
static void tell_much(struct fixture *f)
{
    static const char *const ids[] = {"sess-aaaaaaaa", "sess-bbbbbbbb", "sess-cccccccc", NULL};
    static const enum cg_record_type types[] = {CG_REC_COMMAND, CG_REC_FILE_OP, CG_REC_PROCESS,
                                                CG_REC_TERMINAL, CG_REC_NETWORK};
    uint32_t dice = 12345;
    for (unsigned i = 0; i < 3000; i++) {
        char data[160];
        dice = dice * 1103515245 + 12345;
        cg_snprintf(data, sizeof data, "{\"path\":\"/workspace/Dir%u/file%u.c\",\"n\":%u}",
                    (dice >> 16) % 7, (dice >> 20) % 50, i);
        put(f, types[(dice >> 8) % 5], CG_SRC_HOST, ids[(dice >> 24) % 4], data);
        if (i % 40 == 0)
            assert_true(cg_record_sync(f->record, &e));
    }
    assert_true(cg_record_sync(f->record, &e));
}

struct got {
    uint64_t seq[4000];
    size_t n;
};

static bool keep(void *ctx, const struct cg_record_line *line)
{
    struct got *g = ctx;
    assert_true(g->n < CG_COUNT(g->seq));
    g->seq[g->n++] = line->seq;
    return true;
}

/* All pages of a query. */
static struct got ask(struct fixture *f, const struct cg_index *ix, struct cg_query q)
{
    struct got g = {.n = 0};
    struct cg_query_end end = {.more = true};
    for (unsigned pages = 0; end.more; pages++) {
        size_t before = g.n;
        assert_true(cg_query_run(ix, f->dir, &q, keep, &g, &end, &e));
        assert_true(g.n - before <= q.limit);
        assert_true(end.next > q.after || !end.more);
        assert_true(pages < 4000);
        q.after = end.next;
    }
    return g;
}

/* The same by reading everything. */
static struct got read_all(struct fixture *f, const struct cg_query *q, const char *session)
{
    struct got g = {.n = 0};
    struct cg_record_reader *r = cg_record_reader_open(f->dir, q->after, &e);
    struct cg_slice text;
    struct cg_record_line line;
    while (cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        enum cg_record_type type = CG_REC_TYPE_COUNT;
        assert_true(cg_record_type_parse(line.type, &type));
        if (session && !cg_slice_eq(line.session, session))
            continue;
        if (q->types && !(q->types & UINT32_C(1) << type))
            continue;
        if (line.t < q->from || (q->to && line.t > q->to))
            continue;
        if (q->text.n && ((type == CG_REC_TERMINAL && !q->types) ||
                          !memmem(line.data.p, line.data.n, "Dir3", 4)))
            continue;
        g.seq[g.n++] = line.seq;
    }
    cg_record_reader_close(r);
    return g;
}

static void check_queries(struct fixture *f, const struct cg_index *ix)
{
    static const char *const ids[] = {NULL, "sess-aaaaaaaa", "sess-cccccccc"};
    static const uint32_t types[] = {0, 1u << CG_REC_COMMAND,
                                     1u << CG_REC_FILE_OP | 1u << CG_REC_TERMINAL};
    struct cg_index_mark middle;
    assert_int_equal(pread(ix->marks, &middle, sizeof middle, 20 * sizeof middle), sizeof middle);
    for (unsigned i = 0; i < CG_COUNT(ids) * CG_COUNT(types) * 8; i++) {
        const char *id = ids[i % CG_COUNT(ids)];
        struct cg_query q = {.limit = i % 2 ? 7 : 1000, .types = types[i / 3 % CG_COUNT(types)]};
        q.session = id ? cg_tally_find(&ix->tally, id) : CG_TALLY_NONE;
        q.after = i / 9 % 2 ? 777 : 0;
        q.from = i / 18 % 2 ? middle.t : 0;
        q.to = i / 36 % 2 ? middle.t + (middle.t / 3) : 0;
        q.text = cg_slice_of(i / 9 % 3 == 0 ? "dIR3" : "");
        struct got want = read_all(f, &q, id);
        struct got have = ask(f, ix, q);
        assert_int_equal(have.n, want.n);
        assert_memory_equal(have.seq, want.seq, want.n * sizeof want.seq[0]);
    }
}

/* The place of a page in what fits: told by its rank, found by how many come before it or by its
 * end. */
static void test_a_page_is_found_by_its_place_and_by_its_end(void **state)
{
    struct fixture *f = *state;
    tell_much(f);
    struct cg_index *ix = fresh(f);
    for (unsigned i = 0; i < 24; i++) {
        struct cg_query q = {.limit = 1000, .types = i % 2 ? 1u << CG_REC_FILE_OP : 0};
        struct cg_query_end end;
        struct got page = {.n = 0};
        const char *id = i % 3 ? "sess-bbbbbbbb" : NULL;
        q.session = id ? cg_tally_find(&ix->tally, id) : CG_TALLY_NONE;
        struct got all = read_all(f, &q, id);
        size_t at = all.n * i / 24;
        q.limit = 17;
        q.rank = true;
        q.skip = at;
        assert_true(cg_query_run(ix, f->dir, &q, keep, &page, &end, &e));
        assert_int_equal(page.n, CG_MIN(all.n - at, 17u));
        assert_memory_equal(page.seq, all.seq + at, page.n * sizeof page.seq[0]);
        assert_int_equal(end.rank, at);
        q.skip = 0;
        q.after = all.seq[at] - 1;
        assert_true(cg_query_run(ix, f->dir, &q, keep, &page, &end, &e));
        assert_int_equal(end.rank, at);
        q.after = 0;
        q.before = all.seq[at];
        q.last = true;
        page.n = 0;
        assert_true(cg_query_run(ix, f->dir, &q, keep, &page, &end, &e));
        assert_int_equal(page.n, CG_MIN(at, 17u));
        assert_memory_equal(page.seq, all.seq + at - page.n, page.n * sizeof page.seq[0]);
        assert_false(end.more);
    }
    cg_index_close(ix);
}

static void test_costs_are_asked_for_in_parts(void **state)
{
    struct fixture *f = *state;
    put(f, CG_REC_COST, CG_SRC_HOST, NULL,
        "{\"event\":\"ledger\",\"row\":{\"row\":\"compute\",\"nusd\":5}}");
    put(f, CG_REC_COST, CG_SRC_HOST, NULL, "{\"event\":\"budget_exceeded\",\"spent_nusd\":5}");
    put(f, CG_REC_COMMAND, CG_SRC_HOST, NULL, "{\"phase\":\"start\"}");
    struct cg_index *ix = fresh(f);
    struct cg_query q = {.limit = 9, .session = CG_TALLY_NONE, .types = 1u << CG_REC_COST};
    assert_int_equal(ask(f, ix, q).n, 2);
    q.cost = CG_QUERY_LEDGER;
    assert_int_equal(ask(f, ix, q).seq[0], 1);
    q.cost = CG_QUERY_BUDGET;
    q.text = cg_slice_of("Budget exc");
    assert_int_equal(ask(f, ix, q).n, 1);
    assert_int_equal(ask(f, ix, q).seq[0], 2);
    cg_index_close(ix);
}

/* Whatever moment is asked for, the sums are those of all lines that are not later. */
static void test_a_moment_adds_up_to_what_was_told_by_then(void **state)
{
    static const char *const lines[] = {
        "{\"phase\":\"start\"}",
        "{\"phase\":\"exit\",\"exit_code\":1}",
        "{\"event\":\"open\",\"call\":1}",
        "{\"event\":\"done\",\"cost_nusd\":700}",
        "{\"event\":\"ledger\",\"row\":{\"row\":\"compute\",\"nusd\":3}}",
        "{\"event\":\"deduction\",\"score\":64}",
        "{\"lost\":{\"process\":2}}"};
    static const enum cg_record_type types[] = {CG_REC_COMMAND,  CG_REC_COMMAND, CG_REC_LLM_CALL,
                                                CG_REC_LLM_CALL, CG_REC_COST,    CG_REC_TRUST,
                                                CG_REC_GAP};
    struct fixture *f = *state;
    tell_much(f);
    for (unsigned i = 0; i < 700; i++)
        put(f, types[i % 7], CG_SRC_HOST, NULL, lines[i % 7]);
    put(f, CG_REC_COST, CG_SRC_GUEST, NULL, lines[4]); /* a guest's word costs nothing */
    put(f, CG_REC_LLM_CALL, CG_SRC_CLAIM, NULL, lines[3]);
    struct cg_index *ix = fresh(f);
    struct cg_record_sum plain = {.calls = 0};
    uint64_t counts[CG_OVERVIEW_COLUMNS] = {0};
    struct cg_record_reader *r = cg_record_reader_open(f->dir, 0, &e);
    struct cg_slice text;
    struct cg_record_line line;
    int64_t last_t = -1;
    while (cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        enum cg_record_type type = CG_REC_TYPE_COUNT;
        struct cg_overview o;
        if (line.t > last_t && last_t >= 0 && (line.seq % 41 == 0 || line.seq > 3690)) {
            assert_true(cg_overview_make(ix, f->dir, last_t, CG_TALLY_NONE, 10, &o, &e));
            assert_int_equal(o.seq, line.seq - 1);
            assert_memory_equal(&o.sum, &plain, sizeof plain);
            assert_memory_equal(o.counts, counts, sizeof counts);
            cg_overview_finish(&o);
        }
        last_t = line.t;
        assert_true(cg_record_type_parse(line.type, &type));
        counts[cg_record_sum_add(&plain, &line, type) ? CG_REC_TYPE_COUNT : type]++;
    }
    cg_record_reader_close(r);
    struct cg_overview o;
    assert_true(cg_overview_make(ix, f->dir, -1, CG_TALLY_NONE, 50, &o, &e));
    assert_memory_equal(&o.sum, &plain, sizeof plain);
    assert_int_equal(o.sum.llm_nusd, 70000);
    assert_int_equal(o.sum.compute_nusd, 300);
    assert_int_equal(o.sum.score, 65);
    uint64_t sum = 0;
    for (unsigned i = 0; i < o.nslots * CG_OVERVIEW_COLUMNS; i++)
        sum += o.slots[i];
    assert_int_equal(sum, o.seq);
    cg_overview_finish(&o);
    cg_index_close(ix);
}

static void test_every_page_is_what_a_whole_reading_gives(void **state)
{
    struct fixture *f = *state;
    tell_much(f);
    struct cg_index *ix = fresh(f);
    assert_int_equal(ix->count, 3000);
    assert_true(ix->nsegments > 5);
    check_queries(f, ix);
    for (size_t i = 0; i + 1 < ix->nsegments; i++)
        assert_true(cg_span_pack(f->dir, ix->segments[i].number, &e));
    check_queries(f, ix); /* packed segments are read at the same places */
    cg_index_close(ix);
}

static void test_an_index_grows_with_its_record_and_outlives_damage_to_itself(void **state)
{
    struct fixture *f = *state;
    tell_much(f);
    struct cg_index *ix = fresh(f);
    put(f, CG_REC_COMMAND, CG_SRC_HOST, "sess-aaaaaaaa", "{\"more\":1}");
    cg_index_close(ix);
    ix = fresh(f);
    assert_int_equal(ix->count, 3001);
    uint64_t events = ix->tally.rows[cg_tally_find(&ix->tally, "sess-aaaaaaaa")].events;
    cg_index_close(ix);
    CG_OWN(cg_drop_free) char *times = cg_format("%s/marks", f->index);
    CG_OWN(cg_drop_free) char *state_file = cg_format("%s/state", f->index);
    assert_int_equal(truncate(times, 100), 0); /* behind what the state counts on */
    ix = fresh(f);
    assert_int_equal(ix->count, 3001);
    assert_int_equal(ix->tally.rows[cg_tally_find(&ix->tally, "sess-aaaaaaaa")].events, events);
    check_queries(f, ix);
    cg_index_close(ix);
    assert_int_equal(truncate(state_file, 50), 0);
    ix = fresh(f);
    assert_int_equal(ix->count, 3001);
    check_queries(f, ix);
    cg_index_close(ix);
}

static void test_nothing_behind_the_durable_number_is_indexed(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 10; i++)
        put(f, CG_REC_COMMAND, CG_SRC_HOST, NULL, "{\"a\":1}");
    assert_true(cg_record_sync(f->record, &e));
    struct cg_index *ix = cg_index_open(f->index, &e);
    assert_true(cg_index_update(ix, f->dir, 4, &e));
    assert_int_equal(ix->count, 4);
    assert_true(cg_index_update(ix, f->dir, UINT64_MAX, &e));
    assert_int_equal(ix->count, 10);
    cg_index_close(ix);
}

/* --- sessions --- */

static void test_a_session_is_what_its_lines_say(void **state)
{
    struct fixture *f = *state;
    const char *id = "sess-aaaaaaaa";
    put(f, CG_REC_SESSION, CG_SRC_HOST, id,
        "{\"event\":\"open\",\"kind\":\"agent\",\"agent_type\":\"codex\",\"how\":\"process\"}");
    put(f, CG_REC_LLM_CALL, CG_SRC_HOST, id,
        "{\"event\":\"open\",\"model\":\"m-1\",\"api\":\"responses\"}");
    put(f, CG_REC_LLM_CALL, CG_SRC_HOST, id,
        "{\"event\":\"close\",\"tokens_in\":100,\"tokens_out\":20,\"cost_nusd\":5000}");
    put(f, CG_REC_LLM_CALL, CG_SRC_HOST, id,
        "{\"event\":\"close\",\"tokens_in\":1,\"tokens_out\":2,\"cost_nusd\":null}");
    put(f, CG_REC_CLAIM, CG_SRC_CLAIM, id,
        "{\"type\":\"llm_call\",\"tokens_in\":9999,\"cost_nusd\":1}");
    put(f, CG_REC_LLM_CALL, CG_SRC_CLAIM, id, "{\"event\":\"close\",\"tokens_in\":9999}");
    put(f, CG_REC_SESSION, CG_SRC_HOST, id, "{\"event\":\"tally\",\"compute_nusd\":70}");
    put(f, CG_REC_SESSION, CG_SRC_HOST, id,
        "{\"event\":\"close\",\"status\":\"failed\",\"reason\":\"exit\",\"exit_code\":2,\"compute_"
        "nusd\":90}");
    struct cg_index *ix = fresh(f);
    const struct cg_session_row *r = &ix->tally.rows[cg_tally_find(&ix->tally, id)];
    assert_string_equal(r->agent, "codex");
    assert_string_equal(r->model, "m-1");
    assert_int_equal(r->tokens_in, 101);
    assert_int_equal(r->tokens_out, 22);
    assert_int_equal(r->llm_nusd, 5000);
    assert_int_equal(r->compute_nusd, 90);
    assert_int_equal(r->calls, 1);
    assert_int_equal(r->events, 8);
    assert_int_equal(r->status, CG_SESSION_FAILED);
    assert_int_equal(r->exit_code, 2);
    cg_index_close(ix);
}

static void test_the_end_of_the_sandbox_ends_what_its_warden_did_not(void **state)
{
    struct fixture *f = *state;
    put(f, CG_REC_SESSION, CG_SRC_HOST, "sess-aaaaaaaa", "{\"event\":\"open\",\"kind\":\"agent\"}");
    put(f, CG_REC_SESSION, CG_SRC_HOST, "sess-bbbbbbbb",
        "{\"event\":\"open\",\"kind\":\"terminal\"}");
    put(f, CG_REC_SESSION, CG_SRC_HOST, "sess-bbbbbbbb",
        "{\"event\":\"close\",\"status\":\"completed\"}");
    put(f, CG_REC_ERROR, CG_SRC_SERVER, NULL, "{\"code\":\"closed\"}");
    put(f, CG_REC_LIFECYCLE, CG_SRC_SERVER, NULL, "{\"event\":\"destroyed\",\"reason\":\"lost\"}");
    struct cg_index *ix = fresh(f);
    assert_int_equal(ix->tally.rows[0].status, CG_SESSION_FAILED);
    assert_string_equal(ix->tally.rows[0].reason, "error");
    assert_int_equal(ix->tally.rows[1].status, CG_SESSION_COMPLETED);
    assert_true(ix->tally.ended);
    cg_index_close(ix);
}

static void test_sums_of_a_warden_that_lies_do_not_wrap(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 3; i++)
        put(f, CG_REC_LLM_CALL, CG_SRC_HOST, "sess-aaaaaaaa",
            "{\"event\":\"close\",\"tokens_in\":9223372036854775000,\"tokens_out\":-5}");
    for (unsigned i = 0; i < CG_TALLY_SESSIONS_MAX + 5; i++) {
        char id[32];
        cg_snprintf(id, sizeof id, "sess-%08u", i);
        put(f, CG_REC_COMMAND, CG_SRC_HOST, id, "{\"a\":1}");
    }
    struct cg_index *ix = fresh(f);
    assert_int_equal(ix->tally.rows[0].tokens_in, INT64_C(9223372036854775000));
    assert_int_equal(ix->tally.rows[0].tokens_out, 0);
    assert_int_equal(ix->tally.n, CG_TALLY_SESSIONS_MAX);
    cg_index_close(ix);
}

/* --- the workspace --- */

static bool there(struct fixture *f, const struct cg_index *ix, uint64_t seq, const char *path)
{
    struct cg_workspace w;
    assert_true(cg_workspace_at(ix, f->dir, seq, &w, &e));
    bool found = cg_map_get(&w.files, path) != NULL;
    cg_workspace_finish(&w);
    return found;
}

static void test_the_workspace_is_folded_from_what_happened(void **state)
{
    struct fixture *f = *state;
    static const char *const ops[] = {
        "{\"op\":\"mkdir\",\"path\":\"/workspace/d\"}",
        "{\"op\":\"write\",\"path\":\"/workspace/d/a\",\"size\":3}",
        "{\"op\":\"write\",\"path\":\"/etc/elsewhere\",\"size\":3}",
        "{\"op\":\"write\",\"path\":\"/workspace/dd\",\"size\":3}",
        "{\"op\":\"rename\",\"path\":\"/workspace/d\",\"to\":\"/workspace/e\"}",
        "{\"op\":\"delete\",\"path\":\"/workspace/e/a\",\"error\":{\"code\":\"io\"}}",
        "{\"op\":\"rename\",\"path\":\"/workspace/e\",\"to\":\"/tmp/out\"}",
        "{\"op\":\"delete\",\"path\":\"/workspace/dd\"}"};
    uint64_t seq[CG_COUNT(ops)];
    for (size_t i = 0; i < CG_COUNT(ops); i++)
        seq[i] = put(f, CG_REC_FILE_OP, CG_SRC_GUEST, NULL, ops[i]);
    put(f, CG_REC_FILE_OP, CG_SRC_CLAIM, NULL,
        "{\"op\":\"write\",\"path\":\"/workspace/claimed\"}");
    struct cg_index *ix = fresh(f);
    assert_false(there(f, ix, seq[0], "d/a"));
    assert_true(there(f, ix, seq[1], "d/a"));
    assert_false(there(f, ix, seq[3], "elsewhere"));
    assert_true(there(f, ix, seq[4], "e/a"));
    assert_false(there(f, ix, seq[4], "d/a"));
    assert_true(there(f, ix, seq[4], "dd"));
    assert_true(there(f, ix, seq[5], "e/a"));
    assert_false(there(f, ix, seq[6], "e/a"));
    assert_false(there(f, ix, seq[6], "e"));
    assert_true(there(f, ix, seq[6], "dd"));
    assert_false(there(f, ix, UINT64_MAX, "dd"));
    assert_false(there(f, ix, UINT64_MAX, "claimed"));
    cg_index_close(ix);
}

/* --- differences --- */

static void expect_diff(const char *from, const char *to, const char *want)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 1 << 20);
    assert_true(cg_diff(cg_slice_of(from), cg_slice_of(to), &b));
    assert_string_equal(b.n ? cg_buf_cstr(&b) : "", want);
}

static void test_differences_are_those_of_patch(void **state)
{
    (void)state;
    expect_diff("", "", "");
    expect_diff("a\nb\n", "a\nb\n", "");
    expect_diff("", "a\n", "@@ -0,0 +1 @@\n+a\n");
    expect_diff("a\n", "", "@@ -1 +0,0 @@\n-a\n");
    expect_diff("a", "b\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n");
    expect_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nX\n6\n7\n8\n9\n",
                "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+X\n 6\n 7\n 8\n");
    expect_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n",
                "@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -9,4 +10,3 @@\n 9\n 10\n 11\n-12\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_page_is_found_by_its_place_and_by_its_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_costs_are_asked_for_in_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_moment_adds_up_to_what_was_told_by_then, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_every_page_is_what_a_whole_reading_gives, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_an_index_grows_with_its_record_and_outlives_damage_to_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_behind_the_durable_number_is_indexed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_session_is_what_its_lines_say, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_end_of_the_sandbox_ends_what_its_warden_did_not,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sums_of_a_warden_that_lies_do_not_wrap, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_workspace_is_folded_from_what_happened, set_up,
                                        tear_down),
        cmocka_unit_test(test_differences_are_those_of_patch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
