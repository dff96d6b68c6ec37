/* Who acts: agents by their programs, processes by number, sessions as the warden writes them; and
 * the filter of played terminals. */
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "cli/inert.h"
#include "record/reader.h"
#include "warden/agents.h"
#include "warden/pids.h"
#include "warden/sessions.h"

static struct cg_err e;

static void test_agents_are_known_by_what_is_run(void **state)
{
    (void)state;
    static const struct {
        const char *exe, *argv, *name;
    } cases[] = {
        {"/home/agent/.local/bin/claude", "[\"claude\",\"-p\",\"hi\"]", "claude-code"},
        {"/usr/bin/node",
         "[\"node\",\"/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js\",\"-p\"]",
         "claude-code"},
        {"/usr/bin/node", "[\"node\",\"--no-warnings\",\"/usr/bin/codex\"]", "codex"},
        {"/usr/bin/python3.11", "[\"python3\",\"-m\",\"aider\"]", "aider"},
        {NULL, "[\"/opt/codex\",\"exec\"]", "codex"},
        {"/usr/bin/claude", "[\"claude\",\"--version\"]", NULL},
        {"/usr/bin/cat", "[\"cat\",\"/usr/lib/claude-code/cli.js\"]", NULL},
        {"/usr/bin/node", "[\"node\",\"server.js\",\"claude\"]", NULL},
        {"/usr/bin/python3", "[\"python3\",\"-c\",\"print(1)\"]", NULL},
        {"/bin/sh", "[]", NULL},
        {"/bin/sh", "7", NULL},
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        CG_OWN(cg_drop_json)
        struct cg_json *argv = cg_json_parse(cg_slice_of(cases[i].argv), NULL, &e);
        const char *name = agent_of_program(cases[i].exe, argv);
        if (!(name ? cg_streq(cases[i].name, name) : !cases[i].name))
            fail_msg("%s: %s", cases[i].argv, name ? name : "none");
    }
    assert_string_equal(agent_of_user_agent("claude-cli/1.0.3 (external, cli)"), "claude-code");
    assert_null(agent_of_user_agent("curl/8"));
    assert_null(agent_of_user_agent(NULL));
}

static void test_a_process_keeps_its_value_until_it_is_removed(void **state)
{
    (void)state;
    struct pids p = {.slots = NULL};
    static uint8_t want[70000];
    uint32_t dice = 7;
    uint8_t value = 0;
    for (unsigned i = 0; i < 200000; i++) {
        dice = dice * 1103515245 + 12345;
        int64_t pid = 1 + (dice >> 8) % 12000;
        if (dice >> 28 < 9) {
            want[pid] = (uint8_t)(1 + (dice >> 5) % 200);
            pids_put(&p, pid, want[pid]);
        } else {
            want[pid] = 0;
            pids_remove(&p, pid);
        }
    }
    for (int64_t pid = 1; pid <= 12000; pid++) {
        bool found = pids_get(&p, pid, &value);
        assert_int_equal(found, want[pid] != 0);
        if (found)
            assert_int_equal(value, want[pid]);
    }
    pids_forget(&p, 17);
    for (int64_t pid = 1; pid <= 12000; pid++)
        assert_int_equal(pids_get(&p, pid, &value), want[pid] != 0 && want[pid] != 17);
    for (int64_t pid = 20000; pid < 60000; pid++) /* bounded */
        pids_put(&p, pid, 3);
    assert_true(p.count <= PIDS_MAX);
    pids_put(&p, -1, 3);
    pids_put(&p, INT64_MAX, 3);
    assert_false(pids_get(&p, INT64_MAX, &value));
    pids_finish(&p);
}

/* --- sessions --- */

struct fixture {
    char path[64];
    int dir;
    struct cg_record *record;
    struct sessions *sessions;
};

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    cg_snprintf(f->path, sizeof f->path, "/tmp/cg-who-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct cg_record_options o = {.sandbox = "cage-aaaaaaaaaa"};
    f->record = cg_record_open(f->dir, &o, &e);
    f->sessions = sessions_create(f->record);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    sessions_destroy(f->sessions);
    cg_record_close(f->record);
    close(f->dir);
    assert_true(cg_fs_remove_tree(f->path, &e));
    free(f);
    return 0;
}

static char *begin(struct fixture *f, const char *exec_id, const char *request, bool pty)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(cg_slice_of(request), NULL, &e);
    const struct sessions_command c = {exec_id, o, pty};
    char id[SESSION_TEXT] = "";
    sessions_begin(f->sessions, &c, id);
    return cg_strdup(id);
}

static const char *see(struct fixture *f, bool exec, const char *text)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(cg_slice_of(text), NULL, &e);
    return sessions_observed(f->sessions, exec, o);
}

