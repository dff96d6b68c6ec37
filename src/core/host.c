#include "core/host.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"

enum { UID_FIRST = 0x70000000, UID_BLOCKS = 0xe00, UID_BLOCK = 65536, LOG_MAX = 16 << 20 };
enum { LOCK_WAIT_MS = 2000, LOCK_STEP_MS = 20 };

extern char **environ;

static char *state_path(const struct cg_core *c, const char *name)
{
    return cg_format("%s/%s", c->options.state_dir, name);
}

static uint32_t hash_of(const char *text)
{
    unsigned char hash[crypto_generichash_BYTES];
    uint32_t h;
    crypto_generichash(hash, sizeof hash, (const unsigned char *)text, strlen(text), NULL, 0);
    memcpy(&h, hash, sizeof h);
    return h;
}

static bool take_lock(const struct cg_core *c, struct cg_host *h, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = state_path(c, "server.lock");
    h->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->lock < 0)
        return cg_fail_sys(e, "open %s", path);
    /* a server that was killed holds it until the last of its threads is gone */
    for (int waited = 0; waited <= LOCK_WAIT_MS; waited += LOCK_STEP_MS) {
        if (flock(h->lock, LOCK_EX | LOCK_NB) == 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_STEP_MS * 1000000}, NULL);
    }
    return cg_fail(e, CG_CONFLICT,
                   "another server runs on %s: stop it with `caged server stop`, or "
                   "give this one a --state-dir of its own",
                   c->options.state_dir);
}

/* The first uid of this state directory, chosen once. */
static bool find_uid_base(struct cg_core *c, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = state_path(c, "uid_base");
    CG_OWN(cg_drop_free) char *text = NULL;
    if (cg_fs_slurp(path, 32, &text, NULL, NULL)) {
        unsigned long v = strtoul(text, NULL, 10);
        if (v < 100000 || v > UINT32_MAX - UID_BLOCK)
            return cg_fail(e, CG_INVALID, "%s holds \"%s\", which is no uid above 100000", path,
                           text);
        c->uid_base = (uint32_t)v;
        return true;
    }
    c->uid_base = UID_FIRST + hash_of(c->options.state_dir) % UID_BLOCKS * UID_BLOCK;
    char number[16];
    cg_snprintf(number, sizeof number, "%u", c->uid_base);
    return cg_fs_replace(path, number, strlen(number), 0644, e);
}

static bool make_run_dir(struct cg_core *c, struct cg_err *e)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (!c->rootless || !base || base[0] != '/')
        base = c->rootless ? "/tmp" : "/run";
    char uid[24] = "";
    if (c->rootless && strcmp(base, "/tmp") == 0)
        cg_snprintf(uid, sizeof uid, "-%u", (unsigned)getuid());
    c->options.run_dir = cg_format("%s/caged%s/%08x", base, uid, hash_of(c->options.state_dir));
    return cg_fs_mkdirs(c->options.run_dir, 0711, e);
}

static bool find_libexec(struct cg_core *c, struct cg_err *e)
{
    const char *set = getenv("CAGED_LIBEXEC_DIR");
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (set && set[0]) {
        c->libexec_dir = cg_strdup(set);
    } else if (n > 0) {
        exe[n] = '\0';
        *strrchr(exe, '/') = '\0';
        c->libexec_dir = cg_strdup(exe);
    }
    CG_OWN(cg_drop_free)
    char *jail = cg_format("%s/caged-jail", c->libexec_dir ? c->libexec_dir : "");
    return cg_fs_exists(jail) ||
           cg_fail(e, CG_NOT_FOUND, "%s is missing: the installation is not whole", jail);
}

