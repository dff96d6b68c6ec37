#include <string.h>

#include "trust/shell.h"

static int new_command(struct cg_sh *sh, struct place at)
{
    if (sh->ncommands == CG_SH_COMMANDS) {
        sh->cut = true;
        return -1;
    }
    sh->command[sh->ncommands] = (struct cg_sh_command){
        .first = -1,
        .last = -1,
        .input_from = at.input_from,
        .input_to = at.input_to,
        .host = at.host,
        .role = at.role,
    };
    return sh->ncommands++;
}

static void add_word(struct cg_sh *sh, int command, int word)
{
    if (command < 0 || word < 0)
        return;
    struct cg_sh_command *c = &sh->command[command];
    if (c->last >= 0)
        sh->word[c->last].next = word;
    else
        c->first = word;
    c->last = word;
}

/* --- what a shell is given as text --- */

static const char *word_text(const struct cg_sh *sh, int word)
{
    return word >= 0 ? sh->word[word].text : "";
}

/* eval's words, with a space between. */
static struct cg_slice join(struct cg_sh *sh, const char *const *argv, int n)
{
    const char *from = sh_begin_text(sh);
    size_t before = sh->used;
    for (int i = 0; i < n; i++) {
        for (const char *s = argv[i]; *s; s++)
            sh_put(sh, *s);
        sh_put(sh, ' ');
    }
    size_t length = sh->used - before;
    sh_end_text(sh);
    return (struct cg_slice){from, length};
}

static void end_command(struct parser *ps, int command)
{
    struct cg_sh *sh = ps->sh;
    const char *argv[CG_SH_ARGV];
    if (command < 0 || sh->command[command].first < 0)
        return;
    const struct cg_sh_command *c = &sh->command[command];
    struct place in = {command, CG_SH_NESTED, c->input_from, c->input_to};
    int n = cg_sh_argv(sh, command, argv);
    int at = cg_sh_program(argv, n);
    const char *text = cg_sh_inline_text(argv, n);
    if (text)
        sh_parse_inside(ps, cg_slice_of(text), in);
    else if (at < n && strcmp(cg_sh_basename(argv[at]), "eval") == 0 && n - at > 1)
        sh_parse_inside(ps, join(sh, argv + at + 1, n - at - 1), in);
}

/* --- here-documents --- */

static void note_heredoc(struct parser *ps, int command, bool tabs)
{
    int word = -1;
    while (ps->p < ps->end && sh_blank(*ps->p))
        ps->p++;
    bool quoted = ps->p < ps->end && (*ps->p == '\'' || *ps->p == '"' || *ps->p == '\\');
    if (!sh_word(ps, command, &word) || word < 0)
        return;
    if (ps->nheredocs == HEREDOCS) {
        ps->sh->cut = true;
        return;
    }
    ps->heredoc[ps->nheredocs++] = (struct heredoc){word_text(ps->sh, word), command, tabs, quoted};
    if (command >= 0)
        ps->sh->command[command].here = true;
}

static bool at_mark(const struct heredoc *h, const char *line, size_t n)
{
    while (h->tabs && n > 0 && line[0] == '\t') {
        line++;
        n--;
    }
    return strlen(h->mark) == n && memcmp(line, h->mark, n) == 0;
}

static void give_heredoc(struct parser *ps, const struct heredoc *h, struct cg_slice body)
{
    const char *argv[CG_SH_ARGV];
    if (h->command < 0)
        return;
    int n = cg_sh_argv(ps->sh, h->command, argv);
    int at = cg_sh_program(argv, n);
    if (at < n && cg_sh_is_shell(cg_sh_basename(argv[at])))
        sh_parse_inside(ps, body, sh_inside_of(h->command, CG_SH_NESTED));
}

/* At the beginning of a line: the bodies that are due. */
static void read_heredocs(struct parser *ps)
{
    for (int i = 0; i < ps->nheredocs; i++) {
        const char *from = ps->p;
        const char *to = ps->end;
        while (ps->p < ps->end) {
            const char *end = memchr(ps->p, '\n', (size_t)(ps->end - ps->p));
            size_t n = (size_t)((end ? end : ps->end) - ps->p);
            const char *line = ps->p;
            ps->p = end ? end + 1 : ps->end;
            if (at_mark(&ps->heredoc[i], line, n)) {
                to = line;
                break;
            }
        }
        give_heredoc(ps, &ps->heredoc[i], (struct cg_slice){from, (size_t)(to - from)});
    }
    ps->nheredocs = 0;
}

/* --- redirections --- */

