/* Alerts without a server: where messages may go, what an unusual cost is, what is an address. */
#include "check.h"

#include <string.h>

#include "core/alerts.h"
#include "core/channels.h"
#include "core/notify.h"

static void messages_go_to_public_addresses_by_tls_and_to_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        uint32_t address;
        uint16_t port;
        bool tls, may;
    } cases[] = {
        {0x08080808, 443, true, true},   {0x08080808, 80, false, false},
        {0x7f000001, 443, true, false},  {0x0a000001, 443, true, false},
        {0xc0a80101, 443, true, false},  {0xa9fea9fe, 443, true, false},
        {0xac100005, 443, true, false},  {0, 443, true, false},
        {0xe0000001, 443, true, false},  {0x0a010203, 8443, true, true},
        {0x0a010203, 8443, false, true}, {0x0a010203, 8444, true, false},
    };
    struct cg_egress_rule allow;
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_egress_rule_parse("10.1.0.0/16:8443", &allow, &e));
    for (size_t i = 0; i < CG_COUNT(cases); i++)
        assert_int_equal(cg_courier_may(&allow, 1, cases[i].address, cases[i].port, cases[i].tls),
                         cases[i].may);
}

static void costs_are_unusual_when_they_are_many_times_what_they_were(void **state)
{
    (void)state;
    enum { CENT = 10 * 1000 * 1000 };
    int64_t spent[20];
    for (int i = 0; i < 20; i++)
        spent[i] = 2 * CENT;
    assert_false(cg_alerts_anomaly(spent, 20, 5, 3));
    for (int i = 15; i < 20; i++)
        spent[i] = 6 * CENT;
    assert_true(cg_alerts_anomaly(spent, 20, 5, 3));
    assert_false(cg_alerts_anomaly(spent, 20, 5, 3.1));
    assert_false(cg_alerts_anomaly(spent + 6, 14, 5, 3)); /* too little is known */
    for (int i = 0; i < 20; i++)
        spent[i] = i < 15 ? 0 : CENT / 2;
    assert_false(cg_alerts_anomaly(spent, 20, 5, 3)); /* too little money */
}

static void an_address_of_mail_cannot_end_its_line(void **state)
{
    (void)state;
    assert_true(cg_mail_address("ops@example.com"));
    static const char *const wrong[] = {"",      "ops",          "@x",    "a@",     "a@b@c",
                                        "a b@c", "a@b\r\nBcc:x", "<a@b>", "a@b,c@d"};
    for (size_t i = 0; i < CG_COUNT(wrong); i++)
        assert_false(cg_mail_address(wrong[i]));
}

static void what_a_chat_gets_calls_nobody(void **state)
{
    (void)state;
    const struct cg_message m = {"dlv-1", "<!channel>", "@everyone & co", NULL, 0};
    CG_OWN(cg_drop_free) char *slack = cg_channel_body(CG_CH_SLACK, &m, NULL, NULL);
    CG_OWN(cg_drop_free) char *discord = cg_channel_body(CG_CH_DISCORD, &m, NULL, NULL);
    CG_OWN(cg_drop_free) char *mail = cg_channel_body(CG_CH_EMAIL, &m, "a@b", "c@d");
    assert_null(strstr(slack, "<!channel>"));
    assert_non_null(strstr(slack, "&lt;!channel&gt;"));
    assert_non_null(strstr(discord, "\"allowed_mentions\":{\"parse\":[]}"));
    assert_non_null(strstr(mail, "Subject: [caged] <!channel>\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_to_public_addresses_by_tls_and_to_what_is_allowed),
        cmocka_unit_test(costs_are_unusual_when_they_are_many_times_what_they_were),
        cmocka_unit_test(an_address_of_mail_cannot_end_its_line),
        cmocka_unit_test(what_a_chat_gets_calls_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
