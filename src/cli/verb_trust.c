/* caged trust: the score of a sandbox with its evidence; and, without a server, the score of any
 * record under any rules. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/verb.h"
#include "record/export.h"
#include "record/reader.h"
#include "trust/trust.h"

enum { WORDS = 8, OUTPUT_MAX = 16 << 20 };

static void print_what(const char *text)
{
    if (text)
        cli_print_text(stdout, text, CG_MIN(strlen(text), (size_t)100));
}

static void print_evidence(const struct cg_json *list)
{
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next)
        printf("%s%lld", v == list->child ? "" : ", ", (long long)v->integer);
}

static void print_deduction(const struct cg_json *d, bool explain)
{
    const char *at = cg_json_str(d, "at");
    const char *why = cg_json_str(d, "reason");
    printf("%-20.19s  -%-3lld %-24s %3lld  ", at ? at : "", (long long)cg_json_int(d, "points", 0),
           cg_json_str(d, "rule"), (long long)cg_json_int(d, "score", 0));
    print_what(cg_json_str(d, "what"));
    putchar('\n');
    if (!explain)
        return;
    if (why)
        printf("    %s\n", why);
    printf("    severity %s; events ", cg_json_str(d, "severity"));
    print_evidence(cg_json_get(d, "evidence"));
    printf(" (%lld seen)\n", (long long)cg_json_int(d, "hits", 1));
}

static void print_trust(const struct cg_json *t, bool explain)
{
    const struct cg_json *list = cg_json_get(t, "deductions");
    printf("Trust:  %lld of 100 (%s)\n", (long long)cg_json_int(t, "score", 100),
           cg_json_str(t, "band"));
    const struct cg_json *sessions = cg_json_get(t, "sessions");
    for (const struct cg_json *s = sessions ? sessions->child : NULL; s; s = s->next)
        printf("  %-28s %lld\n", cg_json_str(s, "session_id"),
               (long long)cg_json_int(s, "score", 100));
    if (!list || list->count == 0) {
        printf("Nothing was deducted.\n");
        return;
    }
    printf("\n%-20s  %-4s %-24s %s  %s\n", "WHEN", "COST", "RULE", "LEFT", "WHAT");
    for (const struct cg_json *d = list->child; d; d = d->next)
        print_deduction(d, explain);
}

static int show(int argc, char **argv)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    bool json = false, explain = false;
    const char *text = NULL;
    char *words[WORDS];
    int n = 0;
    enum cli_format format = CLI_TABLE;
    const struct cli_flag flags[] = {{"--explain", false, NULL, &explain, NULL},
                                     {"--format", true, &text, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) ||
        !cli_format_of(text, json, &format, &e))
        return cli_error(&e);
    if (n != 1)
        return cli_usage("caged trust <id> [--explain], caged trust recompute <id|FILE> [--rules "
                         "FILE], caged trust check [--rules FILE]");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    CG_OWN(cg_drop_free) char *id = cli_escape(words[0]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/trust", id);
    CG_OWN(cg_drop_json) struct cg_json *t = cli_json(&c, "GET", path, (struct cg_slice){0}, &e);
    cli_finish(&c);
    if (!t)
        return cli_error(&e);
    if (format == CLI_JSON)
        cli_print_json(stdout, t, 2);
    else if (format == CLI_YAML)
        cli_print_yaml(stdout, t, 0);
    else
        print_trust(t, explain);
    return 0;
}

/* --- without a server --- */

static struct cg_pack *read_rules(const char *rules, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *share = cli_share();
    CG_OWN(cg_drop_free) char *path = cg_format("%s/data/trust/default.yaml", share);
    CG_OWN(cg_drop_free) char *text = NULL;
    CG_OWN(cg_drop_free) char *over = NULL;
    size_t n = 0;
    size_t over_n = 0;
    if (!cg_fs_slurp(path, CG_PACK_MAX, &text, &n, e) ||
        (rules && !cg_fs_slurp(rules, CG_PACK_MAX, &over, &over_n, e)))
        return NULL;
    return cg_pack_read(path, (struct cg_slice){text, n}, rules ? rules : "",
                        (struct cg_slice){over, over_n}, e);
}

/* A record that can be read: of this machine, a folder, or unpacked from an export. */
struct source {
    char *unpacked; /* a temporary folder; NULL: none */
    int dir;
};

static void drop_source(struct source *s)
{
    struct cg_err e = CG_ERR_INIT;
    cg_drop_fd(&s->dir);
    if (s->unpacked && !cg_fs_remove_tree(s->unpacked, &e))
        fprintf(stderr, "warning: %s\n", e.text);
    free(s->unpacked);
}

