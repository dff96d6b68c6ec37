#include "core/network.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "core/creation.h"
#include "core/models.h"
#include "core/registries.h"
#include "egress/lists.h"

enum { TEXT_MAX = 128 * 1024 };

static const char fallback[] = "{\"mode\":\"full\",\"allow\":[],\"deny\":[]}";

/* "registries" is a rule here, whatever it stands for at the time. */
static bool check(struct cg_buf *text, char **out, struct cg_err *e)
{
    CG_OWN(cg_drop_json)
    struct cg_json *o = text->full ? NULL : cg_json_parse(cg_buf_slice(text), NULL, NULL);
    CG_OWN(cg_drop_free) struct cg_egress_policy *p = cg_alloc(sizeof *p);
    if (!o)
        return cg_fail(e, CG_TOO_LARGE, "the lists are too long");
    if (!cg_egress_read_lists(o, p, e))
        return false;
    *out = cg_strdup(cg_buf_cstr(text));
    return true;
}

/* --- lists of texts --- */

static bool is_texts(const struct cg_json *list, const char *name, struct cg_err *e)
{
    bool fine = !list || list->type == CG_JSON_NULL || list->type == CG_JSON_ARR;
    for (const struct cg_json *v = fine && list ? list->child : NULL; v && fine; v = v->next)
        fine = v->type == CG_JSON_STR && v->str.n > 0 && strlen(v->str.p) == v->str.n;
    return fine || cg_fail(e, CG_INVALID, "%s must be a list of texts", name);
}

/* ... or nothing. */
static bool is_text(const struct cg_json *v)
{
    return !v || v->type == CG_JSON_NULL ||
           (v->type == CG_JSON_STR && strlen(v->str.p) == v->str.n);
}

static bool holds(const struct cg_json *list, const struct cg_json *text)
{
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next)
        if (v->type == CG_JSON_STR && cg_streq(v->str.p, text->str.p))
            return true;
    return false;
}

/* Those of `list` that are in none of the others, then those of `more`. */
static void put_list(const char *name, const struct cg_json *list, const struct cg_json *more,
                     const struct cg_json *const without[2], struct cg_jsonw *w)
{
    cg_jsonw_key(w, name);
    cg_jsonw_arr(w);
    for (const struct cg_json *v = list ? list->child : NULL; v; v = v->next)
        if (!holds(more, v) && !holds(without[0], v) && !holds(without[1], v))
            cg_jsonw_str(w, v->str.p);
    for (const struct cg_json *v = more ? more->child : NULL; v; v = v->next)
        cg_jsonw_str(w, v->str.p);
    cg_jsonw_arr_end(w);
}

/* --- wishes and changes --- */

static bool known_members(const struct cg_json *o, const char *const *names, struct cg_err *e)
{
    for (const struct cg_json *m = o ? o->child : NULL; m; m = m->next) {
        const char *const *n = names;
        while (*n && !cg_slice_eq(m->key, *n))
            n++;
        if (!*n)
            return cg_fail(e, CG_INVALID, "unknown member %.*s", (int)CG_MIN(m->key.n, 40),
                           m->key.p);
    }
    return true;
}

/* What of a create request is about the network, in either of its forms, and its names there. */
struct wish {
    const struct cg_json *mode, *allow, *deny;
    const char *const *names;
};

/* "network" as GET and PATCH have it, or only the mode; else the three members of a sandbox. */
static bool read_wish(const struct cg_json *body, struct wish *w, struct cg_err *e)
{
    static const char *const flat[] = {"network_mode", "allowlist", "denylist"};
    static const char *const deep[] = {"network.mode", "network.allow", "network.deny"};
    static const char *const members[] = {"mode", "allow", "deny", NULL};
    const struct cg_json *whole = cg_json_get(body, "network");
    *w = (struct wish){cg_json_get(body, flat[0]), cg_json_get(body, flat[1]),
                       cg_json_get(body, flat[2]), flat};
    if (!whole || whole->type == CG_JSON_NULL)
        return true;
    for (size_t i = 0; i < CG_COUNT(flat); i++) {
        const struct cg_json *m = cg_json_get(body, flat[i]);
        if (m && m->type != CG_JSON_NULL)
            return cg_fail(e, CG_INVALID, "network and %s say the same thing: leave one out",
                           flat[i]);
    }
    *w = (struct wish){whole, NULL, NULL, deep};
    if (whole->type == CG_JSON_STR)
        return true;
    if (whole->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID,
                       "network must be a mode, or an object with mode, allow, deny");
    *w = (struct wish){cg_json_get(whole, "mode"), cg_json_get(whole, "allow"),
                       cg_json_get(whole, "deny"), deep};
    return known_members(whole, members, e) || cg_wrap(e, "network");
}

