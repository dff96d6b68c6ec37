/* The trust engine: every rule's examples, the shell's words, the reading of packs, and that a
 * score is a function of the record alone. */
#include "check.h"

#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_fires_and_stays_quiet_as_its_examples_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
