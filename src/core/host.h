/* What the server takes from the machine before it gives up its rights: the state directory and its
 * lock, uids, the run directory, the jail's broker, the probe, the listening socket. */
#ifndef CG_CORE_HOST_H
#define CG_CORE_HOST_H

#include "core/core.h"

struct cg_host {
    int lock;      /* server.lock, held for as long as the server lives */
    int owner_key; /* owner.key, opened by who started the server */
    int listen;
    int probe; /* output of the running probe, or -1 */
    int ready; /* the process in the foreground waits on it for our word, or -1 */
    int log;   /* server.log, or -1 in the foreground */
    char *log_path;
    uint16_t port;
    unsigned reloads;       /* times that the configuration was asked to be read again */
    char reload_error[256]; /* of the last time; empty: it was read */
};

/* Fills core's options.run_dir, broker, rootless, uid_base, libexec_dir, images. Errors name what
 * is wrong and what to do; CG_CONFLICT when another server has the state directory. */
CG_MUST_USE bool cg_host_prepare(struct cg_core *c, struct cg_host *h, struct cg_err *e);

/* Goes into the background, output to server.log. The process in front waits for cg_host_ready and
 * exits 0, or 1 after it has printed why. */
CG_MUST_USE bool cg_host_daemonize(const struct cg_core *c, struct cg_host *h, struct cg_err *e);

/* Tells the process in front: we serve (why NULL) or we cannot. Once; later calls do nothing. */
void cg_host_ready(struct cg_host *h, const struct cg_err *why);

/* Keeps server.log below 16 MiB: what is in it moves to server.log.1, for all who write to it. */
void cg_host_trim_log(struct cg_host *h);

/* Starts broker and probe, then gives up all rights (root mode). */
CG_MUST_USE bool cg_host_launch(struct cg_core *c, struct cg_host *h, struct cg_err *e);

/* Lets broker and probe go when they have ended; now and then. */
void cg_host_reap(void);

/* server.json, for the CLI of this machine. */
CG_MUST_USE bool cg_host_announce(const struct cg_core *c, const struct cg_host *h,
                                  struct cg_err *e);
void cg_host_withdraw(const struct cg_core *c);

#endif
