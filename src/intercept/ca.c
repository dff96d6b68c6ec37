#include "intercept/ca.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { LEAVES = 32, CA_DAYS = 365, LEAF_DAYS = 90, DAY_S = 86400 };

struct leaf {
    char name[256];
    SSL_CTX *context;
};

struct cg_ca {
    EVP_PKEY *key;
    X509 *cert;
    char *pem;
    EVP_PKEY *leaf_key;
    struct leaf leaves[LEAVES];
    unsigned next;
};

const char *cg_ca_why(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return text ? text : "no reason is known";
}

static bool failed(struct cg_err *e, const char *what)
{
    return cg_fail(e, CG_INTERNAL, "%s: %s", what, cg_ca_why());
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool fine = x && X509_add_ext(cert, x, -1) == 1;
    X509_EXTENSION_free(x);
    return fine;
}

/* Names, times and a random number; unsigned. */
static X509 *new_cert(const char *name, EVP_PKEY *key, long days)
{
    X509 *cert = X509_new();
    unsigned char serial[16];
    cg_rand_bytes(serial, sizeof serial);
    serial[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    char common[64];
    (void)cg_strlcpy(common, sizeof common, name);
    bool fine = cert && number && X509_set_version(cert, X509_VERSION_3) &&
                BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) &&
                X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_S) &&
                X509_gmtime_adj(X509_getm_notAfter(cert), days * DAY_S) &&
                X509_set_pubkey(cert, key) &&
                X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "O", MBSTRING_ASC,
                                           (const unsigned char *)"Caged", -1, -1, 0) &&
                X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                                           (const unsigned char *)common, -1, -1, 0);
    BN_free(number);
    if (fine)
        return cert;
    X509_free(cert);
    return NULL;
}

static char *to_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    char *out = NULL;
    if (bio && PEM_write_bio_X509(bio, cert)) {
        long n = BIO_get_mem_data(bio, &text);
        out = cg_strndup(text, (size_t)n);
    }
    BIO_free(bio);
    return out;
}

struct cg_ca *cg_ca_create(const char *sandbox, struct cg_err *e)
{
    struct cg_ca *ca = cg_alloc(sizeof *ca);
    CG_OWN(cg_drop_free) char *name = cg_format("Caged CA of %s", sandbox);
    ca->key = EVP_EC_gen("P-256");
    ca->leaf_key = EVP_EC_gen("P-256");
    ca->cert = ca->key && ca->leaf_key ? new_cert(name, ca->key, CA_DAYS) : NULL;
    if (ca->cert && X509_set_issuer_name(ca->cert, X509_get_subject_name(ca->cert)) &&
        add_extension(ca->cert, ca->cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(ca->cert, ca->cert, NID_key_usage, "critical,keyCertSign") &&
        add_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash") &&
        X509_sign(ca->cert, ca->key, EVP_sha256()) && (ca->pem = to_pem(ca->cert)) != NULL)
        return ca;
    failed(e, "make the sandbox's CA");
    cg_ca_destroy(ca);
    return NULL;
}

bool cg_ca_keep(const struct cg_ca *ca, char *out, size_t *n, struct cg_err *e)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL;
    bool ok = bio && PEM_write_bio_PrivateKey(bio, ca->key, NULL, NULL, 0, NULL, NULL) &&
              PEM_write_bio_X509(bio, ca->cert);
    long size = ok ? BIO_get_mem_data(bio, &text) : 0;
    ok = ok && size > 0 && size <= CG_CA_KEPT;
    if (ok) {
        memcpy(out, text, (size_t)size);
        *n = (size_t)size;
    }
    BIO_free(bio);
    return ok || failed(e, "keep the sandbox's CA");
}

