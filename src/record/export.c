/* ustar, by POSIX.1-1988: 512-byte headers with octal numbers, two blocks of zeros at the end. Only
 * what a record needs: regular files with short names. */
#include "record/export.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/blob.h"

enum { BLOCK = 512, CHUNK = 64 * 1024, NAME_MAX_TAR = 100, FILES_MAX = 1 << 20 };

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};

_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

/* Six digits and a suffix that a segment's files have. */
static bool segment_file(const char *name)
{
    static const char *const suffixes[] = {".jsonl", ".jsonl.zst", ".seal", ".leaves"};
    if (strspn(name, "0123456789") != 6)
        return false;
    for (size_t i = 0; i < CG_COUNT(suffixes); i++)
        if (strcmp(name + 6, suffixes[i]) == 0)
            return true;
    return false;
}

static bool blob_file(const char *name)
{
    char blob[CG_BLOB_NAME];
    return strlen(name) == CG_BLOB_NAME - 1 + 4 && cg_has_suffix(name, ".zst") &&
           !cg_strlcpy(blob, sizeof blob, name) && cg_blob_name_valid(blob);
}

static unsigned checksum(const struct header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    unsigned sum = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        bool own = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);
        sum += own ? ' ' : p[i];
    }
    return sum;
}

/* --- writing --- */

static bool write_header(int fd, const char *name, uint64_t size, int64_t mtime, struct cg_err *e)
{
    struct header h = {.type = '0'};
    if (!cg_strlcpy(h.name, sizeof h.name, name))
        return cg_fail(e, CG_INVALID, "the name %s is too long for a tar", name);
    cg_snprintf(h.mode, sizeof h.mode, "%07o", 0640U);
    cg_snprintf(h.uid, sizeof h.uid, "%07o", 0U);
    cg_snprintf(h.gid, sizeof h.gid, "%07o", 0U);
    cg_snprintf(h.size, sizeof h.size, "%011llo", (unsigned long long)size);
    cg_snprintf(h.mtime, sizeof h.mtime, "%011llo", (unsigned long long)CG_MAX(mtime, 0));
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    cg_snprintf(h.checksum, sizeof h.checksum, "%06o", checksum(&h));
    h.checksum[7] = ' ';
    return cg_fd_write_full(fd, &h, sizeof h, e);
}

/* Exactly `size` bytes, also when the file has grown meanwhile. */
static bool copy_out(int from, int to, uint64_t size, struct cg_err *e)
{
    static const char zeros[BLOCK];
    CG_OWN(cg_drop_free) char *buf = cg_alloc(CHUNK);
    for (uint64_t left = size; left > 0;) {
        size_t n = (size_t)CG_MIN(left, (uint64_t)CHUNK);
        if (!cg_fd_read_full(from, buf, n, e) || !cg_fd_write_full(to, buf, n, e))
            return false;
        left -= n;
    }
    size_t pad = (BLOCK - size % BLOCK) % BLOCK;
    return pad == 0 || cg_fd_write_full(to, zeros, pad, e);
}

static bool write_file(int dir, const char *file, const char *name, int out, struct cg_err *e)
{
    struct stat st;
    CG_OWN(cg_drop_fd)
    int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return true; /* thinned or packed since the folder was listed */
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s", file);
    if (!S_ISREG(st.st_mode))
        return cg_fail(e, CG_INVALID, "%s is not a regular file", file);
    uint64_t size = (uint64_t)st.st_size;
    return (write_header(out, name, size, st.st_mtim.tv_sec, e) && copy_out(fd, out, size, e)) ||
           cg_wrap(e, "export %s", file);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

struct names {
    char **list;
    size_t count;
};

static void drop_names(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->list[i]);
    free(n->list);
}

static bool list_files(int dir, bool (*wanted)(const char *), struct names *out, struct cg_err *e)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CG_OWN(cg_drop_dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        cg_drop_fd(&fd);
        return cg_fail_sys(e, "list the record");
    }
    for (const struct dirent *entry; (entry = readdir(d)) != NULL && out->count < FILES_MAX;) {
        if (!wanted(entry->d_name))
            continue;
        if ((out->count & (out->count + 1)) == 0) /* grows at 0, 1, 3, 7, … */
            out->list = cg_realloc(out->list, (2 * out->count + 2) * sizeof *out->list);
        out->list[out->count++] = cg_strdup(entry->d_name);
    }
    if (out->count > 0)
        qsort(out->list, out->count, sizeof *out->list, by_name);
    return true;
}

static bool write_folder(int dir, const char *in_tar, bool (*wanted)(const char *), int out,
                         struct cg_err *e)
{
    CG_OWN(drop_names) struct names names = {NULL, 0};
    if (!list_files(dir, wanted, &names, e))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        CG_OWN(cg_drop_free) char *name = cg_format("%s/%s", in_tar, names.list[i]);
        if (!write_file(dir, names.list[i], name, out, e))
            return false;
    }
    return true;
}

