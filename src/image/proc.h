/* Runs one helper program to its end: argv as a vector, never a shell string; output bounded. */
#ifndef CG_IMAGE_PROC_H
#define CG_IMAGE_PROC_H

#include "base/buf.h"
#include "base/err.h"
#include "image/strv.h"

struct cg_proc {
    struct cg_strv argv;
    struct cg_strv env; /* KEY=VALUE, over the caller's own environment */
    bool namespaces;    /* in mount and pid namespaces of its own: whatever it mounts or starts
                           ends with it (root only) */
    const char *cwd;    /* NULL: as the caller */
    struct cg_buf *out; /* standard output; NULL: it goes where errors go */
    int log_fd;         /* everything the program wrote on stderr, too; 0 or -1: nowhere */
    /* Called for each line of stderr, and with NULL every 100 ms; false ends the program. May be
     * NULL. */
    bool (*line)(void *ctx, const char *line);
    void *ctx;
};

/* Starts the program in its own process group and waits. The group gets SIGTERM, then SIGKILL, when
 * `line` says so (error CG_CLOSED), and SIGTERM when the caller's thread dies.
 * Errors: CG_NOT_FOUND when the program is missing, CG_TOO_LARGE when `out` is full, CG_IO when it
 * ends with another status than 0; the text then has the last lines it wrote on stderr. */
CG_MUST_USE bool cg_proc_run(struct cg_proc *p, struct cg_err *e);

void cg_proc_finish(struct cg_proc *p); /* frees argv and env; for CG_OWN */

/* True when a program of that name is found in the path that cg_proc_run uses. */
bool cg_proc_have(const char *name);

#endif
