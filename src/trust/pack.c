/* Reading rules: YAML by libyaml's document, aliases refused, every key known, every error with its
 * line. */
#include "trust/pack.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "trust/packfile.h"

static const char *const severities[CG_SEV_COUNT] = {"info", "minor", "moderate", "severe"};

const char *cg_severity_name(enum cg_severity s)
{
    CG_ASSERT(s < CG_SEV_COUNT);
    return severities[s];
}

const struct cg_rule *cg_pack_rule(const struct cg_pack *p, const char *id)
{
    for (unsigned i = 0; i < p->nrules; i++)
        if (strcmp(p->rules[i].id, id) == 0)
            return &p->rules[i];
    return NULL;
}

/* --- conditions --- */

#define K(kind) (1u << CG_COND_##kind)

static const char *const cond_names[CG_COND_KINDS] = {"command", "start", "file", "process",
                                                      "network", "dns",   "gap",  "downloaded"};

static const struct list_field {
    const char *name;
    unsigned kinds;
} list_fields[CG_L_COUNT] = {
    [CG_L_PROGRAM] = {"program", K(COMMAND) | K(DOWNLOADED)},
    [CG_L_NOT_PROGRAM] = {"not_program", K(COMMAND)},
    [CG_L_VERB] = {"verb", K(COMMAND)},
    [CG_L_NOT_VERB] = {"not_verb", K(COMMAND)},
    [CG_L_FLAGS] = {"flags", K(COMMAND)},
    [CG_L_NOT_FLAGS] = {"not_flags", K(COMMAND)},
    [CG_L_ARGS] = {"args", K(COMMAND)},
    [CG_L_NOT_ARGS] = {"not_args", K(COMMAND)},
    [CG_L_WORDS] = {"words", K(COMMAND)},
    [CG_L_ALL_WORDS] = {"all_words", K(COMMAND)},
    [CG_L_NOT_WORDS] = {"not_words", K(COMMAND)},
    [CG_L_INPUT] = {"input", K(COMMAND)},
    [CG_L_FEEDS] = {"feeds", K(COMMAND)},
    [CG_L_VARS] = {"vars", K(COMMAND)},
    [CG_L_REDIRECT] = {"redirect", K(COMMAND)},
    [CG_L_UNDER] = {"under", K(COMMAND) | K(FILE) | K(PROCESS) | K(DOWNLOADED)},
    [CG_L_NOT_UNDER] = {"not_under", K(COMMAND) | K(FILE) | K(PROCESS) | K(DOWNLOADED)},
    [CG_L_ORIGIN] = {"origin", K(START) | K(FILE)},
    [CG_L_NOT_ORIGIN] = {"not_origin", K(START) | K(FILE)},
    [CG_L_USER] = {"user", K(START)},
    [CG_L_NOT_ONLY] = {"not_only", K(START)},
    [CG_L_OP] = {"op", K(FILE)},
    [CG_L_PATH] = {"path", K(FILE) | K(PROCESS)},
    [CG_L_NOT_PATH] = {"not_path", K(FILE) | K(PROCESS)},
    [CG_L_BY] = {"by", K(FILE) | K(PROCESS)},
    [CG_L_NOT_BY] = {"not_by", K(FILE) | K(PROCESS)},
    [CG_L_EVENT] = {"event", K(PROCESS) | K(NETWORK)},
    [CG_L_TYPE] = {"type", K(PROCESS)},
    [CG_L_VERDICT] = {"verdict", K(NETWORK) | K(DNS)},
    [CG_L_HOST] = {"host", K(NETWORK) | K(DNS)},
    [CG_L_PORT] = {"port", K(NETWORK)},
    [CG_L_NOT_PORT] = {"not_port", K(NETWORK)},
    [CG_L_URL] = {"url", K(COMMAND)},
    [CG_L_REASON] = {"reason", K(GAP)},
    [CG_L_FACT] = {"fact", K(GAP)},
};

