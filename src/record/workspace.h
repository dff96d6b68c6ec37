/* /workspace as a record tells it stood at a sequence number: which files there were, and for those
 * whose content was kept, its blob. Folded from `file_op` and `content` lines. A file that was
 * there before the record began, or came in an archive, is known from its first change on. Content
 * was read a moment after the write that it stands behind: a number between the two shows the file
 * as it was before. Bounded; blocks; any thread. */
#ifndef CG_RECORD_WORKSPACE_H
#define CG_RECORD_WORKSPACE_H

#include "base/map.h"
#include "record/blob.h"
#include "record/index.h"

enum { CG_WORKSPACE_FILES_MAX = 200000 };

struct cg_workspace_file {
    bool folder;
    char blob[CG_BLOB_NAME]; /* empty: its content was not kept */
    char skipped[12];        /* why not: "binary", "large", "quota"; empty: not read yet */
    int64_t size;            /* -1: unknown */
    int64_t t;               /* of the last line about it, on the record's clock */
    uint64_t seq;
};

struct cg_workspace {
    struct cg_map
        files; /* path below /workspace, without a first slash: struct cg_workspace_file */
    bool cut;  /* there were more than fit */
};

/* As it stood behind line `seq`. `out` is empty before, and to be finished after, also on failure.
 */
CG_MUST_USE bool cg_workspace_at(const struct cg_index *ix, int record_dir, uint64_t seq,
                                 struct cg_workspace *out, struct cg_err *e);
void cg_workspace_finish(struct cg_workspace *t);

#endif
