#include "trust/words.h"

#include <string.h>

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

static void parse_list(struct parser *ps, char close, struct place at);
static bool parse_word(struct parser *ps, int command, int *out);

/* --- memory --- */

static void put(struct cg_sh *sh, char c)
{
    if (sh->used + 1 < CG_SH_TEXT)
        sh->text[sh->used++] = c;
    else
        sh->cut = true;
}

static const char *begin_text(struct cg_sh *sh)
{
    return sh->text + sh->used;
}

static void end_text(struct cg_sh *sh)
{
    sh->text[sh->used] = '\0'; /* the last byte is never anything else */
    if (sh->used + 1 < CG_SH_TEXT)
        sh->used++;
}

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

static void add_var(struct cg_sh *sh, int command, const char *name, size_t n)
{
    if (n == 0 || n > 128)
        return;
    if (sh->nvars == CG_SH_VARS) {
        sh->cut = true;
        return;
    }
    const char *text = begin_text(sh);
    for (size_t i = 0; i < n; i++)
        put(sh, name[i]);
    end_text(sh);
    sh->var[sh->nvars++] = (struct cg_sh_var){command, text};
}

/* --- text inside of text --- */

static void parse_inside(struct parser *ps, struct cg_slice text, struct place at)
{
    struct cg_sh *sh = ps->sh;
    if (ps->depth >= CG_SH_DEPTH || ps->nested >= NESTED_MAX) {
        sh->cut = true;
        return;
    }
    struct parser in = {.sh = sh,
                        .p = text.p,
                        .end = text.p + text.n,
                        .depth = ps->depth + 1,
                        .nested = ps->nested + 1};
    parse_list(&in, '\0', at);
    ps->nested = in.nested;
}

static struct place inside_of(int command, enum cg_sh_role role)
{
    return (struct place){.host = command, .role = role};
}

/* --- words --- */

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool meta(char c)
{
    return blank(c) || c == '\n' || c == ';' || c == '&' || c == '|' || c == '(' || c == ')' ||
           c == '<' || c == '>';
}

static unsigned hex_value(char c)
{
    return c >= '0' && c <= '9'   ? (unsigned)(c - '0')
           : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
           : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                  : 16;
}

/* \NNN, \xHH and one-letter escapes of $'…'; p is behind the backslash. */
static void ansi_escape(struct parser *ps)
{
    static const char from[] = "abefnrtv";
    static const char to[] = "\a\b\033\f\n\r\t\v";
    char c = *ps->p++;
    const char *at = strchr(from, c);
    unsigned v = 0;
    int digits = 0;
    if (c >= '0' && c <= '7') {
        for (ps->p--; digits < 3 && ps->p < ps->end && *ps->p >= '0' && *ps->p <= '7'; digits++)
            v = v * 8 + (unsigned)(*ps->p++ - '0');
    } else if (c == 'x') {
        for (; digits < 2 && ps->p < ps->end && hex_value(*ps->p) < 16; digits++)
            v = v * 16 + hex_value(*ps->p++);
    } else {
        v = (unsigned char)(c && at ? to[at - from] : c);
    }
    if ((v & 0xff) != 0)
        put(ps->sh, (char)(v & 0xff));
}

static void single_quote(struct parser *ps, bool ansi)
{
    while (ps->p < ps->end && *ps->p != '\'') {
        char c = *ps->p++;
        if (ansi && c == '\\' && ps->p < ps->end)
            ansi_escape(ps);
        else if (c)
            put(ps->sh, c);
    }
    if (ps->p < ps->end)
        ps->p++;
    else
        ps->sh->cut = true;
}

/* The end of ${…} or $((…)), quotes and nesting minded; p stands behind the opening. */
static struct cg_slice balanced(struct parser *ps, char open, char close)
{
    const char *from = ps->p;
    int level = 1;
    char quote = '\0';
    for (; ps->p < ps->end; ps->p++) {
        char c = *ps->p;
        if (c == '\\' && quote != '\'' && ps->p + 1 < ps->end)
            ps->p++;
        else if (quote)
            quote = c == quote ? '\0' : quote;
        else if (c == '\'' || c == '"')
            quote = c;
        else if (c == open)
            level++;
        else if (c == close && --level == 0)
            break;
    }
    struct cg_slice in = {from, (size_t)(ps->p - from)};
    if (ps->p < ps->end)
        ps->p++;
    else
        ps->sh->cut = true;
    return in;
}