static bool starts(const struct parser *ps, const char *s)
{
    size_t n = strlen(s);
    return (size_t)(ps->end - ps->p) >= n && memcmp(ps->p, s, n) == 0;
}

static void here_string(struct parser *ps, int command)
{
    const char *argv[CG_SH_ARGV];
    int word = -1;
    while (ps->p < ps->end && sh_blank(*ps->p))
        ps->p++;
    if (!sh_word(ps, command, &word) || word < 0 || command < 0)
        return;
    ps->sh->command[command].here = true;
    int n = cg_sh_argv(ps->sh, command, argv);
    int at = cg_sh_program(argv, n);
    if (at < n && cg_sh_is_shell(cg_sh_basename(argv[at])))
        sh_parse_inside(ps, cg_slice_of(word_text(ps->sh, word)),
                        sh_inside_of(command, CG_SH_NESTED));
}

static void add_redirect(struct cg_sh *sh, int command, char op, const char *text)
{
    if (sh->nredirects == CG_SH_REDIRECTS)
        sh->cut = true;
    else
        sh->redirect[sh->nredirects++] = (struct cg_sh_redirect){command, op, text};
}

/* At '<' or '>' (or "&>"); process substitutions are words and do not come here. */
static void redirection(struct parser *ps, int command)
{
    static const char *const ops[] = {"<<<", "<<-", "&>>", "<<", ">>", "<&",
                                      ">&",  ">|",  "&>",  "<>", "<",  ">"};
    int word = -1;
    const char *op = "<";
    for (size_t i = 0; i < CG_COUNT(ops); i++) {
        if (starts(ps, ops[i])) {
            op = ops[i];
            break;
        }
    }
    ps->p += strlen(op);
    if (strcmp(op, "<<<") == 0) {
        here_string(ps, command);
        return;
    }
    if (strncmp(op, "<<", 2) == 0) {
        note_heredoc(ps, command, op[2] == '-');
        return;
    }
    while (ps->p < ps->end && sh_blank(*ps->p))
        ps->p++;
    if (sh_word(ps, command, &word) && word >= 0)
        add_redirect(ps->sh, command, op[0] == '<' ? '<' : '>', word_text(ps->sh, word));
}

/* --- lists --- */

struct list {
    struct parser *ps;
    struct place at;
    char close;
    int command;            /* under way, -1 */
    int element;            /* first command of the present element of a pipeline */
    int base_from, base_to; /* what a command without a pipe of its own reads */
    struct compound {
        int element, base_from, base_to;
    } opened[COMPOUNDS];
    int nopened;
    int cases;
};

static bool one_of(const char *s, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(s, words[i]) == 0)
            return true;
    return false;
}

/* Words that have a meaning where a command may begin; true when it was one. */
static bool keyword(struct list *l, const char *s)
{
    static const char *const plain[] = {"then", "elif", "else", "do", "!", "time", "coproc"};
    static const char *const opening[] = {"if", "while", "until", "{", "for", "select", "case"};
    static const char *const closing[] = {"fi", "done", "esac", "}"};
    if (one_of(s, plain, CG_COUNT(plain)))
        return true;
    if (one_of(s, opening, CG_COUNT(opening))) {
        if (l->nopened < COMPOUNDS)
            l->opened[l->nopened++] = (struct compound){l->element, l->base_from, l->base_to};
        l->base_from = l->at.input_from;
        l->base_to = l->at.input_to;
        l->cases += strcmp(s, "case") == 0;
        return strcmp(s, "for") != 0 && strcmp(s, "select") != 0 && strcmp(s, "case") != 0;
    }
    if (!one_of(s, closing, CG_COUNT(closing)))
        return false;
    if (l->nopened > 0) {
        const struct compound *c = &l->opened[--l->nopened];
        l->element = c->element;
        l->base_from = c->base_from;
        l->base_to = c->base_to;
    }
    l->cases -= strcmp(s, "esac") == 0 && l->cases > 0;
    return true;
}

static void finish_command(struct list *l)
{
    end_command(l->ps, l->command);
    l->command = -1;
}

/* ; & && || and line ends: a new pipeline begins. */
static void separate(struct list *l)
{
    finish_command(l);
    l->element = l->ps->sh->ncommands;
    l->at.input_from = l->base_from;
    l->at.input_to = l->base_to;
}

static void piped(struct list *l)
{
    finish_command(l);
    l->at.input_from = l->element;
    l->at.input_to = l->ps->sh->ncommands;
    l->element = l->ps->sh->ncommands;
}

