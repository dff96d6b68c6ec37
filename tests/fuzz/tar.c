/* Fuzz body of the names in an archive: whatever comes, in whatever pieces, the names are the same,
 * and every one lies below the folder that the archive goes to. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/tarhead.h"
#include "warden/unpacked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char folder[] = "/workspace/in/";

static struct unpacked *read_names(const unsigned char *p, size_t n, size_t piece)
{
    struct unpacked *u = unpacked_create(folder);
    CG_ASSERT(u);
    for (size_t at = 0; at < n; at += piece) {
        size_t take = CG_MIN(piece, n - at);
        CG_OWN(cg_drop_free)
        char *exactly = malloc(take); /* the sanitizer sees every step beyond */
        memcpy(exactly, p + at, take);
        unpacked_feed(u, (struct cg_slice){exactly, take});
    }
    return u;
}

static void check(const unsigned char *p, size_t n)
{
    struct unpacked *whole = read_names(p, n, n ? n : 1);
    struct unpacked *pieces = read_names(p, n, 37);
    const char *a = unpacked_next(whole, NULL);
    const char *b = unpacked_next(pieces, NULL);
    for (; a && b; a = unpacked_next(whole, a), b = unpacked_next(pieces, b)) {
        CG_ASSERT(strcmp(a, b) == 0 && cg_has_prefix(a, folder));
        CG_ASSERT(!strstr(a, "/../") && !cg_has_suffix(a, "/.."));
    }
    CG_ASSERT(!a && !b);
    unpacked_destroy(whole);
    unpacked_destroy(pieces);
}

/* Blocks whose checksum is right, to get past the first look. */
static void check_plausible(const uint8_t *data, size_t n)
{
    size_t blocks = (n + CG_TAR_BLOCK - 1) / CG_TAR_BLOCK;
    CG_OWN(cg_drop_free) unsigned char *p = cg_alloc(blocks * CG_TAR_BLOCK + 1);
    memcpy(p, data, n);
    for (size_t i = 0; i < blocks; i++) {
        unsigned char *b = p + i * CG_TAR_BLOCK;
        unsigned sum = 0;
        char text[8];
        memset(b + 100, '0', 8);  /* mode */
        memset(b + 124, '0', 24); /* size, time */
        b[133] = (unsigned char)('0' + b[0] % 4);
        memset(b + 148, ' ', 8);
        for (size_t k = 0; k < CG_TAR_BLOCK; k++)
            sum += b[k];
        cg_snprintf(text, sizeof text, "%06o", sum);
        memcpy(b + 148, text, 7);
    }
    check(p, blocks * CG_TAR_BLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    check(data, n);
    if (n > 0)
        check_plausible(data, n);
    return 0;
}
