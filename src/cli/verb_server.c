/* caged server start|stop|reload|status. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { START_MS = 30000, STOP_MS = 30000, STEP_US = 50000 };

static struct cg_json *read_info(const char *state_dir)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/server.json", state_dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    if (!cg_fs_slurp(path, 65536, &text, NULL, NULL))
        return NULL;
    return cg_json_parse(cg_slice_of(text), NULL, NULL);
}

/* The pid if that process is a caged-server still; 0 otherwise. */
static pid_t living_pid(const struct cg_json *info)
{
    char path[64];
    int64_t pid = cg_json_int(info, "pid", 0);
    if (pid <= 0)
        return 0;
    cg_snprintf(path, sizeof path, "/proc/%lld/comm", (long long)pid);
    CG_OWN(cg_drop_free) char *comm = NULL;
    return cg_fs_slurp(path, 64, &comm, NULL, NULL) && cg_has_prefix(comm, "caged-server")
               ? (pid_t)pid
               : 0;
}

static bool answers(struct cli *c)
{
    CG_OWN(cg_drop_buf) struct cg_buf out;
    struct cg_err e = CG_ERR_INIT;
    cg_buf_init(&out, 65536);
    return cli_call(c, "GET", "/health", (struct cg_slice){0}, &out, &e);
}

static void show_log_tail(const char *state_dir)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/server.log", state_dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (cg_fs_slurp(path, 32 << 20, &text, &n, NULL))
        fprintf(stderr, "the end of %s:\n%s", path, text + (n > 1500 ? n - 1500 : 0));
}

