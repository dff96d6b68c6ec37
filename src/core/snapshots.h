/* Snapshots: the disk of a sandbox at one moment, with or without its memory.
 *
 *   <state>/snapshots/<id>/   disk.img   the writable disk, sparse
 *                             vm.state   the guest with its memory, when it has one
 *
 * They outlive their sandbox. A running one stands still while its state is saved and its disk
 * copied (by reflink where the file system has it). What a snapshot is lies in the store, as an
 * item; one that was pending when the server ended is `failed`. One thread, the loop's. */
#ifndef CG_CORE_SNAPSHOTS_H
#define CG_CORE_SNAPSHOTS_H

#include "core/core.h"

enum { CG_SNAPSHOT_NAME = 65, CG_SNAPSHOT_TEXT = 257 };

/* The trigger, and the name, of the one that a pause makes. */
#define CG_SNAPSHOT_AUTO "auto-pause"

enum cg_snapshot_status { CG_SNAPSHOT_PENDING, CG_SNAPSHOT_COMPLETED, CG_SNAPSHOT_FAILED };

struct cg_snapshot {
    char id[CG_ID_TEXT];
    char sandbox[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char name[CG_SNAPSHOT_NAME];
    char description[CG_SNAPSHOT_TEXT];
    char trigger[16]; /* "manual", "fork", "auto-pause" */
    enum cg_snapshot_status status;
    struct cg_err error;
    bool memory;
    bool hidden; /* of a fork under way: in no list */
    int64_t size_bytes, stall_ns, created_wall, completed_wall;
    char template_name[160];
    char *base_path;
    char *env_json; /* of the sandbox, for those made of it; NULL: none */
    uint32_t cpus, memory_mb, disk_gb;
    unsigned users; /* restores and creations at work: it is not deleted under them */
};

typedef void cg_snapshot_done(void *ctx, struct cg_snapshot *s, const struct cg_err *err);

/* Reads what there is; removes what no item owns. */
CG_MUST_USE bool cg_snapshots_start(struct cg_core *c, struct cg_err *e);

struct cg_snapshot_order {
    const char *name, *description; /* NULL: the id; none */
    const char *trigger;
    bool memory, hidden;
};

/* Begins one of a running or paused sandbox; done comes when it is whole or has failed. NULL with
 * *e set when it is refused at once: CG_CONFLICT for the state, CG_LIMIT with the limit. */
CG_MUST_USE struct cg_snapshot *cg_core_snapshot(struct cg_sandbox *sb,
                                                 const struct cg_snapshot_order *o,
                                                 cg_snapshot_done *done, void *ctx,
                                                 struct cg_err *e);

struct cg_snapshot *cg_snapshot_find(struct cg_core *c, const char *id);
/* Those of a sandbox, or with sandbox NULL of an account, oldest first. */
void cg_snapshots_each(struct cg_core *c, const char *account, const char *sandbox,
                       void (*each)(void *ctx, const struct cg_snapshot *s), void *ctx);
void cg_snapshot_write(const struct cg_snapshot *s, struct cg_jsonw *w);
/* CG_CONFLICT while it is in use or not complete. */
CG_MUST_USE bool cg_snapshot_delete(struct cg_core *c, struct cg_snapshot *s, cg_store_done *done,
                                    void *ctx, struct cg_err *e);
/* CG_CONFLICT unless it is complete. */
CG_MUST_USE bool cg_snapshot_usable(const struct cg_snapshot *s, struct cg_err *e);
/* The caller's. */
char *cg_snapshot_path(const struct cg_core *c, const struct cg_snapshot *s, const char *name);

/* The target's files become those of the snapshot, and it runs again: of the snapshot's memory
 * when that has one and the shapes are the same, else by a boot. The target is paused for it. */
CG_MUST_USE bool cg_core_restore(struct cg_snapshot *s, struct cg_sandbox *target,
                                 cg_sandbox_done *done, void *ctx, struct cg_err *e);

/* `count` live copies of a running or paused sandbox. done comes once, when all run or have failed;
 * `made` is valid during the call, NULL where one failed. */
typedef void cg_fork_done(void *ctx, struct cg_sandbox *const *made, unsigned count,
                          int64_t stall_ns, const struct cg_err *err);
enum { CG_FORK_MAX = 64 };
CG_MUST_USE bool cg_core_fork(struct cg_sandbox *sb, unsigned count, const char *name,
                              cg_fork_done *done, void *ctx, struct cg_err *e);

#endif
