/* Certificate authorities that the administrator of this machine added to those of its
 * distribution: behind a company's proxy nothing works without them, in a guest as little as here.
 * What a guest may trust is public; docs/egress.md. Blocks: reads some two hundred small files. */
#ifndef CG_CORE_HOSTCA_H
#define CG_CORE_HOSTCA_H

#include "base/err.h"

enum { CG_HOSTCA_MAX = 32 * 1024 };

/* The certificates of a PEM text and nothing else of it, one after the other, each once, at most
 * CG_HOSTCA_MAX bytes; NULL when there is none. The caller's. */
CG_MUST_USE char *cg_hostca_clean(const char *pem);

/* Those in the file `bundle` that no file below `distribution` (two levels of *.crt) has. Nothing
 * when there is no such folder: what is the administrator's cannot be told then. The caller's, or
 * NULL. */
CG_MUST_USE char *cg_hostca_added(const char *bundle, const char *distribution);

/* For guests: `how` is "host" (or NULL), "none" or a file in PEM; `more` (may be NULL) are the
 * operator's own, which go with "host". *out is the caller's, NULL for none. */
CG_MUST_USE bool cg_hostca_read(const char *how, const char *more, char **out, struct cg_err *e);

#endif
