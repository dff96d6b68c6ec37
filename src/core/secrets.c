#include "core/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/providers.h"
#include "intercept/secrets.h"

enum {
    KEY = crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
    SEALED_TEXT = 2 * (NONCE + CG_SECRET_MAX + TAG) + 1,
    AD = CG_ID_TEXT + 1 + CG_SECRET_NAME,
};

static const char kind_secret[] = "secret";

struct secret {
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char name[CG_SECRET_NAME];
    char *hosts;  /* JSON array */
    char *sealed; /* hex of nonce and box */
    int64_t created_wall, updated_wall, used_wall;
};

static struct cg_map table;      /* "<account>/<name>": struct secret */
static unsigned char *key_bytes; /* locked */

/* Hosts that a secret of this name goes to when nobody says otherwise. */
static const struct well_known {
    const char *name;
    const char *hosts; /* JSON */
    bool provider;     /* the LLM gateway uses it */
} well_known[] = {
    {"GITHUB_TOKEN",
     "[\"github.com\",\"api.github.com\",\"uploads.github.com\",\"raw.githubusercontent.com\","
     "\"codeload.github.com\"]",
     false},
    {"GH_TOKEN",
     "[\"github.com\",\"api.github.com\",\"uploads.github.com\",\"raw.githubusercontent.com\","
     "\"codeload.github.com\"]",
     false},
    {"GITLAB_TOKEN", "[\"gitlab.com\"]", false},
    {"BITBUCKET_TOKEN", "[\"bitbucket.org\",\"api.bitbucket.org\"]", false},
    {"ANTHROPIC_API_KEY", "[\"api.anthropic.com\"]", true},
    {"OPENAI_API_KEY", "[\"api.openai.com\"]", true},
    {"GEMINI_API_KEY", "[\"generativelanguage.googleapis.com\"]", true},
    {"GOOGLE_API_KEY", "[\"generativelanguage.googleapis.com\"]", true},
    {"XAI_API_KEY", "[\"api.x.ai\"]", true},
    {"OPENROUTER_API_KEY", "[\"openrouter.ai\"]", true},
    {"MISTRAL_API_KEY", "[\"api.mistral.ai\"]", false},
    {"HF_TOKEN", "[\"huggingface.co\"]", false},
    {"SLACK_BOT_TOKEN", "[\"slack.com\"]", false},
    {"STRIPE_API_KEY", "[\"api.stripe.com\"]", false},
};

static const struct well_known *find_known(const char *name)
{
    for (size_t i = 0; i < CG_COUNT(well_known); i++)
        if (strcmp(well_known[i].name, name) == 0)
            return &well_known[i];
    return NULL;
}

static struct secret *find(const char *account, const char *name)
{
    CG_OWN(cg_drop_free) char *at = cg_format("%s/%s", account, name);
    return cg_map_get(&table, at);
}

static void put(struct secret *s)
{
    CG_OWN(cg_drop_free) char *at = cg_format("%s/%s", s->account, s->name);
    CG_ASSERT(cg_map_put(&table, at, s) == NULL);
}

static void free_secret(struct secret *s)
{
    if (!s)
        return;
    free(s->hosts);
    free(s->sealed);
    free(s);
}

/* --- the seal --- */

static bool read_key(const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s", path);
    if ((st.st_mode & 077) != 0 || st.st_uid != geteuid() || st.st_size != KEY)
        return cg_fail(e, CG_FORBIDDEN,
                       "%s must be %d bytes, mode 0600 and of the server's own uid", path,
                       (int)KEY);
    return cg_fd_read_full(fd, key_bytes, KEY, e);
}

static bool open_key(struct cg_core *c, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/secrets.key", c->options.state_dir);
    if (!key_bytes)
        key_bytes = sodium_malloc(KEY);
    if (!key_bytes)
        return cg_fail(e, CG_LIMIT, "no memory for the key of secrets");
    if (read_key(path, e))
        return true;
    if (e->code != CG_NOT_FOUND)
        return false;
    *e = (struct cg_err)CG_ERR_INIT;
    crypto_aead_xchacha20poly1305_ietf_keygen(key_bytes);
    return cg_fs_replace(path, key_bytes, KEY, 0600, e);
}

