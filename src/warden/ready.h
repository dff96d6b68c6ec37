/* What a spare's warden does before it is anybody's, so that nobody waits for it: the certificate
 * authority is made, the rules of trust and the price book are read, libraries are started. What
 * was read counts only as long as the files say the same: they are looked at again. One thread. */
#ifndef CG_WARDEN_READY_H
#define CG_WARDEN_READY_H

#include "base/buf.h"

struct cg_ca;
struct cg_pack;
struct cg_prices;
struct ready;

/* `dir` holds what cg_prices_place and cg_scores_place wrote. What fails here is done later. */
struct ready *ready_create(int dir, const char *id);
void ready_destroy(struct ready *r); /* NULL is fine */

const char *ready_ca_pem(const struct ready *r); /* NULL: there is none */

/* The caller's, once; NULL: there is none, or not of these texts. `r` may be NULL. */
struct cg_ca *ready_take_ca(struct ready *r);
struct cg_pack *ready_take_pack(struct ready *r, struct cg_slice text, struct cg_slice over);
struct cg_prices *ready_take_prices(struct ready *r, struct cg_slice book, struct cg_slice own);

#endif
