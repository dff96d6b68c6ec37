/* PID 1 of a test guest: sets up the mounts as the agent does, observes, runs storms in child
 * processes and prints one JSON line for each with what was told. The kernel's command line says
 * what to do: storms=NAME[:COUNT[:MODE]],... where MODE is
 *   full  the sink refuses every second line      stall  nothing is drained until the storm is over
 *   quick lines are counted only, for timing
 *   show  lines are printed                       break  ftrace is switched off before the beat
 * Disk: /dev/vda, ext4 with the folders upper, work, workspace. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "guest/bpf/observe.h"
#include "storms.h"

enum { TALLIES = 96, NUMBERS = 200000 };

struct tally {
    char key[64];
    unsigned long count;
};

static struct tally tallies[TALLIES];
static unsigned char number_seen[NUMBERS]; /* argv "n=<number>" of the exec storm */
static unsigned long numbers, lines, refused, bad_lines;
static bool show, refuse, quick;
static char *last_beat;

CG_NORETURN static void die(const char *what)
{
    printf("{\"fatal\":\"%s: %s\"}\n", what, strerror(errno));
    fflush(stdout);
    sync();
    reboot(RB_AUTOBOOT);
    _exit(1);
}

static void add(const char *key, unsigned long n)
{
    for (struct tally *t = tallies; t < tallies + TALLIES; t++) {
        if (t->key[0] == '\0')
            cg_strlcpy(t->key, sizeof t->key, key);
        if (strcmp(t->key, key) == 0) {
            t->count += n;
            return;
        }
    }
    bad_lines++;
}

static void tally_exec(const struct cg_json *line)
{
    const struct cg_json *argv = cg_json_get(line, "argv");
    const struct cg_json *second = argv && argv->child ? argv->child->next : NULL;

    if (!second || second->type != CG_JSON_STR || !cg_has_prefix(second->str.p, "n="))
        return;
    unsigned long n = strtoul(second->str.p + 2, NULL, 10);
    if (n < NUMBERS && !number_seen[n]) {
        number_seen[n] = 1;
        numbers++;
    }
}

static const char *place(const char *path)
{
    return !path                                ? "none"
           : cg_has_prefix(path, "/workspace/") ? "workspace"
           : cg_has_prefix(path, "/home/agent") ? "overlay"
                                                : "other";
}

static void tally_line(const struct cg_json *line)
{
    const char *e = cg_json_str(line, "e"), *path = cg_json_str(line, "path");
    const struct cg_json *lost = cg_json_get(line, "lost");
    char key[64];

    if (strcmp(e, "file") == 0) {
        snprintf(key, sizeof key, "file.%s.%s", cg_json_str(line, "op"), place(path));
    } else if (strcmp(e, "gap") == 0) {
        for (const struct cg_json *k = lost ? lost->child : NULL; k; k = k->next) {
            snprintf(key, sizeof key, "lost.%s.%.*s", cg_json_str(line, "reason"), (int)k->key.n,
                     k->key.p);
            add(key, (unsigned long)k->integer);
        }
        snprintf(key, sizeof key, "gap.%s", cg_json_str(line, "reason"));
        if (cg_json_get(line, "hooks"))
            show = true;
    } else {
        snprintf(key, sizeof key, "%s", e);
        if (strcmp(e, "exec") == 0)
            tally_exec(line);
    }
    add(key, 1);
}

static bool sink(void *ctx, const char *text, size_t n)
{
    struct cg_err e = CG_ERR_INIT;

    (void)ctx;
    if (refuse && ++refused % 2 == 0)
        return false;
    lines++;
    if (quick && text[2] == 'e' && text[6] != 'b')
        return true;
    struct cg_json *line = cg_json_parse((struct cg_slice){text, n}, NULL, &e);
    if (!line || memchr(text, '\n', n) || !cg_json_str(line, "e")) {
        bad_lines++;
    } else {
        tally_line(line);
        if (strcmp(cg_json_str(line, "e"), "beat") == 0) {
            free(last_beat);
            last_beat = cg_strndup(text, n);
        }
    }
    if (show)
        printf("line %.*s\n", (int)n, text);
    cg_json_destroy(line);
    return true;
}

/* Modules need each other in an order that is theirs: those that fail are tried again. */
static void load_modules(void)
{
    enum { ROUNDS = 4 };

    for (int round = 0; round < ROUNDS; round++) {
        DIR *dir = opendir("/modules");
        for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
            int fd = openat(dirfd(dir), d->d_name, O_RDONLY);
            (void)!syscall(SYS_finit_module, fd, "", 0);
            close(fd);
        }
        if (dir)
            closedir(dir);
    }
}

static void copy_true(void)
{
    char bytes[65536];
    int from = open("/true", O_RDONLY), to = open("/lower/bin/true", O_CREAT | O_WRONLY, 0755);
    ssize_t n = read(from, bytes, sizeof bytes);

    if (n <= 0 || write(to, bytes, (size_t)n) != n)
        die("copy true");
    close(from);
    close(to);
}

static void build_root(void)
{
    static const char *const folders[] = {
        "/lower",     "/lower/bin",       "/lower/proc",      "/lower/sys",
        "/lower/dev", "/lower/run",       "/lower/home",      "/rw",
        "/root",      "/lower/workspace", "/lower/home/agent"};

    for (size_t i = 0; i < CG_COUNT(folders); i++)
        mkdir(folders[i], 0755);
    copy_true();
    if (mount("/dev/vda", "/rw", "ext4", 0, NULL) != 0)
        die("mount /dev/vda");
    if (mount("overlay", "/root", "overlay", 0,
              "lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work") != 0)
        die("mount overlay");
    if (mount("/rw/workspace", "/root/workspace", NULL, MS_BIND, NULL) != 0)
        die("bind workspace");
    mount("proc", "/root/proc", "proc", 0, NULL);
    mount("sysfs", "/root/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/root/dev", "devtmpfs", 0, NULL);
    mount("tmpfs", "/root/run", "tmpfs", 0, NULL);
    if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
        chdir("/") != 0)
        die("move root");
}

