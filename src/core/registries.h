/* The hosts that this machine's package managers get packages from, as their own configuration has
 * them: npm, pip, apt, Go, cargo (egress/registries.h). With those of a sandbox's template they are
 * what "registries" in an allowlist stands for. Read once, when the server starts. */
#ifndef CG_CORE_REGISTRIES_H
#define CG_CORE_REGISTRIES_H

#include "base/buf.h"

/* A JSON array of rules (egress/policy.h), each "host:port"; the caller's. */
CG_MUST_USE char *cg_registries_read(void);

/* Puts the registries of npm and pip into this process's environment, as their configuration of the
 * starting user has them, unless they stand there: a server gives up what it needs to read that. */
void cg_registries_export(void);
/* Members of a guest's environment that `asked` (may be NULL) does not have: the same registries.
 * Those with credentials in them are left out. */
struct cg_json;
struct cg_jsonw;
void cg_registries_env(const struct cg_json *asked, struct cg_jsonw *w);

/* What "registries" stands for in a sandbox of that template: those of this machine, then those
 * that the template's own files name. A JSON array of rules; the caller's. Any thread; a few stats,
 * or a few hundred small reads when the templates have changed. */
struct cg_core;
CG_MUST_USE char *cg_registries_of(const struct cg_core *c, const char *template_name);

#endif
