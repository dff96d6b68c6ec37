/* caged team: teams, who is in them, invitations. `caged --team ID VERB ...`, or CAGED_TEAM, lets
 * other verbs act for a team. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 16 };

struct wish {
    const char *role, *format;
    bool json;
    enum cli_format shown;
    char *words[WORDS];
    int n;
};

static void cell(const struct cg_json *j, const char *name, int width)
{
    const char *text = cg_json_str(j, name);
    cli_print_text(stdout, text ? text : "-", text ? strlen(text) : 1);
    for (int pad = width - (int)strlen(text ? text : "-"); pad > 0; pad--)
        putchar(' ');
}

static void row(const struct cg_json *j, const char *const names[4])
{
    static const int widths[4] = {18, 30, 9, 0};
    for (int i = 0; i < 4; i++)
        cell(j, names[i], widths[i]);
    putchar('\n');
}

static void print_rows(const struct cg_json *array, const char *title, const char *const names[4])
{
    puts(title);
    for (const struct cg_json *j = array->child; j; j = j->next)
        row(j, names);
}

static void print_teams(const struct cg_json *all)
{
    static const char *const names[4] = {"id", "name", "role", "created_at"};
    print_rows(all, "ID                NAME                          ROLE     CREATED", names);
}

static void print_team(const struct cg_json *t)
{
    static const char *const member[4] = {"account_id", "email", "role", "joined_at"};
    static const char *const waiting[4] = {"id", "email", "role", "expires_at"};
    const struct cg_json *invitations = cg_json_get(t, "invitations");
    printf("%s  ", cg_json_str(t, "id"));
    cell(t, "name", 0);
    printf("  (you: %s)\n", cg_json_str(t, "role"));
    print_rows(cg_json_get(t, "members"),
               "ACCOUNT           EMAIL                         ROLE     JOINED", member);
    if (invitations && invitations->count)
        print_rows(invitations, "INVITATION        EMAIL                         ROLE     EXPIRES",
                   waiting);
}

/* One member of a request body, or none. */
static void object(struct cg_buf *b, const char *const pairs[])
{
    struct cg_jsonw w;
    cg_buf_init(b, 16384);
    cg_jsonw_init(&w, b);
    cg_jsonw_obj(&w);
    for (size_t i = 0; pairs[i]; i += 2)
        cg_jsonw_kstr(&w, pairs[i], pairs[i + 1]);
    cg_jsonw_obj_end(&w);
}

/* "/v1/teams/<words[0]>/<middle>/<last>", each word escaped. */
static char *path_of(const struct wish *w, const char *middle, const char *last)
{
    CG_OWN(cg_drop_free) char *team = cli_escape(w->words[0]);
    CG_OWN(cg_drop_free) char *end = last ? cli_escape(last) : NULL;
    return cg_format("/v1/teams/%s%s%s%s%s", team, middle ? "/" : "", middle ? middle : "",
                     end ? "/" : "", end ? end : "");
}

/* Calls and prints what came: a team, teams, or a sentence. */
static int ask(const struct wish *w, const char *method, const char *path,
               const char *const pairs[], void (*print)(const struct cg_json *j))
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf body = {0};
    CG_OWN(cg_drop_json) struct cg_json *j = NULL;
    if (pairs)
        object(&body, pairs);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    bool fine = false;
    if (print) {
        j = cli_json(&c, method, path, cg_buf_slice(&body), &e);
        fine = j != NULL;
    } else {
        fine = cli_call(&c, method, path, cg_buf_slice(&body), NULL, &e);
    }
    cli_finish(&c);
    if (!fine)
        return cli_error(&e);
    if (print && w->shown == CLI_JSON)
        cli_print_json(stdout, j, 2);
    else if (print && w->shown == CLI_YAML)
        cli_print_yaml(stdout, j, 0);
    else if (print)
        print(j);
    return 0;
}

static int list(const struct wish *w)
{
    return ask(w, "GET", "/v1/teams", NULL, print_teams);
}

static int create(const struct wish *w)
{
    const char *const pairs[] = {"name", w->words[0], NULL};
    return ask(w, "POST", "/v1/teams", pairs, print_team);
}

static int show(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, NULL, NULL);
    return ask(w, "GET", path, NULL, print_team);
}

static int rename_it(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, NULL, NULL);
    const char *const pairs[] = {"name", w->words[1], NULL};
    return ask(w, "PATCH", path, pairs, print_team);
}

static int delete (const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, NULL, NULL);
    return ask(w, "DELETE", path, NULL, NULL);
}

static void print_code(const struct cg_json *j)
{
    printf("%s\n", cg_json_str(j, "code"));
    fputs("This code is shown once: hand it to ", stderr);
    const char *email = cg_json_str(j, "email");
    cli_print_text(stderr, email, strlen(email));
    fprintf(stderr, ", who joins with `caged team join CODE` within a week.\n");
}

static int invite(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, "members", NULL);
    const char *const pairs[] = {"email", w->words[1], "role", w->role ? w->role : "member", NULL};
    return ask(w, "POST", path, pairs, print_code);
}

static int uninvite(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, "invitations", w->words[1]);
    return ask(w, "DELETE", path, NULL, NULL);
}

static int join(const struct wish *w)
{
    const char *const pairs[] = {"code", w->words[0], NULL};
    return ask(w, "POST", "/v1/teams/join", pairs, print_team);
}

static void print_member(const struct cg_json *j)
{
    cell(j, "email", 0);
    printf(" is %s now.\n", cg_json_str(j, "role"));
}

static int role(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, "members", w->words[1]);
    const char *const pairs[] = {"role", w->words[2], NULL};
    return ask(w, "PATCH", path, pairs, print_member);
}

static int remove_it(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, "members", w->words[1]);
    return ask(w, "DELETE", path, NULL, NULL);
}

static int leave(const struct wish *w)
{
    CG_OWN(cg_drop_free) char *path = path_of(w, "leave", NULL);
    return ask(w, "POST", path, NULL, NULL);
}

static const struct {
    const char *name;
    int words;
    const char *usage;
    int (*run)(const struct wish *w);
} acts[] = {
    {"list", 0, "", list},
    {"create", 1, "NAME", create},
    {"show", 1, "TEAM", show},
    {"rename", 2, "TEAM NAME", rename_it},
    {"delete", 1, "TEAM", delete},
    {"invite", 2, "TEAM EMAIL [--role viewer|member|admin|owner]", invite},
    {"uninvite", 2, "TEAM INVITATION", uninvite},
    {"join", 1, "CODE", join},
    {"role", 3, "TEAM MEMBER viewer|member|admin|owner", role},
    {"remove", 2, "TEAM MEMBER", remove_it},
    {"leave", 1, "TEAM", leave},
};

int verb_team(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    bool named = argc > 1 && argv[1][0] != '-';
    const char *what = named ? argv[1] : "list";
    const struct cli_flag flags[] = {{"--role", true, &w.role, NULL, NULL},
                                     {"--format", true, &w.format, NULL, NULL},
                                     {"--json", false, NULL, &w.json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc - named, argv + named, flags, w.words, &w.n, false, &e) ||
        !cli_format_of(w.format, w.json, &w.shown, &e))
        return cli_error(&e);
    for (size_t i = 0; i < CG_COUNT(acts); i++) {
        if (strcmp(what, acts[i].name) != 0)
            continue;
        if (w.n != acts[i].words)
            return cli_usage("caged team %s %s", what, acts[i].usage);
        return acts[i].run(&w);
    }
    return cli_usage("team does not know \"%.40s\": list, create, show, rename, delete, invite, "
                     "uninvite, join, role, remove, leave",
                     what);
}
