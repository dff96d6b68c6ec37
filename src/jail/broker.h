/* The part of caged-jail that caged-server talks to: takes requests, forks keepers. */
#ifndef CG_JAIL_BROKER_H
#define CG_JAIL_BROKER_H

#include "base/err.h"

struct cg_broker_options {
    int sock; /* SOCK_SEQPACKET to caged-server */
    uint32_t uid_base;
    bool rootless;
    const char *run_dir;
    const char *warden; /* path; NULL: beside this program */
};

/* Serves until the server closes the socket. Errors: what is wrong with the options. */
CG_MUST_USE bool cg_broker_serve(const struct cg_broker_options *o, struct cg_err *e);

#endif
