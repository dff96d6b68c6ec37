/* caged demo: a whole life of a sandbox, shown: a small project with a failing test goes in, the
 * test fails, a fix is applied from inside, the test passes, and all of it is seen as it happens.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "cli/client.h"
#include "cli/event.h"
#include "cli/pack.h"
#include "cli/verb.h"

struct demo {
    struct cli c;
    char id[64];
    pthread_t watcher;
    bool watching;
    volatile bool stop;
    volatile unsigned long long seen, shown;
    bool color;
};

static void heading(struct demo *d, const char *text)
{
    usleep(150000); /* lets the events of the step before come first */
    printf("\n%s== %s%s\n", d->color ? "\033[1m" : "", text, d->color ? "\033[0m" : "");
    fflush(stdout);
}

/* What is worth a line: commands, programs of the project, its files, and the sandbox's own life.
 */
static bool interesting(const char *event, struct cg_slice data)
{
    if (strcmp(event, "lifecycle") == 0 || strcmp(event, "gap") == 0 || strcmp(event, "error") == 0)
        return true;
    if (strcmp(event, "file_op") == 0)
        return memmem(data.p, data.n, "\"/workspace/", 12) && !memmem(data.p, data.n, "/.git/", 6);
    if (strcmp(event, "process") == 0)
        return memmem(data.p, data.n, "\"event\":\"exec\"", 14) != NULL;
    return false;
}

static bool on_event(void *ctx, const char *id, const char *event, struct cg_slice data)
{
    struct demo *d = ctx;
    (void)id;
    if (strcmp(event, "sandbox") == 0)
        return !d->stop;
    d->seen++;
    if (interesting(event, data)) {
        d->shown++;
        flockfile(stdout);
        fputs("   | ", stdout);
        event_print(stdout, data);
        funlockfile(stdout);
        fflush(stdout);
    }
    return !d->stop;
}

static void *watch(void *arg)
{
    struct demo *d = arg;
    struct cg_err e = CG_ERR_INIT;
    bool ended = false;
    struct cli own = {.state_dir = d->c.state_dir, .url = d->c.url, .key = d->c.key};
    CG_OWN(cg_drop_free)
    char *path = cg_format("/v1/events/stream?sandbox_id=%s&after_seq=0", d->id);
    if (!cli_events(&own, path, on_event, d, &ended, &e))
        fprintf(stderr, "warning: the events ended: %s\n", e.text);
    return NULL;
}

/* Runs a command, shows its output, returns its exit code. */
static int run(struct demo *d, const char *command)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf body;
    struct cg_jsonw w;
    cg_buf_init(&body, 65536);
    cg_jsonw_init(&w, &body);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "command", command);
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/exec", d->id);
    printf("%s$ %s%s\n", d->color ? "\033[36m" : "", command, d->color ? "\033[0m" : "");
    fflush(stdout);
    CG_OWN(cg_drop_json) struct cg_json *r = cli_json(&d->c, "POST", path, cg_buf_slice(&body), &e);
    const struct cg_json *output = cg_json_get(r, "output");
    if (!r || !output)
        return cli_error(&e) + 255;
    usleep(120000);
    flockfile(stdout);
    for (const char *l = output->str.p; *l;) {
        size_t n = strcspn(l, "\n");
        cli_print_text(stdout, l, n);
        putchar('\n');
        l += n + (l[n] == '\n');
    }
    funlockfile(stdout);
    return (int)cg_json_int(r, "exit_code", 255);
}

