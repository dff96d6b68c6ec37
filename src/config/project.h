/* .caged.yaml: what a project wants of its sandbox. Every key is known and checked.
 * docs/user-guide.md has the table. */
#ifndef CG_CONFIG_PROJECT_H
#define CG_CONFIG_PROJECT_H

#include "base/buf.h"
#include "base/err.h"

#define CG_PROJECT_TOKENS_MAX INT64_C(1000000000000)

enum { CG_PROJECT_ENV = 256, CG_PROJECT_MAX = 256 * 1024 };

struct cg_project {
    char *template_name;
    int cpus, memory_mb, disk_gb; /* 0: not said */
    int timeout_s;
    bool timeout_given;  /* 0 is a value, too: never */
    int64_t budget_nusd; /* 0: none */
    int64_t budget_tokens;
    char *budget_action; /* "destroy", "pause" */
    char *network_mode;
    char *allow, *deny; /* rules, with "," between them */
    char *repo_url, *repo_token, *repo_token_env, *repo_branch, *repo_commit, *repo_subdir;
    char *init_script;
    char *secrets;             /* names, with "," between them */
    char *agents, *packages;   /* the same */
    char *env[CG_PROJECT_ENV]; /* NAME=value, ${VAR} expanded */
    unsigned nenv;
    char *raw; /* the file's text */
};

/* Reads a file. Errors are CG_INVALID with "file:line:column: key: what is wrong". */
CG_MUST_USE bool cg_project_read(const char *path, struct cg_project *out, struct cg_err *e);
/* The same from text; name stands in errors. */
CG_MUST_USE bool cg_project_parse(const char *name, struct cg_slice text, struct cg_project *out,
                                  struct cg_err *e);
void cg_project_finish(struct cg_project *p);

/* Adds or replaces one NAME=value; CG_INVALID for a bad name. */
CG_MUST_USE bool cg_project_env(struct cg_project *p, const char *pair, struct cg_err *e);

#endif
