#include "egress/lists.h"

#include <stdlib.h>
#include <string.h>

struct list {
    struct cg_egress_pattern *of;
    unsigned n, presets; /* the latter among the former */
};

static bool add(struct list *l, const char *name, const char *text, bool preset, struct cg_err *e)
{
    unsigned have = preset ? l->presets : l->n - l->presets;
    unsigned max = preset ? CG_EGRESS_PRESETS : CG_EGRESS_PATTERNS;
    if (have == max)
        return cg_fail(e, CG_LIMIT, "%s has more than %u entries", name, max);
    if (!cg_egress_pattern_parse(text, &l->of[l->n], e))
        return cg_wrap(e, "%s", name);
    l->of[l->n++].preset = preset;
    l->presets += preset;
    return true;
}

static bool read_list(const struct cg_json *o, const char *name, const struct cg_json *registries,
                      struct list *out, struct cg_err *e)
{
    const struct cg_json *list = cg_json_get(o, name);
    if (list && list->type != CG_JSON_ARR && list->type != CG_JSON_NULL)
        return cg_fail(e, CG_INVALID, "%s must be a list of texts", name);
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next) {
        if (v->type != CG_JSON_STR || strlen(v->str.p) != v->str.n)
            return cg_fail(e, CG_INVALID, "%s must be a list of texts", name);
        if (!registries || !cg_streq(v->str.p, "registries")) {
            if (!add(out, name, v->str.p, false, e))
                return false;
            continue;
        }
        const struct cg_json *r = out->presets ? NULL : registries->child;
        for (; r; r = r->next)
            if (r->type == CG_JSON_STR && !add(out, "registries", r->str.p, true, e))
                return false;
    }
    return true;
}

bool cg_egress_read_lists(const struct cg_json *o, struct cg_egress_policy *p, struct cg_err *e)
{
    static const struct cg_json none = {.type = CG_JSON_ARR};
    const struct cg_json *registries = cg_json_get(o, "registries");
    const struct cg_json *word = cg_json_get(o, "mode");
    enum cg_egress_mode mode = p->mode;
    CG_OWN(cg_drop_free)
    struct cg_egress_pattern *both = cg_alloc(2 * sizeof p->allow);
    struct list allow = {both, 0, 0};
    struct list deny = {both + CG_COUNT(p->allow), 0, 0};
    if (word && !cg_egress_mode_parse(cg_json_str(o, "mode"), &mode))
        return cg_fail(e, CG_INVALID, "mode must be full, allowlist or none");
    if (!read_list(o, "allow", registries ? registries : &none, &allow, e) ||
        !read_list(o, "deny", NULL, &deny, e))
        return false;
    p->mode = mode;
    p->nallow = allow.n;
    p->ndeny = deny.n;
    memcpy(p->allow, allow.of, sizeof p->allow);
    memcpy(p->deny, deny.of, sizeof p->deny);
    return true;
}

static void write_list(const char *name, const struct cg_egress_pattern *list, unsigned n,
                       struct cg_jsonw *j)
{
    bool preset = false;
    cg_jsonw_key(j, name);
    cg_jsonw_arr(j);
    for (unsigned i = 0; i < n; i++) {
        char text[CG_EGRESS_PATTERN_TEXT];
        cg_egress_pattern_format(&list[i], text);
        if (!list[i].preset || !preset)
            cg_jsonw_str(j, text);
        preset |= list[i].preset;
    }
    cg_jsonw_arr_end(j);
}

void cg_egress_write_lists(const struct cg_egress_policy *p, struct cg_jsonw *j)
{
    cg_jsonw_kstr(j, "mode", cg_egress_mode_name(p->mode));
    write_list("allow", p->allow, p->nallow, j);
    write_list("deny", p->deny, p->ndeny, j);
}
