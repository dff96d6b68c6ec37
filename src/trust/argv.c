/* An argument list seen through the programs that only start another one. */
#include <string.h>

#include "trust/words.h"

int cg_sh_argv(const struct cg_sh *sh, int command, const char *argv[CG_SH_ARGV])
{
    int n = 0;
    for (int w = sh->command[command].first; w >= 0 && n < CG_SH_ARGV; w = sh->word[w].next)
        argv[n++] = sh->word[w].text;
    return n;
}

const char *cg_sh_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

bool cg_sh_is_shell(const char *name)
{
    static const char *const shells[] = {"sh",  "bash", "dash", "zsh",  "ash",  "ksh",
                                         "csh", "tcsh", "fish", "mksh", "rbash"};
    if (name[0] == '-')
        name++; /* a login shell */
    for (size_t i = 0; i < CG_COUNT(shells); i++)
        if (strcmp(name, shells[i]) == 0)
            return true;
    return false;
}

/* Programs that run what follows, and which of their options take a value. */
static const struct starter {
    const char *name;
    const char *valued; /* one-letter options with a value */
    int words;          /* that stand before the program */
    bool assignments;   /* NAME=value may */
} starters[] = {
    {"sudo", "ugCDhprtTRU", 0, true}, {"doas", "uC", 0, false},
    {"env", "uCS", 0, true},          {"nohup", "", 0, false},
    {"setsid", "", 0, false},         {"nice", "n", 0, false},
    {"ionice", "cnp", 0, false},      {"time", "fo", 0, false},
    {"timeout", "ks", 1, false},      {"stdbuf", "ioe", 0, false},
    {"exec", "a", 0, false},          {"command", "", 0, false},
    {"builtin", "", 0, false},        {"xargs", "adEIiLlnPsS", 0, false},
    {"busybox", "", 0, false},        {"unbuffer", "", 0, false},
    {"chronic", "", 0, false},        {"flock", "wE", 1, false},
    {"chrt", "p", 1, false},          {"taskset", "cp", 1, false},
    {"catchsegv", "", 0, false},      {"fakeroot", "ils", 0, false},
    {"setpriv", "", 0, false},        {"unshare", "", 0, false},
    {"nsenter", "t", 0, false},       {"chroot", "", 1, false},
    {"strace", "eopuPsS", 0, false},  {"ltrace", "eopu", 0, false},
    {"pkexec", "", 0, false},         {"toybox", "", 0, false},
};

static const struct starter *find(const char *name)
{
    for (size_t i = 0; i < CG_COUNT(starters); i++)
        if (strcmp(starters[i].name, name) == 0)
            return &starters[i];
    return NULL;
}

/* Behind the starter at argv[at]: where what it starts stands. */
static int behind(const struct starter *s, const char *const *argv, int n, int at)
{
    int words = s->words;
    for (at++; at < n; at++) {
        const char *w = argv[at];
        size_t len = strlen(w);
        if (strcmp(w, "--") == 0)
            return at + 1 + words;
        if (w[0] == '-' && len > 1) {
            if (w[1] != '-' && len == 2 && strchr(s->valued, w[1]))
                at++;
            continue;
        }
        if (s->assignments && strchr(w, '=') && w[0] != '=')
            continue;
        if (words-- == 0)
            return at;
    }
    return n;
}

int cg_sh_program(const char *const *argv, int n)
{
    int at = 0;
    for (int hops = 0; at < n && hops < 8; hops++) {
        const struct starter *s = find(cg_sh_basename(argv[at]));
        if (!s)
            return at;
        int next = behind(s, argv, n, at);
        if (next >= n)
            return at; /* it stands alone: sudo -i, env, time */
        at = next;
    }
    return CG_MIN(at, n);
}

/* The word behind an option that is given as "-c" or in a cluster that ends with it ("-lc"). */
static const char *value_of(const char *const *argv, int n, int at, char option)
{
    for (int i = at + 1; i + 1 < n && argv[i][0] == '-' && argv[i][1]; i++) {
        size_t len = strlen(argv[i]);
        if (argv[i][1] != '-' && argv[i][len - 1] == option)
            return argv[i + 1];
        if (argv[i][1] == 'o' && len == 2)
            i++; /* sh -o errexit -c … */
    }
    return NULL;
}

const char *cg_sh_inline_text(const char *const *argv, int n)
{
    int at = cg_sh_program(argv, n);
    if (at >= n)
        return NULL;
    const char *name = cg_sh_basename(argv[at]);
    if (cg_sh_is_shell(name))
        return value_of(argv, n, at, 'c');
    if (strcmp(name, "su") == 0 || strcmp(name, "script") == 0 || strcmp(name, "runuser") == 0) {
        for (int i = at + 1; i + 1 < n; i++)
            if (strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "-qc") == 0)
                return argv[i + 1];
    }
    /* find … -exec sh -c TEXT \; */
    if (strcmp(name, "find") == 0 || strcmp(name, "watch") == 0 || strcmp(name, "parallel") == 0) {
        for (int i = at + 1; i + 2 < n; i++)
            if (cg_sh_is_shell(cg_sh_basename(argv[i])) && strcmp(argv[i + 1], "-c") == 0)
                return argv[i + 2];
    }
    return NULL;
}
