/* Reading the operator's file again while the server runs. */
#ifndef CG_CORE_RELOAD_H
#define CG_CORE_RELOAD_H

#include "core/options.h"

/* On failure *o is as it was; CG_INVALID names the line. The loop's thread. */
CG_MUST_USE bool cg_options_reload(struct cg_options *o, struct cg_err *e);

/* Around what another thread than the loop's reads of the options: no reload in between. */
void cg_options_hold(void);
void cg_options_let_go(void);

#endif
