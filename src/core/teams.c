/* Teams: see teams.h. A team's row stands among the accounts (tier "team", its id in place of an
 * address); members and invitations are items. A team without members is a deleted one: its row
 * stays, for the names in old records. */
#include "core/teams.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/accounts.h"
#include "core/secrets.h"
#include "core/snapshots.h"

enum { CODE_CHARS = 32, HASH_HEX = 2 * CG_STORE_HASH + 1 };

static const char kind_member[] = "team_member";
static const char kind_invitation[] = "team_invitation";
static const char *const role_names[] = {"none", "viewer", "member", "admin", "owner"};

struct member {
    struct member *next; /* in the order in which they joined */
    char team[CG_ID_TEXT], account[CG_ID_TEXT];
    enum cg_role role;
    int64_t since_wall;
};

struct invitation {
    struct invitation *next;
    char id[CG_ID_TEXT], team[CG_ID_TEXT], by[CG_ID_TEXT];
    char email[CG_EMAIL_TEXT];
    char hash[HASH_HEX];
    enum cg_role role;
    int64_t created_wall, until_wall;
};

static struct member *members;
static struct invitation *invitations;

const char *cg_role_name(enum cg_role r)
{
    return role_names[r];
}

bool cg_role_parse(const char *text, enum cg_role *out, struct cg_err *e)
{
    for (unsigned i = CG_ROLE_VIEWER; i <= CG_ROLE_OWNER; i++)
        if (cg_streq(text, role_names[i])) {
            *out = (enum cg_role)i;
            return true;
        }
    return cg_fail(e, CG_INVALID, "role must be viewer, member, admin or owner, not \"%.32s\"",
                   text ? text : "");
}

bool cg_team_is(const char *account)
{
    return cg_has_prefix(account, "team-");
}

static struct member *find_member(const char *team, const char *account)
{
    struct member *m = members;
    while (m && !(cg_streq(m->team, team) && cg_streq(m->account, account)))
        m = m->next;
    return m;
}

enum cg_role cg_team_role(const char *team, const char *account)
{
    const struct member *m = cg_team_is(team) ? find_member(team, account) : NULL;
    return m ? m->role : CG_ROLE_NONE;
}

static unsigned count_members(const char *team, const char *account, enum cg_role least)
{
    unsigned n = 0;
    for (const struct member *m = members; m; m = m->next)
        n += (!team || cg_streq(m->team, team)) && (!account || cg_streq(m->account, account)) &&
             m->role >= least;
    return n;
}

/* --- rows --- */

static void member_id(const struct member *m, char out[2 * CG_ID_TEXT])
{
    cg_snprintf(out, (size_t)2 * CG_ID_TEXT, "%s/%s", m->team, m->account);
}

static void save_member(struct cg_core *c, const struct member *m, cg_store_done *done, void *ctx)
{
    char id[2 * CG_ID_TEXT];
    char doc[96];
    member_id(m, id);
    cg_snprintf(doc, sizeof doc, "{\"role\":\"%s\",\"since\":%lld}", role_names[m->role],
                (long long)m->since_wall);
    const struct cg_store_item item = {kind_member, id, m->team, doc};
    cg_store_put_item(c->store, &item, done, ctx);
}

static struct member *add_member(const char *team, const char *account, enum cg_role role,
                                 int64_t since)
{
    struct member **at = &members;
    while (*at)
        at = &(*at)->next;
    struct member *m = cg_alloc(sizeof *m);
    (void)cg_strlcpy(m->team, sizeof m->team, team);
    (void)cg_strlcpy(m->account, sizeof m->account, account);
    m->role = role;
    m->since_wall = since;
    *at = m;
    return m;
}

static void drop_member(struct cg_core *c, struct member *m, cg_store_done *done, void *ctx)
{
    char id[2 * CG_ID_TEXT];
    struct member **at = &members;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    member_id(m, id);
    cg_store_delete_item(c->store, kind_member, id, done, ctx);
    free(m);
}

