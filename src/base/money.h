/* Money is int64_t nano-dollars ("nusd") everywhere: 1e-9 USD. Prices of tokens are nano-dollars
 * per million tokens ("npm", so that $12.5 per billion has no fraction). Arithmetic saturates at
 * CG_MONEY_MAX and never wraps; whatever is rounded is rounded up, against the spender. */
#ifndef CG_BASE_MONEY_H
#define CG_BASE_MONEY_H

#include "base/buf.h"
#include "base/err.h"

#define CG_USD INT64_C(1000000000)
#define CG_MONEY_MAX (INT64_C(9000000) * CG_USD) /* room to add a thousand of them */

enum { CG_MONEY_TEXT = 32, CG_TOKENS_MILLION = 1000000 };

/* a + b, clamped to +-CG_MONEY_MAX. */
int64_t cg_money_add(int64_t a, int64_t b);

/* ceil(a * b / d), for a, b >= 0 and d > 0; CG_MONEY_MAX when it would be more. */
int64_t cg_money_muldiv(int64_t a, int64_t b, int64_t d);

/* What `tokens` cost at `npm`; tokens and npm >= 0. */
int64_t cg_money_tokens(int64_t tokens, int64_t npm);

/* How many tokens `nusd` buys at `npm`, rounded down; INT64_MAX when they cost nothing, 0 when
 * nusd <= 0. */
int64_t cg_money_buys(int64_t nusd, int64_t npm);

/* "8.00", "0.0192", "-1.50": at least two decimals, at most nine, no digit lost. */
void cg_money_format(int64_t nusd, char out[CG_MONEY_TEXT]);

/* "8", "$0.05", "1e-3": dollars, 0 to 9 million. What is finer than a nano-dollar rounds up. */
CG_MUST_USE bool cg_money_parse(struct cg_slice text, int64_t *nusd, struct cg_err *e);

/* A decimal number times 10^scale as an integer, rounded up; 0 to 9e15. Scale 9 makes nano-dollars
 * of dollars, 15 makes npm of dollars per token. CG_INVALID names what is no number. */
CG_MUST_USE bool cg_money_parse_scaled(struct cg_slice text, int scale, int64_t *out,
                                       struct cg_err *e);

/* Dollars as the JSON of the API carries them. */
double cg_money_usd(int64_t nusd);
int64_t cg_money_from_usd(double usd); /* rounds to the nearest nano-dollar; NaN, negative: -1 */

#endif
