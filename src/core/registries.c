#include "core/registries.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "base/command.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "egress/policy.h"

enum { FILE_MAX = 256 * 1024, HOSTS_MAX = 32 * 1024, HOSTS = 64, WAIT_MS = 5000 };

/* --- URLs --- */

static void add_rule(const char *rule, struct cg_buf *out)
{
    unsigned n = 0;
    for (size_t at = 0; at < out->n; at += strlen(out->p + at) + 1, n++)
        if (strcmp(out->p + at, rule) == 0)
            return;
    if (n < HOSTS)
        cg_buf_add(out, rule, strlen(rule) + 1);
}

/* What stands behind "://": "user:password@host:port/path". */
static void add_url(const char *rest, bool tls, struct cg_buf *out)
{
    char authority[300];
    char name[CG_EGRESS_NAME];
    char rule[CG_EGRESS_PATTERN_TEXT];
    struct cg_egress_pattern pattern;
    size_t n = strcspn(rest, "/ \t\r\n\"',;|]?#");
    if (n >= sizeof authority)
        return;
    memcpy(authority, rest, n);
    authority[n] = '\0';
    char *host = strrchr(authority, '@');
    host = host ? host + 1 : authority;
    char *port = strchr(host, ':');
    if (port)
        *port++ = '\0';
    if (!cg_egress_name_parse(host, name))
        return;
    cg_snprintf(rule, sizeof rule, "%s:%s", name, port ? port : tls ? "443" : "80");
    if (cg_egress_pattern_parse(rule, &pattern, NULL))
        add_rule(rule, out);
}

void cg_registries_scan(const char *text, const char *word, struct cg_buf *out)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(text);
    char *save = NULL;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        line += strspn(line, " \t");
        if (strchr("#;", line[0]) || !strstr(line, word))
            continue;
        for (const char *p = line; (p = strstr(p, "://")) != NULL; p += 3) {
            bool tls = p - line >= 5 && strncmp(p - 5, "https", 5) == 0;
            bool plain = !tls && p - line >= 4 && strncmp(p - 4, "http", 4) == 0;
            if (tls || plain)
                add_url(p + 3, tls, out);
        }
    }
}

/* --- where they stand --- */

static const struct source {
    const char *manager;
    const char *path; /* a pattern; "~" is the home directory */
    const char *word;
} sources[] = {
    {"npm", "/etc/npmrc", "registry"},
    {"npm", "/usr/etc/npmrc", "registry"},
    {"npm", "/usr/local/etc/npmrc", "registry"},
    {"npm", "~/.npmrc", "registry"},
    {"pip", "/etc/pip.conf", "index-url"},
    {"pip", "~/.pip/pip.conf", "index-url"},
    {"pip", "~/.config/pip/pip.conf", "index-url"},
    {"apt", "/etc/apt/sources.list", ""},
    {"apt", "/etc/apt/sources.list.d/*.list", ""},
    {"apt", "/etc/apt/sources.list.d/*.sources", "URIs"},
    {"go", "~/.config/go/env", "GOPROXY"},
    {"cargo", "~/.cargo/config.toml", ""},
    {"cargo", "~/.cargo/config", ""},
};

static const struct variable {
    const char *manager, *name;
} variables[] = {
    {"npm", "npm_config_registry"},
    {"npm", "NPM_CONFIG_REGISTRY"},
    {"pip", "PIP_INDEX_URL"},
    {"pip", "PIP_EXTRA_INDEX_URL"},
    {"go", "GOPROXY"},
};

/* A manager without configuration knows its own default. */
static const struct question {
    const char *manager;
    const char *argv[4];
} questions[] = {
    {"npm", {"/bin/sh", "-c", "npm config get registry 2>/dev/null", NULL}},
    {"pip",
     {"/bin/sh", "-c",
      "python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' "
      "2>/dev/null",
      NULL}},
    {"go", {"/bin/sh", "-c", "go env GOPROXY 2>/dev/null", NULL}},
};

