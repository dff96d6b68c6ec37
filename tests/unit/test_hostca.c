/* Which certificates guests are given: the administrator's, and nothing else of a file. */
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "core/hostca.h"

#define PEM(body) "-----BEGIN CERTIFICATE-----\n" body "\n-----END CERTIFICATE-----\n"

static char dir[] = "/tmp/caged-hostca-XXXXXX";

static char *put(const char *name, const char *text)
{
    char *path = cg_format("%s/%s", dir, name);
    assert_true(cg_fs_replace(path, text, strlen(text), 0644, NULL));
    return path;
}

static void certificates_alone_are_taken_each_once(void **state)
{
    (void)state;
    char *out = cg_hostca_clean(
        "# a comment\n" PEM("QUFB") "\n-----BEGIN PRIVATE KEY-----\nS0VZ\n"
                                    "-----END PRIVATE KEY-----\n" PEM("QU\r\nFB")
                                        PEM("QkJC") "-----BEGIN CERTIFICATE-----\ntorn");
    assert_string_equal(out, PEM("QUFB") PEM("QkJC"));
    free(out);
    assert_null(cg_hostca_clean("nothing"));
    assert_null(cg_hostca_clean("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
}

static void too_many_are_cut_between_two(void **state)
{
    (void)state;
    struct cg_buf b;
    cg_buf_init(&b, 1 << 20);
    for (int i = 0; i < 1000; i++)
        cg_buf_addf(&b, PEM("QUFBQUFBQUFBQUFBQUFBQUFB%04d"), i);
    char *out = cg_hostca_clean(cg_buf_cstr(&b));
    size_t n = strlen(out);
    assert_true(n <= CG_HOSTCA_MAX && n > CG_HOSTCA_MAX - 200);
    assert_string_equal(out + n - 26, "-----END CERTIFICATE-----\n");
    free(out);
    cg_buf_finish(&b);
}

static void those_of_the_distribution_are_left_out(void **state)
{
    (void)state;
    char *bundle = put("bundle.crt", PEM("QUFB") PEM("T1VS") PEM("QkJC") PEM("TUlORQ=="));
    char *folder = cg_format("%s/share", dir);
    char *deep = cg_format("%s/share/mozilla", dir);
    assert_null(cg_hostca_added(bundle, folder)); /* nothing to compare with */
    assert_true(mkdir(folder, 0755) == 0 && mkdir(deep, 0755) == 0);
    free(put("share/b.crt", PEM("Qk\nJC")));
    free(put("share/mozilla/a.crt", PEM("QUFB")));
    char *out = cg_hostca_added(bundle, folder);
    assert_string_equal(out, PEM("T1VS") PEM("TUlORQ=="));
    free(out);
    free(folder);
    free(deep);
    free(bundle);
}

static void the_operator_decides(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    char *out = NULL;
    char *file = put("own.pem", "text " PEM("T1VS"));
    char *empty = put("empty.pem", "text");
    assert_true(cg_hostca_read("none", PEM("QUFB"), &out, &e));
    assert_null(out);
    assert_true(cg_hostca_read(file, PEM("QUFB"), &out, &e));
    assert_string_equal(out, PEM("T1VS"));
    free(out);
    assert_true(cg_hostca_read(NULL, PEM("QUFB"), &out, &e));
    assert_non_null(strstr(out, PEM("QUFB")));
    free(out);
    assert_false(cg_hostca_read(empty, NULL, &out, &e));
    assert_non_null(strstr(e.text, "network.guest_ca"));
    assert_false(cg_hostca_read("/nonexistent", NULL, &out, &e));
    assert_non_null(strstr(e.text, "network.guest_ca"));
    free(file);
    free(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_alone_are_taken_each_once),
        cmocka_unit_test(too_many_are_cut_between_two),
        cmocka_unit_test(those_of_the_distribution_are_left_out),
        cmocka_unit_test(the_operator_decides),
    };
    if (!mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    struct cg_err ignored = CG_ERR_INIT;
    return cg_fs_remove_tree(dir, &ignored) ? failed : 1;
}