static void save_invitation(struct cg_core *c, const struct invitation *v, cg_store_done *done,
                            void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 2048);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "hash", v->hash);
    cg_jsonw_kstr(&w, "email", v->email);
    cg_jsonw_kstr(&w, "role", role_names[v->role]);
    cg_jsonw_kstr(&w, "by", v->by);
    cg_jsonw_kint(&w, "created", v->created_wall);
    cg_jsonw_kint(&w, "until", v->until_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_invitation, v->id, v->team, cg_buf_cstr(&b)};
    cg_store_put_item(c->store, &item, done, ctx);
}

static void drop_invitation(struct cg_core *c, struct invitation *v, cg_store_done *done, void *ctx)
{
    struct invitation **at = &invitations;
    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    cg_store_delete_item(c->store, kind_invitation, v->id, done, ctx);
    free(v);
}

/* --- teams --- */

static bool check_name(const char *name, struct cg_err *e)
{
    size_t n = name ? strlen(name) : 0;
    return (n > 0 && n < CG_TEAM_NAME) ||
           cg_fail(e, CG_INVALID, "name must have 1 to %d bytes", CG_TEAM_NAME - 1);
}

bool cg_team_create(struct cg_core *c, const char *account, const char *name, char id[CG_ID_TEXT],
                    cg_store_done *done, void *ctx, struct cg_err *e)
{
    if (!check_name(name, e))
        return false;
    if (count_members(NULL, account, CG_ROLE_VIEWER) >= CG_TEAMS_OF)
        return cg_fail(e, CG_LIMIT, "a person is in %d teams at most: leave one", CG_TEAMS_OF);
    struct cg_store_account *a = cg_alloc(sizeof *a);
    a->created_wall_ns = cg_wall_ns();
    cg_id_make("team", a->id);
    cg_strlcpy(a->email, sizeof a->email, a->id); /* no address: nobody can log in by it */
    cg_strlcpy(a->name, sizeof a->name, name);
    cg_strlcpy(a->tier, sizeof a->tier, "team");
    cg_strlcpy(id, CG_ID_TEXT, a->id);
    cg_map_put(&c->accounts, a->id, a);
    cg_store_put_account(c->store, a, NULL, NULL);
    save_member(c, add_member(id, account, CG_ROLE_OWNER, a->created_wall_ns), done, ctx);
    cg_log(CG_LOG_INFO, CG_EVENT("team.created"), CG_S("team", id), CG_S("by", account));
    return true;
}

bool cg_team_rename(struct cg_core *c, const char *team, const char *name, cg_store_done *done,
                    void *ctx, struct cg_err *e)
{
    struct cg_store_account *a = cg_map_get(&c->accounts, team);
    if (!check_name(name, e))
        return false;
    cg_strlcpy(a->name, sizeof a->name, name);
    cg_store_put_account(c->store, a, done, ctx);
    return true;
}

static void count_one(void *ctx, const struct cg_snapshot *s)
{
    (void)s;
    (*(unsigned *)ctx)++;
}

bool cg_team_delete(struct cg_core *c, const char *team, cg_store_done *done, void *ctx,
                    struct cg_err *e)
{
    unsigned boxes = 0;
    unsigned snapshots = 0;
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        boxes += cg_streq(sb->account, team) && sb->status != CG_STATUS_DESTROYED;
    cg_snapshots_each(c, team, NULL, count_one, &snapshots);
    if (boxes || snapshots)
        return cg_fail(e, CG_CONFLICT, "the team has %u sandboxes and %u snapshots: remove them",
                       boxes, snapshots);
    cg_core_secrets_forget(c, team);
    for (struct invitation *v = invitations, *next; v; v = next) {
        next = v->next;
        if (cg_streq(v->team, team))
            drop_invitation(c, v, NULL, NULL);
    }
    unsigned left = count_members(team, NULL, CG_ROLE_VIEWER);
    for (struct member *m = members, *next; m; m = next) {
        next = m->next;
        if (!cg_streq(m->team, team))
            continue;
        left--;
        drop_member(c, m, left == 0 ? done : NULL, left == 0 ? ctx : NULL);
    }
    cg_log(CG_LOG_INFO, CG_EVENT("team.deleted"), CG_S("team", team));
    return true;
}

/* --- joining --- */

static void hash_code(const char *code, char out[HASH_HEX])
{
    unsigned char hash[CG_STORE_HASH];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)code, strlen(code), NULL, 0);
    sodium_bin2hex(out, HASH_HEX, hash, sizeof hash);
}

