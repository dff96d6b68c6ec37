/* Blobs: their names, and reading them back. The frame may have been written by a warden that went
 * bad: its window is bounded, its length is not believed, and the hash decides. */
#include "record/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { IN_CHUNK = 64 * 1024, OUT_CHUNK = 64 * 1024, WINDOW_LOG_MAX = 25 };

struct cg_blob_reader {
    int fd;
    char name[CG_BLOB_NAME];
    ZSTD_DCtx *zstd;
    ZSTD_inBuffer in;
    bool ended; /* the frame is whole */
    crypto_hash_sha256_state hash;
    char buf[IN_CHUNK];
};

bool cg_blob_name_valid(const char *name)
{
    return name && strlen(name) == CG_BLOB_NAME - 1 &&
           strspn(name, "0123456789abcdef") == CG_BLOB_NAME - 1;
}

void cg_blob_name(struct cg_slice bytes, char name[CG_BLOB_NAME])
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    /* libcrypto's uses the processor's instructions for it: eight times as fast, and bodies of
     * calls are hashed on the loop */
    SHA256((const unsigned char *)(bytes.p ? bytes.p : ""), bytes.n, digest);
    sodium_bin2hex(name, CG_BLOB_NAME, digest, sizeof digest);
}

struct cg_blob_reader *cg_blob_open(int record_dir, const char *name, struct cg_err *e)
{
    char path[sizeof CG_BLOB_DIR + CG_BLOB_NAME + 8];
    struct stat st;
    if (!cg_blob_name_valid(name)) {
        cg_fail(e, CG_INVALID, "\"%.80s\" is not the name of a blob", name ? name : "");
        return NULL;
    }
    cg_snprintf(path, sizeof path, CG_BLOB_DIR "/%s.zst", name);
    CG_OWN(cg_drop_fd)
    int fd = openat(record_dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        cg_fail_sys(e, "blob %s", name);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        cg_fail(e, CG_INVALID, "blob %s is not a regular file", name);
        return NULL;
    }
    struct cg_blob_reader *r = cg_alloc(sizeof *r);
    r->fd = CG_MOVE_FD(fd);
    memcpy(r->name, name, CG_BLOB_NAME);
    r->zstd = ZSTD_createDCtx();
    CG_ASSERT(r->zstd);
    ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    crypto_hash_sha256_init(&r->hash);
    return r;
}

static bool damaged(const struct cg_blob_reader *r, struct cg_err *e)
{
    return cg_fail(e, CG_INVALID, "blob %s does not hold the bytes that its name says", r->name);
}

static bool refill(struct cg_blob_reader *r, struct cg_err *e)
{
    ssize_t n;
    do {
        n = read(r->fd, r->buf, sizeof r->buf);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return cg_fail_sys(e, "read blob %s", r->name);
    r->in = (ZSTD_inBuffer){r->buf, (size_t)n, 0};
    return n > 0 || damaged(r, e);
}

static bool check_end(struct cg_blob_reader *r, struct cg_err *e)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    char name[CG_BLOB_NAME];
    char more;
    crypto_hash_sha256_state copy = r->hash;
    crypto_hash_sha256_final(&copy, digest);
    sodium_bin2hex(name, sizeof name, digest, sizeof digest);
    bool whole = r->in.pos == r->in.size && read(r->fd, &more, 1) == 0;
    return (whole && cg_streq(name, r->name)) || damaged(r, e);
}

bool cg_blob_read(struct cg_blob_reader *r, void *p, size_t max, size_t *n, struct cg_err *e)
{
    ZSTD_outBuffer out = {p, max, 0};
    *n = 0;
    while (!r->ended && out.pos == 0) {
        if (r->in.pos == r->in.size && !refill(r, e))
            return false;
        size_t left = ZSTD_decompressStream(r->zstd, &out, &r->in);
        if (ZSTD_isError(left))
            return damaged(r, e);
        r->ended = left == 0;
    }
    if (out.pos == 0)
        return max == 0 || check_end(r, e);
    crypto_hash_sha256_update(&r->hash, p, out.pos);
    *n = out.pos;
    return true;
}

void cg_blob_close(struct cg_blob_reader *r)
{
    if (!r)
        return;
    close(r->fd);
    ZSTD_freeDCtx(r->zstd);
    free(r);
}

static bool read_all(struct cg_blob_reader *r, size_t max, struct cg_buf *out, struct cg_err *e)
{
    size_t before = out->n;
    for (;;) {
        size_t n = 0;
        char probe; /* even where nothing more fits the end is read: there the hash is checked */
        size_t space = CG_MIN((size_t)OUT_CHUNK, out->max - out->n);
        char *room = space > 0 ? cg_buf_room(out, space) : NULL;
        if (!cg_blob_read(r, room ? room : &probe, room ? space : 1, &n, e))
            return false;
        if (n == 0)
            return true;
        if (!room || out->n - before + n > max)
            return cg_fail(e, CG_TOO_LARGE, "blob %s is longer than %zu bytes", r->name, max);
        cg_buf_grew(out, n);
    }
}

bool cg_blob_get(int record_dir, const char *name, size_t max, struct cg_buf *out, struct cg_err *e)
{
    size_t before = out->n;
    bool was_full = out->full;
    struct cg_blob_reader *r = cg_blob_open(record_dir, name, e);
    bool fine = r && read_all(r, max, out, e);
    cg_blob_close(r);
    out->full = was_full;
    if (!fine)
        out->n = before;
    return fine;
}
