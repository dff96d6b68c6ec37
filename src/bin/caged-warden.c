/* caged-warden <sandbox id>: started by the keeper with the descriptors of jail/jail.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "jail/jail.h"
#include "jail/seccomp.h"
#include "warden/ready.h"
#include "warden/warden.h"
#include "warden/warm.h"

/* The descriptor if it is open (and closed on exec from now on), else -1. */
static int inherited(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0)
        return -1;
    fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    return fd;
}

/* A sandbox may be made before it is anybody's: its configuration is there when the server comes.
 */
static void await_server(int listener)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};
    while (listener >= 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

/* Without a configuration it is of nobody yet: the guest is made ready, then it waits. */
static bool be_spare(struct cg_warden_fds *fds, const char *id, struct cg_err *e)
{
    if (faccessat(fds->dir, "vm.state", F_OK, 0) == 0) {
        fds->ready = ready_create(fds->dir, id);
        fds->restored = warm_restore(uv_default_loop(), fds->dir, fds->vmm, fds->link,
                                     ready_ca_pem(fds->ready), e);
        fds->vmm = -1;
        if (!fds->restored)
            return false;
        int warm = openat(fds->dir, "warm", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
        cg_drop_fd(&warm); /* the server takes a spare when that is there */
    }
    await_server(fds->control);
    return true;
}

static int run(const char *id)
{
    struct cg_warden_fds fds = {
        .control = inherited(CG_WARDEN_FD_CONTROL),
        .link = inherited(CG_WARDEN_FD_LINK),
        .vmm = inherited(CG_WARDEN_FD_VMM),
        .tcp = inherited(CG_WARDEN_FD_TCP),
        .dns = inherited(CG_WARDEN_FD_DNS),
        .dns_tcp = inherited(CG_WARDEN_FD_DNS_TCP),
        .dir = inherited(CG_WARDEN_FD_DIR),
        .keeper = inherited(CG_WARDEN_FD_KEEPER),
    };
    struct cg_err e = CG_ERR_INIT;
    struct warden *w = NULL;
    /* CAGED_NO_SECCOMP is for tests under sanitizers, whose calls the filter does not know */
    if (!getenv("CAGED_NO_SECCOMP") && !cg_seccomp_warden(&e)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("warden.failed"), CG_E(&e));
        return CG_WARDEN_NO_START;
    }
    if (fds.dir >= 0 && faccessat(fds.dir, "config.json", F_OK, 0) != 0 &&
        !be_spare(&fds, id, &e)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("warden.spare_failed"), CG_E(&e));
        return CG_WARDEN_NO_START;
    }
    if (fds.control < 0 || fds.dir < 0)
        cg_fail(&e, CG_INVALID, "start it through caged-jail: descriptors %d and %d are missing",
                CG_WARDEN_FD_CONTROL, CG_WARDEN_FD_DIR);
    else
        w = cg_warden_create(uv_default_loop(), id, &fds, &e);
    if (!w) {
        cg_log(CG_LOG_ERROR, CG_EVENT("warden.failed"), CG_E(&e));
        return CG_WARDEN_NO_START;
    }
    int code = cg_warden_run(w);
    cg_warden_destroy(w);
    return code;
}

int main(int argc, char **argv)
{
    umask(0007); /* the server reads, moves and removes what is made here, by its group */
    if (argc != 2 || !cg_id_valid(argv[1], "cage")) {
        fprintf(stderr, "usage: caged-warden <sandbox id>, started by caged-jail\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    cg_log_set_context("sandbox", argv[1]);
    setenv("UV_THREADPOOL_SIZE", "1", 1); /* one thread: only the record uses it */
    return run(argv[1]);
}