struct cg_ca *cg_ca_restore(struct cg_slice kept, struct cg_err *e)
{
    struct cg_ca *ca = cg_alloc(sizeof *ca);
    BIO *bio = BIO_new_mem_buf(kept.p, (int)kept.n);
    ca->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    ca->cert = ca->key ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    ca->leaf_key = ca->cert ? EVP_EC_gen("P-256") : NULL;
    ca->pem = ca->leaf_key ? to_pem(ca->cert) : NULL;
    BIO_free(bio);
    if (ca->pem && X509_check_private_key(ca->cert, ca->key) == 1)
        return ca;
    failed(e, "restore the sandbox's CA");
    cg_ca_destroy(ca);
    return NULL;
}

void cg_ca_destroy(struct cg_ca *ca)
{
    if (!ca)
        return;
    for (unsigned i = 0; i < LEAVES; i++)
        SSL_CTX_free(ca->leaves[i].context);
    EVP_PKEY_free(ca->key); /* wiped by OpenSSL */
    EVP_PKEY_free(ca->leaf_key);
    X509_free(ca->cert);
    free(ca->pem);
    free(ca);
}

const char *cg_ca_pem(const struct cg_ca *ca)
{
    return ca->pem;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *in, unsigned in_n, void *arg)
{
    static const char http[] = "http/1.1";
    (void)ssl;
    (void)arg;
    for (unsigned at = 0; at < in_n; at += in[at] + 1u) {
        if (in[at] == sizeof http - 1 && in_n - at > in[at] &&
            memcmp(in + at + 1, http, sizeof http - 1) == 0) {
            *out = in + at + 1;
            *out_n = sizeof http - 1;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static X509 *new_leaf(struct cg_ca *ca, const char *name)
{
    struct in_addr address;
    bool number = inet_pton(AF_INET, name, &address) == 1;
    CG_OWN(cg_drop_free) char *alt = cg_format("%s:%s", number ? "IP" : "DNS", name);
    X509 *cert = new_cert(name, ca->leaf_key, LEAF_DAYS);
    if (cert && X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) &&
        add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, ca->cert, NID_ext_key_usage, "serverAuth") &&
        add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid") &&
        add_extension(cert, ca->cert, NID_subject_alt_name, alt) &&
        X509_sign(cert, ca->key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

SSL_CTX *cg_ca_server(struct cg_ca *ca, const char *name, struct cg_err *e)
{
    for (unsigned i = 0; i < LEAVES; i++)
        if (ca->leaves[i].context && strcmp(ca->leaves[i].name, name) == 0)
            return ca->leaves[i].context;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    X509 *cert = new_leaf(ca, name);
    bool fine = context && cert && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) &&
                SSL_CTX_use_certificate(context, cert) == 1 &&
                SSL_CTX_use_PrivateKey(context, ca->leaf_key) == 1;
    X509_free(cert);
    if (!fine) {
        SSL_CTX_free(context);
        failed(e, "make a certificate");
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    struct leaf *leaf = &ca->leaves[ca->next++ % LEAVES];
    SSL_CTX_free(leaf->context); /* connections that use it hold a reference */
    (void)cg_strlcpy(leaf->name, sizeof leaf->name, name);
    leaf->context = context;
    return context;
}

static bool add_certs(SSL_CTX *context, const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    unsigned n = 0;
    bool fine = bio != NULL;
    for (X509 *cert; fine && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL; n++) {
        fine = X509_STORE_add_cert(store, cert) == 1;
        X509_free(cert);
    }
    BIO_free(bio);
    ERR_clear_error(); /* the end of the file is told as one */
    return fine && n > 0;
}

SSL_CTX *cg_ca_client(const char *more_pem, struct cg_err *e)
{
    static const unsigned char http[] = "\x08http/1.1";
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) ||
        SSL_CTX_set_alpn_protos(context, http, sizeof http - 1) != 0 ||
        !SSL_CTX_set_default_verify_paths(context)) {
        SSL_CTX_free(context);
        failed(e, "prepare TLS");
        return NULL;
    }
    if (more_pem && !add_certs(context, more_pem)) {
        SSL_CTX_free(context);
        cg_fail(e, CG_INVALID, "network.ca_file holds no certificate in PEM");
        return NULL;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}
