/* One cgroup an exec, so that a time-out ends everything the command started, whatever sessions
 * and groups it made; and one limit on the number of processes above all that run as the user, so
 * that a fork bomb leaves the agent its air and root's commands theirs, to end it. Kernel docs:
 * Documentation/admin-guide/cgroup-v2.rst. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/exec.h"

#define ROOT "/sys/fs/cgroup"
#define USERS ROOT "/users"
#define ADMIN ROOT "/admin"

enum { STALE_MAX = 256, PROCESSES_MAX = 4096, SWEEP_MS = 100 };

static bool usable;
static char stale[STALE_MAX][64];
static unsigned stale_count;

static bool put(const char *path, const char *file, const char *text)
{
    char full[160];
    snprintf(full, sizeof full, "%s/%s", path, file);
    CG_OWN(cg_drop_fd) int fd = open(full, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Half of the threads that the kernel allows for this memory: the limit must bind before that. */
static long processes_allowed(void)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    if (!cg_fs_slurp("/proc/sys/kernel/threads-max", 64, &text, NULL, NULL))
        return 512;
    long threads = strtol(text, NULL, 10);
    return CG_MAX(64, CG_MIN(PROCESSES_MAX, threads / 2));
}

void cgroup_init(void)
{
    if (!put(ROOT, "cgroup.subtree_control", "+pids"))
        agent_log("cgroup: no pids controller");
    usable = (mkdir(USERS, 0755) == 0 || errno == EEXIST) &&
             (mkdir(ADMIN, 0755) == 0 || errno == EEXIST);
    char limit[24];
    cg_snprintf(limit, sizeof limit, "%ld", processes_allowed());
    if (usable && !put(USERS, "pids.max", limit))
        agent_log("cgroup: no limit on processes");
}

void cgroup_make(const char *id, bool root, char *out, size_t size)
{
    out[0] = '\0';
    if (!usable)
        return;
    int n = snprintf(out, size, "%s/%s", root ? ADMIN : USERS, id);
    if (n < 0 || (size_t)n >= size || (mkdir(out, 0755) != 0 && errno != EEXIST))
        out[0] = '\0';
}

bool cgroup_enter(const char *path)
{
    return path[0] == '\0' || put(path, "cgroup.procs", "0");
}

bool cgroup_kill(const char *path)
{
    return path[0] != '\0' && put(path, "cgroup.kill", "1");
}

static void sweep(void)
{
    for (unsigned i = 0; i < stale_count;) {
        if (rmdir(stale[i]) == 0 || errno == ENOENT)
            memcpy(stale[i], stale[--stale_count], sizeof stale[i]);
        else
            i++;
    }
}

static void on_sweep(struct timer *t)
{
    (void)t;
    sweep();
}

/* Later: the kernel takes its time, and somebody waits for the command's exit code. */
void cgroup_remove(const char *path)
{
    static struct timer timer;
    if (path[0] == '\0')
        return;
    if (stale_count == STALE_MAX)
        sweep();
    if (stale_count < STALE_MAX)
        cg_strlcpy(stale[stale_count++], sizeof stale[0], path);
    timer_start(&timer, SWEEP_MS, on_sweep);
}
