/* .caged.yaml: what it says about money reaches the request, and what is wrong is told with its
 * place. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/money.h"
#include "config/project.h"

static void budgets_of_dollars_and_tokens_and_what_happens_at_their_end_are_read(void **state)
{
    struct cg_project p;
    struct cg_err e = CG_ERR_INIT;
    (void)state;
    assert_true(cg_project_parse("f",
                                 cg_slice_of("template: minimal\nbudget: 2.50\n"
                                             "budget_tokens: 2000000\nbudget_action: pause\n"),
                                 &p, &e));
    assert_int_equal(p.budget_nusd, 5 * CG_USD / 2);
    assert_int_equal(p.budget_tokens, 2000000);
    assert_string_equal(p.budget_action, "pause");
    cg_project_finish(&p);
    assert_true(cg_project_parse("f", cg_slice_of("budget_tokens: 0\nbudget_action:\n"), &p, &e));
    assert_int_equal(p.budget_tokens, 0);
    assert_null(p.budget_action);
    cg_project_finish(&p);
}

static void wrong_values_are_told_with_line_and_key(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"budget: -1", "f:1:9: budget: "},
        {"budget: much", "dollars"},
        {"cpus: 1\nbudget_tokens: -5", "f:2:16: budget_tokens: "},
        {"budget_tokens: 1.5", "number of tokens"},
        {"budget_tokens: 99999999999999999999", "number of tokens"},
        {"budget_tokens: [1]", "number of tokens"},
        {"budget_action: explode", "destroy or pause"},
        {"budget_action: {a: b}", "destroy or pause"},
        {"budget_token: 5", "did you mean budget_tokens?"},
        {"budget: 1\nbudget: 2", "stands twice"},
    };
    (void)state;
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct cg_project p;
        struct cg_err e = CG_ERR_INIT;
        assert_false(cg_project_parse("f", cg_slice_of(cases[i].text), &p, &e));
        if (!strstr(e.text, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].says);
        cg_project_finish(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_of_dollars_and_tokens_and_what_happens_at_their_end_are_read),
        cmocka_unit_test(wrong_values_are_told_with_line_and_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
