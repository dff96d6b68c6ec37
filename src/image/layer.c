/* Layers of container images (OCI image-spec, "Image Layer Filesystem Changeset").
 *
 * A layer is hostile input that is unpacked with the rights of whoever builds. Promises:
 * - Every path is resolved by the kernel with the tree as root (openat2, RESOLVE_IN_ROOT), down to
 *   the folder that holds the entry; the entry itself is then made by name in that folder, never
 *   following a link. So neither "..", absolute names, symlinks of an earlier entry nor hard links
 *   reach anything outside.
 * - Device nodes are left out (the guest has its own /dev); set-id bits are kept, which is safe as
 *   the tree lies in a folder that nobody else can enter.
 * - Bytes, entries, length of names and depth of folders have limits.
 * - Whiteouts hide what lower layers have, never what the same layer brings: the layer is read
 *   twice, whiteouts first. */
#include "image/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/hash.h"

const struct cg_layer_limits cg_layer_default_limits = {.max_bytes = 32ll << 30,
                                                        .max_entries = 2000000};

enum { BLOCK = 65536, TICK_EVERY = 256 };

static const char whiteout[] = ".wh.";
static const char aufs[] = ".wh..wh."; /* opaque folders, and metadata of one storage driver */
static const char opaque[] = ".wh..wh..opq";

bool cg_blob_verify(const struct cg_blob *b, struct cg_err *e)
{
    struct cg_hash h;
    char block[BLOCK];
    char sum[CG_HASH_TEXT];
    int64_t at = 0;
    cg_hash_init(&h);
    for (;;) {
        ssize_t n = pread(b->fd, block, sizeof(block), at);
        if (n < 0)
            return cg_fail_sys(e, "read blob %.12s", b->digest);
        if (n == 0)
            break;
        cg_hash_add(&h, block, (size_t)n);
        at += n;
    }
    cg_hash_text(&h, sum);
    if (at != b->size)
        return cg_fail(e, CG_PROTOCOL, "blob %.12s has %lld bytes and not %lld", b->digest,
                       (long long)at, (long long)b->size);
    return cg_streq(sum, b->digest) ||
           cg_fail(e, CG_PROTOCOL, "blob %.12s does not have that digest", b->digest);
}

static void drop_reader(struct archive **a)
{
    archive_read_free(*a);
}

/* Names are bytes to us. libarchive holds those of pax headers as UTF-8 and others as they are, and
 * would convert between the two by the locale; so each is asked for in the form it is held in. */
static const char *entry_path(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname_utf8(entry);
    return name ? name : archive_entry_pathname(entry);
}

static const char *entry_hardlink(struct archive_entry *entry)
{
    const char *name = archive_entry_hardlink_utf8(entry);
    return name ? name : archive_entry_hardlink(entry);
}

static const char *entry_symlink(struct archive_entry *entry)
{
    const char *name = archive_entry_symlink_utf8(entry);
    return name ? name : archive_entry_symlink(entry);
}

/* The next header; false at the end (with e->code CG_OK) and on damage. */
static bool next_entry(struct cg_unpack *u, struct archive *a, struct archive_entry **entry,
                       struct cg_err *e)
{
    int rc = archive_read_next_header(a, entry);
    if (rc == ARCHIVE_EOF)
        return false;
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
        return cg_fail(e, CG_PROTOCOL, "damaged: %s", archive_error_string(a));
    if (!entry_path(*entry))
        return cg_fail(e, CG_PROTOCOL, "an entry has no readable name");
    u->entries++;
    if (u->task && u->entries % TICK_EVERY == 0 && !cg_task_tick(u->task))
        return cg_fail(e, CG_CLOSED, "interrupted");
    return true;
}