static bool unpack(struct source *s, int fd, struct cg_err *e)
{
    const char *tmp = getenv("TMPDIR");
    s->unpacked = cg_format("%s/caged-trust-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
    if (!mkdtemp(s->unpacked)) {
        cg_fail_sys(e, "make a folder like %s", s->unpacked);
        free(CG_MOVE(s->unpacked));
        return false;
    }
    s->dir = open(s->unpacked, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->dir >= 0 ? cg_import(fd, s->dir, e) : cg_fail_sys(e, "open %s", s->unpacked);
}

static bool open_source(struct source *s, const char *what, struct cg_err *e)
{
    static const char *const places[] = {"sandboxes", "archive"};
    struct stat st;
    CG_OWN(cg_drop_free) char *state = cli_state_dir();
    for (size_t i = 0; cg_id_valid(what, "cage") && i < CG_COUNT(places); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s/%s/record", state, places[i], what);
        s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->dir >= 0)
            return true;
    }
    CG_OWN(cg_drop_fd) int fd = open(what, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "%s is neither a record of this machine nor a file that can be read",
                           what);
    if (!S_ISDIR(st.st_mode))
        return unpack(s, fd, e) || cg_wrap(e, "%s", what);
    s->dir = CG_MOVE_FD(fd);
    return true;
}

struct sum {
    struct cg_jsonw w;
    struct cg_buf text;
};

static void take_deduction(void *ctx, const struct cg_trust_deduction *d)
{
    struct sum *s = ctx;
    cg_jsonw_obj(&s->w);
    cg_trust_write(d, &s->w);
    cg_jsonw_kstr(&s->w, "reason", d->rule->explain);
    cg_jsonw_obj_end(&s->w);
}

static bool read_all(struct cg_trust *t, int dir, struct cg_err *e)
{
    struct cg_record_reader *r = cg_record_reader_open(dir, 0, e);
    enum cg_record_got got = r ? CG_RECORD_LINE : CG_RECORD_ERROR;
    while (got == CG_RECORD_LINE) {
        struct cg_record_line line;
        struct cg_slice text;
        got = cg_record_read(r, UINT64_MAX, &text, &line, e);
        if (got == CG_RECORD_LINE)
            cg_trust_line(t, &line);
    }
    cg_record_reader_close(r);
    return got == CG_RECORD_END;
}

static void put_sessions(const struct cg_trust *t, struct cg_jsonw *w)
{
    const struct cg_trust_session *list = NULL;
    unsigned n = cg_trust_sessions(t, &list);
    cg_jsonw_key(w, "sessions");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < n; i++) {
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "session_id", list[i].id);
        cg_jsonw_kuint(w, "score", cg_trust_session_score(t, list[i].id));
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
}

static int recompute(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    const char *rules = NULL;
    bool json = false, explain = false;
    char *words[WORDS];
    int n = 0;
    const struct cli_flag flags[] = {{"--rules", true, &rules, NULL, NULL},
                                     {"--explain", false, NULL, &explain, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_error(&e);
    if (n != 1)
        return cli_usage("caged trust recompute <id|FILE> [--rules FILE]");
    CG_OWN(drop_source) struct source s = {.dir = -1};
    CG_OWN(cg_drop_pack) struct cg_pack *pack = read_rules(rules, &e);
    if (!pack || !open_source(&s, words[0], &e))
        return cli_error(&e);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct sum sum;
    cg_buf_init(&text, OUTPUT_MAX);
    cg_jsonw_init(&sum.w, &text);
    cg_jsonw_obj(&sum.w);
    cg_jsonw_key(&sum.w, "deductions");
    cg_jsonw_arr(&sum.w);
    struct cg_trust *t = cg_trust_create(pack, NULL, take_deduction, &sum);
    bool fine = read_all(t, s.dir, &e);
    cg_jsonw_arr_end(&sum.w);
    put_sessions(t, &sum.w);
    cg_jsonw_kuint(&sum.w, "score", cg_trust_score(t));
    cg_jsonw_kstr(&sum.w, "band", cg_trust_band(cg_trust_score(t)));
    cg_jsonw_kstr(&sum.w, "pack", pack->name);
    cg_jsonw_kuint(&sum.w, "version", pack->version);
    cg_jsonw_kstr(&sum.w, "hash", pack->hash);
    cg_jsonw_obj_end(&sum.w);
    cg_trust_destroy(t);
    const struct cg_json_limits limits = {OUTPUT_MAX, 8, 1 << 20};
    CG_OWN(cg_drop_json)
    struct cg_json *out = fine ? cg_json_parse(cg_buf_slice(&text), &limits, &e) : NULL;
    if (!out)
        return cli_error(&e);
    if (json)
        cli_print_json(stdout, out, 2);
    else
        print_trust(out, explain);
    return 0;
}

static void on_failed(void *ctx, const char *rule, const char *text)
{
    ++*(unsigned *)ctx;
    printf("WRONG  %s: %s\n", rule, text);
}

static int check(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    const char *rules = NULL;
    char *words[WORDS];
    int n = 0;
    unsigned failures = 0;
    const struct cli_flag flags[] = {{"--rules", true, &rules, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_error(&e);
    if (n != 0)
        return cli_usage("caged trust check [--rules FILE]");
    CG_OWN(cg_drop_pack) struct cg_pack *pack = read_rules(rules, &e);
    if (!pack)
        return cli_error(&e);
    unsigned examples = cg_trust_examples(pack, on_failed, &failures);
    printf("%u rules, %u examples, %u wrong\n", pack->nrules, examples, failures);
    return failures ? 1 : 0;
}

int verb_trust(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "recompute") == 0)
        return recompute(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return check(argc - 1, argv + 1);
    return show(argc, argv);
}
