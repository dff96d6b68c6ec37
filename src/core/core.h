/* The server's heart: accounts and keys, sandboxes and their states, the way from a request to a
 * running guest and back to nothing. Knows no HTTP and no SQL. One thread, the loop's; what blocks
 * runs on libuv's pool. */
#ifndef CG_CORE_CORE_H
#define CG_CORE_CORE_H

#include <uv.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "base/map.h"
#include "core/options.h"
#include "core/replay.h"
#include "core/seals.h"
#include "core/wclient.h"
#include "image/image.h"
#include "store/store.h"
#include "vmm/vmm.h"

enum { CG_SLOTS = 4096, CG_SPARES_MAX = 16 };

enum { CG_CONSOLE_TAIL = 2048, CG_INIT_TAIL = 4096 };

/* The states of a sandbox; state.c has the table of what may follow what. */
enum cg_status {
    CG_STATUS_PENDING,
    CG_STATUS_RUNNING,
    CG_STATUS_PAUSED,    /* saved with its memory; nothing of it runs */
    CG_STATUS_ERROR,     /* ended by a failure; nothing of it is left but the record */
    CG_STATUS_DESTROYED, /* ended on request */
};

const char *cg_status_name(enum cg_status s);
bool cg_status_may(enum cg_status from, enum cg_status to);
bool cg_status_parse(const char *name, enum cg_status *out);

enum cg_init_state { CG_INIT_NONE, CG_INIT_PENDING, CG_INIT_RUNNING, CG_INIT_OK, CG_INIT_FAILED };

/* What was asked for; all strings owned. */
struct cg_spec {
    char template_name[160]; /* "node-22", with agents "node-22+claude-code+codex" */
    uint32_t cpus;
    uint32_t memory_mb;
    uint32_t disk_gb;
    char *name;
    char *env_json; /* an object of strings */
    char *repo_url, *repo_branch, *repo_commit, *repo_subdir, *repo_user;
    char *init_script;
    char *packages_json; /* an array of names for npm or pip, or NULL */
    char *secrets_json;  /* an array of names, or NULL */
    char *network_json;  /* mode, allow, deny (network.h); NULL: full */
    char *config_json;   /* {"source","raw"} of the client, or NULL */
    bool defer_init; /* the client runs init later (POST …/init), after it has uploaded files */
    char snapshot[CG_ID_TEXT]; /* it is made of; empty: of the template */
    int64_t timeout_s;
    bool has_budget;
    int64_t budget_nusd;
    int64_t budget_tokens; /* 0: no limit */
    bool budget_pause;     /* at 100 percent it is paused, not ended */
};

void cg_spec_finish(struct cg_spec *s);

struct cg_core;
struct cg_sandbox;
typedef void cg_sandbox_done(void *ctx, struct cg_sandbox *sb, const struct cg_err *err);

struct cg_waiter {
    struct cg_waiter *next;
    cg_sandbox_done *done;
    void *ctx;
};

struct cg_sandbox {
    struct cg_core *core;
    struct cg_sandbox *next; /* all of them, oldest first */
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    struct cg_spec spec;
    enum cg_status status;
    uint32_t slot; /* 0: none */
    int64_t created_wall, started_wall, stopped_wall;
    int64_t started_mono;           /* this server's clock; 0 after a restart */
    int64_t llm_nusd, compute_nusd; /* as the warden counts them */
    int64_t committed_nusd;         /* settled and held, as it said last */
    int64_t llm_tokens;
    uint64_t unpriced_calls;
    char run_token[40]; /* the guest's, for the gateway */
    bool keep_disk;     /* when it ends */
    bool leased;        /* its account has a month's budget */
    bool guarded;       /* its budget is used up, and that is being acted on */
    struct cg_err error;
    char *console_tail; /* owned; NULL: none */
    enum cg_init_state init;
    int init_exit;
    char *init_tail; /* owned; NULL: none */
    char accel[8];
    uint32_t warnings; /* enum cg_jail_warning */
    char phase[32];    /* of the creation: "images", "disk", "jail", "boot", "clone", "init" */
    int percent;
    bool creating;         /* until init has run */
    bool helper;           /* of nobody and in no list: a golden snapshot is made of it */
    bool restored;         /* it came out of a golden snapshot */
    bool snapshotting;     /* a snapshot of it, or a restore into it, is under way */
    bool resume_wanted;    /* paused, and to go on when that is over */
    bool pausing;          /* its warden saves it */
    bool resting;          /* it has, and the disk is synced */
    char pause_reason[32]; /* "request", "idle", …; of the present pause */
    int64_t paused_wall;   /* when it was paused last */
    char *base_path;       /* of the base image it was made on: a resume needs just that one */
    bool destroying;       /* its end is under way */
    bool doomed;           /* a destroy came while it was made */
    unsigned reconnects;
    uint64_t indexed_seq; /* so far its record is in the index */
    bool indexed_end;     /* and nothing comes behind it */
    uint32_t jail_cause;  /* enum cg_jail_cause once the keeper said so */