static void gone(struct fixture *f, const char *text)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(cg_slice_of(text), NULL, &e);
    sessions_exited(f->sessions, o);
}

static void test_what_descends_from_a_command_is_its_sessions(void **state)
{
    struct fixture *f = *state;
    CG_OWN(cg_drop_free) char *agent = begin(f, "w1", "{\"argv\":[\"claude\"]}", false);
    CG_OWN(cg_drop_free) char *shell = begin(f, "w2", "{\"login\":true}", true);
    CG_OWN(cg_drop_free) char *plain = begin(f, "w3", "{\"argv\":[\"ls\"]}", false);
    assert_true(cg_record_session_valid(agent));
    assert_true(cg_record_session_valid(shell));
    assert_string_equal(plain, "");
    sessions_pid(f->sessions, agent, 100);
    sessions_pid(f->sessions, shell, 200);
    sessions_pid(f->sessions, plain, 300);
    assert_string_equal(see(f, true, "{\"pid\":101,\"ppid\":100,\"exe\":\"/bin/ls\"}"), agent);
    assert_string_equal(see(f, false, "{\"pid\":102,\"ppid\":101}"), agent);
    assert_string_equal(see(f, false, "{\"pid\":201,\"ppid\":200}"), shell);
    assert_string_equal(see(f, false, "{\"pid\":301,\"ppid\":300}"), "");
    assert_string_equal(see(f, false, "{\"pid\":900,\"ppid\":1}"), agent); /* by default */
    const char *codex =
        see(f, true, "{\"pid\":202,\"ppid\":200,\"exe\":\"/bin/codex\",\"argv\":[\"codex\"]}");
    assert_string_not_equal(codex, shell);
    assert_string_not_equal(codex, agent);
    assert_string_equal(
        see(f, true, "{\"pid\":103,\"ppid\":100,\"exe\":\"/bin/codex\",\"argv\":[\"codex\"]}"),
        agent);
    gone(f, "{\"pid\":202,\"code\":0}");
    assert_string_equal(see(f, false, "{\"pid\":900,\"ppid\":1}"), agent);
    sessions_end(f->sessions, "w1", NULL);
    assert_string_equal(see(f, false, "{\"pid\":901,\"ppid\":1}"), shell); /* the only one */
    sessions_end(f->sessions, "w2", NULL);
    assert_string_equal(see(f, false, "{\"pid\":901,\"ppid\":1}"), "");
}

static void test_calls_belong_to_the_agent_that_they_say_or_to_one_of_their_own(void **state)
{
    struct fixture *f = *state;
    CG_OWN(cg_drop_free) char *claude = begin(f, "w1", "{\"argv\":[\"claude\"]}", false);
    CG_OWN(cg_drop_free) char *codex = begin(f, "w2", "{\"argv\":[\"codex\"]}", false);
    assert_string_equal(
        sessions_call(
            f->sessions,
            cg_slice_of("{\"event\":\"open\",\"call\":1,\"user_agent\":\"claude-cli/2\"}")),
        claude);
    assert_string_equal(
        sessions_call(f->sessions,
                      cg_slice_of("{\"event\":\"open\",\"call\":2,\"user_agent\":\"curl\"}")),
        codex);
    assert_string_equal(sessions_call(f->sessions, cg_slice_of("{\"event\":\"close\",\"call\":1}")),
                        claude);
    sessions_end(f->sessions, "w1", NULL);
    sessions_end(f->sessions, "w2", NULL);
    assert_string_equal(sessions_call(f->sessions, cg_slice_of("{\"event\":\"close\",\"call\":2}")),
                        "");
    CG_OWN(cg_drop_free)
    char *own = cg_strdup(sessions_call(
        f->sessions, cg_slice_of("{\"event\":\"open\",\"call\":3,\"user_agent\":\"x\"}")));
    assert_true(cg_record_session_valid(own));
    assert_string_equal(sessions_call(f->sessions, cg_slice_of("{\"event\":\"open\",\"call\":4}")),
                        own);
}

static void test_machine_time_is_shared_and_none_is_lost(void **state)
{
    struct fixture *f = *state;
    int64_t sum = 0;
    for (unsigned i = 0; i < 3; i++) {
        char exec_id[16];
        cg_snprintf(exec_id, sizeof exec_id, "w%u", i);
        free(begin(f, exec_id, "{\"argv\":[\"claude\"]}", false));
    }
    sessions_compute(f->sessions, 100);
    sessions_compute(f->sessions, 1);
    sessions_close(f->sessions, false, "request");
    assert_true(cg_record_sync(f->record, &e));
    struct cg_record_reader *r = cg_record_reader_open(f->dir, 0, &e);
    struct cg_slice text;
    struct cg_record_line line;
    while (cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line.data, NULL, &e);
        sum += cg_json_int(o, "compute_nusd", 0);
    }
    cg_record_reader_close(r);
    assert_int_equal(sum, 101);
}

