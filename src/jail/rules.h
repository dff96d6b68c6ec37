/* Names that the rules and the devices they speak of share; src/jail only. */
#ifndef CG_JAIL_RULES_H
#define CG_JAIL_RULES_H

#include "base/buf.h"
#include "jail/jail.h"

#define CG_TAP "tap0"
#define CG_TABLE "caged"
enum { CG_TCP_PORT = 1080 };

/* The ruleset as text for libnftables; false when it does not fit. */
CG_MUST_USE bool cg_rules_text(const struct cg_jail_net *net, unsigned nnet, struct cg_buf *out);

#endif
