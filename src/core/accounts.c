/* Signup, login, passwords. What is kept of a password is libsodium's argon2id text, in an item of
 * its own, so that the table of accounts can be shown to anybody who may see accounts. */
#include "core/accounts.h"

#include <ctype.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/sessions.h"
#include "core/teams.h"

enum {
    PASSWORD_MIN = 8,
    PASSWORD_MAX = 256,
    WAITING_MAX = 32, /* logins that wait for their turn at the hash */
    EMAIL_TRIES = 5,
    ADDRESS_TRIES = 50, /* many people may sit behind one address */
    WAIT_MAX_S = 900,
    GUESSERS_MAX = 8192,
};

static const char kind_password[] = "password";

static struct cg_map hashes; /* account id: argon2id text */

/* --- slowing down guesses --- */

/* By email and by address: one of them grows, whichever an attacker holds still. */
struct guesser {
    unsigned failures;
    int64_t until_ns;
};
static struct cg_map guessers;

static int64_t penalty_ns(unsigned failures, unsigned tries)
{
    if (failures < tries)
        return 0;
    unsigned shift = CG_MIN(failures - tries, 10U);
    return CG_MIN((int64_t)1 << shift, (int64_t)WAIT_MAX_S) * 1000000000;
}

static bool is_forgiven(const struct guesser *g, int64_t now)
{
    return now - g->until_ns > (int64_t)WAIT_MAX_S * 1000000000;
}

static void drop_forgiven(void)
{
    char stale[64][128];
    unsigned n = 0;
    size_t at = 0;
    const char *who;
    void *g;
    while (n < CG_COUNT(stale) && cg_map_next(&guessers, &at, &who, &g)) {
        if (is_forgiven(g, cg_mono_ns()) && cg_strlcpy(stale[n], sizeof stale[n], who))
            n++;
    }
    for (unsigned i = 0; i < n; i++)
        free(cg_map_remove(&guessers, stale[i]));
}

static void note_failure(const char *who, unsigned tries)
{
    struct guesser *g = cg_map_get(&guessers, who);
    if (!g && guessers.count >= GUESSERS_MAX)
        drop_forgiven();
    if (!g && guessers.count >= GUESSERS_MAX)
        return; /* full of others that guess: the hash itself is slow */
    if (!g) {
        g = cg_alloc(sizeof *g);
        cg_map_put(&guessers, who, g);
    }
    int64_t now = cg_mono_ns();
    if (is_forgiven(g, now))
        g->failures = 0; /* a quiet quarter of an hour */
    g->failures++;
    g->until_ns = now + penalty_ns(g->failures, tries);
}

static void forget_failures(const char *who)
{
    free(cg_map_remove(&guessers, who));
}

static int wait_of(const char *who)
{
    const struct guesser *g = cg_map_get(&guessers, who);
    int64_t left = g ? g->until_ns - cg_mono_ns() : 0;
    return left > 0 ? (int)(left / 1000000000) + 1 : 0;
}

int cg_account_wait(const char *email, const char *address)
{
    int by_email = email ? wait_of(email) : 0;
    int by_address = address ? wait_of(address) : 0;
    return CG_MAX(by_email, by_address);
}

/* --- emails --- */

/* Not the whole of RFC 5321, but nothing that could be mistaken for something else: one @, a
 * name and a domain of plain characters; lower-cased. */
bool cg_email_read(const char *text, char out[CG_EMAIL_TEXT], struct cg_err *e)
{
    size_t n = text ? strlen(text) : 0;
    const char *at = text ? strchr(text, '@') : NULL;
    bool fine = at && at != text && at[1] && !strchr(at + 1, '@') && n < CG_EMAIL_TEXT && n >= 3;
    for (size_t i = 0; fine && i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        fine = c > ' ' && c < 0x7f && !strchr("<>()[]\\,;:\"", c);
        out[i] = (char)tolower(c);
    }
    if (!fine)
        return cg_fail(e, CG_INVALID, "email must look like name@example.org");
    out[n] = '\0';
    return true;
}

static bool check_password(const char *p, struct cg_err *e)
{
    size_t n = p ? strlen(p) : 0;
    return (n >= PASSWORD_MIN && n <= PASSWORD_MAX) ||
           cg_fail(e, CG_INVALID, "password must have %d to %d characters", PASSWORD_MIN,
                   PASSWORD_MAX);
}

