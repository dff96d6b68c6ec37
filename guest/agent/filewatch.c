/* Events of one path are held back until it was quiet for the debounce time, at most HOLD_MS, and
 * told as one: a create with its writes is a create. Facts: inotify(7). */
#include "guest/agent/filewatch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "guest/agent/loop.h"

enum {
    HOLD_MS = 2000,
    FOLDERS_MAX = 8192,
    PENDING_MAX = 4096,
    READ_MAX = 8192, /* events taken in one go */
    PATH_BYTES = 4096,
    DEPTH = 64,
    MASK = IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR |
           IN_DONT_FOLLOW | IN_EXCL_UNLINK,
};

struct pending {
    struct pending *next; /* oldest first */
    enum filewatch_op op;
    int64_t first_ns, last_ns;
    int64_t wall_ms;
    char path[];
};

static struct watch notify = {.fd = -1};
static struct timer flush_timer;
static char *root_path;
static int64_t debounce_ns;
static int64_t tokens, rate_per_s; /* tokens in thousandths of an event */
static int64_t refilled_ns;
static filewatch_sink *sink;
static struct cg_map folders; /* watch descriptor in decimal: path */
static struct cg_map pending_by_path;
static struct pending *first, **last = &first;
static uint64_t lost, lost_told;

const char *filewatch_op_name(enum filewatch_op op)
{
    static const char *const names[] = {"create", "write", "delete", "rename"};
    return names[op];
}

uint64_t filewatch_lost(void)
{
    return lost;
}

/* --- telling --- */

static bool take_token(int64_t now_ns)
{
    tokens += (now_ns - refilled_ns) / 1000000 * rate_per_s;
    refilled_ns += (now_ns - refilled_ns) / 1000000 * 1000000;
    tokens = CG_MIN(tokens, 2000 * rate_per_s); /* two seconds' worth in one burst */
    if (tokens < 1000)
        return false;
    tokens -= 1000;
    return true;
}

static void tell(const struct pending *p, int64_t now_ns)
{
    if (!take_token(now_ns)) {
        lost++;
        return;
    }
    struct filewatch_event event = {.op = p->op,
                                    .path = p->path,
                                    .size = -1,
                                    .wall_ms = p->wall_ms,
                                    .dropped = lost - lost_told};
    struct stat st;
    if ((p->op == FILE_CREATE || p->op == FILE_WRITE) && lstat(p->path, &st) == 0)
        event.size = st.st_size;
    lost_told = lost;
    sink(&event);
}

static void on_flush(struct timer *t)
{
    int64_t now = cg_mono_ns();
    struct pending **at = &first;
    while (*at) {
        struct pending *p = *at;
        if (now - p->last_ns < debounce_ns && now - p->first_ns < (int64_t)HOLD_MS * 1000000) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        cg_map_remove(&pending_by_path, p->path);
        tell(p, now);
        free(p);
    }
    last = at;
    if (first)
        timer_start(t, CG_MAX(10, CG_MIN(debounce_ns / 3000000, 200)), on_flush);
}

static void note(enum filewatch_op op, const char *path)
{
    int64_t now = cg_mono_ns();
    struct pending *p = cg_map_get(&pending_by_path, path);
    if (p) {
        if (!(p->op == FILE_CREATE && op == FILE_WRITE))
            p->op = op;
        p->last_ns = now;
        p->wall_ms = cg_wall_ns() / 1000000;
        return;
    }
    if (pending_by_path.count >= PENDING_MAX) {
        lost++;
        return;
    }
    size_t n = strlen(path) + 1;
    p = cg_alloc(sizeof *p + n);
    p->op = op;
    p->first_ns = p->last_ns = now;
    p->wall_ms = cg_wall_ns() / 1000000;
    memcpy(p->path, path, n);
    *last = p;
    last = &p->next;
    cg_map_put(&pending_by_path, p->path, p);
    if (flush_timer.due_ns == 0)
        timer_start(&flush_timer, CG_MAX(1, debounce_ns / 1000000), on_flush);
}

/* --- folders --- */

static void key_of(int wd, char out[16])
{
    cg_snprintf(out, 16, "%d", wd);
}

/* True for a folder that is watched from now on (again, when it was before). */
static bool watch_folder(const char *path)
{
    if (folders.count >= FOLDERS_MAX) {
        cg_log(CG_LOG_WARN, CG_EVENT("watch.too_many_folders"), CG_S("path", path));
        return false;
    }
    int wd = inotify_add_watch(notify.fd, path, MASK);
    if (wd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            cg_log(CG_LOG_WARN, CG_EVENT("watch.folder"), CG_S("path", path),
                   CG_S("why", strerror(errno)));
        return false;
    }
    char key[16];
    key_of(wd, key);
    free(cg_map_put(&folders, key, cg_strdup(path)));
    return true;
}

static bool join(char out[PATH_BYTES], const char *folder, const char *name)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name);
    return n > 0 && n < PATH_BYTES;
}

/* Watches a folder and all below. With `tell_files` what is in it counts as just created: it came
 * before its folder was watched. */