static bool open_layer(const struct cg_blob *blob, struct archive *a, struct cg_err *e)
{
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_format_tar(a);
    archive_read_support_format_empty(a);
    if (lseek(blob->fd, 0, SEEK_SET) != 0)
        return cg_fail_sys(e, "read blob");
    return archive_read_open_fd(a, blob->fd, BLOCK) == ARCHIVE_OK ||
           cg_fail(e, CG_PROTOCOL, "damaged: %s", archive_error_string(a));
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool apply_whiteout(struct cg_unpack *u, const char *path, struct cg_err *e)
{
    const char *name = base_name(path);
    if (cg_streq(name, opaque)) {
        CG_OWN(cg_drop_free) char *folder = cg_strndup(path, (size_t)(name - path));
        return cg_tree_empty(&u->tree, folder, e);
    }
    if (!cg_has_prefix(name, whiteout) || cg_has_prefix(name, aufs))
        return true;
    const char *hidden = name + sizeof(whiteout) - 1;
    if (cg_streq(hidden, "") || cg_streq(hidden, ".") || cg_streq(hidden, ".."))
        return cg_fail(e, CG_PROTOCOL, "a whiteout hides \"%s\"", hidden);
    CG_OWN(cg_place_drop) struct cg_place at = {.dir = -1};
    if (!cg_place_find(&u->tree, path, false, &at, e))
        return false;
    return at.dir < 0 || cg_tree_remove_at(at.dir, hidden, e);
}

static bool apply_whiteouts(struct cg_unpack *u, const struct cg_blob *blob, struct cg_err *e)
{
    CG_OWN(drop_reader) struct archive *a = archive_read_new();
    struct archive_entry *entry;
    struct cg_err end = CG_ERR_INIT;
    int64_t before = u->entries;
    if (!open_layer(blob, a, e))
        return false;
    while (next_entry(u, a, &entry, &end))
        if (!apply_whiteout(u, entry_path(entry), e))
            return false;
    u->entries = before; /* the second reading counts */
    if (end.code != CG_OK)
        *e = end;
    return end.code == CG_OK;
}

/* Owner before mode: chown takes set-id bits away. */
static bool set_meta(int dir, const char *name, struct archive_entry *entry, struct cg_err *e)
{
    int64_t uid = archive_entry_uid(entry);
    int64_t gid = archive_entry_gid(entry);
    if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
        return cg_fail(e, CG_PROTOCOL, "%.100s: owner out of range", name);
    if (fchownat(dir, name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) != 0)
        return cg_fail_sys(e, "give %.100s to its owner", name);
    struct timespec times[2] = {{.tv_sec = archive_entry_mtime(entry)},
                                {.tv_sec = archive_entry_mtime(entry)}};
    if (archive_entry_filetype(entry) != AE_IFLNK &&
        fchmodat(dir, name, archive_entry_perm(entry) & 07777, 0) != 0)
        return cg_fail_sys(e, "set the mode of %.100s", name);
    if (utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) != 0)
        return cg_fail_sys(e, "set the time of %.100s", name);
    return true;
}

static bool write_data(struct cg_unpack *u, struct archive *a, int fd, int64_t size,
                       struct cg_err *e)
{
    const void *p;
    size_t n;
    la_int64_t at;
    if (size < 0 || size > u->limits.max_bytes - u->bytes)
        return cg_fail(e, CG_TOO_LARGE, "the image unpacks to more than %lld bytes",
                       (long long)u->limits.max_bytes);
    u->bytes += size;
    for (;;) {
        int rc = archive_read_data_block(a, &p, &n, &at);
        if (rc == ARCHIVE_EOF)
            return ftruncate(fd, size) == 0 || cg_fail_sys(e, "write");
        if (rc != ARCHIVE_OK)
            return cg_fail(e, CG_PROTOCOL, "damaged: %s", archive_error_string(a));
        if (at < 0 || at > size || n > (uint64_t)(size - at))
            return cg_fail(e, CG_PROTOCOL, "a file is longer than its header says");
        if (u->task && !cg_task_tick(u->task))
            return cg_fail(e, CG_CLOSED, "interrupted");
        for (size_t done = 0; done < n;) {
            ssize_t w = pwrite(fd, (const char *)p + done, n - done, at + (int64_t)done);
            if (w < 0)
                return cg_fail_sys(e, "write");
            done += (size_t)w;
        }
    }
}

/* The one attribute that programs need: file capabilities, as in ping. */
static void set_capability(int fd, struct archive_entry *entry)
{
    const char *name;
    const void *value;
    size_t n;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &n) == ARCHIVE_OK)
        if (cg_streq(name, "security.capability") && n <= 64 &&
            fsetxattr(fd, name, value, n, 0) != 0)
            return; /* not all file systems have it; the file works for root all the same */
}

