/* Signing up and in, login sessions, passwords, the device flow of `caged login`. What slows down
 * guessing is in core/accounts.c. */
#include <string.h>

#include "api/api.h"
#include "core/accounts.h"

static struct cg_peer peer_of(const struct cg_http_req *r)
{
    return (struct cg_peer){r->peer, cg_http_header(r, "user-agent")};
}

static void write_wall(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    if (wall)
        cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, wall ? text : NULL);
}

static void write_account(struct cg_jsonw *w, const struct cg_store_account *a)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", a->id);
    cg_jsonw_kstr(w, "email", a->email);
    cg_jsonw_kstr(w, "name", a->name);
    cg_jsonw_kstr(w, "tier", a->tier);
    cg_jsonw_obj_end(w);
}

/* A refusal with the time to wait, where there is one. */
static void fail_login(struct op *op, const struct cg_err *err)
{
    if (op->r && err->code == CG_LIMIT) {
        char text[16];
        int wait = cg_account_wait(op->path, op->r->peer);
        cg_snprintf(text, sizeof text, "%d", wait > 0 ? wait : 5);
        cg_http_add_header(op->r, "Retry-After", text);
        op_problem(op, 429, "rate_limited", "%s", err->text);
        return;
    }
    op_fail(op, err);
}

/* The account is there in any case; a team that was deleted meanwhile is none. */
static void on_joined(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    (void)err;
    op_send_json(op, (int)op->step);
}

static void on_login(void *ctx, const struct cg_login *l, const struct cg_err *err)
{
    struct op *op = ctx;
    char team[CG_ID_TEXT] = "";
    if (err) {
        fail_login(op, err);
        return;
    }
    cg_strlcpy(op->audited, sizeof op->audited, l->account->id);
    bool joins = op->b.n > 0 && cg_team_join(op->api->core, l->account->id, cg_buf_cstr(&op->b),
                                             team, on_joined, op, NULL);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "token", l->token);
    cg_jsonw_kstr(w, "access_token", l->token);
    cg_jsonw_kstr(w, "token_type", "Bearer");
    write_wall(w, "expires_at", l->session->expires_wall_ns);
    cg_jsonw_key(w, "account");
    write_account(w, l->account);
    cg_jsonw_kstr(w, "team", joins ? team : NULL);
    cg_jsonw_obj_end(w);
    if (!joins)
        op_send_json(op, (int)op->step);
}

static void read_credentials(struct op *op, const struct cg_json *body, bool new_one)
{
    const char *email = NULL;
    const char *password = NULL;
    const char *name = NULL;
    const char *invitation = NULL;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "email", &email, &e) || !body_str(body, "password", &password, &e) ||
        !body_str(body, "name", &name, &e) || !body_str(body, "invitation", &invitation, &e)) {
        op_fail(op, &e);
        return;
    }
    if (!email || !password) {
        op_problem(op, 400, "invalid", "%s is needed", email ? "password" : "email");
        return;
    }
    struct cg_peer peer = peer_of(op->r);
    struct cg_core *c = op->api->core;
    cg_strlcpy(op->path, sizeof op->path, email); /* for the time to wait */
    op->step = new_one ? 201 : 200;
    cg_buf_init(&op->b, 256);
    if (new_one && invitation)
        cg_buf_adds(&op->b, invitation);
    op_outlive(op);
    if (new_one)
        cg_account_signup(c, email, password, name, op->b.n ? cg_buf_cstr(&op->b) : NULL, &peer,
                          on_login, op);
    else
        cg_account_login(c, email, password, &peer, on_login, op);
}

static void signup(struct op *op, const struct cg_json *body)
{
    read_credentials(op, body, true);
}

static void login(struct op *op, const struct cg_json *body)
{
    read_credentials(op, body, false);
}

void api_signup(struct op *op)
{
    op_read_json(op, signup);
}

void api_login(struct op *op)
{
    op_read_json(op, login);
}

/* --- passwords and sessions --- */

static void on_password(void *ctx, const struct cg_login *l, const struct cg_err *err)
{
    struct op *op = ctx;
    (void)l;
    if (err)
        fail_login(op, err);
    else
        op_no_content(op);
}

static void set_password(struct op *op, const struct cg_json *body)
{
    const char *current = NULL;
    const char *next = NULL;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "current_password", &current, &e) ||
        !body_str(body, "password", &next, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    cg_account_set_password(op->api->core, op->key->account, current, next, op->key, on_password,
                            op);
}

void api_password(struct op *op)
{
    op_read_json(op, set_password);
}

