/* Flags and output that all verbs share. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/jsonw.h"
#include "cli/client.h"

bool cli_color(FILE *f)
{
    const char *no = getenv("NO_COLOR");
    return isatty(fileno(f)) && !(no && no[0]);
}

void cli_print_text(FILE *f, const char *s, size_t n)
{
    /* the JSON writer knows what may not reach a terminal; its quotes are dropped */
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 6 * n + 16);
    cg_jsonw_init(&w, &b);
    cg_jsonw_strn(&w, s, n);
    for (size_t i = 1; i + 1 < b.n; i++) {
        if (b.p[i] == '\\' && (b.p[i + 1] == '"' || b.p[i + 1] == '\\'))
            i++;
        fputc(b.p[i], f);
    }
}

static void print_quoted(FILE *f, struct cg_slice s)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 6 * s.n + 16);
    cg_jsonw_init(&w, &b);
    cg_jsonw_strn(&w, s.p, s.n);
    fwrite(b.p, 1, b.n, f);
}

static void print_scalar(FILE *f, const struct cg_json *j)
{
    switch (j->type) {
    case CG_JSON_BOOL:
        fputs(j->boolean ? "true" : "false", f);
        break;
    case CG_JSON_INT:
        fprintf(f, "%lld", (long long)j->integer);
        break;
    case CG_JSON_NUM:
        fprintf(f, "%.15g", j->number);
        break;
    case CG_JSON_STR:
        print_quoted(f, j->str);
        break;
    case CG_JSON_NULL:
    case CG_JSON_ARR:
    case CG_JSON_OBJ:
        fputs("null", f);
    }
}

void cli_print_json(FILE *f, const struct cg_json *j, int indent)
{
    bool object = j->type == CG_JSON_OBJ;
    if (!object && j->type != CG_JSON_ARR) {
        print_scalar(f, j);
        return;
    }
    if (j->count == 0) {
        fputs(object ? "{}" : "[]", f);
        return;
    }
    fputs(object ? "{\n" : "[\n", f);
    for (const struct cg_json *m = j->child; m; m = m->next) {
        fprintf(f, "%*s", indent + 2, "");
        if (object) {
            print_quoted(f, m->key);
            fputs(": ", f);
        }
        cli_print_json(f, m, indent + 2);
        fputs(m->next ? ",\n" : "\n", f);
    }
    fprintf(f, "%*s%c", indent, "", object ? '}' : ']');
}

void cli_print_yaml(FILE *f, const struct cg_json *j, int indent)
{
    if ((j->type != CG_JSON_OBJ && j->type != CG_JSON_ARR) || j->count == 0) {
        if (j->type == CG_JSON_OBJ || j->type == CG_JSON_ARR)
            fputs(j->type == CG_JSON_OBJ ? "{}\n" : "[]\n", f);
        else {
            print_scalar(f, j);
            fputc('\n', f);
        }
        return;
    }
    bool first = true;
    for (const struct cg_json *m = j->child; m; m = m->next) {
        bool nested = (m->type == CG_JSON_OBJ || m->type == CG_JSON_ARR) && m->count > 0;
        if (!first || j->type == CG_JSON_ARR || indent > 0)
            fprintf(f, "%*s", indent, "");
        first = false;
        if (j->type == CG_JSON_OBJ) {
            fprintf(f, "%.*s:%s", (int)m->key.n, m->key.p, nested ? "\n" : " ");
            cli_print_yaml(f, m, indent + 2);
        } else {
            fputs(nested ? "-\n" : "- ", f);
            cli_print_yaml(f, m, indent + 2);
        }
    }
}

/* --- flags --- */

static bool matches(const struct cli_flag *f, const char *arg, const char **value)
{
    size_t n = strlen(f->name);
    *value = NULL;
    if (strcmp(arg, f->name) == 0)
        return true;
    if (f->value && strncmp(arg, f->name, n) == 0 && arg[n] == '=') {
        *value = arg + n + 1;
        return true;
    }
    return false;
}

static bool unknown(const struct cli_flag *flags, const char *arg, struct cg_err *e)
{
    char known[160] = "";
    for (const struct cli_flag *f = flags; f->name; f++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? " " : "", f->name);
    }
    return cg_fail(e, CG_INVALID, "unknown flag %.40s; known are %s", arg, known);
}

bool cli_flags(int argc, char **argv, const struct cli_flag *flags, char **words, int *nwords,
               bool first_word_ends, struct cg_err *e)
{
    *nwords = 0;
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (only_words || arg[0] != '-' || !arg[1]) {
            words[(*nwords)++] = argv[i];
            only_words |= first_word_ends && *nwords > 1;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_words = true;
            continue;
        }
        const struct cli_flag *f = flags;
        const char *value = NULL;
        while (f->name && !matches(f, arg, &value))
            f++;
        if (!f->name)
            return unknown(flags, arg, e);
        if (f->value && !value) {
            if (i + 1 >= argc)
                return cg_fail(e, CG_INVALID, "%s needs a value", f->name);
            value = argv[++i];
        }
        if (f->set)
            *f->set = true;
        if (f->text)
            *f->text = value;
        if (f->list && value)
            cg_buf_add(f->list, value, strlen(value) + 1);
    }
    return true;
}

bool cli_format_of(const char *format, bool json, enum cli_format *out, struct cg_err *e)
{
    *out = json ? CLI_JSON : CLI_TABLE;
    if (!format || strcmp(format, "table") == 0)
        return true;
    if (strcmp(format, "json") == 0)
        *out = CLI_JSON;
    else if (strcmp(format, "yaml") == 0)
        *out = CLI_YAML;
    else
        return cg_fail(e, CG_INVALID, "--format must be table, json or yaml, not %.40s", format);
    return true;
}
