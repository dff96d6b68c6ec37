/* Manual pages out of the table of verbs: caged(1) and a caged-VERB(1) for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cli/client.h"
#include "cli/verb.h"

enum { WORDS = 8 };

/* roff's own characters are told as text; a line never begins with a request. */
static void text(FILE *f, const char *s, size_t n)
{
    if (n > 0 && (s[0] == '.' || s[0] == '\''))
        fputs("\\&", f);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\')
            fputs("\\e", f);
        else if (s[i] == '-')
            fputs("\\-", f);
        else if (s[i] == '\'')
            fputs("\\(aq", f);
        else
            fputc(s[i], f);
    }
}

static void line(FILE *f, const char *s)
{
    text(f, s, strlen(s));
    fputc('\n', f);
}

static void head(FILE *f, const char *name, const char *summary)
{
    fputs(".TH \"", f);
    for (const char *p = name; *p; p++)
        fputc(*p >= 'a' && *p <= 'z' ? *p - 32 : *p, f);
    fputs("\" 1 \"\" \"caged " CG_VERSION "\" \"User Commands\"\n.SH NAME\n", f);
    text(f, name, strlen(name));
    fputs(" \\- ", f);
    line(f, summary);
}

static void examples(FILE *f, const char *lines)
{
    fputs(".SH EXAMPLES\n.nf\n", f);
    for (const char *p = lines; *p;) {
        size_t n = strcspn(p, "\n");
        text(f, p, n);
        fputc('\n', f);
        p += n + (p[n] == '\n');
    }
    fputs(".fi\n", f);
}

static void flags(FILE *f, const char *words)
{
    fputs(".SH FLAGS AND WORDS\n", f);
    for (const char *p = words; *p;) {
        size_t n = strcspn(p, " ");
        fputs(".B ", f);
        text(f, p, n);
        fputs("\n", f);
        p += n + (p[n] == ' ');
    }
}

static void page_of_verb(FILE *f, const struct cg_verb *v)
{
    CG_OWN(cg_drop_free) char *name = cg_format("caged-%s", v->name);
    head(f, name, v->summary);
    fprintf(f, ".SH SYNOPSIS\n.B caged %s\n", v->name);
    line(f, v->args);
    if (v->alias)
        fprintf(f, ".PP\nAlso: caged %s\n", v->alias);
    if (v->flags[0])
        flags(f, v->flags);
    if (v->examples[0])
        examples(f, v->examples);
    fputs(".SH EXIT STATUS\n0 when it is done, 1 when it failed, 2 for wrong words or flags.\n"
          ".SH SEE ALSO\n.BR caged (1)\n",
          f);
}

static void page_of_all(FILE *f)
{
    head(f, "caged", "coding agents in microVMs, watched");
    fputs(".SH SYNOPSIS\n.B caged\n[\\-\\-team ID] VERB ...\n.SH DESCRIPTION\nCaged runs coding "
          "agents in microVMs and records what they do.\n.SH VERBS\n",
          f);
    for (const struct cg_verb *v = cg_verbs; v->name; v++) {
        fprintf(f, ".TP\n.BR caged\\-%s (1)\n", v->name);
        line(f, v->summary);
    }
    fputs(".SH ENVIRONMENT\n"
          ".TP\n.B CAGED_API_URL\\fR, \\fBCAGED_API_KEY\nthe server, and a key of it\n"
          ".TP\n.B CAGED_STATE_DIR\nthe state directory of the server on this machine\n"
          ".TP\n.B CAGED_IMAGE_DIR\nkernels and templates\n"
          ".TP\n.B CAGED_TEAM\nthe team to act for, as \\-\\-team\n"
          ".SH FILES\n.TP\n.I ~/.config/caged/config.json\nthe server and key of "
          ".BR caged\\-login (1)\n.TP\n.I .caged.yaml\nwhat "
          ".BR caged\\-up (1)\nmakes a sandbox of\n",
          f);
}

static bool write_page(const char *dir, const char *name, const struct cg_verb *v, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s.1", dir, name);
    CG_OWN(cg_drop_file) FILE *f = fopen(path, "we");
    if (!f)
        return cg_fail_sys(e, "create %s", path);
    if (v)
        page_of_verb(f, v);
    else
        page_of_all(f);
    return fflush(f) == 0 || cg_fail_sys(e, "write %s", path);
}

static bool install(const char *dir, struct cg_err *e)
{
    bool ok = cg_fs_mkdirs(dir, 0755, e) && write_page(dir, "caged", NULL, e);
    for (const struct cg_verb *v = cg_verbs; v->name && ok; v++) {
        CG_OWN(cg_drop_free) char *name = cg_format("caged-%s", v->name);
        ok = write_page(dir, name, v, e);
    }
    return ok;
}

int verb_man(int argc, char **argv)
{
    const char *dir = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--install", true, &dir, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (dir)
        return install(dir, &e) ? 0 : cli_error(&e);
    const struct cg_verb *v = n ? cg_verb_find(words[0]) : NULL;
    if (n > 1 || (n == 1 && !v))
        return cli_usage("caged man [VERB] | --install DIR; caged help lists the verbs");
    if (v)
        page_of_verb(stdout, v);
    else
        page_of_all(stdout);
    return 0;
}
