/* store.h on SQLite: a thread with a queue of jobs; results come back through uv_async. */
#include "store/store.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { BUSY_MS = 5000, QUEUE_MAX = 100000 };

/* Numbered for ever; user_version says how many have run. */
static const char *const migrations[] = {
    "CREATE TABLE account (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
    " tier TEXT NOT NULL, created INTEGER NOT NULL) STRICT;"
    "CREATE TABLE api_key (id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES account(id),"
    " name TEXT NOT NULL, prefix TEXT NOT NULL, scope TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,"
    " created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL) STRICT;"
    "CREATE TABLE sandbox (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL,"
    " status TEXT NOT NULL, slot INTEGER NOT NULL, doc TEXT NOT NULL) STRICT;",
    "CREATE TABLE item (n INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL,"
    " account TEXT NOT NULL, doc TEXT NOT NULL, UNIQUE (kind, id)) STRICT;",
};

enum job_kind { PUT_ACCOUNT, PUT_KEY, DELETE_KEY, PUT_SANDBOX, PUT_ITEM, DELETE_ITEM, COPY };

struct job {
    struct job *next;
    enum job_kind kind;
    cg_store_done *done;
    void *ctx;
    bool failed;
    struct cg_err err;
    struct cg_store_account account;
    struct cg_store_key key;
    struct cg_store_sandbox sandbox;
    struct cg_store_item item; /* its texts are owned */
    char *doc;
};

struct queue {
    struct job *first, *last;
};

struct cg_store {
    sqlite3 *db;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct queue todo, ended;
    unsigned queued;
    bool stop;
    uv_async_t async;
};

static void push(struct queue *q, struct job *j)
{
    j->next = NULL;
    if (q->last)
        q->last->next = j;
    else
        q->first = j;
    q->last = j;
}

static bool sql_fail(sqlite3 *db, struct cg_err *e, const char *what)
{
    return cg_fail(e, CG_IO, "database: %s: %s", what, sqlite3_errmsg(db));
}

static bool run_sql(sqlite3 *db, const char *sql, struct cg_err *e)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK || sql_fail(db, e, sql);
}

static int64_t pragma_int(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t v = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return v;
}

static bool migrate(sqlite3 *db, struct cg_err *e)
{
    int64_t have = pragma_int(db, "PRAGMA user_version");
    if (have < 0)
        return sql_fail(db, e, "read user_version");
    if (have > (int64_t)CG_COUNT(migrations))
        return cg_fail(
            e, CG_CONFLICT,
            "the database is of a newer version of Caged (schema %lld, this one knows %zu)",
            (long long)have, CG_COUNT(migrations));
    for (int64_t i = have; i < (int64_t)CG_COUNT(migrations); i++) {
        CG_OWN(cg_drop_free)
        char *sql = cg_format("BEGIN IMMEDIATE; %s PRAGMA user_version = %lld; COMMIT;",
                              migrations[i], (long long)i + 1);
        if (!run_sql(db, sql, e)) {
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return cg_wrap(e, "schema step %lld", (long long)i + 1);
        }
    }
    return true;
}

/* --- the thread --- */

static bool bind_text(sqlite3_stmt *st, int i, const char *s)
{
    return sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT) == SQLITE_OK;
}

static bool bind_job(sqlite3_stmt *st, const struct job *j)
{
    const struct cg_store_account *a = &j->account;
    const struct cg_store_key *k = &j->key;
    const struct cg_store_sandbox *b = &j->sandbox;
    switch (j->kind) {
    case PUT_ACCOUNT:
        return bind_text(st, 1, a->id) && bind_text(st, 2, a->email) && bind_text(st, 3, a->name) &&
               bind_text(st, 4, a->tier) &&
               sqlite3_bind_int64(st, 5, a->created_wall_ns) == SQLITE_OK;
    case PUT_KEY:
        return bind_text(st, 1, k->id) && bind_text(st, 2, k->account) &&
               bind_text(st, 3, k->name) && bind_text(st, 4, k->prefix) &&
               bind_text(st, 5, k->scope) &&
               sqlite3_bind_blob(st, 6, k->hash, sizeof k->hash, SQLITE_TRANSIENT) == SQLITE_OK &&
               sqlite3_bind_int64(st, 7, k->created_wall_ns) == SQLITE_OK &&
               sqlite3_bind_int64(st, 8, k->expires_wall_ns) == SQLITE_OK &&
               sqlite3_bind_int64(st, 9, k->used_wall_ns) == SQLITE_OK;
    case DELETE_KEY:
        return bind_text(st, 1, k->id);
    case PUT_SANDBOX:
        return bind_text(st, 1, b->id) && bind_text(st, 2, b->account) &&
               bind_text(st, 3, b->status) && sqlite3_bind_int64(st, 4, b->slot) == SQLITE_OK &&
               bind_text(st, 5, j->doc);
    case PUT_ITEM:
        return bind_text(st, 1, j->item.kind) && bind_text(st, 2, j->item.id) &&
               bind_text(st, 3, j->item.account) && bind_text(st, 4, j->doc);
    case COPY:
        return false; /* no statement: copy_to */
    case DELETE_ITEM:
        return bind_text(st, 1, j->item.kind) && bind_text(st, 2, j->item.id);
    }
    return false;
}