static void write_session(void *ctx, const struct cg_session *s)
{
    struct cg_jsonw *w = ctx;
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", s->key->id);
    cg_jsonw_kstr(w, "user_agent", s->user_agent);
    cg_jsonw_kstr(w, "ip", s->address);
    write_wall(w, "expires_at", s->key->expires_wall_ns);
    write_wall(w, "created_at", s->key->created_wall_ns);
    cg_jsonw_obj_end(w);
}

void api_account_sessions(struct op *op)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    cg_sessions_each(op->api->core, op->key->account, write_session, w);
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

static void on_ended(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

static void end_session(struct op *op, const char *id)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_session_end(op->api->core, op->key->account, id, on_ended, op, &e))
        op_fail(op, &e);
}

void api_account_session_delete(struct op *op)
{
    end_session(op, op_param(op, "session"));
}

void api_logout(struct op *op)
{
    if (cg_key_is_session(op->key))
        end_session(op, op->key->id);
    else if (cg_has_prefix(op->key->name,
                           "login: ")) /* what the device flow and caged login made */
        op_end_key(op, op->key->id);
    else
        op_problem(op, 409, "conflict",
                   "this is an API key, not a login session: DELETE /v1/account/keys/%s ends it",
                   op->key->id);
}

/* --- the device flow --- */

void api_device_code(struct op *op)
{
    struct cg_peer peer = peer_of(op->r);
    struct cg_device d;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_device_begin(&peer, &d, &e)) {
        op_fail(op, &e);
        return;
    }
    CG_OWN(cg_drop_free)
    char *url = cg_format("http://%s/device", cg_http_header(op->r, "host"));
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "device_code", d.device_code);
    cg_jsonw_kstr(w, "user_code", d.user_code);
    cg_jsonw_kstr(w, "verification_url", url);
    cg_jsonw_kint(w, "expires_in", CG_DEVICE_LIFE_S);
    cg_jsonw_kint(w, "interval", CG_DEVICE_INTERVAL_S);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* RFC 8628's words, which are no problem body. */
static void device_refusal(struct op *op, const char *error, const char *description)
{
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "error", error);
    cg_jsonw_kstr(w, "error_description", description);
    cg_jsonw_obj_end(w);
    op_send_json(op, 400);
}

static void on_device_key(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err)
        op_fail(op, err);
    else
        op_send_json(op, 200);
}

static void hand_out(struct op *op, const char *account, const char *agent)
{
    struct cg_core *c = op->api->core;
    const struct cg_store_account *a = cg_map_get(&c->accounts, account);
    char text[CG_KEY_TEXT];
    char name[100];
    struct cg_store_key k;
    cg_snprintf(name, sizeof name, "login: %.80s", agent[0] ? agent : "a program");
    cg_core_new_key(c, account, name, "full", 0, text, &k);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "access_token", text);
    cg_jsonw_kstr(w, "token_type", "Bearer");
    cg_jsonw_kstr(w, "account_id", account);
    cg_jsonw_kstr(w, "email", a ? a->email : "");
    cg_jsonw_obj_end(w);
    op_outlive(op);
    cg_store_put_key(c->store, &k, on_device_key, op);
}

static void device_token(struct op *op, const struct cg_json *body)
{
    const char *code = NULL;
    char account[CG_ID_TEXT];
    char agent[128];
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "device_code", &code, &e)) {
        op_fail(op, &e);
        return;
    }
    switch (cg_device_poll(code ? code : "", account, agent)) {
    case CG_DEVICE_PENDING:
        device_refusal(op, "authorization_pending", "nobody has approved this login yet");
        break;
    case CG_DEVICE_DENIED:
        device_refusal(op, "access_denied", "the login was refused");
        break;
    case CG_DEVICE_EXPIRED:
        device_refusal(op, "expired_token", "this code is unknown, used up or too old");
        break;
    case CG_DEVICE_APPROVED:
        hand_out(op, account, agent);
    }
}

void api_device_token(struct op *op)
{
    op_read_json(op, device_token);
}

void api_device_look(struct op *op)
{
    struct cg_peer peer;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_device_look(op_param(op, "code"), &peer, &e)) {
        op_fail(op, &e);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "user_agent", peer.user_agent);
    cg_jsonw_kstr(w, "ip", peer.address);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void device_decide(struct op *op, const struct cg_json *body)
{
    const char *code = NULL;
    bool approve = true;
    struct cg_err e = CG_ERR_INIT;
    if (!body_str(body, "user_code", &code, &e) || !body_bool(body, "approve", &approve, &e) ||
        !cg_device_decide(code ? code : "", op->key->account, approve, &e))
        op_fail(op, &e);
    else
        op_no_content(op);
}

void api_device_decide(struct op *op)
{
    op_read_json(op, device_decide);
}
