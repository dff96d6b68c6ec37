/* OCI image layouts: which image is meant, what its configuration says, and that nothing in a
 * layout is believed without its digest or names a file outside of it. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/hash.h"
#include "image/oci.h"

#if defined(__x86_64__)
#define ARCH "amd64"
#define OTHER "arm64"
#else
#define ARCH "arm64"
#define OTHER "amd64"
#endif

static char top[64];

static int set_up(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    cg_strlcpy(top, sizeof top, "/tmp/cg-oci-XXXXXX");
    assert_non_null(mkdtemp(top));
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/blobs/sha256", top);
    assert_true(cg_fs_mkdirs(dir, 0755, &e));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    return cg_fs_remove_tree(top, &e) ? 0 : -1;
}

/* Stores a blob and gives its descriptor as JSON, with `more` members; the caller's. */
static char *blob(const char *text, const char *type, const char *more)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_hash h;
    char sum[CG_HASH_TEXT];
    cg_hash_init(&h);
    cg_hash_add(&h, text, strlen(text));
    cg_hash_text(&h, sum);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/blobs/sha256/%s", top, sum);
    assert_true(cg_fs_replace(path, text, strlen(text), 0644, &e));
    return cg_format("{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%zu%s%s}", type, sum,
                     strlen(text), *more ? "," : "", more);
}

static void write_index(const char *entries)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *path = cg_format("%s/index.json", top);
    CG_OWN(cg_drop_free)
    char *text = cg_format("{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
    assert_true(cg_fs_replace(path, text, strlen(text), 0644, &e));
}

static const char layer_type[] = "application/vnd.oci.image.layer.v1.tar";
static const char manifest_type[] = "application/vnd.oci.image.manifest.v1+json";
static const char index_type[] = "application/vnd.oci.image.index.v1+json";

/* A whole image whose layer is the text `layer`; its manifest's descriptor. */
static char *image(const char *arch, const char *layer, const char *layers_type, const char *more)
{
    CG_OWN(cg_drop_free)
    char *config =
        cg_format("{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"User\":\"node\","
                  "\"WorkingDir\":\"/srv\",\"Env\":[\"A=1\",\"PATH=/bin\"]}}",
                  arch);
    CG_OWN(cg_drop_free) char *c = blob(config, "application/vnd.oci.image.config.v1+json", "");
    CG_OWN(cg_drop_free) char *l = blob(layer, layers_type, "");
    CG_OWN(cg_drop_free)
    char *manifest = cg_format("{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}", c, l);
    return blob(manifest, manifest_type, more);
}

static char *tagged(const char *tag, const char *layer)
{
    CG_OWN(cg_drop_free)
    char *more = cg_format("\"annotations\":{\"org.opencontainers.image.ref.name\":\"%s\"}", tag);
    return image(ARCH, layer, layer_type, more);
}

static bool open_layout(const char *tag, struct cg_oci *o, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *from = cg_format("oci:%s%s%s", top, tag ? ":" : "", tag ? tag : "");
    *e = (struct cg_err)CG_ERR_INIT;
    return cg_oci_open(from, o, e);
}

static void assert_refused(const char *tag, enum cg_code code, const char *said)
{
    struct cg_oci o;
    struct cg_err e;
    assert_false(open_layout(tag, &o, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.text, said))
        fail_msg("%s does not say: %s", e.text, said);
}

static void an_image_gives_its_settings_and_layers(void **state)
{
    (void)state;
    struct cg_oci o;
    struct cg_err e;
    struct cg_blob b;
    CG_OWN(cg_drop_free) char *entry = image(ARCH, "layer", layer_type, "");
    write_index(entry);
    if (!open_layout(NULL, &o, &e))
        fail_msg("%s", e.text);
    assert_string_equal(o.user, "node");
    assert_string_equal(o.workdir, "/srv");
    assert_int_equal(o.env.n, 2);
    assert_string_equal(o.env.v[1], "PATH=/bin");
    assert_int_equal(o.n_layers, 1);
    assert_true(cg_oci_layer_open(&o, 0, &b, &e));
    assert_true(cg_blob_verify(&b, &e));
    close(b.fd);
    cg_oci_finish(&o);
}

static void a_tag_picks_its_image_and_a_missing_one_is_said(void **state)
{
    (void)state;
    struct cg_oci one, two;
    struct cg_err e;
    CG_OWN(cg_drop_free) char *a = tagged("one", "1");
    CG_OWN(cg_drop_free) char *b = tagged("two", "2");
    CG_OWN(cg_drop_free) char *both = cg_format("%s,%s", a, b);
    write_index(both);
    assert_true(open_layout("one", &one, &e) && open_layout("two", &two, &e));
    assert_string_not_equal(one.digest, two.digest);
    cg_oci_finish(&one);
    cg_oci_finish(&two);
    assert_refused("three", CG_NOT_FOUND, "no image three");
    assert_refused(NULL, CG_INVALID, "2 images: name one");
}

