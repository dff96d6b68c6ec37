/* OCI image layouts (image-spec: image-layout.md, image-index.md, manifest.md, config.md).
 *
 * The layout is untrusted input: every JSON file has a size limit and must have the digest that
 * points to it; names of blobs are hex digits by construction, so no path comes from the layout. */
#include "image/oci.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"

enum { JSON_MAX = 4 << 20, LAYERS_MAX = 256, INDEX_DEPTH = 3, ENV_MAX = 1024 };

static const struct cg_json_limits limits = {
    .max_bytes = JSON_MAX, .max_depth = 32, .max_values = 65536};

static void drop_json(struct cg_json **j)
{
    cg_json_destroy(*j);
}

static const char *architecture(void)
{
#if defined(__x86_64__)
    return "amd64";
#elif defined(__aarch64__)
    return "arm64";
#else
    return "unknown";
#endif
}

/* {"digest": "sha256:<64 hex>", "size": n} without opening anything. */
static bool read_descriptor(const struct cg_json *j, struct cg_blob *out, struct cg_err *e)
{
    static const char prefix[] = "sha256:";
    const char *digest = cg_json_str(j, "digest");
    *out = (struct cg_blob){.fd = -1, .size = cg_json_int(j, "size", -1)};
    if (!digest || !cg_has_prefix(digest, prefix))
        return cg_fail(e, CG_PROTOCOL, "a descriptor without a sha256 digest");
    const char *hex = digest + sizeof(prefix) - 1;
    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64)
        return cg_fail(e, CG_PROTOCOL, "a digest that is not 64 hex digits");
    if (out->size < 0)
        return cg_fail(e, CG_PROTOCOL, "blob %.12s: its descriptor has no size", hex);
    memcpy(out->digest, hex, sizeof(out->digest));
    return true;
}

static bool open_blob(const char *dir, struct cg_blob *b, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/blobs/sha256/%s", dir, b->digest);
    struct stat st;
    b->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (b->fd < 0)
        return cg_fail_sys(e, "open blob %.12s", b->digest);
    if (fstat(b->fd, &st) == 0 && S_ISREG(st.st_mode))
        return true;
    cg_drop_fd(&b->fd);
    return cg_fail(e, CG_PROTOCOL, "blob %.12s is not a regular file", b->digest);
}

/* The JSON document that a descriptor points to, verified; NULL on failure. */
static struct cg_json *read_json(const char *dir, const struct cg_json *descriptor,
                                 struct cg_blob *blob, struct cg_err *e)
{
    if (!read_descriptor(descriptor, blob, e))
        return NULL;
    if (blob->size > JSON_MAX) {
        cg_fail(e, CG_TOO_LARGE, "blob %.12s is too large for what it is", blob->digest);
        return NULL;
    }
    if (!open_blob(dir, blob, e))
        return NULL;
    CG_OWN(cg_drop_free) char *text = cg_alloc((size_t)blob->size + 1);
    bool ok = cg_blob_verify(blob, e) && lseek(blob->fd, 0, SEEK_SET) == 0 &&
              cg_fd_read_full(blob->fd, text, (size_t)blob->size, e);
    cg_drop_fd(&blob->fd);
    struct cg_json *j = NULL;
    if (ok)
        j = cg_json_parse((struct cg_slice){.p = text, .n = (size_t)blob->size}, &limits, e);
    if (ok && !j)
        e->code = CG_PROTOCOL;
    return j;
}

/* Whether an index entry is for this machine; entries that say nothing may be. */
static bool fits_platform(const struct cg_json *entry)
{
    const struct cg_json *p = cg_json_get(entry, "platform");
    const char *os = cg_json_str(p, "os");
    const char *arch = cg_json_str(p, "architecture");
    return (!os || cg_streq(os, "linux")) && (!arch || cg_streq(arch, architecture()));
}

static const char *ref_name(const struct cg_json *entry)
{
    return cg_json_str(cg_json_get(entry, "annotations"), "org.opencontainers.image.ref.name");
}