/* A box can only be opened as what it was sealed as. */
static size_t associated(const struct secret *s, unsigned char out[AD])
{
    size_t a = strlen(s->account);
    size_t n = strlen(s->name);
    memcpy(out, s->account, a);
    out[a] = '/';
    memcpy(out + a + 1, s->name, n);
    return a + 1 + n;
}

static void seal(struct secret *s, struct cg_slice value)
{
    unsigned char box[NONCE + CG_SECRET_MAX + TAG];
    unsigned char ad[AD];
    unsigned long long n = 0;
    size_t ad_n = associated(s, ad);
    randombytes_buf(box, NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(box + NONCE, &n, (const unsigned char *)value.p,
                                               value.n, ad, ad_n, NULL, box, key_bytes);
    size_t all = NONCE + (size_t)n;
    free(s->sealed);
    s->sealed = cg_alloc(2 * all + 1);
    sodium_bin2hex(s->sealed, 2 * all + 1, box, all);
}

/* The value's length; 0: it does not open. */
static size_t unseal(const struct secret *s, char out[CG_SECRET_MAX])
{
    unsigned char box[NONCE + CG_SECRET_MAX + TAG];
    unsigned char ad[AD];
    unsigned long long n = 0;
    size_t all = 0;
    size_t ad_n = associated(s, ad);
    if (sodium_hex2bin(box, sizeof box, s->sealed, strlen(s->sealed), NULL, &all, NULL) != 0 ||
        all < NONCE + TAG ||
        crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *)out, &n, NULL, box + NONCE,
                                                   all - NONCE, ad, ad_n, box, key_bytes) != 0)
        return 0;
    return (size_t)n;
}

char *cg_core_seal(const char *account, const char *name, struct cg_slice value)
{
    struct secret s = {.sealed = NULL};
    CG_ASSERT(value.n < CG_SECRET_MAX);
    (void)cg_strlcpy(s.account, sizeof s.account, account);
    (void)cg_strlcpy(s.name, sizeof s.name, name);
    seal(&s, value);
    return s.sealed;
}

bool cg_core_unseal(const char *account, const char *name, const char *sealed, char *out,
                    size_t size)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(sealed);
    char value[CG_SECRET_MAX];
    struct secret s = {.sealed = copy};
    (void)cg_strlcpy(s.account, sizeof s.account, account);
    (void)cg_strlcpy(s.name, sizeof s.name, name);
    size_t n = unseal(&s, value);
    bool fits = n > 0 && n < size;
    if (fits) {
        memcpy(out, value, n);
        out[n] = '\0';
    }
    explicit_bzero(value, sizeof value);
    return fits;
}

/* --- the store --- */

static void save(struct cg_core *c, const struct secret *s, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 64 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "name", s->name);
    cg_jsonw_key(&w, "hosts");
    cg_jsonw_raw(&w, s->hosts, strlen(s->hosts));
    cg_jsonw_kstr(&w, "sealed", s->sealed);
    cg_jsonw_kint(&w, "created", s->created_wall);
    cg_jsonw_kint(&w, "updated", s->updated_wall);
    cg_jsonw_kint(&w, "used", s->used_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_secret, s->id, s->account, cg_buf_cstr(&b)};
    cg_store_put_item(c->store, &item, done, ctx);
}

static char *hosts_text(const struct cg_json *list)
{
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&w, &b);
    cg_jsonw_arr(&w);
    for (const struct cg_json *h = list ? list->child : NULL; h; h = h->next)
        cg_jsonw_strn(&w, h->str.p, h->str.n);
    cg_jsonw_arr_end(&w);
    return cg_buf_take(&b);
}

