/* What this machine is and where it gets packages from, read from its own configuration. */
#ifndef CG_IMAGE_HOST_H
#define CG_IMAGE_HOST_H

#include "base/err.h"
#include "image/strv.h"

struct cg_host {
    char *distribution; /* "debian", "ubuntu": ID of os-release */
    char *codename;     /* "bookworm" */
    const char *kernel_package;
    const char *kernel_series; /* "6.1"; "" for any */
};

/* Errors: CG_UNSUPPORTED on a distribution that Caged has no kernel package for. */
CG_MUST_USE bool cg_host_read(struct cg_host *h, struct cg_err *e);
void cg_host_finish(struct cg_host *h);
void cg_host_drop(struct cg_host **h); /* finishes *h, for CG_OWN on a pointer to the caller's */

/* The distribution that has a suite of that name ("trixie": "debian"), NULL when unknown. */
const char *cg_suite_distribution(const char *suite);

/* Lines for sources.list that give `suite`, its updates and its security suite, and the suites in
 * `extra`, from the mirrors in this machine's apt configuration.
 * Errors: CG_UNAVAILABLE when the machine's mirrors are those of another distribution. */
CG_MUST_USE bool cg_host_sources(const struct cg_host *h, const char *suite,
                                 const struct cg_strv *extra, struct cg_strv *out,
                                 struct cg_err *e);

/* apt options ("Acquire::http::Proxy \"…\"") of this machine that a build of another root needs. */
CG_MUST_USE bool cg_host_apt_options(struct cg_strv *out, struct cg_err *e);

#endif
