/* The process that holds one sandbox together: makes what VMM and warden live in, starts both,
 * watches both, ends with both. */
#ifndef CG_JAIL_KEEPER_H
#define CG_JAIL_KEEPER_H

#include "jail/box.h"
#include "jail/cgroup.h"
#include "jail/jail.h"
#include "jail/netns.h"
#include "jail/view.h"
#include "vmm/vmm.h"

/* What the broker has found out about this machine; the same for all its keepers. */
struct cg_jail_host {
    uint32_t uid_base;
    bool rootless;
    int run_dir;      /* the run directory of this state directory */
    char group[16];   /* prefix of control groups' names, different for every run directory */
    char warden[256]; /* path of caged-warden */
    char cgroup[CG_CGROUP_PATH]; /* empty: none, and warnings says so */
    uint32_t warnings;
    const struct cg_vmm_driver *driver;
    struct cg_vmm_program vmm;
    struct cg_view vmm_view;
    struct cg_view warden_view;
    int64_t found_s; /* wall clock of when the lists were made; 0: they are not */
};

/* Both ends of what connects the parts of one sandbox. */
struct cg_plumbing {
    int link[2];    /* guest link: VMM, warden */
    int control[2]; /* VMM, warden */
    int console[2]; /* VMM, keeper */
    int keeper[2];  /* SOCK_SEQPACKET: warden, keeper */
    int vmm_log[2]; /* pipes: read end first */
    int warden_log[2];
    int net[CG_NETNS_COUNT];
};

struct cg_keeper {
    const struct cg_jail_host *host;
    const struct cg_jail_request *request;
    const int *fds; /* by enum cg_jail_fd */
    struct cg_box vmm;
    struct cg_box warden;
    struct cg_plumbing p;
    char group[80]; /* name of the control group; empty: none */
    uint32_t warnings;
};

/* Makes everything and starts both programs; on failure what was made is undone by cg_keeper_undo.
 */
CG_MUST_USE bool cg_keeper_launch(struct cg_keeper *k, struct cg_err *e);
/* Ends what runs, closes what is open, removes the control group. */
void cg_keeper_undo(struct cg_keeper *k);

/* Serves until VMM and warden have ended; returns the reason. */
struct cg_jail_end cg_keeper_watch(struct cg_keeper *k);

/* The life of a keeper. `locked` is written one byte once keeper.lock is held. */
CG_NORETURN void cg_keeper_run(const struct cg_jail_host *host,
                               const struct cg_jail_request *request, const int fds[CG_JAIL_FD_MAX],
                               int locked);

#endif
