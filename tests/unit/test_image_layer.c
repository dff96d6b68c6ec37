/* Layers of container images: what a good one leaves, and that a hostile one reaches nothing
 * outside of the tree, fills no disk and leaves nothing that cannot be removed. */
#include "check.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/hash.h"
#include "image/layer.h"

struct fixture {
    char top[64]; /* holds root/ (the tree), outside/ with a secret, and layers */
    char root[80];
    char outside[80];
    struct cg_unpack unpack;
    struct archive *writer; /* the layer being made */
    char file[96];
    int layers;
};

static void write_text(const char *path, const char *text)
{
    struct cg_err e = CG_ERR_INIT;
    assert_true(cg_fs_replace(path, text, strlen(text), 0600, &e));
}

static int set_up(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    char secret[128];
    cg_snprintf(f->top, sizeof f->top, "/tmp/cg-layer-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    cg_snprintf(f->root, sizeof f->root, "%s/root", f->top);
    cg_snprintf(f->outside, sizeof f->outside, "%s/outside", f->top);
    assert_int_equal(mkdir(f->root, 0755), 0);
    assert_int_equal(mkdir(f->outside, 0755), 0);
    cg_snprintf(secret, sizeof secret, "%s/secret", f->outside);
    write_text(secret, "untouched");
    f->unpack.tree.fd = open(f->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    f->unpack.tree.path = f->root;
    f->unpack.limits = (struct cg_layer_limits){.max_bytes = 1 << 20, .max_entries = 1000};
    *state = f;
    return 0;
}

/* The outside must be as it was after every test, and the tree must be removable. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    char secret[128];
    char *text = NULL;
    size_t n = 0;
    cg_snprintf(secret, sizeof secret, "%s/secret", f->outside);
    assert_true(cg_fs_slurp(secret, 100, &text, &n, &e));
    assert_string_equal(text, "untouched");
    free(text);
    struct stat st;
    assert_int_equal(stat(secret, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(unlink(secret), 0);
    assert_int_equal(rmdir(f->outside), 0); /* nothing was added there */
    close(f->unpack.tree.fd);
    if (!cg_fs_remove_tree(f->top, &e))
        fail_msg("remove: %s", e.text);
    free(f);
    return 0;
}

/* --- making layers --- */

static void begin_as(struct fixture *f, int filter, bool pax)
{
    cg_snprintf(f->file, sizeof f->file, "%s/layer%d", f->top, f->layers++);
    f->writer = archive_write_new();
    if (pax)
        archive_write_set_format_pax(f->writer);
    else
        archive_write_set_format_gnutar(f->writer);
    archive_write_add_filter(f->writer, filter);
    assert_int_equal(archive_write_open_filename(f->writer, f->file), ARCHIVE_OK);
}

static void begin(struct fixture *f)
{
    begin_as(f, ARCHIVE_FILTER_NONE, false);
}

static void put(struct fixture *f, const char *name, mode_t mode, const char *link,
                const char *data, int64_t size)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, mode);
    archive_entry_set_uid(entry, geteuid());
    archive_entry_set_gid(entry, getegid());
    archive_entry_set_mtime(entry, 1700000000, 0);
    if (S_ISLNK(mode))
        archive_entry_set_symlink(entry, link);
    else if (link)
        archive_entry_set_hardlink(entry, link);
    if (S_ISCHR(mode))
        archive_entry_set_rdev(entry, 0x103);
    archive_entry_set_size(entry, size);
    assert_int_equal(archive_write_header(f->writer, entry), ARCHIVE_OK);
    if (data)
        assert_int_equal(archive_write_data(f->writer, data, (size_t)size), size);
    archive_entry_free(entry);
}

static void put_file(struct fixture *f, const char *name, const char *text)
{
    put(f, name, S_IFREG | 0644, NULL, text, (int64_t)strlen(text));
}

static void put_folder(struct fixture *f, const char *name)
{
    put(f, name, S_IFDIR | 0755, NULL, NULL, 0);
}