static void load(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *name = cg_json_str(j, "name");
    const char *sealed = cg_json_str(j, "sealed");
    (void)ctx;
    if (!cg_secret_name_valid(name) || !sealed || strlen(sealed) >= SEALED_TEXT ||
        find(i->account, name)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_secret"), CG_S("id", i->id));
        return;
    }
    struct secret *s = cg_alloc(sizeof *s);
    cg_strlcpy(s->id, sizeof s->id, i->id);
    cg_strlcpy(s->account, sizeof s->account, i->account);
    cg_strlcpy(s->name, sizeof s->name, name);
    s->sealed = cg_strdup(sealed);
    s->hosts = hosts_text(cg_json_get(j, "hosts"));
    s->created_wall = cg_json_int(j, "created", 0);
    s->updated_wall = cg_json_int(j, "updated", 0);
    s->used_wall = cg_json_int(j, "used", 0);
    put(s);
}

bool cg_core_secrets_start(struct cg_core *c, struct cg_err *e)
{
    return open_key(c, e) && cg_store_each_item(c->store, kind_secret, load, c, e);
}

/* --- set, delete, list --- */

static unsigned count_of(const char *account)
{
    size_t at = 0;
    const char *key;
    void *value;
    unsigned n = 0;
    while (cg_map_next(&table, &at, &key, &value))
        n += cg_streq(((const struct secret *)value)->account, account);
    return n;
}

static bool check_hosts(const char *name, const struct cg_json *hosts, struct cg_err *e)
{
    if (!hosts)
        return true;
    if (hosts->type != CG_JSON_ARR || hosts->count > CG_SECRET_HOSTS)
        return cg_fail(e, CG_INVALID, "hosts of %s must be a list of at most %d names", name,
                       (int)CG_SECRET_HOSTS);
    for (const struct cg_json *h = hosts->child; h; h = h->next) {
        if (h->type != CG_JSON_STR || memchr(h->str.p, 0, h->str.n) ||
            !cg_secret_host_valid(h->str.p))
            return cg_fail(e, CG_INVALID,
                           "hosts of %s: \"%.64s\" is not a host name as in api.example.com, "
                           "*.example.com or git.example.com:8443 (lower case)",
                           name, h->type == CG_JSON_STR ? h->str.p : "?");
    }
    return true;
}

bool cg_core_secret_set(struct cg_core *c, const char *account, const char *name,
                        struct cg_slice value, const struct cg_json *hosts, cg_store_done *done,
                        void *ctx, struct cg_err *e)
{
    if (!cg_secret_name_valid(name))
        return cg_fail(e, CG_INVALID,
                       "a secret's name has 1 to %d of A-Z a-z 0-9 _, and no digit first",
                       (int)CG_SECRET_NAME - 1);
    if (!cg_secret_value_valid(value))
        return cg_fail(e, CG_INVALID,
                       "the value of %s must have %d to %d bytes and no control characters: it "
                       "has to fit into a header and be told apart in a record",
                       name, (int)CG_SECRET_MIN, (int)CG_SECRET_MAX);
    if (!check_hosts(name, hosts, e))
        return false;
    struct secret *s = find(account, name);
    if (!s && count_of(account) >= CG_ACCOUNT_SECRETS)
        return cg_fail(e, CG_LIMIT, "an account has at most %d secrets", (int)CG_ACCOUNT_SECRETS);
    const struct well_known *known = find_known(name);
    if (!s) {
        s = cg_alloc(sizeof *s);
        cg_id_make("sec", s->id);
        cg_strlcpy(s->account, sizeof s->account, account);
        cg_strlcpy(s->name, sizeof s->name, name);
        s->created_wall = cg_wall_ns();
        put(s);
    }
    s->updated_wall = cg_wall_ns();
    seal(s, value);
    if (hosts || !s->hosts) {
        free(s->hosts);
        s->hosts = hosts ? hosts_text(hosts) : cg_strdup(known ? known->hosts : "[]");
    }
    cg_log(CG_LOG_INFO, CG_EVENT("secret.set"), CG_S("account", account), CG_S("name", name));
    save(c, s, done, ctx);
    return true;
}