struct cg_store_account *cg_account_by_email(struct cg_core *c, const char *email)
{
    size_t at = 0;
    const char *id;
    void *value;
    while (cg_map_next(&c->accounts, &at, &id, &value)) {
        struct cg_store_account *a = value;
        if (cg_streq(a->email, email))
            return a;
    }
    return NULL;
}

bool cg_account_has_password(const char *account)
{
    return cg_map_get(&hashes, account) != NULL;
}

/* --- one password at a time --- */

enum step { VERIFY, HASH };

struct attempt {
    struct attempt *next;
    struct cg_core *core;
    uv_work_t work;
    enum step step;
    char password[PASSWORD_MAX + 1]; /* wiped with the attempt */
    char replacement[PASSWORD_MAX + 1];
    char hash[crypto_pwhash_STRBYTES];
    bool known, right, hashed;
    char email[128], name[128], account[CG_ID_TEXT], keep[CG_ID_TEXT];
    char address[64], user_agent[128];
    enum { LOGIN, SIGNUP, SET } what;
    cg_login_done *done;
    void *ctx;
};

static struct {
    struct attempt *first, *last;
    unsigned n;
    bool busy;
} line;

/* What an unknown email is checked against, so that it takes as long as a known one. */
static char nobody[crypto_pwhash_STRBYTES];

static void next_attempt(void);

static void end_attempt(struct attempt *a, const struct cg_login *l, const struct cg_err *err)
{
    a->done(a->ctx, l, err);
    sodium_memzero(a, sizeof *a);
    free(a);
}

static void fail_attempt(struct attempt *a, enum cg_code code, const char *text)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, code, "%s", text);
    end_attempt(a, NULL, &e);
}

static void store_password(struct cg_core *c, const char *account, const char *hash)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "argon2id", hash);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_password, account, account, cg_buf_cstr(&b)};
    cg_store_put_item(c->store, &item, NULL, NULL);
    free(cg_map_put(&hashes, account, cg_strdup(hash)));
}

/* The session's row is the last of what was queued: once it is durable, all is. */
static void on_session(void *ctx, const struct cg_session_made *m, const struct cg_err *err)
{
    struct attempt *a = ctx;
    if (err) {
        end_attempt(a, NULL, err);
        return;
    }
    const struct cg_login l = {cg_map_get(&a->core->accounts, a->account), m->key, m->token};
    end_attempt(a, &l, NULL);
}

static void open_session(struct attempt *a)
{
    const struct cg_peer peer = {a->address, a->user_agent};
    cg_session_begin(a->core, a->account, &peer, on_session, a);
}

static void finish_signup(struct attempt *a)
{
    if (cg_account_by_email(a->core, a->email)) { /* another one was quicker */
        fail_attempt(a, CG_CONFLICT, "this email has an account already: log in");
        return;
    }
    struct cg_store_account *n = cg_alloc(sizeof *n);
    n->created_wall_ns = cg_wall_ns();
    cg_id_make("acc", n->id);
    cg_strlcpy(n->email, sizeof n->email, a->email);
    cg_strlcpy(n->name, sizeof n->name, a->name[0] ? a->name : a->email);
    cg_strlcpy(n->tier, sizeof n->tier, "member");
    cg_map_put(&a->core->accounts, n->id, n);
    cg_store_put_account(a->core->store, n, NULL, NULL);
    cg_strlcpy(a->account, sizeof a->account, n->id);
    store_password(a->core, n->id, a->hash);
    open_session(a);
}

static void finish_set(struct attempt *a)
{
    store_password(a->core, a->account, a->hash);
    cg_sessions_end_all(a->core, a->account, a->keep[0] ? a->keep : NULL);
    const struct cg_login l = {.account = cg_map_get(&a->core->accounts, a->account)};
    end_attempt(a, &l, NULL);
}

