#include "base/tarhead.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Offsets and lengths of the fields of a header block. */
enum {
    NAME = 0,
    NAME_N = 100,
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    MTIME = 136,
    SUM = 148,
    TYPE = 156,
    LINK = 157,
    LINK_N = 100,
    MAGIC = 257,
    PREFIX = 345,
    PREFIX_N = 155
};

static bool octal(const unsigned char *p, size_t n, int64_t *out)
{
    int64_t v = 0;
    if (p[0] & 0x80) { /* base 256, for sizes over 8 GiB */
        for (size_t i = 0; i < n; i++) {
            if (v > INT64_MAX >> 8)
                return false;
            v = v << 8 | (i == 0 ? p[i] & 0x3f : p[i]);
        }
        *out = v;
        return !(p[0] & 0x40);
    }
    size_t i = 0;
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v << 3 | (p[i] - '0');
    *out = v;
    return i == n || p[i] == ' ' || p[i] == '\0';
}

static unsigned checksum(const unsigned char *b)
{
    unsigned sum = 8 * ' ';
    for (int i = 0; i < CG_TAR_BLOCK; i++)
        sum += i >= SUM && i < SUM + 8 ? 0 : b[i];
    return sum;
}

static void field(char *out, const unsigned char *p, size_t n)
{
    size_t len = strnlen((const char *)p, n);
    memcpy(out, p, len);
    out[len] = '\0';
}

bool cg_tar_parse(const unsigned char b[CG_TAR_BLOCK], struct cg_tar_entry *e, bool *zero,
                  struct cg_err *err)
{
    static const unsigned char zeros[CG_TAR_BLOCK];
    *zero = memcmp(b, zeros, CG_TAR_BLOCK) == 0;
    if (*zero)
        return true;
    int64_t sum, mode;
    if (!octal(b + SUM, 8, &sum) || sum != (int64_t)checksum(b))
        return cg_fail(err, CG_PROTOCOL, "not a tar header: its checksum is wrong");
    *e = (struct cg_tar_entry){.type = b[TYPE] ? (char)b[TYPE] : '0'};
    if (!octal(b + MODE, 8, &mode) || !octal(b + SIZE, 12, &e->size) ||
        !octal(b + MTIME, 12, &e->mtime_s) || e->size < 0)
        return cg_fail(err, CG_PROTOCOL, "not a tar header: a bad number");
    e->mode = (uint32_t)mode;
    char name[NAME_N + 1];
    char prefix[PREFIX_N + 1] = "";
    field(name, b + NAME, NAME_N);
    field(e->link, b + LINK, LINK_N);
    if (memcmp(b + MAGIC, "ustar\0", 6) == 0)
        field(prefix, b + PREFIX, PREFIX_N);
    snprintf(e->path, sizeof e->path, "%s%s%s", prefix, prefix[0] ? "/" : "", name);
    return true;
}

static bool pax_text(char out[CG_TAR_PATH], struct cg_slice v, struct cg_err *err)
{
    if (v.n >= CG_TAR_PATH || memchr(v.p, 0, v.n))
        return cg_fail(err, CG_PROTOCOL, "a name in the archive is too long or holds NUL");
    memcpy(out, v.p, v.n);
    out[v.n] = '\0';
    return true;
}