static void make_code(char out[CG_INVITATION_TEXT])
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz234567";
    (void)cg_strlcpy(out, CG_INVITATION_TEXT, "caged_inv_");
    size_t n = strlen(out);
    for (size_t i = 0; i < CODE_CHARS; i++)
        out[n++] = chars[randombytes_uniform(32)];
    out[n] = '\0';
}

static void drop_old_invitations(struct cg_core *c)
{
    for (struct invitation *v = invitations, *next; v; v = next) {
        next = v->next;
        if (v->until_wall < cg_wall_ns())
            drop_invitation(c, v, NULL, NULL);
    }
}

/* Owners are made and unmade by owners. */
static bool may_give(const struct cg_team_actor *by, enum cg_role before, enum cg_role after,
                     struct cg_err *e)
{
    return by->role == CG_ROLE_OWNER ||
           (by->role == CG_ROLE_ADMIN && before < CG_ROLE_OWNER && after < CG_ROLE_OWNER) ||
           cg_fail(e, CG_FORBIDDEN, "%s of a team may not do that: %s", role_names[by->role],
                   by->role == CG_ROLE_ADMIN ? "owners are made and unmade by owners"
                                             : "its admins and owners may");
}

bool cg_team_invite(struct cg_core *c, const char *team, const struct cg_team_actor *by,
                    const char *email, enum cg_role role, char id[CG_ID_TEXT],
                    char code[CG_INVITATION_TEXT], cg_store_done *done, void *ctx, struct cg_err *e)
{
    char address[CG_EMAIL_TEXT];
    unsigned waiting = 0;
    if (!cg_email_read(email, address, e) || !may_give(by, CG_ROLE_NONE, role, e))
        return false;
    const struct cg_store_account *known = cg_account_by_email(c, address);
    if (known && find_member(team, known->id))
        return cg_fail(e, CG_CONFLICT, "%s is in the team already", address);
    drop_old_invitations(c);
    for (struct invitation *v = invitations, *next; v; v = next) {
        next = v->next;
        if (!cg_streq(v->team, team))
            continue;
        waiting++;
        if (cg_streq(v->email, address)) {
            drop_invitation(c, v, NULL, NULL);
            waiting--;
        }
    }
    if (waiting >= CG_TEAM_INVITATIONS ||
        waiting + count_members(team, NULL, CG_ROLE_VIEWER) >= CG_TEAM_MEMBERS)
        return cg_fail(e, CG_LIMIT, "a team has %d members at most, %d invitations wait at most",
                       CG_TEAM_MEMBERS, CG_TEAM_INVITATIONS);
    struct invitation *v = cg_alloc(sizeof *v);
    cg_id_make("inv", v->id);
    make_code(code);
    hash_code(code, v->hash);
    (void)cg_strlcpy(v->team, sizeof v->team, team);
    (void)cg_strlcpy(v->by, sizeof v->by, by->account);
    (void)cg_strlcpy(v->email, sizeof v->email, address);
    v->role = role;
    v->created_wall = cg_wall_ns();
    v->until_wall = v->created_wall + (int64_t)CG_INVITATION_LIFE_S * 1000000000;
    v->next = invitations;
    invitations = v;
    (void)cg_strlcpy(id, CG_ID_TEXT, v->id);
    save_invitation(c, v, done, ctx);
    return true;
}

bool cg_team_uninvite(struct cg_core *c, const char *team, const char *id, cg_store_done *done,
                      void *ctx, struct cg_err *e)
{
    struct invitation *v = invitations;
    while (v && !(cg_streq(v->team, team) && cg_streq(v->id, id)))
        v = v->next;
    if (!v)
        return cg_fail(e, CG_NOT_FOUND, "there is no invitation %.64s", id);
    drop_invitation(c, v, done, ctx);
    return true;
}

static struct invitation *find_invitation(const char *code)
{
    char hash[HASH_HEX];
    hash_code(code, hash);
    struct invitation *v = invitations;
    while (v && (!cg_streq(v->hash, hash) || v->until_wall < cg_wall_ns()))
        v = v->next;
    return v;
}

bool cg_team_invited(const char *code, const char *email)
{
    char address[CG_EMAIL_TEXT];
    const struct invitation *v = code ? find_invitation(code) : NULL;
    return v && cg_email_read(email, address, NULL) && cg_streq(v->email, address);
}

