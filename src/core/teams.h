/* Teams: accounts that nobody logs in to, whose things several people share. A team owns sandboxes,
 * secrets, snapshots, a budget, alerts and an audit log as a person does; its members act for it,
 * each with a role. Who may do what by role is decided in api/acting.c; which role may give which
 * role, here. People join by a code that an admin hands them: an address alone proves nothing,
 * since nobody verifies addresses. One thread, the loop's. */
#ifndef CG_CORE_TEAMS_H
#define CG_CORE_TEAMS_H

#include "core/core.h"

enum {
    CG_TEAMS_OF = 32,         /* that one person may be in */
    CG_TEAM_MEMBERS = 256,    /* of one team */
    CG_TEAM_INVITATIONS = 64, /* of one team that wait */
    CG_TEAM_NAME = 100,       /* bytes, with the NUL */
    CG_INVITATION_TEXT = 48,
    CG_INVITATION_LIFE_S = 7 * 86400,
};

/* In the order of their rights. */
enum cg_role { CG_ROLE_NONE, CG_ROLE_VIEWER, CG_ROLE_MEMBER, CG_ROLE_ADMIN, CG_ROLE_OWNER };
const char *cg_role_name(enum cg_role r); /* "viewer" */
CG_MUST_USE bool cg_role_parse(const char *text, enum cg_role *out, struct cg_err *e);

/* Loads members and invitations; after cg_core_bootstrap. */
CG_MUST_USE bool cg_teams_start(struct cg_core *c, struct cg_err *e);

bool cg_team_is(const char *account); /* by the form of its id */
/* CG_ROLE_NONE: no member, or no team. */
enum cg_role cg_team_role(const char *team, const char *account);

/* Whoever changes something: a person, and their role in the team. */
struct cg_team_actor {
    const char *account;
    enum cg_role role;
};

/* A team of which `account` is the owner; its id in `id`. */
CG_MUST_USE bool cg_team_create(struct cg_core *c, const char *account, const char *name,
                                char id[CG_ID_TEXT], cg_store_done *done, void *ctx,
                                struct cg_err *e);
CG_MUST_USE bool cg_team_rename(struct cg_core *c, const char *team, const char *name,
                                cg_store_done *done, void *ctx, struct cg_err *e);
/* CG_CONFLICT while it has sandboxes or snapshots. Its secrets, invitations and members go;
 * records, usage and the audit log stay. */
CG_MUST_USE bool cg_team_delete(struct cg_core *c, const char *team, cg_store_done *done, void *ctx,
                                struct cg_err *e);

/* A code for whoever has it and the account, now or later, with this address; it is kept as a hash.
 * Replaces a waiting invitation of the same address. */
CG_MUST_USE bool cg_team_invite(struct cg_core *c, const char *team, const struct cg_team_actor *by,
                                const char *email, enum cg_role role, char id[CG_ID_TEXT],
                                char code[CG_INVITATION_TEXT], cg_store_done *done, void *ctx,
                                struct cg_err *e);
CG_MUST_USE bool cg_team_uninvite(struct cg_core *c, const char *team, const char *id,
                                  cg_store_done *done, void *ctx, struct cg_err *e);
/* Is there an invitation with this code for this address? */
bool cg_team_invited(const char *code, const char *email);
/* Uses the code up. CG_NOT_FOUND for one that is unknown, used or too old; CG_FORBIDDEN for one of
 * another address. */
CG_MUST_USE bool cg_team_join(struct cg_core *c, const char *account, const char *code,
                              char team[CG_ID_TEXT], cg_store_done *done, void *ctx,
                              struct cg_err *e);

/* `member` is an account or its email. Owners are made and unmade by owners; the last one stays
 * (CG_CONFLICT). The account that it was about is written to `who`. */
CG_MUST_USE bool cg_team_set_role(struct cg_core *c, const char *team,
                                  const struct cg_team_actor *by, const char *member,
                                  enum cg_role role, char who[CG_ID_TEXT], cg_store_done *done,
                                  void *ctx, struct cg_err *e);
/* Anybody may remove themselves. */
CG_MUST_USE bool cg_team_remove(struct cg_core *c, const char *team, const struct cg_team_actor *by,
                                const char *member, char who[CG_ID_TEXT], cg_store_done *done,
                                void *ctx, struct cg_err *e);

/* An array of the teams of a person, with the role in each. */
void cg_teams_write(struct cg_core *c, const char *account, struct cg_jsonw *w);
/* One, with its members and, for who may invite, its invitations. */
void cg_team_write(struct cg_core *c, const char *team, enum cg_role role, struct cg_jsonw *w);
/* Members alone, as an array; one of them as an object. */
void cg_team_members_write(struct cg_core *c, const char *team, struct cg_jsonw *w);
void cg_team_member_write(struct cg_core *c, const char *team, const char *account,
                          struct cg_jsonw *w);

#endif
