/* The policy decides about numbers, not about texts; the resolver's messages are strict. */
#include "check.h"

#include <string.h>

#include "egress/dnsmsg.h"
#include "egress/inner.h"
#include "egress/judge.h"

static void test_rules_are_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t address;
        unsigned prefix;
        unsigned port;
    } good[] = {
        {"0.0.0.0/0", 0, 0, 0},
        {"192.0.2.1", 0xc0000201, 32, 0},
        {"192.0.2.1:443", 0xc0000201, 32, 443},
        {"10.0.0.0/8:65535", 0x0a000000, 8, 65535},
        {"255.255.255.254/31", 0xfffffffe, 31, 0},
    };
    for (size_t i = 0; i < CG_COUNT(good); i++) {
        struct cg_egress_rule r;
        struct cg_err e = CG_ERR_INIT;
        char text[CG_EGRESS_RULE_TEXT];
        assert_true(cg_egress_rule_parse(good[i].text, &r, &e));
        assert_int_equal(r.address, good[i].address);
        assert_int_equal(r.prefix, good[i].prefix);
        assert_int_equal(r.port, good[i].port);
        cg_egress_rule_format(&r, text);
        struct cg_egress_rule again;
        assert_true(cg_egress_rule_parse(text, &again, &e));
        assert_int_equal(again.address, r.address);
    }
    static const char *const bad[] = {
        "",           "1.2.3",       "1.2.3.4.5",     "1.2.3.256",
        "01.2.3.4",   "0x1.2.3.4",   "1.2.3.4/33",    "1.2.3.4/",
        "1.2.3.4/08", "1.2.3.4:0",   "1.2.3.4:65536", "1.2.3.4 ",
        " 1.2.3.4",   "1.2.3.4/8",   "10.0.0.1/8",    "::1",
        "localhost",  "1.2.3.4:80x", "1.2.3.4%eth0",  "+1.2.3.4",
        "1.2.3.4/-1", "16909060",
    };
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_egress_rule r;
        struct cg_err e = CG_ERR_INIT;
        if (cg_egress_rule_parse(bad[i], &r, &e))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(e.code, CG_INVALID);
    }
}

/* What the operator opened is open in an empty allowlist. */
static struct cg_egress_policy policy_of(const char *const *rules)
{
    struct cg_egress_policy p = {.mode = CG_EGRESS_ALLOWLIST};
    struct cg_err e = CG_ERR_INIT;
    for (; *rules; rules++)
        assert_true(cg_egress_rule_parse(*rules, &p.rules[p.nrules++], &e));
    return p;
}

static struct cg_egress_verdict decide(const struct cg_egress_policy *p, uint32_t address,
                                       uint16_t port)
{
    const struct cg_egress_ask a = {.address = address, .port = port};
    return cg_egress_judge(p, &a);
}

static void test_the_edges_of_a_network_are_its_first_and_last_address(void **state)
{
    (void)state;
    static const char *const rules[] = {"10.1.2.128/25", "192.0.2.6/31:80", "203.0.113.9/32", NULL};
    struct cg_egress_policy p = policy_of(rules);
    static const struct {
        uint32_t address;
        uint16_t port;
        bool allow;
    } cases[] = {
        {0x0a01027f, 1, false},  {0x0a010280, 1, true},   {0x0a0102ff, 65535, true},
        {0x0a010300, 1, false},  {0xc0000206, 80, true},  {0xc0000207, 80, true},
        {0xc0000208, 80, false}, {0xc0000206, 81, false}, {0xcb007109, 22, true},
        {0xcb00710a, 22, false}, {0xcb007109, 0, false},  {0x7f000001, 22, false},
        {0, 22, false},          {0xffffffff, 22, false},
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct cg_egress_verdict v = decide(&p, cases[i].address, cases[i].port);
        if (v.allow != cases[i].allow)
            fail_msg("case %zu", i);
    }
}

static void test_nothing_is_allowed_without_a_rule(void **state)
{
    (void)state;
    struct cg_egress_policy p = {.nrules = 0};
    assert_false(decide(&p, 0x01020304, 80).allow);
}

/* The rule must hold for the address that is dialled, not for the one that the guest named. */
static void test_a_hosts_address_is_judged_by_where_it_leads(void **state)
{
    (void)state;
    static const char *const rules[] = {"172.30.0.1", "127.0.0.1:9418", NULL};
    struct cg_egress_policy p = policy_of(rules);
    p.hosts[p.nhosts++] = (struct cg_egress_host){
        .name = "host.caged.internal", .address = 0xac1e0001, .to = 0x7f000001};
    struct cg_egress_verdict v = decide(&p, 0xac1e0001, 9418);
    assert_true(v.allow);
    assert_int_equal(v.address, 0x7f000001);
    assert_false(decide(&p, 0xac1e0001, 22).allow);
    assert_non_null(cg_egress_find_host(&p, "host.caged.internal"));
    assert_null(cg_egress_find_host(&p, "caged.internal"));
}

