/* caged ports: what listens inside a sandbox, as the guest tells it; passwords of previews, and
 * links to them. */
#include <stdio.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/prompt.h"
#include "cli/verb.h"

enum { WORDS = 16, PASSWORD_MAX = 1024, BODY_MAX = 8192 };

static void print_text(const struct cg_json *p, const char *key, const char *none)
{
    const struct cg_json *v = cg_json_get(p, key);
    if (v && v->type == CG_JSON_STR)
        cli_print_text(stdout, v->str.p, v->str.n);
    else
        fputs(none, stdout);
}

static void print_row(const struct cg_json *p)
{
    printf("%-7lld %-9s %-10s ", (long long)cg_json_int(p, "port", 0), cg_json_str(p, "protocol"),
           cg_json_bool(p, "protected", false) ? "yes" : "no");
    print_text(p, "preview_url", "-");
    fputs("  ", stdout);
    print_text(p, "process", "");
    putchar('\n');
}

static int show(struct cli *c, const char *id, const char *name, enum cli_format format)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/ports", id);
    CG_OWN(cg_drop_json)
    struct cg_json *all = cli_json(c, "GET", path, (struct cg_slice){0}, &e);
    if (!all)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, all, 2);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, all, 0);
    else if (all->count == 0)
        printf("Nothing listens in %s.\n", name);
    else
        printf("%-7s %-9s %-10s %s\n", "PORT", "PROTOCOL", "PROTECTED", "PREVIEW URL  PROCESS");
    for (const struct cg_json *p = format == CLI_TABLE ? all->child : NULL; p; p = p->next)
        print_row(p);
    return 0;
}

/* The password comes from a prompt or from standard input, never from an argument. */
static bool write_password(struct cg_buf *body, struct cg_err *e)
{
    struct cg_buf password;
    struct cg_jsonw w;
    cg_buf_init(&password, PASSWORD_MAX);
    bool fine = cli_read_hidden("password of the preview", &password, e);
    if (fine) {
        CG_ASSERT(cg_buf_room(body, BODY_MAX)); /* no copies of it on the heap */
        cg_jsonw_init(&w, body);
        cg_jsonw_obj(&w);
        cg_jsonw_kstrn(&w, "password", password.p, password.n);
        cg_jsonw_obj_end(&w);
    }
    if (password.p)
        explicit_bzero(password.p, password.cap);
    cg_buf_finish(&password);
    return fine;
}

/* caged ports ID protect|unprotect|share PORT */
static int change(struct cli *c, const char *id, const char *what, const char *port,
                  const char *seconds)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_buf body;
    bool share = strcmp(what, "share") == 0;
    CG_OWN(cg_drop_free) char *escaped = cli_escape(port);
    CG_OWN(cg_drop_free)
    char *path =
        cg_format("/v1/sandboxes/%s/ports/%s/%s", id, escaped, share ? "share" : "protect");
    cg_buf_init(&body, BODY_MAX);
    if (strcmp(what, "unprotect") == 0) {
        bool fine = cli_call(c, "DELETE", path, (struct cg_slice){0}, NULL, &e);
        if (fine)
            printf("Port %s needs no password.\n", port);
        return fine ? 0 : cli_error(&e);
    }
    bool fine = share ? cg_buf_addf(&body, seconds ? "{\"expires_in\":%s}" : "{}", seconds)
                      : write_password(&body, &e);
    CG_OWN(cg_drop_json)
    struct cg_json *r = fine ? cli_json(c, "POST", path, cg_buf_slice(&body), &e) : NULL;
    if (body.p)
        explicit_bzero(body.p, body.cap);
    cg_buf_finish(&body);
    if (!r)
        return cli_error(&e);
    print_text(r, share ? "url" : "preview_url", "");
    printf(share ? "\n" : "  asks for the password now\n");
    return 0;
}

int verb_ports(int argc, char **argv)
{
    struct cli c;
    struct cg_err e = CG_ERR_INIT;
    const char *text = NULL;
    const char *seconds = NULL;
    bool json = false;
    char *words[WORDS];
    int n = 0;
    enum cli_format format = CLI_TABLE;
    const struct cli_flag flags[] = {{"--format", true, &text, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {"--seconds", true, &seconds, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(text, json, &format, &e))
        return cli_error(&e);
    bool changes = n == 3 && (strcmp(words[1], "protect") == 0 ||
                              strcmp(words[1], "unprotect") == 0 || strcmp(words[1], "share") == 0);
    if (n != 1 && !changes)
        return cli_usage("ports needs a sandbox, and may have protect, unprotect or share and a "
                         "port: caged ports <id> share 3000");
    if (seconds && (!changes || strcmp(words[1], "share") != 0 || !seconds[0] ||
                    strspn(seconds, "0123456789") != strlen(seconds)))
        return cli_usage("--seconds N says how long a shared link lets in");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    int code =
        changes ? change(&c, id, words[1], words[2], seconds) : show(&c, id, words[0], format);
    cli_finish(&c);
    return code;
}
