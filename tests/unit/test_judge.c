/* The verdicts of a policy, as tables: what is asked, what is answered, and which rule said so. */
#include "check.h"

#include <string.h>

#include "egress/judge.h"

enum { NAMES = 3 };

struct lists {
    enum cg_egress_mode mode;
    const char *allow[8];
    const char *deny[4];
    const char *operators[4];
};

static struct cg_egress_policy policy; /* one at a time: it is large */

static void make(const struct lists *l)
{
    struct cg_err e = CG_ERR_INIT;
    memset(&policy, 0, sizeof policy);
    policy.mode = l->mode;
    for (unsigned i = 0; i < 8 && l->allow[i]; i++)
        assert_true(cg_egress_pattern_parse(l->allow[i], &policy.allow[policy.nallow++], &e));
    for (unsigned i = 0; i < 4 && l->deny[i]; i++)
        assert_true(cg_egress_pattern_parse(l->deny[i], &policy.deny[policy.ndeny++], &e));
    for (unsigned i = 0; i < 4 && l->operators[i]; i++)
        assert_true(cg_egress_rule_parse(l->operators[i], &policy.rules[policy.nrules++], &e));
}

static uint32_t at(const char *text)
{
    uint32_t address = 0;
    assert_true(cg_egress_address_parse(text, &address));
    return address;
}

struct row {
    const char *address;
    uint16_t port;
    const char *names[NAMES];
    bool own;
    bool allow, look;
    const char *rule;
};

static struct cg_egress_ask ask_of(const struct row *r)
{
    struct cg_egress_ask a = {
        .address = at(r->address), .port = r->port, .own = r->own, .names = r->names};
    while (a.nnames < NAMES && r->names[a.nnames])
        a.nnames++;
    return a;
}

static void judge_all(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct cg_egress_ask a = ask_of(&rows[i]);
        struct cg_egress_verdict v = cg_egress_judge(&policy, &a);
        if (v.allow != rows[i].allow || v.look != rows[i].look || strcmp(v.rule, rows[i].rule) != 0)
            fail_msg("%s:%u gave %d, %d, \"%s\"", rows[i].address, rows[i].port, v.allow, v.look,
                     v.rule);
    }
}

static const struct row nowhere[] = {
    {"0.0.0.0", 80, {NULL}, false, false, false, "this-network 0.0.0.0/8"},
    {"10.255.255.255", 80, {NULL}, false, false, false, "private 10.0.0.0/8"},
    {"100.64.0.1", 80, {NULL}, false, false, false, "shared 100.64.0.0/10"},
    {"100.127.255.255", 80, {NULL}, false, false, false, "shared 100.64.0.0/10"},
    {"127.0.0.1", 80, {NULL}, false, false, false, "loopback 127.0.0.0/8"},
    {"169.254.169.254", 80, {NULL}, false, false, false, "metadata 169.254.169.254/32"},
    {"168.63.129.16", 80, {NULL}, false, false, false, "metadata 168.63.129.16/32"},
    {"169.254.0.1", 80, {NULL}, false, false, false, "link-local 169.254.0.0/16"},
    {"172.16.0.0", 80, {NULL}, false, false, false, "private 172.16.0.0/12"},
    {"172.31.255.255", 80, {NULL}, false, false, false, "private 172.16.0.0/12"},
    {"192.168.1.1", 443, {"example.com"}, false, false, false, "private 192.168.0.0/16"},
    {"224.0.0.1", 80, {NULL}, false, false, false, "multicast 224.0.0.0/4"},
    {"255.255.255.255", 80, {NULL}, false, false, false, "reserved 240.0.0.0/4"},
    {"8.8.8.8", 80, {NULL}, true, false, false, "this machine's own address"},
};

static void test_what_is_not_public_is_refused_in_every_mode(void **state)
{
    (void)state;
    make(&(struct lists){.mode = CG_EGRESS_FULL, .allow = {"example.com"}});
    judge_all(nowhere, CG_COUNT(nowhere));
    /* nor does a rule of the user open it */
    make(&(struct lists){.mode = CG_EGRESS_ALLOWLIST,
                         .allow = {"example.com", "0.0.0.0/0", "10.0.0.0/8", "127.0.0.1"}});
    judge_all(nowhere, CG_COUNT(nowhere));
    make(&(struct lists){.mode = CG_EGRESS_NONE, .operators = {"0.0.0.0/0"}});
    for (size_t i = 0; i < CG_COUNT(nowhere); i++) {
        const struct cg_egress_ask a = ask_of(&nowhere[i]);
        assert_false(cg_egress_judge(&policy, &a).allow);
    }
}

