/* What changes in a folder tree, through inotify: the file_op events of the plain program. Content
 * is never opened. Everything is bounded: folders watched, paths held back, events a second; what
 * does not fit is counted. Inside a sandbox the eBPF observation does this job; here nobody needs
 * root or a new kernel. One thread, on the agent's loop. */
#ifndef CG_AGENT_FILEWATCH_H
#define CG_AGENT_FILEWATCH_H

#include "base/err.h"

enum filewatch_op { FILE_CREATE, FILE_WRITE, FILE_DELETE, FILE_RENAME };

struct filewatch_event {
    enum filewatch_op op;
    const char *path; /* absolute */
    int64_t size;     /* -1: not known (delete, rename) */
    int64_t wall_ms;
    uint64_t dropped; /* events lost since the previous one */
};

typedef void filewatch_sink(const struct filewatch_event *event);

/* Begins with what the tree holds now, without events for it. CG_NOT_FOUND, CG_IO, or CG_CONFLICT
 * when one is running: there is one at a time. */
CG_MUST_USE bool filewatch_start(const char *root, int64_t debounce_ms, int64_t rate,
                                 filewatch_sink *sink, struct cg_err *e);
void filewatch_stop(void);
uint64_t filewatch_lost(void); /* in all, since the start */

const char *filewatch_op_name(enum filewatch_op op);

/* True for folders and files that change often and tell nothing: dependency trees, caches, editors'
 * temporary files. */
bool filewatch_ignores_folder(const char *name);
bool filewatch_ignores_file(const char *name);

#endif