/* The entry of an index that is meant: by tag, else the only one that fits, else "latest". */
static const struct cg_json *choose(const struct cg_json *index, const char *tag, struct cg_err *e)
{
    const struct cg_json *list = cg_json_get(index, "manifests");
    const struct cg_json *only = NULL;
    const struct cg_json *latest = NULL;
    size_t fitting = 0;
    for (const struct cg_json *at = list ? list->child : NULL; at; at = at->next) {
        const char *name = ref_name(at);
        if (!fits_platform(at))
            continue;
        if (tag && cg_streq(name, tag))
            return at;
        if (cg_streq(name, "latest"))
            latest = at;
        only = at;
        fitting++;
    }
    if (tag)
        cg_fail(e, CG_NOT_FOUND, "the layout has no image %.64s for %s", tag, architecture());
    else if (fitting == 1)
        return only;
    else if (latest)
        return latest;
    else
        cg_fail(e, fitting ? CG_INVALID : CG_NOT_FOUND,
                fitting ? "the layout has %zu images: name one, as in oci:DIR:TAG"
                        : "the layout has %zu images for this machine",
                fitting);
    return NULL;
}

static bool is_index(const struct cg_json *descriptor, const struct cg_json *document)
{
    const char *type = cg_json_str(descriptor, "mediaType");
    return cg_streq(type, "application/vnd.oci.image.index.v1+json") ||
           cg_streq(type, "application/vnd.docker.distribution.manifest.list.v2+json") ||
           cg_json_get(document, "manifests");
}

/* Follows index.json down to a manifest; the caller's. Sets the digest. */
static struct cg_json *find_manifest(struct cg_oci *o, const struct cg_json *top, struct cg_err *e)
{
    const struct cg_json *entry = choose(top, o->tag, e);
    struct cg_json *document = NULL;
    for (int depth = 0; entry; depth++) {
        struct cg_blob blob;
        struct cg_json *next = read_json(o->dir, entry, &blob, e);
        bool nested = next && is_index(entry, next);
        cg_json_destroy(document);
        document = next;
        if (!next)
            return NULL;
        if (!nested) {
            memcpy(o->digest, blob.digest, sizeof(o->digest));
            return document;
        }
        if (depth >= INDEX_DEPTH) {
            cg_fail(e, CG_PROTOCOL, "indexes nested too deep");
            break;
        }
        entry = choose(next, NULL, e);
    }
    cg_json_destroy(document);
    return NULL;
}

static bool read_config(struct cg_oci *o, const struct cg_json *manifest, struct cg_err *e)
{
    struct cg_blob blob;
    CG_OWN(drop_json)
    struct cg_json *j = read_json(o->dir, cg_json_get(manifest, "config"), &blob, e);
    if (!j)
        return cg_wrap(e, "the image's configuration");
    const char *arch = cg_json_str(j, "architecture");
    const char *os = cg_json_str(j, "os");
    if (!cg_streq(arch, architecture()) || !cg_streq(os, "linux"))
        return cg_fail(e, CG_UNSUPPORTED, "the image is for %.32s on %.32s, this machine is %s",
                       os ? os : "?", arch ? arch : "?", architecture());
    const struct cg_json *config = cg_json_get(j, "config");
    const char *user = cg_json_str(config, "User");
    const char *workdir = cg_json_str(config, "WorkingDir");
    o->user = user && *user ? cg_strdup(user) : NULL;
    o->workdir = workdir && *workdir ? cg_strdup(workdir) : NULL;
    const struct cg_json *env = cg_json_get(config, "Env");
    for (const struct cg_json *at = env ? env->child : NULL; at; at = at->next) {
        if (at->type != CG_JSON_STR || !memchr(at->str.p, '=', at->str.n) ||
            memchr(at->str.p, '\0', at->str.n) || o->env.n >= ENV_MAX)
            return cg_fail(e, CG_PROTOCOL, "the image's environment is malformed");
        cg_strv_addn(&o->env, at->str.p, at->str.n);
    }
    return true;
}

