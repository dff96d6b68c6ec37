/* The hosts that this machine's package managers get packages from, as their own configuration has
 * them: npm, pip, apt, Go, cargo. They are what "registries" in an allowlist stands for. Read once,
 * when the server starts. */
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

/* Adds the hosts of all URLs in lines of a configuration that hold the word ("" fits every line)
 * and are no comment; out is a list of strings, each ended by NUL, without doubles. */
void cg_registries_scan(const char *text, const char *word, struct cg_buf *out);

#endif