static void test_names_have_one_form(void **state)
{
    (void)state;
    char out[CG_EGRESS_NAME];
    assert_true(cg_egress_name_parse("Host.Caged.INTERNAL.", out));
    assert_string_equal(out, "host.caged.internal");
    static const char *const bad[] = {
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "a\nb",
        "a/b",
        "a%00b",
        "a@b",
        "[::1]",
        "\xc3\xbc",
        "a..",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < CG_COUNT(bad); i++)
        assert_false(cg_egress_name_parse(bad[i], out));
}

static const unsigned char plain_query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                           "\x07"
                                           "eXample\x03"
                                           "com\x00\x00\x01\x00\x01";

static void test_a_denied_name_does_not_exist(void **state)
{
    (void)state;
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    unsigned char out[CG_DNS_ANSWER_MAX];
    size_t n = sizeof plain_query - 1;
    assert_int_equal(cg_dns_parse(plain_query, n, &q, &rcode), CG_DNS_QUERY);
    assert_string_equal(q.name, "example.com");
    assert_true(q.plain);
    assert_int_equal(cg_dns_answer(plain_query, &q, CG_DNS_NXDOMAIN, NULL, out), n);
    assert_memory_equal(out, "\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00", 12);
    assert_memory_equal(out + 12, plain_query + 12, n - 12);
}

static void test_a_static_name_has_its_address(void **state)
{
    (void)state;
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    unsigned char out[CG_DNS_ANSWER_MAX];
    const struct cg_dns_addresses address = {{0xac1e0001}, 1, CG_DNS_STATIC_TTL};
    size_t n = sizeof plain_query - 1;
    assert_int_equal(cg_dns_parse(plain_query, n, &q, &rcode), CG_DNS_QUERY);
    assert_int_equal(cg_dns_answer(plain_query, &q, CG_DNS_OK, &address, out), n + 16);
    assert_memory_equal(out + 2, "\x81\x80\x00\x01\x00\x01", 6);
    assert_memory_equal(out + n + 12, "\xac\x1e\x00\x01", 4);
}

static void test_what_is_no_plain_question_is_refused_or_not_answered(void **state)
{
    (void)state;
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    unsigned char m[sizeof plain_query + 8];
    size_t n = sizeof plain_query - 1;
    for (size_t cut = 0; cut < n; cut++) {
        enum cg_dns_got got = cg_dns_parse(plain_query, cut, &q, &rcode);
        assert_int_equal(got, cut < CG_DNS_HEADER ? CG_DNS_DROP : CG_DNS_BAD);
    }
    static const struct {
        size_t at;
        unsigned char value;
        enum cg_dns_got got;
    } cases[] = {
        {2, 0x81, CG_DNS_DROP}, /* an answer: never answered, so that two resolvers cannot loop */
        {2, 0x29, CG_DNS_BAD},  /* UPDATE */
        {5, 0, CG_DNS_BAD},     /* no question */
        {5, 2, CG_DNS_BAD},     /* two */
        {7, 1, CG_DNS_BAD},     /* a question that brings answers */
        {12, 0xc0, CG_DNS_BAD}, /* a pointer */
        {12, 64, CG_DNS_BAD},   /* a label too long */
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        memcpy(m, plain_query, n);
        m[cases[i].at] = cases[i].value;
        assert_int_equal(cg_dns_parse(m, n, &q, &rcode), cases[i].got);
    }
}