static bool layer_type_known(const char *type)
{
    static const char *const known[] = {"application/vnd.oci.image.layer.v1.tar",
                                        "application/vnd.oci.image.layer.v1.tar+gzip",
                                        "application/vnd.oci.image.layer.v1.tar+zstd",
                                        "application/vnd.docker.image.rootfs.diff.tar",
                                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                                        "application/vnd.docker.image.rootfs.diff.tar.zstd"};
    for (size_t i = 0; i < CG_COUNT(known); i++)
        if (cg_streq(type, known[i]))
            return true;
    return false;
}

static bool read_layers(struct cg_oci *o, const struct cg_json *manifest, struct cg_err *e)
{
    const struct cg_json *list = cg_json_get(manifest, "layers");
    if (!list || list->type != CG_JSON_ARR || list->count == 0 || list->count > LAYERS_MAX)
        return cg_fail(e, CG_PROTOCOL, "the manifest has no layers, or more than %d",
                       (int)LAYERS_MAX);
    o->layers = cg_alloc_array(list->count, sizeof(*o->layers));
    for (const struct cg_json *at = list->child; at; at = at->next) {
        const char *type = cg_json_str(at, "mediaType");
        if (!layer_type_known(type))
            return cg_fail(e, CG_UNSUPPORTED, "a layer of type %.80s", type ? type : "(none)");
        if (!read_descriptor(at, &o->layers[o->n_layers++], e))
            return false;
    }
    return true;
}

static void read_titles(struct cg_oci *o, const struct cg_json *manifest)
{
    static const char *const keys[] = {"title", "version", "created"};
    const struct cg_json *annotations = cg_json_get(manifest, "annotations");
    for (size_t i = 0; i < CG_COUNT(keys); i++) {
        CG_OWN(cg_drop_free) char *key = cg_format("org.opencontainers.image.%s", keys[i]);
        const char *text = cg_json_str(annotations, key);
        if (text)
            cg_strv_addf(&o->titles, "%s %.60s", keys[i], text);
    }
}

static bool read_layout(struct cg_oci *o, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/index.json", o->dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, JSON_MAX, &text, &n, e))
        return false;
    CG_OWN(drop_json)
    struct cg_json *index = cg_json_parse((struct cg_slice){.p = text, .n = n}, &limits, e);
    if (!index) {
        e->code = CG_PROTOCOL;
        return cg_wrap(e, "%s", path);
    }
    CG_OWN(drop_json) struct cg_json *manifest = find_manifest(o, index, e);
    if (!manifest)
        return false;
    if (cg_json_int(manifest, "schemaVersion", 0) != 2)
        return cg_fail(e, CG_PROTOCOL, "the manifest is not of schema version 2");
    read_titles(o, manifest);
    return read_config(o, manifest, e) && read_layers(o, manifest, e);
}

/* The tag is behind the last colon that no slash follows. */
bool cg_oci_open(const char *from, struct cg_oci *out, struct cg_err *e)
{
    static const char scheme[] = "oci:";
    *out = (struct cg_oci){.dir = NULL};
    if (!cg_has_prefix(from, scheme) || !from[sizeof(scheme) - 1])
        return cg_fail(e, CG_INVALID, "--from %.64s: expected oci:DIR or oci:DIR:TAG", from);
    const char *rest = from + sizeof(scheme) - 1;
    const char *colon = strrchr(rest, ':');
    if (colon && (strchr(colon, '/') || colon == rest))
        colon = NULL;
    out->dir = colon ? cg_strndup(rest, (size_t)(colon - rest)) : cg_strdup(rest);
    out->tag = colon && colon[1] ? cg_strdup(colon + 1) : NULL;
    if (read_layout(out, e))
        return true;
    cg_oci_finish(out);
    return cg_wrap(e, "OCI layout %.80s", rest);
}

void cg_oci_finish(struct cg_oci *o)
{
    free(o->dir);
    free(o->tag);
    free(o->user);
    free(o->workdir);
    free(o->layers);
    cg_strv_finish(&o->env);
    cg_strv_finish(&o->titles);
    *o = (struct cg_oci){.dir = NULL};
}

bool cg_oci_layer_open(const struct cg_oci *o, size_t i, struct cg_blob *out, struct cg_err *e)
{
    *out = o->layers[i];
    return open_blob(o->dir, out, e);
}
