/* The image library without the network: recipes and their errors, modules and their order, helper
 * programs, the images directory under dead and concurrent builds, OCI layouts, empty disks. */
#include "check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "image/hash.h"
#include "image/image.h"
#include "image/kernel.h"
#include "image/modinfo.h"
#include "image/oci.h"
#include "image/proc.h"
#include "image/recipe.h"
#include "image/store.h"
#include "image/template.h"

struct fixture {
    char top[64];
    struct cg_image_config config;
};

static void write_file(const char *path, const char *text)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *dir = cg_strndup(path, (size_t)(strrchr(path, '/') - path));
    if (!cg_fs_mkdirs(dir, 0755, &e) || !cg_fs_replace(path, text, strlen(text), 0644, &e))
        fail_msg("%s", e.text);
}

static void put(const struct fixture *f, const char *name, const char *text)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", f->top, name);
    write_file(path, text);
}

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    cg_snprintf(f->top, sizeof f->top, "/tmp/cg-image-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    f->config.images_dir = cg_format("%s/images", f->top);
    f->config.data_dir = cg_format("%s/data", f->top);
    f->config.agent_path = cg_format("%s/agent", f->top);
    put(f, "agent", "the agent");
    put(f, "data/image/customize", "#!/bin/sh\n");
    put(f, "data/image/pack", "#!/bin/sh\n");
    put(f, "data/guest-modules.txt", "# what the guest needs\nalpha  # first\n\nbeta-two\n");
    put(f, "data/templates/minimal.yaml",
        "name: minimal\ndescription: small\nsuite: host\naliases: [min]\nenv: {LANG: C.UTF-8}\n"
        "contents: {git: git --version}\n");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_fs_remove_tree(f->top, &e))
        fail_msg("%s", e.text);
    cg_image_config_finish(&f->config);
    free(f);
    return 0;
}

/* --- recipes --- */

static bool parse(const char *text, struct cg_recipe *r, struct cg_err *e)
{
    return cg_recipe_parse("r.yaml", text, strlen(text), r, e);
}

static void a_recipe_is_read_with_all_its_keys(void **state)
{
    (void)state;
    struct cg_recipe r;
    struct cg_err e = CG_ERR_INIT;
    if (!parse("name: go\ndescription: d\nsuite: bookworm\nextra_suites: [bookworm-backports]\n"
               "aliases: [g]\npackages: [a, b]\nbuild_packages: [c]\nnpm: [n@1]\npip: [p]\n"
               "run:\n  - one\n  - two\nenv: {A: '1', B: x=y}\ncontents: {go: go version}\n"
               "reason: because\n",
               &r, &e))
        fail_msg("%s", e.text);
    assert_string_equal(r.suite, "bookworm");
    assert_string_equal(r.extra_suites.v[0], "bookworm-backports");
    assert_int_equal(r.packages.n, 2);
    assert_string_equal(r.run.v[1], "two");
    assert_string_equal(r.env.v[1], "B=x=y");
    assert_string_equal(r.check_names.v[0], "go");
    assert_string_equal(r.check_lines.v[0], "go version");
    assert_string_equal(r.reason, "because");
    cg_recipe_finish(&r);
}

static void mistakes_in_a_recipe_are_named_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *said;
    } cases[] = {
        {"name: a\ndescription: d\nsuite: host\npackage: [git]\n", "r.yaml:4: unknown key package"},
        {"name: a\ndescription: d\nsuite: host\npackages: git\n", "r.yaml:4: expected a list"},
        {"name: a\ndescription: d\nsuite: host\nrun: [[x]]\n",
         "r.yaml:4: expected a list of texts"},
        {"name: a\nname: b\ndescription: d\nsuite: host\n", "r.yaml:2: this key is there twice"},
        {"name: a\nenv: {'A=B': c}\ndescription: d\nsuite: host\n", "r.yaml:2: expected a name"},
        {"name: ../a\ndescription: d\nsuite: host\n", "name is missing or not of"},
        {"description: d\nsuite: host\n", "name is missing"},
        {"name: a\n", "description and suite are needed"},
        {"- a\n", "expected names with values"},
        {"", "expected names with values"},
        {"name: [a\n", "r.yaml:2:"},
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct cg_recipe r;
        struct cg_err e = CG_ERR_INIT;
        assert_false(parse(cases[i].text, &r, &e));
        assert_int_equal(e.code, CG_INVALID);
        if (!strstr(e.text, cases[i].said))
            fail_msg("%s does not say: %s", e.text, cases[i].said);
    }
}