static void test_strange_bytes_in_names_are_told_as_numbers(void **state)
{
    (void)state;
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    static const unsigned char m[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                     "\x05"
                                     "a\x00\n\x1b.\x00\x00\x10\x00\x01";
    assert_int_equal(cg_dns_parse(m, sizeof m - 1, &q, &rcode), CG_DNS_QUERY);
    assert_string_equal(q.name, "a\\000\\010\\027\\046");
    assert_false(q.plain);
}

/* --- processes --- */

static struct cg_egress *bare_egress(uv_loop_t *loop, const struct cg_egress_policy *policy)
{
    const struct cg_egress_options o = {.policy = policy, .tcp = -1, .dns = -1, .dns_tcp = -1};
    assert_int_equal(uv_loop_init(loop), 0);
    struct cg_egress *g = cg_egress_create(loop, &o, NULL);
    assert_non_null(g);
    return g;
}

static const char *owner_of(const struct cg_egress *g, bool udp, uint64_t id, struct cg_buf *b)
{
    struct cg_jsonw j;
    cg_buf_clear(b);
    cg_jsonw_init(&j, b);
    cg_jsonw_obj(&j);
    egress_owner_write(g, udp, id, &j);
    cg_jsonw_obj_end(&j);
    return cg_buf_cstr(b);
}

static void test_a_process_and_its_connection_meet_whichever_comes_first(void **state)
{
    (void)state;
    const struct cg_egress_policy policy = {.mode = CG_EGRESS_FULL};
    struct cg_egress_process curl = {
        .sport = 40000, .port = 443, .address = 0x08010101, .pid = 77, .comm = "curl"};
    struct cg_egress_process glibc = {
        .udp = true, .sport = 40000, .port = 53, .pid = 78, .comm = "git"};
    CG_OWN(cg_drop_buf) struct cg_buf b;
    uv_loop_t loop;
    struct cg_egress *g = bare_egress(&loop, &policy);
    cg_buf_init(&b, 4096);
    egress_owner_flow(g, false, 40000, 0x08010101, 443, 1);
    assert_string_equal(owner_of(g, false, 1, &b), "{}");
    assert_int_equal(cg_egress_process(g, &curl), 1);
    assert_string_equal(owner_of(g, false, 1, &b), "{\"pid\":77,\"process\":\"curl\"}");
    assert_int_equal(cg_egress_process(g, &glibc), 0); /* the word comes before the question */
    egress_owner_flow(g, true, 40000, 0, 53, 1);
    assert_string_equal(owner_of(g, true, 1, &b), "{\"pid\":78,\"process\":\"git\"}");
    assert_string_equal(owner_of(g, false, 1, &b), "{\"pid\":77,\"process\":\"curl\"}");
    /* the same port to another place is another connection; the guest's loopback is none */
    curl.address = 0x7f000001;
    assert_int_equal(cg_egress_process(g, &curl), 0);
    egress_owner_flow(g, false, 40000, 0x08020202, 443, 2);
    assert_string_equal(owner_of(g, false, 2, &b), "{}");
    /* the port again: the word that was used is not used twice */
    egress_owner_flow(g, false, 40000, 0x08010101, 443, 3);
    assert_string_equal(owner_of(g, false, 3, &b), "{}");
    curl.address = 0x08010101;
    curl.pid = 99;
    assert_int_equal(cg_egress_process(g, &curl), 3);
    cg_egress_destroy(g);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_a_flood_of_words_forgets_the_oldest_and_stays_in_its_bounds(void **state)
{
    (void)state;
    const struct cg_egress_policy policy = {.mode = CG_EGRESS_FULL};
    struct cg_egress_process p = {.port = 80, .address = 1, .comm = "a name longer than sixteen"};
    CG_OWN(cg_drop_buf) struct cg_buf b;
    uv_loop_t loop;
    struct cg_egress *g = bare_egress(&loop, &policy);
    cg_buf_init(&b, 4096);
    egress_owner_flow(g, false, 1, 1, 80, 5);
    for (uint16_t i = 2; i < 3 * CG_EGRESS_OWNERS; i++) {
        p.sport = i;
        assert_int_equal(cg_egress_process(g, &p), 0);
    }
    p.sport = 1;
    assert_int_equal(cg_egress_process(g, &p), 0);
    egress_owner_flow(g, false, 3 * CG_EGRESS_OWNERS - 1, 1, 80, 6);
    assert_string_equal(owner_of(g, false, 6, &b), "{\"pid\":0,\"process\":\"a name longer t\"}");
    cg_egress_destroy(g);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

struct heard {
    unsigned n;
    struct cg_egress_lone last;
};

static void hear(void *ctx, const struct cg_egress_lone *l)
{
    struct heard *h = ctx;
    h->n++;
    h->last = *l;
}

static void serve_nothing(void *ctx, int fd, const struct cg_egress_peer *peer)
{
    (void)ctx;
    (void)fd;
    (void)peer;
}

/* Everything that is alone now. */
static struct heard check_all(struct cg_egress *g)
{
    struct heard h = {.n = 0};
    cg_egress_check(g, INT64_MAX, hear, &h);
    return h;
}

static struct cg_egress *checked_egress(uv_loop_t *loop)
{
    static const struct cg_egress_policy policy = {.mode = CG_EGRESS_FULL};
    static const struct cg_egress_service gateway = {"gateway", 0xac1e0101, 80, serve_nothing,
                                                     NULL};
    struct cg_egress *g = bare_egress(loop, &policy);
    cg_egress_add_service(g, &gateway);
    return g;
}

static void test_what_one_side_tells_alone_is_told_once_and_nothing_else(void **state)
{
    (void)state;
    struct cg_egress_process p = {
        .sport = 4000, .port = 443, .address = 0x08010101, .pid = 7, .comm = "curl", .made = true};
    uv_loop_t loop;
    struct cg_egress *g = checked_egress(&loop);
    struct heard h;
    egress_owner_flow(g, false, 4000, 0x08010101, 443, 1);
    assert_int_equal(cg_egress_process(g, &p), 1);
    egress_owner_flow(g, true, 4000, 0, 53, 1); /* lookups are often made without connect(2) */
    assert_int_equal(check_all(g).n, 0);

    egress_owner_flow(g, false, 4001, 0x08010101, 443, 2);
    cg_egress_check(g, 1, hear, &(struct heard){.n = 0}); /* not due yet */
    h = check_all(g);
    assert_int_equal(h.n, 1);
    assert_true(h.last.host && h.last.conn == 2 && h.last.fact == CG_EGRESS_CONNECTION);
    assert_int_equal(check_all(g).n, 0);
    egress_owner_flow(g, false, 4002, 0xac1e0101, 80, 3);
    h = check_all(g);
    assert_true(h.n == 1 && h.last.host && h.last.fact == CG_EGRESS_SERVICE_CALL);

    p.sport = 4003;
    assert_int_equal(cg_egress_process(g, &p), 0);
    h = check_all(g);
    assert_true(h.n == 1 && !h.last.host && h.last.pid == 7 && h.last.address == 0x08010101);
    cg_egress_destroy(g);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_what_nobody_can_know_is_no_difference(void **state)
{
    (void)state;
    static const struct cg_egress_process quiet[] = {
        {.sport = 1, .port = 443, .address = 0x08010101, .comm = "gave-up"},
        {.sport = 2, .port = 8080, .address = 0x7f000001, .comm = "itself", .made = true},
        {.sport = 3, .port = 5432, .address = 0xac110002, .comm = "container", .made = true},
        {.sport = 4, .port = 53, .address = 0x08080808, .comm = "resolver", .made = true},
    };
    struct cg_egress_process nat = {
        .sport = 5, .port = 443, .address = 0x08020202, .comm = "docker", .made = true};
    uv_loop_t loop;
    struct cg_egress *g = checked_egress(&loop);
    for (size_t i = 0; i < CG_COUNT(quiet); i++)
        assert_int_equal(cg_egress_process(g, &quiet[i]), 0);
    assert_int_equal(check_all(g).n, 0);
    assert_int_equal(cg_egress_process(g, &nat), 0); /* its port is another one outside */
    egress_owner_flow(g, false, 6, 0x08020202, 443, 1);
    assert_int_equal(check_all(g).n, 0);
    egress_owner_flow(g, false, 7, 0x08020202, 443, 2);
    cg_egress_forgive(g);
    assert_int_equal(check_all(g).n, 0);
    for (uint16_t i = 0; i < CG_EGRESS_OWNERS + 1; i++) /* some have lost their other half */
        egress_owner_flow(g, false, i, 0x08030303, 443, 10u + i);
    assert_int_equal(check_all(g).n, 0);
    cg_egress_destroy(g);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_are_read_strictly),
        cmocka_unit_test(test_the_edges_of_a_network_are_its_first_and_last_address),
        cmocka_unit_test(test_nothing_is_allowed_without_a_rule),
        cmocka_unit_test(test_a_hosts_address_is_judged_by_where_it_leads),
        cmocka_unit_test(test_names_have_one_form),
        cmocka_unit_test(test_a_denied_name_does_not_exist),
        cmocka_unit_test(test_a_static_name_has_its_address),
        cmocka_unit_test(test_what_is_no_plain_question_is_refused_or_not_answered),
        cmocka_unit_test(test_a_process_and_its_connection_meet_whichever_comes_first),
        cmocka_unit_test(test_a_flood_of_words_forgets_the_oldest_and_stays_in_its_bounds),
        cmocka_unit_test(test_strange_bytes_in_names_are_told_as_numbers),
        cmocka_unit_test(test_what_one_side_tells_alone_is_told_once_and_nothing_else),
        cmocka_unit_test(test_what_nobody_can_know_is_no_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
