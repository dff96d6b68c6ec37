/* Ports with passwords, and tokens: see previews.h. A token is "<end>.<MAC>" over port and epoch,
 * which a new password changes; the key of the MAC lies in the database. */
#include "core/previews.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
    KEY = crypto_auth_hmacsha256_KEYBYTES,
    MAC_TEXT = 33, /* half of the MAC in hex */
    WORKING_MAX = 4,
    TRIES = 10, /* wrong passwords a port and minute */
    TRY_WINDOW_S = 60,
};

static const char kind_port[] = "preview";
static const char kind_key[] = "preview_key";

struct guarded {
    char hash[crypto_pwhash_STRBYTES];
    char epoch[17];
    int64_t window_s; /* of wrong passwords */
    unsigned wrong;
};

static struct cg_map table; /* label: struct guarded */
static unsigned char key_bytes[KEY];
static unsigned working; /* hashes that are computed */

void cg_preview_label(const char *sandbox, int port, char out[CG_PREVIEW_LABEL])
{
    cg_snprintf(out, CG_PREVIEW_LABEL, "%s-%d", sandbox, port);
}

bool cg_preview_parse(const char *label, size_t n, char sandbox[CG_ID_TEXT], int *port)
{
    size_t dash = n;
    while (dash > 0 && label[dash - 1] != '-')
        dash--;
    size_t id = dash > 0 ? dash - 1 : 0;
    if (id <= 5 || id >= CG_ID_TEXT || n - dash < 1 || n - dash > 5 || label[dash] == '0' ||
        strncmp(label, "cage-", 5) != 0)
        return false;
    int number = 0;
    for (size_t i = dash; i < n; i++) {
        if (label[i] < '0' || label[i] > '9')
            return false;
        number = number * 10 + (label[i] - '0');
    }
    for (size_t i = 5; i < id; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz234567", label[i]))
            return false;
    memcpy(sandbox, label, id);
    sandbox[id] = '\0';
    *port = number;
    return number <= 65535;
}

static struct guarded *find(const char *sandbox, int port)
{
    char label[CG_PREVIEW_LABEL];
    cg_preview_label(sandbox, port, label);
    return cg_map_get(&table, label);
}

bool cg_preview_protected(const char *sandbox, int port)
{
    return find(sandbox, port) != NULL;
}

/* --- at start --- */

static void load_key(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *hex = cg_json_str(j, "key");
    size_t n = 0;
    *(bool *)ctx =
        hex && sodium_hex2bin(key_bytes, KEY, hex, strlen(hex), NULL, &n, NULL) == 0 && n == KEY;
}

static void make_key(struct cg_core *c)
{
    char hex[2 * KEY + 1];
    char doc[2 * KEY + 32];
    randombytes_buf(key_bytes, KEY);
    sodium_bin2hex(hex, sizeof hex, key_bytes, KEY);
    cg_snprintf(doc, sizeof doc, "{\"key\":\"%s\"}", hex);
    const struct cg_store_item item = {kind_key, "key", "", doc};
    cg_store_put_item(c->store, &item, NULL, NULL);
}

static void load_port(void *ctx, const struct cg_store_item *i)
{
    struct cg_core *c = ctx;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *hash = cg_json_str(j, "argon2id");
    const char *epoch = cg_json_str(j, "epoch");
    char sandbox[CG_ID_TEXT];
    int port = 0;
    bool ours = cg_preview_parse(i->id, strlen(i->id), sandbox, &port);
    const struct cg_sandbox *sb = ours ? cg_core_find(c, sandbox) : NULL;
    if (!sb || sb->status == CG_STATUS_DESTROYED || sb->status == CG_STATUS_ERROR) {
        cg_store_delete_item(c->store, kind_port, i->id, NULL, NULL);
        return;
    }
    struct guarded *g = cg_alloc(sizeof *g);
    if (!hash || !epoch || !cg_strlcpy(g->hash, sizeof g->hash, hash) ||
        !cg_strlcpy(g->epoch, sizeof g->epoch, epoch))
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_preview"), CG_S("id", i->id));
    free(cg_map_put(&table, i->id, g)); /* an unreadable one stays closed: no password fits */
}

bool cg_previews_start(struct cg_core *c, struct cg_err *e)
{
    bool have = false;
    if (!cg_store_each_item(c->store, kind_key, load_key, &have, e) ||
        !cg_store_each_item(c->store, kind_port, load_port, c, e))
        return false;
    if (!have)
        make_key(c);
    return true;
}

/* --- passwords --- */

struct job {
    uv_work_t work;
    struct cg_core *core;
    bool checks;
    bool fine;
    char label[CG_PREVIEW_LABEL];
    char account[CG_ID_TEXT];
    char password[257];
    char hash[crypto_pwhash_STRBYTES];
    cg_preview_done *done;
    void *ctx;
    struct cg_err err;
};

static void on_work(uv_work_t *work)
{
    struct job *j = CG_CONTAINER(work, struct job, work);
    size_t n = strlen(j->password);
    if (j->checks)
        j->fine = crypto_pwhash_str_verify(j->hash, j->password, n) == 0;
    else
        j->fine = crypto_pwhash_str(j->hash, j->password, n, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                    crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0;
}

static void free_job(struct job *j)
{
    sodium_memzero(j, sizeof *j);
    free(j);
}

static void on_stored(void *ctx, const struct cg_err *err)
{
    struct job *j = ctx;
    j->done(j->ctx, err);
    free_job(j);
}

static void guard(struct job *j)
{
    struct guarded *g = cg_alloc(sizeof *g);
    unsigned char bytes[8];
    char doc[crypto_pwhash_STRBYTES + 64];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(g->epoch, sizeof g->epoch, bytes, sizeof bytes);
    cg_strlcpy(g->hash, sizeof g->hash, j->hash);
    free(cg_map_put(&table, j->label, g));
    cg_snprintf(doc, sizeof doc, "{\"argon2id\":\"%s\",\"epoch\":\"%s\"}", g->hash, g->epoch);
    const struct cg_store_item item = {kind_port, j->label, j->account, doc};
    cg_store_put_item(j->core->store, &item, on_stored, j);
}

static void count_wrong(const char *label)
{
    struct guarded *g = cg_map_get(&table, label);
    int64_t now = cg_mono_ns() / 1000000000;
    if (!g)
        return;
    if (now - g->window_s >= TRY_WINDOW_S) {
        g->window_s = now;
        g->wrong = 0;
    }
    g->wrong++;
}

static void on_worked(uv_work_t *work, int status)
{
    struct job *j = CG_CONTAINER(work, struct job, work);
    (void)status;
    working--;
    if (j->fine && !j->checks) {
        guard(j);
        return;
    }
    if (!j->fine && j->checks) {
        count_wrong(j->label);
        cg_fail(&j->err, CG_UNAUTHORIZED, "that is not the password");
    } else if (!j->fine) {
        cg_fail(&j->err, CG_UNAVAILABLE, "there is no memory to hash a password: try again");
    }
    j->done(j->ctx, j->fine ? NULL : &j->err);
    free_job(j);
}

static struct job *new_job(struct cg_core *c, const char *sandbox, int port, const char *password,
                           cg_preview_done *done, void *ctx)
{
    struct job *j = cg_alloc(sizeof *j);
    j->core = c;
    j->done = done;
    j->ctx = ctx;
    cg_preview_label(sandbox, port, j->label);
    if (!password || !password[0] || !cg_strlcpy(j->password, sizeof j->password, password))
        cg_fail(&j->err, CG_INVALID, "password must have 1 to 256 characters");
    else if (working >= WORKING_MAX)
        cg_fail(&j->err, CG_LIMIT, "too many passwords are checked at the moment: try again");
    return j;
}

/* `done` comes from the loop, also for what is refused at once. */
static void on_nothing(uv_work_t *work)
{
    (void)work;
}

static void on_refused(uv_work_t *work, int status)
{
    struct job *j = CG_CONTAINER(work, struct job, work);
    (void)status;
    working--;
    j->done(j->ctx, &j->err);
    free_job(j);
}

static void run(struct job *j)
{
    bool refused = j->err.code != CG_OK;
    working++;
    CG_ASSERT(uv_queue_work(j->core->loop, &j->work, refused ? on_nothing : on_work,
                            refused ? on_refused : on_worked) == 0);
}

void cg_preview_protect(struct cg_core *c, const struct cg_sandbox *sb, int port,
                        const char *password, cg_preview_done *done, void *ctx)
{
    struct job *j = new_job(c, sb->id, port, password, done, ctx);
    cg_strlcpy(j->account, sizeof j->account, sb->account);
    run(j);
}

void cg_preview_open(struct cg_core *c, const char *sandbox, int port, cg_preview_done *done,
                     void *ctx)
{
    char label[CG_PREVIEW_LABEL];
    cg_preview_label(sandbox, port, label);
    free(cg_map_remove(&table, label));
    cg_store_delete_item(c->store, kind_port, label, done, ctx);
}

void cg_preview_check(struct cg_core *c, const char *sandbox, int port, const char *password,
                      cg_preview_done *done, void *ctx)
{
    struct job *j = new_job(c, sandbox, port, password, done, ctx);
    const struct guarded *g = find(sandbox, port);
    int64_t now = cg_mono_ns() / 1000000000;
    j->checks = true;
    if (g && g->wrong >= TRIES && now - g->window_s < TRY_WINDOW_S)
        cg_fail(&j->err, CG_LIMIT, "too many wrong passwords: wait a minute");
    if (g)
        cg_strlcpy(j->hash, sizeof j->hash, g->hash);
    run(j);
}

/* --- tokens --- */

static void sign(const char *sandbox, int port, int64_t until_s, char out[MAC_TEXT])
{
    const struct guarded *g = find(sandbox, port);
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    char text[160];
    cg_snprintf(text, sizeof text, "%s-%d %lld %s", sandbox, port, (long long)until_s,
                g ? g->epoch : "");
    crypto_auth_hmacsha256(mac, (const unsigned char *)text, strlen(text), key_bytes);
    sodium_bin2hex(out, MAC_TEXT, mac, (MAC_TEXT - 1) / 2);
}

void cg_preview_token(const char *sandbox, int port, int64_t until_s, char out[CG_PREVIEW_TOKEN])
{
    char mac[MAC_TEXT];
    sign(sandbox, port, until_s, mac);
    cg_snprintf(out, CG_PREVIEW_TOKEN, "%lld.%s", (long long)until_s, mac);
}

bool cg_preview_token_fine(const char *sandbox, int port, const char *token)
{
    char mac[MAC_TEXT];
    char *dot = NULL;
    long long until_s = strtoll(token, &dot, 10);
    if (token[0] < '0' || token[0] > '9' || *dot != '.' || strlen(dot + 1) != MAC_TEXT - 1)
        return false;
    sign(sandbox, port, until_s, mac);
    return sodium_memcmp(mac, dot + 1, MAC_TEXT - 1) == 0 && until_s > cg_wall_ns() / 1000000000;
}