static const struct list_field number_fields[CG_N_COUNT] = {
    [CG_N_UID] = {"uid", K(COMMAND) | K(FILE) | K(PROCESS)},
    [CG_N_NOT_UID] = {"not_uid", K(COMMAND) | K(FILE) | K(PROCESS)},
    [CG_N_TO] = {"to", K(PROCESS)},
    [CG_N_MODE] = {"mode", K(FILE)},
    [CG_N_LABEL] = {"label", K(DNS)},
    [CG_N_FRESH] = {"fresh", K(FILE)},
    [CG_N_STDIN] = {"stdin", K(COMMAND)},
    [CG_N_AMOUNT] = {"amount", K(NETWORK)},
};

static bool read_condition_member(struct cg_packfile *f, struct cg_condition *c,
                                  const yaml_node_t *key, const yaml_node_t *value)
{
    const char *name = cg_packfile_text(key);
    for (size_t i = 0; name && i < CG_L_COUNT; i++) {
        if (strcmp(list_fields[i].name, name) != 0)
            continue;
        if (!(list_fields[i].kinds & (1u << c->kind)))
            return cg_packfile_bad(f, key, "\"%s\" does not look at %s", cond_names[c->kind], name);
        return cg_packfile_list(f, value, name, &c->list[i]);
    }
    for (size_t i = 0; name && i < CG_N_COUNT; i++) {
        if (strcmp(number_fields[i].name, name) != 0)
            continue;
        if (!(number_fields[i].kinds & (1u << c->kind)))
            return cg_packfile_bad(f, key, "\"%s\" does not look at %s", cond_names[c->kind], name);
        return cg_packfile_number(f, value, name, INT64_MAX / 4, &c->number[i]);
    }
    return cg_packfile_bad(f, key, "a condition does not know \"%.40s\"", name ? name : "?");
}

static bool read_condition(struct cg_packfile *f, const yaml_node_t *n, struct cg_condition *c)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    size_t at = 0;
    for (size_t i = 0; i < CG_N_COUNT; i++)
        c->number[i] = -1;
    if (!cg_packfile_each(f, n, &at, &key, &value))
        return cg_packfile_bad(f, n, "a condition is a map, as in \"- command: {program: [rm]}\"");
    const char *name = cg_packfile_text(key);
    unsigned kind = 0;
    while (kind < CG_COND_KINDS && !cg_streq(cond_names[kind], name))
        kind++;
    if (kind == CG_COND_KINDS)
        return cg_packfile_bad(f, key,
                               "a condition looks at command, start, file, process, network, dns, "
                               "gap or downloaded, not at \"%.40s\"",
                               name ? name : "?");
    c->kind = (enum cg_cond_kind)kind;
    const yaml_node_t *members = value;
    if (cg_packfile_each(f, n, &at, &key, &value))
        return cg_packfile_bad(f, key, "a condition has one kind");
    at = 0;
    if (members->type != YAML_MAPPING_NODE)
        return cg_packfile_bad(f, members, "%s: a map of members is needed", name);
    while (cg_packfile_each(f, members, &at, &key, &value))
        if (!read_condition_member(f, c, key, value))
            return false;
    return true;
}

static void drop_conditions(struct cg_rule *r)
{
    for (unsigned i = 0; i < r->nwhen; i++)
        for (unsigned l = 0; l < CG_L_COUNT; l++)
            cg_texts_finish(&r->when[i].list[l]);
    free(r->when);
    r->when = NULL;
    r->nwhen = 0;
}

static bool read_when(struct cg_packfile *f, const yaml_node_t *n, struct cg_rule *r)
{
    const yaml_node_t *item = NULL;
    size_t at = 0;
    if (n->type != YAML_SEQUENCE_NODE)
        return cg_packfile_bad(f, n, "when: a list of conditions is needed");
    drop_conditions(r);
    r->when = cg_alloc_array(CG_RULE_CONDITIONS, sizeof *r->when);
    while (cg_packfile_item(f, n, &at, &item)) {
        if (r->nwhen == CG_RULE_CONDITIONS)
            return cg_packfile_bad(f, item, "when: more than %d conditions",
                                   (int)CG_RULE_CONDITIONS);
        if (!read_condition(f, item, &r->when[r->nwhen++]))
            return false;
    }
    return r->nwhen > 0 || cg_packfile_bad(f, n, "when: at least one condition is needed");
}

/* --- rules --- */

