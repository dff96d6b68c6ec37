/* Copies of images: without their holes, and brought up to date by what changed since. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "check.h"
#include "core/copy.h"

enum { SIZE = 24 << 20, PAGE = 4096, ROUNDS = 40 };

static char dir[32], from[48], to[48];

static int setup(void **state)
{
    (void)state;
    cg_strlcpy(dir, sizeof dir, "/tmp/cg-copy-XXXXXX");
    assert_non_null(mkdtemp(dir));
    cg_snprintf(from, sizeof from, "%s/from", dir);
    cg_snprintf(to, sizeof to, "%s/to", dir);
    int fd = open(from, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
    close(fd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return cg_fs_remove_tree(dir, NULL) ? 0 : -1;
}

/* Writes pages here, gives pages back there, as a guest does. */
static void scribble(unsigned *seed, unsigned times)
{
    static char page[PAGE];
    int fd = open(from, O_RDWR | O_CLOEXEC);
    for (unsigned i = 0; i < times; i++) {
        off_t at = (off_t)(rand_r(seed) % (SIZE / PAGE)) * PAGE;
        off_t len = (off_t)(1 + rand_r(seed) % 64) * PAGE;
        if (rand_r(seed) % 4 == 0) {
            assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len), 0);
            continue;
        }
        memset(page, rand_r(seed) % 256, sizeof page);
        assert_int_equal(pwrite(fd, page, sizeof page, at), PAGE);
    }
    close(fd);
}

static bool alike(void)
{
    CG_OWN(cg_drop_free) char *a = NULL;
    CG_OWN(cg_drop_free) char *b = NULL;
    size_t na = 0, nb = 0;
    assert_true(cg_fs_slurp(from, SIZE + 1, &a, &na, NULL));
    assert_true(cg_fs_slurp(to, SIZE + 1, &b, &nb, NULL));
    return na == nb && memcmp(a, b, na) == 0;
}

static long long blocks(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (long long)st.st_blocks;
}

static void a_copy_is_alike_and_has_the_holes(void **state)
{
    struct cg_err e = CG_ERR_INIT;
    unsigned seed = 1;
    (void)state;
    scribble(&seed, 100);
    assert_true(cg_copy_file(from, to, 0600, 0, &e));
    assert_true(alike());
    assert_true(blocks(to) * 512 < SIZE / 4);
    assert_false(cg_copy_file(from, to, 0600, 0, &e)); /* it is there */
}

static void a_copy_is_brought_up_to_date_whatever_changed(void **state)
{
    struct cg_err e = CG_ERR_INIT;
    unsigned seed = 7;
    (void)state;
    scribble(&seed, 100);
    assert_true(cg_copy_file(from, to, 0600, 0, &e));
    for (unsigned i = 0; i < ROUNDS; i++) {
        scribble(&seed, (unsigned)rand_r(&seed) % 50);
        if (!cg_copy_changes(from, to, &e))
            fail_msg("%s", e.text);
        assert_true(alike());
        assert_true(blocks(to) <= blocks(from)); /* what was given back is given back */
    }
}

static void what_is_beyond_the_end_goes(void **state)
{
    struct cg_err e = CG_ERR_INIT;
    unsigned seed = 3;
    (void)state;
    scribble(&seed, 50);
    assert_true(cg_copy_file(from, to, 0600, 2 * (off_t)SIZE, &e));
    assert_true(cg_copy_changes(from, to, &e));
    assert_true(alike());
    unlink(to);
    assert_false(cg_copy_changes(from, to, &e));
    assert_int_equal(e.code, CG_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_is_alike_and_has_the_holes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copy_is_brought_up_to_date_whatever_changed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_beyond_the_end_goes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
