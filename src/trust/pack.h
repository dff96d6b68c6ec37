/* Rules as data: data/trust/default.yaml and what an operator lays over it. docs/trust.md has the
 * language. A pack is read once, checked whole, and never changes afterwards. */
#ifndef CG_TRUST_PACK_H
#define CG_TRUST_PACK_H

#include "base/buf.h"
#include "base/err.h"

enum {
    CG_PACK_MAX = 256 * 1024, /* bytes of a file */
    CG_PACK_RULES = 160,
    CG_RULE_CONDITIONS = 12,
    CG_RULE_ID = 48,
    CG_WINDOW_MAX = 256, /* events that a window may ask for */
};

enum cg_severity { CG_SEV_INFO, CG_SEV_MINOR, CG_SEV_MODERATE, CG_SEV_SEVERE, CG_SEV_COUNT };

/* What a condition looks at. */
enum cg_cond_kind {
    CG_COND_COMMAND,    /* a command: of an exec, or inside of shell text */
    CG_COND_START,      /* a command that a caller started */
    CG_COND_FILE,       /* file_op */
    CG_COND_PROCESS,    /* setuid, ptrace, module, mount, bpf */
    CG_COND_NETWORK,    /* network */
    CG_COND_DNS,        /* dns */
    CG_COND_GAP,        /* gap */
    CG_COND_DOWNLOADED, /* something runs that was downloaded before */
    CG_COND_KINDS
};

/* Members of a condition that are lists of texts or patterns. */
enum cg_cond_list {
    CG_L_PROGRAM,
    CG_L_NOT_PROGRAM,
    CG_L_VERB,
    CG_L_NOT_VERB,
    CG_L_FLAGS,
    CG_L_NOT_FLAGS,
    CG_L_ARGS,
    CG_L_NOT_ARGS,
    CG_L_WORDS,
    CG_L_ALL_WORDS,
    CG_L_NOT_WORDS,
    CG_L_INPUT,
    CG_L_FEEDS,
    CG_L_VARS,
    CG_L_REDIRECT,
    CG_L_UNDER,
    CG_L_NOT_UNDER,
    CG_L_ORIGIN,
    CG_L_NOT_ORIGIN,
    CG_L_USER,
    CG_L_NOT_ONLY,
    CG_L_OP,
    CG_L_PATH,
    CG_L_NOT_PATH,
    CG_L_BY,
    CG_L_NOT_BY,
    CG_L_EVENT,
    CG_L_TYPE,
    CG_L_VERDICT,
    CG_L_HOST,
    CG_L_PORT,
    CG_L_NOT_PORT,
    CG_L_URL,
    CG_L_REASON,
    CG_L_FACT,
    CG_L_COUNT
};

/* Members that are numbers; -1: not given. */
enum cg_cond_number {
    CG_N_UID,
    CG_N_NOT_UID,
    CG_N_TO,
    CG_N_MODE,   /* bits, any of which must be set */
    CG_N_LABEL,  /* shortest first label of a name */
    CG_N_FRESH,  /* 1: made in this record, 0: was there before */
    CG_N_STDIN,  /* 1: a program that reads its program from standard input */
    CG_N_AMOUNT, /* bytes of one connection */
    CG_N_COUNT
};

struct cg_texts {
    char **v;
    unsigned n;
};

struct cg_condition {
    enum cg_cond_kind kind;
    struct cg_texts list[CG_L_COUNT];
    int64_t number[CG_N_COUNT];
};

/* What a window counts. */
enum cg_distinct { CG_DISTINCT_NONE, CG_DISTINCT_PATH, CG_DISTINCT_HOST, CG_DISTINCT_NAME };

struct cg_window {
    uint32_t seconds; /* 0: every hit counts by itself */
    uint32_t count;
    enum cg_distinct distinct;
    int64_t bytes_out, bytes_in; /* sums that must be passed; 0: not looked at */
};

struct cg_rule {
    char id[CG_RULE_ID];
    enum cg_severity severity;
    uint32_t points;
    uint32_t cap;        /* of all its deductions */
    uint32_t cooldown_s; /* after one */
    bool once_per_host;  /* a host costs once */
    bool off;
    char *explain;
    struct cg_condition *when; /* any of them */
    unsigned nwhen;
    struct cg_window window;
    size_t line; /* in its file */
    /* Examples as JSON texts (examples.h), each an array of steps. */
    struct cg_texts fires, quiet;
};

struct cg_bands {
    uint32_t alert, critical, pause; /* below which something happens; 0: never */
};

struct cg_pack {
    char name[64];
    uint32_t version;
    char hash[80]; /* "blake2b-256:…" over what it was read from */
    struct cg_rule *rules;
    unsigned nrules;
    struct cg_texts known_hosts;
    struct cg_bands bands;
    struct cg_named_list {
        char *name;
        struct cg_texts texts;
    } * lists;
    unsigned nlists;
};

/* Reads the default pack and lays another over it (over: empty slice when there is none). A rule
 * of the same id changes the members that it names; a list of the same name is replaced, or added
 * to when its name ends in "+". Errors are CG_INVALID "<name>:<line>: …". NULL on failure. */
CG_MUST_USE struct cg_pack *cg_pack_read(const char *name, struct cg_slice text,
                                         const char *over_name, struct cg_slice over,
                                         struct cg_err *e);
void cg_pack_destroy(struct cg_pack *p);
void cg_drop_pack(struct cg_pack **p);

const struct cg_rule *cg_pack_rule(const struct cg_pack *p, const char *id);
const char *cg_severity_name(enum cg_severity s);

#endif
