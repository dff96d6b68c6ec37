/* The store: what was told to be durable is there for everybody, rows replace each other by their
 * id, and a database of a newer version is left alone. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "check.h"
#include "store/store.h"

static void on_turn(uv_timer_t *t)
{
    (void)t;
}

struct fixture {
    uv_loop_t loop;
    uv_timer_t turns; /* the store's own handle does not keep the loop going */
    struct cg_store *store;
    char dir[64];
    char path[96];
    unsigned done, failed;
};

static void open_store(struct fixture *f)
{
    struct cg_err e = CG_ERR_INIT;
    f->store = cg_store_open(&f->loop, f->path, &e);
    if (!f->store)
        fail_msg("%s", e.text);
}

static void close_store(struct fixture *f)
{
    cg_store_close(f->store);
    f->store = NULL;
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

static int setup(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    cg_strlcpy(f->dir, sizeof f->dir, "/tmp/cg-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    cg_snprintf(f->path, sizeof f->path, "%s/server.db", f->dir);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->turns);
    uv_timer_start(&f->turns, on_turn, 1, 1);
    open_store(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->store)
        close_store(f);
    uv_close((uv_handle_t *)&f->turns, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_true(cg_fs_remove_tree(f->dir, NULL));
    free(f);
    return 0;
}

static void on_done(void *ctx, const struct cg_err *err)
{
    struct fixture *f = ctx;
    f->done++;
    f->failed += err != NULL;
}

static void wait_done(struct fixture *f, unsigned n)
{
    while (f->done < n)
        uv_run(&f->loop,
               UV_RUN_ONCE); /* the store's handle is unreferenced: it turns, not sleeps */
}

static void put_account(struct fixture *f, const char *id)
{
    struct cg_store_account a = {.name = "n", .tier = "owner", .created_wall_ns = 5};
    cg_strlcpy(a.id, sizeof a.id, id);
    cg_snprintf(a.email, sizeof a.email, "%s@x", id);
    cg_store_put_account(f->store, &a, on_done, f);
}

static void put_sandbox(struct fixture *f, const char *id, const char *status, uint32_t slot,
                        const char *doc)
{
    struct cg_store_sandbox b = {.slot = slot, .doc = doc};
    cg_strlcpy(b.id, sizeof b.id, id);
    cg_strlcpy(b.account, sizeof b.account, "acc-a");
    cg_strlcpy(b.status, sizeof b.status, status);
    cg_store_put_sandbox(f->store, &b, on_done, f);
}

struct seen {
    char text[512];
    unsigned n;
};

static void note_sandbox(void *ctx, const struct cg_store_sandbox *b)
{
    struct seen *s = ctx;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s %s %u %s;", b->id, b->status, b->slot, b->doc);
    s->n++;
}

static void note_key(void *ctx, const struct cg_store_key *k)
{
    struct seen *s = ctx;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s %s %d %lld %lld;", k->id, k->scope, k->hash[31],
             (long long)k->expires_wall_ns, (long long)k->used_wall_ns);
    s->n++;
}

static void what_was_told_durable_is_seen_by_another_connection(void **state)
{
    struct fixture *f = *state;
    put_account(f, "acc-a");
    put_sandbox(f, "cage-1", "pending", 1, "{\"a\":1}");
    wait_done(f, 2);
    assert_int_equal(f->failed, 0);
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT doc FROM sandbox", -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(st, 0), "{\"a\":1}");
    sqlite3_finalize(st);
    sqlite3_close(db);
}

static void rows_keep_the_order_of_creation_and_the_last_values(void **state)
{
    struct fixture *f = *state;
    put_account(f, "acc-a");
    put_sandbox(f, "cage-z", "pending", 1, "{}");
    put_sandbox(f, "cage-b", "pending", 2, "{}");
    put_sandbox(f, "cage-z", "running", 1, "{\"x\":2}");
    put_sandbox(f, "cage-z", "destroyed", 0, "{\"x\":3}");
    wait_done(f, 5);
    close_store(f);
    open_store(f);
    struct seen s = {0};
    assert_true(cg_store_each_sandbox(f->store, note_sandbox, &s, NULL));
    assert_string_equal(s.text, "cage-z destroyed 0 {\"x\":3};cage-b pending 2 {};");
}

static void keys_come_back_whole_until_deleted(void **state)
{
    struct fixture *f = *state;
    put_account(f, "acc-a");
    struct cg_store_key k = {.id = "key-1", .account = "acc-a", .name = "n", .scope = "read"};
    k.hash[31] = 7;
    k.expires_wall_ns = 11;
    cg_store_put_key(f->store, &k, on_done, f);
    k.used_wall_ns = 13;
    cg_store_put_key(f->store, &k, on_done, f);
    cg_strlcpy(k.id, sizeof k.id, "key-2");
    k.hash[31] = 8;
    cg_store_put_key(f->store, &k, on_done, f);
    cg_store_delete_key(f->store, "key-2", on_done, f);
    wait_done(f, 5);
    assert_int_equal(f->failed, 0);
    struct seen s = {0};
    assert_true(cg_store_each_key(f->store, note_key, &s, NULL));
    assert_string_equal(s.text, "key-1 read 7 11 13;");
}

static void note_item(void *ctx, const struct cg_store_item *i)
{
    struct seen *s = ctx;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s %s %s %s;", i->kind, i->id, i->account, i->doc);
    s->n++;
}

static void items_are_kept_apart_by_kind_and_replaced_by_id(void **state)
{
    struct fixture *f = *state;
    const struct cg_store_item items[] = {{"secret", "b", "acc-a", "{\"v\":1}"},
                                          {"alert", "b", "acc-a", "{}"},
                                          {"secret", "a", "acc-b", "{}"},
                                          {"secret", "b", "acc-a", "{\"v\":2}"}};
    for (size_t i = 0; i < CG_COUNT(items); i++)
        cg_store_put_item(f->store, &items[i], on_done, f);
    cg_store_delete_item(f->store, "alert", "b", on_done, f);
    cg_store_delete_item(f->store, "alert", "never-there", on_done, f);
    close_store(f);
    assert_int_equal(f->done, 6);
    assert_int_equal(f->failed, 0);
    open_store(f);
    struct seen s = {0};
    assert_true(cg_store_each_item(f->store, "secret", note_item, &s, NULL));
    assert_string_equal(s.text, "secret b acc-a {\"v\":2};secret a acc-b {};");
    struct seen none = {0};
    assert_true(cg_store_each_item(f->store, "alert", note_item, &none, NULL));
    assert_int_equal(none.n, 0);
}

static void close_finishes_what_is_queued(void **state)
{
    struct fixture *f = *state;
    char id[24];
    put_account(f, "acc-a");
    for (int i = 0; i < 2000; i++) {
        cg_snprintf(id, sizeof id, "cage-%d", i);
        put_sandbox(f, id, "pending", 1, "{}");
    }
    close_store(f);
    assert_int_equal(f->done, 2001);
    assert_int_equal(f->failed, 0);
    open_store(f);
    struct seen s = {0};
    assert_true(cg_store_each_sandbox(f->store, note_sandbox, &s, NULL));
    assert_int_equal(s.n, 2000);
}

static void one_bad_write_is_told_and_takes_no_other_with_it(void **state)
{
    struct fixture *f = *state;
    struct cg_store_key orphan = {.id = "key-1", .account = "acc-nobody", .scope = "full"};
    put_account(f, "acc-a");
    cg_store_put_key(f->store, &orphan, on_done, f); /* its account does not exist */
    put_sandbox(f, "cage-1", "pending", 1, "{}");
    wait_done(f, 3);
    assert_int_equal(f->failed, 1);
    struct seen s = {0};
    assert_true(cg_store_each_sandbox(f->store, note_sandbox, &s, NULL));
    assert_int_equal(s.n, 1);
}

static void a_newer_schema_is_refused(void **state)
{
    struct fixture *f = *state;
    close_store(f);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    struct cg_err e = CG_ERR_INIT;
    assert_null(cg_store_open(&f->loop, f->path, &e));
    assert_int_equal(e.code, CG_CONFLICT);
    assert_non_null(strstr(e.text, "newer version"));
}

static void what_is_no_database_is_refused(void **state)
{
    struct fixture *f = *state;
    close_store(f);
    char junk[4096];
    memset(junk, 'j', sizeof junk);
    assert_true(cg_fs_replace(f->path, junk, sizeof junk, 0600, NULL));
    struct cg_err e = CG_ERR_INIT;
    assert_null(cg_store_open(&f->loop, f->path, &e));
    assert_non_null(strstr(e.text, "server.db"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_told_durable_is_seen_by_another_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(rows_keep_the_order_of_creation_and_the_last_values, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(keys_come_back_whole_until_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(items_are_kept_apart_by_kind_and_replaced_by_id, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(close_finishes_what_is_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(one_bad_write_is_told_and_takes_no_other_with_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_newer_schema_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_database_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
