/* cgroups(7), Documentation/admin-guide/cgroup-v2.rst. A v2 mount says nothing: on machines with
 * the old hierarchies its list of controllers is (nearly) empty, so the list is what is looked at.
 */
#include "jail/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"

static const char *const needed[] = {"cpu", "memory", "pids"};

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n) {
        bool starts = at == list || at[-1] == ' ';
        bool ends = at[n] == '\0' || at[n] == ' ' || at[n] == '\n';
        if (starts && ends)
            return true;
    }
    return false;
}

static bool put(const char *dir, const char *file, const char *value, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, file);
    CG_OWN(cg_drop_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return cg_fail_sys(e, "write %s to %s", value, path);
    return true;
}

static bool check_controllers(const char *root, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/cgroup.controllers", root);
    CG_OWN(cg_drop_free) char *list = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, 4096, &list, &n, e))
        return cg_fail(e, CG_UNSUPPORTED, "no cgroup v2 hierarchy at %s", root);
    for (size_t i = 0; i < CG_COUNT(needed); i++) {
        if (!has_word(list, needed[i]))
            return cg_fail(e, CG_UNSUPPORTED, "the cgroup v2 hierarchy at %s has no %s controller",
                           root, needed[i]);
    }
    return true;
}

bool cg_cgroup_base(const char *root, char out[CG_CGROUP_PATH], struct cg_err *e)
{
    static const char enable[] = "+cpu +memory +pids";
    if (!root)
        root = "/sys/fs/cgroup";
    if (!check_controllers(root, e))
        return false;
    cg_snprintf(out, CG_CGROUP_PATH, "%.200s/caged", root);
    if (!put(root, "cgroup.subtree_control", enable, e))
        return false;
    if (mkdir(out, 0755) != 0 && errno != EEXIST)
        return cg_fail_sys(e, "make %s", out);
    return put(out, "cgroup.subtree_control", enable, e);
}

bool cg_cgroup_create(const char *base, const char *name, const struct cg_cgroup_limits *limits,
                      struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/%s", base, name);
    if (mkdir(dir, 0755) != 0 && errno != EEXIST)
        return cg_fail_sys(e, "make %s", dir);
    char cpu[48], memory[32], pids[32];
    cg_snprintf(cpu, sizeof cpu, "%llu 100000", (unsigned long long)limits->cpu_percent * 1000);
    cg_snprintf(memory, sizeof memory, "%llu", (unsigned long long)limits->memory_bytes);
    cg_snprintf(pids, sizeof pids, "%u", limits->pids);
    if (put(dir, "cpu.max", cpu, e) && put(dir, "memory.max", memory, e) &&
        put(dir, "memory.oom.group", "1", e) && put(dir, "pids.max", pids, e))
        return true;
    rmdir(dir);
    return false;
}

bool cg_cgroup_add(const char *base, const char *name, pid_t pid, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/%s", base, name);
    char text[16];
    cg_snprintf(text, sizeof text, "%d", (int)pid);
    return put(dir, "cgroup.procs", text, e);
}

bool cg_cgroup_remove(const char *base, const char *name, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/%s", base, name);
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int tries = 0; tries < 100; tries++) {
        if (rmdir(dir) == 0 || errno == ENOENT)
            return true;
        if (errno != EBUSY)
            break;
        (void)!put(dir, "cgroup.kill", "1", NULL);
        nanosleep(&pause, NULL);
    }
    return cg_fail_sys(e, "remove %s", dir);
}