static bool listen_on(const struct cg_options *o, struct cg_host *h, struct cg_err *e)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    cg_snprintf(port, sizeof port, "%u", o->listen_port);
    int rc = getaddrinfo(o->listen_host, port, &hints, &found);
    if (rc != 0)
        return cg_fail(e, CG_INVALID, "--listen %s: %s", o->listen_host, gai_strerror(rc));
    int one = 1;
    h->listen = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok =
        h->listen >= 0 && setsockopt(h->listen, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(h->listen, found->ai_addr, found->ai_addrlen) == 0 && listen(h->listen, 1024) == 0;
    if (!ok)
        cg_fail_sys(e, "listen on %s:%u (another port: --listen HOST:PORT)", o->listen_host,
                    o->listen_port);
    freeaddrinfo(found);
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (ok && getsockname(h->listen, (struct sockaddr *)&a, &n) == 0) {
        uint16_t raw = 0;
        memcpy(&raw, (const char *)&a + 2, sizeof raw); /* sin_port and sin6_port lie there alike */
        h->port = ntohs(raw);
    }
    return ok;
}

static bool open_owner_key(const struct cg_core *c, struct cg_host *h, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = state_path(c, "owner.key");
    h->owner_key = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return h->owner_key >= 0 || cg_fail_sys(e, "open %s", path);
}

bool cg_host_prepare(struct cg_core *c, struct cg_host *h, struct cg_err *e)
{
    *h = (struct cg_host){
        .lock = -1, .owner_key = -1, .listen = -1, .probe = -1, .ready = -1, .log = -1};
    c->broker = -1;
    c->rootless = getuid() != 0;
    if (sodium_init() < 0)
        return cg_fail(e, CG_INTERNAL, "libsodium does not start");
    struct rlimit files = {65536, 65536};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = CG_MIN(files.rlim_max, (rlim_t)65536);
        setrlimit(RLIMIT_NOFILE, &files);
    }
    umask(022);
    if (chmod(c->options.state_dir, c->rootless ? 0700 : 0711) != 0)
        return cg_fail_sys(e, "%s must be yours", c->options.state_dir);
    if (!take_lock(c, h, e) || !find_uid_base(c, e) || !make_run_dir(c, e) || !find_libexec(c, e) ||
        !open_owner_key(c, h, e))
        return false;
    cg_image_config_init(&c->images, c->options.state_dir);
    c->images.own_dir = state_path(c, "agents");
    return listen_on(&c->options, h, e);
}

/* In front: waits for the word of the server behind. */
CG_NORETURN static void wait_in_front(int ready)
{
    char text[512];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof text - 1 && (got = read(ready, text + n, sizeof text - 1 - n)) != 0) {
        if (got > 0)
            n += (size_t)got;
        else if (errno != EINTR)
            break;
    }
    text[n] = '\0';
    if (strcmp(text, "ok") == 0)
        _exit(0);
    fprintf(stderr, "error: %s\n", n ? text : "the server ended at its start; see server.log");
    _exit(1);
}

