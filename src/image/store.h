/* The images directory as a place where builds happen: locks, temporary folders, commits. */
#ifndef CG_IMAGE_STORE_H
#define CG_IMAGE_STORE_H

#include "base/err.h"
#include "image/image.h"

/* A build in progress: what its progress is reported as, and how it is told to stop. */
struct cg_task {
    const struct cg_image_config *config;
    const struct cg_image_build *request;
    const char *item;
    const char *phase;
    int64_t started_ns;
    int percent;
    bool cached;
};

void cg_task_init(struct cg_task *t, const struct cg_image_config *c,
                  const struct cg_image_build *b, const char *item);

/* Reports; percent below what was reported is raised to it. False when the build must stop. */
bool cg_task_at(struct cg_task *t, int percent, const char *phase);
bool cg_task_tick(struct cg_task *t);
/* The same as an error: CG_CLOSED "interrupted". */
CG_MUST_USE bool cg_task_step(struct cg_task *t, int percent, const char *phase, struct cg_err *e);

/* Creates the images directory and its folders and removes what dead builds left in tmp/. */
CG_MUST_USE bool cg_imagedir_open(const struct cg_image_config *c, struct cg_err *e);

/* Takes the lock of that name, waiting for as long as the task is not interrupted; -1 on failure.
 * The lock is the descriptor: it goes with the process. */
CG_MUST_USE int cg_imagedir_lock(struct cg_task *t, const char *name, struct cg_err *e);

/* True when somebody holds that lock now. */
bool cg_imagedir_locked(const struct cg_image_config *c, const char *name);

/* A folder of ours below tmp/, mode 0700, that a sweep leaves alone for as long as we live. */
struct cg_tmp {
    char *path;
    char *shared; /* see cg_tmp_share; NULL until then */
    int lock;
};

CG_MUST_USE bool cg_tmp_create(const struct cg_image_config *c, struct cg_tmp *t, struct cg_err *e);
/* A folder for helpers that work as other uids of this user's (subordinate ones, in a user
 * namespace), who cannot enter the user's own folders: below /var/tmp, under a name that nobody
 * else can list or guess. As root simply the folder itself. Sets t->shared; goes with t. */
CG_MUST_USE bool cg_tmp_share(struct cg_tmp *t, struct cg_err *e);

void cg_tmp_drop(struct cg_tmp *t); /* removes the folder and all in it; for CG_OWN */

/* Syncs the file or every file of the folder `from`, then renames it to `to`, whose folder is
 * created. When a folder is there already, `from` is thrown away: equal names are equal content. */
CG_MUST_USE bool cg_imagedir_commit(const char *from, const char *to, struct cg_err *e);

#endif
