/* Which coding agent a program or a caller of a model is, by the name it goes by. A name proves
 * nothing: it says what a session is called, and no right hangs on it. */
#ifndef CG_WARDEN_AGENTS_H
#define CG_WARDEN_AGENTS_H

#include "base/defs.h"

struct cg_json;

/* `argv` is an array of strings or NULL, `exe` a path or NULL. The agent's name ("claude-code"), or
 * NULL: it is none, or one that only tells its version or help. */
const char *agent_of_program(const char *exe, const struct cg_json *argv);

/* By the User-Agent of a request to a model; NULL when it is not known. */
const char *agent_of_user_agent(const char *user_agent);

#endif