/* Commands in ${x:-$(…)}: read them as a word of their own. */
static void braces(struct parser *ps, int command)
{
    struct cg_slice in = balanced(ps, '{', '}');
    size_t skip = in.n && (in.p[0] == '#' || in.p[0] == '!') ? 1 : 0;
    size_t n = skip;
    while (n < in.n && name_char(in.p[n]))
        n++;
    add_var(ps->sh, command, in.p + skip, n - skip);
    if (n < in.n && (memchr(in.p + n, '$', in.n - n) || memchr(in.p + n, '`', in.n - n)) &&
        ps->depth < CG_SH_DEPTH) {
        struct parser sub = *ps;
        int word = -1;
        sub.p = in.p + n + 1;
        sub.end = in.p + in.n;
        sub.depth++;
        while (sub.p < sub.end) {
            const char *before = sub.p;
            if (!parse_word(&sub, command, &word) || sub.p == before)
                sub.p++;
        }
    }
}

static void backticks(struct parser *ps, int command)
{
    struct cg_sh *sh = ps->sh;
    const char *from = begin_text(sh);
    size_t n = 0;
    while (ps->p < ps->end && *ps->p != '`') {
        if (*ps->p == '\\' && ps->p + 1 < ps->end && strchr("`\\$", ps->p[1]))
            ps->p++;
        size_t before = sh->used;
        put(sh, *ps->p++);
        n += sh->used - before;
    }
    end_text(sh);
    if (ps->p < ps->end)
        ps->p++;
    else
        sh->cut = true;
    parse_inside(ps, (struct cg_slice){from, n}, inside_of(command, CG_SH_SUBST));
}

/* $(…): the list ends at its own closing parenthesis, so it is read in place. */
static void list_in_place(struct parser *ps, int command, enum cg_sh_role role)
{
    if (ps->depth >= CG_SH_DEPTH) {
        ps->sh->cut = true;
        balanced(ps, '(', ')');
        return;
    }
    struct parser in = {
        .sh = ps->sh, .p = ps->p, .end = ps->end, .depth = ps->depth + 1, .nested = ps->nested};
    parse_list(&in, ')', inside_of(command, role));
    ps->p = in.p;
    ps->nested = in.nested;
}

/* Behind a dollar sign; true when something is expanded. A word under way must not be torn by the
 * text of the commands in it: what it has so far is moved behind them (`from`). */
static bool dollar(struct parser *ps, int command, bool in_quotes)
{
    struct cg_sh *sh = ps->sh;
    char c = ps->p < ps->end ? *ps->p : '\0';
    if (c == '\'' && !in_quotes) {
        ps->p++;
        single_quote(ps, true);
        return false;
    }
    if (c == '"' && !in_quotes)
        return false; /* $"…": as "…" */
    if (c == '(') {
        ps->p++;
        if (ps->p < ps->end && *ps->p == '(') {
            ps->p++;
            balanced(ps, '(', ')');
            if (ps->p < ps->end && *ps->p == ')')
                ps->p++;
        } else {
            list_in_place(ps, command, CG_SH_SUBST);
        }
        return true;
    }
    if (c == '{') {
        ps->p++;
        braces(ps, command);
        return true;
    }
    const char *from = ps->p;
    while (ps->p < ps->end && name_char(*ps->p))
        ps->p++;
    if (ps->p > from) {
        add_var(sh, command, from, (size_t)(ps->p - from));
        return true;
    }
    if (c && strchr("@*#?$!-", c)) {
        ps->p++;
        return true;
    }
    put(sh, '$');
    return false;
}

/* What stands for an expansion in its word, so that "$X/" is not "/": "~" for the home folder, the
 * name with its dollar sign for other variables, "$()" for commands. */
static void stand_in(struct parser *ps, const char *start)
{
    size_t n = (size_t)(ps->p - start);
    if (n >= 2 && start[0] == '{' && ps->p[-1] == '}') {
        start++;
        n -= 2;
    }
    size_t name = 0;
    while (name < n && name < 64 && name_char(start[name]))
        name++;
    if (name == 4 && memcmp(start, "HOME", 4) == 0) {
        put(ps->sh, '~');
        return;
    }
    put(ps->sh, '$');
    for (size_t i = 0; i < name; i++)
        put(ps->sh, start[i]);
    if (name == 0) {
        put(ps->sh, '(');
        put(ps->sh, ')');
    }
}

/* An expansion inside of a word: its inner text is kept apart from the word's own bytes. */
static bool expand(struct parser *ps, int command, const char **from, char kind, bool in_quotes)
{
    struct cg_sh *sh = ps->sh;
    size_t have = sh->used - (size_t)(*from - sh->text);
    const char *start = ps->p;
    bool literal =
        kind == '$' && ps->p < ps->end && (*ps->p == '\'' || *ps->p == '"') && !in_quotes;
    if (literal ||
        (kind == '$' && (ps->p == ps->end || (!name_char(*ps->p) && !strchr("({@*#?$!-", *ps->p)))))
        return dollar(ps, command, in_quotes);
    end_text(sh);
    bool expands = true;
    if (kind == '`')
        backticks(ps, command);
    else if (kind == '$')
        expands = dollar(ps, command, in_quotes);
    else
        list_in_place(ps, command, CG_SH_PROCESS);
    if (sh->used + have + 1 >= CG_SH_TEXT) {
        sh->cut = true;
        have = 0;
    }
    char *to = sh->text + sh->used;
    memmove(to, *from, have);
    sh->used += have;
    *from = to;
    stand_in(ps, start);
    return expands;
}

