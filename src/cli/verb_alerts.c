/* caged alerts: what is to be looked at, its rules, and where notifications go. */
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/prompt.h"
#include "cli/verb.h"

enum { WORDS = 8, BODY_MAX = 8192 };

static void print_text(const char *text)
{
    if (text)
        cli_print_text(stdout, text, strlen(text));
}

static void print_alerts(const struct cg_json *all)
{
    const struct cg_json *list = cg_json_get(all, "alerts");
    if (!list || list->count == 0) {
        printf("No alerts.\n");
        return;
    }
    printf("%-18s %-9s %-9s %-20s %-16s %s\n", "ID", "SEVERITY", "STATE", "WHEN", "SANDBOX",
           "WHAT");
    for (const struct cg_json *a = list->child; a; a = a->next) {
        const char *sandbox = cg_json_str(a, "sandbox_id");
        printf("%-18s %-9s %-9s %-20.19s %-16s ", cg_json_str(a, "id"), cg_json_str(a, "severity"),
               cg_json_str(a, "state"), cg_json_str(a, "created_at"), sandbox ? sandbox : "-");
        print_text(cg_json_str(a, "title"));
        putchar('\n');
    }
}

static void print_rules(const struct cg_json *all)
{
    printf("%-18s %-18s %-8s %s\n", "ID", "TYPE", "ENABLED", "SET (0: the default)");
    for (const struct cg_json *r = all->child; r; r = r->next) {
        const struct cg_json *config = cg_json_get(r, "config");
        printf("%-18s %-18s %-8s", cg_json_str(r, "id"), cg_json_str(r, "type"),
               cg_json_bool(r, "enabled", false) ? "yes" : "no");
        for (const struct cg_json *n = config ? config->child : NULL; n; n = n->next)
            if (n->number > 0)
                printf(" %.*s=%g", (int)n->key.n, n->key.p, n->number);
        putchar('\n');
    }
}

static void print_notes(const struct cg_json *all)
{
    const struct cg_json *list = cg_json_get(all, "notifications");
    for (const struct cg_json *n = list ? list->child : NULL; n; n = n->next) {
        printf("%s %-20.19s ", cg_json_bool(n, "read", false) ? " " : "*",
               cg_json_str(n, "created_at"));
        print_text(cg_json_str(n, "title"));
        printf("\n    ");
        print_text(cg_json_str(n, "message"));
        putchar('\n');
    }
    printf("%lld unread\n", (long long)cg_json_int(all, "unread_count", 0));
}

/* Shows what a GET answers. */
static int show(int argc, char **argv, const char *path, void (*print)(const struct cg_json *))
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    const char *text = NULL;
    bool json = false;
    char *words[WORDS];
    int n = 0;
    enum cli_format format = CLI_TABLE;
    const struct cli_flag flags[] = {{"--format", true, &text, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(text, json, &format, &e) || !cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_json) struct cg_json *all = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!all)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, all, 2);
    else if (format == CLI_TABLE && print)
        print(all);
    else
        cli_print_yaml(stdout, all, 0);
    return 0;
}

static int call(const char *method, const char *path, struct cg_slice body, const char *said)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!cli_find(&c, &e))
        return cli_error(&e);
    bool fine = cli_call(&c, method, path, body, NULL, &e);
    cli_finish(&c);
    if (!fine)
        return cli_error(&e);
    printf("%s\n", said);
    return 0;
}