static void test_full_reaches_all_that_is_public_and_what_the_operator_names(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"8.8.8.8", 53, {NULL}, false, true, false, "mode full"},
        {"9.255.255.255", 1, {NULL}, false, true, false, "mode full"},
        {"11.0.0.0", 65535, {NULL}, false, true, false, "mode full"},
        {"172.15.255.255", 80, {NULL}, false, true, false, "mode full"},
        {"172.32.0.0", 80, {NULL}, false, true, false, "mode full"},
        {"223.255.255.255", 80, {NULL}, false, true, false, "mode full"},
        {"8.8.8.8", 0, {NULL}, false, false, false, "no port"},
        {"10.1.2.3", 443, {NULL}, true, true, false, "10.1.2.0/24:443"},
        {"10.1.2.3", 80, {NULL}, false, false, false, "private 10.0.0.0/8"},
    };
    make(&(struct lists){.mode = CG_EGRESS_FULL, .operators = {"10.1.2.0/24:443"}});
    judge_all(rows, CG_COUNT(rows));
}

static void test_denied_is_denied_in_full_too(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"8.8.8.8", 443, {NULL}, false, false, true, "deny 8.8.8.0/24"},
        {"8.8.9.8", 443, {NULL}, false, true, true, "mode full"},
        {"9.9.9.9", 25, {NULL}, false, false, true, "deny 0.0.0.0/0:25"},
    };
    make(&(struct lists){.mode = CG_EGRESS_FULL,
                         .deny = {"8.8.8.0/24", "0.0.0.0/0:25", "*.bad.example"}});
    for (size_t i = 0; i < CG_COUNT(rows); i++) {
        const struct cg_egress_ask a = ask_of(&rows[i]);
        struct cg_egress_verdict v = cg_egress_judge(&policy, &a);
        assert_int_equal(v.allow, rows[i].allow);
        assert_string_equal(v.rule, rows[i].rule);
    }
    const struct cg_egress_ask a = {.address = at("8.8.9.8"), .port = 443};
    struct cg_egress_verdict v =
        cg_egress_judge_sight(&policy, &a, CG_SIGHT_TLS, "very.bad.example");
    assert_false(v.allow);
    assert_string_equal(v.rule, "deny *.bad.example");
    assert_true(cg_egress_judge_sight(&policy, &a, CG_SIGHT_TLS, "bad.example").allow);
    assert_true(cg_egress_judge_sight(&policy, &a, CG_SIGHT_SILENT, NULL).allow);
    assert_false(cg_egress_judge_name(&policy, "very.bad.example").allow);
    assert_true(cg_egress_judge_name(&policy, "notbad.example").allow);
}

static const struct lists some = {
    .mode = CG_EGRESS_ALLOWLIST,
    .allow = {"example.com", "*.example.org", "git.example:22", "11.0.0.0/31", "12.0.0.1:8443",
              "any.example:*"},
    .deny = {"evil.example.org"},
};

static void test_an_allowlist_names_what_it_lets_through(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"8.1.1.1", 443, {"example.com"}, false, true, true, "allow example.com"},
        {"8.1.1.1", 80, {"example.com"}, false, true, true, "allow example.com"},
        {"8.1.1.1", 8080, {"example.com"}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 443, {NULL}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 443, {"sub.example.com"}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 443, {"x", "a.example.org"}, false, true, true, "allow *.example.org"},
        {"8.1.1.1", 443, {"example.org"}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 443, {"badexample.org"}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 443, {"evil.example.org"}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 22, {"git.example"}, false, true, true, "allow git.example:22"},
        {"8.1.1.1", 443, {"git.example"}, false, false, false, "mode allowlist"},
        {"8.1.1.1", 6000, {"any.example"}, false, true, true, "allow any.example:*"},
        {"10.9.9.9", 443, {"example.com"}, false, false, true, "private 10.0.0.0/8"},
        {"11.0.0.0", 9, {NULL}, false, true, true, "allow 11.0.0.0/31"},
        {"11.0.0.1", 9, {NULL}, false, true, true, "allow 11.0.0.0/31"},
        {"11.0.0.2", 9, {NULL}, false, false, true, "mode allowlist"},
        {"10.255.255.255", 9, {NULL}, false, false, true, "private 10.0.0.0/8"},
        {"12.0.0.1", 8443, {NULL}, false, true, true, "allow 12.0.0.1/32:8443"},
        {"12.0.0.1", 443, {NULL}, false, false, true, "mode allowlist"},
    };
    make(&some);
    for (size_t i = 0; i < CG_COUNT(rows); i++) {
        const struct cg_egress_ask a = ask_of(&rows[i]);
        struct cg_egress_verdict v = cg_egress_judge(&policy, &a);
        if (v.allow != rows[i].allow || strcmp(v.rule, rows[i].rule) != 0)
            fail_msg("%s:%u gave %d, \"%s\"", rows[i].address, rows[i].port, v.allow, v.rule);
        if (v.allow)
            assert_int_equal(v.look, true); /* a name is denied: every hello is looked at */
    }
}