static const char *const job_sql[] = {
    [PUT_ACCOUNT] = "INSERT OR REPLACE INTO account (id, email, name, tier, created)"
                    " VALUES (?1, ?2, ?3, ?4, ?5)",
    [PUT_KEY] = "INSERT OR REPLACE INTO api_key (id, account, name, prefix, scope, hash, created,"
                " expires, used) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [DELETE_KEY] = "DELETE FROM api_key WHERE id = ?1",
    [PUT_SANDBOX] =
        "INSERT INTO sandbox (id, account, status, slot, doc) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT (id) DO UPDATE SET account = excluded.account,"
        " status = excluded.status, slot = excluded.slot, doc = excluded.doc",
    [PUT_ITEM] = "INSERT INTO item (kind, id, account, doc) VALUES (?1, ?2, ?3, ?4)"
                 " ON CONFLICT (kind, id) DO UPDATE SET account = excluded.account,"
                 " doc = excluded.doc",
    [DELETE_ITEM] = "DELETE FROM item WHERE kind = ?1 AND id = ?2",
};

static void run_job(struct cg_store *s, struct job *j)
{
    sqlite3_stmt *st = NULL;
    bool ok = sqlite3_prepare_v2(s->db, job_sql[j->kind], -1, &st, NULL) == SQLITE_OK &&
              bind_job(st, j) && sqlite3_step(st) == SQLITE_DONE;
    if (!ok)
        sql_fail(s->db, &j->err, "write");
    j->failed = !ok;
    sqlite3_finalize(st);
}

static bool copy_to(sqlite3 *from, const char *path, struct cg_err *e)
{
    sqlite3 *to = NULL;
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* nobody else's ever */
    if (fd < 0)
        return cg_fail_sys(e, "create %s", path);
    close(fd);
    bool ok = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK;
    sqlite3_backup *b = ok ? sqlite3_backup_init(to, "main", from, "main") : NULL;
    ok = b && sqlite3_backup_step(b, -1) == SQLITE_DONE;
    ok = sqlite3_backup_finish(b) == SQLITE_OK && ok;
    if (!ok)
        cg_fail(e, CG_IO, "copy the database to %s: %s", path,
                to ? sqlite3_errmsg(to) : "out of memory");
    sqlite3_close(to);
    return ok;
}

/* One transaction for all that waits: the sync is shared. Copies come after it. */
static void run_batch(struct cg_store *s, struct job *first)
{
    struct cg_err e = CG_ERR_INIT;
    bool ok = run_sql(s->db, "BEGIN IMMEDIATE", &e);
    for (struct job *j = first; j && ok; j = j->next)
        if (j->kind != COPY)
            run_job(s, j);
    ok = ok && run_sql(s->db, "COMMIT", &e);
    for (struct job *j = first; j && ok; j = j->next)
        if (j->kind == COPY)
            j->failed = !copy_to(s->db, j->doc, &j->err);
    if (ok)
        return;
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    for (struct job *j = first; j; j = j->next) {
        j->failed = true;
        j->err = e;
    }
}