bool cg_host_daemonize(const struct cg_core *c, struct cg_host *h, struct cg_err *e)
{
    h->log_path = state_path(c, "server.log");
    CG_OWN(cg_drop_fd) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    h->log = open(h->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    int pair[2];
    if (h->log < 0 || null < 0 || pipe2(pair, O_CLOEXEC) != 0)
        return cg_fail_sys(e, "open %s", h->log_path);
    cg_host_trim_log(h);
    pid_t pid = fork();
    if (pid < 0)
        return cg_fail_sys(e, "go into the background");
    if (pid > 0) {
        close(pair[1]);
        wait_in_front(pair[0]);
    }
    close(pair[0]);
    h->ready = pair[1];
    setsid();
    return (dup2(null, 0) == 0 && dup2(h->log, 1) == 1 && dup2(h->log, 2) == 2 &&
            chdir("/") == 0) ||
           cg_fail_sys(e, "go into the background");
}

void cg_host_ready(struct cg_host *h, const struct cg_err *why)
{
    if (h->ready < 0)
        return;
    const char *text = why ? why->text : "ok";
    (void)!write(h->ready, text, strlen(text));
    cg_drop_fd(&h->ready);
}

void cg_host_trim_log(struct cg_host *h)
{
    struct stat st;
    if (h->log < 0 || fstat(h->log, &st) != 0 || st.st_size <= LOG_MAX)
        return;
    /* copied and cut, not renamed: broker and keepers hold the same file open */
    CG_OWN(cg_drop_free) char *old = cg_format("%s.1", h->log_path);
    CG_OWN(cg_drop_fd)
    int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    off_t at = 0;
    while (to >= 0 && at < st.st_size) {
        ssize_t n = sendfile(to, h->log, &at, (size_t)(st.st_size - at));
        if (n <= 0)
            break;
    }
    if (ftruncate(h->log, 0) != 0)
        cg_log(CG_LOG_WARN, CG_EVENT("log.trim_failed"), CG_I("errno", errno));
}

/* --- children --- */

/* Broker and probe. Others wait for children of their own, so SIGCHLD is not ignored and these are
 * looked after. */
static pid_t children[4];

void cg_host_reap(void)
{
    for (size_t i = 0; i < CG_COUNT(children); i++)
        if (children[i] > 0 && waitpid(children[i], NULL, WNOHANG) == children[i])
            children[i] = 0;
}

static void remember_child(pid_t pid)
{
    for (size_t i = 0; i < CG_COUNT(children); i++)
        if (children[i] == 0) {
            children[i] = pid;
            return;
        }
}

static bool start_child(char *const argv[], int as_three, int as_stdout, struct cg_err *e)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    pid_t pid;
    sigemptyset(&none);
    /* what this process ignores would be ignored by its children, too */
    sigemptyset(&usual);
    sigaddset(&usual, SIGCHLD);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (as_three == 3) /* dup2 onto itself would keep close-on-exec */
        fcntl(3, F_SETFD, 0);
    else if (as_three >= 0)
        posix_spawn_file_actions_adddup2(&actions, as_three, 3);
    if (as_stdout >= 0)
        posix_spawn_file_actions_adddup2(&actions, as_stdout, 1);
    int rc = posix_spawn(&pid, argv[0], &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (rc == 0)
        remember_child(pid);
    errno = rc;
    return rc == 0 || cg_fail_sys(e, "start %s", argv[0]);
}

static bool start_broker(struct cg_core *c, struct cg_err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return cg_fail_sys(e, "make a socket");
    CG_OWN(cg_drop_free) char *jail = cg_format("%s/caged-jail", c->libexec_dir);
    char uid[16];
    cg_snprintf(uid, sizeof uid, "%u", c->uid_base);
    char *argv[] = {jail,
                    (char[]){"--broker"},
                    (char[]){"3"},
                    (char[]){"--uid-base"},
                    uid,
                    (char[]){"--run-dir"},
                    c->options.run_dir,
                    c->rootless ? (char[]){"--rootless"} : NULL,
                    NULL};
    bool ok = start_child(argv, pair[1], -1, e);
    close(pair[1]);
    c->broker = pair[0];
    return ok;
}

/* Finds out which acceleration works, beside everything else: up to 20 s the first time. */
static void start_probe(struct cg_core *c, struct cg_host *h)
{
    struct cg_image image = {0};
    struct cg_err e = CG_ERR_INIT;
    int out[2];
    if (!cg_image_resolve(&c->images, "minimal", &image, &e)) {
        cg_log(CG_LOG_INFO, CG_EVENT("probe.later"), CG_E(&e));
        return;
    }
    CG_OWN(cg_drop_free) char *jail = cg_format("%s/caged-jail", c->libexec_dir);
    CG_OWN(cg_drop_free) char *cache = state_path(c, "probe.json");
    char *argv[] = {jail,  (char[]){"--probe"}, (char[]){"--cache"},
                    cache, image.kernel_path,   image.initramfs_path,
                    NULL};
    if (pipe2(out, O_CLOEXEC) == 0) {
        if (start_child(argv, -1, out[1], &e))
            h->probe = out[0];
        else
            close(out[0]);
        close(out[1]);
    }
    cg_image_finish(&image);
}

static bool give_up_rights(struct cg_core *c, struct cg_err *e)
{
    static const char *const owned[] = {"",
                                        "server.lock",
                                        "uid_base",
                                        "server.db",
                                        "server.db-wal",
                                        "server.db-shm",
                                        "server.json",
                                        "server.log",
                                        "server.log.1",
                                        "sandboxes",
                                        "archive",
                                        "agents",
                                        "seals",
                                        "signing.key",
                                        "signing.pub"};
    CG_OWN(cg_drop_free) char *boxes = state_path(c, "sandboxes");
    CG_OWN(cg_drop_free) char *archive = state_path(c, "archive");
    if (!cg_fs_mkdirs(boxes, 0711, e) || !cg_fs_mkdirs(archive, 0711, e) ||
        !cg_fs_mkdirs(c->images.own_dir, 0755, e))
        return false;
    if (c->rootless)
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 || cg_fail_sys(e, "no_new_privs");
    for (size_t i = 0; i < CG_COUNT(owned); i++) {
        CG_OWN(cg_drop_free) char *path = state_path(c, owned[i]);
        if (lchown(path, c->uid_base, c->uid_base) != 0 && errno != ENOENT)
            return cg_fail_sys(e, "hand %s to the server's uid", path);
    }
    if (chown(c->options.run_dir, c->uid_base, c->uid_base) != 0)
        return cg_fail_sys(e, "hand %s to the server's uid", c->options.run_dir);
    if (setgroups(0, NULL) != 0 || setresgid(c->uid_base, c->uid_base, c->uid_base) != 0 ||
        setresuid(c->uid_base, c->uid_base, c->uid_base) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return cg_fail_sys(e, "give up root");
    return true;
}

/* Programs and data stay within reach however closed the folders above them are (root's home is):
 * the path is replaced by one through a descriptor, which needs no right above the folder. */
static void keep_reachable(char **path, int held)
{
    if (held < 0)
        return;
    if (access(*path, R_OK | X_OK) == 0) {
        close(held);
        return;
    }
    free(*path);
    *path = cg_format("/proc/self/fd/%d", held);
}

/* What the operator chose has to be open to the server's uid all the way down. */
static bool check_reachable(const struct cg_core *c, const char *what, const char *path,
                            struct cg_err *e)
{
    return access(path, X_OK) == 0 || errno != EACCES ||
           cg_fail(e, CG_FORBIDDEN,
                   "%s %s cannot be reached by the server's uid %u: a folder above it is closed "
                   "(chmod o+x), or choose another place",
                   what, path, c->uid_base);
}

bool cg_host_launch(struct cg_core *c, struct cg_host *h, struct cg_err *e)
{
    int libexec = open(c->libexec_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int data = open(c->images.data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* a parent's mask would keep SIGTERM from us */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored by some parents, and then nothing could be waited for */
    if (!start_broker(c, e))
        return false;
    start_probe(c, h);
    if (!give_up_rights(c, e))
        return false;
    keep_reachable(&c->libexec_dir, libexec);
    keep_reachable(&c->images.data_dir, data);
    return check_reachable(c, "the state directory", c->options.state_dir, e) &&
           check_reachable(c, "the image directory", c->images.images_dir, e);
}

/* --- the CLI's way to us --- */

bool cg_host_announce(const struct cg_core *c, const struct cg_host *h, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = state_path(c, "server.json");
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 8192);
    bool six = strchr(c->options.listen_host, ':') != NULL;
    const char *host = c->options.listen_host;
    if (cg_streq(host, "0.0.0.0"))
        host = "127.0.0.1";
    CG_OWN(cg_drop_free) char *listen_text = cg_format(six ? "[%s]:%u" : "%s:%u", host, h->port);
    static char started[CG_TIME_TEXT];
    if (!started[0])
        cg_time_format(cg_wall_ns(), started);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "pid", getpid());
    cg_jsonw_kstr(&w, "listen", listen_text);
    cg_jsonw_kstr(&w, "state_dir", c->options.state_dir);
    cg_jsonw_kstr(&w, "run_dir", c->options.run_dir);
    cg_jsonw_kstr(&w, "version", CG_VERSION);
    cg_jsonw_kstr(&w, "started_at", started);
    cg_jsonw_kuint(&w, "reloads", h->reloads);
    cg_jsonw_kstr(&w, "reload_error", h->reload_error[0] ? h->reload_error : NULL);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(&b, '\n');
    return cg_fs_replace(path, b.p, b.n, 0644, e);
}

void cg_host_withdraw(const struct cg_core *c)
{
    CG_OWN(cg_drop_free) char *path = state_path(c, "server.json");
    unlink(path);
}