static void put_symlink(struct fixture *f, const char *name, const char *target)
{
    put(f, name, S_IFLNK | 0777, target, NULL, 0);
}

static void put_hardlink(struct fixture *f, const char *name, const char *target)
{
    put(f, name, S_IFREG | 0644, target, NULL, 0);
}

static struct cg_blob blob_of(const char *path)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_hash h;
    struct stat st;
    struct cg_blob b = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    assert_true(b.fd >= 0 && fstat(b.fd, &st) == 0);
    b.size = st.st_size;
    cg_hash_init(&h);
    assert_true(cg_hash_file(&h, path, &e));
    cg_hash_text(&h, b.digest);
    return b;
}

/* Ends the layer and applies it; the code of what went wrong, CG_OK when nothing. */
static enum cg_code apply(struct fixture *f)
{
    struct cg_err e = CG_ERR_INIT;
    assert_int_equal(archive_write_close(f->writer), ARCHIVE_OK);
    archive_write_free(f->writer);
    struct cg_blob b = blob_of(f->file);
    bool ok = cg_layer_apply(&f->unpack, &b, &e);
    close(b.fd);
    assert_int_equal(ok, e.code == CG_OK);
    if (!ok)
        print_message("    %s\n", e.text);
    return e.code;
}

static bool there(const struct fixture *f, const char *name)
{
    struct stat st;
    char path[256];
    cg_snprintf(path, sizeof path, "%s/%s", f->root, name);
    return lstat(path, &st) == 0;
}

static void assert_file(const struct fixture *f, const char *name, const char *text)
{
    struct cg_err e = CG_ERR_INIT;
    char path[256];
    char *have = NULL;
    size_t n = 0;
    cg_snprintf(path, sizeof path, "%s/%s", f->root, name);
    if (!cg_fs_slurp(path, 1 << 20, &have, &n, &e))
        fail_msg("%s", e.text);
    assert_string_equal(have, text);
    free(have);
}

static mode_t mode_of(const struct fixture *f, const char *name)
{
    struct stat st;
    char path[256];
    cg_snprintf(path, sizeof path, "%s/%s", f->root, name);
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode;
}

/* --- good layers --- */