static int resolve(int argc, char **argv)
{
    if (argc != 2)
        return cli_usage("alerts resolve needs the id of an alert");
    CG_OWN(cg_drop_free) char *id = cli_escape(argv[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/alerts/%s/resolve", id);
    return call("POST", path, (struct cg_slice){0}, "Resolved.");
}

/* caged alerts rule ID on|off|NAME=NUMBER… */
static int set_rule(int argc, char **argv)
{
    CG_OWN(cg_drop_buf) struct cg_buf config;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    const char *enabled = NULL;
    if (argc < 3)
        return cli_usage("caged alerts rule ID on|off, or NAME=NUMBER...");
    cg_buf_init(&config, BODY_MAX / 2);
    cg_buf_init(&body, BODY_MAX);
    for (int i = 2; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (strcmp(argv[i], "on") == 0 || strcmp(argv[i], "off") == 0)
            enabled = argv[i][1] == 'n' ? "true" : "false";
        else if (!value || !value[1] || strspn(value + 1, "0123456789.") != strlen(value + 1) ||
                 strspn(argv[i], "abcdefghijklmnopqrstuvwxyz_") != (size_t)(value - argv[i]))
            return cli_usage("\"%s\" is neither on, off nor NAME=NUMBER", argv[i]);
        else
            cg_buf_addf(&config, "%s\"%.*s\":%s", config.n ? "," : "", (int)(value - argv[i]),
                        argv[i], value + 1);
    }
    cg_buf_addf(&body, "{\"config\":{%s}", config.n ? cg_buf_cstr(&config) : "");
    if (enabled)
        cg_buf_addf(&body, ",\"enabled\":%s", enabled);
    cg_buf_addc(&body, '}');
    CG_OWN(cg_drop_free) char *id = cli_escape(argv[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/alerts/rules/%s", id);
    return call("PUT", path, cg_buf_slice(&body), "The rule is set.");
}

/* caged alerts channels KEY [VALUE]: secrets come from standard input or a prompt. */
static int set_channels(int argc, char **argv)
{
    static const char *const secret[] = {"slack_webhook_url", "discord_webhook_url", "webhook_url",
                                         "webhook_secret"};
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_err e = CG_ERR_INIT;
    struct cg_buf value;
    struct cg_jsonw w;
    bool hidden = false;
    cg_buf_init(&value, BODY_MAX / 4);
    CG_ASSERT(cg_buf_room(&value, BODY_MAX / 8));
    for (size_t i = 0; i < CG_COUNT(secret); i++)
        hidden = hidden || strcmp(argv[1], secret[i]) == 0;
    bool fine =
        argc == 3 ? cg_buf_adds(&value, argv[2]) : hidden && cli_read_hidden(argv[1], &value, &e);
    if (!fine || argc > 3) {
        cli_wipe(&value);
        return e.code != CG_OK ? cli_error(&e)
                               : cli_usage("caged alerts channels [KEY VALUE]; enabled_channels "
                                           "takes names with commas");
    }
    cg_buf_init(&body, BODY_MAX);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, argv[1]);
    if (strcmp(argv[1], "enabled_channels") == 0) {
        char *save = NULL;
        CG_OWN(cg_drop_free) char *list = cg_strdup(cg_buf_cstr(&value));
        cg_jsonw_arr(&w);
        for (char *s = strtok_r(list, ",", &save); s; s = strtok_r(NULL, ",", &save))
            cg_jsonw_str(&w, s);
        cg_jsonw_arr_end(&w);
    } else {
        cg_jsonw_strn(&w, value.p, value.n);
    }
    cg_jsonw_obj_end(&w);
    cli_wipe(&value);
    return call("PUT", "/v1/notifications/config", cg_buf_slice(&body), "Set.");
}

int verb_alerts(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "list";
    int n = argc > 1 ? argc - 1 : argc;
    char **rest = argc > 1 ? argv + 1 : argv;
    if (strcmp(what, "list") == 0 || what[0] == '-')
        return show(what[0] == '-' ? argc : n, what[0] == '-' ? argv : rest, "/v1/alerts?limit=100",
                    print_alerts);
    if (strcmp(what, "resolve") == 0)
        return resolve(n, rest);
    if (strcmp(what, "rules") == 0)
        return show(n, rest, "/v1/alerts/rules", print_rules);
    if (strcmp(what, "rule") == 0)
        return set_rule(n, rest);
    if (strcmp(what, "notifications") == 0)
        return show(n, rest, "/v1/notifications?limit=100", print_notes);
    if (strcmp(what, "test") == 0)
        return call("POST", "/v1/notifications/test", (struct cg_slice){0},
                    "Sent to every channel that is on.");
    if (strcmp(what, "channels") == 0 && (n == 1 || rest[1][0] == '-'))
        return show(n, rest, "/v1/notifications/config", NULL);
    if (strcmp(what, "channels") == 0)
        return set_channels(n, rest);
    return cli_usage("alerts does not know \"%s\": list, resolve, rules, rule, notifications, "
                     "channels, test",
                     what);
}
