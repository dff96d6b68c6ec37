/* See probe.h. */
#include "probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void act_on_files(int dir, bool expect[CG_HOOKS])
{
    static const char a[] = ".caged-probe-a", b[] = ".caged-probe-b", c[] = ".caged-probe-c";

    unlinkat(dir, a, 0);
    unlinkat(dir, b, 0);
    unlinkat(dir, c, 0);
    CG_OWN(cg_drop_fd) int fd = openat(dir, a, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    expect[CG_HOOK_OPEN] = true;
    expect[CG_HOOK_TRUNCATE] = ftruncate(fd, 0) == 0;
    expect[CG_HOOK_SETATTR] = fchmod(fd, 0400) == 0;
    cg_drop_fd(&fd);
    expect[CG_HOOK_CLOSE] = true;
    expect[CG_HOOK_RENAME_IN] = expect[CG_HOOK_RENAME_OUT] = renameat(dir, a, dir, b) == 0;
    expect[CG_HOOK_LINK] = linkat(dir, b, dir, c, 0) == 0;
    expect[CG_HOOK_UNLINK] = unlinkat(dir, b, 0) == 0;
    unlinkat(dir, c, 0);
    expect[CG_HOOK_SYMLINK] = symlinkat("probe", dir, a) == 0;
    unlinkat(dir, a, 0);
    expect[CG_HOOK_MKNOD] = mknodat(dir, a, S_IFIFO | 0600, 0) == 0;
    unlinkat(dir, a, 0);
    expect[CG_HOOK_CREATE] = mknodat(dir, a, S_IFREG | 0600, 0) == 0;
    unlinkat(dir, a, 0);
    expect[CG_HOOK_MKDIR] = mkdirat(dir, a, 0700) == 0;
    expect[CG_HOOK_RMDIR] = unlinkat(dir, a, AT_REMOVEDIR) == 0;
}

void cg_probe_run(const char *dir, bool expect[CG_HOOKS])
{
    memset(expect, 0, CG_HOOKS * sizeof *expect);
    CG_OWN(cg_drop_fd) int fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        act_on_files(fd, expect);

    /* a datagram socket is only told its peer: nothing is sent */
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CG_OWN(cg_drop_fd) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock >= 0) {
        (void)!connect(sock, (const struct sockaddr *)(const void *)&to, sizeof to);
        expect[CG_HOOK_CONNECT_DGRAM] = true;
    }
    expect[CG_HOOK_SETUID] = prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0;
}
