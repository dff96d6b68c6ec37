/* Words of a shell: quotes, escapes, variables, and commands inside of words. */
#include <string.h>

#include "trust/shell.h"

/* --- memory --- */

void sh_put(struct cg_sh *sh, char c)
{
    if (sh->used + 1 < CG_SH_TEXT)
        sh->text[sh->used++] = c;
    else
        sh->cut = true;
}

const char *sh_begin_text(struct cg_sh *sh)
{
    return sh->text + sh->used;
}

void sh_end_text(struct cg_sh *sh)
{
    sh->text[sh->used] = '\0'; /* the last byte is never anything else */
    if (sh->used + 1 < CG_SH_TEXT)
        sh->used++;
}

static void add_var(struct cg_sh *sh, int command, const char *name, size_t n)
{
    if (n == 0 || n > 128)
        return;
    if (sh->nvars == CG_SH_VARS) {
        sh->cut = true;
        return;
    }
    const char *text = sh_begin_text(sh);
    for (size_t i = 0; i < n; i++)
        sh_put(sh, name[i]);
    sh_end_text(sh);
    sh->var[sh->nvars++] = (struct cg_sh_var){command, text};
}

/* --- text inside of text --- */

void sh_parse_inside(struct parser *ps, struct cg_slice text, struct place at)
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
    sh_list(&in, '\0', at);
    ps->nested = in.nested;
}

struct place sh_inside_of(int command, enum cg_sh_role role)
{
    return (struct place){.host = command, .role = role};
}

/* --- words --- */

bool sh_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

bool sh_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool meta(char c)
{
    return sh_blank(c) || c == '\n' || c == ';' || c == '&' || c == '|' || c == '(' || c == ')' ||
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
        sh_put(ps->sh, (char)(v & 0xff));
}

static void single_quote(struct parser *ps, bool ansi)
{
    while (ps->p < ps->end && *ps->p != '\'') {
        char c = *ps->p++;
        if (ansi && c == '\\' && ps->p < ps->end)
            ansi_escape(ps);
        else if (c)
            sh_put(ps->sh, c);
    }
    if (ps->p < ps->end)
        ps->p++;
    else
        ps->sh->cut = true;
}

/* The end of ${…} or $((…)), quotes and nesting minded; p stands behind the opening. */
struct cg_slice sh_balanced(struct parser *ps, char open, char close)
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
    struct cg_slice in = sh_balanced(ps, '{', '}');
    size_t skip = in.n && (in.p[0] == '#' || in.p[0] == '!') ? 1 : 0;
    size_t n = skip;
    while (n < in.n && sh_name_char(in.p[n]))
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
            if (!sh_word(&sub, command, &word) || sub.p == before)
                sub.p++;
        }
    }
}

static void backticks(struct parser *ps, int command)
{
    struct cg_sh *sh = ps->sh;
    const char *from = sh_begin_text(sh);
    size_t n = 0;
    while (ps->p < ps->end && *ps->p != '`') {
        if (*ps->p == '\\' && ps->p + 1 < ps->end && strchr("`\\$", ps->p[1]))
            ps->p++;
        size_t before = sh->used;
        sh_put(sh, *ps->p++);
        n += sh->used - before;
    }
    sh_end_text(sh);
    if (ps->p < ps->end)
        ps->p++;
    else
        sh->cut = true;
    sh_parse_inside(ps, (struct cg_slice){from, n}, sh_inside_of(command, CG_SH_SUBST));
}

/* $(…): the list ends at its own closing parenthesis, so it is read in place. */
static void list_in_place(struct parser *ps, int command, enum cg_sh_role role)
{
    if (ps->depth >= CG_SH_DEPTH) {
        ps->sh->cut = true;
        sh_balanced(ps, '(', ')');
        return;
    }
    struct parser in = {
        .sh = ps->sh, .p = ps->p, .end = ps->end, .depth = ps->depth + 1, .nested = ps->nested};
    sh_list(&in, ')', sh_inside_of(command, role));
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
            sh_balanced(ps, '(', ')');
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
    while (ps->p < ps->end && sh_name_char(*ps->p))
        ps->p++;
    if (ps->p > from) {
        add_var(sh, command, from, (size_t)(ps->p - from));
        return true;
    }
    if (c && strchr("@*#?$!-", c)) {
        ps->p++;
        return true;
    }
    sh_put(sh, '$');
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
    while (name < n && name < 64 && sh_name_char(start[name]))
        name++;
    if (name == 4 && memcmp(start, "HOME", 4) == 0) {
        sh_put(ps->sh, '~');
        return;
    }
    sh_put(ps->sh, '$');
    for (size_t i = 0; i < name; i++)
        sh_put(ps->sh, start[i]);
    if (name == 0) {
        sh_put(ps->sh, '(');
        sh_put(ps->sh, ')');
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
    if (literal || (kind == '$' &&
                    (ps->p == ps->end || (!sh_name_char(*ps->p) && !strchr("({@*#?$!-", *ps->p)))))
        return dollar(ps, command, in_quotes);
    sh_end_text(sh);
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
    stand_in(ps, kind == '$' ? start : ps->p);
    return expands;
}

static bool double_quote(struct parser *ps, int command, const char **from)
{
    bool expands = false;
    while (ps->p < ps->end && *ps->p != '"') {
        char c = *ps->p++;
        if (c == '\\' && ps->p < ps->end) {
            if (!strchr("$`\"\\\n", *ps->p))
                sh_put(ps->sh, '\\');
            if (*ps->p != '\n' && *ps->p)
                sh_put(ps->sh, *ps->p);
            ps->p++;
        } else if (c == '$' || c == '`') {
            expands = expand(ps, command, from, c, true) || expands;
        } else if (c) {
            sh_put(ps->sh, c);
        }
    }
    if (ps->p < ps->end)
        ps->p++;
    else
        ps->sh->cut = true;
    return expands;
}

/* The next word; false when there is none at p. `command` gets the commands inside of it. */
bool sh_word(struct parser *ps, int command, int *out)
{
    struct cg_sh *sh = ps->sh;
    const char *from = sh_begin_text(sh);
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
                sh_put(sh, *ps->p);
            ps->p++;
        } else if (c == '\'') {
            single_quote(ps, false);
        } else if (c == '"') {
            expands = double_quote(ps, command, &from) || expands;
        } else if (c == '$' || c == '`') {
            expands = expand(ps, command, &from, c, false) || expands;
        } else if (c) {
            sh_put(sh, c);
        }
    }
    if (ps->p == start)
        return false;
    sh_end_text(sh);
    *out = -1;
    if (sh->nwords == CG_SH_WORDS) {
        sh->cut = true;
        return true;
    }
    *out = sh->nwords;
    sh->word[sh->nwords++] = (struct cg_sh_word){from, -1, expands};
    return true;
}
