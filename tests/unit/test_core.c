/* The core without a machine below it: which states may follow which, what a running sandbox costs,
 * keys and tickets, the flags and the operator's file. */
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "check.h"
#include "core/core.h"

static void on_turn(uv_timer_t *t)
{
    (void)t;
}

struct fixture {
    uv_loop_t loop;
    uv_timer_t turns; /* the store's own handle does not keep the loop going */
    struct cg_core core;
    char dir[64];
};

static int setup(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    struct cg_err e = CG_ERR_INIT;
    cg_strlcpy(f->dir, sizeof f->dir, "/tmp/cg-core-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->turns);
    uv_timer_start(&f->turns, on_turn, 1, 1);
    f->core.loop = &f->loop;
    f->core.broker = -1;
    f->core.options.state_dir = cg_strdup(f->dir);
    f->core.options.run_dir = cg_format("%s/run", f->dir);
    if (!cg_core_start(&f->core, &e))
        fail_msg("%s", e.text);
    *state = f;
    return 0;
}

static void free_values(struct cg_map *m)
{
    size_t at = 0;
    const char *key;
    void *value;
    while (cg_map_next(m, &at, &key, &value))
        free(value);
    cg_map_finish(m);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cg_core_finish(&f->core);
    uv_close((uv_handle_t *)&f->turns, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free_values(&f->core.keys);
    free_values(&f->core.accounts);
    free_values(&f->core.by_id);
    cg_options_finish(&f->core.options);
    assert_true(cg_fs_remove_tree(f->dir, NULL));
    free(f);
    return 0;
}

/* --- states --- */

static void only_these_ways_lead_from_state_to_state(void **state)
{
    (void)state;
    const enum cg_status all[] = {CG_STATUS_PENDING, CG_STATUS_RUNNING, CG_STATUS_ERROR,
                                  CG_STATUS_DESTROYED};
    const char *const legal = " pending>running pending>error pending>destroyed running>error"
                              " running>destroyed error>destroyed ";
    for (size_t i = 0; i < CG_COUNT(all); i++) {
        for (size_t k = 0; k < CG_COUNT(all); k++) {
            char way[64];
            cg_snprintf(way, sizeof way, " %s>%s ", cg_status_name(all[i]), cg_status_name(all[k]));
            assert_int_equal(cg_status_may(all[i], all[k]), strstr(legal, way) != NULL);
        }
        enum cg_status back;
        assert_true(cg_status_parse(cg_status_name(all[i]), &back));
        assert_int_equal(back, all[i]);
    }
    enum cg_status none;
    assert_false(cg_status_parse("stopped", &none));
}

static void an_illegal_way_ends_the_process(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        struct cg_sandbox sb = {.core = &f->core, .status = CG_STATUS_DESTROYED};
        setrlimit(RLIMIT_CORE, &none);
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        cg_sandbox_set_status(&sb, CG_STATUS_RUNNING);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --- money --- */

static void compute_costs_what_the_prices_say(void **state)
{
    (void)state;
    const int64_t hour = INT64_C(3600) * 1000000000;
    struct cg_sandbox sb = {.spec = {.cpus = 2, .memory_mb = 1024, .disk_gb = 5}};
    assert_int_equal(cg_sandbox_compute_nusd(&sb), 0); /* it has not run */
    sb.started_wall = hour;
    sb.stopped_wall = 2 * hour;
    assert_int_equal(cg_sandbox_compute_nusd(&sb), 30000000); /* 2*0.01 + 0.005 + 5*0.001 dollars */
    sb.stopped_wall = hour + hour / 3600;
    assert_int_equal(cg_sandbox_compute_nusd(&sb), 30000000 / 3600);
    sb.stopped_wall = hour - 1; /* a clock that was set back costs nothing */
    assert_int_equal(cg_sandbox_compute_nusd(&sb), 0);
}

/* --- a row and back --- */

struct row {
    char doc[4096];
    struct cg_store_sandbox b;
    unsigned n;
};

static void keep_row(void *ctx, const struct cg_store_sandbox *b)
{
    struct row *r = ctx;
    r->b = *b;
    cg_strlcpy(r->doc, sizeof r->doc, b->doc);
    r->b.doc = r->doc;
    r->n++;
}

static void count_done(void *ctx, const struct cg_err *err)
{
    assert_null(err);
    ++*(unsigned *)ctx;
}

static void drop_sandbox(struct cg_sandbox *sb)
{
    cg_spec_finish(&sb->spec);
    free(sb->console_tail);
    free(sb->init_tail);
}

static void a_sandbox_reads_back_from_its_row(void **state)
{
    struct fixture *f = *state;
    unsigned done = 0;
    struct cg_sandbox sb = {.core = &f->core,
                            .id = "cage-aaaaaaaa",
                            .account = "acc-aaaaaaaa",
                            .status = CG_STATUS_ERROR,
                            .slot = 7,
                            .created_wall = 1,
                            .started_wall = 2,
                            .stopped_wall = 3,
                            .init = CG_INIT_FAILED,
                            .init_exit = 9,
                            .spec = {.template_name = "minimal", .cpus = 3, .memory_mb = 700}};
    sb.spec.name = cg_strdup("a \"name\"\n");
    sb.spec.init_script = cg_strdup("echo\thi");
    cg_sandbox_text(&sb.init_tail, "tail \x01");
    cg_sandbox_text(&sb.console_tail, "panic");
    cg_fail(&sb.error, CG_TIMEOUT, "it took too long");
    cg_sandbox_save(&sb, count_done, &done);
    while (!done)
        uv_run(&f->loop, UV_RUN_ONCE);
    struct row row = {0};
    assert_true(cg_store_each_sandbox(f->core.store, keep_row, &row, NULL));
    assert_int_equal(row.n, 1);
    struct cg_sandbox *back = cg_sandbox_load(&f->core, &row.b);
    assert_non_null(back);
    assert_string_equal(back->id, sb.id);
    assert_int_equal(back->status, CG_STATUS_ERROR);
    assert_int_equal(back->slot, 7);
    assert_int_equal(back->spec.cpus, 3);
    assert_string_equal(back->spec.name, sb.spec.name);
    assert_string_equal(back->init_tail, "tail \x01");
    assert_string_equal(back->console_tail, "panic");
    assert_int_equal(back->init_exit, 9);
    assert_int_equal(back->error.code, CG_TIMEOUT);
    assert_int_equal(back->stopped_wall, 3);
    drop_sandbox(&sb);
    drop_sandbox(back);
    free(back);
}

static void rows_that_cannot_be_read_are_no_sandboxes(void **state)
{
    struct fixture *f = *state;
    const struct cg_store_sandbox rows[] = {
        {.id = "cage-aaaaaaaa", .status = "running", .doc = "{"},
        {.id = "cage-aaaaaaaa", .status = "asleep", .doc = "{}"},
    };
    for (size_t i = 0; i < CG_COUNT(rows); i++)
        assert_null(cg_sandbox_load(&f->core, &rows[i]));
    const struct cg_store_sandbox odd = {.id = "cage-aaaaaaaa",
                                         .status = "running",
                                         .doc = "{\"cpus\":\"x\",\"internal\":{\"init\":99}}"};
    struct cg_sandbox *sb = cg_sandbox_load(&f->core, &odd);
    assert_non_null(sb);
    assert_int_equal(sb->init, CG_INIT_NONE);
    drop_sandbox(sb);
    free(sb);
}

/* --- keys and tickets --- */

static void the_owner_gets_a_key_once(void **state)
{
    struct fixture *f = *state;
    char text[CG_KEY_TEXT] = "";
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_core_bootstrap(&f->core, text, &e));
    assert_int_equal(strlen(text), 9 + 32);
    assert_int_equal(strspn(text + 9, "abcdefghijklmnopqrstuvwxyz0123456789"), 32);
    struct cg_store_key *k = cg_core_find_key(&f->core, text);
    assert_non_null(k);
    assert_string_equal(k->scope, "full");
    assert_int_equal(f->core.accounts.count, 1);
    text[12] = text[12] == 'a' ? 'b' : 'a';
    assert_null(cg_core_find_key(&f->core, text));
    assert_null(cg_core_find_key(&f->core, ""));
    assert_null(cg_core_find_key(&f->core, NULL));
}

static void an_expired_key_is_none(void **state)
{
    struct fixture *f = *state;
    char owner[CG_KEY_TEXT] = "", text[CG_KEY_TEXT];
    struct cg_store_key k;
    assert_true(cg_core_bootstrap(&f->core, owner, NULL));
    cg_core_new_key(&f->core, "acc-x", "n", "read", 1, text, &k);
    assert_null(cg_core_find_key(&f->core, text));
    cg_core_new_key(&f->core, "acc-x", "n", "read", cg_wall_ns() + INT64_C(1000000000000), text,
                    &k);
    /* its use would be written down, and its account does not exist: only that fails */
    assert_non_null(cg_core_find_key(&f->core, text));
}

static void a_ticket_is_taken_once(void **state)
{
    struct fixture *f = *state;
    char owner[CG_KEY_TEXT] = "", ticket[96], other[96];
    assert_true(cg_core_bootstrap(&f->core, owner, NULL));
    struct cg_store_key *k = cg_core_find_key(&f->core, owner);
    cg_core_ticket_make(&f->core, k, ticket, sizeof ticket);
    cg_core_ticket_make(&f->core, k, other, sizeof other);
    assert_string_not_equal(ticket, other);
    assert_true(cg_has_prefix(ticket, "caged_wst_"));
    struct cg_store_key taken = {0};
    assert_true(cg_core_ticket_take(&f->core, ticket, &taken));
    assert_string_equal(taken.id, k->id);
    assert_false(cg_core_ticket_take(&f->core, ticket, &taken));
    k->expires_wall_ns = 1; /* its key has ended meanwhile */
    assert_false(cg_core_ticket_take(&f->core, other, &taken));
    assert_false(cg_core_ticket_take(&f->core, "caged_wst_x.y", &taken));
}

/* --- flags and the operator's file --- */

static bool read_options(const char *dir, const char *yaml, const char *listen_text,
                         struct cg_options *o, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *file = cg_format("%s/server.yaml", dir);
    CG_OWN(cg_drop_free) char *listen_copy = cg_strdup(listen_text ? listen_text : "127.0.0.1:0");
    CG_OWN(cg_drop_free) char *dir_copy = cg_strdup(dir);
    char *argv[] = {(char[]){"caged-server"},
                    (char[]){"--state-dir"},
                    dir_copy,
                    (char[]){"--config"},
                    file,
                    (char[]){"--listen"},
                    listen_copy,
                    NULL};
    assert_true(cg_fs_replace(file, yaml, strlen(yaml), 0600, NULL));
    optind = 0;
    return cg_options_read(7, argv, o, e);
}

static void the_operators_file_sets_network_limits_and_defaults(void **state)
{
    struct fixture *f = *state;
    struct cg_options o;
    struct cg_err e = CG_ERR_INIT;
    bool ok = read_options(
        f->dir,
        "network:\n  allow: [127.0.0.1/32:9418, 10.1.0.0/16]\n"
        "  hosts: {git.internal: 10.1.2.3}\n"
        "limits: {sandboxes: 3, requests_per_minute: 60, cpus: 9, disk_gb: 70, snapshots: 5,"
        " snapshot_mb: 100, snapshots_mb: 300}\n"
        "defaults: {cpus: 1, memory_mb: 256, disk_gb: 2}\n",
        "[::1]:8080", &o, &e);
    if (!ok)
        fail_msg("%s", e.text);
    assert_string_equal(o.listen_host, "::1");
    assert_int_equal(o.listen_port, 8080);
    assert_int_equal(o.network.nrules, 2);
    assert_int_equal(o.network.rules[0].port, 9418);
    assert_int_equal(o.network.nhosts, 3); /* and host.caged.internal, gateway.caged.internal */
    assert_int_equal(o.max_sandboxes, 3);
    assert_int_equal(o.rate_per_minute, 60);
    assert_int_equal(o.max_cpus, 9);
    assert_int_equal(o.max_disk_gb, 70);
    assert_int_equal(o.max_snapshots, 5);
    assert_int_equal(o.max_snapshot_mb, 100);
    assert_int_equal(o.max_snapshots_mb, 300);
    assert_int_equal(o.default_memory_mb, 256);
    cg_options_finish(&o);
}

static void wrong_flags_and_files_are_told(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *yaml, *listen, *word;
    } cases[] = {
        {"", "localhost", "HOST:PORT"},
        {"", ":80", "HOST:PORT"},
        {"", "h:99999", "HOST:PORT"},
        {"", "h:80x", "HOST:PORT"},
        {"limits: {sandboxes: 5000}", NULL, ":1"},
        {"limits: {sandboxes: -1}", NULL, ":1"},
        {"network: {allow: [nonsense]}", NULL, ":1"},
        {"other: {a: 1}", NULL, "unknown key"},
        {"other: {a: 1}", NULL, "llm, machine, network"},
        {"machine: {a: 1}", NULL, "machine.vcpu_hour"},
        {"providers: {local: http://x}", NULL, "base_url"},
        {"- a list", NULL, ":1"},
        {"a: [", NULL, "server.yaml"},
        {"network: {hosts: {a: b}}", NULL, "IPv4"},
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct cg_options o;
        struct cg_err e = CG_ERR_INIT;
        assert_false(read_options(f->dir, cases[i].yaml, cases[i].listen, &o, &e));
        assert_int_equal(e.code, CG_INVALID);
        if (!strstr(e.text, cases[i].word))
            fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].word);
        cg_options_finish(&o);
    }
}

