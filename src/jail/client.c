/* The server's side of jail.h. */
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fs.h"

bool cg_jail_send(int broker, const struct cg_jail_request *r, const int *fds, unsigned nfds,
                  struct cg_err *e)
{
    struct cg_jail_request filled = *r;
    filled.magic = CG_JAIL_MAGIC;
    filled.size = sizeof filled;
    return cg_fd_send(broker, &filled, sizeof filled, fds, nfds, e) ||
           cg_wrap(e, "ask the jail's broker");
}

bool cg_jail_keeper_of(int run_dir, int *pid, struct cg_err *e)
{
    *pid = 0;
    CG_OWN(cg_drop_fd)
    int fd = openat(run_dir, "keeper.lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0 || fcntl(fd, F_GETLK, &lock) != 0)
        return cg_fail_sys(e, "keeper.lock");
    if (lock.l_type != F_UNLCK)
        *pid = lock.l_pid;
    return true;
}