static void subshell(struct list *l)
{
    struct parser *ps = l->ps;
    struct cg_sh *sh = ps->sh;
    ps->p++;
    if (l->command >= 0 && sh->command[l->command].first == sh->command[l->command].last) {
        while (ps->p < ps->end && sh_blank(*ps->p))
            ps->p++;
        if (ps->p < ps->end && *ps->p == ')') { /* name(): a function begins */
            ps->p++;
            sh->command[l->command].first = sh->command[l->command].last = -1;
            l->command = -1;
            return;
        }
    }
    if (l->cases > 0 && l->command < 0)
        return; /* the optional one before a pattern */
    if (starts(ps, "(")) {
        ps->p++;
        sh_balanced(ps, '(', ')');
        if (ps->p < ps->end && *ps->p == ')')
            ps->p++;
        return;
    }
    if (ps->depth >= CG_SH_DEPTH) {
        sh->cut = true;
        ps->p = ps->end;
        return;
    }
    finish_command(l);
    ps->depth++;
    sh_list(ps, ')', l->at);
    ps->depth--;
}

static bool assignment(const char *s)
{
    const char *p = s;
    while (sh_name_char(*p))
        p++;
    return p > s && (s[0] < '0' || s[0] > '9') && (p[0] == '=' || (p[0] == '+' && p[1] == '='));
}

static void take_word(struct list *l)
{
    struct parser *ps = l->ps;
    struct cg_sh *sh = ps->sh;
    int word = -1;
    int mark = sh->ncommands;
    if (l->command < 0)
        l->command = new_command(sh, l->at);
    bool first = l->command >= 0 && sh->command[l->command].first < 0;
    const char *start = ps->p;
    if (!sh_word(ps, l->command, &word)) {
        ps->p++;
        return;
    }
    if (word < 0)
        return;
    bool bare = (size_t)(ps->p - start) == strlen(word_text(sh, word));
    bool digits = bare && ps->p < ps->end && (*ps->p == '<' || *ps->p == '>') &&
                  strspn(word_text(sh, word), "0123456789") == (size_t)(ps->p - start);
    if (digits) /* 2>file: a descriptor */
        return;
    if (first && bare && keyword(l, word_text(sh, word))) {
        if (sh->ncommands == mark + 1) { /* nothing else hangs on it */
            sh->ncommands = mark;
            l->command = -1;
        }
        return;
    }
    if (first && assignment(word_text(sh, word)))
        return;
    add_word(sh, l->command, word);
}

/* One operator or word; false at the end of the list. */
static bool step(struct list *l)
{
    struct parser *ps = l->ps;
    char c = *ps->p;
    if (sh_blank(c)) {
        ps->p++;
    } else if (c == '\\' && starts(ps, "\\\n")) {
        ps->p += 2;
    } else if (c == '#') { /* words take theirs along: here it begins one */
        while (ps->p < ps->end && *ps->p != '\n')
            ps->p++;
    } else if (c == '\n') {
        ps->p++;
        separate(l);
        read_heredocs(ps);
    } else if (c == ')' && l->close == ')' && l->cases == 0) {
        ps->p++;
        return false;
    } else if (c == ')') {
        ps->p++;
        separate(l);
    } else if (starts(ps, "&>")) {
        redirection(ps, l->command);
    } else if (c == ';' || c == '&' || starts(ps, "||")) {
        ps->p += starts(ps, "&&") || starts(ps, "||") || starts(ps, ";;") ? 2 : 1;
        separate(l);
    } else if (c == '|') {
        ps->p += starts(ps, "|&") ? 2 : 1;
        piped(l);
    } else if (c == '(') {
        subshell(l);
    } else if ((c == '<' || c == '>') && !(ps->p + 1 < ps->end && ps->p[1] == '(')) {
        if (l->command < 0)
            l->command = new_command(ps->sh, l->at);
        redirection(ps, l->command);
    } else {
        take_word(l);
    }
    return true;
}

void sh_list(struct parser *ps, char close, struct place at)
{
    struct list l = {.ps = ps, .at = at, .close = close, .command = -1};
    l.base_from = at.input_from;
    l.base_to = at.input_to;
    l.element = ps->sh->ncommands;
    while (ps->p < ps->end && step(&l))
        ;
    finish_command(&l);
}

void cg_sh_parse(struct cg_sh *sh, struct cg_slice text)
{
    sh->ncommands = sh->nwords = sh->nredirects = sh->nvars = 0;
    sh->used = 0;
    sh->cut = false;
    struct parser ps = {.sh = sh, .p = text.p, .end = text.p + text.n};
    sh_list(&ps, '\0', (struct place){.host = -1, .role = CG_SH_TOP});
}
