/* What is packed while it changes is packed in an order in which it stays true: the copy of the
 * database first (records are the truth, and what they have beyond it is found at the start), then
 * what the server remembers of seals, then records (each then has at least what was remembered), of
 * living sandboxes before ended ones (they move from there to here). Disks and memory of living
 * sandboxes stay out: their files are kept by snapshots. */
#include "cli/backup.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum { CHUNK = 1 << 18, DEPTH_MAX = 16, SEGMENTS_MAX = 512, TRIES = 16, NAMES_MAX = 64 << 20 };

struct pack {
    struct archive *a;
    struct cg_backup_count *count;
    char *chunk;
};

static bool archive_fail(struct archive *a, const char *what, struct cg_err *e)
{
    const char *text = archive_error_string(a);
    return cg_fail(e, CG_IO, "%s: %s", what, text ? text : "libarchive says no more");
}

/* --- one file --- */

static void tell_holes(struct archive_entry *entry, int fd, off_t size)
{
    off_t data = lseek(fd, 0, SEEK_DATA);
    if (data < 0 && errno == ENXIO && size > 0) /* all of it is a hole */
        archive_entry_sparse_add_entry(entry, size, 0);
    while (data >= 0 && data < size) {
        off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            break;
        hole = CG_MIN(hole, size);
        archive_entry_sparse_add_entry(entry, data, hole - data);
        data = lseek(fd, hole, SEEK_DATA);
    }
}

/* Exactly `size` bytes: what grows is cut where it was, what shrank is told. */
static bool put_data(struct pack *p, int fd, const char *name, off_t size, struct cg_err *e)
{
    off_t at = 0;
    while (at < size) {
        ssize_t n = pread(fd, p->chunk, (size_t)CG_MIN((off_t)CHUNK, size - at), at);
        if (n <= 0)
            return n < 0 ? cg_fail_sys(e, "read %s", name)
                         : cg_fail(e, CG_IO, "%s became shorter while it was packed", name);
        if (archive_write_data(p->a, p->chunk, (size_t)n) != n)
            return archive_fail(p->a, name, e);
        at += n;
    }
    p->count->bytes += (uint64_t)size;
    return true;
}

static bool put(struct pack *p, int fd, const char *name, const struct stat *st, struct cg_err *e)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_copy_stat(entry, st);
    bool file = S_ISREG(st->st_mode);
    if (file)
        tell_holes(entry, fd, st->st_size);
    bool ok = archive_write_header(p->a, entry) == ARCHIVE_OK || archive_fail(p->a, name, e);
    archive_entry_free(entry);
    p->count->files += file;
    return ok && (!file || put_data(p, fd, name, st->st_size, e));
}

/* --- folders --- */

struct held {
    char *name;
    int fd;
    struct stat st;
};

struct listing {
    struct held *v;
    size_t n;
};

static void drop_listing(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        cg_drop_fd(&l->v[i].fd);
    }
    free(l->v);
    *l = (struct listing){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct held *)a)->name, ((const struct held *)b)->name);
}

static bool list(int dir, const char *name, struct listing *l, struct cg_err *e)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again >= 0 ? fdopendir(again) : NULL;
    if (!d)
        return cg_fail_sys(e, "list %s", name);
    for (struct dirent *i; (i = readdir(d)) != NULL;) {
        if (strcmp(i->d_name, ".") == 0 || strcmp(i->d_name, "..") == 0)
            continue;
        l->v = cg_realloc(l->v, (l->n + 1) * sizeof *l->v);
        l->v[l->n++] = (struct held){.name = cg_strdup(i->d_name), .fd = -1};
    }
    closedir(d);
    if (l->n > 1)
        qsort(l->v, l->n, sizeof *l->v, by_name);
    return true;
}