    /* what a living one holds */
    int keeper_sock; /* -1: none, or adopted from an earlier server */
    uv_poll_t *keeper_poll;
    struct cg_wclient *warden;
    struct cg_waiter *create_waiters, *destroy_waiters, *pause_waiters;
    struct cg_score *score; /* scores.h; owned, NULL: nothing is known */
    void *work;             /* creation or destruction under way */
};

struct cg_listener {
    struct cg_listener *next;
    void (*on_change)(void *ctx, struct cg_sandbox *sb); /* state or phase moved */
    void *ctx;
};

struct cg_core {
    uv_loop_t *loop;
    struct cg_options options;
    struct cg_store *store;
    struct cg_image_config images;
    int broker; /* SOCK_SEQPACKET to caged-jail; -1 in tests */
    bool rootless;
    uint32_t uid_base;
    struct cg_map by_id; /* struct cg_sandbox */
    struct cg_sandbox *first, *last;
    uint8_t slots[CG_SLOTS + 1];
    struct cg_map keys;     /* hex of the hash: struct cg_store_key */
    struct cg_map accounts; /* id: struct cg_store_account */
    struct cg_creation *spares[CG_SPARES_MAX];
    unsigned nspares;
    struct cg_spec spare_wish;
    uv_timer_t spare_timer;
    struct cg_listener *listeners;
    enum cg_accel accel;
    uint64_t tsc_khz;
    char accel_reason[200];
    char vmm_version[96];
    bool probed;                 /* accel and tsc_khz are known */
    bool probe_runs;             /* a child finds them out; creations wait */
    struct cg_creation *waiting; /* for the probe */
    char *libexec_dir;
    char *scripted_url; /* of this server's own provider, and its key */
    char scripted_key[CG_ID_TEXT];
    char *model_hosts; /* data/model-hosts.txt; NULL: none */
    struct cg_seals seals;
    struct cg_replay replay;
    bool stopping;
};

/* options, loop, images, broker, rootless, uid_base and libexec_dir are set by the caller; the
 * rest is zero. Opens the database, adopts the sandboxes of an earlier server. */
CG_MUST_USE bool cg_core_start(struct cg_core *c, struct cg_err *e);
/* Leaves living sandboxes alone. */
void cg_core_finish(struct cg_core *c);
/* Reads the probe's verdict (one JSON line of caged-jail --probe). */
void cg_core_probed(struct cg_core *c, const char *json);
/* A child runs the probe; its output comes on fd, which is taken over. */
void cg_core_await_probe(struct cg_core *c, int fd);
void cg_creations_go_on(struct cg_core *c);

/* --- accounts and keys (keys.c) --- */

enum { CG_KEY_TEXT = 48 };

/* Loads accounts and keys. `text` holds what owner.key says: when that is no key that is known, the
 * owner gets a new one (at the first start with an account), which is put into text; else text[0]
 * becomes 0. */
CG_MUST_USE bool cg_core_bootstrap(struct cg_core *c, char text[CG_KEY_TEXT], struct cg_err *e);
/* The key that a text names, if it is known and has not expired. */
struct cg_store_key *cg_core_find_key(struct cg_core *c, const char *text);
void cg_core_new_key(struct cg_core *c, const char *account, const char *name, const char *scope,
                     int64_t expires_wall_ns, char text[CG_KEY_TEXT], struct cg_store_key *out);
