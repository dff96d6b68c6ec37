/* caged login, logout, whoami. The device flow is the way in (RFC 8628): a code is shown here and
 * approved by somebody who is signed in; nothing is opened by force. What comes out of any way is
 * an API key in ~/.config/caged/config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/credentials.h"
#include "cli/prompt.h"
#include "cli/verb.h"

enum { SECRET_MAX = 256, WORDS = 16, INTERVAL_LEAST_S = 3, INTERVAL_S = 5 };

/* One string member as a body; the caller's. */
static char *body_of(const char *name, const char *value, const char *name2, const char *value2)
{
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 16384);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, name, value);
    if (name2)
        cg_jsonw_kstr(&w, name2, value2);
    cg_jsonw_obj_end(&w);
    return cg_buf_take(&b);
}

static void print_member(const char *label, const struct cg_json *j, const char *name)
{
    const char *text = cg_json_str(j, name);
    printf("%s", label);
    cli_print_text(stdout, text ? text : "", text ? strlen(text) : 0);
    putchar('\n');
}

/* The key is tried before it is kept. */
static bool keep_key(struct cli *c, struct cg_err *e)
{
    CG_OWN(cg_drop_json)
    struct cg_json *me = cli_json(c, "GET", "/v1/account", (struct cg_slice){0}, e);
    if (!me)
        return cg_wrap(e, "%s does not take this key", c->url);
    if (!cli_credentials_save(c->url, c->key, e))
        return false;
    printf("Logged in to %s.\n", c->url);
    print_member("Account: ", me, "email");
    struct cli now;
    struct cg_err ignored = CG_ERR_INIT;
    bool found = cli_find(&now, &ignored);
    if (found && !cg_streq(now.key, c->key))
        fprintf(stderr, "note: config.yaml beside it names another api_key, and that one is used "
                        "first; take it out there\n");
    cli_finish(&now);
    return true;
}

/* --- by code --- */

/* 1: the key is in c->key; 0: ask again later. */
static int poll_device(struct cli *c, const char *device_code, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *body = body_of("device_code", device_code, NULL, NULL);
    CG_OWN(cg_drop_json)
    struct cg_json *got = cli_json(c, "POST", "/v1/auth/device/token", cg_slice_of(body), e);
    const char *token = cg_json_str(got, "access_token");
    if (token) {
        c->key = cg_strdup(token);
        return 1;
    }
    if (got)
        return cg_fail(e, CG_PROTOCOL, "%s gave no token", c->url) ? 1 : -1;
    if (strcmp(e->text, "authorization_pending") == 0) {
        *e = (struct cg_err)CG_ERR_INIT;
        return 0;
    }
    if (strcmp(e->text, "access_denied") == 0)
        cg_fail(e, CG_FORBIDDEN, "the login was refused");
    else if (strcmp(e->text, "expired_token") == 0)
        cg_fail(e, CG_TIMEOUT, "nobody approved the login in time: caged login again");
    return -1;
}

static bool by_code(struct cli *c, struct cg_err *e)
{
    CG_OWN(cg_drop_json)
    struct cg_json *codes = cli_json(c, "POST", "/v1/auth/device/code", cg_slice_of("{}"), e);
    const char *device = cg_json_str(codes, "device_code");
    const char *code = cg_json_str(codes, "user_code");
    const char *url = cg_json_str(codes, "verification_url");
    if (!codes)
        return false;
    if (!device || !code || !url)
        return cg_fail(e, CG_PROTOCOL, "%s does not know the login by code", c->url);
    int64_t interval = cg_json_int(codes, "interval", INTERVAL_S);
    int64_t left = CG_MIN(cg_json_int(codes, "expires_in", 600), 3600);
    if (interval < INTERVAL_LEAST_S || interval > 60)
        interval = INTERVAL_S;
    printf("Code:  ");
    cli_print_text(stdout, code, strlen(code));
    printf("\nOpen   ");
    cli_print_text(stdout, url, strlen(url));
    printf("?code=");
    cli_print_text(stdout, code, strlen(code));
    printf("\nor, where you are logged in already: caged login --approve ");
    cli_print_text(stdout, code, strlen(code));
    printf("\nWaiting for the approval ...\n");
    fflush(stdout);
    for (; left > 0; left -= interval) {
        int state = poll_device(c, device, e);
        if (state != 0)
            return state > 0;
        sleep((unsigned)interval);
    }
    return cg_fail(e, CG_TIMEOUT, "nobody approved the login in time: caged login again");
}

/* --- by password, by key --- */

/* A session is only a way to a key: it ends when the key is there. */
static bool by_password(struct cli *c, const char *email, struct cg_err *e)
{
    struct cg_buf password;
    cg_buf_init(&password, SECRET_MAX + 8);
    bool fine = cli_read_hidden("password", &password, e);
    CG_OWN(cg_drop_free)
    char *body = fine ? body_of("email", email, "password", cg_buf_cstr(&password)) : NULL;
    CG_OWN(cg_drop_json)
    struct cg_json *session =
        fine ? cli_json(c, "POST", "/v1/auth/login", cg_slice_of(body), e) : NULL;
    cli_wipe(&password);
    if (body)
        explicit_bzero(body, strlen(body));
    const char *token = cg_json_str(session, "token");
    if (!token)
        return session ? cg_fail(e, CG_PROTOCOL, "%s gave no session", c->url) : false;
    char host[65] = "a machine";
    gethostname(host, sizeof host - 1);
    CG_OWN(cg_drop_free) char *name = cg_format("login: %s", host);
    CG_OWN(cg_drop_free) char *ask = body_of("name", name, "scope", "full");
    c->key = cg_strdup(token);
    CG_OWN(cg_drop_json)
    struct cg_json *made = cli_json(c, "POST", "/v1/account/keys", cg_slice_of(ask), e);
    struct cg_err ignored = CG_ERR_INIT;
    if (!cli_call(c, "POST", "/v1/auth/logout", (struct cg_slice){0}, NULL, &ignored))
        fprintf(stderr, "note: the login session stays open: %s\n", ignored.text);
    free(c->key);
    const char *key = cg_json_str(made, "key");
    c->key = key ? cg_strdup(key) : NULL;
    return key || (made ? cg_fail(e, CG_PROTOCOL, "%s gave no key", c->url) : false);
}