static void files_folders_links_and_modes_arrive(void **state)
{
    struct fixture *f = *state;
    struct stat a, b;
    char path[256];
    begin(f);
    put_folder(f, "./");
    put_folder(f, "./usr/");
    put(f, "usr/su", S_IFREG | 06755, NULL, "x", 1);
    put_file(f, "/etc/deep/er/file", "made above it");
    put_symlink(f, "bin", "usr");
    put_hardlink(f, "usr/same", "./usr/su");
    assert_int_equal(apply(f), CG_OK);
    assert_int_equal(mode_of(f, "usr/su") & 07777, 06755);
    assert_file(f, "etc/deep/er/file", "made above it");
    assert_true(S_ISLNK(mode_of(f, "bin")));
    cg_snprintf(path, sizeof path, "%s/usr/su", f->root);
    assert_int_equal(stat(path, &a), 0);
    cg_snprintf(path, sizeof path, "%s/bin/same", f->root);
    assert_int_equal(stat(path, &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(a.st_mtime, 1700000000);
}

static void an_upper_layer_replaces_files_and_reaches_through_links_inside(void **state)
{
    struct fixture *f = *state;
    begin(f);
    put_file(f, "usr/bin/tool", "old");
    put_symlink(f, "bin", "/usr/bin");
    put_folder(f, "was-folder");
    put_file(f, "was-folder/in", "x");
    assert_int_equal(apply(f), CG_OK);
    begin(f);
    put_file(f, "bin/tool", "new");
    put_file(f, "was-folder", "now a file");
    assert_int_equal(apply(f), CG_OK);
    assert_file(f, "usr/bin/tool", "new");
    assert_file(f, "was-folder", "now a file");
}

static void gzip_and_zstd_layers_are_read(void **state)
{
    struct fixture *f = *state;
    begin_as(f, ARCHIVE_FILTER_GZIP, false);
    put_file(f, "gzip", "1");
    assert_int_equal(apply(f), CG_OK);
    begin_as(f, ARCHIVE_FILTER_ZSTD, true);
    put_file(f, "zstd", "2");
    assert_int_equal(apply(f), CG_OK);
    assert_file(f, "gzip", "1");
    assert_file(f, "zstd", "2");
}

static void names_are_bytes_whatever_the_locale(void **state)
{
    struct fixture *f = *state;
    begin(f);
    put_file(f, "gnu-\xc3\xa9-\xff", "raw");
    put_symlink(f, "gnu-link", "gnu-\xc3\xa9-\xff");
    assert_int_equal(apply(f), CG_OK);
    assert_file(f, "gnu-\xc3\xa9-\xff", "raw");
    assert_file(f, "gnu-link", "raw");
}

static void whiteouts_hide_lower_layers_only(void **state)
{
    struct fixture *f = *state;
    begin(f);
    put_file(f, "a/gone", "1");
    put_file(f, "a/stays", "1");
    put_file(f, "b/gone", "1");
    put_file(f, "b/sub/gone", "1");
    put_folder(f, "c");
    put_file(f, "c/file", "1");
    assert_int_equal(apply(f), CG_OK);
    begin(f);
    put_file(f, "b/kept", "2");
    put_file(f, "b/sub/kept", "2");
    put_file(f, "b/.wh..wh..opq", "");
    put_file(f, "a/.wh.gone", "");
    put_file(f, ".wh.c", "");
    put_file(f, "c/new", "2");
    put_file(f, "nowhere/.wh.x", "");
    put_file(f, "nowhere/.wh..wh..opq", "");
    put_file(f, ".wh..wh.plnk", "");
    assert_int_equal(apply(f), CG_OK);
    assert_false(there(f, "a/gone"));
    assert_true(there(f, "a/stays"));
    assert_false(there(f, "b/gone"));
    assert_false(there(f, "b/sub/gone"));
    assert_true(there(f, "b/kept") && there(f, "b/sub/kept"));
    assert_false(there(f, "c/file"));
    assert_true(there(f, "c/new"));
    assert_false(there(f, "a/.wh.gone") || there(f, "nowhere") || there(f, ".wh..wh.plnk"));
}

static void device_nodes_are_left_out(void **state)
{
    struct fixture *f = *state;
    begin(f);
    put(f, "dev/null", S_IFCHR | 0666, NULL, NULL, 0);
    put(f, "fifo", S_IFIFO | 0600, NULL, NULL, 0);
    assert_int_equal(apply(f), CG_OK);
    assert_false(there(f, "dev/null"));
    assert_true(S_ISFIFO(mode_of(f, "fifo")));
}

/* --- hostile layers --- */

static void names_with_dot_dot_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"../outside/secret", "a/../../outside/secret",
                                        "/../outside/secret", "a/.."};
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        begin(f);
        put_file(f, names[i], "owned");
        assert_int_equal(apply(f), CG_PROTOCOL);
    }
}

static void a_symlink_leads_nowhere_outside(void **state)
{
    struct fixture *f = *state;
    static const char *const targets[] = {"../outside", "/../outside", "../../../../tmp"};
    for (size_t i = 0; i < CG_COUNT(targets); i++) {
        begin(f);
        put_symlink(f, "esc", targets[i]);
        put_file(f, "esc/secret", "owned");
        apply(f); /* refused or landed inside; tear_down looks at the outside */
    }
    begin(f);
    put_symlink(f, "abs", f->outside);
    put_file(f, "abs/secret", "owned");
    put_file(f, "abs/.wh.secret", "");
    put_file(f, "abs/.wh..wh..opq", "");
    put(f, "abs/secret", S_IFDIR | 0777, NULL, NULL, 0);
    apply(f);
    begin(f);
    put_file(f, "abs/.wh.secret", "");
    put_file(f, "abs/.wh..wh..opq", "");
    apply(f);
}

