/* Listeners on this machine that nobody has any business with: what arrives at one while a sandbox
 * is attacked came out of it. */
#ifndef CG_CLI_CANARY_H
#define CG_CLI_CANARY_H

#include "base/buf.h"

enum { CLI_CANARIES = 8 };

struct cli_canary {
    char address[16]; /* IPv4 */
    unsigned port;    /* of TCP and of UDP, both the kernel's choice */
    unsigned datagram_port;
    int tcp, udp;
};

struct cli_canaries {
    struct cli_canary all[CLI_CANARIES];
    unsigned n;
};

/* One on each of this machine's IPv4 addresses, as many as fit; loopback is the first. */
void cli_canaries_open(struct cli_canaries *c);
/* What has arrived since the last time, each as "a connection to 10.0.0.7:4711" ended by NUL. */
void cli_canaries_take(struct cli_canaries *c, struct cg_buf *out);
void cli_canaries_close(struct cli_canaries *c);

#endif
