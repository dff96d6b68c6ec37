/* Taking a guest over that is in the middle of a session with another host: RESET with a nonce
 * goes to its agent, and all that it says before it repeats the nonce was meant for that one
 * (docs/link-protocol.md). */
#ifndef CG_WARDEN_TAKEOVER_H
#define CG_WARDEN_TAKEOVER_H

#include "link/link.h"

struct takeover {
    bool on; /* the nonce has not come yet */
    unsigned char nonce[CG_LINK_NONCE], tail[CG_LINK_NONCE], reset[CG_LINK_RESET];
    size_t left; /* of `reset` to be written */
    size_t skipped;
};

void takeover_begin(struct takeover *t);
/* What is to be written before anything else of the link; empty: nothing, also while the link has
 * to wait (t->on). */
struct cg_slice takeover_output(const struct takeover *t);
/* Takes what does not count off the beginning of `bytes`. False: it never begins. */
CG_MUST_USE bool takeover_skip(struct takeover *t, struct cg_slice *bytes, struct cg_err *e);

#endif
