/* Shell text as commands: what `sh -c TEXT` would run, without running it. A reader of the POSIX
 * shell's grammar with the additions of bash that matter to an observer: $'…', <<<, process
 * substitution, [[ ]]. It expands nothing: of a word it keeps the literal bytes, which variables it
 * names and which commands stand inside it. Text that it cannot read to the end gives the commands
 * up to there. Bounds are fixed; what does not fit is cut and said (`cut`). */
#ifndef CG_TRUST_WORDS_H
#define CG_TRUST_WORDS_H

#include "base/buf.h"

enum {
    CG_SH_COMMANDS = 256,
    CG_SH_WORDS = 2048,
    CG_SH_REDIRECTS = 256,
    CG_SH_VARS = 256,
    CG_SH_TEXT = 128 * 1024, /* of all words */
    CG_SH_DEPTH = 12,
    CG_SH_ARGV = 256
};

/* How a command stands in the one that holds it. */
enum cg_sh_role {
    CG_SH_TOP,
    CG_SH_SUBST,   /* $(…) or `…`: its output becomes words */
    CG_SH_PROCESS, /* <(…) or >(…) */
    CG_SH_NESTED,  /* the text of sh -c, eval, a here-document for a shell */
};

struct cg_sh_word {
    const char *text; /* without quotes; NUL-terminated */
    int next;         /* of the same command, -1: last */
    bool expands;     /* a variable or a command stands in it */
};

struct cg_sh_command {
    int first, last; /* words, -1: none */
    int input_from;  /* commands [input_from, input_to) write what it reads; equal: no pipe */
    int input_to;
    int host; /* the command that it is a part of, -1 */
    enum cg_sh_role role;
    bool here; /* reads a here-document or a here-string */
};

struct cg_sh_redirect {
    int command;
    char op; /* '<', '>' */
    const char *text;
};

struct cg_sh_var {
    int command;
    const char *name;
};

struct cg_sh {
    struct cg_sh_command command[CG_SH_COMMANDS];
    struct cg_sh_word word[CG_SH_WORDS];
    struct cg_sh_redirect redirect[CG_SH_REDIRECTS];
    struct cg_sh_var var[CG_SH_VARS];
    int ncommands, nwords, nredirects, nvars;
    bool cut;    /* something did not fit, or the text ends inside of a quote */
    size_t used; /* of text */
    char text[CG_SH_TEXT];
};

/* Replaces what stands in `sh`. */
void cg_sh_parse(struct cg_sh *sh, struct cg_slice text);

/* The words of a command; their number, at most CG_SH_ARGV. */
int cg_sh_argv(const struct cg_sh *sh, int command, const char *argv[CG_SH_ARGV]);

/* Where the program stands behind words that only start another one (sudo, env, nohup, timeout 5,
 * xargs …): an index into argv, n when there is none. */
int cg_sh_program(const char *const *argv, int n);

/* "/usr/bin/python3" is python3; never NULL. */
const char *cg_sh_basename(const char *path);

/* sh, bash, dash …: a program that runs shell text. */
bool cg_sh_is_shell(const char *name);

/* The text that `sh -c TEXT` and its like give to a shell; NULL when there is none. */
const char *cg_sh_inline_text(const char *const *argv, int n);

#endif