static void a_name_or_alias_used_twice_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cg_recipes r;
    struct cg_err e = CG_ERR_INIT;
    put(f, "data/templates/other.yaml",
        "name: other\ndescription: d\nsuite: host\naliases: [min]\n");
    assert_false(cg_recipes_load(&f->config, &r, &e));
    assert_non_null(strstr(e.text, "alias min is used twice"));
}

static void a_fingerprint_changes_with_the_recipe_and_with_the_builder(void **state)
{
    struct fixture *f = *state;
    struct cg_recipes r;
    struct cg_err e = CG_ERR_INIT;
    char first[65];
    assert_true(cg_recipes_load(&f->config, &r, &e));
    cg_strlcpy(first, sizeof first, r.v[0].fingerprint);
    cg_recipes_finish(&r);
    assert_true(cg_recipes_load(&f->config, &r, &e));
    assert_string_equal(first, r.v[0].fingerprint);
    cg_recipes_finish(&r);
    put(f, "data/image/pack", "#!/bin/sh\n# changed\n");
    assert_true(cg_recipes_load(&f->config, &r, &e));
    assert_string_not_equal(first, r.v[0].fingerprint);
    cg_recipes_finish(&r);
}

/* --- modules --- */

/* A 64-bit ELF file with one section .modinfo that holds the given text. */
static void write_module(const char *path, const char *info, size_t n)
{
    static const char names[] = "\0.modinfo\0.shstrtab";
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                    .e_shoff = sizeof(h),
                    .e_shentsize = sizeof(Elf64_Shdr),
                    .e_shnum = 3,
                    .e_shstrndx = 2};
    uint64_t data = sizeof(h) + 3 * sizeof(Elf64_Shdr);
    Elf64_Shdr s[3] = {
        {0},
        {.sh_name = 1, .sh_type = SHT_PROGBITS, .sh_offset = data, .sh_size = n},
        {.sh_name = 10, .sh_type = SHT_STRTAB, .sh_offset = data + n, .sh_size = sizeof names}};
    cg_buf_init(&b, 1 << 16);
    cg_buf_add(&b, &h, sizeof h);
    cg_buf_add(&b, s, sizeof s);
    cg_buf_add(&b, info, n);
    cg_buf_add(&b, names, sizeof names);
    CG_OWN(cg_drop_free) char *dir = cg_strndup(path, (size_t)(strrchr(path, '/') - path));
    assert_true(cg_fs_mkdirs(dir, 0755, &e));
    assert_true(cg_fs_replace(path, b.p, b.n, 0644, &e));
}

static void make_modules(const struct fixture *f, const char *dir)
{
    static const struct {
        const char *file;
        const char *info;
        size_t n;
    } modules[] = {
        {"drivers/alpha.ko", "license=GPL\0depends=gamma,built-in\0name=alpha", 46},
        {"drivers/beta-two.ko", "depends=alpha,gamma\0x=y", 23},
        {"lib/gamma.ko", "depends=", 9},
        {"lib/loop_a.ko", "depends=loop_b", 15},
        {"lib/loop_b.ko", "depends=loop_a", 15},
        {"lib/orphan.ko", "depends=nowhere", 16},
    };
    for (size_t i = 0; i < CG_COUNT(modules); i++) {
        CG_OWN(cg_drop_free)
        char *path = cg_format("%s/%s/kernel/%s", f->top, dir, modules[i].file);
        write_module(path, modules[i].info, modules[i].n);
    }
    CG_OWN(cg_drop_free) char *builtin = cg_format("%s/modules.builtin", dir);
    put(f, builtin, "kernel/drivers/built-in.ko\nkernel/fs/ext4/ext4.ko\n");
}

static bool resolve(const struct fixture *f, const char *wanted, struct cg_strv *out,
                    struct cg_err *e)
{
    struct cg_strv list = {.v = NULL};
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/modules", f->top);
    CG_OWN(cg_drop_free) char *copy = cg_strdup(wanted);
    char *save = NULL;
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        cg_strv_add(&list, w);
    bool ok = cg_module_resolve(dir, &list, out, e);
    cg_strv_finish(&list);
    return ok;
}

