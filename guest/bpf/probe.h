/* The heartbeat's probe: does small things that hooks must see, since a hook can be attached and
 * not run (root switched ftrace off, for one). */
#ifndef CG_BPF_PROBE_H
#define CG_BPF_PROBE_H

#include "base/defs.h"
#include "record.h"

/* Does its acts in the folder and cleans up; expect[hook] says which hooks must have run for this
 * process, those whose act the kernel carried out. */
void cg_probe_run(const char *dir, bool expect[CG_HOOKS]);

#endif