static bool read_distinct(struct cg_packfile *f, const yaml_node_t *n, enum cg_distinct *out)
{
    static const char *const names[] = {"none", "path", "host", "name"};
    for (unsigned i = 0; i < CG_COUNT(names); i++) {
        if (cg_streq(cg_packfile_text(n), names[i])) {
            *out = (enum cg_distinct)i;
            return true;
        }
    }
    return cg_packfile_bad(f, n, "distinct: path, host or name is needed");
}

static bool read_window(struct cg_packfile *f, const yaml_node_t *n, struct cg_window *w)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    size_t at = 0;
    int64_t v = 0;
    *w = (struct cg_window){.count = 1};
    if (n->type != YAML_MAPPING_NODE)
        return cg_packfile_bad(f, n, "window: a map is needed, as in {seconds: 10, count: 11}");
    while (cg_packfile_each(f, n, &at, &key, &value)) {
        const char *name = cg_packfile_text(key);
        if (cg_streq(name, "distinct")) {
            if (!read_distinct(f, value, &w->distinct))
                return false;
        } else if (cg_streq(name, "seconds")) {
            if (!cg_packfile_number(f, value, name, 86400, &v))
                return false;
            w->seconds = (uint32_t)v;
        } else if (cg_streq(name, "count")) {
            if (!cg_packfile_number(f, value, name, CG_WINDOW_MAX, &v))
                return false;
            w->count = (uint32_t)v;
        } else if (cg_streq(name, "bytes_out") || cg_streq(name, "bytes_in")) {
            if (!cg_packfile_number(f, value, name, INT64_MAX / 4,
                                    name[6] == 'o' ? &w->bytes_out : &w->bytes_in))
                return false;
        } else {
            return cg_packfile_bad(f, key,
                                   "window knows seconds, count, distinct, bytes_out and bytes_in");
        }
    }
    return (w->seconds > 0 && w->count > 0) ||
           cg_packfile_bad(f, n, "window: seconds and count must be at least 1");
}

static bool read_severity(struct cg_packfile *f, const yaml_node_t *n, enum cg_severity *out)
{
    for (unsigned i = 0; i < CG_SEV_COUNT; i++) {
        if (cg_streq(cg_packfile_text(n), severities[i])) {
            *out = (enum cg_severity)i;
            return true;
        }
    }
    return cg_packfile_bad(f, n, "severity: info, minor, moderate or severe is needed");
}

static bool read_numbers(struct cg_packfile *f, struct cg_rule *r, const char *name,
                         const yaml_node_t *value, bool *was)
{
    const struct {
        const char *name;
        int64_t max;
        uint32_t *out;
    } numbers[] = {
        {"points", 100, &r->points}, {"cap", 100, &r->cap}, {"cooldown", 86400, &r->cooldown_s}};
    for (size_t i = 0; i < CG_COUNT(numbers); i++) {
        int64_t v = 0;
        if (strcmp(numbers[i].name, name) != 0)
            continue;
        *was = true;
        if (!cg_packfile_number(f, value, name, numbers[i].max, &v))
            return false;
        *numbers[i].out = (uint32_t)v;
    }
    return true;
}

static bool read_rule_member(struct cg_packfile *f, struct cg_rule *r, const yaml_node_t *key,
                             const yaml_node_t *value)
{
    const char *name = cg_packfile_text(key);
    bool was = false;
    if (!name)
        return cg_packfile_bad(f, key, "a key must be a text");
    if (strcmp(name, "id") == 0)
        return true;
    if (!read_numbers(f, r, name, value, &was) || was)
        return was && f->e->code == CG_OK;
    if (strcmp(name, "severity") == 0)
        return read_severity(f, value, &r->severity);
    if (strcmp(name, "explain") == 0) {
        const char *text = cg_packfile_text(value);
        if (!text || !text[0] || strlen(text) > 600)
            return cg_packfile_bad(f, value, "explain: a text of 1 to 600 bytes is needed");
        free(r->explain);
        r->explain = cg_strdup(text);
        return true;
    }
    if (strcmp(name, "when") == 0)
        return read_when(f, value, r);
    if (strcmp(name, "window") == 0)
        return read_window(f, value, &r->window);
    if (strcmp(name, "enabled") == 0 || strcmp(name, "once_per_host") == 0) {
        bool on = cg_streq(cg_packfile_text(value), "true");
        if (!on && !cg_streq(cg_packfile_text(value), "false"))
            return cg_packfile_bad(f, value, "%s: true or false is needed", name);
        *(name[0] == 'e' ? &r->off : &r->once_per_host) = name[0] == 'e' ? !on : on;
        return true;
    }
    if (strcmp(name, "fires") == 0)
        return cg_packfile_examples(f, value, &r->fires);
    if (strcmp(name, "quiet") == 0)
        return cg_packfile_examples(f, value, &r->quiet);
    return cg_packfile_bad(f, key, "a rule does not know \"%.40s\"", name);
}