static void modules_come_after_what_they_depend_on_and_once(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_strv paths = {.v = NULL};
    make_modules(f, "modules");
    if (!resolve(f, "beta_two ext4 alpha gamma", &paths, &e))
        fail_msg("%s", e.text);
    assert_int_equal(paths.n, 3);
    assert_true(cg_has_suffix(paths.v[0], "/gamma.ko"));
    assert_true(cg_has_suffix(paths.v[1], "/alpha.ko"));
    assert_true(cg_has_suffix(paths.v[2], "/beta-two.ko"));
    cg_strv_finish(&paths);
}

static void a_module_that_is_missing_or_circular_is_named(void **state)
{
    struct fixture *f = *state;
    struct cg_strv paths = {.v = NULL};
    make_modules(f, "modules");
    struct cg_err e = CG_ERR_INIT;
    assert_false(resolve(f, "orphan", &paths, &e));
    assert_non_null(strstr(e.text, "orphan: the kernel has no module nowhere"));
    assert_false(resolve(f, "loop_a", &paths, &e));
    assert_non_null(strstr(e.text, "circle"));
    cg_strv_finish(&paths);
}

static void damaged_modules_are_refused(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_strv out = {.v = NULL};
    CG_OWN(cg_drop_free) char *path = cg_format("%s/m.ko", f->top);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    write_module(path, "depends=a", 10);
    assert_true(cg_fs_slurp(path, 1 << 16, &text, &n, &e));
    for (size_t cut = 0; cut < n; cut++) {
        /* any prefix: no crash, no read beyond it (the sanitizers watch) */
        CG_OWN(cg_drop_free) char *copy = cg_alloc(cut + 1);
        memcpy(copy, text, cut);
        (void)!cg_module_depends((struct cg_slice){.p = copy, .n = cut}, &out, &e);
    }
    for (size_t i = 0; i < sizeof(Elf64_Ehdr); i++) {
        CG_OWN(cg_drop_free) char *copy = cg_alloc(n);
        memcpy(copy, text, n);
        copy[i] = (char)0xff;
        (void)!cg_module_depends((struct cg_slice){.p = copy, .n = n}, &out, &e);
    }
    cg_strv_finish(&out);
}

/* --- helper programs --- */

static void a_failing_program_is_quoted_with_its_last_words(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = NULL};
    cg_strv_add(&p.argv, "sh");
    cg_strv_add(&p.argv, "-c");
    cg_strv_add(&p.argv, "echo first >&2; echo the disk is made of cheese >&2; exit 3");
    assert_false(cg_proc_run(&p, &e));
    assert_int_equal(e.code, CG_IO);
    assert_non_null(strstr(e.text, "sh ended with status 3"));
    assert_non_null(strstr(e.text, "the disk is made of cheese"));
}

static void a_program_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = NULL};
    cg_strv_add(&p.argv, "caged-no-such-program");
    assert_false(cg_proc_run(&p, &e));
    assert_int_equal(e.code, CG_NOT_FOUND);
    assert_string_equal(e.text, "caged-no-such-program is not installed");
}

static void output_is_bounded(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, 10000);
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = &out};
    cg_strv_add(&p.argv, "yes");
    assert_false(cg_proc_run(&p, &e));
    assert_int_equal(e.code, CG_TOO_LARGE);
    assert_true(out.n <= 10000);
}

static bool stop_at_ready(void *ctx, const char *line)
{
    int *seen = ctx;
    *seen += cg_streq(line, "ready");
    return *seen == 0;
}

static void a_program_is_ended_with_its_children(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    int seen = 0;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, 100);
    CG_OWN(cg_proc_finish)
    struct cg_proc p = {.line = stop_at_ready, .ctx = &seen, .out = &out};
    cg_strv_add(&p.argv, "sh");
    cg_strv_add(&p.argv, "-c");
    cg_strv_add(&p.argv, "sleep 1000 & echo $!; echo ready >&2; wait");
    assert_false(cg_proc_run(&p, &e));
    assert_int_equal(e.code, CG_CLOSED);
    pid_t child = (pid_t)atol(cg_buf_cstr(&out));
    assert_true(child > 1);
    /* gone, or a zombie that its new parent has not fetched yet */
    CG_OWN(cg_drop_free) char *path = cg_format("/proc/%d/cmdline", (int)child);
    for (int i = 0; i < 200; i++) {
        CG_OWN(cg_drop_free) char *text = NULL;
        size_t n = 0;
        if (!cg_fs_slurp(path, 4096, &text, &n, &e) || n == 0)
            return;
        usleep(10000);
    }
    fail_msg("the child lives on");
}

/* --- the images directory --- */

