/* Which coding agents there are, and which a new sandbox gets. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "image/agents.h"

enum { AGENT_MEMORY_MB = 1024, PACKAGES_MAX = 64, PACKAGE_TEXT = 200 };

static void write_texts(struct cg_jsonw *w, const char *key, const struct cg_strv *list)
{
    cg_jsonw_key(w, key);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < list->n; i++)
        cg_jsonw_str(w, list->v[i]);
    cg_jsonw_arr_end(w);
}

static bool has_key(const struct cg_options *o, const char *provider)
{
    for (size_t i = 0; i < o->nproviders; i++)
        if (cg_streq(o->providers[i].name, provider) && o->providers[i].key[0])
            return true;
    return false;
}

static void write_agent(struct cg_jsonw *w, const struct cg_agent *a, const struct cg_options *o)
{
    const struct cg_strv *package = a->npm.n ? &a->npm : &a->pip;
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", a->name);
    write_texts(w, "aliases", &a->aliases);
    cg_jsonw_kstr(w, "description", a->description);
    cg_jsonw_kstr(w, "version", a->version);
    cg_jsonw_kstr(w, "licence", a->licence);
    cg_jsonw_kstr(w, "source", a->npm.n ? "npm" : a->pip.n ? "pip" : NULL);
    write_texts(w, "packages", package);
    write_texts(w, "programs", &a->programs);
    cg_jsonw_kstr(w, "needs", a->needs);
    cg_jsonw_kstr(w, "template", a->template_name);
    cg_jsonw_kstr(w, "model", a->model);
    cg_jsonw_kstr(w, "provider", a->provider);
    cg_jsonw_kbool(w, "provider_key", a->provider && has_key(o, a->provider));
    write_texts(w, "hosts", &a->hosts);
    cg_jsonw_obj_end(w);
}

void api_agents(struct op *op)
{
    struct cg_agents all;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_agents_load(&op->api->core->images, &all, &e)) {
        op_fail(op, &e);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < all.n; i++)
        write_agent(w, &all.v[i], &op->api->core->options);
    cg_jsonw_arr_end(w);
    cg_agents_finish(&all);
    op_send_json(op, 200);
}

/* --- of a create request --- */

static int by_name(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

/* Appends to the array of packages what an agent has installed inside the guest. */
static void add_pip(const struct cg_agent *a, struct cg_buf *b)
{
    for (size_t i = 0; i < a->pip.n; i++)
        cg_buf_addf(b, "%s\"pip:%s\"", b->n > 1 ? "," : "", a->pip.v[i]);
}

/* The same array with the agents' packages behind the asked ones; JSON is what both are. */
static void join_packages(struct cg_spec *s, const struct cg_buf *more)
{
    if (more->n <= 1)
        return;
    size_t n = s->packages_json ? strlen(s->packages_json) - 1 : 0;
    char *all = n ? cg_format("%.*s,%.*s]", (int)n, s->packages_json, (int)more->n - 1, more->p + 1)
                  : cg_format("%.*s]", (int)more->n, more->p);
    free(s->packages_json);
    s->packages_json = all;
}

/* Adds "+claude-code+codex" to the template's name: in one order, whatever the request's was. */
static bool add_agents(const struct cg_agents *all, const struct cg_json *list, struct cg_spec *s,
                       struct cg_err *e)
{
    const char *names[CG_AGENTS_MAX];
    CG_OWN(cg_drop_buf) struct cg_buf packages;
    size_t n = 0;
    cg_buf_init(&packages, 16 * 1024);
    cg_buf_addc(&packages, '[');
    if (list->type != CG_JSON_ARR || list->count > CG_AGENTS_MAX)
        return cg_fail(e, CG_INVALID, "agents must be a list of at most %d names", CG_AGENTS_MAX);
    for (const struct cg_json *i = list->child; i; i = i->next) {
        const struct cg_agent *a = i->type == CG_JSON_STR ? cg_agents_find(all, i->str.p) : NULL;
        if (!a)
            return cg_fail(e, CG_INVALID,
                           "agents: there is no %.64s; GET /v1/agents lists what there is",
                           i->type == CG_JSON_STR ? i->str.p : "such agent");
        if (a->npm.n + a->pip.n > 0)
            names[n++] = a->name;
        add_pip(a, &packages);
    }
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        size_t have = strlen(s->template_name);
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0)
            continue;
        if (have + strlen(names[i]) + 2 > sizeof s->template_name)
            return cg_fail(e, CG_INVALID, "agents: the names are too long together");
        s->template_name[have] = '+';
        cg_strlcpy(s->template_name + have + 1, sizeof s->template_name - have - 1, names[i]);
    }
    join_packages(s, &packages);
    if (n > 0)
        s->memory_mb = CG_MAX(s->memory_mb, (uint32_t)AGENT_MEMORY_MB);
    return true;
}

static bool package_fine(const struct cg_json *p)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "@/._-+=<>~^!,[]:";
    if (p->type != CG_JSON_STR || p->str.n == 0 || p->str.n > PACKAGE_TEXT ||
        strspn(p->str.p, allowed) != p->str.n)
        return false;
    const char *name = p->str.p;
    if (cg_has_prefix(name, "npm:") || cg_has_prefix(name, "pip:"))
        name += 4;
    /* names only: no options, no URLs, no paths */
    return name[0] && !strchr("-./", name[0]) && !strchr(name, ':');
}

static bool add_packages(const struct cg_json *list, struct cg_spec *s, struct cg_err *e)
{
    struct cg_buf b;
    struct cg_jsonw w;
    if (list->type != CG_JSON_ARR || list->count > PACKAGES_MAX)
        return cg_fail(e, CG_INVALID, "packages must be a list of at most %d names", PACKAGES_MAX);
    for (const struct cg_json *p = list->child; p; p = p->next)
        if (!package_fine(p))
            return cg_fail(e, CG_INVALID,
                           "packages: \"%.80s\" is no name of a package (typescript, "
                           "pip:requests==2.32.3, @scope/name)",
                           p->type == CG_JSON_STR ? p->str.p : "?");
    if (list->count == 0)
        return true;
    cg_buf_init(&b, 64 * 1024);
    cg_jsonw_init(&w, &b);
    cg_jsonw_value(&w, list);
    s->packages_json = cg_buf_take(&b);
    return true;
}

static bool said(const struct cg_json *v)
{
    return v && v->type != CG_JSON_NULL && !(v->type == CG_JSON_ARR && v->count == 0);
}

bool api_agents_read(const struct cg_api *a, const struct cg_json *b, struct cg_spec *s,
                     struct cg_err *e)
{
    const struct cg_json *agents = cg_json_get(b, "agents");
    const struct cg_json *packages = cg_json_get(b, "packages");
    bool any = said(agents);
    bool more = said(packages);
    if (s->snapshot[0] && (any || more))
        return cg_fail(e, CG_INVALID,
                       "a snapshot has its agents and packages already: leave "
                       "agents and packages out");
    if (more && !add_packages(packages, s, e))
        return false;
    if (!any)
        return true;
    struct cg_agents all;
    if (!cg_agents_load(&a->core->images, &all, e))
        return false;
    bool ok = add_agents(&all, agents, s, e);
    cg_agents_finish(&all);
    return ok;
}