static bool make_file(struct cg_unpack *u, struct archive *a, struct archive_entry *entry,
                      const struct cg_place *at, struct cg_err *e)
{
    CG_OWN(cg_drop_fd)
    int fd = openat(at->dir, at->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return cg_fail_sys(e, "create %.100s", at->name);
    if (!write_data(u, a, fd, archive_entry_size(entry), e) ||
        !set_meta(at->dir, at->name, entry, e))
        return false;
    set_capability(fd, entry);
    return true;
}

static bool make_folder(struct archive_entry *entry, const struct cg_place *at, struct cg_err *e)
{
    struct stat st;
    bool there = fstatat(at->dir, at->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && !S_ISDIR(st.st_mode)) {
        if (!cg_tree_remove_at(at->dir, at->name, e))
            return false;
        there = false;
    }
    if (!there && mkdirat(at->dir, at->name, 0700) != 0)
        return cg_fail_sys(e, "create folder %.100s", at->name);
    return set_meta(at->dir, at->name, entry, e);
}

static bool make_link(struct cg_unpack *u, const char *target, const struct cg_place *at,
                      struct cg_err *e)
{
    CG_OWN(cg_place_drop) struct cg_place from = {.dir = -1};
    if (!cg_place_find(&u->tree, target, false, &from, e))
        return false;
    if (from.dir < 0 || linkat(from.dir, from.name, at->dir, at->name, 0) != 0)
        return cg_fail(e, CG_PROTOCOL, "hard link %.80s to %.80s, which is not there", at->name,
                       target);
    return true;
}

static bool make_other(struct archive_entry *entry, const struct cg_place *at, struct cg_err *e)
{
    const char *target = entry_symlink(entry);
    switch (archive_entry_filetype(entry)) {
    case AE_IFLNK:
        if (!target || !*target)
            return cg_fail(e, CG_PROTOCOL, "symlink %.100s has no target", at->name);
        if (symlinkat(target, at->dir, at->name) != 0)
            return cg_fail_sys(e, "create symlink %.100s", at->name);
        return set_meta(at->dir, at->name, entry, e);
    case AE_IFIFO:
        if (mkfifoat(at->dir, at->name, 0600) != 0)
            return cg_fail_sys(e, "create %.100s", at->name);
        return set_meta(at->dir, at->name, entry, e);
    default: /* devices and sockets: the guest has its own */
        return true;
    }
}

static bool unpack_entry(struct cg_unpack *u, struct archive *a, struct archive_entry *entry,
                         struct cg_err *e)
{
    const char *path = entry_path(entry);
    const char *link = entry_hardlink(entry);
    CG_OWN(cg_place_drop) struct cg_place at = {.dir = -1};
    if (cg_has_prefix(base_name(path), whiteout))
        return true;
    if (u->entries > u->limits.max_entries)
        return cg_fail(e, CG_TOO_LARGE, "the image has more than %lld entries",
                       (long long)u->limits.max_entries);
    if (!cg_place_find(&u->tree, path, true, &at, e))
        return false;
    if (!link && archive_entry_filetype(entry) == AE_IFDIR)
        return make_folder(entry, &at, e);
    if (cg_streq(at.name, "."))
        return cg_fail(e, CG_PROTOCOL, "an entry would replace the root folder");
    if (!cg_tree_remove_at(at.dir, at.name, e))
        return false;
    if (link)
        return make_link(u, link, &at, e);
    if (archive_entry_filetype(entry) == AE_IFREG)
        return make_file(u, a, entry, &at, e);
    return make_other(entry, &at, e);
}

static bool unpack(struct cg_unpack *u, const struct cg_blob *blob, struct cg_err *e)
{
    CG_OWN(drop_reader) struct archive *a = archive_read_new();
    struct archive_entry *entry;
    struct cg_err end = CG_ERR_INIT;
    if (!open_layer(blob, a, e))
        return false;
    while (next_entry(u, a, &entry, &end))
        if (!unpack_entry(u, a, entry, e))
            return false;
    if (end.code != CG_OK)
        *e = end;
    return end.code == CG_OK;
}

bool cg_layer_apply(struct cg_unpack *u, const struct cg_blob *blob, struct cg_err *e)
{
    return (cg_blob_verify(blob, e) && apply_whiteouts(u, blob, e) && unpack(u, blob, e)) ||
           cg_wrap(e, "layer %.12s", blob->digest);
}