static int open_entry(int dir, struct held *h)
{
    h->fd = openat(dir, h->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return h->fd >= 0 && fstat(h->fd, &h->st) == 0 ? 0 : errno;
}

/* All of a folder at one moment, as far as one can tell: a segment that is sealed meanwhile is
 * there under its old name or its new one, and then the folder is listed again. */
static bool hold_all(int dir, const char *name, struct listing *l, struct cg_err *e)
{
    for (int i = 0; i < TRIES; i++) {
        int error = 0;
        drop_listing(l);
        if (!list(dir, name, l, e))
            return false;
        if (l->n > SEGMENTS_MAX)
            return true; /* as another folder: one by one */
        for (size_t k = 0; k < l->n && error == 0; k++)
            error = open_entry(dir, &l->v[k]);
        if (error == 0)
            return true;
        errno = error;
        if (error != ENOENT)
            return cg_fail_sys(e, "open a file of %s", name);
    }
    return cg_fail(e, CG_CONFLICT, "%s changes all the time", name);
}

static bool put_folder(struct pack *p, int at, const char *leaf, const char *name, unsigned depth,
                       struct cg_err *e);

/* Files before folders: a blob is there before the line that names it. */
static bool put_entries(struct pack *p, int dir, const char *name, struct listing *l, bool folders,
                        unsigned depth, struct cg_err *e)
{
    bool ok = true;
    for (size_t i = 0; i < l->n && ok; i++) {
        struct held *h = &l->v[i];
        if (cg_has_suffix(h->name, ".lock") || (folders && S_ISREG(h->st.st_mode)))
            continue;
        int error = h->fd >= 0 ? 0 : open_entry(dir, h);
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", name, h->name);
        errno = error;
        if (error == ENOENT || error == ELOOP || error == ENXIO)
            continue; /* gone meanwhile, or a link or socket: nothing of the state is one */
        if (error != 0)
            return cg_fail_sys(e, "open %s", path);
        if (S_ISREG(h->st.st_mode) && !folders)
            ok = put(p, h->fd, path, &h->st, e);
        if (S_ISDIR(h->st.st_mode) && folders)
            ok = put_folder(p, dir, h->name, path, depth + 1, e);
        cg_drop_fd(&h->fd); /* a folder may have more entries than files can be open */
    }
    return ok;
}

static bool put_folder(struct pack *p, int at, const char *leaf, const char *name, unsigned depth,
                       struct cg_err *e)
{
    CG_OWN(drop_listing) struct listing l = {0};
    struct stat st;
    CG_OWN(cg_drop_fd)
    int dir = openat(at, leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0 && errno == ENOENT)
        return true;
    if (dir < 0 || fstat(dir, &st) != 0)
        return cg_fail_sys(e, "open %s", name);
    if (depth > DEPTH_MAX)
        return cg_fail(e, CG_INVALID, "%s lies too deep", name);
    bool segments = strcmp(leaf, "record") == 0 || strcmp(leaf, "audit") == 0;
    return put(p, dir, name, &st, e) &&
           (segments ? hold_all(dir, name, &l, e) : list(dir, name, &l, e)) &&
           put_entries(p, dir, name, &l, false, depth, e) &&
           put_entries(p, dir, name, &l, true, depth, e);
}

/* Of a living sandbox its record alone. */
static bool put_living(struct pack *p, int state, struct cg_err *e)
{
    CG_OWN(drop_listing) struct listing l = {0};
    struct stat st;
    CG_OWN(cg_drop_fd)
    int dir = openat(state, "sandboxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return errno == ENOENT || cg_fail_sys(e, "open sandboxes");
    if (fstat(dir, &st) != 0 || !put(p, dir, "sandboxes", &st, e) || !list(dir, "sandboxes", &l, e))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        CG_OWN(cg_drop_free) char *box = cg_format("sandboxes/%s", l.v[i].name);
        CG_OWN(cg_drop_free) char *record = cg_format("%s/record", box);
        CG_OWN(cg_drop_fd)
        int fd = openat(dir, l.v[i].name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT)
            continue; /* ended: it is in the archive by now */
        if (fd < 0 || fstat(fd, &st) != 0)
            return cg_fail_sys(e, "open %s", box);
        if (!put(p, fd, box, &st, e) || !put_folder(p, fd, "record", record, 1, e))
            return false;
    }
    return true;
}

static bool put_file(struct pack *p, int at, const char *path, const char *name, bool needed,
                     struct cg_err *e)
{
    struct stat st;
    CG_OWN(cg_drop_fd) /* the folder is the server's, and this may be root */
    int fd = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && !needed)
        return true;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return cg_fail(e, CG_INVALID, "%s is no file", path);
    return put(p, fd, name, &st, e);
}