bool cg_export(int record_dir, const char *name, int fd, struct cg_err *e)
{
    static const char end[2 * BLOCK];
    CG_OWN(cg_drop_free) char *in_tar = cg_format("%s/" CG_BLOB_DIR, name);
    CG_OWN(cg_drop_fd)
    int blobs = openat(record_dir, CG_BLOB_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (blobs < 0 && errno != ENOENT)
        return cg_fail_sys(e, "open the record's blobs");
    return write_folder(record_dir, name, segment_file, fd, e) &&
           (blobs < 0 || write_folder(blobs, in_tar, blob_file, fd, e)) &&
           cg_fd_write_full(fd, end, sizeof end, e);
}

/* --- reading --- */

static bool octal(const char *p, size_t n, uint64_t *out)
{
    size_t i = 0;
    *out = 0;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        *out = *out * 8 + (uint64_t)(p[i] - '0');
    return i > 0 && (i == n || p[i] == '\0' || p[i] == ' ');
}

static bool all_zero(const void *p, size_t n)
{
    const char *c = p;
    for (size_t i = 0; i < n; i++)
        if (c[i])
            return false;
    return true;
}

/* "<record>/<file>" or "<record>/blobs/<file>". */
static const char *file_in(const char *name, bool *blob)
{
    const char *slash = strchr(name, '/');
    if (!slash || slash == name)
        return NULL;
    const char *file = slash + 1;
    *blob = cg_has_prefix(file, CG_BLOB_DIR "/");
    if (*blob)
        file += sizeof CG_BLOB_DIR;
    return (*blob ? blob_file(file) : segment_file(file)) ? file : NULL;
}

static bool copy_in(int from, int dir, const char *file, uint64_t size, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *buf = cg_alloc(CHUNK);
    CG_OWN(cg_drop_fd)
    int fd = openat(dir, file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return cg_fail(e, CG_INVALID, "%s is in the export twice", file);
    if (fd < 0)
        return cg_fail_sys(e, "make %s", file);
    uint64_t left = size + (BLOCK - size % BLOCK) % BLOCK;
    for (uint64_t done = 0; left > 0;) {
        size_t n = (size_t)CG_MIN(left, (uint64_t)CHUNK);
        if (!cg_fd_read_full(from, buf, n, NULL))
            return cg_fail(e, CG_INVALID, "the export is cut off inside %s", file);
        size_t take = done < size ? (size_t)CG_MIN((uint64_t)n, size - done) : 0;
        if (!cg_fd_write_full(fd, buf, take, e))
            return cg_wrap(e, "unpack %s", file);
        done += n;
        left -= n;
    }
    return true;
}

static bool read_member(int fd, const struct header *h, int dir, int *blobs, struct cg_err *e)
{
    char name[NAME_MAX_TAR + 1] = "";
    uint64_t size = 0, sum = 0;
    bool blob = false;
    memcpy(name, h->name, NAME_MAX_TAR);
    bool fine = memcmp(h->magic, "ustar", 5) == 0 && octal(h->checksum, sizeof h->checksum, &sum) &&
                sum == checksum(h) && octal(h->size, sizeof h->size, &size) &&
                (h->type == '0' || h->type == '\0') && h->prefix[0] == '\0';
    const char *file = fine ? file_in(name, &blob) : NULL;
    if (!file)
        return cg_fail(e, CG_INVALID, "it is no export of a record");
    if (blob && *blobs < 0) {
        if (mkdirat(dir, CG_BLOB_DIR, 0700) != 0 && errno != EEXIST)
            return cg_fail_sys(e, "make the folder of blobs");
        *blobs = openat(dir, CG_BLOB_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (*blobs < 0)
            return cg_fail_sys(e, "open the folder of blobs");
    }
    return copy_in(fd, blob ? *blobs : dir, file, size, e);
}

bool cg_import(int fd, int to_dir, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int blobs = -1;
    for (unsigned members = 0; members < FILES_MAX; members++) {
        struct header h;
        char last[BLOCK];
        if (!cg_fd_read_full(fd, &h, sizeof h, NULL))
            return cg_fail(e, CG_INVALID,
                           members ? "the export is cut off: its end mark is missing"
                                   : "it is no export of a record");
        if (!all_zero(&h, sizeof h)) {
            if (!read_member(fd, &h, to_dir, &blobs, e))
                return false;
            continue;
        }
        if (!cg_fd_read_full(fd, last, sizeof last, NULL) || !all_zero(last, sizeof last))
            return cg_fail(e, CG_INVALID, "the export is cut off: its end mark is missing");
        return true;
    }
    return cg_fail(e, CG_INVALID, "the export holds too many files");
}