bool cg_network_wish(const struct cg_json *body, char **out, struct cg_err *e)
{
    static const struct cg_json *const nothing[2] = {NULL, NULL};
    struct wish wish;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, TEXT_MAX);
    if (!read_wish(body, &wish, e))
        return false;
    if (!is_text(wish.mode))
        return cg_fail(e, CG_INVALID, "%s must be a text", wish.names[0]);
    if (!is_texts(wish.allow, wish.names[1], e) || !is_texts(wish.deny, wish.names[2], e))
        return false;
    const char *mode = wish.mode && wish.mode->type == CG_JSON_STR ? wish.mode->str.p : "";
    bool listed = wish.allow && wish.allow->count > 0;
    if (!mode[0])
        mode = listed ? "allowlist" : "full";
    if (cg_streq(mode, "allowlist") && !listed)
        return cg_fail(e, CG_INVALID,
                       "network_mode allowlist needs an allowlist: names, *.names, "
                       "networks, or registries");
    if (listed && !cg_streq(mode, "allowlist"))
        return cg_fail(e, CG_INVALID, "an allowlist is of no use with network_mode %.20s", mode);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "mode", mode);
    put_list("allow", wish.allow, NULL, nothing, &w);
    put_list("deny", wish.deny, NULL, nothing, &w);
    cg_jsonw_obj_end(&w);
    return check(&b, out, e) || cg_wrap(e, "network");
}

bool cg_network_change(const char *now, const struct cg_json *change, char **out, struct cg_err *e)
{
    static const char *const members[] = {"mode", "allow", "deny", "add", "remove", NULL};
    static const char *const lists[] = {"allow", "deny", NULL};
    CG_OWN(cg_drop_json)
    struct cg_json *old = cg_json_parse(cg_slice_of(now ? now : fallback), NULL, e);
    const struct cg_json *add = cg_json_get(change, "add");
    const struct cg_json *removed = cg_json_get(change, "remove");
    const struct cg_json *mode = cg_json_get(change, "mode");
    if (!old || !change || change->type != CG_JSON_OBJ || (add && add->type != CG_JSON_OBJ))
        return cg_fail(e, CG_INVALID, "an object with mode, allow, deny, add or remove is needed");
    if (!known_members(change, members, e) || !known_members(add, lists, e) ||
        !is_texts(removed, "remove", e))
        return false;
    if (mode && mode->type != CG_JSON_STR)
        return cg_fail(e, CG_INVALID, "mode must be full, allowlist or none");
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, TEXT_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "mode", mode ? mode->str.p : cg_json_str(old, "mode"));
    for (int i = 0; i < 2; i++) {
        const struct cg_json *given = cg_json_get(change, lists[i]);
        const struct cg_json *more = cg_json_get(add, lists[i]);
        /* what is allowed now is not denied any more, and the other way round */
        const struct cg_json *const without[2] = {removed, cg_json_get(add, lists[1 - i])};
        if (!is_texts(given, lists[i], e) || !is_texts(more, lists[i], e))
            return false;
        put_list(lists[i], given ? given : cg_json_get(old, lists[i]), more, without, &w);
    }
    cg_jsonw_obj_end(&w);
    for (const struct cg_json *v = removed ? removed->child : NULL; v; v = v->next)
        if (!holds(cg_json_get(old, "allow"), v) && !holds(cg_json_get(old, "deny"), v))
            return cg_fail(e, CG_NOT_FOUND, "there is no rule %.80s", v->str.p);
    return check(&b, out, e);
}

