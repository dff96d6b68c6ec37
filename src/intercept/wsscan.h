/* Placeholders in what a client says over a WebSocket (RFC 6455): its frames are masked, so they
 * are unmasked for the look. Nothing is changed; bytes that are no frames are looked at as they
 * are. */
#ifndef CG_INTERCEPT_WSSCAN_H
#define CG_INTERCEPT_WSSCAN_H

#include "intercept/match.h"

struct ws_scan {
    const struct cg_match *m; /* borrowed */
    uint32_t node;
    unsigned at;   /* bytes of the frame's head that are there */
    unsigned need; /* bytes that it has */
    unsigned char head[14];
    uint64_t left; /* of the payload */
    unsigned pos;  /* in the mask */
};

void ws_scan_init(struct ws_scan *s, const struct cg_match *m);
/* The tag of a placeholder, -1: none so far. */
int ws_scan_feed(struct ws_scan *s, struct cg_slice in);

#endif