static void read_files(const struct source *s, struct cg_buf *out)
{
    const char *home = getenv("HOME");
    if (s->path[0] == '~' && !home)
        return;
    CG_OWN(cg_drop_free)
    char *pattern = s->path[0] == '~' ? cg_format("%s%s", home, s->path + 1) : cg_strdup(s->path);
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        CG_OWN(cg_drop_free) char *text = NULL;
        if (cg_fs_slurp(found.gl_pathv[i], FILE_MAX, &text, NULL, NULL))
            cg_registries_scan(text, s->word, out);
    }
    globfree(&found);
}

static void read_manager(const char *manager, struct cg_buf *out)
{
    size_t before = out->n;
    for (size_t i = 0; i < CG_COUNT(sources); i++)
        if (cg_streq(sources[i].manager, manager))
            read_files(&sources[i], out);
    for (size_t i = 0; i < CG_COUNT(variables); i++) {
        const char *value = getenv(variables[i].name);
        if (cg_streq(variables[i].manager, manager) && value)
            cg_registries_scan(value, "", out);
    }
    for (size_t i = 0; i < CG_COUNT(questions) && out->n == before; i++) {
        char answer[1024];
        if (cg_streq(questions[i].manager, manager) &&
            cg_command_output(questions[i].argv, NULL, WAIT_MS, answer, sizeof answer, NULL))
            cg_registries_scan(answer, "", out);
    }
}

char *cg_registries_read(void)
{
    static const char *const managers[] = {"npm", "pip", "apt", "go", "cargo"};
    CG_OWN(cg_drop_buf) struct cg_buf hosts;
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&hosts, HOSTS_MAX);
    cg_buf_init(&b, 2 * HOSTS_MAX);
    for (size_t i = 0; i < CG_COUNT(managers); i++)
        read_manager(managers[i], &hosts);
    cg_jsonw_init(&w, &b);
    cg_jsonw_arr(&w);
    for (size_t at = 0; at < hosts.n; at += strlen(hosts.p + at) + 1)
        cg_jsonw_str(&w, hosts.p + at);
    cg_jsonw_arr_end(&w);
    return cg_buf_take(&b);
}

/* --- for package managers --- */

static const struct registry {
    const char *names[2]; /* of the variable */
    const char *manager, *word;
} registries[] = {{{"NPM_CONFIG_REGISTRY", "npm_config_registry"}, "npm", "registry"},
                  {{"PIP_INDEX_URL", "PIP_INDEX_URL"}, "pip", "index-url"}};

static const char *registry_of(const struct registry *r)
{
    const char *value = getenv(r->names[0]);
    return value ? value : getenv(r->names[1]);
}

/* "registry = URL" or "index-url = URL" at the begin of a line; the caller's, or NULL. */
static char *find_setting(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *l = text; *l; l += strcspn(l, "\n"), l += *l == '\n') {
        const char *p = l + strspn(l, " \t");
        if (strncmp(p, word, n) != 0)
            continue;
        p += n + strspn(p + n, " \t");
        if (*p != '=')
            continue;
        p++;
        p += strspn(p, " \t\"");
        if (cg_has_prefix(p, "http"))
            return cg_strndup(p, strcspn(p, " \t\r\n\""));
    }
    return NULL;
}

void cg_registries_export(void)
{
    const char *home = getenv("HOME");
    for (size_t r = 0; r < CG_COUNT(registries); r++) {
        for (size_t i = 0; i < CG_COUNT(sources) && !registry_of(&registries[r]); i++) {
            const char *path = sources[i].path;
            CG_OWN(cg_drop_free) char *text = NULL;
            CG_OWN(cg_drop_free)
            char *file =
                path[0] == '~' ? cg_format("%s%s", home ? home : "", path + 1) : cg_strdup(path);
            if (!cg_streq(sources[i].manager, registries[r].manager) ||
                !cg_fs_slurp(file, FILE_MAX, &text, NULL, NULL))
                continue;
            CG_OWN(cg_drop_free) char *url = find_setting(text, registries[r].word);
            if (url)
                setenv(registries[r].names[0], url, 0);
        }
    }
}

void cg_registries_env(const struct cg_json *asked, struct cg_jsonw *w)
{
    for (size_t r = 0; r < CG_COUNT(registries); r++) {
        const char *url = registry_of(&registries[r]);
        if (url && !strchr(url, '@') && !cg_json_get(asked, registries[r].names[0]))
            cg_jsonw_kstr(w, registries[r].names[0], url);
    }
}
