/* caged doctor: each layer on its own, then a real sandbox through a throw-away server. Names the
 * layer that fails and how to fix it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/command.h"
#include "base/fs.h"
#include "cli/client.h"
#include "cli/verb.h"
#include "image/image.h"

enum { OUTPUT = 65536, CHECK_MS = 60000, RESTORE_S = 40 };

struct doctor {
    bool json;
    unsigned failed, warned, count;
};

static void report(struct doctor *d, const char *check, int ok, const char *detail, const char *fix)
{
    /* ok: 1 fine, 0 failed, -1 a warning */
    d->count++;
    d->failed += ok == 0;
    d->warned += ok < 0;
    if (d->json) {
        printf("%s{\"check\":\"%s\",\"ok\":%s,\"warning\":%s,\"detail\":",
               d->count > 1 ? ",\n" : "", check, ok ? "true" : "false", ok < 0 ? "true" : "false");
        struct cg_json s = {.type = CG_JSON_STR, .str = cg_slice_of(detail ? detail : "")};
        cli_print_json(stdout, &s, 0);
        printf(",\"fix\":");
        s.str = cg_slice_of(fix ? fix : "");
        cli_print_json(stdout, &s, 0);
        putchar('}');
        return;
    }
    bool color = cli_color(stdout);
    static const char *const marks[] = {"!", "x", "ok"};
    static const char *const tones[] = {"\033[33m", "\033[31m", "\033[32m"};
    printf("%s%-3s%s %-12s ", color ? tones[ok + 1] : "", marks[ok + 1], color ? "\033[0m" : "",
           check);
    cli_print_text(stdout, detail ? detail : "", strlen(detail ? detail : ""));
    putchar('\n');
    if (ok != 1 && fix && fix[0])
        printf("                 fix: %s\n", fix);
    fflush(stdout);
}

/* caged-jail --check tells the machine's layers, a JSON line each. */
static void check_machine(struct doctor *d)
{
    CG_OWN(cg_drop_free) char *libexec = cli_libexec();
    CG_OWN(cg_drop_free) char *jail = cg_format("%s/caged-jail", libexec);
    CG_OWN(cg_drop_free) char *command = cg_format("exec \"$0\" --check || true");
    CG_OWN(cg_drop_free) char *out = cg_alloc(OUTPUT);
    struct cg_err e = CG_ERR_INIT;
    const char *const argv[] = {"/bin/sh", "-c", command, jail, NULL};
    if (!cg_command_output(argv, NULL, CHECK_MS, out, OUTPUT, &e)) {
        report(d, "jail", 0, e.text, "reinstall: make build, or the package");
        return;
    }
    char *save = NULL;
    for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(line), NULL, NULL);
        const char *check = cg_json_str(j, "check");
        if (!check)
            continue;
        bool ok = cg_json_bool(j, "ok", false);
        bool optional = cg_json_bool(j, "optional", false) || strcmp(check, "cgroup") == 0;
        report(d, check,
               ok         ? 1
               : optional ? -1
                          : 0,
               cg_json_str(j, "detail"), cg_json_str(j, "fix"));
    }
}

static bool check_image(struct doctor *d)
{
    struct cg_image_config c;
    struct cg_image image = {0};
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *state = cli_state_dir();
    cg_image_config_init(&c, state);
    bool ok = cg_image_resolve(&c, "minimal", &image, &e);
    if (ok) {
        CG_OWN(cg_drop_free) char *text = cg_format("minimal, kernel %s", image.kernel_version);
        report(d, "image", 1, text, NULL);
        cg_image_finish(&image);
    } else {
        report(d, "image", 0, e.text, "caged image build minimal");
    }
    cg_image_config_finish(&c);
    return ok;
}

static double seconds_since(int64_t start)
{
    return (double)(cg_mono_ns() - start) / 1e9;
}

static bool check_exec(struct doctor *d, struct cli *c, const char *id)
{
    struct cg_err e = CG_ERR_INIT;
    int64_t start = cg_mono_ns();
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/exec", id);
    CG_OWN(cg_drop_json)
    struct cg_json *r = cli_json(c, "POST", path, cg_slice_of("{\"command\":\"uname -sr\"}"), &e);
    const char *output = cg_json_str(r, "output");
    if (!output || cg_json_int(r, "exit_code", 1) != 0) {
        report(d, "exec", 0, r ? "the command failed" : e.text, "caged logs of the sandbox");
        return false;
    }
    CG_OWN(cg_drop_free)
    char *text =
        cg_format("%.*s, %.0f ms", (int)strcspn(output, "\n"), output, seconds_since(start) * 1000);
    report(d, "exec", 1, text, NULL);
    return true;
}

static bool is_restored(struct cli *c, const char *create, double *seconds)
{
    int64_t start = cg_mono_ns();
    CG_OWN(cg_drop_json)
    struct cg_json *s = cli_json(c, "POST", "/v1/sandboxes", cg_slice_of(create), NULL);
    const char *id = cg_json_str(s, "id");
    if (!id)
        return false;
    *seconds = seconds_since(start);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
    (void)!cli_call(c, "DELETE", path, (struct cg_slice){0}, NULL, NULL);
    return cg_streq(cg_json_str(cg_json_get(s, "isolation"), "started_from"), "golden snapshot");
}

