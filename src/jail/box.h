/* A process in namespaces of its own, between fork and exec. Both sides talk over a SOCK_SEQPACKET
 * pair that closes on exec: its end of file tells the parent that the program runs. */
#ifndef CG_JAIL_BOX_H
#define CG_JAIL_BOX_H

#include <sys/types.h>

#include "base/err.h"

/* The ids of the host that the box's only user and group stand for. */
struct cg_box_ids {
    uid_t uid;
    gid_t gid;
    bool rootless;  /* our own id; the kernel allows no other then */
    bool no_userns; /* as root where user namespaces are switched off: the ids themselves */
};

struct cg_box {
    pid_t pid;   /* 0 in the child */
    int pidfd;   /* -1 in the child */
    int channel; /* this side's end */
    struct cg_box_ids ids;
};

/* Whether this process may make user namespaces. */
bool cg_box_userns_works(void);

/* Forks into a new user, mount, pid, ipc and uts namespace and, with `net`, a network namespace.
 * Returns true twice. In the child all capabilities count in the new namespaces only, its ids are
 * still those of the parent. Errors name user namespaces when the kernel refuses them. */
CG_MUST_USE bool cg_box_fork(bool net, const struct cg_box_ids *ids, struct cg_box *out,
                             struct cg_err *e);

/* Parent: gives the box its ids and lets it go on. */
CG_MUST_USE bool cg_box_admit(const struct cg_box *b, struct cg_err *e);
/* Child: waits for that, then takes the ids on; the capabilities stay. */
CG_MUST_USE bool cg_box_become(const struct cg_box *b, struct cg_err *e);

/* Child: gives up every capability for good, may never gain privileges, dies with the parent. */
CG_MUST_USE bool cg_box_drop(struct cg_err *e);

/* Child: puts want[i] at descriptor first + i for the program and everything above on
 * close-on-exec; standard input is /dev/null, output and errors go to `log`. */
CG_MUST_USE bool cg_box_settle_fds(int log, const int *want, unsigned n, int first,
                                   struct cg_err *e);

/* Child: tells the parent that all is prepared, with descriptors for it, and waits to be let go. */
CG_MUST_USE bool cg_box_ready(const struct cg_box *b, const int *fds, unsigned nfds,
                              struct cg_err *e);
/* Child: reports the error and ends. */
CG_NORETURN void cg_box_fail(const struct cg_box *b, const struct cg_err *e);

/* Parent: waits for cg_box_ready; *e is the child's error when it failed. nfds must match. */
CG_MUST_USE bool cg_box_wait_ready(const struct cg_box *b, int *fds, unsigned nfds,
                                   struct cg_err *e);
/* Parent: lets the child exec, and waits until it has. */
CG_MUST_USE bool cg_box_go(const struct cg_box *b, struct cg_err *e);

/* Parent: kills and reaps what still runs, closes the descriptors. Fine on a zeroed box. */
void cg_box_end(struct cg_box *b);

#endif
