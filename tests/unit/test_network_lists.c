/* The server's half of a network policy: wishes, changes, registries. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "core/network.h"
#include "egress/lists.h"
#include "egress/registries.h"

static char *wish(const char *body, struct cg_err *e)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(cg_slice_of(body), NULL, NULL);
    char *out = NULL;
    assert_non_null(o);
    return cg_network_wish(o, &out, e) ? out : NULL;
}

static void what_a_request_says_is_what_is_kept(void **state)
{
    (void)state;
    static const struct {
        const char *body, *kept;
    } rows[] = {
        {"{}", "{\"mode\":\"full\",\"allow\":[],\"deny\":[]}"},
        {"{\"network_mode\":null}", "{\"mode\":\"full\",\"allow\":[],\"deny\":[]}"},
        {"{\"network_mode\":\"none\"}", "{\"mode\":\"none\",\"allow\":[],\"deny\":[]}"},
        {"{\"allowlist\":[\"a.b\",\"registries\"]}",
         "{\"mode\":\"allowlist\",\"allow\":[\"a.b\",\"registries\"],\"deny\":[]}"},
        {"{\"denylist\":[\"*.c.d:25\"]}",
         "{\"mode\":\"full\",\"allow\":[],\"deny\":[\"*.c.d:25\"]}"},
        {"{\"network_mode\":\"allowlist\"}", NULL},
        {"{\"network_mode\":\"open\"}", NULL},
        {"{\"network_mode\":\"full\",\"allowlist\":[\"a.b\"]}", NULL},
        {"{\"allowlist\":[\"*\"]}", NULL},
        {"{\"allowlist\":[\"a.b\\u0000.c\"]}", NULL},
        {"{\"allowlist\":[1]}", NULL},
        {"{\"denylist\":[\"registries\"],\"x\":1}",
         "{\"mode\":\"full\",\"allow\":[],\"deny\":[\"registries\"]}"},
    };
    for (size_t i = 0; i < CG_COUNT(rows); i++) {
        struct cg_err e = CG_ERR_INIT;
        CG_OWN(cg_drop_free) char *got = wish(rows[i].body, &e);
        if (rows[i].kept)
            assert_string_equal(got, rows[i].kept);
        else if (got || e.code != CG_INVALID)
            fail_msg("%s gave %s", rows[i].body, got ? got : e.text);
    }
}

static void a_change_adds_removes_and_replaces(void **state)
{
    (void)state;
    static const char now[] = "{\"mode\":\"full\",\"allow\":[\"a.b\"],\"deny\":[\"c.d\"]}";
    static const struct {
        const char *change, *kept;
        enum cg_code code;
    } rows[] = {
        {"{\"mode\":\"none\"}", "{\"mode\":\"none\",\"allow\":[\"a.b\"],\"deny\":[\"c.d\"]}",
         CG_OK},
        {"{\"add\":{\"allow\":[\"c.d\"]}}",
         "{\"mode\":\"full\",\"allow\":[\"a.b\",\"c.d\"],\"deny\":[]}", CG_OK},
        {"{\"add\":{\"deny\":[\"a.b\",\"c.d\"]}}",
         "{\"mode\":\"full\",\"allow\":[],\"deny\":[\"a.b\",\"c.d\"]}", CG_OK},
        {"{\"remove\":[\"a.b\",\"c.d\"]}", "{\"mode\":\"full\",\"allow\":[],\"deny\":[]}", CG_OK},
        {"{\"allow\":[\"x.y\"],\"mode\":\"allowlist\"}",
         "{\"mode\":\"allowlist\",\"allow\":[\"x.y\"],\"deny\":[\"c.d\"]}", CG_OK},
        {"{\"remove\":[\"no.such\"]}", NULL, CG_NOT_FOUND},
        {"{\"mode\":\"\"}", NULL, CG_INVALID},
        {"{\"mode\":1}", NULL, CG_INVALID},
        {"{\"allow\":\"x.y\"}", NULL, CG_INVALID},
        {"{\"add\":[\"x.y\"]}", NULL, CG_INVALID},
        {"{\"add\":{\"alow\":[]}}", NULL, CG_INVALID},
        {"{\"allowlist\":[\"x.y\"]}", NULL, CG_INVALID},
        {"{\"add\":{\"allow\":[\"x y\"]}}", NULL, CG_INVALID},
        {"[]", NULL, CG_INVALID},
    };
    for (size_t i = 0; i < CG_COUNT(rows); i++) {
        struct cg_err e = CG_ERR_INIT;
        char *out = NULL;
        CG_OWN(cg_drop_json)
        struct cg_json *change = cg_json_parse(cg_slice_of(rows[i].change), NULL, NULL);
        bool fine = cg_network_change(now, change, &out, &e);
        if (fine != (rows[i].kept != NULL) || (!fine && e.code != rows[i].code))
            fail_msg("%s: %s", rows[i].change, fine ? out : e.text);
        if (fine)
            assert_string_equal(out, rows[i].kept);
        free(out);
    }
}

static void registries_are_found_in_configurations(void **state)
{
    (void)state;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, 4096);
    cg_registries_scan("registry=https://npm.example/path/\n; registry=https://old.example\n"
                       "@me:registry = \"http://user:pass@own.example:4873/\"\n"
                       "proxy=http://proxy.example\n",
                       "registry", &out);
    cg_registries_scan("deb [arch=amd64] http://apt.example/debian bookworm main\n"
                       "#deb http://off.example x y\n deb https://npm.example stable\n"
                       "deb ftp://ftp.example/ x\ndeb http://any.example:*/ x\ndeb http://[::1]/ "
                       "x\ndeb http://127.1/ y\n",
                       "", &out);
    static const char want[] =
        "npm.example:443\0own.example:4873\0apt.example:80"; /* and a NUL of its own */
    assert_int_equal(out.n, sizeof want);
    assert_memory_equal(out.p, want, sizeof want);
}

/* "registries" has room of its own, and stands for its hosts once. */
static void a_full_list_has_room_for_the_registries(void **state)
{
    (void)state;
    struct cg_buf b;
    CG_OWN(cg_drop_free) struct cg_egress_policy *p = cg_alloc(sizeof *p);
    cg_buf_init(&b, 65536);
    cg_buf_adds(&b, "{\"mode\":\"allowlist\",\"allow\":[\"registries\",\"registries\"");
    for (int i = 0; i < CG_EGRESS_PATTERNS; i++)
        cg_buf_addf(&b, ",\"n%d.example\"", i);
    size_t full = b.n;
    for (int extra = 0; extra < 2; extra++) {
        b.n = full;
        cg_buf_adds(&b, extra ? ",\"more.example\"],\"registries\":[" : "],\"registries\":[");
        for (int i = 0; i < CG_EGRESS_PRESETS; i++)
            cg_buf_addf(&b, "%s\"r%d.example:443\"", i ? "," : "", i);
        cg_buf_adds(&b, "]}");
        CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(cg_buf_slice(&b), NULL, NULL);
        assert_non_null(o);
        assert_int_equal(cg_egress_read_lists(o, p, NULL), !extra);
        assert_int_equal(p->nallow, CG_EGRESS_PATTERNS + CG_EGRESS_PRESETS);
    }
    cg_buf_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_request_says_is_what_is_kept),
        cmocka_unit_test(a_change_adds_removes_and_replaces),
        cmocka_unit_test(registries_are_found_in_configurations),
        cmocka_unit_test(a_full_list_has_room_for_the_registries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
