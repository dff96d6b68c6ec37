/* caged verify and caged export: records as evidence. Both work on files, without a server. */
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
#include "record/verify.h"

enum { WORDS = 8, OUTPUT_MAX = 1 << 20 };

struct look {
    struct cg_buf findings; /* each ended by NUL */
    struct cg_verify_options options;
    struct cg_verify_result result;
    struct cg_seal memory;
    char key[CG_SEAL_KEY_TEXT];
    char *state_dir;
    char *unpacked; /* a temporary folder; NULL: none */
};

static void take_finding(void *ctx, const char *text)
{
    struct look *l = ctx;
    (void)cg_buf_add(&l->findings, text, strlen(text) + 1);
}

/* The folder of a sandbox's record below the state directory; the caller's, NULL: not there. */
static char *find_record(const char *state_dir, const char *id)
{
    static const char *const places[] = {"sandboxes", "archive"};
    for (size_t i = 0; i < CG_COUNT(places); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s/%s/record", state_dir, places[i], id);
        if (cg_fs_exists(path))
            return CG_MOVE(path);
    }
    return NULL;
}

static bool unpack(struct look *l, int fd, int *dir, struct cg_err *e)
{
    const char *tmp = getenv("TMPDIR");
    l->unpacked = cg_format("%s/caged-verify-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
    if (!mkdtemp(l->unpacked)) {
        cg_fail_sys(e, "make a folder like %s", l->unpacked);
        free(CG_MOVE(l->unpacked));
        return false;
    }
    *dir = open(l->unpacked, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *dir >= 0 ? cg_import(fd, *dir, e) : cg_fail_sys(e, "open %s", l->unpacked);
}

/* What this installation knows: its key, and the last seal of this record. */
static void know(struct look *l, const char *id)
{
    char *text = NULL;
    size_t n = 0;
    struct cg_digest line;
    CG_OWN(cg_drop_free) char *pub = cg_format("%s/signing.pub", l->state_dir);
    CG_OWN(cg_drop_free) char *memory = cg_format("%s/seals/%s.seal", l->state_dir, id);
    if (!l->options.key && cg_fs_slurp(pub, 256, &text, &n, NULL)) {
        text[strcspn(text, "\n")] = '\0';
        if (cg_strlcpy(l->key, sizeof l->key, text))
            l->options.key = l->key;
    }
    free(text);
    if (cg_seal_read(AT_FDCWD, memory, &l->memory, &line, NULL))
        l->options.memory = &l->memory;
    l->options.sandbox = id;
}

static bool look_at(struct look *l, const char *what, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = -1;
    CG_OWN(cg_drop_fd) int dir = -1;
    CG_OWN(cg_drop_free) char *record = NULL;
    struct stat st;
    if (cg_id_valid(what, "cage") && (record = find_record(l->state_dir, what)) != NULL)
        know(l, what);
    CG_OWN(cg_drop_free) char *seal = cg_format("%s/seals/%s.seal", l->state_dir, what);
    if (!record && cg_id_valid(what, "cage") && cg_fs_exists(seal))
        return cg_fail(
            e, CG_NOT_FOUND,
            "the record of %s is not kept any more: the operator's retention removed it, "
            "and the audit log says when (GET /v1/audit). A copy that was exported "
            "verifies as before",
            what);
    fd = open(record ? record : what, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "%s is neither a record of this machine nor a file that can be read",
                           what);
    if (S_ISDIR(st.st_mode))
        dir = CG_MOVE_FD(fd);
    else if (!unpack(l, fd, &dir, e))
        return cg_wrap(e, "%s", what);
    return cg_verify(dir, &l->options, &l->result, e);
}

static void print_json(const struct look *l)
{
    const struct cg_verify_result *r = &l->result;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    struct cg_jsonw w;
    cg_buf_init(&out, OUTPUT_MAX);
    cg_jsonw_init(&w, &out);
    cg_jsonw_obj(&w);
    cg_jsonw_kbool(&w, "valid", r->findings == 0);
    cg_jsonw_kstr(&w, "sandbox", r->sandbox);
    cg_jsonw_kbool(&w, "complete", r->ended);
    cg_jsonw_kuint(&w, "segments", r->segments);
    cg_jsonw_kuint(&w, "events", r->events);
    cg_jsonw_kuint(&w, "bytes", r->bytes);
    cg_jsonw_kuint(&w, "last_seq", r->last_seq);
    cg_jsonw_kuint(&w, "sealed_seq", r->sealed_seq);
    cg_jsonw_kuint(&w, "redacted", r->redacted);
    cg_jsonw_kuint(&w, "blobs", r->blobs);
    cg_jsonw_kuint(&w, "thinned", r->thinned);
    cg_jsonw_kstr(&w, "key", r->key[0] ? r->key : NULL);
    cg_jsonw_kbool(&w, "key_known", l->options.key != NULL);
    cg_jsonw_key(&w, "findings");
    cg_jsonw_arr(&w);
    for (size_t at = 0; at < l->findings.n; at += strlen(l->findings.p + at) + 1)
        cg_jsonw_str(&w, l->findings.p + at);
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    printf("%s\n", cg_buf_cstr(&out));
}

static void print_text(const struct look *l)
{
    const struct cg_verify_result *r = &l->result;
    for (size_t at = 0; at < l->findings.n; at += strlen(l->findings.p + at) + 1) {
        const char *text = l->findings.p + at;
        fputs("WRONG  ", stdout);
        cli_print_text(stdout, text, strlen(text));
        putchar('\n');
    }
    printf("%s: %s, %llu events in %u segments, %llu bytes\n", r->sandbox[0] ? r->sandbox : "?",
           r->findings ? "NOT VALID" : "valid", (unsigned long long)r->events,
           (unsigned)r->segments, (unsigned long long)r->bytes);
    if (!r->key[0])
        printf("not sealed yet: nothing is signed\n");
    else if (r->ended)
        printf("sealed as complete, signed by %s\n", r->key);
    else
        printf("sealed up to seq %llu of %llu, signed by %s\n", (unsigned long long)r->sealed_seq,
               (unsigned long long)r->last_seq, r->key);
    if (r->key[0] && !l->options.key)
        printf("whose key that is you must know yourself (--key compares)\n");
    if (r->redacted)
        printf("%llu lines had their content taken out\n", (unsigned long long)r->redacted);
    if (r->blobs || r->thinned)
        printf("%llu blobs are whole, %llu were thinned as the record says\n",
               (unsigned long long)r->blobs, (unsigned long long)r->thinned);
}

static void drop_look(struct look *l)
{
    struct cg_err e = CG_ERR_INIT;
    if (l->unpacked && !cg_fs_remove_tree(l->unpacked, &e))
        fprintf(stderr, "warning: %s\n", e.text);
    free(l->unpacked);
    free(l->state_dir);
    cg_buf_finish(&l->findings);
}

int verb_verify(int argc, char **argv)
{
    bool json = false;
    const char *key = NULL, *state = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--key", true, &key, NULL, NULL},
                                     {"--state-dir", true, &state, NULL, NULL},
                                     {"--json", false, NULL, &json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n != 1)
        return cli_usage("verify needs a sandbox id, an exported file or a record's folder");
    CG_OWN(drop_look) struct look l = {.state_dir = state ? cg_strdup(state) : cli_state_dir()};
    l.options = (struct cg_verify_options){.key = key, .told = take_finding, .ctx = &l};
    cg_buf_init(&l.findings, OUTPUT_MAX / 8);
    if (!look_at(&l, words[0], &e))
        return cli_error(&e);
    if (json)
        print_json(&l);
    else
        print_text(&l);
    return l.result.findings ? 1 : 0;
}

static bool export_to(const char *record, const char *id, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int dir = open(record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cg_fail_sys(e, "open %s", record);
    if (cg_streq(to, "-"))
        return cg_export(dir, id, STDOUT_FILENO, e);
    CG_OWN(cg_drop_fd) int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return cg_fail_sys(e, "make %s", to);
    bool fine = cg_export(dir, id, fd, e) && (fsync(fd) == 0 || cg_fail_sys(e, "sync %s", to));
    if (!fine)
        unlink(to);
    return fine;
}

int verb_export(int argc, char **argv)
{
    const char *to = NULL, *state = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"-o", true, &to, NULL, NULL},
                                     {"--output", true, &to, NULL, NULL},
                                     {"--state-dir", true, &state, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n != 1 || !to)
        return cli_usage("export needs a sandbox id and -o FILE (- is standard output)");
    CG_OWN(cg_drop_free) char *state_dir = state ? cg_strdup(state) : cli_state_dir();
    CG_OWN(cg_drop_free)
    char *record = cg_id_valid(words[0], "cage") ? find_record(state_dir, words[0]) : NULL;
    if (!record)
        cg_fail(&e, CG_NOT_FOUND, "there is no record of %s below %s", words[0], state_dir);
    if (!record || !export_to(record, words[0], to, &e))
        return cli_error(&e);
    return 0;
}
