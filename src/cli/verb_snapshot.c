/* caged snapshot create|list|show|restore|delete, caged fork. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 8 };

static const char usage[] =
    "snapshot needs: create SANDBOX [--name N] [--memory], list [SANDBOX], show SNAPSHOT, "
    "restore SNAPSHOT [--to SANDBOX], download SNAPSHOT --output FILE, delete SNAPSHOT";

struct wish {
    const char *name, *description, *to, *count, *output;
    bool memory, json;
    char *words[WORDS];
    int n;
};

static void print_one(const struct cg_json *s)
{
    const char *created = cg_json_str(s, "created_at");
    printf("%-18s %-18s %-10s %-7s %7.1f MB  %.19s  %s\n", cg_json_str(s, "id"),
           cg_json_str(s, "sandbox_id"), cg_json_str(s, "status"),
           cg_json_bool(s, "memory", false) ? "memory" : "disk",
           (double)cg_json_int(s, "size_bytes", 0) / 1e6, created ? created : "",
           cg_json_str(s, "name"));
}

static void show(const struct wish *w, const struct cg_json *j)
{
    if (w->json) {
        cli_print_json(stdout, j, 0);
        putchar('\n');
    } else if (j->type == CG_JSON_ARR && j->count == 0) {
        printf(
            "No snapshots. Make one with: caged snapshot create SANDBOX --name before-refactor\n");
    } else if (j->type == CG_JSON_ARR) {
        printf("%-18s %-18s %-10s %-7s %10s  %-19s  %s\n", "ID", "SANDBOX", "STATUS", "KIND",
               "SIZE", "CREATED", "NAME");
        for (const struct cg_json *s = j->child; s; s = s->next)
            print_one(s);
    } else {
        cli_print_yaml(stdout, j, 0);
    }
}

static struct cg_json *ask(const char *method, const char *path, const struct cg_buf *body,
                           struct cg_err *e)
{
    struct cli c = {0};
    struct cg_json *j = NULL;
    const struct cg_slice text = body ? cg_buf_slice(body) : (struct cg_slice){0};
    if (cli_find(&c, e))
        j = cli_json(&c, method, path, text, e);
    cli_finish(&c);
    return j;
}

static int create(const struct wish *w)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *id = cli_escape(w->words[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/snapshots", id);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    if (w->name)
        cg_jsonw_kstr(&j, "name", w->name);
    if (w->description)
        cg_jsonw_kstr(&j, "description", w->description);
    cg_jsonw_kbool(&j, "memory", w->memory);
    cg_jsonw_obj_end(&j);
    CG_OWN(cg_drop_json) struct cg_json *s = ask("POST", path, &b, &e);
    if (!s)
        return cli_error(&e);
    if (w->json)
        show(w, s);
    else
        printf("Snapshot %s of %s, %.1f MB%s; the guest stood still for %.0f ms\n",
               cg_json_str(s, "id"), w->words[1], (double)cg_json_int(s, "size_bytes", 0) / 1e6,
               w->memory ? " with its memory" : "", cg_json_num(s, "stall_ms", 0));
    return 0;
}

static int get(const struct wish *w, const char *path)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *j = ask("GET", path, NULL, &e);
    if (!j)
        return cli_error(&e);
    show(w, j);
    return 0;
}

static int list(const struct wish *w)
{
    if (w->n < 2)
        return get(w, "/v1/snapshots");
    CG_OWN(cg_drop_free) char *id = cli_escape(w->words[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/snapshots", id);
    return get(w, path);
}

static int restore(const struct wish *w)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *id = cli_escape(w->words[1]);
    CG_OWN(cg_drop_free) char *look = cg_format("/v1/snapshots/%s", id);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/snapshots/%s/restore", id);
    CG_OWN(cg_drop_json) struct cg_json *s = ask("GET", look, NULL, &e);
    if (!s)
        return cli_error(&e);
    const char *to = w->to ? w->to : cg_json_str(s, "sandbox_id");
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 512);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "target_sandbox_id", to);
    cg_jsonw_obj_end(&j);
    CG_OWN(cg_drop_json) struct cg_json *done = ask("POST", path, &b, &e);
    if (!done)
        return cli_error(&e);
    printf("Restored %s into %s\n", w->words[1], to);
    return 0;
}

static int delete_one(const struct wish *w)
{
    struct cli c = {0};
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *id = cli_escape(w->words[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/snapshots/%s", id);
    bool ok = cli_find(&c, &e) && cli_call(&c, "DELETE", path, (struct cg_slice){0}, NULL, &e);
    cli_finish(&c);
    if (!ok)
        return cli_error(&e);
    printf("Deleted %s\n", w->words[1]);
    return 0;
}

static bool to_file(void *ctx, struct cg_slice bytes)
{
    return fwrite(bytes.p, 1, bytes.n, ctx) == bytes.n;
}

/* Under another name until it is whole. */
static bool fetch(const char *id, const char *output, struct cg_err *e)
{
    struct cli c = {0};
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/snapshots/%s/download/content", escaped);
    CG_OWN(cg_drop_free) char *part = cg_format("%s.part", output);
    FILE *f = fopen(part, "wb");
    if (!f)
        return cg_fail_sys(e, "create %s", part);
    const struct cli_pipe pipe = {.write = to_file, .ctx = f};
    bool ok = cli_find(&c, e) && cli_stream(&c, "GET", path, &pipe, e);
    cli_finish(&c);
    ok = (fclose(f) == 0 || (ok && cg_fail_sys(e, "write %s", part))) && ok;
    if (ok && rename(part, output) != 0)
        ok = cg_fail_sys(e, "rename %s to %s", part, output);
    if (!ok)
        remove(part);
    return ok;
}