static void *work(void *arg)
{
    struct cg_store *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop || s->todo.first) {
        if (!s->todo.first) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        struct job *first = s->todo.first;
        s->todo = (struct queue){0};
        pthread_mutex_unlock(&s->lock);
        run_batch(s, first);
        pthread_mutex_lock(&s->lock);
        while (first) {
            struct job *next = first->next;
            push(&s->ended, first);
            first = next;
        }
        uv_async_send(&s->async);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void free_job(struct job *j)
{
    free((char *)(uintptr_t)j->item.kind);
    free((char *)(uintptr_t)j->item.id);
    free((char *)(uintptr_t)j->item.account);
    free(j->doc);
    free(j);
}

static void deliver(struct cg_store *s)
{
    pthread_mutex_lock(&s->lock);
    struct job *j = s->ended.first;
    s->ended = (struct queue){0};
    pthread_mutex_unlock(&s->lock);
    while (j) {
        struct job *next = j->next;
        s->queued--;
        if (j->failed)
            cg_log(CG_LOG_ERROR, CG_EVENT("store.write_failed"), CG_E(&j->err));
        if (j->done)
            j->done(j->ctx, j->failed ? &j->err : NULL);
        free_job(j);
        j = next;
    }
}

static void on_async(uv_async_t *a)
{
    deliver(a->data);
}

/* --- opening and closing --- */

struct cg_store *cg_store_open(uv_loop_t *loop, const char *path, struct cg_err *e)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                        NULL) != SQLITE_OK) {
        cg_fail(e, CG_IO, "open %s: %s", path, db ? sqlite3_errmsg(db) : "out of memory");
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_busy_timeout(db, BUSY_MS);
    chmod(path, 0600); /* -wal and -shm get the same mode */
    if (!run_sql(db, "PRAGMA journal_mode = WAL", e) ||
        !run_sql(db, "PRAGMA synchronous = FULL", e) ||
        !run_sql(db, "PRAGMA foreign_keys = ON", e) || !migrate(db, e)) {
        cg_wrap(e, "open %s", path);
        sqlite3_close(db);
        return NULL;
    }
    struct cg_store *s = cg_alloc(sizeof *s);
    s->db = db;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    uv_async_init(loop, &s->async, on_async);
    uv_unref((uv_handle_t *)&s->async);
    s->async.data = s;
    if (pthread_create(&s->thread, NULL, work, s) != 0) {
        cg_fail(e, CG_IO, "start the database thread");
        return NULL;
    }
    return s;
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void cg_store_close(struct cg_store *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    deliver(s);
    sqlite3_close(s->db);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    uv_close((uv_handle_t *)&s->async, on_closed);
}

/* --- reading --- */

static sqlite3_stmt *query(struct cg_store *s, const char *sql, struct cg_err *e)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
        sql_fail(s->db, e, "read");
    return st;
}

static void column(sqlite3_stmt *st, int i, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(st, i);
    cg_strlcpy(out, size, text ? (const char *)text : "");
}

bool cg_store_each_account(struct cg_store *s,
                           void (*each)(void *ctx, const struct cg_store_account *a), void *ctx,
                           struct cg_err *e)
{
    sqlite3_stmt *st =
        query(s, "SELECT id, email, name, tier, created FROM account ORDER BY created", e);
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        struct cg_store_account a = {.created_wall_ns = sqlite3_column_int64(st, 4)};
        column(st, 0, a.id, sizeof a.id);
        column(st, 1, a.email, sizeof a.email);
        column(st, 2, a.name, sizeof a.name);
        column(st, 3, a.tier, sizeof a.tier);
        each(ctx, &a);
    }
    return st && sqlite3_finalize(st) == SQLITE_OK;
}

bool cg_store_each_key(struct cg_store *s, void (*each)(void *ctx, const struct cg_store_key *k),
                       void *ctx, struct cg_err *e)
{
    sqlite3_stmt *st = query(s,
                             "SELECT id, account, name, prefix, scope, hash, created, expires, used"
                             " FROM api_key ORDER BY created",
                             e);
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        struct cg_store_key k = {.created_wall_ns = sqlite3_column_int64(st, 6),
                                 .expires_wall_ns = sqlite3_column_int64(st, 7),
                                 .used_wall_ns = sqlite3_column_int64(st, 8)};
        column(st, 0, k.id, sizeof k.id);
        column(st, 1, k.account, sizeof k.account);
        column(st, 2, k.name, sizeof k.name);
        column(st, 3, k.prefix, sizeof k.prefix);
        column(st, 4, k.scope, sizeof k.scope);
        if (sqlite3_column_bytes(st, 5) != CG_STORE_HASH)
            continue;
        memcpy(k.hash, sqlite3_column_blob(st, 5), CG_STORE_HASH);
        each(ctx, &k);
    }
    return st && sqlite3_finalize(st) == SQLITE_OK;
}