static void leftovers_of_dead_builds_go_and_living_ones_stay(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_imagedir_open(&f->config, &e));
    struct cg_tmp mine;
    assert_true(cg_tmp_create(&f->config, &mine, &e));
    put(f, "images/tmp/b-dead/tree/file", "half made");
    put(f, "images/tmp/b-dead/lock", "");
    assert_true(cg_imagedir_open(&f->config, &e));
    CG_OWN(cg_drop_free) char *dead = cg_format("%s/tmp/b-dead", f->config.images_dir);
    assert_false(cg_fs_exists(dead));
    assert_true(cg_fs_exists(mine.path));
    CG_OWN(cg_drop_free) char *path = cg_strdup(mine.path);
    cg_tmp_drop(&mine);
    assert_false(cg_fs_exists(path));
}

struct waiter {
    const struct cg_image_config *config;
    int waits;
    bool got;
};

static bool count_waits(void *ctx, const struct cg_image_progress *p)
{
    struct waiter *w = ctx;
    w->waits += cg_streq(p->phase, "waiting for another build");
    return w->waits < 100;
}

static void *wait_for_lock(void *arg)
{
    struct waiter *w = arg;
    struct cg_err e = CG_ERR_INIT;
    struct cg_image_build b = {.progress = count_waits, .ctx = w};
    struct cg_task t;
    cg_task_init(&t, w->config, &b, "x");
    int fd = cg_imagedir_lock(&t, "thing", &e);
    w->got = fd >= 0;
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void two_builds_of_one_thing_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_task t;
    struct waiter w = {.config = &f->config};
    pthread_t thread;
    assert_true(cg_imagedir_open(&f->config, &e));
    cg_task_init(&t, &f->config, NULL, "x");
    int fd = cg_imagedir_lock(&t, "thing", &e);
    assert_true(fd >= 0);
    assert_true(cg_imagedir_locked(&f->config, "thing"));
    assert_int_equal(pthread_create(&thread, NULL, wait_for_lock, &w), 0);
    usleep(250000);
    close(fd);
    pthread_join(thread, NULL);
    assert_true(w.got);
    assert_true(w.waits > 0);
    assert_false(cg_imagedir_locked(&f->config, "thing"));
}

static void commit_as(const struct fixture *f, const char *name, const char *source,
                      const char *fingerprint)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_strv contents = {.v = NULL};
    struct cg_strv env = {.v = NULL};
    struct cg_strv aliases = {.v = NULL};
    cg_strv_add(&contents, "git 1");
    cg_strv_add(&env, "LANG=C.UTF-8");
    put(f, "images/tmp/base", "an ext4 image");
    CG_OWN(cg_drop_free) char *base = cg_format("%s/tmp/base", f->config.images_dir);
    struct cg_template_meta m = {.name = name,
                                 .description = "small",
                                 .source = source,
                                 .fingerprint = fingerprint,
                                 .aliases = &aliases,
                                 .contents = &contents,
                                 .env = &env};
    if (!cg_template_commit(&f->config, base, &m, &e))
        fail_msg("%s", e.text);
    cg_strv_finish(&contents);
    cg_strv_finish(&env);
}

static void commit_template(const struct fixture *f, const char *fingerprint)
{
    commit_as(f, "minimal", "recipe", fingerprint);
}

static struct cg_template *only(struct cg_template_list *l)
{
    assert_int_equal(l->n, 1);
    return &l->v[0];
}

static void the_list_tells_absent_failed_ready_and_outdated(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_template_list l;
    struct cg_recipes r;
    assert_true(cg_image_list(&f->config, &l, &e)); /* before any build: no directory yet */
    assert_int_equal(only(&l)->state, CG_TEMPLATE_ABSENT);
    cg_template_list_finish(&l);

    assert_true(cg_imagedir_open(&f->config, &e));
    struct cg_err why = {.code = CG_IO, .text = "no room"};
    cg_template_note_failure(&f->config, "minimal", &why);
    assert_true(cg_image_list(&f->config, &l, &e));
    assert_int_equal(only(&l)->state, CG_TEMPLATE_FAILED);
    assert_string_equal(only(&l)->reason, "no room");
    cg_template_list_finish(&l);

    commit_template(f, "0123456789abcdef");
    assert_true(cg_image_list(&f->config, &l, &e));
    assert_int_equal(only(&l)->state, CG_TEMPLATE_READY);
    assert_true(only(&l)->outdated);
    assert_null(only(&l)->reason);
    assert_string_equal(only(&l)->contents.v[0], "git 1");
    assert_int_equal(only(&l)->size_bytes, strlen("an ext4 image"));
    cg_template_list_finish(&l);

    assert_true(cg_recipes_load(&f->config, &r, &e));
    commit_template(f, r.v[0].fingerprint);
    cg_recipes_finish(&r);
    assert_true(cg_image_list(&f->config, &l, &e));
    assert_false(only(&l)->outdated);
    cg_template_list_finish(&l);
}