static void add_tree(const char *path, bool tell_files, int depth)
{
    if (depth > DEPTH || !watch_folder(path))
        return;
    CG_OWN(cg_drop_dir) DIR *d = opendir(path);
    CG_OWN(cg_drop_free) char *below = cg_alloc(PATH_BYTES);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        const char *name = entry->d_name;
        struct stat st;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || !join(below, path, name) ||
            lstat(below, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            if (!filewatch_ignores_folder(name))
                add_tree(below, tell_files, depth + 1);
        } else if (tell_files && !filewatch_ignores_file(name)) {
            note(FILE_CREATE, below);
        }
    }
}

/* A folder went elsewhere: its watches, and those below, would tell old names. */
static void forget_tree(const char *path)
{
    enum { BATCH = 64 };
    char keys[BATCH][16];
    size_t n = strlen(path);
    unsigned found;
    do {
        found = 0;
        size_t at = 0;
        const char *key;
        void *value;
        while (found < BATCH && cg_map_next(&folders, &at, &key, &value)) {
            const char *folder = value;
            if (strncmp(folder, path, n) == 0 && (folder[n] == '\0' || folder[n] == '/'))
                cg_strlcpy(keys[found++], sizeof keys[0], key);
        }
        for (unsigned i = 0; i < found; i++) {
            inotify_rm_watch(notify.fd, (int)strtol(keys[i], NULL, 10));
            free(cg_map_remove(&folders, keys[i]));
        }
    } while (found == BATCH);
}

static void on_folder(uint32_t mask, const char *name, const char *path)
{
    if (filewatch_ignores_folder(name))
        return;
    if (mask & (IN_CREATE | IN_MOVED_TO))
        add_tree(path, true, 0);
    if (mask & IN_MOVED_FROM) {
        forget_tree(path);
        note(FILE_RENAME, path);
    }
}

static void on_file(uint32_t mask, const char *name, const char *path)
{
    if (filewatch_ignores_file(name))
        return;
    if (mask & (IN_CREATE | IN_MOVED_TO))
        note(FILE_CREATE, path);
    if (mask & IN_CLOSE_WRITE)
        note(FILE_WRITE, path);
    if (mask & IN_DELETE)
        note(FILE_DELETE, path);
    if (mask & IN_MOVED_FROM)
        note(FILE_RENAME, path);
}

static void on_one(const struct inotify_event *event)
{
    char key[16];
    char path[PATH_BYTES];
    if (event->mask & IN_Q_OVERFLOW) {
        lost++; /* nobody knows how many; new folders are found by looking again */
        cg_log(CG_LOG_WARN, CG_EVENT("watch.overflow"));
        add_tree(root_path, false, 0);
        return;
    }
    key_of(event->wd, key);
    if (event->mask & IN_IGNORED) {
        free(cg_map_remove(&folders, key));
        return;
    }
    const char *folder = cg_map_get(&folders, key);
    if (!folder || event->len == 0 || !join(path, folder, event->name))
        return;
    if (event->mask & IN_ISDIR)
        on_folder(event->mask, event->name, path);
    else
        on_file(event->mask, event->name, path);
}

static void on_notify(struct watch *w, uint32_t events)
{
    (void)events;
    _Alignas(struct inotify_event) char bytes[16384];
    for (unsigned taken = 0; taken < READ_MAX;) {
        ssize_t n = read(w->fd, bytes, sizeof bytes);
        if (n <= 0)
            return;
        for (ssize_t at = 0; at < n; taken++) {
            const struct inotify_event *event = (const void *)(bytes + at);
            on_one(event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
}

/* --- start and stop --- */

static void drop_values(struct cg_map *m)
{
    size_t at = 0;
    const char *key;
    void *value;
    while (cg_map_next(m, &at, &key, &value))
        free(value);
    cg_map_finish(m);
}

void filewatch_stop(void)
{
    if (notify.fd < 0)
        return;
    int fd = notify.fd;
    watch_stop(&notify);
    close(fd);
    timer_stop(&flush_timer);
    drop_values(&folders);
    drop_values(&pending_by_path);
    first = NULL;
    last = &first;
    free(root_path);
    root_path = NULL;
}

bool filewatch_start(const char *root, int64_t debounce_ms, int64_t rate, filewatch_sink *to,
                     struct cg_err *e)
{
    struct stat st;
    if (notify.fd >= 0)
        return cg_fail(e, CG_CONFLICT, "%s is watched already", root_path);
    if (stat(root, &st) != 0)
        return cg_fail_sys(e, "%s", root);
    if (!S_ISDIR(st.st_mode))
        return cg_fail(e, CG_INVALID, "%s is not a folder", root);
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return cg_fail_sys(e, "inotify");
    root_path = realpath(root, NULL);
    if (!root_path)
        root_path = cg_strdup(root);
    debounce_ns = debounce_ms * 1000000;
    rate_per_s = rate;
    tokens = 2000 * rate;
    refilled_ns = cg_mono_ns();
    sink = to;
    lost = lost_told = 0;
    cg_map_init(&folders);
    cg_map_init(&pending_by_path);
    watch_start(&notify, fd, EPOLLIN, on_notify);
    add_tree(root_path, false, 0);
    if (folders.count > 0)
        return true;
    filewatch_stop();
    return cg_fail(e, CG_IO, "%s cannot be watched", root);
}