/* Beside those of the operator a warden has room for the ones that everybody knows. */
static void sixteen_providers_are_taken_and_a_seventeenth_is_refused_by_its_line(void **state)
{
    struct fixture *f = *state;
    CG_OWN(cg_drop_buf) struct cg_buf yaml;
    struct cg_options o;
    struct cg_err e = CG_ERR_INIT;
    cg_buf_init(&yaml, 8192);
    cg_buf_adds(&yaml, "providers:\n");
    for (int i = 0; i < CG_PROVIDERS_OWN; i++)
        cg_buf_addf(&yaml, "  p%d: {base_url: 'http://10.0.0.%d'}\n", i, i + 1);
    if (!read_options(f->dir, cg_buf_cstr(&yaml), NULL, &o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(o.nproviders, CG_PROVIDERS_OWN);
    cg_options_finish(&o);
    cg_buf_adds(&yaml, "  more: {base_url: 'http://10.0.1.1'}\n");
    assert_false(read_options(f->dir, cg_buf_cstr(&yaml), NULL, &o, &e));
    assert_non_null(strstr(e.text, ":18"));
    assert_non_null(strstr(e.text, "16 providers"));
    cg_options_finish(&o);
}

#define CORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CORE_TEST(only_these_ways_lead_from_state_to_state),
        CORE_TEST(an_illegal_way_ends_the_process),
        CORE_TEST(compute_costs_what_the_prices_say),
        CORE_TEST(a_sandbox_reads_back_from_its_row),
        CORE_TEST(rows_that_cannot_be_read_are_no_sandboxes),
        CORE_TEST(the_owner_gets_a_key_once),
        CORE_TEST(an_expired_key_is_none),
        CORE_TEST(a_ticket_is_taken_once),
        CORE_TEST(the_operators_file_sets_network_limits_and_defaults),
        CORE_TEST(wrong_flags_and_files_are_told),
        CORE_TEST(sixteen_providers_are_taken_and_a_seventeenth_is_refused_by_its_line),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
