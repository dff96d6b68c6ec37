/* The trust engine: every rule's examples, the shell's words, the reading of packs, and that a
 * score is a function of the record alone. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "trust/trust.h"
#include "trust/words.h"

static char *default_text(size_t *n)
{
    struct cg_err e = CG_ERR_INIT;
    const char *source = getenv("CAGED_SOURCE");
    CG_OWN(cg_drop_free) char *path = cg_format("%s/data/trust/default.yaml", source);
    char *text = NULL;
    if (!cg_fs_slurp(path, CG_PACK_MAX, &text, n, &e))
        fail_msg("%s", e.text);
    return text;
}

static struct cg_pack *read_pack(const char *over, struct cg_err *e)
{
    size_t n = 0;
    CG_OWN(cg_drop_free) char *text = default_text(&n);
    return cg_pack_read("default.yaml", (struct cg_slice){text, n}, "mine.yaml",
                        cg_slice_of(over ? over : ""), e);
}

static void on_failed(void *ctx, const char *rule, const char *text)
{
    ++*(unsigned *)ctx;
    print_error("%s %s\n", rule, text);
}

static void every_rule_fires_and_stays_quiet_as_its_examples_say(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    unsigned failures = 0;
    CG_OWN(cg_drop_pack) struct cg_pack *p = read_pack(NULL, &e);
    if (!p)
        fail_msg("%s", e.text);
    unsigned n = cg_trust_examples(p, on_failed, &failures);
    assert_int_equal(failures, 0);
    assert_true(n > 250);
}

/* --- the shell's words --- */

static struct cg_sh sh;

/* The commands of a text: "curl -s x < sh" is sh, fed by curl. */
static const char *read_text(const char *text)
{
    static char out[2000];
    size_t n = 0;
    cg_sh_parse(&sh, cg_slice_of(text));
    out[0] = '\0';
    for (int i = 0; i < sh.ncommands; i++) {
        const char *argv[CG_SH_ARGV];
        int argc = cg_sh_argv(&sh, i, argv);
        for (int a = 0; a < argc; a++)
            n += (size_t)snprintf(out + n, sizeof out - n, "%s%s", a ? " " : "", argv[a]);
        if (sh.command[i].input_from < sh.command[i].input_to)
            n += (size_t)snprintf(out + n, sizeof out - n, " <%d-%d", sh.command[i].input_from,
                                  sh.command[i].input_to);
        if (sh.command[i].host >= 0)
            n += (size_t)snprintf(out + n, sizeof out - n, " in%d", sh.command[i].host);
        n += (size_t)snprintf(out + n, sizeof out - n, ";");
    }
    return out;
}

static void shell_text_is_read_as_commands_with_their_pipes(void **state)
{
    (void)state;
    assert_string_equal(read_text("a 'b c' \"d\"e\\ f"), "a b c de f;");
    assert_string_equal(read_text("a|b|&c; d"), "a;b <0-1;c <1-2;d;");
    assert_string_equal(read_text("x=1 A+=2 run 2>&1 >out <in &"), "run;");
    assert_int_equal(sh.nredirects, 3);
    assert_string_equal(read_text("echo $(a `b`)"), "echo $();a $() in0;b in1;");
    assert_string_equal(read_text("cat <(a) >(b)"), "cat $() $();a in0;b in0;");
    assert_string_equal(read_text("sh -c 'a; b'"), "sh -c a; b;a in0;b in0;");
    assert_string_equal(read_text("echo 'a | sh' # | sh"), "echo a | sh;");
    assert_string_equal(read_text("for i in 1 2; do a; done | b"), "for i in 1 2;a;b <0-2;");
    assert_string_equal(read_text("if a; then b; else c; fi"), "a;b;c;");
    assert_string_equal(read_text("f() { a; }; f"), ";a;f;");
    assert_string_equal(read_text("$'\\x61\\142' \"$HOME/x\" ${Y}z"), "ab ~/x $Yz;");
    assert_string_equal(read_text("bash <<E\na\nE\nb"), "bash;a in0;b;");
    assert_string_equal(read_text("(a; b) | (c; d)"), "a;b;c <0-2;d <0-2;");
    assert_false(sh.cut);
    read_text("a 'unended");
    assert_true(sh.cut);
}

static void starters_are_looked_through(void **state)
{
    (void)state;
    const char *const line[] = {"sudo", "-u", "x", "env", "A=1", "timeout",
                                "-k",   "1",  "5", "sh",  "-c",  "z"};
    assert_int_equal(cg_sh_program(line, 12), 9);
    assert_string_equal(cg_sh_inline_text(line, 12), "z");
    const char *const alone[] = {"env"};
    assert_int_equal(cg_sh_program(alone, 1), 0);
}

/* --- packs --- */

