#include "intercept/secrets.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"

struct cg_secrets {
    struct cg_secret all[CG_SECRETS];
    const char *names[CG_SECRETS];
    unsigned n;
    struct cg_match *placeholders;
    struct cg_match *values;
    bool loaded;
};

struct cg_secrets *cg_secrets_create(void)
{
    CG_ASSERT(sodium_init() >= 0); /* before its memory is used */
    struct cg_secrets *s = cg_alloc(sizeof *s);
    s->placeholders = cg_match_create();
    s->values = cg_match_create();
    return s;
}

static char *address_of(struct cg_slice v)
{
    char *p;
    _Static_assert(sizeof p == sizeof v.p, "a pointer is a pointer");
    memcpy(&p, &v.p, sizeof p); /* the table owns it: const is for its readers */
    return p;
}

void cg_secrets_destroy(struct cg_secrets *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->n; i++)
        sodium_free(address_of(s->all[i].value));
    cg_match_destroy(s->placeholders);
    cg_match_destroy(s->values);
    free(s);
}

/* --- checks --- */

bool cg_secret_name_valid(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    size_t n = name ? strlen(name) : 0;
    return n > 0 && n < CG_SECRET_NAME && strspn(name, letters) == n &&
           !(name[0] >= '0' && name[0] <= '9');
}

bool cg_secret_value_valid(struct cg_slice v)
{
    for (size_t i = 0; i < v.n; i++)
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
            return false;
    return v.n >= CG_SECRET_MIN && v.n <= CG_SECRET_MAX;
}

static bool port_valid(const char *p)
{
    size_t n = strspn(p, "0123456789");
    return n > 0 && n <= 5 && p[n] == '\0' && p[0] != '0' && strtol(p, NULL, 10) <= 65535;
}

bool cg_secret_host_valid(const char *pattern)
{
    size_t n = strlen(pattern);
    if (n == 0 || n >= CG_SECRET_HOST)
        return false;
    const char *p = cg_has_prefix(pattern, "*.") ? pattern + 2 : pattern;
    size_t label = 0;
    size_t labels = 1;
    for (; *p && *p != ':'; p++) {
        bool fine = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';
        if (*p == '.' ? label == 0 : !fine || label == 63)
            return false;
        labels += *p == '.';
        label = *p == '.' ? 0 : label + 1;
    }
    /* "*.com" would hand a secret to the world */
    return label > 0 && (pattern[0] != '*' || labels > 1) && (*p == '\0' || port_valid(p + 1));
}

bool cg_secret_host_matches(const char *pattern, const char *host, uint16_t port)
{
    const char *colon = strchr(pattern, ':');
    size_t n = colon ? (size_t)(colon - pattern) : strlen(pattern);
    size_t host_n = strlen(host);
    if (colon ? strtol(colon + 1, NULL, 10) != port : port != 443)
        return false;
    if (pattern[0] != '*')
        return host_n == n && memcmp(host, pattern, n) == 0;
    return host_n > n - 1 && memcmp(host + host_n - (n - 1), pattern + 1, n - 1) == 0;
}

bool cg_secret_bound_to(const struct cg_secret *s, const char *host, uint16_t port)
{
    for (unsigned i = 0; i < s->nhosts; i++)
        if (cg_secret_host_matches(s->hosts[i], host, port))
            return true;
    return false;
}

bool cg_secrets_want(const struct cg_secrets *s, const char *host, uint16_t port)
{
    for (unsigned i = 0; s && i < s->n; i++)
        if (s->all[i].placeholder[0] && cg_secret_bound_to(&s->all[i], host, port))
            return true;
    return false;
}

/* --- patterns --- */

/* The characters of a base64 text that depend on the value alone, when it stands `shift` bytes
 * behind the start of a group of three: those at both ends depend on their neighbours too. */
static bool add_base64(struct cg_match *m, struct cg_slice v, unsigned shift, int variant,
                       unsigned tag)
{
    size_t n = shift + v.n;
    size_t size = sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL);
    unsigned char *plain = cg_alloc(n);
    char *text = cg_alloc(size);
    memcpy(plain + shift, v.p, v.n);
    sodium_bin2base64(text, size, plain, n, variant);
    size_t from = shift == 0 ? 0 : shift + 1;
    size_t to = n * 8 / 6;
    bool fine = to <= from || cg_match_add(m, text + from, to - from, tag);
    sodium_memzero(plain, n);
    sodium_memzero(text, size);
    free(plain);
    free(text);
    return fine;
}

static bool add_percent(struct cg_match *m, struct cg_slice v, bool upper, unsigned tag)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    struct cg_buf b;
    cg_buf_init(&b, 3 * CG_SECRET_MAX);
    CG_ASSERT(cg_buf_room(&b, 3 * v.n)); /* so that it never moves */
    for (size_t i = 0; i < v.n; i++) {
        if (memchr(plain, v.p[i], sizeof plain - 1))
            cg_buf_addc(&b, v.p[i]);
        else
            cg_buf_addf(&b, upper ? "%%%02X" : "%%%02x", (unsigned)(unsigned char)v.p[i]);
    }
    bool fine = cg_match_add(m, b.p, b.n, tag);
    sodium_memzero(b.p, b.n);
    cg_buf_finish(&b);
    return fine;
}