static void a_file_replaces_a_symlink_and_never_writes_through_it(void **state)
{
    struct fixture *f = *state;
    char target[128];
    cg_snprintf(target, sizeof target, "%s/secret", f->outside);
    begin(f);
    put_symlink(f, "f", target);
    put_symlink(f, "d", f->outside);
    put_file(f, "f", "mine");
    put(f, "d", S_IFDIR | 0777, NULL, NULL, 0);
    put_file(f, "d/secret", "mine");
    assert_int_equal(apply(f), CG_OK);
    assert_file(f, "f", "mine");
    assert_true(S_ISREG(mode_of(f, "f")));
    assert_true(S_ISDIR(mode_of(f, "d")));
}

static void hard_links_reach_nothing_outside(void **state)
{
    struct fixture *f = *state;
    char absolute[128];
    cg_snprintf(absolute, sizeof absolute, "%s/secret", f->outside);
    const char *targets[] = {"../outside/secret", absolute, "esc/secret", "missing", "esc"};
    for (size_t i = 0; i < CG_COUNT(targets); i++) {
        begin(f);
        put_symlink(f, "esc", f->outside);
        put_hardlink(f, "stolen", targets[i]);
        enum cg_code code = apply(f);
        if (i < 4)
            assert_int_equal(code, CG_PROTOCOL);
        else
            assert_true(S_ISLNK(mode_of(f, "stolen"))); /* the link itself, not what it names */
    }
    begin(f);
    put_hardlink(f, "stolen", "esc");
    put_file(f, "stolen", "written to a file of its own");
    assert_int_equal(apply(f), CG_OK);
}

static void whiteouts_of_dot_names_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {".wh.", ".wh..", ".wh...", "a/.wh...", "../.wh.outside"};
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        begin(f);
        put_file(f, names[i], "");
        assert_int_equal(apply(f), CG_PROTOCOL);
        assert_true(there(f, "."));
    }
}

static void the_root_folder_cannot_be_replaced(void **state)
{
    struct fixture *f = *state;
    begin(f);
    put_symlink(f, ".", "/etc");
    assert_int_equal(apply(f), CG_PROTOCOL);
    begin(f);
    put_file(f, "/", "x");
    assert_int_equal(apply(f), CG_PROTOCOL);
}

static void bytes_are_bounded_over_all_layers(void **state)
{
    struct fixture *f = *state;
    CG_OWN(cg_drop_free) char *half = cg_alloc(600000);
    begin_as(f, ARCHIVE_FILTER_GZIP, false);
    put(f, "one", S_IFREG | 0644, NULL, half, 600000);
    assert_int_equal(apply(f), CG_OK);
    begin_as(f, ARCHIVE_FILTER_GZIP, false);
    put(f, "two", S_IFREG | 0644, NULL, half, 600000);
    assert_int_equal(apply(f), CG_TOO_LARGE);
}

static void a_sparse_file_counts_with_its_length(void **state)
{
    struct fixture *f = *state;
    begin_as(f, ARCHIVE_FILTER_NONE, true);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, "sparse");
    archive_entry_set_mode(entry, S_IFREG | 0644);
    archive_entry_set_size(entry, 1ll << 40);
    archive_entry_sparse_add_entry(entry, 0, 1);
    assert_int_equal(archive_write_header(f->writer, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(f->writer, "x", 1), 1);
    archive_entry_free(entry);
    /* the writer cannot finish a terabyte, so its end is not asked for */
    archive_write_free(f->writer);
    struct cg_err e = CG_ERR_INIT;
    struct cg_blob b = blob_of(f->file);
    assert_false(cg_layer_apply(&f->unpack, &b, &e));
    close(b.fd);
}

static void entries_are_bounded(void **state)
{
    struct fixture *f = *state;
    begin(f);
    for (int i = 0; i < 1001; i++) {
        char name[32];
        cg_snprintf(name, sizeof name, "d/%d", i);
        put_file(f, name, "");
    }
    assert_int_equal(apply(f), CG_TOO_LARGE);
}

