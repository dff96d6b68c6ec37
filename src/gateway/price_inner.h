/* Shared by the price book and its import: a list of rows under construction. */
#ifndef CG_GATEWAY_PRICE_INNER_H
#define CG_GATEWAY_PRICE_INNER_H

#include <yyjson.h>

#include "gateway/price.h"

enum { ROWS_MAX = 20000, PRICES_TEXT_MAX = 32 << 20 };

/* Rows own their strings. */
struct cg_price_rows {
    struct cg_price *v;
    size_t n, cap;
};

void cg_price_rows_finish(struct cg_price_rows *rows);
void cg_drop_price_rows(struct cg_price_rows *rows);

/* An empty row with nothing known (-1), for rows_add. */
void cg_price_blank(struct cg_price *p);
void cg_rates_blank(struct cg_rates *r);

/* Completes p by the rules of docs/billing.md (what is not published is never 0), checks it and
 * takes copies of its strings. */
CG_MUST_USE bool cg_price_rows_add(struct cg_price_rows *rows, const struct cg_price *p,
                                   struct cg_err *e);

/* Rows of our own form. The document was read with numbers as raw text. */
CG_MUST_USE bool cg_price_rows_read(struct cg_price_rows *rows, yyjson_val *root, bool override,
                                    struct cg_err *e);

/* Reads a JSON text with numbers as raw text; NULL with *e set. Free with yyjson_doc_free. */
CG_MUST_USE yyjson_doc *cg_price_json(struct cg_slice text, struct cg_err *e);
void cg_drop_yydoc(yyjson_doc **doc);

/* A member that is a number: its value times 10^scale; -1 when absent or null. False: no number. */
CG_MUST_USE bool cg_price_number(yyjson_val *obj, const char *key, int scale, int64_t *out,
                                 struct cg_err *e);

#endif