static bool run_server(char **argv, bool wait, int *status)
{
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        fprintf(stderr, "error: start %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    if (pid < 0)
        return false;
    (void)wait;
    return waitpid(pid, status, 0) == pid;
}

static int start(const char *state_dir, const char *listen, const char *config, bool foreground)
{
    CG_OWN(cg_drop_free) char *libexec = cli_libexec();
    CG_OWN(cg_drop_free) char *program = cg_format("%s/caged-server", libexec);
    char *argv[12] = {program, (char[]){"--state-dir"}, cg_strdup(state_dir)};
    int n = 3;
    const char *const pairs[][2] = {{"--listen", listen}, {"--config", config}};
    for (size_t i = 0; i < CG_COUNT(pairs); i++) {
        if (pairs[i][1]) {
            argv[n++] = cg_strdup(pairs[i][0]);
            argv[n++] = cg_strdup(pairs[i][1]);
        }
    }
    if (foreground)
        argv[n++] = cg_strdup("--foreground");
    int status = 0;
    if (foreground) {
        execv(program, argv);
        return cli_usage("start %s: %s", program, strerror(errno));
    }
    if (!run_server(argv, true, &status) || status != 0)
        return 1; /* it has said why */
    setenv("CAGED_STATE_DIR", state_dir, 1);
    int64_t until = cg_mono_ns() + (int64_t)START_MS * 1000000;
    while (cg_mono_ns() < until) {
        CG_OWN(cg_drop_json) struct cg_json *info = read_info(state_dir);
        CG_OWN(cg_drop_free)
        char *url =
            cg_format("http://%s", cg_json_str(info, "listen") ? cg_json_str(info, "listen") : "");
        struct cli c = {.url = url, .key = (char[]){"none"}};
        if (living_pid(info) && answers(&c)) {
            printf("Server runs at %s, state in %s\n", url, state_dir);
            return 0;
        }
        usleep(STEP_US);
    }
    fprintf(stderr, "error: the server did not answer within %d s\n", START_MS / 1000);
    show_log_tail(state_dir);
    return 1;
}

/* A server has it from before it says its pid until its last thread is gone. */
static bool is_held(const char *state_dir)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/server.lock", state_dir);
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/* The pid with a descriptor that means that process and no later one; 0 without a server. */
static pid_t find_process(const char *state_dir, int *process)
{
    CG_OWN(cg_drop_json) struct cg_json *info = read_info(state_dir);
    pid_t pid = living_pid(info);
    cg_drop_fd(process);
    *process = pid ? pidfd_open(pid, 0) : -1;
    return *process >= 0 ? living_pid(info) : 0; /* read again: now it cannot be another */
}

static bool has_ended(int process)
{
    struct pollfd p = {.fd = process, .events = POLLIN};
    return poll(&p, 1, STEP_US / 1000) == 1;
}

static int stop(const char *state_dir)
{
    CG_OWN(cg_drop_fd) int process = -1;
    int64_t until = cg_mono_ns() + (int64_t)STOP_MS * 1000000;
    pid_t pid;
    while ((pid = find_process(state_dir, &process)) == 0 && is_held(state_dir)) {
        if (cg_mono_ns() > until) {
            fprintf(stderr, "error: a server holds %s/server.lock, but server.json says no pid\n",
                    state_dir);
            return 1;
        }
        usleep(STEP_US); /* it starts, or comes to its end */
    }
    if (!pid) {
        printf("No server runs on %s\n", state_dir);
        return 0;
    }
    if (pidfd_send_signal(process, SIGTERM, NULL, 0) != 0 && errno != ESRCH)
        return cli_usage("stop the server (pid %d): %s", (int)pid, strerror(errno)) - 1;
    bool ended = false;
    while (!(ended = has_ended(process) && !is_held(state_dir)) && cg_mono_ns() < until)
        continue;
    if (!ended) {
        fprintf(stderr, "error: the server (pid %d) still runs\n", (int)pid);
        return 1;
    }
    printf("Server stopped; sandboxes run on and are found again at the next start\n");
    return 0;
}

/* What came of it the server says in server.json. */
static int reload(const char *state_dir)
{
    CG_OWN(cg_drop_fd) int process = -1;
    CG_OWN(cg_drop_json) struct cg_json *before = read_info(state_dir);
    int64_t times = cg_json_int(before, "reloads", 0);
    int64_t until = cg_mono_ns() + (int64_t)STOP_MS * 1000000;
    pid_t pid = find_process(state_dir, &process);
    if (!pid) {
        fprintf(stderr, "error: no server runs on %s\n", state_dir);
        return 1;
    }
    if (pidfd_send_signal(process, SIGHUP, NULL, 0) != 0)
        return cli_usage("tell the server (pid %d): %s", (int)pid, strerror(errno)) - 1;
    while (cg_mono_ns() < until && !has_ended(process)) {
        CG_OWN(cg_drop_json) struct cg_json *now = read_info(state_dir);
        const char *error = cg_json_str(now, "reload_error");
        if (cg_json_int(now, "reloads", 0) <= times)
            continue;
        if (error)
            fprintf(stderr, "error: %s; the old configuration stays\n", error);
        else
            printf("The configuration is read again\n");
        return error != NULL;
    }
    fprintf(stderr, "error: the server (pid %d) did not read its configuration again\n", (int)pid);
    return 1;
}

static int show(const char *state_dir)
{
    CG_OWN(cg_drop_json) struct cg_json *info = read_info(state_dir);
    pid_t pid = living_pid(info);
    if (!pid) {
        printf("No server runs on %s\n", state_dir);
        return 1;
    }
    printf("running   pid %d, http://%s\nversion   %s\nstate     %s\nsince     %s\n", (int)pid,
           cg_json_str(info, "listen"), cg_json_str(info, "version"), state_dir,
           cg_json_str(info, "started_at"));
    return 0;
}

int verb_server(int argc, char **argv)
{
    const char *state = NULL, *listen = NULL, *config = NULL;
    bool foreground = false;
    char *words[64];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--state-dir", true, &state, NULL, NULL},
                                     {"--listen", true, &listen, NULL, NULL},
                                     {"--config", true, &config, NULL, NULL},
                                     {"--foreground", false, NULL, &foreground, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > 60)
        argc = 60;
    if (!cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    CG_OWN(cg_drop_free) char *dir = state ? cg_strdup(state) : cli_state_dir();
    if (n == 1 && strcmp(words[0], "start") == 0)
        return start(dir, listen, config, foreground);
    if (n == 1 && strcmp(words[0], "stop") == 0)
        return stop(dir);
    if (n == 1 && strcmp(words[0], "reload") == 0)
        return reload(dir);
    if (n == 1 && strcmp(words[0], "status") == 0)
        return show(dir);
    return cli_usage("server needs start, stop, reload or status");
}