static void on_work(uv_work_t *work)
{
    struct attempt *a = CG_CONTAINER(work, struct attempt, work);
    if (a->step == VERIFY) {
        a->right = crypto_pwhash_str_verify(a->hash, a->password, strlen(a->password)) == 0;
        return;
    }
    const char *p = a->what == SET ? a->replacement : a->password;
    a->hashed = crypto_pwhash_str(a->hash, p, strlen(p), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                  crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0;
}

static void on_worked(uv_work_t *work, int status)
{
    struct attempt *a = CG_CONTAINER(work, struct attempt, work);
    (void)status;
    line.busy = false;
    if (a->step == VERIFY && !(a->right && a->known)) {
        note_failure(a->email, EMAIL_TRIES);
        note_failure(a->address, ADDRESS_TRIES);
        cg_log(CG_LOG_INFO, CG_EVENT("login.refused"), CG_S("address", a->address));
        fail_attempt(a, CG_UNAUTHORIZED, "email or password is wrong");
    } else if (a->step == VERIFY && a->what == SET) {
        a->step = HASH;
        line.busy = true;
        CG_ASSERT(uv_queue_work(a->core->loop, &a->work, on_work, on_worked) == 0);
        return;
    } else if (a->step == VERIFY) {
        forget_failures(a->email);
        open_session(a);
    } else if (!a->hashed) {
        fail_attempt(a, CG_UNAVAILABLE, "there is no memory to hash a password: try again");
    } else if (a->what == SIGNUP) {
        finish_signup(a);
    } else {
        finish_set(a);
    }
    next_attempt();
}

static void next_attempt(void)
{
    struct attempt *a = line.first;
    if (!a || line.busy)
        return;
    line.first = a->next;
    if (!line.first)
        line.last = NULL;
    line.n--;
    line.busy = true;
    CG_ASSERT(uv_queue_work(a->core->loop, &a->work, on_work, on_worked) == 0);
}

static struct attempt *new_attempt(struct cg_core *c, const char *password,
                                   const struct cg_peer *peer, cg_login_done *done, void *ctx)
{
    struct attempt *a = cg_alloc(sizeof *a);
    a->core = c;
    a->done = done;
    a->ctx = ctx;
    cg_strlcpy(a->password, sizeof a->password, password ? password : "");
    if (peer) {
        cg_strlcpy(a->address, sizeof a->address, peer->address ? peer->address : "");
        cg_strlcpy(a->user_agent, sizeof a->user_agent, peer->user_agent ? peer->user_agent : "");
    }
    return a;
}

/* Ends at once what cannot go on: from the loop, not from inside the call. */
struct refusal {
    uv_timer_t timer;
    struct attempt *attempt;
    struct cg_err err;
};

static void free_refusal(uv_handle_t *h)
{
    free(CG_CONTAINER(h, struct refusal, timer));
}

static void on_refusal(uv_timer_t *t)
{
    struct refusal *r = CG_CONTAINER(t, struct refusal, timer);
    end_attempt(r->attempt, NULL, &r->err);
    uv_close((uv_handle_t *)t, free_refusal);
}

static void refuse(struct attempt *a, const struct cg_err *e)
{
    struct refusal *r = cg_alloc(sizeof *r);
    r->attempt = a;
    r->err = *e;
    uv_timer_init(a->core->loop, &r->timer);
    uv_timer_start(&r->timer, on_refusal, 0, 0);
}

static void submit(struct attempt *a)
{
    struct cg_err e = CG_ERR_INIT;
    if (line.n >= WAITING_MAX) {
        cg_fail(&e, CG_LIMIT, "too many log in at this moment: try again in a few seconds");
        refuse(a, &e);
        return;
    }
    line.n++;
    if (line.last)
        line.last->next = a;
    else
        line.first = a;
    line.last = a;
    next_attempt();
}

/* --- what is asked for --- */

static bool may_sign_up(const struct cg_core *c, const char *invitation, const char *email,
                        struct cg_err *e)
{
    bool needed = c->options.signup != CG_SIGNUP_OPEN;
    if (c->options.signup == CG_SIGNUP_CLOSED)
        return cg_fail(e, CG_FORBIDDEN,
                       "signup is closed on this server: its operator opens it with "
                       "accounts.signup: invited or open");
    return (!needed && !invitation) || cg_team_invited(invitation, email) ||
           cg_fail(e, CG_FORBIDDEN,
                   invitation ? "this invitation is unknown, used, too old, or for another address"
                              : "signup on this server needs an invitation into a team");
}

void cg_account_signup(struct cg_core *c, const char *email, const char *password, const char *name,
                       const char *invitation, const struct cg_peer *peer, cg_login_done *done,
                       void *ctx)
{
    struct attempt *a = new_attempt(c, password, peer, done, ctx);
    struct cg_err e = CG_ERR_INIT;
    a->what = SIGNUP;
    a->step = HASH;
    bool ok = may_sign_up(c, invitation, email, &e);
    ok = ok && cg_email_read(email, a->email, &e) && check_password(password, &e);
    if (ok && name && !cg_strlcpy(a->name, sizeof a->name, name))
        ok = cg_fail(&e, CG_INVALID, "name has more than %zu bytes", sizeof a->name - 1);
    if (ok && cg_account_by_email(c, a->email))
        ok = cg_fail(&e, CG_CONFLICT, "this email has an account already: log in");
    if (ok)
        submit(a);
    else
        refuse(a, &e);
}

void cg_account_login(struct cg_core *c, const char *email, const char *password,
                      const struct cg_peer *peer, cg_login_done *done, void *ctx)
{
    struct attempt *a = new_attempt(c, password, peer, done, ctx);
    struct cg_err e = CG_ERR_INIT;
    a->what = LOGIN;
    a->step = VERIFY;
    if (!cg_email_read(email, a->email, &e)) {
        refuse(a, &e);
        return;
    }
    int wait = cg_account_wait(a->email, a->address);
    if (wait > 0) {
        cg_fail(&e, CG_LIMIT, "too many wrong passwords: try again in %d seconds", wait);
        refuse(a, &e);
        return;
    }
    const struct cg_store_account *known = cg_account_by_email(c, a->email);
    const char *hash = known ? cg_map_get(&hashes, known->id) : NULL;
    a->known = hash != NULL && strlen(password ? password : "") <= PASSWORD_MAX;
    cg_strlcpy(a->hash, sizeof a->hash, hash ? hash : nobody);
    cg_strlcpy(a->account, sizeof a->account, known ? known->id : "");
    submit(a);
}

void cg_account_set_password(struct cg_core *c, const char *account, const char *current,
                             const char *next, const struct cg_store_key *keep, cg_login_done *done,
                             void *ctx)
{
    struct attempt *a = new_attempt(c, current, NULL, done, ctx);
    struct cg_err e = CG_ERR_INIT;
    const char *hash = cg_map_get(&hashes, account);
    const struct cg_store_account *who = cg_map_get(&c->accounts, account);
    a->what = SET;
    a->step = hash ? VERIFY : HASH;
    a->known = true;
    cg_strlcpy(a->account, sizeof a->account, account);
    cg_strlcpy(a->email, sizeof a->email, who ? who->email : "");
    cg_strlcpy(a->keep, sizeof a->keep, keep ? keep->id : "");
    bool ok = check_password(next, &e);
    if (ok && hash && !current)
        ok = cg_fail(&e, CG_INVALID, "current_password is needed: the account has a password");
    int wait = ok ? cg_account_wait(a->email, NULL) : 0;
    if (wait > 0)
        ok = cg_fail(&e, CG_LIMIT, "too many wrong passwords: try again in %d seconds", wait);
    if (!ok) {
        refuse(a, &e);
        return;
    }
    cg_strlcpy(a->replacement, sizeof a->replacement, next);
    cg_strlcpy(a->hash, sizeof a->hash, hash ? hash : "");
    submit(a);
}

/* --- start --- */

static void load_password(void *ctx, const struct cg_store_item *i)
{
    (void)ctx;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *hash = cg_json_str(j, "argon2id");
    if (hash)
        free(cg_map_put(&hashes, i->id, cg_strdup(hash)));
}

bool cg_accounts_start(struct cg_core *c, struct cg_err *e)
{
    cg_map_init(&hashes);
    cg_map_init(&guessers);
    if (crypto_pwhash_str(nobody, "", 0, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                          crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0)
        return cg_fail(e, CG_UNAVAILABLE, "there is no memory to hash a password (64 MiB)");
    return cg_store_each_item(c->store, kind_password, load_password, c, e) &&
           cg_sessions_start(c, e);
}