/* Single-use tickets for WebSockets. */
void cg_core_ticket_make(struct cg_core *c, const struct cg_store_key *k, char *out, size_t size);
CG_MUST_USE bool cg_core_ticket_take(struct cg_core *c, const char *text, struct cg_store_key *out);
/* A new token that works like a key, in memory only: keeping it is the caller's business. */
struct cg_store_key *cg_core_new_secret(struct cg_core *c, const char *prefix,
                                        const char *id_prefix, const char *account,
                                        char hash[2 * CG_STORE_HASH + 1], char text[CG_KEY_TEXT]);
struct cg_store_key *cg_core_remember_key(struct cg_core *c, const struct cg_store_key *k);

/* --- sandboxes --- */

struct cg_sandbox *cg_core_find(struct cg_core *c, const char *id);

/* Begins to make a sandbox; spec is taken over, also on failure. done comes when it runs (clone and
 * init included) or has failed. NULL with *e set when it is refused at once. */
CG_MUST_USE struct cg_sandbox *cg_core_create(struct cg_core *c, const char *account,
                                              struct cg_spec *spec, char *repo_token,
                                              cg_sandbox_done *done, void *ctx, struct cg_err *e);
/* One that belongs to nobody, has no row and ends by itself once it is saved: for golden.c. */
CG_MUST_USE struct cg_sandbox *cg_core_create_helper(struct cg_core *c, struct cg_spec *spec,
                                                     cg_sandbox_done *done, void *ctx,
                                                     struct cg_err *e);
/* Runs the init script of a sandbox made with defer_init. */
CG_MUST_USE bool cg_core_init(struct cg_sandbox *sb, cg_sandbox_done *done, void *ctx,
                              struct cg_err *e);
/* Ends a sandbox in any state; done when nothing of it is left. */
void cg_core_destroy(struct cg_sandbox *sb, const char *reason, cg_sandbox_done *done, void *ctx);

/* Saves a running sandbox with its memory and ends what runs of it; done when it is paused, or when
 * that failed and it runs on. reason: a word of the record. */
CG_MUST_USE bool cg_core_pause(struct cg_sandbox *sb, const char *reason, cg_sandbox_done *done,
                               void *ctx, struct cg_err *e);
/* Lets a paused one go on; done when it runs. CG_CONFLICT in another state. */
CG_MUST_USE bool cg_core_resume(struct cg_sandbox *sb, cg_sandbox_done *done, void *ctx,
                                struct cg_err *e);

/* The sandbox object of the API. */
void cg_sandbox_write(struct cg_sandbox *sb, struct cg_jsonw *w);
int64_t cg_sandbox_compute_nusd(const struct cg_sandbox *sb);
/* CG_CONFLICT with its state unless it runs and its warden is connected. */
CG_MUST_USE bool cg_sandbox_usable(const struct cg_sandbox *sb, struct cg_err *e);
/* Where its record is: the living directory or the archive. The caller's. */
CG_MUST_USE char *cg_sandbox_record_dir(const struct cg_sandbox *sb);
CG_MUST_USE char *cg_sandbox_dir(const struct cg_sandbox *sb);

/* --- inside of core --- */

void cg_sandbox_set_status(struct cg_sandbox *sb, enum cg_status to);
void cg_sandbox_phase(struct cg_sandbox *sb, const char *phase, int percent);
void cg_sandbox_changed(struct cg_sandbox *sb); /* tells the listeners */
/* Replaces an owned text. */
void cg_sandbox_text(char **to, const char *text);
void cg_sandbox_save(struct cg_sandbox *sb, cg_store_done *done, void *ctx);
struct cg_sandbox *cg_sandbox_load(struct cg_core *c, const struct cg_store_sandbox *row);
void cg_sandbox_add(struct cg_core *c, struct cg_sandbox *sb);
void cg_sandbox_wait(struct cg_waiter **list, cg_sandbox_done *done, void *ctx);
void cg_sandbox_tell(struct cg_sandbox *sb, struct cg_waiter **list, const struct cg_err *err);
bool cg_sandbox_connect(struct cg_sandbox *sb, struct cg_err *e);
void cg_sandbox_watch_keeper(struct cg_sandbox *sb, int sock);
void cg_creation_failed(struct cg_sandbox *sb, const struct cg_err *why);
void cg_creation_keeper_said(struct cg_sandbox *sb, const void *reply, size_t n);
bool cg_adopt_all(struct cg_core *c, struct cg_err *e);
char *cg_run_path(const struct cg_core *c, const char *id, const char *name);

#endif
