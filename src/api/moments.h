/* Requests about the past: each answers when the request names a sequence number, else it does
 * nothing and is false. */
#ifndef CG_API_MOMENTS_H
#define CG_API_MOMENTS_H

#include <stdbool.h>

struct op;

bool api_files_at(struct op *op);     /* ?at_seq= */
bool api_content_at(struct op *op);   /* ?at_seq= */
bool api_diff_between(struct op *op); /* ?from_seq=, ?to_seq= */

#endif
