/* A session's token is hashed like a key's; the row holds the hash and what its owner wants to see
 * of it: where it was begun, by which program, when. */
#include "core/sessions.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { SESSION_LIFE_S = 30 * 86400, AGENT_TEXT = 128, ADDRESS_TEXT = 64 };

static const char kind_session[] = "session";

struct detail {
    char hash[2 * CG_STORE_HASH + 1];
    char user_agent[AGENT_TEXT];
    char address[ADDRESS_TEXT];
};

static struct cg_map details; /* session id: struct detail */

bool cg_key_is_session(const struct cg_store_key *k)
{
    return cg_has_prefix(k->id, "ses-");
}

static void save(struct cg_core *c, const struct cg_store_key *k, const struct detail *d,
                 cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "hash", d->hash);
    cg_jsonw_kstr(&w, "user_agent", d->user_agent);
    cg_jsonw_kstr(&w, "address", d->address);
    cg_jsonw_kint(&w, "created", k->created_wall_ns);
    cg_jsonw_kint(&w, "expires", k->expires_wall_ns);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_session, k->id, k->account, cg_buf_cstr(&b)};
    cg_store_put_item(c->store, &item, done, ctx);
}

struct beginning {
    struct cg_store_key *key;
    char token[CG_KEY_TEXT];
    void (*done)(void *ctx, const struct cg_session_made *m, const struct cg_err *err);
    void *ctx;
};

static void on_saved(void *ctx, const struct cg_err *err)
{
    struct beginning *b = ctx;
    const struct cg_session_made m = {b->key, b->token};
    b->done(b->ctx, err ? NULL : &m, err);
    sodium_memzero(b, sizeof *b);
    free(b);
}

void cg_session_begin(struct cg_core *c, const char *account, const struct cg_peer *peer,
                      void (*done)(void *ctx, const struct cg_session_made *m,
                                   const struct cg_err *err),
                      void *ctx)
{
    struct beginning *b = cg_alloc(sizeof *b);
    struct detail *d = cg_alloc(sizeof *d);
    b->done = done;
    b->ctx = ctx;
    b->key = cg_core_new_secret(c, "caged_ses_", "ses", account, d->hash, b->token);
    b->key->expires_wall_ns = b->key->created_wall_ns + (int64_t)SESSION_LIFE_S * 1000000000;
    cg_strlcpy(d->user_agent, sizeof d->user_agent, peer->user_agent ? peer->user_agent : "");
    cg_strlcpy(d->address, sizeof d->address, peer->address ? peer->address : "");
    cg_map_put(&details, b->key->id, d);
    save(c, b->key, d, on_saved, b);
}

static void drop(struct cg_core *c, struct cg_store_key *k, cg_store_done *done, void *ctx)
{
    struct detail *d = cg_map_remove(&details, k->id);
    k->expires_wall_ns = 1; /* it stays in memory: a ticket or a request may point at it */
    if (d)
        cg_map_remove(&c->keys, d->hash);
    cg_store_delete_item(c->store, kind_session, k->id, done, ctx);
    free(d);
}

static struct cg_store_key *find(struct cg_core *c, const char *id)
{
    const struct detail *d = cg_map_get(&details, id);
    return d ? cg_map_get(&c->keys, d->hash) : NULL;
}

void cg_sessions_each(struct cg_core *c, const char *account,
                      void (*each)(void *ctx, const struct cg_session *s), void *ctx)
{
    size_t at = 0;
    const char *id;
    void *value;
    int64_t now = cg_wall_ns();
    while (cg_map_next(&details, &at, &id, &value)) {
        const struct detail *d = value;
        const struct cg_store_key *k = cg_map_get(&c->keys, d->hash);
        if (!k || !cg_streq(k->account, account) || k->expires_wall_ns < now)
            continue;
        const struct cg_session s = {k, d->user_agent, d->address};
        each(ctx, &s);
    }
}

bool cg_session_end(struct cg_core *c, const char *account, const char *id, cg_store_done *done,
                    void *ctx, struct cg_err *e)
{
    struct cg_store_key *k = find(c, id);
    if (!k || !cg_streq(k->account, account))
        return cg_fail(e, CG_NOT_FOUND, "there is no session %.64s", id);
    drop(c, k, done, ctx);
    return true;
}

void cg_sessions_end_all(struct cg_core *c, const char *account, const char *but_id)
{
    for (;;) { /* the map may not be walked while it changes */
        struct cg_store_key *victim = NULL;
        size_t at = 0;
        const char *id;
        void *value;
        while (!victim && cg_map_next(&details, &at, &id, &value)) {
            struct cg_store_key *k = find(c, id);
            if (k && cg_streq(k->account, account) && !cg_streq(k->id, but_id))
                victim = k;
        }
        if (!victim)
            return;
        drop(c, victim, NULL, NULL);
    }
}

static void load(void *ctx, const struct cg_store_item *i)
{
    struct cg_core *c = ctx;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *hash = cg_json_str(j, "hash");
    const char *agent = cg_json_str(j, "user_agent");
    const char *address = cg_json_str(j, "address");
    int64_t expires = cg_json_int(j, "expires", 0);
    struct detail *d = cg_alloc(sizeof *d);
    struct cg_store_key k = {.created_wall_ns = cg_json_int(j, "created", 0),
                             .expires_wall_ns = expires};
    bool fine = hash && strlen(hash) == sizeof d->hash - 1 && expires > cg_wall_ns() &&
                sodium_hex2bin(k.hash, sizeof k.hash, hash, strlen(hash), NULL, NULL, NULL) == 0;
    if (!fine) {
        cg_store_delete_item(c->store, kind_session, i->id, NULL, NULL); /* it is over */
        free(d);
        return;
    }
    cg_strlcpy(k.id, sizeof k.id, i->id);
    cg_strlcpy(k.account, sizeof k.account, i->account);
    cg_strlcpy(k.name, sizeof k.name, "session");
    cg_strlcpy(k.scope, sizeof k.scope, "full");
    cg_strlcpy(d->hash, sizeof d->hash, hash);
    cg_strlcpy(d->user_agent, sizeof d->user_agent, agent ? agent : "");
    cg_strlcpy(d->address, sizeof d->address, address ? address : "");
    free(cg_map_put(&details, i->id, d));
    cg_core_remember_key(c, &k);
}

bool cg_sessions_start(struct cg_core *c, struct cg_err *e)
{
    cg_map_init(&details);
    return cg_store_each_item(c->store, kind_session, load, c, e);
}
