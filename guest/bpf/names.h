/* The words of the records: kinds, operations, hooks, signals. */
#ifndef CG_BPF_NAMES_H
#define CG_BPF_NAMES_H

#include "record.h"

const char *cg_obs_kind_name(unsigned kind); /* "exec"; NULL beyond the last */
const char *cg_obs_op_name(unsigned op);     /* "create"; NULL beyond the last */
const char *cg_obs_hook_name(unsigned hook); /* "rename_out"; NULL beyond the last */
enum cg_obs_kind cg_obs_hook_kind(enum cg_obs_hook hook);

/* "KILL" for 9; NULL for what has no name. */
const char *cg_obs_signal_name(int number);

#endif