static void depth_is_bounded_even_when_links_add_it_up(void **state)
{
    struct fixture *f = *state;
    CG_OWN(cg_drop_buf) struct cg_buf name;
    cg_buf_init(&name, 4096);
    for (int i = 0; i < 300; i++)
        cg_buf_adds(&name, "d/");
    cg_buf_adds(&name, "f");
    begin(f);
    put_file(f, cg_buf_cstr(&name), "deep");
    assert_int_not_equal(apply(f), CG_OK);
    name.n = 2 * 150;
    begin(f);
    put_folder(f, cg_buf_cstr(&name));
    put_symlink(f, "half", cg_buf_cstr(&name));
    cg_buf_clear(&name);
    cg_buf_adds(&name, "half/");
    for (int i = 0; i < 150; i++)
        cg_buf_adds(&name, "e/");
    put_folder(f, cg_buf_cstr(&name));
    assert_int_not_equal(apply(f), CG_OK);
}

static void a_wrong_digest_or_size_is_refused_before_anything_is_unpacked(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    begin(f);
    put_file(f, "file", "x");
    archive_write_close(f->writer);
    archive_write_free(f->writer);
    struct cg_blob b = blob_of(f->file);
    b.digest[0] = b.digest[0] == '0' ? '1' : '0';
    assert_false(cg_layer_apply(&f->unpack, &b, &e));
    assert_int_equal(e.code, CG_PROTOCOL);
    close(b.fd);
    b = blob_of(f->file);
    b.size++;
    assert_false(cg_layer_apply(&f->unpack, &b, &e));
    assert_int_equal(e.code, CG_PROTOCOL);
    close(b.fd);
    assert_false(there(f, "file"));
}

static void a_cut_layer_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *data = cg_alloc(100000);
    for (size_t i = 0; i < 100000; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    begin_as(f, ARCHIVE_FILTER_GZIP, false);
    put(f, "file", S_IFREG | 0644, NULL, data, 100000);
    archive_write_close(f->writer);
    archive_write_free(f->writer);
    struct stat st;
    assert_int_equal(stat(f->file, &st), 0);
    assert_int_equal(truncate(f->file, st.st_size / 2), 0);
    struct cg_blob b = blob_of(f->file);
    assert_false(cg_layer_apply(&f->unpack, &b, &e));
    assert_int_equal(e.code, CG_PROTOCOL);
    close(b.fd);
}

static bool stop(void *ctx, const struct cg_image_progress *p)
{
    (void)ctx;
    (void)p;
    return false;
}

static void unpacking_can_be_interrupted(void **state)
{
    struct fixture *f = *state;
    static const struct cg_image_build b = {.progress = stop};
    struct cg_task task;
    cg_task_init(&task, NULL, &b, "x");
    f->unpack.task = &task;
    begin(f);
    put_file(f, "file", "x");
    assert_int_equal(apply(f), CG_CLOSED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(files_folders_links_and_modes_arrive),
        TEST(an_upper_layer_replaces_files_and_reaches_through_links_inside),
        TEST(gzip_and_zstd_layers_are_read),
        TEST(names_are_bytes_whatever_the_locale),
        TEST(whiteouts_hide_lower_layers_only),
        TEST(device_nodes_are_left_out),
        TEST(names_with_dot_dot_are_refused),
        TEST(a_symlink_leads_nowhere_outside),
        TEST(a_file_replaces_a_symlink_and_never_writes_through_it),
        TEST(hard_links_reach_nothing_outside),
        TEST(whiteouts_of_dot_names_are_refused),
        TEST(the_root_folder_cannot_be_replaced),
        TEST(bytes_are_bounded_over_all_layers),
        TEST(a_sparse_file_counts_with_its_length),
        TEST(entries_are_bounded),
        TEST(depth_is_bounded_even_when_links_add_it_up),
        TEST(a_wrong_digest_or_size_is_refused_before_anything_is_unpacked),
        TEST(a_cut_layer_is_refused),
        TEST(unpacking_can_be_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
