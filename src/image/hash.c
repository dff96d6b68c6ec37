/* SHA-256 by libsodium. */
#include "image/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void cg_hash_init(struct cg_hash *h)
{
    crypto_hash_sha256_init(&h->state);
}

void cg_hash_add(struct cg_hash *h, const void *p, size_t n)
{
    crypto_hash_sha256_update(&h->state, p, n);
}

void cg_hash_field(struct cg_hash *h, const char *text)
{
    uint64_t n = text ? strlen(text) : 0;
    cg_hash_add(h, &n, sizeof(n));
    if (text)
        cg_hash_add(h, text, (size_t)n);
}

bool cg_hash_file(struct cg_hash *h, const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cg_fail_sys(e, "open %s", path);
    char block[65536];
    for (;;) {
        ssize_t n = read(fd, block, sizeof(block));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cg_fail_sys(e, "read %s", path);
        if (n == 0)
            return true;
        cg_hash_add(h, block, (size_t)n);
    }
}

void cg_hash_text(struct cg_hash *h, char out[CG_HASH_TEXT])
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&h->state, sum);
    sodium_bin2hex(out, CG_HASH_TEXT, sum, sizeof(sum));
}