static bool double_quote(struct parser *ps, int command, const char **from)
{
    bool expands = false;
    while (ps->p < ps->end && *ps->p != '"') {
        char c = *ps->p++;
        if (c == '\\' && ps->p < ps->end) {
            if (!strchr("$`\"\\\n", *ps->p))
                put(ps->sh, '\\');
            if (*ps->p != '\n' && *ps->p)
                put(ps->sh, *ps->p);
            ps->p++;
        } else if (c == '$' || c == '`') {
            expands = expand(ps, command, from, c, true) || expands;
        } else if (c) {
            put(ps->sh, c);
        }
    }
    if (ps->p < ps->end)
        ps->p++;
    else
        ps->sh->cut = true;
    return expands;
}

/* The next word; false when there is none at p. `command` gets the commands inside of it. */
static bool parse_word(struct parser *ps, int command, int *out)
{
    struct cg_sh *sh = ps->sh;
    const char *from = begin_text(sh);
    const char *start = ps->p;
    bool expands = false;
    while (ps->p < ps->end) {
        char c = *ps->p;
        bool process = (c == '<' || c == '>') && ps->p + 1 < ps->end && ps->p[1] == '(';
        if (process && ps->p == start) {
            ps->p += 2;
            expands = expand(ps, command, &from, '<', false) || expands;
            continue;
        }
        if (meta(c))
            break;
        ps->p++;
        if (c == '\\' && ps->p < ps->end) {
            if (*ps->p != '\n' && *ps->p)
                put(sh, *ps->p);
            ps->p++;
        } else if (c == '\'') {
            single_quote(ps, false);
        } else if (c == '"') {
            expands = double_quote(ps, command, &from) || expands;
        } else if (c == '$' || c == '`') {
            expands = expand(ps, command, &from, c, false) || expands;
        } else if (c) {
            put(sh, c);
        }
    }
    if (ps->p == start)
        return false;
    end_text(sh);
    *out = -1;
    if (sh->nwords == CG_SH_WORDS) {
        sh->cut = true;
        return true;
    }
    *out = sh->nwords;
    sh->word[sh->nwords++] = (struct cg_sh_word){from, -1, expands};
    return true;
}

/* --- what a shell is given as text --- */

static const char *word_text(const struct cg_sh *sh, int word)
{
    return word >= 0 ? sh->word[word].text : "";
}

/* eval's words, with a space between. */
static struct cg_slice join(struct cg_sh *sh, const char *const *argv, int n)
{
    const char *from = begin_text(sh);
    size_t before = sh->used;
    for (int i = 0; i < n; i++) {
        for (const char *s = argv[i]; *s; s++)
            put(sh, *s);
        put(sh, ' ');
    }
    size_t length = sh->used - before;
    end_text(sh);
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
        parse_inside(ps, cg_slice_of(text), in);
    else if (at < n && strcmp(cg_sh_basename(argv[at]), "eval") == 0 && n - at > 1)
        parse_inside(ps, join(sh, argv + at + 1, n - at - 1), in);
}

/* --- here-documents --- */

static void note_heredoc(struct parser *ps, int command, bool tabs)
{
    int word = -1;
    while (ps->p < ps->end && blank(*ps->p))
        ps->p++;
    bool quoted = ps->p < ps->end && (*ps->p == '\'' || *ps->p == '"' || *ps->p == '\\');
    if (!parse_word(ps, command, &word) || word < 0)
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
        parse_inside(ps, body, inside_of(h->command, CG_SH_NESTED));
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
    while (ps->p < ps->end && blank(*ps->p))
        ps->p++;
    if (!parse_word(ps, command, &word) || word < 0 || command < 0)
        return;
    ps->sh->command[command].here = true;
    int n = cg_sh_argv(ps->sh, command, argv);
    int at = cg_sh_program(argv, n);
    if (at < n && cg_sh_is_shell(cg_sh_basename(argv[at])))
        parse_inside(ps, cg_slice_of(word_text(ps->sh, word)), inside_of(command, CG_SH_NESTED));
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
    while (ps->p < ps->end && blank(*ps->p))
        ps->p++;
    if (parse_word(ps, command, &word) && word >= 0)
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
        while (ps->p < ps->end && blank(*ps->p))
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
        balanced(ps, '(', ')');
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
    parse_list(ps, ')', l->at);
    ps->depth--;
}

static bool assignment(const char *s)
{
    const char *p = s;
    while (name_char(*p))
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
    if (!parse_word(ps, l->command, &word)) {
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
    if (blank(c)) {
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

static void parse_list(struct parser *ps, char close, struct place at)
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
    parse_list(&ps, '\0', (struct place){.host = -1, .role = CG_SH_TOP});
}
