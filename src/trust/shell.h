/* The shell reader's inside: word.c reads words with all that may stand in them, words.c puts them
 * together into commands. */
#ifndef CG_TRUST_SHELL_H
#define CG_TRUST_SHELL_H

#include "trust/words.h"

enum { HEREDOCS = 8, COMPOUNDS = 32, NESTED_MAX = 64 };

struct heredoc {
    const char *mark;
    int command;
    bool tabs;   /* <<- */
    bool quoted; /* nothing is expanded in it */
};

struct parser {
    struct cg_sh *sh;
    const char *p, *end;
    int depth;
    struct heredoc heredoc[HEREDOCS];
    int nheredocs;
    int nested; /* texts inside of texts, over all */
};

/* What a command of the present list stands in. */
struct place {
    int host;
    enum cg_sh_role role;
    int input_from, input_to;
};

/* word.c */
void sh_put(struct cg_sh *sh, char c);
const char *sh_begin_text(struct cg_sh *sh);
void sh_end_text(struct cg_sh *sh);
bool sh_blank(char c);
bool sh_name_char(char c);
struct cg_slice sh_balanced(struct parser *ps, char open, char close);
/* The next word; false when there is none at p. `command` gets the commands inside of it. */
bool sh_word(struct parser *ps, int command, int *out);
void sh_parse_inside(struct parser *ps, struct cg_slice text, struct place at);
struct place sh_inside_of(int command, enum cg_sh_role role);

/* words.c */
void sh_list(struct parser *ps, char close, struct place at);

#endif
