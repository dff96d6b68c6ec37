/* Where models are sold: data/model-hosts.txt, the providers that the operator configured, and the
 * price book of this server with the operator's own prices over it. */
#ifndef CG_CORE_MODELS_H
#define CG_CORE_MODELS_H

#include "core/core.h"

/* Reads the list of hosts. A missing or broken one is logged: then only configured hosts count. */
void cg_models_start(struct cg_core *c);
void cg_models_finish(struct cg_core *c);

/* The member "hosts" of a provider in config.json: names of it that lead to the gateway. */
void cg_models_write_hosts(const struct cg_core *c, const struct cg_gateway_provider *p,
                           struct cg_jsonw *w);
/* The member "models" of config.json's network: names that are refused. */
void cg_models_write_refused(const struct cg_core *c, struct cg_jsonw *w);

/* ---- prices ---- */

/* Puts the price book, and the operator's prices, into a sandbox's folder. Blocks. */
CG_MUST_USE bool cg_prices_place(const struct cg_sandbox *sb, const char *dir, struct cg_err *e);

/* The book as it is: version, attribution, rows; `provider`, `model` (may be NULL) choose. Rows
 * whose time is over are left out unless `all`. Reads two small files. */
CG_MUST_USE bool cg_prices_show(const struct cg_core *c, const char *provider, const char *model,
                                bool all, struct cg_jsonw *w, struct cg_err *e);

/* Own prices, on disk when it returns, and told to every sandbox that runs. */
struct cg_price_set;
CG_MUST_USE bool cg_prices_change(struct cg_core *c, const struct cg_price_set *set,
                                  struct cg_err *e);
CG_MUST_USE bool cg_prices_take(struct cg_core *c, struct cg_slice text, const char *name,
                                size_t *count, struct cg_err *e);

#endif
