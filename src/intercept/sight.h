/* What the first bytes of a connection are, and for which host: TLS by its hello, HTTP/1 by the
 * head of its first request, or something else. Pure and strict. */
#ifndef CG_INTERCEPT_SIGHT_H
#define CG_INTERCEPT_SIGHT_H

#include "egress/egress.h"
#include "intercept/hello.h"

/* `name` is set with CG_SIGHT_TLS and CG_SIGHT_HTTP, else empty. False: more bytes are needed; it
 * is never false from CG_HELLO_MAX bytes on. */
bool cg_sight(struct cg_slice in, uint16_t port, enum cg_egress_sight *sight,
              char name[CG_EGRESS_NAME]);
/* When they do not come in time: the beginning of a hello or of a head names nobody. */
enum cg_egress_sight cg_sight_cut(struct cg_slice in);

#endif
