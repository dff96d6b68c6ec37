/* One forwarded connection: a local socket and a port of a sandbox. */
#ifndef CG_CLI_FORWARD_H
#define CG_CLI_FORWARD_H

#include "cli/client.h"

/* Carries fd (non-blocking, stays the caller's) to `port` of the sandbox until both directions have
 * ended; blocks. False when it could not be connected or was cut off: fd is then set to reset. */
CG_MUST_USE bool cli_forward_carry(struct cli *c, const char *id, int port, int fd,
                                   struct cg_err *e);

#endif
