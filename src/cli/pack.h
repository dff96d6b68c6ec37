/* Local files on their way to and from a guest, as tar streams by libarchive. */
#ifndef CG_CLI_PACK_H
#define CG_CLI_PACK_H

#include "cli/client.h"

/* A repository into /workspace: what git tracks, what is untracked and not ignored, and .git. A
 * folder that is no repository goes whole. */
CG_MUST_USE bool cg_pack_upload(struct cli *c, const char *id, const char *dir, struct cg_err *e);

/* A file or folder below `to` in the guest. */
CG_MUST_USE bool cg_pack_folder(struct cli *c, const char *id, const char *from, const char *to,
                                struct cg_err *e);
/* A guest's folder into a local one (made when missing); nothing is written outside of it. */
CG_MUST_USE bool cg_unpack_folder(struct cli *c, const char *id, const char *from, const char *to,
                                  struct cg_err *e);

#endif