/* The next warden of a paused sandbox reads what this one wrote. */
static void test_open_sessions_go_on_under_the_next_warden(void **state)
{
    struct fixture *f = *state;
    CG_OWN(cg_drop_free) char *agent = begin(f, "w1", "{\"argv\":[\"claude\"]}", false);
    free(begin(f, "w2", "{\"login\":true}", true));
    sessions_end(f->sessions, "w2", NULL);
    assert_true(cg_record_sync(f->record, &e));
    sessions_destroy(f->sessions);
    f->sessions = sessions_create(f->record);
    struct cg_record_reader *r = cg_record_reader_open(f->dir, 0, &e);
    struct cg_slice text;
    struct cg_record_line line;
    while (cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE)
        sessions_replay(f->sessions, &line);
    cg_record_reader_close(r);
    sessions_replayed(f->sessions, true);
    assert_string_equal(see(f, false, "{\"pid\":5,\"ppid\":1}"), agent);
    char id[SESSION_TEXT] = "";
    sessions_attach(f->sessions, "w1", id);
    assert_string_equal(id, agent);
    sessions_replayed(f->sessions, false);
    assert_string_equal(see(f, false, "{\"pid\":6,\"ppid\":1}"), "");
}

/* --- the filter --- */

static void expect_shown(const char *in, size_t n, const char *want)
{
    for (size_t step = 1; step <= n; step++) { /* however it is cut */
        struct inert t = {.state = INERT_TEXT};
        CG_OWN(cg_drop_buf) struct cg_buf b;
        cg_buf_init(&b, 4096);
        for (size_t at = 0; at < n; at += step)
            inert_feed(&t, (struct cg_slice){in + at, CG_MIN(step, n - at)}, &b);
        if (strcmp(b.n ? cg_buf_cstr(&b) : "", want) != 0)
            fail_msg("in steps of %zu: \"%s\" gave \"%s\"", step, in, cg_buf_cstr(&b));
    }
}

#define SHOWN(in, want) expect_shown(in, sizeof(in) - 1, want)

static void test_played_output_can_only_show(void **state)
{
    (void)state;
    SHOWN("plain \xc3\xa4\xe2\x82\xac\r\n\tx\b", "plain \xc3\xa4\xe2\x82\xac\r\n\tx\b");
    SHOWN("\033[1;31mred\033[0m \033[2J\033[H\033[10;20H\033[?25l\033[?1049h",
          "\033[1;31mred\033[0m \033[2J\033[H\033[10;20H\033[?25l\033[?1049h");
    SHOWN("a\033]0;title\007b\033]52;c;aGk=\033\\c\033]8;;http://x\033\\d", "abcd");
    SHOWN("a\033P+q544e\033\\b\033_x\033\\c\033^y\033\\d\033Xz\033\\e", "abcde");
    SHOWN("a\033[c\033[>c\033[6n\033[?6n\033[5n\033[x\033[18t\033[21t\033[?1$p\033[>0qb", "ab");
    SHOWN("a\033[?1000h\033[?1006h\033[?2004h\033[?1004h\033[?1h\033[>4;1m\033[>1u\033[=1cb", "ab");
    SHOWN("a\033Z\005\007b\033c\033=\033>", "ab");
    SHOWN("a\xc2\x9b"
          "6n\xc2\x9d"
          "0;t\007b\xc2\x90q\033\\c\xc2\x85z",
          "abcz");
    SHOWN("a\x9b"
          "6n\x9d\xff\xc0\xaf\xe0\x82\x9b"
          "6nb",
          "a6n6nb");
    SHOWN("\033(0q\033(B\033%G\033#8\033 Fx", "\033(0q\033(Bx");
    SHOWN("a\033]0;never ended", "a");
    SHOWN("a\033[31\0306nb\033[3\033[1mc", "a6nb\033[1mc");
    SHOWN("\033[0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0mx", "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agents_are_known_by_what_is_run),
        cmocka_unit_test(test_a_process_keeps_its_value_until_it_is_removed),
        cmocka_unit_test_setup_teardown(test_what_descends_from_a_command_is_its_sessions, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_calls_belong_to_the_agent_that_they_say_or_to_one_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_machine_time_is_shared_and_none_is_lost, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_open_sessions_go_on_under_the_next_warden, set_up,
                                        tear_down),
        cmocka_unit_test(test_played_output_can_only_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