static void test_a_connection_must_say_the_name_it_was_let_through_by(void **state)
{
    (void)state;
    static const struct {
        uint16_t port;
        enum cg_egress_sight sight;
        const char *name;
        bool allow;
        const char *rule;
    } rows[] = {
        {443, CG_SIGHT_TLS, "example.com", true, "allow example.com"},
        {443, CG_SIGHT_TLS, "b.example.org", true, "allow *.example.org"},
        {443, CG_SIGHT_TLS, "c.example.org", false, "name was not resolved to this address"},
        {443, CG_SIGHT_TLS, "evil.example.org", false, "deny evil.example.org"},
        {443, CG_SIGHT_TLS, "other.example", false, "mode allowlist"},
        {443, CG_SIGHT_TLS_NO_NAME, NULL, false, "TLS without a server name"},
        {443, CG_SIGHT_TLS_HIDDEN, NULL, false, "TLS with an encrypted hello"},
        {443, CG_SIGHT_OTHER, NULL, false, "no TLS on port 443"},
        {443, CG_SIGHT_SILENT, NULL, false, "no TLS on port 443"},
        {80, CG_SIGHT_HTTP, "example.com", true, "allow example.com"},
        {80, CG_SIGHT_HTTP, "other.example", false, "mode allowlist"},
        {80, CG_SIGHT_HTTP_NO_NAME, NULL, false, "HTTP without one Host"},
        {80, CG_SIGHT_OTHER, NULL, false, "no HTTP on port 80"},
        {22, CG_SIGHT_SILENT, NULL, true, "allow git.example:22"},
        {22, CG_SIGHT_TLS, "other.example", false, "mode allowlist"},
    };
    static const char *const names[] = {"example.com", "b.example.org", "git.example"};
    make(&some);
    for (size_t i = 0; i < CG_COUNT(rows); i++) {
        const struct cg_egress_ask a = {
            .address = at("8.1.1.1"), .port = rows[i].port, .names = names, .nnames = 3};
        struct cg_egress_verdict v =
            cg_egress_judge_sight(&policy, &a, rows[i].sight, rows[i].name);
        if (v.allow != rows[i].allow || strcmp(v.rule, rows[i].rule) != 0 || v.look)
            fail_msg("row %zu gave %d, \"%s\"", i, v.allow, v.rule);
    }
}

static void test_an_address_that_is_listed_may_say_any_name(void **state)
{
    (void)state;
    make(&some);
    const struct cg_egress_ask a = {.address = at("11.0.0.1"), .port = 443};
    assert_true(cg_egress_judge_sight(&policy, &a, CG_SIGHT_TLS, "other.example").allow);
    assert_true(cg_egress_judge_sight(&policy, &a, CG_SIGHT_TLS_NO_NAME, NULL).allow);
    assert_false(cg_egress_judge_sight(&policy, &a, CG_SIGHT_TLS, "evil.example.org").allow);
}

static void test_names_are_looked_up_only_when_something_may_come_of_it(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool allow;
    } rows[] = {{"example.com", true},       {"sub.example.com", false}, {"a.b.example.org", true},
                {"evil.example.org", false}, {"git.example", true},      {"com", false}};
    make(&some);
    for (size_t i = 0; i < CG_COUNT(rows); i++)
        assert_int_equal(cg_egress_judge_name(&policy, rows[i].name).allow, rows[i].allow);
    policy.mode = CG_EGRESS_NONE;
    for (size_t i = 0; i < CG_COUNT(rows); i++)
        assert_false(cg_egress_judge_name(&policy, rows[i].name).allow);
}

static void test_patterns_are_read_strictly_and_written_as_read(void **state)
{
    (void)state;
    static const char *const good[] = {"example.com", "*.example.com", "a.b:22",   "*.b.c:*",
                                       "10.0.0.0/8",  "1.2.3.4/32:80", "0.0.0.0/0"};
    static const char *const bad[] = {
        "",          "*",        "*.",         "*example.com", "a.*.com",      "http://a.b",
        "a.b/c",     "a b",      "a.b:0",      "a.b:65536",    "a.b:",         "a.b:x",
        "1.2.3",     "0x7f.1",   "127.1",      "1.2.3.4.5",    "a.0x7f000001", "017700000001",
        "1.2.3.4/8", "[::1]:80", "::1",        "a..b",         "a.b:443:443",  "user@a.b",
        "a\nb",      "a%00.b",   "2130706433", "1.2.3.4%lo.0", "\xc3\xbc.de"};
    for (size_t i = 0; i < CG_COUNT(good); i++) {
        struct cg_egress_pattern r;
        struct cg_err e = CG_ERR_INIT;
        char text[CG_EGRESS_PATTERN_TEXT];
        assert_true(cg_egress_pattern_parse(good[i], &r, &e));
        cg_egress_pattern_format(&r, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_egress_pattern r;
        struct cg_err e = CG_ERR_INIT;
        if (cg_egress_pattern_parse(bad[i], &r, &e))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(e.code, CG_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_public_is_refused_in_every_mode),
        cmocka_unit_test(test_full_reaches_all_that_is_public_and_what_the_operator_names),
        cmocka_unit_test(test_denied_is_denied_in_full_too),
        cmocka_unit_test(test_an_allowlist_names_what_it_lets_through),
        cmocka_unit_test(test_a_connection_must_say_the_name_it_was_let_through_by),
        cmocka_unit_test(test_an_address_that_is_listed_may_say_any_name),
        cmocka_unit_test(test_names_are_looked_up_only_when_something_may_come_of_it),
        cmocka_unit_test(test_patterns_are_read_strictly_and_written_as_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
