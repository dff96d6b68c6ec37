/* libyaml's document tree, walked by the table. */
#include "image/yamlmap.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
    const char *file;
    yaml_document_t *doc;
    const struct cg_yaml_key *keys;
    size_t nkeys;
    char *out;
    struct cg_err *e;
};

static bool bad(const struct reader *r, const yaml_node_t *node, const char *what)
{
    return cg_fail(r->e, CG_INVALID, "%s:%zu: %s", r->file, node->start_mark.line + 1, what);
}

static const char *scalar(const yaml_node_t *node)
{
    if (!node || node->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

static bool take_list(const struct reader *r, const yaml_node_t *node, struct cg_strv *out)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return bad(r, node, "expected a list");
    for (yaml_node_item_t *at = node->data.sequence.items.start; at < node->data.sequence.items.top;
         at++) {
        yaml_node_t *item = yaml_document_get_node(r->doc, *at);
        const char *text = scalar(item);
        if (!text)
            return bad(r, item ? item : node, "expected a list of texts");
        cg_strv_add(out, text);
    }
    return true;
}

/* KEY=VALUE in `out`; with `values` keys and values go to two lists. */
static bool take_map(const struct reader *r, const yaml_node_t *node, struct cg_strv *out,
                     struct cg_strv *values)
{
    if (node->type != YAML_MAPPING_NODE)
        return bad(r, node, "expected names with values");
    for (yaml_node_pair_t *at = node->data.mapping.pairs.start; at < node->data.mapping.pairs.top;
         at++) {
        yaml_node_t *k = yaml_document_get_node(r->doc, at->key);
        const char *key = scalar(k);
        const char *value = scalar(yaml_document_get_node(r->doc, at->value));
        if (!key || !value || strpbrk(key, "= \t\n"))
            return bad(r, k ? k : node, "expected a name with a text");
        if (!values) {
            cg_strv_addf(out, "%s=%s", key, value);
            continue;
        }
        cg_strv_add(out, key);
        cg_strv_add(values, value);
    }
    return true;
}

static bool take_value(const struct reader *r, const struct cg_yaml_key *key,
                       const yaml_node_t *node)
{
    void *to = r->out + key->offset;
    switch (key->type) {
    case CG_YAML_TEXT: {
        const char *text = scalar(node);
        char **at = to;
        if (!text || *at)
            return bad(r, node, *at ? "this key is there twice" : "expected a text");
        *at = cg_strdup(text);
        return true;
    }
    case CG_YAML_LIST:
        return take_list(r, node, to);
    case CG_YAML_MAP:
        return take_map(r, node, to, NULL);
    case CG_YAML_PAIRS:
        return take_map(r, node, to, (struct cg_strv *)to + 1);
    }
    return false;
}

static bool take_pair(const struct reader *r, const yaml_node_pair_t *pair)
{
    yaml_node_t *k = yaml_document_get_node(r->doc, pair->key);
    yaml_node_t *v = yaml_document_get_node(r->doc, pair->value);
    const char *name = scalar(k);
    for (size_t i = 0; name && v && i < r->nkeys; i++)
        if (cg_streq(r->keys[i].name, name))
            return take_value(r, &r->keys[i], v);
    CG_OWN(cg_drop_free) char *what = cg_format("unknown key %s", name ? name : "(no text)");
    return bad(r, k, what);
}

bool cg_yaml_read(const char *file, struct cg_slice text, const struct cg_yaml_key *keys,
                  size_t nkeys, void *out, struct cg_err *e)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    if (!yaml_parser_load(&parser, &doc)) {
        cg_fail(e, CG_INVALID, "%s:%zu: %s", file, parser.problem_mark.line + 1,
                parser.problem ? parser.problem : "no YAML");
        yaml_parser_delete(&parser);
        return false;
    }
    struct reader r = {file, &doc, keys, nkeys, out, e};
    yaml_node_t *root = yaml_document_get_root_node(&doc);
    bool ok = root && root->type == YAML_MAPPING_NODE;
    if (!ok)
        cg_fail(e, CG_INVALID, "%s: expected names with values", file);
    for (yaml_node_pair_t *at = ok ? root->data.mapping.pairs.start : NULL;
         ok && at < root->data.mapping.pairs.top; at++)
        ok = take_pair(&r, at);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    return ok;
}

void cg_yaml_finish(const struct cg_yaml_key *keys, size_t nkeys, void *out)
{
    for (size_t i = 0; i < nkeys; i++) {
        void *at = (char *)out + keys[i].offset;
        if (keys[i].type == CG_YAML_TEXT)
            free(CG_MOVE(*(char **)at));
        else
            cg_strv_finish(at);
        if (keys[i].type == CG_YAML_PAIRS)
            cg_strv_finish((struct cg_strv *)at + 1);
    }
}
