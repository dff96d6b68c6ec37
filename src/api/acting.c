/* Whom a request acts for, and with what rights: the one place that knows what a role may do. A key
 * is a person's. What it names decides: an object of a team of theirs, or ?team=, lets the request
 * act as that team, through a copy of the key whose account is the team. What a role may reach is
 * what a route needs: viewers read, members make and use sandboxes, admins do what needs a full key
 * (members, budget, secrets, rules), owners delete the team. The key's own scope holds beside it.
 */
#include <string.h>

#include "api/api.h"
#include "core/replay.h"
#include "core/snapshots.h"

/* Routes that are about the person, whatever team is named: refused with one, so that nobody takes
 * a key of their own for one of the team; or the same with and without. */
enum personal { TEAMS_TOO, REFUSED, EITHER };

static enum personal personal(const struct route *t)
{
    static const struct {
        const char *prefix;
        enum personal what;
    } table[] = {{"/v1/account/budget", TEAMS_TOO},
                 {"/v1/account/", REFUSED},
                 {"/v1/account", EITHER},
                 {"/v1/auth/socket-ticket", EITHER},
                 {"/v1/auth/", REFUSED},
                 {"/v1/teams/{team}", TEAMS_TOO},
                 {"/v1/teams", EITHER},
                 {"/v1/templates", EITHER},
                 {"/v1/agents", EITHER},
                 {"/v1/prices", EITHER}};
    const char *path = strchr(t->name, '/');
    for (size_t i = 0; i < CG_COUNT(table); i++)
        if (cg_has_prefix(path, table[i].prefix))
            return table[i].what;
    return TEAMS_TOO;
}

static enum cg_role role_needed(const struct route *t)
{
    static const enum cg_role by_access[] = {CG_ROLE_VIEWER, CG_ROLE_VIEWER, CG_ROLE_MEMBER,
                                             CG_ROLE_ADMIN};
    if (t->handler == api_team_delete)
        return CG_ROLE_OWNER;
    if (t->handler == api_team_leave)
        return CG_ROLE_VIEWER;
    return by_access[t->access];
}

/* The account of the object that the path names; NULL: none is named, or none is there. */
static const char *named_account(const struct op *op)
{
    struct cg_core *c = op->api->core;
    const char *id = op_param(op, "id");
    if (id) {
        const struct cg_sandbox *sb = cg_core_find(c, id);
        return sb ? sb->account : NULL;
    }
    if ((id = op_param(op, "snapshot")) != NULL) {
        const struct cg_snapshot *s = cg_snapshot_find(c, id);
        return s && !s->hidden ? s->account : NULL;
    }
    if ((id = op_param(op, "session")) != NULL) {
        const struct cg_agent_session *s = cg_map_get(&c->replay.by_id, id);
        return s ? s->account : NULL;
    }
    return op_param(op, "team");
}

/* From here on the request is the team's; false when the role is too small for the route. */
static bool take_seat(struct op *op, const char *team, enum cg_role role, struct cg_err *e)
{
    enum cg_role needed = role_needed(op_route(op));
    if (role < needed) {
        (void)cg_strlcpy(op->audited, sizeof op->audited, team);
        return cg_fail(e, CG_FORBIDDEN, "this needs the role %s in the team; yours is %s",
                       cg_role_name(needed), cg_role_name(role));
    }
    op->acting = *op->key;
    (void)cg_strlcpy(op->acting.account, sizeof op->acting.account, team);
    op->key = &op->acting;
    op->role = role;
    return true;
}

static bool no_such_team(const char *team, struct cg_err *e)
{
    return cg_fail(e, CG_NOT_FOUND, "there is no team %.64s", team);
}

static bool act_for(struct op *op, const char *team, bool chosen, struct cg_err *e)
{
    if (cg_streq(team, op->key->account))
        return true;
    enum cg_role role = cg_team_role(team, op->person);
    if (role == CG_ROLE_NONE)
        return no_such_team(team, e);
    op->chosen = chosen;
    return take_seat(op, team, role, e);
}

bool op_act_for(struct op *op, const char *team, struct cg_err *e)
{
    if (!team || !team[0])
        return true;
    if (op->chosen && !cg_streq(team, op->key->account))
        return cg_fail(e, CG_INVALID, "team is %.64s in the body and %s in the query", team,
                       op->key->account);
    return act_for(op, team, true, e);
}

static bool decide(struct op *op, struct cg_err *e)
{
    char chosen[CG_ID_TEXT];
    enum personal about = personal(op_route(op));
    const char *owner = about == TEAMS_TOO ? named_account(op) : NULL;
    bool named = cg_http_query_has(op->r, "team");
    if (named && !op_query_str(op, "team", chosen, sizeof chosen, e))
        return false;
    if (named && about == REFUSED)
        return cg_fail(e, CG_INVALID, "this is about you and not about a team: leave out team");
    if (named && about == TEAMS_TOO && !act_for(op, chosen, true, e))
        return false;
    if (op_param(op, "team")) {
        if (!cg_team_is(owner)) /* an account is not a team of itself */
            return no_such_team(owner, e);
        bool same = !named || cg_streq(chosen, owner);
        return same ? act_for(op, owner, true, e) : no_such_team(owner, e);
    }
    /* what is nobody's, or of a team that is none of theirs, the handler does not find */
    if (!owner || op->chosen || cg_team_role(owner, op->person) == CG_ROLE_NONE)
        return true;
    return act_for(op, owner, false, e);
}

bool api_act(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    (void)cg_strlcpy(op->person, sizeof op->person, op->key->account);
    if (decide(op, &e))
        return true;
    if (op->audited[0])
        (void)api_audit(op, cg_code_http(e.code), NULL);
    api_refuse(op->r, cg_code_http(e.code),
               e.code == CG_FORBIDDEN ? "policy_denied" : cg_code_name(e.code), e.text);
    return false;
}

bool op_still_seated(struct op *op)
{
    if (op->role == CG_ROLE_NONE || cg_team_role(op->key->account, op->person) >= op->role)
        return true;
    op_problem(op, 403, "policy_denied", "your role in the team has changed meanwhile");
    return false;
}

bool op_owns(const struct op *op, const struct cg_sandbox *sb)
{
    return cg_streq(op->key->account, sb->account);
}

bool op_sees(const struct op *op, const struct cg_sandbox *sb)
{
    return op_owns(op, sb) || (!op->chosen && cg_team_role(sb->account, op->person) > CG_ROLE_NONE);
}

/* --- what outlives its request --- */

void op_seat(const struct op *op, struct api_seat *out)
{
    (void)cg_strlcpy(out->person, sizeof out->person, op->person);
    (void)cg_strlcpy(out->account, sizeof out->account, op->key->account);
}

bool seat_of(const struct api_seat *seat, const struct api_seat *who)
{
    return !who || (cg_streq(seat->person, who->person) && cg_streq(seat->account, who->account));
}

void api_unseat(struct cg_api *a, const char *person, const char *team)
{
    struct api_seat who;
    (void)cg_strlcpy(who.person, sizeof who.person, person);
    (void)cg_strlcpy(who.account, sizeof who.account, team);
    api_streams_end(a, &who);
    api_terminals_end(a, &who);
    api_tunnels_end(a, &who);
    api_mcps_end(a, &who);
}
