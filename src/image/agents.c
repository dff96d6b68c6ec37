#include "image/agents.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "image/recipe.h"
#include "image/yamlmap.h"

enum { PROFILE_MAX = 65536, PROFILES_MAX = 64 };

static const struct cg_yaml_key keys[] = {
    {"name", CG_YAML_TEXT, offsetof(struct cg_agent, name)},
    {"description", CG_YAML_TEXT, offsetof(struct cg_agent, description)},
    {"version", CG_YAML_TEXT, offsetof(struct cg_agent, version)},
    {"licence", CG_YAML_TEXT, offsetof(struct cg_agent, licence)},
    {"provider", CG_YAML_TEXT, offsetof(struct cg_agent, provider)},
    {"needs", CG_YAML_TEXT, offsetof(struct cg_agent, needs)},
    {"template", CG_YAML_TEXT, offsetof(struct cg_agent, template_name)},
    {"model", CG_YAML_TEXT, offsetof(struct cg_agent, model)},
    {"setup", CG_YAML_TEXT, offsetof(struct cg_agent, setup)},
    {"run", CG_YAML_TEXT, offsetof(struct cg_agent, run)},
    {"aliases", CG_YAML_LIST, offsetof(struct cg_agent, aliases)},
    {"npm", CG_YAML_LIST, offsetof(struct cg_agent, npm)},
    {"pip", CG_YAML_LIST, offsetof(struct cg_agent, pip)},
    {"keep", CG_YAML_LIST, offsetof(struct cg_agent, keep)},
    {"hosts", CG_YAML_LIST, offsetof(struct cg_agent, hosts)},
    {"env", CG_YAML_MAP, offsetof(struct cg_agent, env)},
    {"bin", CG_YAML_PAIRS, offsetof(struct cg_agent, programs)},
    {"report", CG_YAML_MAP, offsetof(struct cg_agent, report)},
};

/* A package's name and version go to npm and pip as words of their own; never as an option. */
static bool packages_fine(const struct cg_strv *list)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->v[i][0] == '-' || strpbrk(list->v[i], " \t\n"))
            return false;
    return true;
}

/* They are joined to paths on the host. */
static bool paths_fine(const struct cg_strv *list)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->v[i][0] == '/' || strstr(list->v[i], "..") || strpbrk(list->v[i], "\"\n"))
            return false;
    return true;
}

static bool complete(const char *file, const struct cg_agent *a, struct cg_err *e)
{
    if (!a->name || !cg_template_name_valid(a->name))
        return cg_fail(e, CG_INVALID, "%s: name is missing or not of a-z 0-9 . _ -", file);
    if (!a->description || !a->run)
        return cg_fail(e, CG_INVALID, "%s: description and run are needed", file);
    if (!packages_fine(&a->npm) || !packages_fine(&a->pip))
        return cg_fail(e, CG_INVALID, "%s: npm and pip must name packages", file);
    if (!paths_fine(&a->keep) || !paths_fine(&a->programs) || !paths_fine(&a->program_paths))
        return cg_fail(e, CG_INVALID, "%s: keep and bin must hold paths inside the packages", file);
    return true;
}

bool cg_agent_parse(const char *file, struct cg_slice text, struct cg_agent *out, struct cg_err *e)
{
    struct cg_hash h;
    *out = (struct cg_agent){.name = NULL};
    if (!cg_yaml_read(file, text, keys, CG_COUNT(keys), out, e) || !complete(file, out, e)) {
        cg_agent_finish(out);
        return false;
    }
    cg_hash_init(&h);
    cg_hash_add(&h, text.p, text.n);
    cg_hash_text(&h, out->fingerprint);
    return true;
}

void cg_agent_finish(struct cg_agent *a)
{
    cg_yaml_finish(keys, CG_COUNT(keys), a);
    *a = (struct cg_agent){.name = NULL};
}

static int is_profile(const struct dirent *d)
{
    return d->d_name[0] != '.' && cg_has_suffix(d->d_name, ".yaml");
}

static bool load_one(const char *path, struct cg_agents *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    struct cg_agent a;
    size_t n = 0;
    if (!cg_fs_slurp(path, PROFILE_MAX, &text, &n, e) ||
        !cg_agent_parse(path, (struct cg_slice){text, n}, &a, e))
        return false;
    bool twice = cg_agents_find(out, a.name) != NULL;
    for (size_t i = 0; i < a.aliases.n; i++)
        twice |= cg_agents_find(out, a.aliases.v[i]) != NULL;
    if (twice) {
        cg_fail(e, CG_INVALID, "%s: the name %s or an alias of it is used twice", path, a.name);
        cg_agent_finish(&a);
        return false;
    }
    out->v = cg_realloc(out->v, (out->n + 1) * sizeof *out->v);
    out->v[out->n++] = a;
    return true;
}

bool cg_agents_load(const struct cg_image_config *c, struct cg_agents *out, struct cg_err *e)
{
    *out = (struct cg_agents){.v = NULL};
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/agents", c->data_dir);
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_profile, alphasort);
    if (n < 0)
        return cg_fail_sys(e, "read the agents in %s", dir);
    bool ok = n <= PROFILES_MAX || cg_fail(e, CG_TOO_LARGE, "%s holds too many agents", dir);
    for (int i = 0; i < n; i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, names[i]->d_name);
        ok = ok && load_one(path, out, e);
        free(names[i]);
    }
    free(names);
    if (!ok)
        cg_agents_finish(out);
    return ok;
}

void cg_agents_finish(struct cg_agents *a)
{
    for (size_t i = 0; i < a->n; i++)
        cg_agent_finish(&a->v[i]);
    free(a->v);
    *a = (struct cg_agents){.v = NULL};
}

const struct cg_agent *cg_agents_find(const struct cg_agents *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (cg_streq(a->v[i].name, name) || cg_strv_has(&a->v[i].aliases, name))
            return &a->v[i];
    return NULL;
}

const char *cg_agent_report(const struct cg_agent *a, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < a->report.n; i++)
        if (strncmp(a->report.v[i], key, n) == 0 && a->report.v[i][n] == '=')
            return a->report.v[i] + n + 1;
    return NULL;
}

void cg_agent_prelude(const struct cg_agent *a, struct cg_buf *out)
{
    for (size_t i = 0; i < a->env.n; i++) {
        const char *value = strchr(a->env.v[i], '=');
        int n = (int)(value - a->env.v[i]);
        cg_buf_addf(out, "export %.*s=\"${%.*s-%s}\"\n", n, a->env.v[i], n, a->env.v[i], value + 1);
    }
    if (a->setup)
        cg_buf_addf(out, "%s\n", a->setup);
}
