/* /v1/teams: making them, who is in them, invitations. Which role may reach which route is decided
 * in acting.c. */
#include <string.h>

#include "api/api.h"

static void on_done(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

/* The answer is written already. */
static void on_made(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_send_json(ctx, 201);
}

static void on_changed(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_send_json(ctx, 200);
}

static struct cg_team_actor actor(const struct op *op)
{
    return (struct cg_team_actor){op->person, op->role};
}

void api_teams(struct op *op)
{
    cg_teams_write(op->api->core, op->person, op_json(op));
    op_send_json(op, 200);
}

static void create(struct op *op, const struct cg_json *body)
{
    struct cg_core *c = op->api->core;
    struct cg_err e = CG_ERR_INIT;
    const char *name = NULL;
    char id[CG_ID_TEXT];
    if (!body_str(body, "name", &name, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    if (!cg_team_create(c, op->person, name, id, on_made, op, &e)) {
        op_fail_room(op, &e);
        return;
    }
    (void)cg_strlcpy(op->audited, sizeof op->audited, id);
    cg_team_write(c, id, CG_ROLE_OWNER, op_json(op));
}

void api_teams_create(struct op *op)
{
    op_read_json(op, create);
}

void api_team(struct op *op)
{
    cg_team_write(op->api->core, op->key->account, op->role, op_json(op));
    op_send_json(op, 200);
}

static void rename_it(struct op *op, const struct cg_json *body)
{
    struct cg_core *c = op->api->core;
    struct cg_err e = CG_ERR_INIT;
    const char *name = NULL;
    if (!body_str(body, "name", &name, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    if (cg_team_rename(c, op->key->account, name, on_changed, op, &e))
        cg_team_write(c, op->key->account, op->role, op_json(op));
    else
        op_fail(op, &e);
}

void api_team_rename(struct op *op)
{
    op_read_json(op, rename_it);
}

void api_team_delete(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_team_delete(op->api->core, op->key->account, on_done, op, &e))
        op_fail(op, &e);
}

/* --- members --- */

void api_team_members(struct op *op)
{
    cg_team_members_write(op->api->core, op->key->account, op_json(op));
    op_send_json(op, 200);
}

static bool read_role(const struct cg_json *body, enum cg_role *out, struct cg_err *e)
{
    const char *text = "member";
    return body_str(body, "role", &text, e) && cg_role_parse(text, out, e);
}

static void write_invitation(struct op *op, const char *id, const char *email, enum cg_role role,
                             const char *code)
{
    char until[CG_TIME_TEXT];
    cg_time_format(cg_wall_ns() + (int64_t)CG_INVITATION_LIFE_S * 1000000000, until);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", id);
    cg_jsonw_kstr(w, "email", email);
    cg_jsonw_kstr(w, "role", cg_role_name(role));
    cg_jsonw_kstr(w, "code", code);
    cg_jsonw_kstr(w, "expires_at", until);
    cg_jsonw_obj_end(w);
}

static void invite(struct op *op, const struct cg_json *body)
{
    struct cg_core *c = op->api->core;
    struct cg_err e = CG_ERR_INIT;
    const char *email = NULL;
    enum cg_role role = CG_ROLE_NONE;
    char id[CG_ID_TEXT];
    char code[CG_INVITATION_TEXT];
    struct cg_team_actor by = actor(op);
    if (!body_str(body, "email", &email, &e) || !read_role(body, &role, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    if (cg_team_invite(c, op->key->account, &by, email, role, id, code, on_made, op, &e))
        write_invitation(op, id, email, role, code);
    else
        op_fail_room(op, &e);
}

void api_team_invite(struct op *op)
{
    op_read_json(op, invite);
}

void api_team_uninvite(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_team_uninvite(op->api->core, op->key->account, op_param(op, "invitation"), on_done, op,
                          &e))
        op_fail(op, &e);
}

static void join(struct op *op, const struct cg_json *body)
{
    struct cg_core *c = op->api->core;
    struct cg_err e = CG_ERR_INIT;
    const char *code = NULL;
    char team[CG_ID_TEXT];
    if (!body_str(body, "code", &code, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    if (!cg_team_join(c, op->person, code, team, on_changed, op, &e)) {
        op_fail_room(op, &e);
        return;
    }
    (void)cg_strlcpy(op->audited, sizeof op->audited, team);
    cg_team_write(c, team, cg_team_role(team, op->person), op_json(op));
}

void api_team_join(struct op *op)
{
    op_read_json(op, join);
}

static void set_role(struct op *op, const struct cg_json *body)
{
    struct cg_core *c = op->api->core;
    struct cg_err e = CG_ERR_INIT;
    enum cg_role role = CG_ROLE_NONE;
    char who[CG_ID_TEXT];
    struct cg_team_actor by = actor(op);
    const char *team = op->key->account;
    if (!cg_json_get(body, "role")) {
        op_problem(op, 400, "invalid", "role is needed: viewer, member, admin or owner");
        return;
    }
    if (!read_role(body, &role, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    if (!cg_team_set_role(c, team, &by, op_param(op, "member"), role, who, on_changed, op, &e)) {
        op_fail(op, &e);
        return;
    }
    if (role < CG_ROLE_MEMBER)
        api_unseat(op->api, who, team);
    cg_team_member_write(c, team, who, op_json(op));
}

void api_team_role(struct op *op)
{
    op_read_json(op, set_role);
}

static void remove_member(struct op *op, const char *member)
{
    struct cg_err e = CG_ERR_INIT;
    char who[CG_ID_TEXT];
    struct cg_team_actor by = actor(op);
    op_outlive(op);
    if (!cg_team_remove(op->api->core, op->key->account, &by, member, who, on_done, op, &e)) {
        op_fail(op, &e);
        return;
    }
    api_unseat(op->api, who, op->key->account);
}

void api_team_remove(struct op *op)
{
    remove_member(op, op_param(op, "member"));
}

void api_team_leave(struct op *op)
{
    remove_member(op, op->person);
}
