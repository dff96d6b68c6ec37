/* The packages of an agent, as this machine's npm gets them, kept for the next time. */
#ifndef CG_IMAGE_FETCH_H
#define CG_IMAGE_FETCH_H

#include "image/agents.h"
#include "image/store.h"

/* Makes *dir (the caller's) a folder with what the profile keeps of its packages: at once when it
 * was fetched before. No script of a package runs. CG_UNAVAILABLE when npm cannot get it. */
CG_MUST_USE bool cg_fetch_agent(struct cg_task *t, const struct cg_agent *a, char **dir,
                                struct cg_err *e);

#endif