static void wait_for_disk(void)
{
    struct stat st;

    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    for (int i = 0; i < 500 && stat("/dev/vda", &st) != 0; i++)
        usleep(10000);
}

static int64_t cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void report(const char *name, int status, int64_t ns, int64_t cpu)
{
    printf("{\"storm\":\"%s\",\"status\":%d,\"ms\":%lld,\"reader_ms\":%lld,\"lines\":%lu,\"bad\":%"
           "lu,\"numbers\":%lu",
           name, status, (long long)(ns / 1000000), (long long)cpu, lines, bad_lines, numbers);
    for (struct tally *t = tallies; t < tallies + TALLIES && t->key[0]; t++)
        printf(",\"%s\":%lu", t->key, t->count);
    printf(",\"beat\":%s}\n", last_beat ? last_beat : "null");
    fflush(stdout);
    memset(tallies, 0, sizeof tallies);
    memset(number_seen, 0, sizeof number_seen);
    numbers = lines = bad_lines = refused = 0;
    show = refuse = quick = false;
}

/* Drains as the agent does, until the child has ended. */
static int follow(struct cg_observe *o, pid_t pid, bool stall)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), status = -1;
    struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN},
                           {.fd = o && !stall ? cg_observe_fd(o) : -1, .events = POLLIN}};

    for (;;) {
        poll(fds, 2, -1);
        if (fds[1].revents)
            cg_observe_drain(o, sink, NULL, 256 * 1024);
        if (fds[0].revents)
            break;
    }
    close(pidfd);
    waitpid(pid, &status, 0);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return status;
}

static void switch_ftrace(const char *value)
{
    int fd = open("/proc/sys/kernel/ftrace_enabled", O_WRONLY);

    if (fd < 0 || write(fd, value, 1) != 1)
        printf("switching ftrace to %s: %s\n", value, strerror(errno));
    close(fd);
}

static void run_storm(struct cg_observe *o, const struct storm *s, unsigned long count,
                      const char *mode)
{
    bool breaking = strcmp(mode, "break") == 0, stall = strcmp(mode, "stall") == 0;
    int64_t began = cg_mono_ns(), cpu = cpu_ms();

    show = strcmp(mode, "show") == 0;
    refuse = strcmp(mode, "full") == 0;
    quick = strcmp(mode, "quick") == 0;
    if (breaking)
        switch_ftrace("0");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        s->run(count);
        _exit(0);
    }
    int status = follow(o, pid, stall);
    if (o)
        cg_observe_drain(o, sink, NULL, SIZE_MAX);
    int64_t ns = cg_mono_ns() - began;
    refuse = false;
    if (o) {
        cg_observe_beat(o, sink, NULL);
        if (stall || breaking)
            cg_observe_beat(o, sink, NULL);
    }
    if (breaking)
        switch_ftrace("1");
    report(s->name, status, ns, cpu_ms() - cpu);
}

static void run_list(struct cg_observe *o, char *list)
{
    for (char *item = strtok_r(list, ",", &list); item; item = strtok_r(NULL, ",", &list)) {
        char *count = strchr(item, ':'), *mode = count ? strchr(count + 1, ':') : NULL;
        const struct storm *s = storms;

        if (count)
            *count++ = '\0';
        if (mode)
            *mode++ = '\0';
        while (s->name && strcmp(s->name, item) != 0)
            s++;
        if (!s->name)
            die(item);
        run_storm(o, s, count && *count ? strtoul(count, NULL, 10) : s->count, mode ? mode : "");
    }
}

int main(void)
{
    char line[2048] = "";
    struct cg_err e = CG_ERR_INIT;

    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    load_modules();
    wait_for_disk();
    build_root();

    int fd = open("/proc/cmdline", O_RDONLY);
    (void)!read(fd, line, sizeof line - 1);
    close(fd);
    line[strcspn(line, "\n")] = '\0';
    char *list = strstr(line, "storms=");
    bool bare = strstr(line, "unobserved") != NULL;
    if (!list)
        die("no storms");
    list += 7;
    list[strcspn(list, " ")] = '\0';

    int64_t began = cg_mono_ns();
    struct cg_observe_config config = {
        .skip_pid = getpid(), .scopes = {"/workspace"}, .probe_dir = "/run"};
    struct cg_observe *o = bare ? NULL : cg_observe_start(&config, &e);
    if (!bare && !o) {
        printf("{\"fatal\":\"%s\"}\n", e.text);
        reboot(RB_AUTOBOOT);
    }
    if (o) {
        const struct cg_observe_status *s = cg_observe_status(o);
        struct utsname u;
        uname(&u);
        printf("{\"start_ms\":%lld,\"kernel\":\"%s\",\"exec\":%d,\"file\":%d,\"more\":%d,"
               "\"security\":%d,\"reason\":\"%s\"}\n",
               (long long)((cg_mono_ns() - began) / 1000000), u.release, s->exec, s->file, s->more,
               s->security, s->reason);
        fflush(stdout);
    }
    run_list(o, list);
    cg_observe_destroy(o);
    printf("{\"done\":true}\n");
    fflush(stdout);
    sync();
    reboot(RB_AUTOBOOT);
    return 0;
}
