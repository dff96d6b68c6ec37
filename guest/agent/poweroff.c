/* poweroff: the orderly end. Everybody is asked to end and has the time granted, but not longer
 * than it takes; then the file systems are made read-only, so that the writable image is clean. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/agent/agent.h"

enum { LOOK_MS = 20, GRACE_MAX_MS = 60000, QUIET_MS = 1000, PF_KTHREAD = 0x00200000 };

static struct timer look;
static int64_t deadline_ns;

/* False for kernel threads and for what has ended (proc_pid_stat(5): state, flags). */
static bool runs(const char *pid)
{
    char path[64];
    CG_OWN(cg_drop_free) char *text = NULL;
    snprintf(path, sizeof path, "/proc/%.16s/stat", pid);
    if (!cg_fs_slurp(path, 4096, &text, NULL, NULL))
        return false;
    const char *at = strrchr(text, ')');
    char state;
    unsigned flags;
    return at && sscanf(at + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) == 2 &&
           state != 'Z' && state != 'X' && !(flags & PF_KTHREAD);
}

static bool somebody_runs(void)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir("/proc");
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            strtol(entry->d_name, NULL, 10) != getpid() && runs(entry->d_name))
            return true;
    }
    return false;
}

/* The file system below both the root and the workspace; busy while a killed process still has a
 * file open for writing. */
static void make_clean(void)
{
    int64_t until = cg_mono_ns() + (int64_t)QUIET_MS * 1000000;
    sync();
    while (mount(NULL, agent.workspace, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0) {
        if (errno != EBUSY || cg_mono_ns() > until) {
            agent_log("poweroff: %s stays writable: %s", agent.workspace, strerror(errno));
            return;
        }
        usleep(5000);
    }
}

static void on_look(struct timer *t)
{
    if (!agent.in_vm)
        exit(0);
    if (cg_mono_ns() < deadline_ns && somebody_runs()) {
        timer_start(t, LOOK_MS, on_look);
        return;
    }
    kill(-1, SIGKILL);
    make_clean();
    boot_power_off(NULL);
}

static void open_poweroff(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {"grace_ms", NULL};
    struct cg_err e = CG_ERR_INIT;
    if (!request_check(request, members, &e)) {
        task_fail(t, &e);
        return;
    }
    int64_t grace_ms = cg_json_int(request, "grace_ms", 2000);
    grace_ms = CG_MAX(0, CG_MIN(grace_ms, GRACE_MAX_MS));
    if (agent.in_vm)
        kill(-1, SIGTERM);
    else
        exec_kill_all(SIGTERM);
    deadline_ns = cg_mono_ns() + grace_ms * 1000000;
    /* a stopped process does not hear it */
    if (agent.in_vm)
        kill(-1, SIGCONT);
    timer_start(&look, LOOK_MS, on_look);
    task_close_empty(t);
}

const struct task_ops task_poweroff = {
    .kind = "poweroff", .open = open_poweroff, .size = sizeof(struct task), .before_setup = true};
