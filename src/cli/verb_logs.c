/* caged logs and caged events: the record as lines, resumed where a cut left off. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/event.h"
#include "cli/verb.h"

enum { WORDS = 64, AGAIN_S = 1 };

struct follow {
    bool json;
    bool only_told; /* logs: what `logs` shows */
    bool deaf;      /* nobody reads what we write */
    unsigned long long seq;
    unsigned long long until; /* 0: no end */
};

static bool on_event(void *ctx, const char *id, const char *event, struct cg_slice data)
{
    struct follow *f = ctx;
    if (strcmp(event, "sandbox") == 0)
        return true;
    const char *colon = strrchr(id, ':');
    if (colon)
        f->seq = strtoull(colon + 1, NULL, 10);
    if (f->only_told && strcmp(event, "lifecycle") != 0 && strcmp(event, "command") != 0 &&
        strcmp(event, "error") != 0 && strcmp(event, "gap") != 0)
        return true;
    if (f->json) {
        fwrite(data.p, 1, data.n, stdout);
        putchar('\n');
    } else {
        event_print(stdout, data);
    }
    if (fflush(stdout) != 0)
        f->deaf = true;
    return !f->deaf && !(f->until && f->seq >= f->until);
}

/* True when the stream's end was its sandbox's; a server that stops ends streams too. */
static bool is_over(struct cli *c, const char *id, struct cg_err *e)
{
    if (!id)
        return false;
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", escaped);
    CG_OWN(cg_drop_json) struct cg_json *s = cli_json(c, "GET", path, (struct cg_slice){0}, e);
    const char *status = cg_json_str(s, "status");
    return cg_streq(status, "destroyed") || cg_streq(status, "error");
}

static bool is_final(const struct cg_err *e)
{
    return e->code == CG_NOT_FOUND || e->code == CG_UNAUTHORIZED || e->code == CG_INVALID;
}

/* Streams until the sandbox's end, across restarts of the server: the next stream goes on behind
 * the last event. */
static int follow(struct cli *c, const char *id, struct follow *f)
{
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id ? id : "");
    bool told = false;
    for (;;) {
        struct cg_err e = CG_ERR_INIT;
        bool ended = false;
        CG_OWN(cg_drop_free)
        char *path =
            id ? cg_format("/v1/events/stream?sandbox_id=%s&after_seq=%llu", escaped, f->seq)
               : cg_strdup("/v1/events/stream");
        bool ok = cli_events(c, path, on_event, f, &ended, &e);
        if (f->deaf || (f->until && f->seq >= f->until) || (ok && is_over(c, id, &e)))
            return 0;
        if (is_final(&e))
            return cli_error(&e);
        if (!told && isatty(STDERR_FILENO))
            fprintf(stderr, "the server is away; waiting for it (Ctrl-C ends this)\n");
        told = true;
        sleep(AGAIN_S);
        cli_find_again(c);
    }
}

static int print_logs(struct cli *c, const char *id, const char *tail, bool json)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id);
    CG_OWN(cg_drop_free) char *number = cli_escape(tail ? tail : "100");
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/logs?tail=%s", escaped, number);
    CG_OWN(cg_drop_json) struct cg_json *list = cli_json(c, "GET", path, (struct cg_slice){0}, &e);
    if (!list)
        return cli_error(&e);
    if (json) {
        cli_print_json(stdout, list, 0);
        putchar('\n');
        return 0;
    }
    for (const struct cg_json *l = list->child; l; l = l->next) {
        const struct cg_json *m = cg_json_get(l, "message");
        printf("%s [%s] ", cg_json_str(l, "timestamp"), cg_json_str(l, "type"));
        if (m && m->type == CG_JSON_STR)
            cli_print_text(stdout, m->str.p, m->str.n);
        putchar('\n');
    }
    return 0;
}

int verb_logs(int argc, char **argv)
{
    bool live = false, json = false;
    const char *tail = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    const struct cli_flag flags[] = {{"-f", false, NULL, &live, NULL},
                                     {"--follow", false, NULL, &live, NULL},
                                     {"--tail", true, &tail, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n != 1)
        return cli_usage("logs needs one sandbox id; caged list shows them");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    struct follow f = {.json = json, .only_told = true};
    int rc = live ? follow(&c, words[0], &f) : print_logs(&c, words[0], tail, json);
    cli_finish(&c);
    return rc;
}

int verb_events(int argc, char **argv)
{
    bool live = false, json = false;
    const char *after = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    const struct cli_flag flags[] = {{"-f", false, NULL, &live, NULL},
                                     {"--follow", false, NULL, &live, NULL},
                                     {"--after", true, &after, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n > 1 || (n == 0 && !live))
        return cli_usage("events needs a sandbox id, or -f for all sandboxes from now on");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    struct follow f = {.json = json, .seq = after ? strtoull(after, NULL, 10) : 0};
    if (!live) { /* up to what is there now */
        CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
        CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/status", id);
        CG_OWN(cg_drop_json)
        struct cg_json *s = cli_json(&c, "GET", path, (struct cg_slice){0}, NULL);
        f.until = (unsigned long long)cg_json_int(s, "durable_seq", 0);
        if (s && f.seq >= f.until) {
            cli_finish(&c);
            return 0;
        }
    }
    int rc = follow(&c, n ? words[0] : NULL, &f);
    cli_finish(&c);
    return rc;
}
