/* Accounts, keys and the list of sandboxes, on disk. The only room that knows SQL.
 *
 * One connection in one thread does everything, so writers never meet (and SQLite's WAL is reset by
 * nobody else). Writes are asynchronous: done runs on the loop's thread once the change is durable
 * (synchronous=FULL). Reads happen at start only; the server then works from memory. */
#ifndef CG_STORE_STORE_H
#define CG_STORE_STORE_H

#include <uv.h>

#include "base/clock.h"

enum { CG_STORE_HASH = 32 };

struct cg_store;

/* Opens or makes the database and brings its schema up to date. */
CG_MUST_USE struct cg_store *cg_store_open(uv_loop_t *loop, const char *path, struct cg_err *e);
/* Finishes what is queued, then closes. Blocks. */
void cg_store_close(struct cg_store *s);

typedef void cg_store_done(void *ctx, const struct cg_err *err); /* err NULL: durable */

struct cg_store_account {
    char id[CG_ID_TEXT];
    char email[128];
    char name[128];
    char tier[16];
    int64_t created_wall_ns;
};

struct cg_store_key {
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char name[128];
    char prefix[16];
    char scope[16]; /* full, sandbox, read */
    unsigned char hash[CG_STORE_HASH];
    int64_t created_wall_ns;
    int64_t expires_wall_ns; /* 0: never */
    int64_t used_wall_ns;    /* 0: never */
};

struct cg_store_sandbox {
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char status[16];
    uint32_t slot;   /* 0 when it is freed */
    const char *doc; /* everything else as JSON, the core's business */
};

/* Everything that is no account, key or sandbox and is only ever looked up by its id: secrets,
 * snapshots, alerts, channels, sessions … A kind is a word that one file of the core owns; what
 * stands in the document is that file's business. */
struct cg_store_item {
    const char *kind; /* "secret" */
    const char *id;   /* unique in its kind */
    const char *account;
    const char *doc; /* a JSON object */
};

/* Reading, at start. `each` is called for every row, in the order of creation. */
CG_MUST_USE bool cg_store_each_account(struct cg_store *s,
                                       void (*each)(void *ctx, const struct cg_store_account *a),
                                       void *ctx, struct cg_err *e);
CG_MUST_USE bool cg_store_each_key(struct cg_store *s,
                                   void (*each)(void *ctx, const struct cg_store_key *k), void *ctx,
                                   struct cg_err *e);
CG_MUST_USE bool cg_store_each_sandbox(struct cg_store *s,
                                       void (*each)(void *ctx, const struct cg_store_sandbox *b),
                                       void *ctx, struct cg_err *e);

/* All items of a kind, in the order in which they were first put. The texts are valid during the
 * call. */
CG_MUST_USE bool cg_store_each_item(struct cg_store *s, const char *kind,
                                    void (*each)(void *ctx, const struct cg_store_item *i),
                                    void *ctx, struct cg_err *e);

/* Writing. done may be NULL. Values are copied. */
void cg_store_put_account(struct cg_store *s, const struct cg_store_account *a, cg_store_done *done,
                          void *ctx);
void cg_store_put_key(struct cg_store *s, const struct cg_store_key *k, cg_store_done *done,
                      void *ctx);
void cg_store_delete_key(struct cg_store *s, const char *id, cg_store_done *done, void *ctx);
/* Inserts or replaces. */
void cg_store_put_sandbox(struct cg_store *s, const struct cg_store_sandbox *b, cg_store_done *done,
                          void *ctx);
/* Inserts or replaces. */
void cg_store_put_item(struct cg_store *s, const struct cg_store_item *i, cg_store_done *done,
                       void *ctx);
/* A copy of the whole database, with all that was queued before, in a file of its own (replaced).
 */
void cg_store_copy(struct cg_store *s, const char *path, cg_store_done *done, void *ctx);
/* What is not there is deleted, too. */
void cg_store_delete_item(struct cg_store *s, const char *kind, const char *id, cg_store_done *done,
                          void *ctx);

#endif
