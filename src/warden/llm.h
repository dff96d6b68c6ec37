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
    int64_t budget_nusd; /* CG_LEDGER_UNLIMITED: none */
    bool strict, bodies;
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
void llm_running(struct warden *w, bool running);            /* the machine's meter */
void llm_second(struct warden *w);
void llm_progress(struct warden *w); /* the record moved on */
void llm_close(struct warden *w);    /* ends every call; their last lines are written */
void llm_free(struct warden *w);     /* after the loop */
void llm_status(const struct warden *w, struct cg_jsonw *j); /* members of `status` */

/* Kinds: `costs` streams what is spent; `budget` sets the limit. */
void llm_costs_open(struct warden *w, struct conn *c, struct cg_link_stream *s);
void llm_budget_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                     const struct cg_json *request);

#endif