bool cg_store_each_sandbox(struct cg_store *s,
                           void (*each)(void *ctx, const struct cg_store_sandbox *b), void *ctx,
                           struct cg_err *e)
{
    sqlite3_stmt *st = query(s, "SELECT id, account, status, slot, doc FROM sandbox ORDER BY n", e);
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        struct cg_store_sandbox b = {.slot = (uint32_t)sqlite3_column_int64(st, 3)};
        column(st, 0, b.id, sizeof b.id);
        column(st, 1, b.account, sizeof b.account);
        column(st, 2, b.status, sizeof b.status);
        const unsigned char *doc = sqlite3_column_text(st, 4);
        b.doc = doc ? (const char *)doc : "{}";
        each(ctx, &b);
    }
    return st && sqlite3_finalize(st) == SQLITE_OK;
}

bool cg_store_each_item(struct cg_store *s, const char *kind,
                        void (*each)(void *ctx, const struct cg_store_item *i), void *ctx,
                        struct cg_err *e)
{
    sqlite3_stmt *st = query(s, "SELECT id, account, doc FROM item WHERE kind = ?1 ORDER BY n", e);
    if (!st)
        return false;
    bind_text(st, 1, kind); /* without it nothing is found: an error at the end */
    while (sqlite3_step(st) == SQLITE_ROW) {
        const struct cg_store_item i = {.kind = kind,
                                        .id = (const char *)sqlite3_column_text(st, 0),
                                        .account = (const char *)sqlite3_column_text(st, 1),
                                        .doc = (const char *)sqlite3_column_text(st, 2)};
        if (i.id && i.account && i.doc)
            each(ctx, &i);
    }
    return sqlite3_finalize(st) == SQLITE_OK || sql_fail(s->db, e, "read");
}

/* --- writing --- */

static void submit(struct cg_store *s, struct job *j, cg_store_done *done, void *ctx)
{
    CG_ASSERT(++s->queued < QUEUE_MAX);
    j->done = done;
    j->ctx = ctx;
    pthread_mutex_lock(&s->lock);
    push(&s->todo, j);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

static struct job *new_job(enum job_kind kind)
{
    struct job *j = cg_alloc(sizeof *j);
    j->kind = kind;
    return j;
}

void cg_store_put_account(struct cg_store *s, const struct cg_store_account *a, cg_store_done *done,
                          void *ctx)
{
    struct job *j = new_job(PUT_ACCOUNT);
    j->account = *a;
    submit(s, j, done, ctx);
}

void cg_store_put_key(struct cg_store *s, const struct cg_store_key *k, cg_store_done *done,
                      void *ctx)
{
    struct job *j = new_job(PUT_KEY);
    j->key = *k;
    submit(s, j, done, ctx);
}

void cg_store_delete_key(struct cg_store *s, const char *id, cg_store_done *done, void *ctx)
{
    struct job *j = new_job(DELETE_KEY);
    cg_strlcpy(j->key.id, sizeof j->key.id, id);
    submit(s, j, done, ctx);
}

void cg_store_put_sandbox(struct cg_store *s, const struct cg_store_sandbox *b, cg_store_done *done,
                          void *ctx)
{
    struct job *j = new_job(PUT_SANDBOX);
    j->sandbox = *b;
    j->doc = cg_strdup(b->doc);
    j->sandbox.doc = j->doc;
    submit(s, j, done, ctx);
}

void cg_store_put_item(struct cg_store *s, const struct cg_store_item *i, cg_store_done *done,
                       void *ctx)
{
    struct job *j = new_job(PUT_ITEM);
    j->item = (struct cg_store_item){
        .kind = cg_strdup(i->kind), .id = cg_strdup(i->id), .account = cg_strdup(i->account)};
    j->doc = cg_strdup(i->doc);
    submit(s, j, done, ctx);
}

void cg_store_copy(struct cg_store *s, const char *path, cg_store_done *done, void *ctx)
{
    struct job *j = new_job(COPY);
    j->doc = cg_strdup(path);
    submit(s, j, done, ctx);
}

void cg_store_delete_item(struct cg_store *s, const char *kind, const char *id, cg_store_done *done,
                          void *ctx)
{
    struct job *j = new_job(DELETE_ITEM);
    j->item = (struct cg_store_item){.kind = cg_strdup(kind), .id = cg_strdup(id)};
    submit(s, j, done, ctx);
}
