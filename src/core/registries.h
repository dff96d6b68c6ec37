/* The hosts that this machine's package managers get packages from, as their own configuration has
 * them: npm, pip, apt, Go, cargo. They are what "registries" in an allowlist stands for. Read once,
 * when the server starts. */
#ifndef CG_CORE_REGISTRIES_H
#define CG_CORE_REGISTRIES_H

#include "base/buf.h"

/* A JSON array of rules (egress/policy.h), each "host:port"; the caller's. */
CG_MUST_USE char *cg_registries_read(void);

/* Adds the hosts of all URLs in lines of a configuration that hold the word ("" fits every line)
 * and are no comment; out is a list of strings, each ended by NUL, without doubles. */
void cg_registries_scan(const char *text, const char *word, struct cg_buf *out);

#endif
