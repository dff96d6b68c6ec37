#include "trust/packfile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"

enum { TEXTS_MAX = 400, LISTS_MAX = 64, EVENTS_MAX = 40000, DEPTH_MAX = 16, EXAMPLE_MAX = 8192 };

void cg_texts_add(struct cg_texts *t, const char *s)
{
    if (t->n % 16 == 0)
        t->v = cg_realloc(t->v, (t->n + 16) * sizeof *t->v);
    t->v[t->n++] = cg_strdup(s);
}

void cg_texts_finish(struct cg_texts *t)
{
    for (unsigned i = 0; i < t->n; i++)
        free(t->v[i]);
    free(t->v);
    *t = (struct cg_texts){0};
}

bool cg_packfile_bad(struct cg_packfile *f, const yaml_node_t *at, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return cg_fail(f->e, CG_INVALID, "%s:%zu: %s", f->name, at->start_mark.line + 1, text);
}

const char *cg_packfile_text(const yaml_node_t *n)
{
    if (!n || n->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)n->data.scalar.value;
    return strlen(text) == n->data.scalar.length ? text : NULL;
}

const yaml_node_t *cg_packfile_root(struct cg_packfile *f)
{
    return yaml_document_get_root_node(&f->doc);
}

bool cg_packfile_each(struct cg_packfile *f, const yaml_node_t *map, size_t *at,
                      const yaml_node_t **key, const yaml_node_t **value)
{
    if (map->type != YAML_MAPPING_NODE)
        return false;
    const yaml_node_pair_t *pair = map->data.mapping.pairs.start + *at;
    if (pair >= map->data.mapping.pairs.top)
        return false;
    *key = yaml_document_get_node(&f->doc, pair->key);
    *value = yaml_document_get_node(&f->doc, pair->value);
    ++*at;
    return true;
}

bool cg_packfile_item(struct cg_packfile *f, const yaml_node_t *list, size_t *at,
                      const yaml_node_t **item)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return false;
    const yaml_node_item_t *i = list->data.sequence.items.start + *at;
    if (i >= list->data.sequence.items.top)
        return false;
    *item = yaml_document_get_node(&f->doc, *i);
    ++*at;
    return true;
}

bool cg_packfile_number(struct cg_packfile *f, const yaml_node_t *n, const char *what, int64_t max,
                        int64_t *out)
{
    const char *s = cg_packfile_text(n);
    char *end = NULL;
    bool octal = s && s[0] == '0' && s[1];
    long long v = s ? strtoll(s, &end, octal ? 8 : 10) : -1;
    if (!s || !s[0] || *end || v < 0 || v > max)
        return cg_packfile_bad(f, n, "%s: a whole number from 0 to %lld is needed", what,
                               (long long)max);
    *out = v;
    return true;
}

/* --- lists --- */

static const struct cg_named_list *find_list(const struct cg_pack *p, const char *name)
{
    for (unsigned i = 0; i < p->nlists; i++)
        if (strcmp(p->lists[i].name, name) == 0)
            return &p->lists[i];
    return NULL;
}

static bool add_text(struct cg_packfile *f, const yaml_node_t *n, const char *what,
                     struct cg_texts *out)
{
    const char *s = cg_packfile_text(n);
    if (!s || !s[0] || strlen(s) > 400)
        return cg_packfile_bad(f, n, "%s: a text is needed", what);
    if (s[0] != '$') {
        if (out->n >= TEXTS_MAX)
            return cg_packfile_bad(f, n, "%s: more than %d texts", what, (int)TEXTS_MAX);
        cg_texts_add(out, s);
        return true;
    }
    const struct cg_named_list *list = find_list(f->pack, s + 1);
    if (!list)
        return cg_packfile_bad(f, n, "%s: there is no list \"%.60s\"", what, s + 1);
    if (out->n + list->texts.n > TEXTS_MAX)
        return cg_packfile_bad(f, n, "%s: more than %d texts", what, (int)TEXTS_MAX);
    for (unsigned i = 0; i < list->texts.n; i++)
        cg_texts_add(out, list->texts.v[i]);
    return true;
}

bool cg_packfile_list(struct cg_packfile *f, const yaml_node_t *n, const char *what,
                      struct cg_texts *out)
{
    const yaml_node_t *item = NULL;
    size_t at = 0;
    cg_texts_finish(out);
    if (n->type == YAML_SCALAR_NODE)
        return add_text(f, n, what, out);
    if (n->type != YAML_SEQUENCE_NODE)
        return cg_packfile_bad(f, n, "%s: a text or a list of texts is needed", what);
    while (cg_packfile_item(f, n, &at, &item))
        if (!add_text(f, item, what, out))
            return false;
    return out->n > 0 || cg_packfile_bad(f, n, "%s: the list is empty", what);
}

static struct cg_texts *named(struct cg_pack *p, const char *name)
{
    for (unsigned i = 0; i < p->nlists; i++)
        if (strcmp(p->lists[i].name, name) == 0)
            return &p->lists[i].texts;
    p->lists = cg_realloc(p->lists, (p->nlists + 1) * sizeof *p->lists);
    p->lists[p->nlists] = (struct cg_named_list){cg_strdup(name), {NULL, 0}};
    return &p->lists[p->nlists++].texts;
}

