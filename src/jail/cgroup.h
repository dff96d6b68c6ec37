/* A control group (v2) of one sandbox's VMM and warden: bounds on CPU, memory and processes. */
#ifndef CG_JAIL_CGROUP_H
#define CG_JAIL_CGROUP_H

#include <sys/types.h>

#include "base/err.h"

struct cg_cgroup_limits {
    uint32_t cpu_percent; /* 100 is one CPU */
    uint64_t memory_bytes;
    uint32_t pids;
};

enum { CG_CGROUP_PATH = 256 };

/* Where groups of Caged go: the hierarchy's mount point, or NULL for the usual place. Makes
 * <root>/caged and hands the three controllers down to it. CG_UNSUPPORTED with what is missing when
 * there is no v2 hierarchy with them; the caller warns and goes on without. */
CG_MUST_USE bool cg_cgroup_base(const char *root, char out[CG_CGROUP_PATH], struct cg_err *e);

CG_MUST_USE bool cg_cgroup_create(const char *base, const char *name,
                                  const struct cg_cgroup_limits *limits, struct cg_err *e);
CG_MUST_USE bool cg_cgroup_add(const char *base, const char *name, pid_t pid, struct cg_err *e);

/* Kills what is left in it and removes it; missing is fine. Waits up to a second. */
CG_MUST_USE bool cg_cgroup_remove(const char *base, const char *name, struct cg_err *e);

#endif
