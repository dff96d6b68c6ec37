/* SSH host keys say which host this is. Those that stand in a template, a snapshot or a fork's
 * source are another's: a new identity removes them and has ssh-keygen make as many anew. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/agent.h"

enum { WAIT_MS = 5000, STEP_MS = 5 };

static void run_keygen(const char *type, const char *path)
{
    static char *env[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"HOME=/root", NULL};
    char *argv[] = {(char *)"ssh-keygen", (char *)"-q", (char *)"-N", (char *)"", (char *)"-t",
                    (char *)type,         (char *)"-f", (char *)path, NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    execve("/usr/bin/ssh-keygen", argv, env);
    _exit(127);
}

/* One that takes too long is left to end by itself; the agent reaps whatever ends. */
static void await(pid_t pid)
{
    for (int waited = 0; waited < WAIT_MS; waited += STEP_MS) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000}, NULL);
    }
}

bool hostkeys_renew(struct cg_err *e)
{
    /* the quick ones are there before anything may ask for them; RSA takes seconds under emulation
     */
    static const struct {
        const char *type;
        bool quick;
    } kinds[] = {{"ed25519", true}, {"ecdsa", true}, {"rsa", false}};
    for (size_t i = 0; i < CG_COUNT(kinds); i++) {
        char path[64], public[72];
        snprintf(path, sizeof path, "/etc/ssh/ssh_host_%s_key", kinds[i].type);
        snprintf(public, sizeof public, "%s.pub", path);
        if (unlink(path) != 0) {
            if (errno == ENOENT || errno == ENOTDIR)
                continue;
            return cg_fail_sys(e, "remove the host key %s", path);
        }
        (void)unlink(public);
        pid_t pid = fork();
        if (pid == 0)
            run_keygen(kinds[i].type, path);
        if (pid < 0)
            return cg_fail_sys(e, "make the host key %s", path);
        if (kinds[i].quick)
            await(pid);
    }
    return true;
}