bool cg_core_secret_delete(struct cg_core *c, const char *account, const char *name,
                           cg_store_done *done, void *ctx, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *at = cg_format("%s/%s", account, name);
    struct secret *s = cg_map_remove(&table, at);
    if (!s)
        return cg_fail(e, CG_NOT_FOUND, "there is no secret %.64s", name);
    cg_log(CG_LOG_INFO, CG_EVENT("secret.deleted"), CG_S("account", account), CG_S("name", name));
    cg_store_delete_item(c->store, kind_secret, s->id, done, ctx);
    free_secret(s);
    return true;
}

void cg_core_secrets_forget(struct cg_core *c, const char *account)
{
    for (;;) { /* the map may not be walked while it changes */
        const struct secret *s = NULL;
        size_t at = 0;
        const char *key;
        void *value;
        while (!s && cg_map_next(&table, &at, &key, &value))
            s = cg_streq(((const struct secret *)value)->account, account) ? value : NULL;
        if (!s)
            return;
        CG_OWN(cg_drop_free) char *name = cg_strdup(s->name);
        (void)!cg_core_secret_delete(c, account, name, NULL, NULL, NULL);
    }
}

static void write_time(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    if (wall)
        cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall ? text : NULL);
}

static void write_one(const struct secret *s, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", s->name);
    cg_jsonw_key(w, "hosts");
    cg_jsonw_raw(w, s->hosts, strlen(s->hosts));
    write_time(w, "created_at", s->created_wall);
    write_time(w, "updated_at", s->updated_wall);
    write_time(w, "last_used", s->used_wall);
    cg_jsonw_obj_end(w);
}

void cg_core_secrets_write(struct cg_core *c, const char *account, struct cg_jsonw *w)
{
    const struct secret *mine[CG_ACCOUNT_SECRETS] = {NULL}; /* by name */
    size_t n = 0;
    size_t at = 0;
    const char *key;
    void *value;
    (void)c;
    while (n < CG_COUNT(mine) && cg_map_next(&table, &at, &key, &value)) {
        const struct secret *s = value;
        if (!cg_streq(s->account, account))
            continue;
        size_t place = n++;
        for (; place > 0 && strcmp(mine[place - 1]->name, s->name) > 0; place--)
            mine[place] = mine[place - 1];
        mine[place] = s;
    }
    cg_jsonw_arr(w);
    for (size_t i = 0; i < n; i++)
        write_one(mine[i], w);
    cg_jsonw_arr_end(w);
}

void cg_core_secret_write(struct cg_core *c, const char *account, const char *name,
                          struct cg_jsonw *w)
{
    const struct secret *s = find(account, name);
    (void)c;
    if (s)
        write_one(s, w);
    else
        cg_jsonw_null(w);
}

/* --- handing over --- */

bool cg_core_secrets_check(struct cg_core *c, const char *account, const struct cg_json *names,
                           struct cg_err *e)
{
    (void)c;
    if (names->type != CG_JSON_ARR || names->count > CG_SECRETS / 2)
        return cg_fail(e, CG_INVALID, "secrets must be a list of at most %d names",
                       (int)CG_SECRETS / 2);
    for (const struct cg_json *n = names->child; n; n = n->next) {
        const char *name = n->type == CG_JSON_STR ? n->str.p : "";
        const struct secret *s = find(account, name);
        if (!cg_secret_name_valid(name) || !s)
            return cg_fail(e, CG_INVALID, "there is no secret \"%.64s\": caged secrets set %.64s",
                           name, name);
        if (strcmp(s->hosts, "[]") == 0)
            return cg_fail(e, CG_INVALID,
                           "secret %s is bound to no host: caged secrets set %s --host NAME", name,
                           name);
        for (const struct cg_json *m = names->child; m != n; m = m->next)
            if (cg_streq(m->str.p, name))
                return cg_fail(e, CG_INVALID, "secret %s is named twice", name);
    }
    return true;
}

/* The same for a sandbox's whole life, whoever asks and after any restart, and not to be guessed:
 * a keyed hash of both ids. */
