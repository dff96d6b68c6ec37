/* ~/.config/caged/config.json: the server and the key of this user. */
#ifndef CG_CLI_CREDENTIALS_H
#define CG_CLI_CREDENTIALS_H

#include "base/err.h"

/* The file's path, the caller's; NULL without a HOME. */
CG_MUST_USE char *cli_credentials_path(void);
/* Writes api_url and api_key (NULL: takes them out); other members stay. The folder gets mode 0700,
 * the file 0600, and it is never there half. */
CG_MUST_USE bool cli_credentials_save(const char *url, const char *key, struct cg_err *e);
/* Does config.json hold a key? */
bool cli_credentials_have(void);

#endif