char *cg_network_of_row(const struct cg_json *doc)
{
    static const struct cg_json *const nothing[2] = {NULL, NULL};
    const char *mode = cg_json_str(doc, "network_mode");
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    char *out = NULL;
    cg_buf_init(&b, TEXT_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "mode", mode ? mode : "none");
    put_list("allow", cg_json_get(doc, "allowlist"), NULL, nothing, &w);
    put_list("deny", cg_json_get(doc, "denylist"), NULL, nothing, &w);
    cg_jsonw_obj_end(&w);
    if (!check(&b, &out, NULL)) /* nothing is opened by a row that was tampered with */
        out = cg_strdup("{\"mode\":\"none\",\"allow\":[],\"deny\":[]}");
    return out;
}

/* --- writing --- */

static struct cg_json *rules_of(const char *rules)
{
    return cg_json_parse(cg_slice_of(rules ? rules : fallback), NULL, NULL);
}

void cg_network_write_members(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    static const char *const names[][2] = {{"allow", "allowlist"}, {"deny", "denylist"}};
    CG_OWN(cg_drop_json) struct cg_json *o = rules_of(sb->spec.network_json);
    cg_jsonw_kstr(w, "network_mode", cg_json_str(o, "mode"));
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        const struct cg_json *list = cg_json_get(o, names[i][0]);
        if (!list || list->count == 0)
            continue;
        cg_jsonw_key(w, names[i][1]);
        cg_jsonw_value(w, list);
    }
}

void cg_network_write_rules(const struct cg_sandbox *sb, const char *rules, struct cg_jsonw *w)
{
    CG_OWN(cg_drop_free)
    char *registries = cg_registries_of(sb->core, sb->spec.template_name);
    CG_OWN(cg_drop_json) struct cg_json *o = rules_of(rules);
    cg_jsonw_key(w, "rules");
    cg_jsonw_obj(w);
    for (const struct cg_json *m = o->child; m; m = m->next) {
        cg_jsonw_keyn(w, m->key.p, m->key.n);
        cg_jsonw_value(w, m);
    }
    cg_jsonw_key(w, "registries");
    cg_jsonw_raw(w, registries, strlen(registries));
    cg_jsonw_obj_end(w);
}

static void write_numbers(const char *name, const struct cg_egress_rule *list, unsigned n,
                          struct cg_jsonw *w)
{
    cg_jsonw_key(w, name);
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < n; i++) {
        char text[CG_EGRESS_RULE_TEXT];
        cg_egress_rule_format(&list[i], text);
        cg_jsonw_str(w, text);
    }
    cg_jsonw_arr_end(w);
}

void cg_network_write_config(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    const struct cg_egress_policy *p = &sb->core->options.network;
    cg_jsonw_key(w, "network");
    cg_jsonw_obj(w);
    write_numbers("allow", p->rules, p->nrules, w);
    cg_creation_write_hosts(p, w);
    write_numbers("resolvers", p->resolvers, p->nresolvers, w);
    cg_models_write_refused(sb->core, w);
    cg_network_write_rules(sb, sb->spec.network_json, w);
    cg_jsonw_obj_end(w);
}

/* --- resolvers --- */

void cg_network_resolvers(struct cg_egress_policy *p)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    char *save = NULL;
    if (p->nresolvers > 0 || !cg_fs_slurp("/etc/resolv.conf", 64 * 1024, &text, NULL, NULL))
        return;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *word = NULL;
        uint32_t address = 0;
        if (cg_streq(strtok_r(line, " \t", &word), "nameserver") &&
            cg_egress_address_parse(strtok_r(NULL, " \t", &word), &address) &&
            p->nresolvers < CG_EGRESS_RESOLVERS)
            p->resolvers[p->nresolvers++] =
                (struct cg_egress_rule){.address = address, .prefix = 32};
    }
}
