/* The trust score of a living sandbox: the engine of src/trust reads the record behind the writer,
 * on libuv's pool, and what it finds is written as `trust` lines. Nothing waits for it but the end:
 * the last line of a record comes when the engine has read all before it, or after a few seconds.
 * Since it reads nothing but the record, a warden that takes a record over (after a pause) begins
 * at its first line and tells only what was not told. */
#ifndef CG_WARDEN_TRUST_H
#define CG_WARDEN_TRUST_H

#include "warden/inner.h"

/* After the record is open; without rules in the sandbox's folder there is no score. */
CG_MUST_USE bool trust_start(struct warden *w, struct cg_err *e);
void trust_opened(struct warden *w, bool first); /* the record's first lines are written */
void trust_progress(struct warden *w);           /* more is durable */
bool trust_settled(const struct warden *w);      /* it has read everything */
bool trust_busy(const struct warden *w);         /* it runs on the pool */
void trust_free(struct warden *w);

void trust_open(struct warden *w, struct conn *c, struct cg_link_stream *s); /* `trust` streams */
void trust_status(const struct warden *w, struct cg_jsonw *j);

#endif