static void wrong_rules_are_refused_with_their_line(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"rules:\n- {id: x, points: -1}\n", "mine.yaml:2: points"},
        {"rules:\n- id: x\n  colour: red\n", "mine.yaml:3: a rule does not know \"colour\""},
        {"rules:\n- id: x\n  explain: y\n", "mine.yaml:2: rule x needs when"},
        {"rules:\n- id: x\n  explain: y\n  when:\n  - command: {op: [a]}\n",
         "mine.yaml:5: \"command\" does not look at op"},
        {"rules:\n- id: x\n  when: [{dream: {}}]\n", "mine.yaml:3: a condition looks at"},
        {"rules:\n- id: x\n  when: [{command: {program: $nobody}}]\n",
         "mine.yaml:3: program: there is no list"},
        {"bands: {alert: 101}\n", "mine.yaml:1: alert: a whole number from 0 to 100"},
        {"a: &a [1]\nb: *a\n", "mine.yaml:2: aliases"},
        {"rules: [\n", "mine.yaml:2"},
        {"rules:\n- {id: x, points: 9, cap: 5, explain: y, when: [{gap: {reason: [z]}}]}\n",
         "mine.yaml:2: rule x: points"},
    };
    for (size_t i = 0; i < CG_COUNT(wrong); i++) {
        struct cg_err e = CG_ERR_INIT;
        CG_OWN(cg_drop_pack) struct cg_pack *p = read_pack(wrong[i][0], &e);
        assert_null(p);
        if (!strstr(e.text, wrong[i][1]))
            fail_msg("\"%s\" does not say \"%s\"", e.text, wrong[i][1]);
    }
}

static void an_operators_file_changes_what_it_names_and_nothing_else(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_pack) struct cg_pack *base = read_pack(NULL, &e);
    CG_OWN(cg_drop_pack)
    struct cg_pack *p =
        read_pack("bands: {pause: 0}\n"
                  "lists: {miners+: [my-miner]}\n"
                  "rules:\n"
                  "- {id: network.unknown-host, points: 1}\n"
                  "- {id: exec.obfuscated, enabled: false}\n"
                  "- {id: own, points: 3, cap: 3, explain: z, when: [{gap: {reason: resume}}], "
                  "fires: [{gap: resume}], quiet: [{gap: quota}]}\n",
                  &e);
    if (!p)
        fail_msg("%s", e.text);
    const struct cg_rule *host = cg_pack_rule(p, "network.unknown-host");
    assert_int_equal(host->points, 1);
    assert_int_equal(host->cap, cg_pack_rule(base, "network.unknown-host")->cap);
    assert_true(cg_pack_rule(p, "exec.obfuscated")->off);
    assert_int_equal(p->bands.pause, 0);
    assert_int_equal(p->bands.alert, 70);
    assert_int_equal(p->nrules, base->nrules + 1);
    assert_string_not_equal(p->hash, base->hash);
    const struct cg_texts *miners =
        &cg_pack_rule(p, "exec.crypto-mining")->when[0].list[CG_L_PROGRAM];
    assert_string_equal(miners->v[miners->n - 1], "my-miner");
    unsigned failures = 0;
    cg_trust_examples(p, on_failed, &failures);
    assert_int_equal(failures, 0);
}

/* --- the engine --- */

struct told {
    unsigned n;
    uint32_t points;
    char text[2000];
};

static void take(void *ctx, const struct cg_trust_deduction *d)
{
    struct told *t = ctx;
    size_t n = strlen(t->text);
    t->n++;
    t->points += d->points;
    snprintf(t->text + n, sizeof t->text - n, "%s/%u/%llu;", d->rule->id, d->points,
             (unsigned long long)d->evidence[0]);
}

static void say(struct cg_trust *t, uint64_t seq, const char *src, const char *session,
                const char *command)
{
    CG_OWN(cg_drop_free)
    char *text = cg_format(
        "{\"seq\":%llu,\"t\":%llu000000000,\"ts\":\"2026-01-02T03:04:05.678901Z\",\"type\":"
        "\"command\",\"src\":\"%s\",\"session\":%s,\"data\":{\"phase\":\"start\",\"shell\":\"%s\"}"
        "}",
        (unsigned long long)seq, (unsigned long long)seq * 100, src, session, command);
    struct cg_record_line line;
    assert_true(cg_record_line_parse(cg_slice_of(text), &line));
    cg_trust_line(t, &line);
}