static void an_import_may_answer_for_a_recipe_that_cannot_be_built_here(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_template_list l;
    put(f, "data/templates/other.yaml",
        "name: other\ndescription: d\nsuite: nowhere\nreason: not here\nenv: {A: recipe}\n");
    assert_true(cg_image_list(&f->config, &l, &e));
    assert_int_equal(l.n, 2);
    assert_int_equal(l.v[1].state, CG_TEMPLATE_UNAVAILABLE);
    assert_string_equal(l.v[1].reason, "not here");
    cg_template_list_finish(&l);
    assert_true(cg_imagedir_open(&f->config, &e));
    commit_as(f, "other", "oci", "0123456789abcdef");
    assert_true(cg_image_list(&f->config, &l, &e));
    assert_int_equal(l.n, 2);
    assert_int_equal(l.v[1].state, CG_TEMPLATE_READY);
    assert_string_equal(l.v[1].source, "oci");
    assert_string_equal(l.v[1].env.v[0], "LANG=C.UTF-8");
    assert_false(l.v[1].outdated);
    cg_template_list_finish(&l);
}

static int count_versions(const struct fixture *f)
{
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/templates/minimal", f->config.images_dir);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    return (int)st.st_nlink - 2;
}

static void the_version_before_is_kept_and_older_ones_go(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_imagedir_open(&f->config, &e));
    commit_template(f, "1111111111111111");
    assert_int_equal(count_versions(f), 1);
    commit_template(f, "2222222222222222");
    assert_int_equal(count_versions(f), 2);
    commit_template(f, "3333333333333333");
    assert_int_equal(count_versions(f), 2);
}

/* --- what a template boots with --- */

static void make_kernel(const struct fixture *f)
{
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_imagedir_open(&f->config, &e));
    make_modules(f, "images/kernels/6.1_1/modules");
    put(f, "images/kernels/6.1_1/vmlinuz", "kernel");
    assert_true(cg_boot_save(&f->config, "6.1_1", "6.1", NULL, &e));
}

static void resolving_says_what_is_missing(void **state)
{
    struct fixture *f = *state;
    struct cg_image i;
    struct cg_err e = CG_ERR_INIT;
    assert_false(cg_image_resolve(&f->config, "nonsense", &i, &e));
    assert_int_equal(e.code, CG_INVALID);
    assert_non_null(strstr(e.text, "valid are: minimal, min"));
    assert_false(cg_image_resolve(&f->config, "minimal", &i, &e));
    assert_int_equal(e.code, CG_UNAVAILABLE);
    assert_non_null(strstr(e.text, "caged image build minimal"));
    assert_true(cg_imagedir_open(&f->config, &e));
    commit_template(f, "1111111111111111");
    assert_false(cg_image_resolve(&f->config, "minimal", &i, &e));
    assert_int_equal(e.code, CG_UNAVAILABLE);
    assert_non_null(strstr(e.text, "no kernel"));
}

static void a_new_agent_gives_a_new_initramfs_and_fingerprint(void **state)
{
    struct fixture *f = *state;
    struct cg_image a, b, c;
    struct cg_err e = CG_ERR_INIT;
    make_kernel(f);
    commit_template(f, "1111111111111111");
    if (!cg_image_resolve(&f->config, "min", &a, &e))
        fail_msg("%s", e.text);
    assert_string_equal(a.template.name, "minimal");
    assert_string_equal(a.kernel_version, "6.1");
    assert_true(cg_image_resolve(&f->config, "minimal", &b, &e));
    assert_string_equal(a.fingerprint, b.fingerprint);
    put(f, "agent", "a newer agent");
    assert_true(cg_image_resolve(&f->config, "minimal", &c, &e));
    assert_string_not_equal(a.initramfs_path, c.initramfs_path);
    assert_string_not_equal(a.fingerprint, c.fingerprint);
    assert_true(cg_fs_exists(a.initramfs_path)); /* guests may just be booting from it */
    cg_image_finish(&a);
    cg_image_finish(&b);
    cg_image_finish(&c);
}

