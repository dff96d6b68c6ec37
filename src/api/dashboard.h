/* The dashboard's files: read from share/caged/dashboard once, held in memory (at most 24 MiB). The
 * loop's thread. */
#ifndef CG_API_DASHBOARD_H
#define CG_API_DASHBOARD_H

#include "core/core.h"
#include "http/http.h"

struct dashboard;

/* Answers a GET or HEAD for a file of the dashboard, or for a page of its own routes; false when it
 * is neither: r is untouched then. *d is NULL at first, and what has been loaded afterwards. */
CG_MUST_USE bool cg_dashboard_serve(struct dashboard **d, const struct cg_core *core,
                                    struct cg_http_req *r);
void cg_dashboard_destroy(struct dashboard *d); /* NULL is fine */

#endif
