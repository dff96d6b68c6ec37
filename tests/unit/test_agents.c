/* Profiles of coding agents, what a shell gets of them, and what is read out of an agent's own
 * report: hostile output is the normal case there. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "api/report.h"
#include "image/agents.h"

static const char good[] = "name: tiny\ndescription: d\nrun: exec tiny \"$1\"\n"
                           "aliases: [t]\nnpm: [tiny@1]\nkeep: [a/b]\nbin: {tiny: a/b, two: a/c}\n"
                           "env: {A: x, B: 'y z'}\nsetup: 'mkdir -p ~/.tiny'\n"
                           "report: {text: r.text, cost_usd: r.cost, tokens_in: u.in, turns: n}\n";

static struct cg_agent parsed(const char *text)
{
    struct cg_agent a;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_agent_parse("a.yaml", cg_slice_of(text), &a, &e))
        fail_msg("%s", e.text);
    return a;
}

static void a_profile_is_read_whole(void **state)
{
    (void)state;
    struct cg_agent a = parsed(good);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    assert_string_equal(a.name, "tiny");
    assert_int_equal(a.programs.n, 2);
    assert_string_equal(a.programs.v[1], "two");
    assert_string_equal(a.program_paths.v[1], "a/c");
    assert_string_equal(cg_agent_report(&a, "cost_usd"), "r.cost");
    assert_null(cg_agent_report(&a, "cost"));
    assert_null(cg_agent_report(&a, "tokens_out"));
    cg_agent_prelude(&a, &b);
    assert_string_equal(cg_buf_cstr(&b),
                        "export A=\"${A-x}\"\nexport B=\"${B-y z}\"\nmkdir -p ~/.tiny\n");
    cg_agent_finish(&a);
}

static void a_bad_profile_is_refused_with_its_reason(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"name: a\ndescription: d\nrun: x\nruns: y\n", "a.yaml:4: unknown key runs"},
        {"name: a\ndescription: d\n", "run are needed"},
        {"name: A\ndescription: d\nrun: x\n", "name is missing"},
        {"name: a\ndescription: d\nrun: x\nnpm: [-g]\n", "must name packages"},
        {"name: a\ndescription: d\nrun: x\npip: ['a b']\n", "must name packages"},
        {"name: a\ndescription: d\nrun: x\nkeep: [../../etc]\n", "paths inside"},
        {"name: a\ndescription: d\nrun: x\nkeep: [/etc]\n", "paths inside"},
        {"name: a\ndescription: d\nrun: x\nbin: {a: '/bin/sh'}\n", "paths inside"},
        {"name: a\ndescription: d\nrun: x\nbin: {'../a': b}\n", "paths inside"},
        {"name: a\ndescription: d\nrun: x\nenv: [A]\n", "expected names with values"},
        {"name: a\nname: b\ndescription: d\nrun: x\n", "there twice"},
        {"[a]\n", "expected names with values"},
        {"name: [\n", "a.yaml:"},
    };
    (void)state;
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_agent a;
        struct cg_err e = CG_ERR_INIT;
        assert_false(cg_agent_parse("a.yaml", cg_slice_of(bad[i].text), &a, &e));
        assert_int_equal(e.code, CG_INVALID);
        if (!strstr(e.text, bad[i].words))
            fail_msg("%s does not say %s", e.text, bad[i].words);
    }
}

static void the_installed_profiles_are_good_and_name_no_package_without_its_version(void **state)
{
    const char *root = getenv("CAGED_SOURCE");
    CG_OWN(cg_drop_free) char *data = cg_format("%s/data", root ? root : ".");
    const struct cg_image_config c = {.data_dir = data};
    struct cg_agents all;
    struct cg_err e = CG_ERR_INIT;
    (void)state;
    if (!cg_agents_load(&c, &all, &e))
        fail_msg("%s", e.text);
    assert_ptr_equal(cg_agents_find(&all, "claude"), cg_agents_find(&all, "claude-code"));
    assert_null(cg_agents_find(&all, "nobody"));
    for (size_t i = 0; i < all.n; i++) {
        const struct cg_agent *a = &all.v[i];
        for (size_t p = 0; p < a->npm.n; p++)
            assert_true(strrchr(a->npm.v[p], '@') > a->npm.v[p]);
        for (size_t p = 0; p < a->pip.n; p++)
            assert_non_null(strstr(a->pip.v[p], "=="));
        for (size_t p = 0; p < a->npm.n; p++)
            assert_non_null(strstr(a->npm.v[p], a->version));
    }
    cg_agents_finish(&all);
}

static void a_name_with_agents_comes_apart(void **state)
{
    CG_OWN(cg_drop_free) char *base = NULL;
    CG_OWN(cg_strv_finish) struct cg_strv agents = {.v = NULL};
    (void)state;
    assert_true(cg_variant_is("a+b"));
    assert_false(cg_variant_is("a"));
    cg_variant_split("node-22+claude-code+codex", &base, &agents);
    assert_string_equal(base, "node-22");
    assert_int_equal(agents.n, 2);
    assert_string_equal(agents.v[1], "codex");
}

static void a_report_is_found_among_other_lines_and_added_up(void **state)
{
    struct cg_agent a = parsed(good);
    struct report r;
    (void)state;
    report_read(
        &a,
        cg_slice_of("hello\n{\"r\":{\"text\":\"one\",\"cost\":0.5},\"u\":{\"in\":3},\"n\":2}\n"
                    "{broken\n{\"u\":{\"in\":4}}\n{\"r\":{\"text\":\"two\"}}"),
        &r);
    assert_true(r.any && r.has_cost && r.has_tokens && r.has_turns);
    assert_string_equal(r.text, "two");
    assert_float_equal(r.cost_usd, 0.5, 1e-12);
    assert_int_equal(r.tokens_in, 7);
    assert_int_equal(r.turns, 2);
    report_finish(&r);
    cg_agent_finish(&a);
}

static void a_report_in_a_wrong_shape_claims_nothing(void **state)
{
    static const char *const wrong[] = {
        "",
        "\n\n",
        "{}",
        "[]",
        "{\"r\":1}",
        "{\"r\":{\"cost\":\"1\"}}",
        "{\"r\":{\"cost\":-1}}",
        "{\"r\":{\"cost\":1e300}}",
        "{\"r\":{\"cost\":null,\"text\":7}}",
        "{\"u\":{\"in\":-4}}",
        "{\"u\":{\"in\":1.5}}",
        "{\"u\":{\"in\":99999999999}}",
        "{\"u\":[{\"in\":4}]}",
        "{\"r\":{\"cost\":1}",
        "{\"r\":{\"cost\":1},\"r\":{\"cost\":2}}",
    };
    struct cg_agent a = parsed(good);
    (void)state;
    for (size_t i = 0; i < CG_COUNT(wrong); i++) {
        struct report r;
        report_read(&a, cg_slice_of(wrong[i]), &r);
        if (r.has_cost || r.has_tokens || r.text)
            fail_msg("%s claims something", wrong[i]);
        report_finish(&r);
    }
    cg_agent_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_is_read_whole),
        cmocka_unit_test(a_bad_profile_is_refused_with_its_reason),
        cmocka_unit_test(the_installed_profiles_are_good_and_name_no_package_without_its_version),
        cmocka_unit_test(a_name_with_agents_comes_apart),
        cmocka_unit_test(a_report_is_found_among_other_lines_and_added_up),
        cmocka_unit_test(a_report_in_a_wrong_shape_claims_nothing),
    };
    return cmocka_run_group_tests_name("agents", tests, NULL, NULL);
}