static bool put_all(struct pack *p, int state, const char *database, struct cg_err *e)
{
    static const char *const files[] = {"uid_base",    "owner.key",   "secrets.key",
                                        "signing.key", "signing.pub", "prices.json"};
    static const char *const folders[] = {"archive", "audit", "snapshots", "agents"};
    if (!put_file(p, state, database ? database : "server.db", "server.db", true, e) ||
        (!database && !put_file(p, state, "server.db-wal", "server.db-wal", false, e)))
        return false;
    for (size_t i = 0; i < CG_COUNT(files); i++)
        if (!put_file(p, state, files[i], files[i], false, e))
            return false;
    if (!put_folder(p, state, "seals", "seals", 0, e) || !put_living(p, state, e))
        return false;
    for (size_t i = 0; i < CG_COUNT(folders); i++)
        if (!put_folder(p, state, folders[i], folders[i], 0, e))
            return false;
    return true;
}

bool cg_backup_pack(const char *state_dir, const char *database, int fd,
                    struct cg_backup_count *count, struct cg_err *e)
{
    struct pack p = {.a = archive_write_new(), .count = count, .chunk = cg_alloc(CHUNK)};
    CG_OWN(cg_drop_fd) int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = state >= 0 || cg_fail_sys(e, "open %s", state_dir);
    *count = (struct cg_backup_count){0};
    ok = ok && ((archive_write_set_format_pax_restricted(p.a) == ARCHIVE_OK &&
                 archive_write_add_filter_zstd(p.a) == ARCHIVE_OK &&
                 archive_write_open_fd(p.a, fd) == ARCHIVE_OK) ||
                archive_fail(p.a, "begin the backup", e));
    ok = ok && put_all(&p, state, database, e) &&
         (archive_write_close(p.a) == ARCHIVE_OK || archive_fail(p.a, "end the backup", e));
    archive_write_free(p.a);
    free(p.chunk);
    return ok;
}

/* --- putting back --- */

/* A path below the folder, of a plain file or folder. */
static bool is_ours(struct archive_entry *entry)
{
    const char *path = archive_entry_pathname(entry);
    mode_t type = archive_entry_filetype(entry);
    if (!path || path[0] == '/' || !path[0] || archive_entry_hardlink(entry) ||
        (type != AE_IFREG && type != AE_IFDIR))
        return false;
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n + (p[n] == '/');
    }
    return true;
}

static bool extract(struct archive *from, struct archive *to, const char *dir,
                    struct cg_backup_count *count, struct cg_err *e)
{
    struct archive_entry *entry = NULL;
    int rc;
    while ((rc = archive_read_next_header(from, &entry)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        if (!is_ours(entry))
            return cg_fail(e, CG_INVALID, "\"%.80s\" is nothing of a state directory",
                           name ? name : "");
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, name);
        count->files += archive_entry_filetype(entry) == AE_IFREG;
        count->bytes += (uint64_t)CG_MAX(archive_entry_size(entry), (la_int64_t)0);
        archive_entry_set_pathname(entry, path);
        if (archive_read_extract2(from, entry, to) != ARCHIVE_OK)
            return archive_fail(archive_error_string(to) ? to : from, path, e);
    }
    return rc == ARCHIVE_EOF || archive_fail(from, "the backup", e);
}

bool cg_backup_unpack(int fd, const char *dir, struct cg_backup_count *count, struct cg_err *e)
{
    struct archive *from = archive_read_new();
    struct archive *to = archive_write_disk_new();
    int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_SPARSE |
                ARCHIVE_EXTRACT_NO_OVERWRITE | (getuid() == 0 ? ARCHIVE_EXTRACT_OWNER : 0);
    *count = (struct cg_backup_count){0};
    archive_write_disk_set_options(to, flags);
    bool ok = (archive_read_support_format_tar(from) == ARCHIVE_OK &&
               archive_read_support_filter_zstd(from) == ARCHIVE_OK &&
               archive_read_open_fd(from, fd, CHUNK) == ARCHIVE_OK) ||
              archive_fail(from, "the backup", e);
    ok = ok && extract(from, to, dir, count, e);
    ok = (archive_write_close(to) == ARCHIVE_OK || (ok && archive_fail(to, dir, e))) && ok;
    archive_write_free(to);
    archive_read_free(from);
    return ok;
}
