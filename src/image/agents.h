/* Coding agents: their profiles (data/agents/NAME.yaml, docs/agents.md lists the keys), and images
 * that have them. The image of a template with agents is called TEMPLATE+AGENT+AGENT: the
 * template's own base image, with what the profile fetches from npm or PyPI written into it. It is
 * made on this machine, by this machine's own npm and pip, and stays here: nothing of it is
 * shipped.
 *
 * Functions block; see image.h. */
#ifndef CG_IMAGE_AGENTS_H
#define CG_IMAGE_AGENTS_H

#include "base/buf.h"
#include "image/hash.h"
#include "image/image.h"

struct cg_agent {
    char *name;
    char *description;
    char *version;
    char *licence;
    char *provider;         /* that it calls when nothing else is said: "anthropic" */
    char *needs;            /* what the template must contain, "node"; NULL: nothing */
    char *template_name;    /* one that it is known to run in */
    char *model;            /* its own default, for information; NULL: the agent's business */
    char *setup;            /* shell, before every start: configuration files */
    char *run;              /* shell: $1 is the prompt, $2 a model or empty */
    struct cg_strv aliases; /* other names for it */
    struct cg_strv npm;     /* written into the image */
    struct cg_strv pip;     /* installed by the guest's own pip when a sandbox is made */
    struct cg_strv keep;    /* paths of the packages that are needed; empty: all */
    struct cg_strv hosts;   /* that it asks for besides the model; it works without them */
    struct cg_strv env;     /* NAME=VALUE, unless set */
    struct cg_strv programs, program_paths; /* in PATH, and what of the packages each starts */
    struct cg_strv report;                  /* KEY=PATH: where its JSON output has what */
    char fingerprint[CG_HASH_TEXT];
};

struct cg_agents {
    struct cg_agent *v; /* by name */
    size_t n;
};

CG_MUST_USE bool cg_agents_load(const struct cg_image_config *c, struct cg_agents *out,
                                struct cg_err *e);
void cg_agents_finish(struct cg_agents *a);
/* By name or alias; NULL when there is none. */
const struct cg_agent *cg_agents_find(const struct cg_agents *a, const char *name);

/* Parses one profile; `file` is for messages. */
CG_MUST_USE bool cg_agent_parse(const char *file, struct cg_slice text, struct cg_agent *out,
                                struct cg_err *e);
void cg_agent_finish(struct cg_agent *a);

/* The value of a key of `report`, NULL when it has none. */
const char *cg_agent_report(const struct cg_agent *a, const char *key);
/* Lines that set its environment and its configuration up; for its launcher and before `run`. */
void cg_agent_prelude(const struct cg_agent *a, struct cg_buf *out);

/* --- templates with agents (variant.c) --- */

enum { CG_AGENTS_MAX = 8 };

/* "TEMPLATE+AGENT…" apart. Without a "+" *agents stays empty. */
void cg_variant_split(const char *name, char **base, struct cg_strv *agents);
bool cg_variant_is(const char *name);
/* cg_image_resolve for such a name; CG_UNAVAILABLE when it was not made yet. */
CG_MUST_USE bool cg_variant_resolve(const struct cg_image_config *c, const char *name,
                                    struct cg_image *out, struct cg_err *e);
/* Makes it unless it is there. progress and ctx as in cg_image_build. Errors: CG_INVALID (the
 * template lacks what an agent needs), CG_UNAVAILABLE (a package cannot be fetched), CG_TIMEOUT. */
CG_MUST_USE bool cg_variant_build(const struct cg_image_config *c, const char *name,
                                  cg_image_progress_fn progress, void *ctx, struct cg_err *e);

#endif