static int download(const struct wish *w)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free)
    char *output = w->output ? cg_strdup(w->output) : cg_format("%s.tar.gz", w->words[1]);
    if (!fetch(w->words[1], output, &e))
        return cli_error(&e);
    printf("%s holds /workspace of %s\n", output, w->words[1]);
    return 0;
}

static bool read_wish(int argc, char **argv, struct wish *w, struct cg_err *e)
{
    const struct cli_flag flags[] = {{"--name", true, &w->name, NULL, NULL},
                                     {"--description", true, &w->description, NULL, NULL},
                                     {"--to", true, &w->to, NULL, NULL},
                                     {"--output", true, &w->output, NULL, NULL},
                                     {"-o", true, &w->output, NULL, NULL},
                                     {"-n", true, &w->count, NULL, NULL},
                                     {"--count", true, &w->count, NULL, NULL},
                                     {"--memory", false, NULL, &w->memory, NULL},
                                     {"--json", false, NULL, &w->json, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS)
        return cg_fail(e, CG_INVALID, "too many words");
    return cli_flags(argc, argv, flags, w->words, &w->n, false, e);
}

int verb_snapshot(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_wish(argc, argv, &w, &e))
        return cli_usage("%s", e.text);
    const char *what = w.n > 0 ? w.words[0] : "";
    if (cg_streq(what, "list") || cg_streq(what, "ls"))
        return list(&w);
    if (w.n != 2)
        return cli_usage("%s", usage);
    if (cg_streq(what, "create"))
        return create(&w);
    if (cg_streq(what, "restore"))
        return restore(&w);
    if (cg_streq(what, "delete") || cg_streq(what, "rm"))
        return delete_one(&w);
    if (cg_streq(what, "download"))
        return download(&w);
    if (!cg_streq(what, "show"))
        return cli_usage("%s", usage);
    CG_OWN(cg_drop_free) char *id = cli_escape(w.words[1]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/snapshots/%s", id);
    return get(&w, path);
}

int verb_fork(int argc, char **argv)
{
    struct wish w = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!read_wish(argc, argv, &w, &e))
        return cli_usage("%s", e.text);
    char *end = NULL;
    long count = w.count ? strtol(w.count, &end, 10) : 1;
    if (w.n != 1)
        return cli_usage("fork needs one sandbox id; caged list shows them");
    if (w.count && (!w.count[0] || *end || count < 1 || count > 64))
        return cli_usage("-n must be from 1 to 64, not %.40s", w.count);
    CG_OWN(cg_drop_free) char *id = cli_escape(w.words[0]);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/fork", id);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 512);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kint(&j, "count", count);
    if (w.name)
        cg_jsonw_kstr(&j, "name", w.name);
    cg_jsonw_obj_end(&j);
    CG_OWN(cg_drop_json) struct cg_json *r = ask("POST", path, &b, &e);
    if (!r)
        return cli_error(&e);
    if (w.json) {
        show(&w, r);
        return 0;
    }
    const struct cg_json *made = cg_json_get(r, "sandboxes");
    for (const struct cg_json *s = made ? made->child : NULL; s; s = s->next)
        printf("%s\n", cg_json_str(s, "id"));
    fprintf(stderr, "%s stood still for %.0f ms\n", w.words[0], cg_json_num(r, "stall_ms", 0));
    const char *why = cg_json_str(r, "error");
    if (why)
        fprintf(stderr, "error: %lld of %ld could not be made: %s\n",
                (long long)cg_json_int(r, "failed", 0), count, why);
    return why ? 1 : 0;
}