static bool create(struct demo *d, struct cg_err *e)
{
    int64_t start = cg_mono_ns();
    CG_OWN(cg_drop_json)
    struct cg_json *s =
        cli_json(&d->c, "POST", "/v1/sandboxes",
                 cg_slice_of("{\"template\":\"minimal\",\"cpus\":1,\"memory_mb\":256,"
                             "\"disk_gb\":1,\"name\":\"demo\",\"defer_init\":true,"
                             "\"init_script\":\"./setup.sh\"}"),
                 e);
    const char *id = cg_json_str(s, "id");
    if (!id)
        return false;
    cg_strlcpy(d->id, sizeof d->id, id);
    const struct cg_json *isolation = cg_json_get(s, "isolation");
    printf("%s: a microVM of its own (%s, %s), up in %.1f s\n", id, cg_json_str(isolation, "vmm"),
           cg_json_str(isolation, "accel"), (double)(cg_mono_ns() - start) / 1e9);
    d->watching = pthread_create(&d->watcher, NULL, watch, d) == 0;
    return true;
}

static bool fill(struct demo *d, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *share = cli_share();
    CG_OWN(cg_drop_free) char *fizz = cg_format("%s/examples/fizz", share);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/init", d->id);
    if (!cg_pack_folder(&d->c, d->id, fizz, "/workspace", e))
        return false;
    CG_OWN(cg_drop_json) struct cg_json *s = cli_json(&d->c, "POST", path, (struct cg_slice){0}, e);
    const char *state = cg_json_str(cg_json_get(s, "init"), "status");
    return s && (cg_streq(state, "ok") || cg_fail(e, CG_INTERNAL, "the init script failed"));
}

static bool expect(int code, bool pass, const char *what, struct cg_err *e)
{
    return (code == 0) == pass ||
           cg_fail(e, CG_INTERNAL, "%s: exit code %d was not expected", what, code);
}

static bool act(struct demo *d, struct cg_err *e)
{
    heading(d, "A sandbox for examples/fizz");
    if (!create(d, e))
        return false;
    heading(d, "The project goes in and its init script runs");
    if (!fill(d, e))
        return false;
    heading(d, "Its test fails");
    if (!expect(run(d, "./test.sh"), false, "the test before the fix", e))
        return false;
    heading(d, "A fix, applied from inside");
    if (!expect(run(d, "git apply fix.patch && echo applied"), true, "the fix", e))
        return false;
    heading(d, "Its test passes");
    if (!expect(run(d, "./test.sh"), true, "the test after the fix", e))
        return false;
    heading(d, "What changed");
    return expect(run(d, "git --no-pager diff --stat && git --no-pager diff -U1"), true, "git diff",
                  e);
}

static void leave(struct demo *d, bool ok)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", d->id);
    heading(d, "Destroyed");
    CG_OWN(cg_drop_json)
    struct cg_json *s = cli_json(&d->c, "GET", path, (struct cg_slice){0}, NULL);
    double cost = cg_json_num(s, "total_cost", 0);
    if (!cli_call(&d->c, "DELETE", path, (struct cg_slice){0}, NULL, &e))
        fprintf(stderr, "error: %s\n", e.text);
    if (d->watching)
        pthread_join(d->watcher, NULL);
    if (ok)
        printf("%s is gone; its record stays: %llu events, %llu shown above; machine time cost "
               "$%.6f\n",
               d->id, d->seen, d->shown, cost);
}

int verb_demo(int argc, char **argv)
{
    struct demo d = {.color = cli_color(stdout)};
    struct cg_err e = CG_ERR_INIT;
    (void)argv;
    if (argc > 1)
        return cli_usage("demo takes no words");
    int64_t start = cg_mono_ns();
    char *start_server[] = {(char[]){"server"}, (char[]){"start"}, NULL};
    CG_OWN(cg_drop_free) char *state = cli_state_dir();
    CG_OWN(cg_drop_free) char *info = cg_format("%s/server.json", state);
    if (!getenv("CAGED_API_URL") && !cg_fs_exists(info) && verb_server(2, start_server) != 0)
        return 1;
    if (!cli_find(&d.c, &e))
        return cli_error(&e);
    bool ok = act(&d, &e);
    if (d.id[0])
        leave(&d, ok);
    cli_finish(&d.c);
    if (!ok)
        return cli_error(&e);
    printf("\nThe whole demo took %.1f s. Your turn: cd into a repository and say caged up\n",
           (double)(cg_mono_ns() - start) / 1e9);
    return 0;
}