bool cg_tar_apply_pax(struct cg_slice r, struct cg_tar_entry *e, bool *has_path, bool *has_link,
                      bool *has_size, struct cg_err *err)
{
    while (r.n > 0) {
        char digits[12];
        size_t d = 0;
        while (d < r.n && d < sizeof digits - 1 && r.p[d] >= '0' && r.p[d] <= '9')
            d++;
        memcpy(digits, r.p, d);
        digits[d] = '\0';
        size_t len = strtoul(digits, NULL, 10);
        if (d == 0 || len <= d + 2 || len > r.n || r.p[d] != ' ' || r.p[len - 1] != '\n')
            return cg_fail(err, CG_PROTOCOL, "a bad record in a pax header");
        const char *key = r.p + d + 1;
        const char *eq = memchr(key, '=', len - d - 2);
        if (!eq)
            return cg_fail(err, CG_PROTOCOL, "a bad record in a pax header");
        struct cg_slice name = {key, (size_t)(eq - key)};
        struct cg_slice value = {eq + 1, (size_t)(r.p + len - 1 - (eq + 1))};
        char number[CG_TAR_PATH];
        if (cg_slice_eq(name, "path")) {
            *has_path = pax_text(e->path, value, err);
            if (!*has_path)
                return false;
        } else if (cg_slice_eq(name, "linkpath")) {
            *has_link = pax_text(e->link, value, err);
            if (!*has_link)
                return false;
        } else if (cg_slice_eq(name, "size") || cg_slice_eq(name, "mtime")) {
            if (!pax_text(number, value, err))
                return false;
            int64_t v = strtoll(number, NULL, 10);
            if (cg_slice_eq(name, "mtime")) {
                e->mtime_s = v;
            } else {
                e->size = v;
                *has_size = v >= 0;
            }
        }
        r.p += len;
        r.n -= len;
    }
    return true;
}

static bool put_header(struct cg_buf *out, const struct cg_tar_entry *e, const char *path)
{
    unsigned char b[CG_TAR_BLOCK] = {0};
    memcpy(b + NAME, path, strnlen(path, NAME_N));
    memcpy(b + LINK, e->link, strnlen(e->link, LINK_N));
    snprintf((char *)b + MODE, 8, "%07o", (unsigned)(e->mode & 07777));
    snprintf((char *)b + UID, 8, "%07o", 0U);
    snprintf((char *)b + GID, 8, "%07o", 0U);
    if (e->size < (int64_t)1 << 33) {
        snprintf((char *)b + SIZE, 12, "%011llo", (unsigned long long)e->size);
    } else {
        b[SIZE] = 0x80;
        for (int i = 0; i < 8; i++)
            b[SIZE + 11 - i] = (unsigned char)(e->size >> (8 * i));
    }
    int64_t mtime = e->mtime_s < 0 ? 0 : e->mtime_s & 0x1ffffffff;
    snprintf((char *)b + MTIME, 12, "%011llo", (unsigned long long)mtime);
    b[TYPE] = (unsigned char)e->type;
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a field of fixed width */
    memcpy(b + MAGIC, "ustar\00000", 8);
    snprintf((char *)b + SUM, 7, "%06o", checksum(b));
    b[SUM + 7] = ' ';
    return cg_buf_add(out, b, sizeof b);
}

/* "<length> key=value\n", where the length counts its own digits. */
static void pax_record(struct cg_buf *b, const char *key, const char *value)
{
    size_t base = strlen(key) + strlen(value) + 3;
    size_t len = base + 1;
    while (len != base + (size_t)snprintf(NULL, 0, "%zu", len))
        len = base + (size_t)snprintf(NULL, 0, "%zu", len);
    cg_buf_addf(b, "%zu %s=%s\n", len, key, value);
}

bool cg_tar_write(struct cg_buf *out, const struct cg_tar_entry *e)
{
    bool long_path = strlen(e->path) > NAME_N;
    bool long_link = strlen(e->link) > LINK_N;
    if (long_path || long_link) {
        CG_OWN(cg_drop_buf) struct cg_buf records;
        cg_buf_init(&records, 4 * CG_TAR_PATH);
        if (long_path)
            pax_record(&records, "path", e->path);
        if (long_link)
            pax_record(&records, "linkpath", e->link);
        struct cg_tar_entry head = {.type = 'x', .mode = 0644, .size = (int64_t)records.n};
        static const char zeros[CG_TAR_BLOCK];
        size_t pad = (CG_TAR_BLOCK - records.n % CG_TAR_BLOCK) % CG_TAR_BLOCK;
        if (!put_header(out, &head, "pax") || !cg_buf_add(out, records.p, records.n) ||
            !cg_buf_add(out, zeros, pad))
            return false;
    }
    return put_header(out, e, e->path);
}