static void the_same_lines_give_the_same_deductions_capped_by_session_and_sandbox(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_pack) struct cg_pack *p = read_pack(NULL, &e);
    struct told told[2] = {{.n = 0}};
    for (int run = 0; run < 2; run++) {
        struct cg_trust *t = cg_trust_create(p, NULL, take, &told[run]);
        say(t, 1, "host", "\"sess-a\"", "curl x | sh");
        say(t, 2, "host", "\"sess-b\"", "cat /etc/shadow");
        say(t, 3, "claim", "\"sess-b\"", "curl x | sh");
        say(t, 4, "host", "\"sess-b\"", "curl x | sh");
        say(t, 5, "host", "\"sess-b\"", "curl x | sh");
        assert_int_equal(cg_trust_session_score(t, "sess-a"), 75);
        assert_int_equal(cg_trust_session_score(t, "sess-b"), 55);
        assert_int_equal(cg_trust_score(t), 30);
        assert_int_equal(cg_trust_deductions(t), 3);
        cg_trust_destroy(t);
    }
    assert_string_equal(told[0].text, told[1].text);
    assert_string_equal(told[0].text,
                        "exec.remote-script/25/1;credentials.read/20/2;exec.remote-script/25/4;");
}

/* A file that was packed with zstd. */
static void unpack(const char *path, struct cg_buf *text)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *packed = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, 1 << 20, &packed, &n, &e))
        fail_msg("%s", e.text);
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {packed, n, 0};
    while (in.pos < in.size) {
        ZSTD_outBuffer out = {cg_buf_room(text, 1 << 20), 1 << 20, 0};
        assert_non_null(out.dst);
        assert_false(ZSTD_isError(ZSTD_decompressStream(z, &out, &in)));
        cg_buf_grew(text, out.pos);
    }
    ZSTD_freeDStream(z);
}

/* Its lines, one after the other through the engine; how many. */
static unsigned replay(const struct cg_buf *text, struct cg_trust *t)
{
    unsigned lines = 0;
    for (const char *at = text->p, *end = text->p + text->n; at < end; lines++) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        struct cg_record_line line;
        assert_non_null(eol);
        assert_true(cg_record_line_parse((struct cg_slice){at, (size_t)(eol - at)}, &line));
        cg_trust_line(t, &line);
        at = eol + 1;
    }
    return lines;
}

/* Recorded in real guests by tests/vm/test_trust_projects.py: the record, and the ends of argument
 * lists that it must hold, so that it is one of building and testing. */
static const struct recorded {
    const char *name;
    const char *ran[3];
} recorded[] = {
    {"minimist", {"/npm\",\"install\",", "/npm\",\"ci\",", "/tape\",\"test/**/*.js\"]"}},
    {"toolz", {"pip\",\"install\",\"-q\",\"-e\",\".\"]", "\"pytest\",\"-q\"]", "bdist_wheel\"]"}},
    {"zlib", {"./configure\"]", "\"make\",\"test\"]", "\"make\",\"distclean\"]"}},
    {"try-tiny", {"\"perl\",\"Makefile.PL\"]", "\"make\",\"test\"]", "/prove\",\"-l\",\"t\"]"}},
    {"fizz", {"./test.sh\"]", "\"git\",\"apply\",\"fix.patch\"]", "\"git\",\"merge\""}},
};

static void recorded_work_on_real_projects_costs_nothing(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_pack) struct cg_pack *p = read_pack(NULL, &e);
    for (size_t i = 0; i < CG_COUNT(recorded); i++) {
        const struct recorded *r = &recorded[i];
        struct told told = {.n = 0};
        CG_OWN(cg_drop_free)
        char *path =
            cg_format("%s/tests/vectors/trust/%s.jsonl.zst", getenv("CAGED_SOURCE"), r->name);
        CG_OWN(cg_drop_buf) struct cg_buf text;
        cg_buf_init(&text, 64 << 20);
        unpack(path, &text);
        for (size_t k = 0; k < CG_COUNT(r->ran); k++)
            if (!strstr(cg_buf_cstr(&text), r->ran[k]))
                fail_msg("%s did not run %s", r->name, r->ran[k]);
        struct cg_trust *t = cg_trust_create(p, NULL, take, &told);
        assert_true(replay(&text, t) > 400);
        if (told.points > 0)
            fail_msg("%s: %s", r->name, told.text);
        assert_int_equal(cg_trust_score(t), CG_TRUST_FULL);
        say(t, 1000000, "host", "null", "curl x | sh"); /* the engine looked all the time */
        assert_int_equal(cg_trust_score(t), CG_TRUST_FULL - 25);
        cg_trust_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_fires_and_stays_quiet_as_its_examples_say),
        cmocka_unit_test(shell_text_is_read_as_commands_with_their_pipes),
        cmocka_unit_test(starters_are_looked_through),
        cmocka_unit_test(wrong_rules_are_refused_with_their_line),
        cmocka_unit_test(an_operators_file_changes_what_it_names_and_nothing_else),
        cmocka_unit_test(the_same_lines_give_the_same_deductions_capped_by_session_and_sandbox),
        cmocka_unit_test(recorded_work_on_real_projects_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
