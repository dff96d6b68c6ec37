/* Where package managers (npm, pip, apt, Go, cargo) say what they get packages from: the files and
 * variables of their configuration, on a machine or in a template, and how URLs are found in them.
 * So no host name of a registry stands anywhere in Caged. Pure; docs/egress.md. */
#ifndef CG_EGRESS_REGISTRIES_H
#define CG_EGRESS_REGISTRIES_H

#include "base/buf.h"

enum {
    CG_REGISTRIES_HOSTS = 64,        /* of one list */
    CG_REGISTRIES_FILE = 256 * 1024, /* longer ones are not read */
    CG_REGISTRIES_SOURCES = 22,
    CG_REGISTRIES_VARIABLES = 5,
    CG_REGISTRIES_MANAGERS = 5,
};

struct cg_registries_source {
    const char *manager;
    const char *path; /* a pattern; "~" is a home directory */
    const char *word; /* of the lines that count */
    bool fallback;    /* what the manager does when nothing else is configured */
};
extern const struct cg_registries_source cg_registries_sources[CG_REGISTRIES_SOURCES];

struct cg_registries_variable {
    const char *manager, *name;
};
extern const struct cg_registries_variable cg_registries_variables[CG_REGISTRIES_VARIABLES];

extern const char *const cg_registries_managers[CG_REGISTRIES_MANAGERS];

/* Adds the hosts of all URLs in lines of a configuration that hold the word ("" fits every line)
 * and are no comment, as rules "host:port" (policy.h); out is a list of strings, each ended by NUL,
 * without doubles. */
void cg_registries_scan(const char *text, const char *word, struct cg_buf *out);

#endif