static bool add_json(struct cg_match *m, struct cg_slice v, unsigned tag)
{
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 8 * CG_SECRET_MAX);
    CG_ASSERT(cg_buf_room(&b, 6 * v.n + 2));
    cg_jsonw_init(&w, &b);
    cg_jsonw_strn(&w, v.p, v.n);
    bool fine = cg_match_add(m, b.p + 1, b.n - 2, tag);
    sodium_memzero(b.p, b.n);
    cg_buf_finish(&b);
    return fine;
}

static bool add_patterns(struct cg_secrets *s, const struct cg_secret *x, unsigned tag)
{
    bool fine = cg_match_add(s->values, x->value.p, x->value.n, tag) &&
                cg_match_add(s->placeholders, x->placeholder, strlen(x->placeholder), tag) &&
                add_percent(s->values, x->value, true, tag) &&
                add_percent(s->values, x->value, false, tag) && add_json(s->values, x->value, tag);
    for (unsigned shift = 0; fine && shift < 3; shift++)
        fine = add_base64(s->values, x->value, shift, sodium_base64_VARIANT_ORIGINAL, tag) &&
               add_base64(s->values, x->value, shift, sodium_base64_VARIANT_URLSAFE, tag);
    return fine;
}

/* --- loading --- */

static bool take_hosts(struct cg_secret *x, const struct cg_json *list, struct cg_err *e)
{
    for (const struct cg_json *h = list ? list->child : NULL; h; h = h->next) {
        if (h->type != CG_JSON_STR || !cg_secret_host_valid(h->str.p))
            return cg_fail(e, CG_INVALID, "secret %s: a host is no name", x->name);
        if (x->nhosts == CG_SECRET_HOSTS)
            return cg_fail(e, CG_INVALID, "secret %s: more than %d hosts", x->name,
                           (int)CG_SECRET_HOSTS);
        (void)cg_strlcpy(x->hosts[x->nhosts++], CG_SECRET_HOST, h->str.p);
    }
    return true;
}

static bool take_one(struct cg_secrets *s, const struct cg_json *o, struct cg_err *e)
{
    const char *name = cg_json_str(o, "name");
    const char *placeholder = cg_json_str(o, "placeholder");
    const struct cg_json *value = cg_json_get(o, "value");
    if (s->n == CG_SECRETS)
        return cg_fail(e, CG_INVALID, "more than %d secrets", (int)CG_SECRETS);
    if (!cg_secret_name_valid(name))
        return cg_fail(e, CG_INVALID, "a secret has no usable name");
    if (cg_secrets_find(s, name))
        return cg_fail(e, CG_INVALID, "secret %s is there twice", name);
    if (!value || value->type != CG_JSON_STR || !cg_secret_value_valid(value->str))
        return cg_fail(e, CG_INVALID, "secret %s has no usable value", name);
    struct cg_secret *x = &s->all[s->n];
    *x = (struct cg_secret){.nhosts = 0};
    (void)cg_strlcpy(x->name, sizeof x->name, name);
    if (placeholder && (strlen(placeholder) < 16 || !cg_secret_name_valid(name) ||
                        !cg_strlcpy(x->placeholder, sizeof x->placeholder, placeholder)))
        return cg_fail(e, CG_INVALID, "secret %s has no usable placeholder", name);
    if (!take_hosts(x, cg_json_get(o, "hosts"), e))
        return false;
    char *copy = sodium_malloc(value->str.n);
    if (!copy)
        return cg_fail(e, CG_LIMIT, "secret %s: no memory", name);
    memcpy(copy, value->str.p, value->str.n);
    x->value = (struct cg_slice){copy, value->str.n};
    s->names[s->n] = x->name;
    s->n++;
    return add_patterns(s, x, s->n - 1) ||
           cg_fail(e, CG_TOO_LARGE, "the secrets of one sandbox are too long together");
}

bool cg_secrets_load(struct cg_secrets *s, const struct cg_json *list, struct cg_err *e)
{
    CG_ASSERT(!s->loaded);
    bool fine =
        !list || list->type == CG_JSON_ARR || cg_fail(e, CG_INVALID, "secrets must be a list");
    for (const struct cg_json *o = fine && list ? list->child : NULL; o && fine; o = o->next)
        fine = take_one(s, o, e);
    cg_match_ready(s->placeholders);
    cg_match_ready(s->values);
    s->loaded = true;
    return fine;
}

unsigned cg_secrets_count(const struct cg_secrets *s)
{
    return s ? s->n : 0;
}

struct cg_secret *cg_secrets_at(struct cg_secrets *s, unsigned i)
{
    CG_ASSERT(i < s->n);
    return &s->all[i];
}

const struct cg_secret *cg_secrets_find(const struct cg_secrets *s, const char *name)
{
    for (unsigned i = 0; s && i < s->n; i++)
        if (cg_streq(s->all[i].name, name))
            return &s->all[i];
    return NULL;
}

const struct cg_match *cg_secrets_placeholders(const struct cg_secrets *s)
{
    return s && s->loaded ? s->placeholders : NULL;
}

const struct cg_match *cg_secrets_values(const struct cg_secrets *s)
{
    return s && s->loaded ? s->values : NULL;
}

const char *const *cg_secrets_names(const struct cg_secrets *s)
{
    return s->names;
}