/* The boot before it made the server keep a golden snapshot: some seconds later that is used. */
static void check_restore(struct doctor *d, struct cli *c, const char *create)
{
    double seconds = 0;
    bool ok = false;
    for (int64_t start = cg_mono_ns(); !ok && seconds_since(start) < RESTORE_S;) {
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        ok = is_restored(c, create, &seconds);
    }
    CG_OWN(cg_drop_free) char *text = cg_format("from a golden snapshot, %.2f s", seconds);
    report(d, "restore", ok ? 1 : -1, ok ? text : "creates boot",
           "look for golden. in server.log of the state directory");
}

static void check_sandbox(struct doctor *d, struct cli *c)
{
    static const char create[] = "{\"template\":\"minimal\",\"memory_mb\":256,\"disk_gb\":1,"
                                 "\"cpus\":1,\"name\":\"doctor\"}";
    struct cg_err e = CG_ERR_INIT;
    int64_t start = cg_mono_ns();
    CG_OWN(cg_drop_json)
    struct cg_json *s = cli_json(c, "POST", "/v1/sandboxes", cg_slice_of(create), &e);
    const char *id = cg_json_str(s, "id");
    if (!id) {
        report(d, "boot", 0, e.text, "look into server.log of the state directory");
        return;
    }
    const char *accel = cg_json_str(cg_json_get(s, "isolation"), "accel");
    CG_OWN(cg_drop_free)
    char *text = cg_format("%s on %s, %.1f s", id, accel ? accel : "?", seconds_since(start));
    report(d, "boot", 1, text, NULL);
    check_exec(d, c, id);
    start = cg_mono_ns();
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", id);
    bool ok = cli_call(c, "DELETE", path, (struct cg_slice){0}, NULL, &e);
    CG_OWN(cg_drop_free) char *gone = cg_format("%.1f s", seconds_since(start));
    report(d, "destroy", ok, ok ? gone : e.text,
           "caged server stop, then start: it sweeps leftovers");
    check_restore(d, c, create);
}

/* With a state directory of its own, so that nothing of the user's is touched. */
static void check_through_server(struct doctor *d)
{
    char dir[] = "/tmp/caged-doctor-XXXXXX";
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    if (!mkdtemp(dir) || chmod(dir, 0755) != 0) {
        report(d, "server", 0, strerror(errno), "make /tmp writable");
        return;
    }
    CG_OWN(cg_drop_free) char *state = cli_state_dir();
    CG_OWN(cg_drop_free) char *images = cg_format("%s/images", state);
    setenv("CAGED_IMAGE_DIR", images, 0);
    setenv("CAGED_STATE_DIR", dir, 1);
    unsetenv("CAGED_API_URL");
    unsetenv("CAGED_API_KEY");
    char *start[] = {(char[]){"server"}, (char[]){"start"}, (char[]){"--listen"},
                     (char[]){"127.0.0.1:0"}, NULL};
    char *stop[] = {(char[]){"server"}, (char[]){"stop"}, NULL};
    fflush(stdout);
    int keep = dup(STDOUT_FILENO);
    bool up = freopen("/dev/null", "w", stdout) && verb_server(4, start) == 0;
    fflush(stdout);
    if (keep < 0 || dup2(keep, STDOUT_FILENO) < 0)
        return;
    close(keep);
    report(d, "server", up, up ? "answers" : "does not start",
           "caged server start --foreground shows why");
    if (up && cli_find(&c, &e))
        check_sandbox(d, &c);
    cli_finish(&c);
    fflush(stdout);
    int again = dup(STDOUT_FILENO);
    if (up && freopen("/dev/null", "w", stdout))
        verb_server(2, stop);
    fflush(stdout);
    if (again >= 0 && dup2(again, STDOUT_FILENO) >= 0)
        close(again);
    if (!cg_fs_remove_tree(dir, &e))
        fprintf(stderr, "warning: %s stays: %s\n", dir, e.text);
}

int verb_doctor(int argc, char **argv)
{
    struct doctor d = {0};
    bool no_boot = false;
    char *words[64];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--json", false, NULL, &d.json, NULL},
                                     {"--no-boot", false, NULL, &no_boot, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > 60 || !cli_flags(argc, argv, flags, words, &n, false, &e) || n > 0)
        return cli_usage("%s", e.text[0] ? e.text : "doctor takes only --json and --no-boot");
    if (d.json)
        printf("[");
    check_machine(&d);
    if (check_image(&d) && !no_boot && d.failed == 0)
        check_through_server(&d);
    if (d.json)
        printf("]\n");
    else if (d.failed)
        printf("\n%u of %u checks failed\n", d.failed, d.count);
    else
        printf("\nall %u checks passed%s\n", d.count, d.warned ? ", with warnings" : "");
    return d.failed ? 1 : 0;
}