bool cg_team_join(struct cg_core *c, const char *account, const char *code, char team[CG_ID_TEXT],
                  cg_store_done *done, void *ctx, struct cg_err *e)
{
    struct invitation *v = code ? find_invitation(code) : NULL;
    if (!v)
        return cg_fail(e, CG_NOT_FOUND, "this invitation is unknown, used or too old");
    const struct cg_store_account *a = cg_map_get(&c->accounts, account);
    if (!a || !cg_streq(a->email, v->email))
        return cg_fail(e, CG_FORBIDDEN, "this invitation is for another address than yours");
    if (find_member(v->team, account))
        return cg_fail(e, CG_CONFLICT, "you are in this team already");
    if (count_members(NULL, account, CG_ROLE_VIEWER) >= CG_TEAMS_OF)
        return cg_fail(e, CG_LIMIT, "a person is in %d teams at most: leave one", CG_TEAMS_OF);
    (void)cg_strlcpy(team, CG_ID_TEXT, v->team);
    struct member *m = add_member(v->team, account, v->role, cg_wall_ns());
    save_member(c, m, NULL, NULL);
    cg_log(CG_LOG_INFO, CG_EVENT("team.joined"), CG_S("team", team), CG_S("account", account),
           CG_S("role", role_names[m->role]));
    drop_invitation(c, v, done, ctx);
    return true;
}

/* --- roles --- */

static struct member *named_member(struct cg_core *c, const char *team, const char *member,
                                   struct cg_err *e)
{
    char address[CG_EMAIL_TEXT];
    const struct cg_store_account *a =
        cg_email_read(member, address, NULL) ? cg_account_by_email(c, address) : NULL;
    struct member *m = find_member(team, a ? a->id : member);
    if (!m)
        cg_fail(e, CG_NOT_FOUND, "the team has no member %.64s", member);
    return m;
}

static bool keeps_an_owner(const struct member *m, enum cg_role after, struct cg_err *e)
{
    return m->role != CG_ROLE_OWNER || after == CG_ROLE_OWNER ||
           count_members(m->team, NULL, CG_ROLE_OWNER) > 1 ||
           cg_fail(e, CG_CONFLICT,
                   "a team keeps one owner at least: make another one first, or "
                   "delete the team");
}

bool cg_team_set_role(struct cg_core *c, const char *team, const struct cg_team_actor *by,
                      const char *member, enum cg_role role, char who[CG_ID_TEXT],
                      cg_store_done *done, void *ctx, struct cg_err *e)
{
    struct member *m = named_member(c, team, member, e);
    if (!m || !may_give(by, m->role, role, e) || !keeps_an_owner(m, role, e))
        return false;
    m->role = role;
    (void)cg_strlcpy(who, CG_ID_TEXT, m->account);
    cg_log(CG_LOG_INFO, CG_EVENT("team.role"), CG_S("team", team), CG_S("account", who),
           CG_S("role", role_names[role]));
    save_member(c, m, done, ctx);
    return true;
}

bool cg_team_remove(struct cg_core *c, const char *team, const struct cg_team_actor *by,
                    const char *member, char who[CG_ID_TEXT], cg_store_done *done, void *ctx,
                    struct cg_err *e)
{
    struct member *m = named_member(c, team, member, e);
    bool self = m && cg_streq(m->account, by->account);
    if (!m || (!self && !may_give(by, m->role, CG_ROLE_NONE, e)) ||
        !keeps_an_owner(m, CG_ROLE_NONE, e))
        return false;
    (void)cg_strlcpy(who, CG_ID_TEXT, m->account);
    cg_log(CG_LOG_INFO, CG_EVENT("team.left"), CG_S("team", team), CG_S("account", who));
    drop_member(c, m, done, ctx);
    return true;
}

/* --- looks --- */

static void write_wall(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, text);
}

static void write_head(const struct cg_store_account *a, enum cg_role role, struct cg_jsonw *w)
{
    cg_jsonw_kstr(w, "id", a->id);
    cg_jsonw_kstr(w, "name", a->name);
    cg_jsonw_kstr(w, "role", role_names[role]);
    cg_jsonw_kuint(w, "member_count", count_members(a->id, NULL, CG_ROLE_VIEWER));
    write_wall(w, "created_at", a->created_wall_ns);
}