static bool id_fine(const char *id)
{
    size_t n = id ? strlen(id) : 0;
    return n > 0 && n < CG_RULE_ID && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n;
}

static bool check_rule(struct cg_packfile *f, const yaml_node_t *n, struct cg_rule *r)
{
    if (r->off)
        return true;
    if (!r->explain || r->nwhen == 0)
        return cg_packfile_bad(f, n, "rule %s needs %s", r->id, r->explain ? "when" : "explain");
    if (r->points > r->cap)
        return cg_packfile_bad(f, n, "rule %s: points (%u) must not be above cap (%u)", r->id,
                               r->points, r->cap);
    return true;
}

static bool read_rule(struct cg_packfile *f, const yaml_node_t *n, struct cg_pack *p)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    const char *id = NULL;
    size_t at = 0;
    if (n->type != YAML_MAPPING_NODE)
        return cg_packfile_bad(f, n, "a rule is a map that begins with its id");
    while (cg_packfile_each(f, n, &at, &key, &value))
        if (cg_streq(cg_packfile_text(key), "id"))
            id = cg_packfile_text(value);
    if (!id_fine(id))
        return cg_packfile_bad(f, n,
                               "a rule needs an id of a-z, 0-9, '.' and '-' (at most %d bytes)",
                               (int)CG_RULE_ID - 1);
    struct cg_rule *r = NULL;
    for (unsigned i = 0; i < p->nrules; i++)
        if (strcmp(p->rules[i].id, id) == 0)
            r = &p->rules[i];
    if (r && r->line > 0 && !f->over)
        return cg_packfile_bad(f, n, "rule %s stands twice", id);
    if (!r && p->nrules == CG_PACK_RULES)
        return cg_packfile_bad(f, n, "more than %d rules", (int)CG_PACK_RULES);
    if (!r) {
        r = &p->rules[p->nrules++];
        *r = (struct cg_rule){.severity = CG_SEV_MINOR, .window = {.count = 1}};
        (void)cg_strlcpy(r->id, sizeof r->id, id);
    }
    r->line = n->start_mark.line + 1;
    at = 0;
    while (cg_packfile_each(f, n, &at, &key, &value))
        if (!read_rule_member(f, r, key, value))
            return false;
    return check_rule(f, n, r);
}

/* --- the file --- */

static bool read_bands(struct cg_packfile *f, const yaml_node_t *n, struct cg_bands *b)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    size_t at = 0;
    if (n->type != YAML_MAPPING_NODE)
        return cg_packfile_bad(f, n, "bands: a map of alert, critical and pause is needed");
    while (cg_packfile_each(f, n, &at, &key, &value)) {
        const char *name = cg_packfile_text(key);
        uint32_t *out = cg_streq(name, "alert")      ? &b->alert
                        : cg_streq(name, "critical") ? &b->critical
                        : cg_streq(name, "pause")    ? &b->pause
                                                     : NULL;
        int64_t v = 0;
        if (!out)
            return cg_packfile_bad(f, key, "bands are alert, critical and pause");
        if (!cg_packfile_number(f, value, name, 100, &v))
            return false;
        *out = (uint32_t)v;
    }
    return true;
}

