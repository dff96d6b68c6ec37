#include "core/registries.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "base/command.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "core/core.h"
#include "egress/policy.h"
#include "egress/registries.h"

enum { HOSTS_MAX = 32 * 1024, WAIT_MS = 5000 };

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

static void read_files(const struct cg_registries_source *s, struct cg_buf *out)
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
        if (cg_fs_slurp(found.gl_pathv[i], CG_REGISTRIES_FILE, &text, NULL, NULL))
            cg_registries_scan(text, s->word, out);
    }
    globfree(&found);
}

static void read_manager(const char *manager, struct cg_buf *out)
{
    size_t before = out->n;
    for (size_t i = 0; i < CG_REGISTRIES_SOURCES; i++) {
        const struct cg_registries_source *s = &cg_registries_sources[i];
        if (cg_streq(s->manager, manager) && !s->fallback)
            read_files(s, out);
    }
    for (size_t i = 0; i < CG_REGISTRIES_VARIABLES; i++) {
        const char *value = getenv(cg_registries_variables[i].name);
        if (cg_streq(cg_registries_variables[i].manager, manager) && value)
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
    CG_OWN(cg_drop_buf) struct cg_buf hosts;
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&hosts, HOSTS_MAX);
    cg_buf_init(&b, 2 * HOSTS_MAX);
    for (size_t i = 0; i < CG_REGISTRIES_MANAGERS; i++)
        read_manager(cg_registries_managers[i], &hosts);
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
        for (size_t i = 0; i < CG_REGISTRIES_SOURCES && !registry_of(&registries[r]); i++) {
            const char *path = cg_registries_sources[i].path;
            CG_OWN(cg_drop_free) char *text = NULL;
            CG_OWN(cg_drop_free)
            char *file =
                path[0] == '~' ? cg_format("%s%s", home ? home : "", path + 1) : cg_strdup(path);
            if (!cg_streq(cg_registries_sources[i].manager, registries[r].manager) ||
                !cg_fs_slurp(file, CG_REGISTRIES_FILE, &text, NULL, NULL))
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

/* --- of a sandbox --- */

char *cg_registries_of(const struct cg_core *c, const char *template_name)
{
    CG_OWN(cg_drop_free) char *plain = cg_strndup(template_name, strcspn(template_name, "+"));
    CG_OWN(cg_drop_json)
    struct cg_json *host = c->options.registries
                               ? cg_json_parse(cg_slice_of(c->options.registries), NULL, NULL)
                               : NULL;
    struct cg_image image = {0};
    struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4 * HOSTS_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_arr(&w);
    for (const struct cg_json *v = host ? host->child : NULL; v; v = v->next)
        cg_jsonw_value(&w, v);
    struct cg_err gone = CG_ERR_INIT;
    bool found = cg_image_resolve(&c->images, plain, &image, &gone);
    const struct cg_strv *more = &image.template.registries;
    for (size_t i = 0; found && i < CG_MIN(more->n, CG_REGISTRIES_HOSTS); i++) {
        struct cg_egress_pattern rule;
        bool doubled = false;
        for (const struct cg_json *v = host ? host->child : NULL; v && !doubled; v = v->next)
            doubled = v->type == CG_JSON_STR && cg_streq(v->str.p, more->v[i]);
        if (!doubled && cg_egress_pattern_parse(more->v[i], &rule, NULL))
            cg_jsonw_str(&w, more->v[i]);
    }
    cg_jsonw_arr_end(&w);
    cg_image_finish(&image);
    return cg_buf_take(&b);
}
