/* What people type and nobody may see. */
#ifndef CG_CLI_PROMPT_H
#define CG_CLI_PROMPT_H

#include "base/buf.h"
#include "base/err.h"

/* Everything on standard input without its last line end, or a line of a terminal without echo;
 * `what` is named in the prompt and in errors. out is initialised with a bound; wipe it. */
CG_MUST_USE bool cli_read_hidden(const char *what, struct cg_buf *out, struct cg_err *e);
/* Overwrites, then frees. */
void cli_wipe(struct cg_buf *b);

#endif
