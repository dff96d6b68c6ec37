/* Descriptors: full reads and writes, flags, passing over unix sockets. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"

bool cg_fd_read_full(int fd, void *p, size_t n, struct cg_err *e)
{
    char *at = p;
    while (n > 0) {
        ssize_t got = read(fd, at, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cg_fail_sys(e, "read");
        if (got == 0)
            return cg_fail(e, CG_CLOSED, "read: the other side closed early");
        at += got;
        n -= (size_t)got;
    }
    return true;
}

bool cg_fd_write_full(int fd, const void *p, size_t n, struct cg_err *e)
{
    const char *at = p;
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return cg_fail_sys(e, "write");
        at += put;
        n -= (size_t)put;
    }
    return true;
}

static bool set_flag(int fd, int get, int set, int flag, bool on, struct cg_err *e)
{
    int flags = fcntl(fd, get);
    if (flags < 0 || fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0)
        return cg_fail_sys(e, "set flags of descriptor %d", fd);
    return true;
}

bool cg_fd_set_nonblock(int fd, bool on, struct cg_err *e)
{
    return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on, e);
}

bool cg_fd_set_cloexec(int fd, bool on, struct cg_err *e)
{
    return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on, e);
}

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * CG_FD_PASS_MAX)];
};

bool cg_fd_send(int sock, const void *p, size_t n, const int *fds, unsigned nfds, struct cg_err *e)
{
    CG_ASSERT(nfds <= CG_FD_PASS_MAX);
    union control control = {0};
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        CG_ASSERT(c);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    ssize_t put;
    do {
        put = sendmsg(sock, &msg, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    if (put < 0)
        return cg_fail_sys(e, "send a message");
    return (size_t)put == n || cg_fail(e, CG_IO, "send a message: cut short");
}

static unsigned collect_fds(struct msghdr *msg, int *fds, unsigned max_fds, bool *too_many)
{
    unsigned count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (count < max_fds) {
                fds[count++] = fd;
            } else {
                *too_many = true;
                close(fd);
            }
        }
    }
    return count;
}

bool cg_fd_recv(int sock, void *p, size_t max, size_t *n, int *fds, unsigned max_fds,
                unsigned *nfds, struct cg_err *e)
{
    union control control;
    struct iovec iov = {p, max};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t got;
    do {
        got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return cg_fail_sys(e, "receive a message");
    bool refused = (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;
    unsigned count = collect_fds(&msg, fds, max_fds, &refused);
    if (refused) {
        for (unsigned i = 0; i < count; i++)
            close(fds[i]);
        return cg_fail(e, CG_PROTOCOL, "receive a message: larger than agreed");
    }
    *n = (size_t)got;
    if (nfds)
        *nfds = count;
    return got > 0 || cg_fail(e, CG_CLOSED, "the other side closed the socket");
}

static bool unix_address(const char *path, struct sockaddr_un *a, struct cg_err *e)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!cg_strlcpy(a->sun_path, sizeof a->sun_path, path))
        return cg_fail(e, CG_INVALID, "socket path %s is longer than %zu bytes", path,
                       sizeof a->sun_path - 1);
    return true;
}

int cg_unix_listen(const char *path, mode_t mode, struct cg_err *e)
{
    struct sockaddr_un a;
    if (!unix_address(path, &a, e))
        return -1;
    CG_OWN(cg_drop_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || chmod(path, mode) != 0 ||
        listen(fd, 128) != 0) {
        cg_fail_sys(e, "listen on %s", path);
        return -1;
    }
    return CG_MOVE_FD(fd);
}

int cg_unix_connect(const char *path, struct cg_err *e)
{
    struct sockaddr_un a;
    if (!unix_address(path, &a, e))
        return -1;
    CG_OWN(cg_drop_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        cg_fail_sys(e, "connect to %s", path);
        return -1;
    }
    return CG_MOVE_FD(fd);
}
