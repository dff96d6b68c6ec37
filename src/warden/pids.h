/* Processes of the guest by number, each with a small value. Bounded: what does not fit is not
 * known, and the caller goes by its default then. */
#ifndef CG_WARDEN_PIDS_H
#define CG_WARDEN_PIDS_H

#include "base/defs.h"

enum { PIDS_MAX = 16384 };

struct pids {
    struct pids_slot *slots;
    size_t count, cap;
};

void pids_finish(struct pids *p);
bool pids_get(const struct pids *p, int64_t pid, uint8_t *value);
void pids_put(struct pids *p, int64_t pid, uint8_t value);
void pids_remove(struct pids *p, int64_t pid);
/* Forgets every process with this value. */
void pids_forget(struct pids *p, uint8_t value);

#endif
