/* A creation under way: shared by create.c (files, jail, boot) and provision.c (clone, init). */
#ifndef CG_CORE_CREATION_H
#define CG_CORE_CREATION_H

#include "core/core.h"
#include "jail/jail.h"

enum { CG_GOLDEN_KEY = 33 };

struct cg_creation {
    struct cg_creation *next_waiting;
    struct cg_sandbox *sb;
    uv_work_t work;
    struct cg_err err;
    bool ok, working, failed;
    int fds[CG_JAIL_FD_MAX];
    int ram;                        /* a golden snapshot's memory while it is made; -1: none */
    char golden_key[CG_GOLDEN_KEY]; /* of its shape, once the files are prepared */
    bool saved;                     /* it is restored from a snapshot, with memory */
    struct cg_snapshot *snapshot;   /* it is made of; NULL: of the template */
    bool golden;                    /* it is restored from there */
    bool cold;                      /* it must not be: that failed */
    bool again;                     /* its keeper ends, then it begins anew, cold */
    char *probe_json;
    char *token;
    struct cg_wcall call;
    struct cg_buf tail;  /* of the output of clone and init */
    char fell_back[200]; /* why it boots although there was a golden snapshot; or empty */
    bool spare;          /* made in advance, of nobody yet */
    bool spare_ready;    /* and only its name is missing */
    bool taken;          /* it was a spare */
    bool lost;           /* its keeper ended while files were written */
    bool giving_up;      /* a resume failed: its keeper ends, then it is paused as before */
    bool resume;         /* of a paused sandbox: its directory is there */
    bool init_only;      /* POST …/init of a sandbox that runs already */
};

/* admit.c, on the loop: is there room? CG_LIMIT names what there is too little of. */
CG_MUST_USE bool cg_admit(struct cg_core *c, const struct cg_spec *s, struct cg_err *e);
/* What only running takes: `but` is not counted. */
CG_MUST_USE bool cg_admit_running(const struct cg_core *c, uint32_t cpus, uint32_t memory_mb,
                                  const struct cg_sandbox *but, struct cg_err *e);
uint32_t cg_take_slot(struct cg_core *c); /* 0: there is none */

/* files.c, on the pool. */
CG_MUST_USE bool cg_creation_prepare(struct cg_creation *n, struct cg_err *e);
/* What a spare got when it was made without knowing whose it would be. */
CG_MUST_USE bool cg_creation_personalise(struct cg_creation *n, struct cg_err *e);

/* Begins a spare; it is the caller's to list. It ends by itself when it fails. */
struct cg_creation *cg_creation_spare(struct cg_core *c, struct cg_spec *spec, struct cg_err *e);

void cg_creation_write_hosts(const struct cg_egress_policy *p, struct cg_jsonw *w);
void cg_creation_clone(struct cg_creation *n);       /* then running */
void cg_creation_running(struct cg_creation *n);     /* durable, then init */
bool cg_creation_inits(const struct cg_creation *n); /* there is a script to run now */
void cg_creation_init(struct cg_creation *n);        /* then done */
void cg_creation_done(struct cg_creation *n);

/* Asks the broker to end its keeper and all it holds. */
void cg_jail_kill(const struct cg_sandbox *sb);
/* The keeper has ended before the guest was whole. */
void cg_creation_keeper_gone(struct cg_sandbox *sb, const struct cg_err *why);

/* pause.c. The guest of a paused sandbox goes on: the creation's way, without clone and init. */
void cg_creation_resume(struct cg_sandbox *sb);
/* A snapshot or a restore is over: a resume that waited for it begins. */
void cg_pause_settled(struct cg_sandbox *sb);
/* On the pool: config.json with another place where the guest comes from. */
CG_MUST_USE bool cg_pause_config(const struct cg_creation *n, const char *dir, struct cg_err *e);
/* Its directory holds a whole saved guest: it was paused, by whomever. */
bool cg_pause_whole(const struct cg_sandbox *sb);
bool cg_pause_of_other(const struct cg_sandbox *sb); /* the saved guest is a snapshot of another */
void cg_pause_done(struct cg_sandbox *sb);           /* its keeper is gone, as it should */
void cg_creation_write_vm(const struct cg_creation *n, struct cg_jsonw *w);
bool cg_keeper_lives(const struct cg_sandbox *sb);

/* Ends what there is of a sandbox and puts it into a final state; create_waiters and
 * destroy_waiters are told when nothing is left. */
void cg_core_end(struct cg_sandbox *sb, enum cg_status to, const char *reason);

#endif
