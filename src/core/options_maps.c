/* Sections of the operator's file whose keys are names of the operator's: providers, plans; and who
 * may be on the server. */
#include <string.h>

#include "core/options_inner.h"

typedef bool set_text(void *to, const char *key, const char *value, struct cg_err *e);

static bool read_texts(struct cg_options_file *f, yaml_node_t *map, const char *what, set_text *set,
                       void *to)
{
    for (yaml_node_pair_t *i = map->data.mapping.pairs.start; i < map->data.mapping.pairs.top;
         i++) {
        yaml_node_t *k = yaml_document_get_node(&f->doc, i->key);
        yaml_node_t *v = yaml_document_get_node(&f->doc, i->value);
        struct cg_err why = CG_ERR_INIT;
        if (!cg_options_text(k) || !cg_options_text(v))
            return cg_options_bad(f, k, what);
        if (!set(to, cg_options_text(k), cg_options_text(v), &why))
            return cg_options_bad(f, k, why.text);
    }
    return true;
}

static bool set_provider(void *to, const char *key, const char *value, struct cg_err *e)
{
    return cg_provider_set(to, key, value, e);
}

bool cg_options_provider(struct cg_options_file *f, const char *name, yaml_node_t *at,
                         yaml_node_t *map, struct cg_options *o)
{
    struct cg_gateway_provider *p = &o->providers[o->nproviders];
    if (o->nproviders == CG_PROVIDERS_OWN)
        return cg_options_bad(f, at, "there may be 16 providers, and this is one more");
    if (map->type != YAML_MAPPING_NODE || !cg_strlcpy(p->name, sizeof p->name, name))
        return cg_options_bad(f, at, "a provider needs a short name and a map with base_url");
    if (!read_texts(f, map, "a provider's keys are texts", set_provider, p))
        return false;
    o->nproviders++;
    return p->base_url[0] || cg_options_bad(f, at, "a provider needs its base_url");
}

static bool set_plan(void *to, const char *key, const char *value, struct cg_err *e)
{
    return cg_plan_set(to, key, value, e);
}

bool cg_options_plan(struct cg_options_file *f, const char *name, yaml_node_t *at, yaml_node_t *map,
                     struct cg_options *o)
{
    struct cg_plan *p = &o->plans.plan[o->plans.n];
    if (map->type != YAML_MAPPING_NODE || o->plans.n == CG_PLANS ||
        !cg_strlcpy(p->name, sizeof p->name, name))
        return cg_options_bad(f, at,
                              "a plan needs a name of at most 15 bytes and a map of limits; "
                              "there may be 16");
    o->plans.n++;
    return read_texts(f, map, "a plan's keys are numbers", set_plan, p);
}

static bool set_person(void *to, const char *key, const char *value, struct cg_err *e)
{
    return cg_plans_name(to, key, value, e);
}

bool cg_options_people(struct cg_options_file *f, yaml_node_t *map, struct cg_options *o)
{
    if (map->type != YAML_MAPPING_NODE)
        return cg_options_bad(f, map, "accounts.plans maps addresses or accounts to plans");
    return read_texts(f, map, "an address and a plan are needed", set_person, &o->plans);
}

bool cg_options_signup(struct cg_options_file *f, yaml_node_t *n, enum cg_signup *out)
{
    static const char *const words[] = {"closed", "invited", "open"};
    for (unsigned i = 0; i < CG_COUNT(words); i++)
        if (cg_streq(cg_options_text(n), words[i])) {
            *out = (enum cg_signup)i;
            return true;
        }
    return cg_options_bad(f, n, "closed, invited or open is needed");
}
