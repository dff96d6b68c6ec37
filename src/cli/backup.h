/* The state directory in one file, taken while the server runs, and put back. */
#ifndef CG_CLI_BACKUP_H
#define CG_CLI_BACKUP_H

#include "base/err.h"

struct cg_backup_count {
    uint64_t files, bytes;
};

/* Packs what is kept of a state directory into fd, tar in zstd. `database` stands for server.db: a
 * copy of it that is whole, or NULL when no server runs and the files themselves are. Blocks. */
CG_MUST_USE bool cg_backup_pack(const char *state_dir, const char *database, int fd,
                                struct cg_backup_count *count, struct cg_err *e);

/* Unpacks into an empty folder. Nothing but files and folders of a state directory comes out of it:
 * anything else is CG_INVALID. */
CG_MUST_USE bool cg_backup_unpack(int fd, const char *dir, struct cg_backup_count *count,
                                  struct cg_err *e);

#endif
