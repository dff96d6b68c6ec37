/* Messages to the outside - webhooks and mail - on a thread of their own, so that a slow receiver
 * keeps nobody waiting. Up to eight go at once, each has ten seconds.
 *
 * Where they may go (docs/alerts.md): https to public addresses; anything else only where the
 * operator's notify.allow names it. The address that is connected to is checked, not the name, and
 * no redirect is followed. The operator's own mail server is not asked. */
#ifndef CG_CORE_COURIER_H
#define CG_CORE_COURIER_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "egress/policy.h"

struct cg_courier;

struct cg_parcel {
    char *url; /* all owned by the courier once sent */
    char *body;
    char *headers;             /* lines, each ended by \n; NULL: none but the content type */
    char *mail_from, *mail_to; /* a mail: the body is the whole message */
    char *user, *password;     /* of the mail server */
    /* On the loop's thread, once. error NULL: it was taken. again: another try makes sense. */
    void (*done)(void *ctx, const char *error, bool again);
    void *ctx;
};

CG_MUST_USE struct cg_courier *
cg_courier_create(uv_loop_t *loop, const struct cg_egress_rule *allow, unsigned nallow);
/* What has not gone is dropped without done. */
void cg_courier_destroy(struct cg_courier *c);
/* False when too much is waiting; the parcel is freed then, done does not come. */
CG_MUST_USE bool cg_courier_send(struct cg_courier *c, const struct cg_parcel *p);

/* May a message go to this address (host order)? */
bool cg_courier_may(const struct cg_egress_rule *allow, unsigned nallow, uint32_t address,
                    uint16_t port, bool tls);

#endif