static bool read_top(struct cg_packfile *f, const char *name, const yaml_node_t *key,
                     const yaml_node_t *value, struct cg_pack *p)
{
    const yaml_node_t *item = NULL;
    size_t at = 0;
    int64_t v = 0;
    if (cg_streq(name, "lists"))
        return true; /* read before all else */
    if (cg_streq(name, "version")) {
        bool fine = cg_packfile_number(f, value, name, 1000000, &v);
        p->version = f->over ? p->version : (uint32_t)v;
        return fine;
    }
    if (cg_streq(name, "name")) {
        const char *text = cg_packfile_text(value);
        return (text && cg_strlcpy(p->name, sizeof p->name, text)) ||
               cg_packfile_bad(f, value, "name: a short text is needed");
    }
    if (cg_streq(name, "bands"))
        return read_bands(f, value, &p->bands);
    if (cg_streq(name, "known_hosts"))
        return cg_packfile_list(f, value, name, &p->known_hosts);
    if (!cg_streq(name, "rules"))
        return cg_packfile_bad(f, key,
                               "the file knows version, name, lists, known_hosts, bands and rules");
    if (value->type != YAML_SEQUENCE_NODE)
        return cg_packfile_bad(f, value, "rules: a list is needed");
    while (cg_packfile_item(f, value, &at, &item))
        if (!read_rule(f, item, p))
            return false;
    return true;
}

static bool read_file(struct cg_packfile *f, struct cg_pack *p)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    const yaml_node_t *root = cg_packfile_root(f);
    size_t at = 0;
    if (!root)
        return true;
    if (root->type != YAML_MAPPING_NODE)
        return cg_packfile_bad(f, root, "a map with rules is needed");
    while (cg_packfile_each(f, root, &at, &key, &value))
        if (!read_top(f, cg_packfile_text(key), key, value, p))
            return false;
    return true;
}

static bool read_lists(struct cg_packfile *f)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    const yaml_node_t *root = cg_packfile_root(f);
    size_t at = 0;
    while (root && root->type == YAML_MAPPING_NODE && cg_packfile_each(f, root, &at, &key, &value))
        if (cg_streq(cg_packfile_text(key), "lists"))
            return cg_packfile_lists(f, value);
    return true;
}

static void hash_texts(struct cg_slice a, struct cg_slice b, char out[80])
{
    unsigned char bytes[crypto_generichash_BYTES];
    char hex[2 * sizeof bytes + 1];
    crypto_generichash_state state;
    CG_ASSERT(sodium_init() >= 0);
    crypto_generichash_init(&state, NULL, 0, sizeof bytes);
    crypto_generichash_update(&state, (const unsigned char *)a.p, a.n);
    if (b.n > 0) {
        crypto_generichash_update(&state, (const unsigned char *)"", 1);
        crypto_generichash_update(&state, (const unsigned char *)b.p, b.n);
    }
    crypto_generichash_final(&state, bytes, sizeof bytes);
    sodium_bin2hex(hex, sizeof hex, bytes, sizeof bytes);
    cg_snprintf(out, 80, "blake2b-256:%s", hex);
}

struct cg_pack *cg_pack_read(const char *name, struct cg_slice text, const char *over_name,
                             struct cg_slice over, struct cg_err *e)
{
    struct cg_pack *p = cg_alloc(sizeof *p);
    struct cg_err local = CG_ERR_INIT;
    struct cg_packfile base;
    struct cg_packfile upper;
    e = e ? e : &local;
    p->rules = cg_alloc_array(CG_PACK_RULES, sizeof *p->rules);
    hash_texts(text, over, p->hash);
    bool fine = cg_packfile_open(&base, name, text, p, false, e);
    bool two = fine && over.n > 0;
    bool opened = two && cg_packfile_open(&upper, over_name, over, p, true, e);
    if (fine)
        fine = two == opened && read_lists(&base) && (!opened || read_lists(&upper)) &&
               read_file(&base, p) && (!opened || read_file(&upper, p));
    if (opened)
        cg_packfile_close(&upper);
    cg_packfile_close(&base);
    if (fine)
        return p;
    cg_pack_destroy(p);
    return NULL;
}

void cg_pack_destroy(struct cg_pack *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < p->nrules; i++) {
        drop_conditions(&p->rules[i]);
        free(p->rules[i].explain);
        cg_texts_finish(&p->rules[i].fires);
        cg_texts_finish(&p->rules[i].quiet);
    }
    for (unsigned i = 0; i < p->nlists; i++) {
        free(p->lists[i].name);
        cg_texts_finish(&p->lists[i].texts);
    }
    free(p->lists);
    free(p->rules);
    cg_texts_finish(&p->known_hosts);
    free(p);
}

void cg_drop_pack(struct cg_pack **p)
{
    cg_pack_destroy(*p);
    *p = NULL;
}
