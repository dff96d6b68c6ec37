/* caged.probe=1: does a guest really work under this acceleration? Real work, as much as breaks the
 * combinations known to be broken: processes, memory, files, the clock. One line on the console
 * tells; a guest that hangs tells nothing, and the host's deadline decides. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "guest/agent/agent.h"

enum { FORKS = 100, FILES = 2000, MEMORY = 24 << 20 };

static bool processes(void)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(i & 127);
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != (i & 127))
            return false;
    }
    return true;
}

static bool memory(void)
{
    uint64_t *p = cg_alloc(MEMORY);
    uint64_t x = 88172645463325252ULL;
    for (size_t i = 0; i < MEMORY / sizeof *p; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = x;
    }
    x = 88172645463325252ULL;
    for (size_t i = 0; i < MEMORY / sizeof *p; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if (p[i] != x)
            return false;
    }
    return true;
}

static bool files(void)
{
    mkdir("/scratch", 0755);
    if (mount("tmpfs", "/scratch", "tmpfs", 0, NULL) != 0)
        return false;
    char path[64];
    char text[64];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < FILES; i++) {
            snprintf(path, sizeof path, "/scratch/%d", i);
            if (round == 1) {
                if (unlink(path) != 0)
                    return false;
                continue;
            }
            CG_OWN(cg_drop_fd) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            int n = snprintf(text, sizeof text, "file %d", i);
            if (fd < 0 || write(fd, text, (size_t)n) != n)
                return false;
        }
    }
    return true;
}

static bool clock_moves(void)
{
    int64_t before = cg_mono_ns();
    usleep(20000);
    int64_t passed = cg_mono_ns() - before;
    return passed >= 15 * 1000000LL && passed < 10 * 1000000000LL;
}

void boot_probe(void)
{
    const char *failed = !processes()     ? "processes"
                         : !memory()      ? "memory"
                         : !files()       ? "files"
                         : !clock_moves() ? "clock"
                                          : NULL;
    CG_OWN(cg_drop_fd) int console = open("/dev/console", O_WRONLY | O_CLOEXEC);
    char line[80];
    int n = failed ? snprintf(line, sizeof line, "\ncaged-probe failed %s\n", failed)
                   : snprintf(line, sizeof line, "\ncaged-probe ok\n");
    if (console < 0 || write(console, line, (size_t)n) != n)
        boot_power_off("the console cannot be written");
    usleep(50000); /* the serial port is slow */
    boot_power_off(NULL);
}