void cg_teams_write(struct cg_core *c, const char *account, struct cg_jsonw *w)
{
    cg_jsonw_arr(w);
    for (const struct member *m = members; m; m = m->next) {
        if (!cg_streq(m->account, account))
            continue;
        cg_jsonw_obj(w);
        write_head(cg_map_get(&c->accounts, m->team), m->role, w);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
}

static void write_member(struct cg_core *c, const struct member *m, struct cg_jsonw *w)
{
    const struct cg_store_account *a = cg_map_get(&c->accounts, m->account);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "account_id", m->account);
    cg_jsonw_kstr(w, "email", a ? a->email : "");
    cg_jsonw_kstr(w, "name", a ? a->name : "");
    cg_jsonw_kstr(w, "role", role_names[m->role]);
    write_wall(w, "joined_at", m->since_wall);
    cg_jsonw_obj_end(w);
}

void cg_team_member_write(struct cg_core *c, const char *team, const char *account,
                          struct cg_jsonw *w)
{
    const struct member *m = find_member(team, account);
    if (m)
        write_member(c, m, w);
    else
        cg_jsonw_null(w);
}

void cg_team_members_write(struct cg_core *c, const char *team, struct cg_jsonw *w)
{
    cg_jsonw_arr(w);
    for (const struct member *m = members; m; m = m->next)
        if (cg_streq(m->team, team))
            write_member(c, m, w);
    cg_jsonw_arr_end(w);
}

void cg_team_write(struct cg_core *c, const char *team, enum cg_role role, struct cg_jsonw *w)
{
    drop_old_invitations(c);
    cg_jsonw_obj(w);
    write_head(cg_map_get(&c->accounts, team), role, w);
    cg_jsonw_key(w, "members");
    cg_team_members_write(c, team, w);
    cg_jsonw_key(w, "invitations");
    cg_jsonw_arr(w);
    for (const struct invitation *v = role >= CG_ROLE_ADMIN ? invitations : NULL; v; v = v->next) {
        if (!cg_streq(v->team, team))
            continue;
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "id", v->id);
        cg_jsonw_kstr(w, "email", v->email);
        cg_jsonw_kstr(w, "role", role_names[v->role]);
        cg_jsonw_kstr(w, "invited_by", v->by);
        write_wall(w, "created_at", v->created_wall);
        write_wall(w, "expires_at", v->until_wall);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

/* --- start --- */

static void load_member(void *ctx, const struct cg_store_item *i)
{
    struct cg_core *c = ctx;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    const char *slash = strchr(i->id, '/');
    enum cg_role role = CG_ROLE_NONE;
    if (!slash || !cg_role_parse(cg_json_str(j, "role"), &role, NULL) ||
        !cg_map_get(&c->accounts, i->account)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_team_member"), CG_S("id", i->id));
        return;
    }
    add_member(i->account, slash + 1, role, cg_json_int(j, "since", 0));
}

static void load_invitation(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct invitation v = {.created_wall = cg_json_int(j, "created", 0),
                           .until_wall = cg_json_int(j, "until", 0)};
    const char *hash = cg_json_str(j, "hash");
    const char *email = cg_json_str(j, "email");
    const char *by = cg_json_str(j, "by");
    (void)ctx;
    if (!hash || !email || !by || !cg_role_parse(cg_json_str(j, "role"), &v.role, NULL) ||
        !cg_strlcpy(v.hash, sizeof v.hash, hash) || !cg_strlcpy(v.email, sizeof v.email, email) ||
        !cg_strlcpy(v.by, sizeof v.by, by)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("store.bad_invitation"), CG_S("id", i->id));
        return;
    }
    (void)cg_strlcpy(v.id, sizeof v.id, i->id);
    (void)cg_strlcpy(v.team, sizeof v.team, i->account);
    struct invitation *kept = cg_alloc(sizeof *kept);
    *kept = v;
    kept->next = invitations;
    invitations = kept;
}

bool cg_teams_start(struct cg_core *c, struct cg_err *e)
{
    return cg_store_each_item(c->store, kind_member, load_member, c, e) &&
           cg_store_each_item(c->store, kind_invitation, load_invitation, c, e);
}
