#include <string.h>

#include "trust/inner.h"

bool glob_match(const char *pattern, const char *s)
{
    const char *star = NULL;
    const char *back = NULL;
    while (*s) {
        if (*pattern == '*') {
            star = ++pattern;
            back = s;
        } else if (pattern[0] == '\\' && pattern[1] && pattern[1] == *s) {
            pattern += 2;
            s++;
        } else if (*pattern != '\\' && (*pattern == *s || *pattern == '?')) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star;
            s = ++back;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

bool texts_match(const struct cg_texts *t, const char *s)
{
    for (unsigned i = 0; i < t->n; i++)
        if (glob_match(t->v[i], s))
            return true;
    return false;
}

uint64_t hash_text(const char *s) /* FNV-1a: the same in every process, which a score must be */
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
    return h ? h : 1;
}

/* --- paths --- */

/* Adds the parts of a path to `out`, which holds n bytes of an absolute one. */
static size_t add_parts(char out[PATH_BYTES], size_t n, const char *path)
{
    while (*path) {
        path += strspn(path, "/");
        size_t len = strcspn(path, "/");
        if (len == 2 && memcmp(path, "..", 2) == 0) {
            while (n > 0 && out[--n] != '/')
                ;
        } else if (len > 0 && !(len == 1 && path[0] == '.') && n + len + 2 < PATH_BYTES) {
            out[n++] = '/';
            memcpy(out + n, path, len);
            n += len;
        }
        path += len;
    }
    return n;
}

void path_whole(const char *cwd, const char *word, int64_t uid, char out[PATH_BYTES])
{
    size_t n = 0;
    if (word[0] == '~' && (!word[1] || word[1] == '/')) {
        n = add_parts(out, 0, uid == 0 ? "/root" : "/home/agent");
        word++;
    } else if (word[0] != '/') {
        n = add_parts(out, 0, cwd && cwd[0] == '/' ? cwd : "/workspace");
    }
    n = add_parts(out, n, word);
    if (n == 0)
        out[n++] = '/';
    out[n] = '\0';
}

/* A home folder, whoever's, is "~" in patterns. */
static bool homeless(const char *path, char out[PATH_BYTES])
{
    const char *rest = NULL;
    if (strncmp(path, "/root", 5) == 0 && (!path[5] || path[5] == '/'))
        rest = path + 5;
    else if (strncmp(path, "/home/", 6) == 0)
        rest = path + 6 + strcspn(path + 6, "/");
    if (!rest)
        return false;
    out[0] = '~';
    return cg_strlcpy(out + 1, PATH_BYTES - 1, rest);
}

bool path_match(const struct cg_texts *patterns, const char *path)
{
    char home[PATH_BYTES];
    return texts_match(patterns, path) || (homeless(path, home) && texts_match(patterns, home));
}

/* --- commands --- */

static bool interpreter(const char *name)
{
    static const char *const names[] = {"node", "nodejs", "ruby", "perl", "php", "bun", "deno"};
    if (cg_sh_is_shell(name) || strncmp(name, "python", 6) == 0)
        return true;
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The script that an interpreter runs: its first word that is no option, unless it was given its
 * program with -c or -e. */
static void find_script(struct look *l)
{
    bool python = strncmp(cg_sh_basename(l->argv[l->program]), "python", 6) == 0;
    for (int i = l->program + 1; i < l->argc; i++) {
        const char *w = l->argv[i];
        if (python && strcmp(w, "-m") == 0 && i + 1 < l->argc) {
            l->script = i + 1;
            l->as = l->argv[i + 1];
            return;
        }
        if (w[0] == '-' && w[1] && w[1] != '-' &&
            (strpbrk(w + 1, "ce") == w + strlen(w) - 1 || strcmp(w, "-p") == 0))
            return;
        if (w[0] == '-')
            continue;
        l->script = i;
        l->as = cg_sh_basename(w);
        return;
    }
}

void look_command(struct look *l)
{
    l->program = cg_sh_program(l->argv, l->argc);
    l->script = -1;
    l->as = NULL;
    if (l->program < l->argc && interpreter(cg_sh_basename(l->argv[l->program])))
        find_script(l);
}

bool look_reads_stdin(const struct look *l)
{
    if (l->program >= l->argc || !interpreter(cg_sh_basename(l->argv[l->program])))
        return false;
    for (int i = l->program + 1; i < l->argc; i++) {
        const char *w = l->argv[i];
        if (strcmp(w, "-") == 0 || strcmp(w, "-s") == 0 || strcmp(w, "/dev/stdin") == 0 ||
            strncmp(w, "/dev/fd/", 8) == 0 || strncmp(w, "/proc/self/fd/", 14) == 0)
            return true;
        if (w[0] != '-')
            return false;
        if (w[1] != '-' && strpbrk(w, "cemprv") != NULL) /* -c, -e, -m, -p, -r; -v only tells */
            return false;
        if (strcmp(w, "--version") == 0 || strcmp(w, "--help") == 0)
            return false;
    }
    return true;
}

/* Starters that a rule may mean by themselves: they change what the rest may do. */
static bool raises(const char *name)
{
    static const char *const names[] = {"sudo", "doas", "pkexec", "nsenter", "unshare", "chroot"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

bool look_is(const struct look *l, const struct cg_texts *names)
{
    if (l->program >= l->argc)
        return false;
    for (int i = 0; i < l->program; i++) {
        const char *starter = cg_sh_basename(l->argv[i]);
        if (raises(starter) && texts_match(names, starter))
            return true;
    }
    const char *name = cg_sh_basename(l->argv[l->program]);
    return texts_match(names, name + (name[0] == '-' && name[1])) ||
           (l->as && texts_match(names, l->as));
}

/* --- hosts --- */

static bool local_host(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0 || strcmp(host, "0.0.0.0") == 0 ||
           cg_has_suffix(host, ".internal") || cg_has_suffix(host, ".localhost");
}

/* "name", "name:443" or "*.name" */
static bool names_host(const char *known, const char *host)
{
    char name[256];
    size_t n = strcspn(known, ":");
    if (n >= sizeof name)
        return false;
    memcpy(name, known, n);
    name[n] = '\0';
    return glob_match(name, host);
}

bool host_known(const struct cg_trust *t, const char *host)
{
    if (local_host(host))
        return true;
    for (unsigned i = 0; i < t->pack->known_hosts.n; i++)
        if (names_host(t->pack->known_hosts.v[i], host))
            return true;
    for (unsigned i = 0; i < t->known.n; i++)
        if (names_host(t->known.v[i], host))
            return true;
    return false;
}
