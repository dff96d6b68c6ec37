/* The warden's side of the LLM gateway: price book and ledger of this sandbox, their rows in its
 * record, machine time, and the guard that acts when the budget is used up. One thread, the
 * loop's. */
#ifndef CG_WARDEN_LLM_H
#define CG_WARDEN_LLM_H

#include "gateway/gateway.h"

struct cg_json;
struct warden;
struct conn;
struct cg_link_stream;

/* The `gateway` member of config.json; checked when it is read. */
struct llm_config {
    bool on;
    char token[CG_GATEWAY_TOKEN];
    int64_t budget_nusd, budget_tokens; /* CG_LEDGER_UNLIMITED: none */
    bool strict, bodies;
    bool leased;    /* the account's money comes in slices */
    bool pause;     /* at 100 percent, instead of an end */
    bool intercept; /* names of the providers lead to the gateway */
    struct cg_compute_prices machine;
    struct cg_gateway_provider providers[CG_GATEWAY_PROVIDERS];
    size_t nproviders;
};

CG_MUST_USE bool llm_config_parse(const struct cg_json *gateway, struct llm_config *out,
                                  struct cg_err *e);

struct llm;

/* Reads prices.json (and prices.own.json) of the sandbox's folder, replays the ledger's rows of the
 * record. NULL in *out when config has no gateway. */
CG_MUST_USE bool llm_start(struct warden *w, struct cg_err *e);
void llm_keys(struct warden *w, const struct cg_json *keys); /* of the start request: by provider */
/* Connections to the providers' own names end at the gateway; after secrets_start, before the guest
 * runs. */
CG_MUST_USE bool llm_intercept(struct warden *w, struct cg_err *e);
void llm_running(struct warden *w, bool running); /* the machine's meter */
void llm_second(struct warden *w);
bool llm_guarded(const struct warden *w); /* the guard waits for the guest to stand still */
void llm_still(struct warden *w); /* the guest stands still: what the guard may have waited for */
void llm_progress(struct warden *w); /* the record moved on */
void llm_close(struct warden *w);    /* ends every call; their last lines are written */
void llm_free(struct warden *w);     /* after the loop */
void llm_status(const struct warden *w, struct cg_jsonw *j); /* members of `status` */

/* Kinds: `costs` streams what is spent; `budget` sets limits, answered when that is on disk;
 * `lease` gives more of the account's money, or says that there is none; `prices` reads the books
 * anew. */
void llm_costs_open(struct warden *w, struct conn *c, struct cg_link_stream *s);
void llm_budget_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                     const struct cg_json *request);
void llm_lease_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                    const struct cg_json *request);
void llm_prices_open(struct warden *w, struct conn *c, struct cg_link_stream *s);

#endif
