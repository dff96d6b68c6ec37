/* Accounts, API keys, WebSocket tickets. A key's text has 160 random bits, so that a plain keyless
 * BLAKE2b of it is enough to keep; it is shown once and never stored. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

enum { KEY_CHARS = 32, TICKET_LIFE_S = 60, TICKETS_MAX = 4096, USED_EVERY_S = 600 };

struct ticket {
    struct cg_store_key key; /* as its holder acted: an account of a team, a lower scope */
    char hash[2 * CG_STORE_HASH + 1];
    int64_t until_ns;
};

static struct cg_map tickets;

static void random_text(char *out, size_t n)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz234567";
    for (size_t i = 0; i < n; i++)
        out[i] = chars[randombytes_uniform(32)];
    out[n] = '\0';
}

static void hash_text(const char *text, unsigned char out[CG_STORE_HASH])
{
    crypto_generichash(out, CG_STORE_HASH, (const unsigned char *)text, strlen(text), NULL, 0);
}

static void hex_of(const unsigned char hash[CG_STORE_HASH], char out[2 * CG_STORE_HASH + 1])
{
    sodium_bin2hex(out, 2 * CG_STORE_HASH + 1, hash, CG_STORE_HASH);
}

struct cg_store_key *cg_core_remember_key(struct cg_core *c, const struct cg_store_key *k)
{
    char hex[2 * CG_STORE_HASH + 1];
    hex_of(k->hash, hex);
    struct cg_store_key *copy = cg_alloc(sizeof *copy);
    *copy = *k;
    free(cg_map_put(&c->keys, hex, copy));
    return copy;
}

static void load_key(void *ctx, const struct cg_store_key *k)
{
    cg_core_remember_key(ctx, k);
}

static void load_account(void *ctx, const struct cg_store_account *a)
{
    struct cg_core *c = ctx;
    struct cg_store_account *copy = cg_alloc(sizeof *copy);
    *copy = *a;
    free(cg_map_put(&c->accounts, a->id, copy));
}

void cg_core_new_key(struct cg_core *c, const char *account, const char *name, const char *scope,
                     int64_t expires_wall_ns, char text[CG_KEY_TEXT], struct cg_store_key *out)
{
    char random[KEY_CHARS + 1];
    random_text(random, KEY_CHARS);
    cg_snprintf(text, CG_KEY_TEXT, "caged_sk_%s", random);
    *out =
        (struct cg_store_key){.created_wall_ns = cg_wall_ns(), .expires_wall_ns = expires_wall_ns};
    cg_id_make("key", out->id);
    cg_strlcpy(out->account, sizeof out->account, account);
    cg_strlcpy(out->name, sizeof out->name, name);
    cg_strlcpy(out->scope, sizeof out->scope, scope);
    memcpy(out->prefix, text, 11);
    hash_text(text, out->hash);
    cg_core_remember_key(c, out);
}

struct cg_store_key *cg_core_new_secret(struct cg_core *c, const char *prefix,
                                        const char *id_prefix, const char *account,
                                        char hash[2 * CG_STORE_HASH + 1], char text[CG_KEY_TEXT])
{
    char random[KEY_CHARS + 1];
    random_text(random, KEY_CHARS);
    cg_snprintf(text, CG_KEY_TEXT, "%s%s", prefix, random);
    struct cg_store_key k = {.created_wall_ns = cg_wall_ns()};
    cg_id_make(id_prefix, k.id);
    cg_strlcpy(k.account, sizeof k.account, account);
    cg_strlcpy(k.name, sizeof k.name, "session");
    cg_strlcpy(k.scope, sizeof k.scope, "full");
    hash_text(text, k.hash);
    hex_of(k.hash, hash);
    return cg_core_remember_key(c, &k);
}

