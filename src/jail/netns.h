/* The network of one sandbox, made from inside its own namespaces: a tap, no route anywhere, every
 * TCP connection and DNS question turned to sockets that the warden gets. Nothing is forwarded. */
#ifndef CG_JAIL_NETNS_H
#define CG_JAIL_NETNS_H

#include "jail/jail.h"

enum cg_netns_fd {
    CG_NETNS_TAP,
    CG_NETNS_TCP,     /* listening: all TCP but port 53 */
    CG_NETNS_DNS,     /* UDP, port 53 */
    CG_NETNS_DNS_TCP, /* listening: TCP to port 53 */
    CG_NETNS_NETLINK, /* to nf_tables of this namespace, for cg_netns_counters */
    CG_NETNS_COUNT
};

/* First step, with the ids of the parent still: the tun device is opened inside the namespace, as
 * that is where it belongs to from then on. */
CG_MUST_USE int cg_netns_open_tun(struct cg_err *e);

/* Turns it into the tap with its addresses, and sets lo up; part of build, apart for --check. */
CG_MUST_USE bool cg_netns_tap(int tun, struct cg_err *e);

/* Second step: tap, addresses, sockets and rules. Takes `tun` over into fds[CG_NETNS_TAP]. On
 * failure nothing is left open. */
CG_MUST_USE bool cg_netns_build(int tun, const struct cg_jail_net *net, unsigned nnet,
                                int fds[CG_NETNS_COUNT], struct cg_err *e);

/* Loads the rules; part of build, apart for --check. */
CG_MUST_USE bool cg_netns_rules(const struct cg_jail_net *net, unsigned nnet, struct cg_err *e);

/* Asks the counters, from any namespace. Blocks for a moment. */
CG_MUST_USE bool cg_netns_counters(int netlink, struct cg_keeper_counters *out, struct cg_err *e);

#endif
