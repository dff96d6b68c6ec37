/* Seal lines, and the key that signs them. */
#include "record/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"

static const char domain[] = "caged record seal 1\n"; /* a signature serves for nothing else */
static const char key_prefix[] = "ed25519:";
static const char *const states[] = {"open", "closed", "end"};

enum { SIG_TEXT = sodium_base64_ENCODED_LEN(crypto_sign_BYTES, sodium_base64_VARIANT_ORIGINAL) };

static void key_text(const unsigned char *public_key, char out[CG_SEAL_KEY_TEXT])
{
    char base64[sodium_base64_ENCODED_LEN(crypto_sign_PUBLICKEYBYTES,
                                          sodium_base64_VARIANT_ORIGINAL)];
    sodium_bin2base64(base64, sizeof base64, public_key, crypto_sign_PUBLICKEYBYTES,
                      sodium_base64_VARIANT_ORIGINAL);
    cg_snprintf(out, CG_SEAL_KEY_TEXT, "%s%s", key_prefix, base64);
}

static bool key_bytes(const char *text, unsigned char out[crypto_sign_PUBLICKEYBYTES])
{
    size_t n = 0;
    if (!cg_has_prefix(text, key_prefix))
        return false;
    text += sizeof key_prefix - 1;
    return sodium_base642bin(out, crypto_sign_PUBLICKEYBYTES, text, strlen(text), NULL, &n, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           n == crypto_sign_PUBLICKEYBYTES;
}

/* --- the key --- */

static bool make_key(const char *path, unsigned char seed[crypto_sign_SEEDBYTES], struct cg_err *e)
{
    char hex[2 * crypto_sign_SEEDBYTES + 2];
    cg_rand_bytes(seed, crypto_sign_SEEDBYTES);
    sodium_bin2hex(hex, sizeof hex - 1, seed, crypto_sign_SEEDBYTES);
    hex[sizeof hex - 2] = '\n';
    bool fine = cg_fs_replace(path, hex, sizeof hex - 1, 0600, e);
    sodium_memzero(hex, sizeof hex);
    return fine;
}

static bool read_key(const char *path, unsigned char seed[crypto_sign_SEEDBYTES], struct cg_err *e)
{
    char *text = NULL;
    size_t n = 0;
    size_t got = 0;
    struct stat st;
    if (!cg_fs_slurp(path, 256, &text, &n, e))
        return false;
    text[strcspn(text, "\n")] = '\0';
    bool fine =
        sodium_hex2bin(seed, crypto_sign_SEEDBYTES, text, strlen(text), NULL, &got, NULL) == 0 &&
        got == crypto_sign_SEEDBYTES;
    sodium_memzero(text, n);
    free(text);
    if (!fine)
        return cg_fail(e, CG_INVALID, "%s is no signing key (64 hexadecimal digits)", path);
    if (stat(path, &st) != 0 || (st.st_mode & 077) != 0)
        return cg_fail(e, CG_FORBIDDEN, "%s can be read by others; chmod 600 it", path);
    return true;
}

bool cg_seal_key_load(const char *state_dir, struct cg_seal_key *out, struct cg_err *e)
{
    unsigned char seed[crypto_sign_SEEDBYTES];
    unsigned char public_key[crypto_sign_PUBLICKEYBYTES];
    CG_OWN(cg_drop_free) char *path = cg_format("%s/signing.key", state_dir);
    CG_OWN(cg_drop_free) char *pub = cg_format("%s/signing.pub", state_dir);
    if (sodium_init() < 0)
        return cg_fail(e, CG_INTERNAL, "libsodium does not start");
    if (!(cg_fs_exists(path) ? read_key(path, seed, e) : make_key(path, seed, e)))
        return cg_wrap(e, "the key that signs records");
    crypto_sign_seed_keypair(public_key, out->secret, seed);
    sodium_memzero(seed, sizeof seed);
    key_text(public_key, out->text);
    CG_OWN(cg_drop_free) char *line = cg_format("%s\n", out->text);
    return cg_fs_replace(pub, line, strlen(line), 0644, e);
}

void cg_seal_key_wipe(struct cg_seal_key *k)
{
    sodium_memzero(k, sizeof *k);
}

/* --- lines --- */

static void sign(struct cg_slice said, const struct cg_seal_key *k, char out[SIG_TEXT])
{
    unsigned char sig[crypto_sign_BYTES];
    struct cg_digest d = cg_digest_of(said);
    unsigned char text[sizeof domain - 1 + CG_DIGEST];
    memcpy(text, domain, sizeof domain - 1);
    memcpy(text + sizeof domain - 1, d.b, sizeof d.b);
    crypto_sign_detached(sig, NULL, text, sizeof text, k->secret);
    sodium_bin2base64(out, SIG_TEXT, sig, sizeof sig, sodium_base64_VARIANT_ORIGINAL);
}

static bool signature_fits(struct cg_slice said, const char *key, const char *sig)
{
    unsigned char public_key[crypto_sign_PUBLICKEYBYTES];
    unsigned char bytes[crypto_sign_BYTES];
    unsigned char text[sizeof domain - 1 + CG_DIGEST];
    struct cg_digest d = cg_digest_of(said);
    size_t n = 0;
    memcpy(text, domain, sizeof domain - 1);
    memcpy(text + sizeof domain - 1, d.b, sizeof d.b);
    return key_bytes(key, public_key) &&
           sodium_base642bin(bytes, sizeof bytes, sig, strlen(sig), NULL, &n, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           n == sizeof bytes &&
           crypto_sign_verify_detached(bytes, text, sizeof text, public_key) == 0;
}

static void put_digest(struct cg_jsonw *w, const char *key, const struct cg_digest *d)
{
    char text[CG_DIGEST_TEXT];
    cg_digest_text(d, text);
    cg_jsonw_kstr(w, key, text);
}

void cg_seal_write(const struct cg_seal *s, const struct cg_seal_key *k, struct cg_buf *out)
{
    struct cg_jsonw w;
    size_t start = out->n;
    char sig[SIG_TEXT];
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", "seal");
    cg_jsonw_kint(&w, "format", CG_RECORD_FORMAT);
    cg_jsonw_kstr(&w, "sandbox", s->sandbox);
    cg_jsonw_kint(&w, "segment", s->segment);
    cg_jsonw_kstr(&w, "state", states[s->state]);
    cg_jsonw_kuint(&w, "first_seq", s->first_seq);
    cg_jsonw_kuint(&w, "last_seq", s->last_seq);
    cg_jsonw_kuint(&w, "lines", s->lines);
    cg_jsonw_kuint(&w, "bytes", s->bytes);
    put_digest(&w, "hash", &s->hash);
    put_digest(&w, "root", &s->root);
    if (s->has_prev)
        put_digest(&w, "prev", &s->prev);
    else
        cg_jsonw_kstr(&w, "prev", NULL);
    cg_jsonw_kstr(&w, "sealed_at", s->sealed_at);
    cg_jsonw_kstr(&w, "key", k->text);
    sign((struct cg_slice){out->p + start, out->n - start}, k, sig);
    cg_jsonw_kstr(&w, "sig", sig);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(out, '\n');
}

static bool read_digest(const struct cg_json *o, const char *key, struct cg_digest *out)
{
    const char *text = cg_json_str(o, key);
    return text && cg_digest_parse(cg_slice_of(text), out);
}

static bool read_count(const struct cg_json *o, const char *key, uint64_t *out)
{
    int64_t v = cg_json_int(o, key, -1);
    *out = (uint64_t)v;
    return v >= 0;
}

static bool read_members(const struct cg_json *o, struct cg_seal *out)
{
    const char *sandbox = cg_json_str(o, "sandbox");
    const char *state = cg_json_str(o, "state");
    const char *at = cg_json_str(o, "sealed_at");
    const char *key = cg_json_str(o, "key");
    const struct cg_json *prev = cg_json_get(o, "prev");
    int64_t segment = cg_json_int(o, "segment", 0);
    if (!cg_streq(cg_json_str(o, "type"), "seal") || !sandbox || !state || !at || !key || !prev ||
        cg_json_int(o, "format", 0) != CG_RECORD_FORMAT || segment < 1 || segment > 999999)
        return false;
    out->segment = (uint32_t)segment;
    unsigned i = 0;
    while (i < CG_COUNT(states) && !cg_streq(state, states[i]))
        i++;
    out->state = (enum cg_seal_state)i;
    out->has_prev = prev->type != CG_JSON_NULL;
    return i < CG_COUNT(states) && cg_strlcpy(out->sandbox, sizeof out->sandbox, sandbox) &&
           cg_strlcpy(out->sealed_at, sizeof out->sealed_at, at) &&
           cg_strlcpy(out->key, sizeof out->key, key) &&
           read_count(o, "first_seq", &out->first_seq) &&
           read_count(o, "last_seq", &out->last_seq) && read_count(o, "lines", &out->lines) &&
           read_count(o, "bytes", &out->bytes) && read_digest(o, "hash", &out->hash) &&
           read_digest(o, "root", &out->root) &&
           (!out->has_prev || read_digest(o, "prev", &out->prev));
}

bool cg_seal_parse(struct cg_slice line, struct cg_seal *out, struct cg_err *e)
{
    static const char sig_key[] = ",\"sig\":";
    *out = (struct cg_seal){.segment = 0};
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line, NULL, e);
    const char *sig = cg_json_str(o, "sig");
    const char *at =
        line.n < CG_SEAL_MAX ? memmem(line.p, line.n, sig_key, sizeof sig_key - 1) : NULL;
    if (!o || !sig || !at || !read_members(o, out))
        return cg_fail(e, CG_INVALID, "it is no seal of a record");
    if (!signature_fits((struct cg_slice){line.p, (size_t)(at - line.p)}, out->key, sig))
        return cg_fail(e, CG_FORBIDDEN, "its signature does not fit the key %s", out->key);
    return true;
}

/* --- files --- */

void cg_seal_name(uint32_t segment, char out[CG_SEAL_NAME])
{
    cg_snprintf(out, CG_SEAL_NAME, "%06u.seal", (unsigned)segment);
}

void cg_leaves_name(uint32_t segment, char out[CG_SEAL_NAME])
{
    cg_snprintf(out, CG_SEAL_NAME, "%06u.leaves", (unsigned)segment);
}

bool cg_seal_slurp(int dir_fd, const char *name, size_t max, struct cg_buf *out, struct cg_err *e)
{
    struct stat st;
    CG_OWN(cg_drop_fd)
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s", name);
    if (!S_ISREG(st.st_mode))
        return cg_fail(e, CG_INVALID, "%s is not a regular file", name);
    if ((uint64_t)st.st_size > max)
        return cg_fail(e, CG_TOO_LARGE, "%s is longer than %zu bytes", name, max);
    size_t n = (size_t)st.st_size;
    char *room = cg_buf_room(out, n);
    if (!room)
        return cg_fail(e, CG_TOO_LARGE, "%s is too long", name);
    if (!cg_fd_read_full(fd, room, n, e))
        return cg_wrap(e, "read %s", name);
    cg_buf_grew(out, n);
    return true;
}

bool cg_seal_read(int dir_fd, const char *name, struct cg_seal *out, struct cg_digest *line,
                  struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, CG_SEAL_MAX);
    if (!cg_seal_slurp(dir_fd, name, CG_SEAL_MAX, &text, e))
        return false;
    if (text.n == 0 || text.p[text.n - 1] != '\n')
        return cg_fail(e, CG_INVALID, "%s is no seal of a record", name);
    struct cg_slice said = {text.p, text.n - 1};
    *line = cg_digest_of(said);
    return cg_seal_parse(said, out, e) || cg_wrap(e, "%s", name);
}