static void an_index_inside_the_index_is_followed_for_this_machine(void **state)
{
    (void)state;
    struct cg_oci o;
    struct cg_err e;
    CG_OWN(cg_drop_free)
    char *other = image(OTHER, "o", layer_type,
                        "\"platform\":{\"os\":\"linux\",\"architecture\":\"" OTHER "\"}");
    CG_OWN(cg_drop_free)
    char *ours = image(ARCH, "m", layer_type,
                       "\"platform\":{\"os\":\"linux\",\"architecture\":\"" ARCH "\"}");
    CG_OWN(cg_drop_free) char *inner = cg_format("{\"manifests\":[%s,%s]}", other, ours);
    CG_OWN(cg_drop_free) char *entry = blob(inner, index_type, "");
    write_index(entry);
    if (!open_layout(NULL, &o, &e))
        fail_msg("%s", e.text);
    assert_non_null(strstr(ours, o.digest));
    cg_oci_finish(&o);
}

static void an_image_for_another_machine_is_refused(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free) char *entry = image(OTHER, "x", layer_type, "");
    write_index(entry);
    assert_refused(NULL, CG_UNSUPPORTED, "the image is for linux on " OTHER);
}

static void a_blob_that_was_changed_is_refused(void **state)
{
    (void)state;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *entry = image(ARCH, "x", layer_type, "");
    write_index(entry);
    const char *digest = strstr(entry, "sha256:") + strlen("sha256:");
    CG_OWN(cg_drop_free) char *path = cg_format("%s/blobs/sha256/%.64s", top, digest);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    assert_true(cg_fs_slurp(path, 65536, &text, &n, &e));
    text[n - 1] = ' ';
    assert_true(cg_fs_replace(path, text, n, 0644, &e));
    assert_refused(NULL, CG_PROTOCOL, "does not have that digest");
}

static void digests_cannot_be_paths(void **state)
{
    (void)state;
    static const char *const digests[] = {
        "sha256:../../../../etc/passwd",
        "sha512:00",
        "sha256:",
        "",
        "sha256:ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde/"};
    for (size_t i = 0; i < CG_COUNT(digests); i++) {
        CG_OWN(cg_drop_free)
        char *entry = cg_format("{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":1}",
                                manifest_type, digests[i]);
        write_index(entry);
        assert_refused(NULL, CG_PROTOCOL, "digest");
    }
}

static void a_blob_that_is_no_file_does_not_hang_the_import(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free) char *entry = image(ARCH, "x", layer_type, "");
    write_index(entry);
    const char *digest = strstr(entry, "sha256:") + strlen("sha256:");
    CG_OWN(cg_drop_free) char *path = cg_format("%s/blobs/sha256/%.64s", top, digest);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(NULL, CG_PROTOCOL, "not a regular file");
}

static void layers_of_unknown_type_and_malformed_documents_are_refused(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free)
    char *foreign = image(ARCH, "x", "application/vnd.oci.image.layer.nondistributable.v1.tar", "");
    write_index(foreign);
    assert_refused(NULL, CG_UNSUPPORTED, "a layer of type");
    CG_OWN(cg_drop_free) char *garbage = blob("{]", manifest_type, "");
    write_index(garbage);
    assert_refused(NULL, CG_PROTOCOL, "");
    CG_OWN(cg_drop_free) char *empty = blob("{\"schemaVersion\":2}", manifest_type, "");
    write_index(empty);
    assert_refused(NULL, CG_PROTOCOL, "");
    write_index("");
    assert_refused(NULL, CG_NOT_FOUND, "0 images");
    write_index("7");
    assert_refused(NULL, CG_PROTOCOL, "");
}

static void references_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const char *const froms[] = {"", "oci:", "docker:x", "/some/dir"};
    for (size_t i = 0; i < CG_COUNT(froms); i++) {
        struct cg_oci o;
        struct cg_err e = CG_ERR_INIT;
        assert_false(cg_oci_open(froms[i], &o, &e));
        assert_int_equal(e.code, CG_INVALID);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(an_image_gives_its_settings_and_layers),
        TEST(a_tag_picks_its_image_and_a_missing_one_is_said),
        TEST(an_index_inside_the_index_is_followed_for_this_machine),
        TEST(an_image_for_another_machine_is_refused),
        TEST(a_blob_that_was_changed_is_refused),
        TEST(digests_cannot_be_paths),
        TEST(a_blob_that_is_no_file_does_not_hang_the_import),
        TEST(layers_of_unknown_type_and_malformed_documents_are_refused),
        TEST(references_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