static bool by_key(struct cli *c, struct cg_err *e)
{
    struct cg_buf key;
    cg_buf_init(&key, SECRET_MAX);
    bool fine = cli_read_hidden("API key", &key, e);
    if (fine && (!cg_has_prefix(cg_buf_cstr(&key), "caged_") || strchr(key.p, '\n')))
        fine = cg_fail(e, CG_INVALID, "an API key begins with caged_ and is one line");
    if (fine)
        c->key = cg_strdup(key.p);
    cli_wipe(&key);
    return fine;
}

/* --- the other side --- */

static int decide(const char *code, bool approve)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *escaped = cli_escape(code);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/auth/device/%s", escaped);
    CG_OWN(cg_drop_json)
    struct cg_json *who = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_jsonw w;
    cg_buf_init(&body, 4096);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "user_code", code);
    cg_jsonw_kbool(&w, "approve", approve);
    cg_jsonw_obj_end(&w);
    bool fine =
        who && cli_call(&c, "POST", "/v1/auth/device/approve", cg_buf_slice(&body), NULL, &e);
    cli_finish(&c);
    if (!fine)
        return cli_error(&e);
    printf(approve ? "Let in with a key of your account:\n" : "Refused:\n");
    print_member("  program: ", who, "user_agent");
    print_member("  address: ", who, "ip");
    return 0;
}

int verb_login(int argc, char **argv)
{
    const char *url = NULL;
    const char *email = NULL;
    const char *approve = NULL;
    const char *deny = NULL;
    bool key = false;
    bool manual = false;
    char *words[WORDS];
    int n = 0;
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--url", true, &url, NULL, NULL},
                                     {"--email", true, &email, NULL, NULL},
                                     {"--approve", true, &approve, NULL, NULL},
                                     {"--deny", true, &deny, NULL, NULL},
                                     {"--key", false, NULL, &key, NULL},
                                     {"--manual", false, NULL, &manual, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_error(&e);
    if (n > 0)
        return cli_usage("login takes no \"%.40s\": a key comes on standard input, with --key",
                         words[0]);
    if ((email != NULL) + (approve != NULL) + (deny != NULL) + (key || manual) > 1)
        return cli_usage("login goes one way: --email, --key, --approve or --deny");
    if (approve || deny)
        return decide(approve ? approve : deny, approve != NULL);
    bool fine = cli_locate(&c, url, &e) && (email           ? by_password(&c, email, &e)
                                            : key || manual ? by_key(&c, &e)
                                                            : by_code(&c, &e));
    fine = fine && keep_key(&c, &e);
    cli_finish(&c);
    return fine ? 0 : cli_error(&e);
}

int verb_logout(int argc, char **argv)
{
    bool keep = argc == 2 && strcmp(argv[1], "--keep-key") == 0;
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    if (argc > 2 || (argc == 2 && !keep))
        return cli_usage("logout takes no \"%.40s\"; --keep-key leaves the key alive", argv[1]);
    if (!cli_credentials_have()) {
        printf("Nobody is logged in.\n");
        return 0;
    }
    bool ended = !keep && cli_find(&c, &e) &&
                 cli_call(&c, "POST", "/v1/auth/logout", (struct cg_slice){0}, NULL, &e);
    if (!keep)
        cli_finish(&c);
    if (!keep && !ended)
        fprintf(stderr, "note: the key is not ended on the server: %s\n", e.text);
    e = (struct cg_err)CG_ERR_INIT;
    if (!cli_credentials_save(NULL, NULL, &e))
        return cli_error(&e);
    printf("Logged out%s.\n", ended ? "; the key is ended" : "; the key is forgotten here");
    return 0;
}

int verb_whoami(int argc, char **argv)
{
    const char *text = NULL;
    bool json = false;
    char *words[WORDS];
    int n = 0;
    enum cli_format format = CLI_TABLE;
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--format", true, &text, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(text, json, &format, &e) || !cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json)
    struct cg_json *me = cli_json(&c, "GET", "/v1/account", (struct cg_slice){0}, &e);
    CG_OWN(cg_drop_free) char *url = cg_strdup(c.url);
    cli_finish(&c);
    if (!me)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, me, 2);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, me, 0);
    if (format != CLI_TABLE)
        return 0;
    printf("Server:  %s\n", url);
    print_member("Account: ", me, "email");
    print_member("Name:    ", me, "name");
    print_member("Id:      ", me, "id");
    print_member("Tier:    ", me, "tier");
    print_member("Scope:   ", me, "scope");
    return 0;
}