bool cg_packfile_lists(struct cg_packfile *f, const yaml_node_t *map)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    size_t at = 0;
    if (map->type != YAML_MAPPING_NODE)
        return cg_packfile_bad(f, map, "lists: a map of names to lists is needed");
    while (cg_packfile_each(f, map, &at, &key, &value)) {
        const char *name = cg_packfile_text(key);
        struct cg_texts texts = {0};
        size_t n = name ? strlen(name) : 0;
        if (n == 0 || n > 60 || f->pack->nlists == LISTS_MAX)
            return cg_packfile_bad(f, key, "lists: at most %d lists with short names",
                                   (int)LISTS_MAX);
        bool adds = name[n - 1] == '+';
        CG_OWN(cg_drop_free) char *bare = cg_strndup(name, adds ? n - 1 : n);
        if (!cg_packfile_list(f, value, bare, &texts)) {
            cg_texts_finish(&texts);
            return false;
        }
        struct cg_texts *to = named(f->pack, bare);
        if (!adds)
            cg_texts_finish(to);
        for (unsigned i = 0; i < texts.n; i++)
            cg_texts_add(to, texts.v[i]);
        cg_texts_finish(&texts);
    }
    return true;
}

/* --- examples --- */

static void put_node(struct cg_packfile *f, const yaml_node_t *n, struct cg_jsonw *w, int depth);

static void put_scalar(const yaml_node_t *n, struct cg_jsonw *w)
{
    const char *s = cg_packfile_text(n);
    char *end = NULL;
    bool plain = n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (!s) {
        cg_jsonw_str(w, "");
        return;
    }
    bool octal = s[0] == '0' && s[1];
    long long v = s[0] ? strtoll(s, &end, octal ? 8 : 10) : 0;
    if (plain && end && !*end)
        cg_jsonw_int(w, v);
    else if (plain && (cg_streq(s, "true") || cg_streq(s, "false")))
        cg_jsonw_bool(w, s[0] == 't');
    else
        cg_jsonw_str(w, s);
}

static void put_node(struct cg_packfile *f, const yaml_node_t *n, struct cg_jsonw *w, int depth)
{
    const yaml_node_t *key = NULL;
    const yaml_node_t *value = NULL;
    size_t at = 0;
    if (depth > DEPTH_MAX || n->type == YAML_SCALAR_NODE) {
        put_scalar(n, w);
    } else if (n->type == YAML_SEQUENCE_NODE) {
        cg_jsonw_arr(w);
        while (cg_packfile_item(f, n, &at, &value))
            put_node(f, value, w, depth + 1);
        cg_jsonw_arr_end(w);
    } else {
        cg_jsonw_obj(w);
        while (cg_packfile_each(f, n, &at, &key, &value)) {
            cg_jsonw_key(w, cg_packfile_text(key) ? cg_packfile_text(key) : "");
            put_node(f, value, w, depth + 1);
        }
        cg_jsonw_obj_end(w);
    }
}

bool cg_packfile_examples(struct cg_packfile *f, const yaml_node_t *n, struct cg_texts *out)
{
    const yaml_node_t *item = NULL;
    size_t at = 0;
    cg_texts_finish(out);
    if (n->type != YAML_SEQUENCE_NODE)
        return cg_packfile_bad(f, n, "examples are a list");
    while (cg_packfile_item(f, n, &at, &item)) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        struct cg_jsonw w;
        cg_buf_init(&b, EXAMPLE_MAX);
        cg_jsonw_init(&w, &b);
        bool many = item->type == YAML_SEQUENCE_NODE;
        if (!many)
            cg_jsonw_arr(&w);
        put_node(f, item, &w, 0);
        if (!many)
            cg_jsonw_arr_end(&w);
        if (b.full)
            return cg_packfile_bad(f, item, "an example is too long");
        cg_texts_add(out, cg_buf_cstr(&b));
    }
    return true;
}

/* --- the document --- */

static bool refuse_aliases(const char *name, struct cg_slice text, struct cg_err *e)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool ok = true;
    bool over = false;
    unsigned count = 0;
    int depth = 0;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    while (ok && !over) {
        if (!yaml_parser_parse(&parser, &event)) {
            ok = cg_fail(e, CG_INVALID, "%s:%zu: %s", name, parser.problem_mark.line + 1,
                         parser.problem ? parser.problem : "not YAML");
            break;
        }
        size_t line = event.start_mark.line + 1;
        over = event.type == YAML_STREAM_END_EVENT;
        depth += event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT;
        depth -= event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        if (event.type == YAML_ALIAS_EVENT)
            ok = cg_fail(e, CG_INVALID, "%s:%zu: aliases (*name) are refused", name, line);
        else if (++count > EVENTS_MAX || depth > DEPTH_MAX)
            ok = cg_fail(e, CG_INVALID, "%s:%zu: too many values", name, line);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return ok;
}

bool cg_packfile_open(struct cg_packfile *f, const char *name, struct cg_slice text,
                      struct cg_pack *p, bool over, struct cg_err *e)
{
    yaml_parser_t parser;
    *f = (struct cg_packfile){.name = name, .pack = p, .over = over, .e = e};
    if (text.n > CG_PACK_MAX)
        return cg_fail(e, CG_TOO_LARGE, "%s is larger than %d bytes", name, (int)CG_PACK_MAX);
    if (!refuse_aliases(name, text, e))
        return false;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    f->open = yaml_parser_load(&parser, &f->doc) != 0;
    if (!f->open)
        cg_fail(e, CG_INVALID, "%s:%zu: %s", name, parser.problem_mark.line + 1,
                parser.problem ? parser.problem : "not YAML");
    yaml_parser_delete(&parser);
    return f->open;
}

void cg_packfile_close(struct cg_packfile *f)
{
    if (f->open)
        yaml_document_delete(&f->doc);
    f->open = false;
}