static void resolving_does_not_wait_for_a_build_of_the_kernel(void **state)
{
    struct fixture *f = *state;
    struct cg_image i;
    struct cg_err e = CG_ERR_INIT;
    struct cg_task t;
    make_kernel(f);
    commit_template(f, "1111111111111111");
    assert_true(cg_image_resolve(&f->config, "minimal", &i, &e));
    cg_image_finish(&i);
    cg_task_init(&t, &f->config, NULL, "kernel");
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(&t, "boot", &e);
    assert_true(lock >= 0);
    assert_true(cg_image_resolve(&f->config, "minimal", &i, &e));
    cg_image_finish(&i);
}

static void the_initramfs_has_the_agent_and_the_modules_in_order(void **state)
{
    struct fixture *f = *state;
    struct cg_image i;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    make_kernel(f);
    commit_template(f, "1111111111111111");
    if (!cg_image_resolve(&f->config, "minimal", &i, &e))
        fail_msg("%s", e.text);
    assert_true(cg_fs_slurp(i.initramfs_path, 1 << 20, &text, &n, &e));
    assert_memory_equal(text, "070701", 6); /* newc, not compressed */
    static const char *const parts[] = {"the agent", "gamma.ko\nalpha.ko\nbeta_two.ko\n", "init",
                                        "dev/console", "modules/order"};
    for (size_t p = 0; p < CG_COUNT(parts); p++)
        assert_non_null(memmem(text, n, parts[p], strlen(parts[p])));
    cg_image_finish(&i);
}

static void an_empty_disk_is_sparse_quick_to_make_and_of_the_size_asked_for(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    struct cg_task t;
    struct stat st;
    CG_OWN(cg_drop_free) char *path = cg_format("%s/disk", f->top);
    assert_false(cg_image_make_writable(&f->config, path, 5ll << 30, &e));
    assert_int_equal(e.code, CG_UNAVAILABLE);
    assert_true(cg_imagedir_open(&f->config, &e));
    cg_task_init(&t, &f->config, NULL, "writable");
    if (!cg_writable_build(&t, &e))
        fail_msg("%s", e.text);
    assert_false(cg_image_make_writable(&f->config, path, 1 << 20, &e));
    assert_int_equal(e.code, CG_INVALID);
    assert_true(cg_image_make_writable(&f->config, path, 5ll << 30, &e));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 5ll << 30);
    assert_true(st.st_blocks * 512 < 1 << 20);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_false(cg_image_make_writable(&f->config, path, 5ll << 30, &e)); /* never over another */
    assert_int_equal(e.code, CG_CONFLICT);
    CG_OWN(cg_proc_finish) struct cg_proc check = {.out = NULL};
    cg_strv_add(&check.argv, "e2fsck");
    cg_strv_add(&check.argv, "-fn");
    cg_strv_add(&check.argv, path);
    if (!cg_proc_run(&check, &e))
        fail_msg("%s", e.text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(a_recipe_is_read_with_all_its_keys),
        TEST(mistakes_in_a_recipe_are_named_with_their_line),
        TEST(a_name_or_alias_used_twice_is_refused),
        TEST(a_fingerprint_changes_with_the_recipe_and_with_the_builder),
        TEST(modules_come_after_what_they_depend_on_and_once),
        TEST(a_module_that_is_missing_or_circular_is_named),
        TEST(damaged_modules_are_refused),
        TEST(a_failing_program_is_quoted_with_its_last_words),
        TEST(a_program_that_is_not_there_is_named),
        TEST(output_is_bounded),
        TEST(a_program_is_ended_with_its_children),
        TEST(leftovers_of_dead_builds_go_and_living_ones_stay),
        TEST(two_builds_of_one_thing_wait_for_each_other),
        TEST(the_list_tells_absent_failed_ready_and_outdated),
        TEST(an_import_may_answer_for_a_recipe_that_cannot_be_built_here),
        TEST(the_version_before_is_kept_and_older_ones_go),
        TEST(resolving_says_what_is_missing),
        TEST(a_new_agent_gives_a_new_initramfs_and_fingerprint),
        TEST(resolving_does_not_wait_for_a_build_of_the_kernel),
        TEST(the_initramfs_has_the_agent_and_the_modules_in_order),
        TEST(an_empty_disk_is_sparse_quick_to_make_and_of_the_size_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
