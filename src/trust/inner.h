/* The engine's inside: proc.c remembers processes, look.c reads commands and paths, match.c
 * compares them with conditions, engine.c counts. */
#ifndef CG_TRUST_INNER_H
#define CG_TRUST_INNER_H

#include "trust/event.h"
#include "trust/trust.h"
#include "trust/words.h"

enum {
    PROCS = 4096,
    READERS = 16,
    FRESH = 16384,
    DOWNLOADS = 128,
    HOSTS_SEEN = 64,
    ANCESTORS = 16,
    NAME_MAX_BYTES = 24,
    PATH_BYTES = 1024,
};

#define NS_PER_S INT64_C(1000000000)

struct proc {
    int64_t pid, ppid;
    int64_t t;
    uint64_t seq;
    char program[NAME_MAX_BYTES];
    char script[NAME_MAX_BYTES]; /* what an interpreter runs; empty: none */
};

struct procs {
    struct proc at[PROCS];       /* by pid modulo; a later one takes the place */
    struct proc reader[READERS]; /* programs that read their program from standard input */
    unsigned nreaders;
};

struct window_entry {
    int64_t t;
    uint64_t seq;
    uint64_t key;
    int64_t out, in;
};

struct rule_state {
    uint32_t spent;
    bool fired;
    int64_t last_t;
    struct window_entry *ring; /* CG_WINDOW_MAX, when the rule has a window */
    unsigned first, n;
    uint64_t host[HOSTS_SEEN];
    unsigned nhosts;
};

struct cg_trust {
    const struct cg_pack *pack;
    struct cg_texts known;
    void (*each)(void *ctx, const struct cg_trust_deduction *d);
    void *ctx;
    struct rule_state *state;
    uint32_t lost, count;
    struct cg_trust_session session[CG_TRUST_SESSIONS];
    unsigned nsessions;
    char current[48];      /* the session that lines without one belong to */
    uint64_t fresh[FRESH]; /* hashes of paths that were made in this record */
    struct download {
        uint64_t path;
        uint64_t seq;
    } download[DOWNLOADS];
    unsigned ndownloads;
    struct procs procs;
    struct cg_event event;
    struct cg_sh sh;
};

/* What conditions are compared with: one event, or one command of it. */
struct look {
    struct cg_trust *t;
    struct cg_event *e;
    /* a command */
    const char *const *argv;
    int argc;
    int program;    /* index of the program in argv */
    int script;     /* of what an interpreter runs; -1 */
    const char *as; /* the name of the script or module; NULL */
    const char *cwd;
    const struct cg_sh *sh; /* NULL: argv of a process */
    int command;            /* in sh */
    int64_t uid;            /* -1: not known */
    int64_t pid;            /* 0: not known */
    uint64_t upstream;      /* sequence number of the process that writes its input; 0 */
    bool reader;            /* looked at again because of what writes its input */
    /* what it is about, for evidence and windows */
    const char *path;
    const char *host;
    char url_host[256]; /* where host points when it stands in a URL */
    int64_t out, in;
    char what[CG_TRUST_WHAT];
};

/* proc.c */
void procs_exec(struct procs *p, const struct look *l, int64_t ppid);
const struct proc *procs_find(const struct procs *p, int64_t pid);
/* An ancestor has one of the names; `itself`: the process may be the one. */
bool procs_under(const struct procs *p, int64_t pid, bool itself, const struct cg_texts *names);
/* A process beside this one (same parent, started close by) with one of the names. */
const struct proc *procs_beside(const struct procs *p, const struct proc *of,
                                const struct cg_texts *names);

/* look.c */
bool glob_match(const char *pattern, const char *s);
bool texts_match(const struct cg_texts *t, const char *s); /* any pattern */
uint64_t hash_text(const char *s);
/* Absolute, without "." and ".."; "~" and names relative to cwd are made whole. */
void path_whole(const char *cwd, const char *word, int64_t uid, char out[PATH_BYTES]);
bool path_match(const struct cg_texts *patterns, const char *path);
void look_command(struct look *l); /* program, script, as */
bool look_reads_stdin(const struct look *l);
bool look_is(const struct look *l, const struct cg_texts *names);
bool host_known(const struct cg_trust *t, const char *host);

/* match.c */
bool cond_matches(struct look *l, const struct cg_condition *c);

#endif
