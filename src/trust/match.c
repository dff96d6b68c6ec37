/* Does a condition hold? All its members must; what it does not name does not matter. */
#include <stdlib.h>
#include <string.h>

#include "trust/inner.h"

/* --- words of a command --- */

/* Words behind the program (or behind the script, when that is what the condition named). */
static int behind(const struct look *l, const struct cg_condition *c)
{
    const struct cg_texts *names = &c->list[CG_L_PROGRAM];
    const char *name = cg_sh_basename(l->argv[l->program]);
    bool script = l->as && (names->n == 0 || !texts_match(names, name));
    return (script ? l->script : l->program) + 1;
}

/* One of "-r|-R|--recursive" stands among the words: by itself, in a cluster of letters, or with
 * its value behind "=". */
static bool has_flag(const struct look *l, int from, const char *one)
{
    bool letter = one[0] == '-' && one[1] && one[1] != '-' && !one[2];
    size_t n = strlen(one);
    for (int i = from; i < l->argc; i++) {
        const char *w = l->argv[i];
        if (strcmp(w, "--") == 0)
            return false;
        if (strcmp(w, one) == 0 || (strncmp(w, one, n) == 0 && w[n] == '=' && n > 2))
            return true;
        if (letter && w[0] == '-' && w[1] != '-' && strchr(w + 1, one[1]) &&
            strspn(w + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") ==
                strlen(w + 1))
            return true;
    }
    return false;
}

static bool has_any_flag(const struct look *l, int from, const char *group)
{
    char one[64];
    for (const char *p = group; *p;) {
        size_t n = strcspn(p, "|");
        if (n < sizeof one) {
            memcpy(one, p, n);
            one[n] = '\0';
            if (has_flag(l, from, one))
                return true;
        }
        p += n + (p[n] == '|');
    }
    return false;
}

static bool flags_match(const struct look *l, int from, const struct cg_condition *c)
{
    const struct cg_texts *must = &c->list[CG_L_FLAGS];
    const struct cg_texts *not = &c->list[CG_L_NOT_FLAGS];
    for (unsigned i = 0; i < must->n; i++)
        if (!has_any_flag(l, from, must->v[i]))
            return false;
    for (unsigned i = 0; i < not ->n; i++)
        if (has_any_flag(l, from, not ->v[i]))
            return false;
    return true;
}

/* Options before a verb that take a value: git -C dir, docker --context x. */
static bool valued(const char *w)
{
    static const char *const names[] = {"-C",    "-c",    "--git-dir", "--work-tree", "--prefix",
                                        "--cwd", "--dir", "--context", "--config"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strcmp(w, names[i]) == 0)
            return true;
    return false;
}

/* "config set": words that are no options, one after the other. */
static bool verb_is(const struct look *l, int from, const char *verb)
{
    char word[64];
    int i = from;
    for (const char *p = verb; *p;) {
        size_t n = strcspn(p, " ");
        if (n >= sizeof word)
            return false;
        memcpy(word, p, n);
        word[n] = '\0';
        while (i < l->argc && l->argv[i][0] == '-')
            i += valued(l->argv[i]) ? 2 : 1;
        if (i >= l->argc || !glob_match(word, l->argv[i++]))
            return false;
        p += n + (p[n] == ' ');
    }
    return true;
}

static bool any_verb(const struct look *l, int from, const struct cg_texts *verbs)
{
    for (unsigned i = 0; i < verbs->n; i++)
        if (verb_is(l, from, verbs->v[i]))
            return true;
    return false;
}

static bool any_word(const struct look *l, int from, const char *pattern)
{
    for (int i = from; i < l->argc; i++)
        if (glob_match(pattern, l->argv[i]))
            return true;
    return false;
}

static bool words_match(const struct look *l, int from, const struct cg_condition *c)
{
    const struct cg_texts *any = &c->list[CG_L_WORDS];
    const struct cg_texts *all = &c->list[CG_L_ALL_WORDS];
    const struct cg_texts *not = &c->list[CG_L_NOT_WORDS];
    bool found = any->n == 0;
    for (unsigned i = 0; i < any->n && !found; i++)
        found = any_word(l, from, any->v[i]);
    for (unsigned i = 0; i < all->n && found; i++)
        found = any_word(l, from, all->v[i]);
    for (unsigned i = 0; i < not ->n && found; i++)
        found = !any_word(l, from, not ->v[i]);
    return found;
}

/* --- paths in words --- */

static bool path_fits(const struct look *l, const struct cg_condition *c, const char *word)
{
    char path[PATH_BYTES];
    if (word[0] == '@')
        word++; /* curl --data @file */
    if (strncmp(word, "file://", 7) == 0)
        word += 7;
    if (!word[0])
        return false;
    path_whole(l->cwd, word, l->uid, path);
    return path_match(&c->list[CG_L_ARGS], path) && !path_match(&c->list[CG_L_NOT_ARGS], path);
}

/* A word, or what stands behind its "=", names a path that is meant. */
static bool args_match(const struct look *l, int from, const struct cg_condition *c)
{
    if (c->list[CG_L_ARGS].n == 0)
        return true;
    bool options = true;
    for (int i = from; i < l->argc; i++) {
        const char *w = l->argv[i];
        const char *value = strchr(w, '=');
        if (options && strcmp(w, "--") == 0) {
            options = false;
            continue;
        }
        if ((!options || w[0] != '-') && path_fits(l, c, w))
            return true;
        if (value && path_fits(l, c, value + 1))
            return true;
    }
    for (int i = 0; l->sh && i < l->sh->nredirects; i++)
        if (l->sh->redirect[i].command == l->command && l->sh->redirect[i].op == '<' &&
            path_fits(l, c, l->sh->redirect[i].text))
            return true;
    return false;
}

static bool redirect_match(const struct look *l, const struct cg_texts *paths)
{
    char path[PATH_BYTES];
    for (int i = 0; l->sh && i < l->sh->nredirects; i++) {
        const struct cg_sh_redirect *r = &l->sh->redirect[i];
        if (r->command != l->command || r->op != '>')
            continue;
        path_whole(l->cwd, r->text, l->uid, path);
        if (path_match(paths, path))
            return true;
    }
    return false;
}

/* --- URLs in words --- */

static bool url_host(const char *word, char host[256], bool *plain)
{
    const char *at = strstr(word, "://");
    if (!at)
        return false;
    *plain = at - word >= 4 && strncmp(at - 4, "http", 4) == 0;
    size_t n = strcspn(at + 3, "/?#'\"\\ ,;");
    char authority[300];
    if (n == 0 || n >= sizeof authority)
        return false;
    memcpy(authority, at + 3, n);
    authority[n] = '\0';
    char *name = strrchr(authority, '@');
    name = name ? name + 1 : authority;
    if (name[0] != '[')
        name[strcspn(name, ":")] = '\0';
    return name[0] && name[0] != '$' && cg_strlcpy(host, 256, name);
}

/* "unknown", "known", "any", "plain" (http without TLS to an unknown host). */
static bool url_match(struct look *l, int from, const struct cg_texts *kinds)
{
    char *host = l->url_host;
    for (int i = from; i < l->argc; i++) {
        bool plain = false;
        if (!url_host(l->argv[i], host, &plain))
            continue;
        bool known = host_known(l->t, host);
        for (unsigned k = 0; k < kinds->n; k++) {
            const char *kind = kinds->v[k];
            if (strcmp(kind, "any") == 0 || (strcmp(kind, "known") == 0 && known) ||
                (strcmp(kind, "unknown") == 0 && !known) ||
                (strcmp(kind, "plain") == 0 && plain && !known)) {
                l->host = host;
                return true;
            }
        }
    }
    return false;
}

/* --- pipes and substitutions --- */

static bool command_is(const struct cg_sh *sh, int command, const struct cg_texts *names)
{
    const char *argv[CG_SH_ARGV];
    struct look l = {.argv = argv, .argc = cg_sh_argv(sh, command, argv)};
    look_command(&l);
    return look_is(&l, names);
}

/* Anything upstream of a command of a text: through pipes, however many. */
static bool upstream_match(const struct cg_sh *sh, int command, const struct cg_texts *names)
{
    for (int hops = 0; hops < CG_SH_COMMANDS; hops++) {
        const struct cg_sh_command *c = &sh->command[command];
        for (int i = c->input_from; i < c->input_to; i++)
            if (command_is(sh, i, names))
                return true;
        if (c->input_from < c->input_to && c->input_from < command)
            command = c->input_from;
        else if (c->host >= 0 && c->role == CG_SH_NESTED)
            command = c->host; /* sudo sh -c sh: the text reads what its shell reads */
        else
            return false;
    }
    return false;
}

static bool input_match(struct look *l, const struct cg_texts *names)
{
    if (l->sh)
        return upstream_match(l->sh, l->command, names);
    const struct proc *me = procs_find(&l->t->procs, l->pid);
    const struct proc *other = me ? procs_beside(&l->t->procs, me, names) : NULL;
    if (!other)
        return false;
    l->upstream = other->seq;
    return true;
}

static bool feeds_match(const struct look *l, const struct cg_texts *names)
{
    for (int i = 0; l->sh && i < l->sh->ncommands; i++) {
        int host = l->sh->command[i].host;
        if (l->sh->command[i].role != CG_SH_SUBST && l->sh->command[i].role != CG_SH_PROCESS)
            continue;
        for (int hops = 0; host >= 0 && hops < CG_SH_DEPTH; hops++) {
            if (host == l->command && command_is(l->sh, i, names))
                return true;
            host = l->sh->command[host].host;
        }
    }
    return false;
}

static bool vars_match(const struct look *l, const struct cg_texts *names)
{
    for (int i = 0; l->sh && i < l->sh->nvars; i++)
        if (l->sh->var[i].command == l->command && texts_match(names, l->sh->var[i].name))
            return true;
    return false;
}

/* --- kinds --- */

static bool number_fits(int64_t want, int64_t is)
{
    return want < 0 || want == is;
}

static bool ancestry_fits(const struct look *l, const struct cg_condition *c)
{
    const struct cg_texts *under = &c->list[CG_L_UNDER];
    const struct cg_texts *not = &c->list[CG_L_NOT_UNDER];
    bool itself = !l->argv || l->sh; /* a command in a shell's text stands under that shell */
    return (under->n == 0 || procs_under(&l->t->procs, l->pid, itself, under)) &&
           (not ->n == 0 || !procs_under(&l->t->procs, l->pid, itself, not ));
}

static bool command_matches(struct look *l, const struct cg_condition *c)
{
    const struct cg_texts *x = c->list;
    if (l->program >= l->argc || (x[CG_L_PROGRAM].n > 0 && !look_is(l, &x[CG_L_PROGRAM])))
        return false;
    const char *name = cg_sh_basename(l->argv[l->program]);
    if (texts_match(&x[CG_L_NOT_PROGRAM], name) ||
        (l->as && texts_match(&x[CG_L_NOT_PROGRAM], l->as)))
        return false;
    int from = behind(l, c);
    if ((x[CG_L_VERB].n > 0 && !any_verb(l, from, &x[CG_L_VERB])) ||
        (x[CG_L_NOT_VERB].n > 0 && any_verb(l, from, &x[CG_L_NOT_VERB])) ||
        !flags_match(l, from, c) || !words_match(l, from, c) || !args_match(l, from, c))
        return false;
    if (c->number[CG_N_UID] >= 0 && l->uid != c->number[CG_N_UID])
        return false;
    if (c->number[CG_N_NOT_UID] >= 0 && (l->uid < 0 || l->uid == c->number[CG_N_NOT_UID]))
        return false;
    if (c->number[CG_N_STDIN] >= 0 && (c->number[CG_N_STDIN] == 1) != look_reads_stdin(l))
        return false;
    if (l->reader && x[CG_L_INPUT].n == 0)
        return false; /* it was looked at already; only its input is new */
    return (x[CG_L_REDIRECT].n == 0 || redirect_match(l, &x[CG_L_REDIRECT])) &&
           (x[CG_L_VARS].n == 0 || vars_match(l, &x[CG_L_VARS])) &&
           (x[CG_L_FEEDS].n == 0 || feeds_match(l, &x[CG_L_FEEDS])) &&
           (x[CG_L_URL].n == 0 || url_match(l, from, &x[CG_L_URL])) && ancestry_fits(l, c) &&
           (x[CG_L_INPUT].n == 0 || input_match(l, &x[CG_L_INPUT]));
}

static bool text_fits(const struct cg_texts *want, const char *is)
{
    return want->n == 0 || (is && texts_match(want, is));
}

static bool text_differs(const struct cg_texts * not, const char *is)
{
    return not ->n == 0 || !is || !texts_match(not, is);
}

/* All commands at the top of the text are among the names. */
static bool only(const struct look *l, const struct cg_texts *names)
{
    if (!l->sh)
        return look_is(l, names);
    for (int i = 0; i < l->sh->ncommands; i++)
        if (l->sh->command[i].first >= 0 && !command_is(l->sh, i, names))
            return false;
    return true;
}

static bool start_matches(struct look *l, const struct cg_condition *c)
{
    const char *origin = cg_event_text(l->e, "origin");
    const char *user = cg_event_text(l->e, "user");
    return text_fits(&c->list[CG_L_USER], user) && text_fits(&c->list[CG_L_ORIGIN], origin) &&
           text_differs(&c->list[CG_L_NOT_ORIGIN], origin) &&
           (c->list[CG_L_NOT_ONLY].n == 0 || !only(l, &c->list[CG_L_NOT_ONLY]));
}

static bool is_fresh(const struct look *l, const char *path)
{
    uint64_t h = hash_text(path);
    return l->t->fresh[h % FRESH] == h;
}

static bool file_matches(struct look *l, const struct cg_condition *c)
{
    const struct cg_texts *x = c->list;
    const char *path = cg_event_text(l->e, "path");
    const char *to = cg_event_text(l->e, "to");
    const char *op = cg_event_text(l->e, "op");
    const char *by = cg_event_text(l->e, "comm");
    const char *origin = cg_event_text(l->e, "origin");
    bool renamed = to && op && strcmp(op, "rename") == 0;
    if (!path || cg_event_has(l->e, "error") || !text_fits(&x[CG_L_OP], op))
        return false;
    bool there = x[CG_L_PATH].n == 0 || path_match(&x[CG_L_PATH], renamed ? to : path);
    if (!there || (x[CG_L_NOT_PATH].n > 0 && path_match(&x[CG_L_NOT_PATH], renamed ? to : path)))
        return false;
    if (!text_fits(&x[CG_L_BY], by) || !text_differs(&x[CG_L_NOT_BY], by) ||
        !text_fits(&x[CG_L_ORIGIN], origin) || !text_differs(&x[CG_L_NOT_ORIGIN], origin))
        return false;
    if (!number_fits(c->number[CG_N_UID], l->uid) ||
        (c->number[CG_N_NOT_UID] >= 0 && l->uid == c->number[CG_N_NOT_UID]))
        return false;
    if (c->number[CG_N_MODE] >= 0 && (cg_event_int(l->e, "mode", 0) & c->number[CG_N_MODE]) == 0)
        return false;
    if (c->number[CG_N_FRESH] >= 0 && (c->number[CG_N_FRESH] == 1) != is_fresh(l, path))
        return false;
    l->path = renamed ? to : path;
    return ancestry_fits(l, c);
}

static bool process_matches(struct look *l, const struct cg_condition *c)
{
    const char *path = cg_event_text(l->e, "path");
    const char *by = cg_event_text(l->e, "comm");
    if (!text_fits(&c->list[CG_L_EVENT], cg_event_text(l->e, "event")) ||
        !text_fits(&c->list[CG_L_TYPE], cg_event_text(l->e, "type")) ||
        !text_fits(&c->list[CG_L_BY], by) || !text_differs(&c->list[CG_L_NOT_BY], by))
        return false;
    if ((c->list[CG_L_PATH].n > 0 && (!path || !path_match(&c->list[CG_L_PATH], path))) ||
        (c->list[CG_L_NOT_PATH].n > 0 && path && path_match(&c->list[CG_L_NOT_PATH], path)))
        return false;
    if (c->number[CG_N_TO] >= 0 && cg_event_int(l->e, "to", -1) != c->number[CG_N_TO])
        return false;
    int64_t from = cg_event_int(l->e, "from", l->uid);
    if (c->number[CG_N_NOT_UID] >= 0 && from == c->number[CG_N_NOT_UID])
        return false;
    return number_fits(c->number[CG_N_UID], l->uid) && ancestry_fits(l, c);
}

static bool port_among(const struct cg_texts *ports, int64_t port)
{
    for (unsigned i = 0; i < ports->n; i++)
        if (strtoll(ports->v[i], NULL, 10) == port)
            return true;
    return false;
}

/* "known", "unknown", "address" (no name was looked up), or a pattern. */
static bool host_fits(struct look *l, const struct cg_texts *want, const char *name,
                      const char *address)
{
    const char *host = name ? name : address;
    if (!host)
        return false;
    for (unsigned i = 0; i < want->n; i++) {
        const char *w = want->v[i];
        bool fits = strcmp(w, "known") == 0     ? host_known(l->t, host)
                    : strcmp(w, "unknown") == 0 ? !host_known(l->t, host)
                    : strcmp(w, "address") == 0 ? !name
                                                : glob_match(w, host);
        if (fits)
            return true;
    }
    return want->n == 0;
}

static bool network_matches(struct look *l, const struct cg_condition *c)
{
    const char *name = cg_event_text(l->e, "name");
    const char *address = cg_event_text(l->e, "address");
    int64_t port = cg_event_int(l->e, "port", 0);
    if (cg_streq(address, "172.30.0.1") || cg_streq(address, "172.30.1.1"))
        name = "host.caged.internal"; /* what the operator forwards, and the gateway to models */
    if (!text_fits(&c->list[CG_L_EVENT], cg_event_text(l->e, "event")) ||
        !text_fits(&c->list[CG_L_VERDICT], cg_event_text(l->e, "verdict")) ||
        !host_fits(l, &c->list[CG_L_HOST], name, address))
        return false;
    if ((c->list[CG_L_PORT].n > 0 && !port_among(&c->list[CG_L_PORT], port)) ||
        port_among(&c->list[CG_L_NOT_PORT], port))
        return false;
    l->host = name ? name : address;
    l->out = cg_event_int(l->e, "bytes_out", 0);
    l->in = cg_event_int(l->e, "bytes_in", 0);
    return c->number[CG_N_AMOUNT] < 0 || l->out + l->in >= c->number[CG_N_AMOUNT];
}

static bool dns_matches(struct look *l, const struct cg_condition *c)
{
    const char *name = cg_event_text(l->e, "name");
    if (!name || !text_fits(&c->list[CG_L_VERDICT], cg_event_text(l->e, "verdict")) ||
        !host_fits(l, &c->list[CG_L_HOST], name, NULL))
        return false;
    l->host = name;
    return c->number[CG_N_LABEL] < 0 || (int64_t)strcspn(name, ".") >= c->number[CG_N_LABEL];
}

static bool gap_matches(struct look *l, const struct cg_condition *c)
{
    l->path = cg_event_text(l->e, "reason");
    return text_fits(&c->list[CG_L_REASON], l->path) &&
           text_fits(&c->list[CG_L_FACT], cg_event_text(l->e, "fact"));
}

static bool downloaded_matches(struct look *l, const struct cg_condition *c)
{
    if (l->program >= l->argc || l->upstream == 0)
        return false;
    return (c->list[CG_L_PROGRAM].n == 0 || look_is(l, &c->list[CG_L_PROGRAM])) &&
           ancestry_fits(l, c);
}

bool cond_matches(struct look *l, const struct cg_condition *c)
{
    switch (c->kind) {
    case CG_COND_COMMAND:
        return command_matches(l, c);
    case CG_COND_START:
        return start_matches(l, c);
    case CG_COND_FILE:
        return file_matches(l, c);
    case CG_COND_PROCESS:
        return process_matches(l, c);
    case CG_COND_NETWORK:
        return network_matches(l, c);
    case CG_COND_DNS:
        return dns_matches(l, c);
    case CG_COND_GAP:
        return gap_matches(l, c);
    case CG_COND_DOWNLOADED:
        return downloaded_matches(l, c);
    case CG_COND_KINDS:
        break;
    }
    return false;
}