struct cg_store_key *cg_core_find_key(struct cg_core *c, const char *text)
{
    if (!text || !cg_has_prefix(text, "caged_") || strlen(text) >= CG_KEY_TEXT)
        return NULL;
    unsigned char hash[CG_STORE_HASH];
    char hex[2 * CG_STORE_HASH + 1];
    hash_text(text, hash);
    hex_of(hash, hex);
    struct cg_store_key *k = cg_map_get(&c->keys, hex);
    int64_t now = cg_wall_ns();
    if (!k || (k->expires_wall_ns && now > k->expires_wall_ns))
        return NULL;
    bool stale = now - k->used_wall_ns > (int64_t)USED_EVERY_S * 1000000000;
    k->used_wall_ns = now;
    if (stale && cg_has_prefix(k->id, "key-"))
        cg_store_put_key(c->store, k, NULL, NULL);
    return k;
}

static void make_owner(struct cg_core *c)
{
    struct cg_store_account a = {.tier = "owner", .created_wall_ns = cg_wall_ns()};
    cg_id_make("acc", a.id);
    cg_strlcpy(a.email, sizeof a.email, "owner@localhost");
    cg_strlcpy(a.name, sizeof a.name, "owner");
    load_account(c, &a);
    cg_store_put_account(c->store, &a, NULL, NULL);
}

static const char *owner_of(const struct cg_core *c)
{
    size_t at = 0;
    const char *id = NULL;
    void *value;
    while (cg_map_next(&c->accounts, &at, &id, &value)) {
        if (cg_streq(((struct cg_store_account *)value)->tier, "owner"))
            break;
    }
    return id;
}

bool cg_core_bootstrap(struct cg_core *c, char text[CG_KEY_TEXT], struct cg_err *e)
{
    if (sodium_init() < 0)
        return cg_fail(e, CG_INTERNAL, "libsodium does not start");
    if (!cg_store_each_account(c->store, load_account, c, e) ||
        !cg_store_each_key(c->store, load_key, c, e))
        return false;
    if (c->accounts.count == 0)
        make_owner(c);
    if (cg_core_find_key(c, text)) {
        text[0] = '\0';
        return true;
    }
    /* the first start, or the file and the database do not belong together any more */
    struct cg_store_key k;
    cg_core_new_key(c, owner_of(c), "owner", "full", 0, text, &k);
    cg_store_put_key(c->store, &k, NULL, NULL);
    return true;
}

static void drop_old_tickets(void)
{
    const char *stale[64];
    unsigned n = 0;
    size_t at = 0;
    const char *text;
    void *value;
    int64_t now = cg_mono_ns();
    while (n < CG_COUNT(stale) && cg_map_next(&tickets, &at, &text, &value)) {
        if (((struct ticket *)value)->until_ns < now)
            stale[n++] = text;
    }
    for (unsigned i = 0; i < n; i++) {
        CG_OWN(cg_drop_free) char *key = cg_strdup(stale[i]);
        free(cg_map_remove(&tickets, key));
        break; /* removing moves the others: the rest goes at the next calls */
    }
}

void cg_core_ticket_make(struct cg_core *c, const struct cg_store_key *k, char *out, size_t size)
{
    char a[17];
    char b[33];
    (void)c;
    drop_old_tickets();
    drop_old_tickets();
    random_text(a, 16);
    random_text(b, 32);
    cg_snprintf(out, size, "caged_wst_%s.%s", a, b);
    struct ticket *t = cg_alloc(sizeof *t);
    t->key = *k;
    hex_of(k->hash, t->hash);
    t->until_ns = cg_mono_ns() + (int64_t)TICKET_LIFE_S * 1000000000;
    if (tickets.count < TICKETS_MAX)
        free(cg_map_put(&tickets, out, t));
    else
        free(t);
}

bool cg_core_ticket_take(struct cg_core *c, const char *text, struct cg_store_key *out)
{
    CG_OWN(cg_drop_free) struct ticket *t = cg_map_remove(&tickets, text);
    const struct cg_store_key *k = t ? cg_map_get(&c->keys, t->hash) : NULL;
    if (!k || t->until_ns <= cg_mono_ns() ||
        (k->expires_wall_ns && cg_wall_ns() > k->expires_wall_ns))
        return false; /* its key may have been deleted meanwhile */
    *out = t->key;
    return true;
}
