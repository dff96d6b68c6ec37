#include "intercept/hello.h"

#include <string.h>

enum {
    RECORD_HEAD = 5,
    RECORD_MAX = 16384,
    HANDSHAKE = 22,
    CLIENT_HELLO = 1,
    EXT_NAME = 0,
    EXT_ECH = 0xfe0d
};

struct in {
    const unsigned char *p;
    size_t n;
    bool bad;
};

static size_t number(struct in *in, unsigned bytes)
{
    size_t v = 0;
    if (in->n < bytes) {
        in->bad = true;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | in->p[i];
    in->p += bytes;
    in->n -= bytes;
    return v;
}

/* A vector with its length in front. */
static struct in vector(struct in *in, unsigned bytes)
{
    size_t n = number(in, bytes);
    struct in out = {in->p, n, in->bad || n > in->n};
    in->bad = out.bad;
    if (!out.bad) {
        in->p += n;
        in->n -= n;
    }
    return out;
}

static bool host_name(struct in name, char out[CG_HELLO_NAME])
{
    size_t n = name.n;
    if (n > 0 && name.p[n - 1] == '.')
        n--;
    if (n == 0 || n >= CG_HELLO_NAME)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = name.p[i];
        c = c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._", c))))
            return false;
        out[i] = (char)c;
    }
    out[n] = '\0';
    return true;
}

static enum cg_hello name_of(struct in list, char out[CG_HELLO_NAME])
{
    struct in names = vector(&list, 2);
    enum cg_hello found = CG_HELLO_NONE;
    unsigned count = 0;
    while (!names.bad && names.n > 0) {
        size_t type = number(&names, 1);
        struct in name = vector(&names, 2);
        if (names.bad || type != 0 || count++ > 0)
            return CG_HELLO_NOT_TLS;
        if (host_name(name, out))
            found = CG_HELLO_NAMED;
    }
    return names.bad || list.n > 0 ? CG_HELLO_NOT_TLS : found;
}

static enum cg_hello read_hello(struct in in, char out[CG_HELLO_NAME], bool *hidden)
{
    enum cg_hello found = CG_HELLO_NONE;
    number(&in, 2); /* version */
    for (int i = 0; i < 4; i++)
        number(&in, 8); /* random */
    vector(&in, 1);     /* session */
    vector(&in, 2);     /* ciphers */
    vector(&in, 1);     /* compression */
    if (in.bad || in.n == 0)
        return in.bad ? CG_HELLO_NOT_TLS : CG_HELLO_NONE;
    struct in extensions = vector(&in, 2);
    bool seen = false;
    while (!extensions.bad && extensions.n > 0) {
        size_t type = number(&extensions, 2);
        struct in body = vector(&extensions, 2);
        if (type == EXT_ECH)
            *hidden = true;
        if (extensions.bad || type != EXT_NAME)
            continue;
        found = seen ? CG_HELLO_NOT_TLS : name_of(body, out);
        if (found == CG_HELLO_NOT_TLS)
            return found;
        seen = true;
    }
    return extensions.bad || in.bad || in.n > 0 ? CG_HELLO_NOT_TLS : found;
}

enum cg_hello cg_hello_name(struct cg_slice bytes, char name[CG_HELLO_NAME], bool *hidden)
{
    bool unused = false;
    unsigned char whole[CG_HELLO_MAX];
    size_t have = 0;
    struct in in = {(const unsigned char *)bytes.p, bytes.n, false};
    hidden = hidden ? hidden : &unused;
    *hidden = false;
    while (in.n > 0) { /* records */
        if (in.p[0] != HANDSHAKE || (in.n > 1 && in.p[1] != 3))
            return CG_HELLO_NOT_TLS;
        if (in.n < RECORD_HEAD)
            break;
        size_t n = (size_t)in.p[3] << 8 | in.p[4];
        size_t here = CG_MIN(n, in.n - RECORD_HEAD);
        if (n == 0 || n > RECORD_MAX || have + here > sizeof whole)
            return CG_HELLO_NOT_TLS;
        memcpy(whole + have, in.p + RECORD_HEAD, here);
        have += here;
        in.p += RECORD_HEAD + here;
        in.n -= RECORD_HEAD + here;
        if (have > 0 && whole[0] != CLIENT_HELLO)
            return CG_HELLO_NOT_TLS;
        size_t length = have < 4 ? 0 : (size_t)whole[1] << 16 | (size_t)whole[2] << 8 | whole[3];
        if (length > sizeof whole - 4)
            return CG_HELLO_NOT_TLS;
        if (have >= 4 && have - 4 >= length)
            return read_hello((struct in){whole + 4, length, false}, name, hidden);
    }
    return bytes.n >= CG_HELLO_MAX ? CG_HELLO_NOT_TLS : CG_HELLO_MORE;
}
