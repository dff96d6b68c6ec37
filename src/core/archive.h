/* The last steps of a sandbox's end, on the pool, where they may block: its record is closed and
 * moved to the archive, its files go. Works on copies, so that the loop may go on reading the
 * sandbox. */
#ifndef CG_CORE_ARCHIVE_H
#define CG_CORE_ARCHIVE_H

#include "core/core.h"

struct cg_archive {
    char id[CG_ID_TEXT];
    char reason[64];
    bool helper;       /* nothing of it is kept */
    bool keep_disk;    /* the filesystem as it was, into the archive */
    bool failed;       /* it ends as `error` */
    struct cg_err why; /* as the server knows it */
    char *dir, *run;   /* the sandbox's directories */
    char *archive;     /* where the record goes */
    char *memory;      /* of its last seal */
    const struct cg_seal_key *key;
    bool counted; /* the ledger of the record could be read, and says: */
    int64_t llm_nusd, compute_nusd, committed_nusd, tokens;
    struct cg_err found; /* what the warden wrote into the record, CG_OK: nothing */
    char *console;       /* the last lines of the guest's console; NULL: none */
};

void cg_archive_init(struct cg_archive *a, const struct cg_sandbox *sb, bool failed,
                     const char *reason);
void cg_archive_run(struct cg_archive *a); /* blocks; failures are logged */
void cg_archive_finish(struct cg_archive *a);

#endif