static void placeholder_of(const struct cg_sandbox *sb, const struct secret *s,
                           char out[CG_PLACEHOLDER])
{
    unsigned char hash[16];
    char hex[33];
    unsigned char text[2 * CG_ID_TEXT + CG_SECRET_NAME + 4];
    int n = snprintf((char *)text, sizeof text, "%s/%s/%s", sb->id, s->id, s->name);
    crypto_generichash(hash, sizeof hash, text, (unsigned)n, key_bytes, KEY);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    hex[31] = '\0'; /* room for the NUL in the sum of CG_PLACEHOLDER */
    cg_snprintf(out, CG_PLACEHOLDER, "caged_ph_%s_%s", s->name, hex);
}

static bool write_secret(struct cg_sandbox *sb, struct secret *s, bool asked, struct cg_jsonw *w,
                         struct cg_err *e)
{
    char value[CG_SECRET_MAX];
    size_t n = unseal(s, value);
    if (n == 0)
        return cg_fail(e, CG_INTERNAL,
                       "secret %s does not open with secrets.key of this server: set it again",
                       s->name);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", s->name);
    cg_jsonw_kstrn(w, "value", value, n);
    sodium_memzero(value, sizeof value);
    cg_jsonw_key(w, "hosts");
    cg_jsonw_raw(w, s->hosts, strlen(s->hosts));
    if (asked) {
        char placeholder[CG_PLACEHOLDER];
        placeholder_of(sb, s, placeholder);
        cg_jsonw_kstr(w, "placeholder", placeholder);
        s->used_wall = cg_wall_ns();
        save(sb->core, s, NULL, NULL);
    }
    cg_jsonw_obj_end(w);
    return true;
}

static bool is_asked(const struct cg_json *names, const char *name)
{
    for (const struct cg_json *n = names ? names->child : NULL; n; n = n->next)
        if (cg_slice_eq(n->str, name))
            return true;
    return false;
}

static bool write_all(struct cg_sandbox *sb, struct cg_jsonw *w, struct cg_err *e)
{
    CG_OWN(cg_drop_json)
    struct cg_json *names = sb->spec.secrets_json
                                ? cg_json_parse(cg_slice_of(sb->spec.secrets_json), NULL, NULL)
                                : NULL;
    for (const struct cg_json *n = names ? names->child : NULL; n; n = n->next) {
        struct secret *s = find(sb->account, n->str.p);
        if (!s)
            return cg_fail(e, CG_NOT_FOUND, "secret %.64s was deleted", n->str.p);
        if (!write_secret(sb, s, true, w, e))
            return false;
    }
    for (size_t i = 0; i < CG_COUNT(well_known); i++) {
        struct secret *s = well_known[i].provider ? find(sb->account, well_known[i].name) : NULL;
        if (s && !is_asked(names, s->name) && !write_secret(sb, s, false, w, e))
            return false;
    }
    return true;
}

bool cg_core_secrets_request(struct cg_sandbox *sb, struct cg_buf *out, struct cg_err *e)
{
    struct cg_jsonw w;
    const struct cg_options *o = &sb->core->options;
    cg_buf_init(out, CG_LINK_MAX_PAYLOAD);
    CG_ASSERT(cg_buf_room(out, CG_LINK_MAX_PAYLOAD - 1)); /* so that no copy stays behind */
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "start");
    cg_providers_write_keys(sb, &w);
    cg_jsonw_key(&w, "secrets");
    cg_jsonw_arr(&w);
    if (!write_all(sb, &w, e))
        return false;
    cg_jsonw_arr_end(&w);
    if (o->ca_pem)
        cg_jsonw_kstr(&w, "ca_pem", o->ca_pem);
    if (o->guest_ca_pem)
        cg_jsonw_kstr(&w, "guest_ca_pem", o->guest_ca_pem);
    cg_jsonw_obj_end(&w);
    return !out->full || cg_fail(e, CG_TOO_LARGE,
                                 "the secrets of this sandbox are too long "
                                 "together: at most about 150 KiB");
}

void cg_core_wipe(struct cg_buf *b)
{
    if (b->p)
        sodium_memzero(b->p, b->cap);
    cg_buf_finish(b);
}
