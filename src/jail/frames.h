/* A guest's network card, played on the tap's descriptor: proves the rules without a guest. */
#ifndef CG_JAIL_FRAMES_H
#define CG_JAIL_FRAMES_H

#include "base/err.h"

/* Sends a TCP SYN from the guest's address to address:port and waits up to a second for what comes
 * back. CG_OK: it was accepted in the name of that address; CG_CLOSED: it was reset; CG_TIMEOUT. */
enum cg_code cg_frames_syn(int tap, const uint8_t address[4], uint16_t port);

#endif
