/* Prices of others, as overrides of ours: the JSON of models.dev (providers, models, `cost` in
 * dollars per million tokens), its TOML of one model, the JSON of LiteLLM (models, dollars per
 * token, tiers and bands as suffixes of the keys). */
#include <stdlib.h>
#include <string.h>

#include "gateway/price_inner.h"

enum { TOML_LINE_MAX = 512, NPM_PER_MILLION = 9, NPM_PER_TOKEN = 15 };

/* --- rows --- */

static bool same(const struct cg_price *a, const struct cg_price *b)
{
    return strcmp(a->provider, b->provider) == 0 && strcmp(a->model, b->model) == 0 &&
           a->from_ns == b->from_ns;
}

static void drop_row(struct cg_price_rows *rows, size_t i)
{
    cg_drop_free(&rows->v[i].provider);
    cg_drop_free(&rows->v[i].model);
    cg_drop_free(&rows->v[i].source);
    memmove(&rows->v[i], &rows->v[i + 1], (--rows->n - i) * sizeof *rows->v);
}

static bool merge(struct cg_price_rows *all, const struct cg_price_rows *more, struct cg_err *e)
{
    for (size_t i = 0; i < more->n; i++) {
        for (size_t k = all->n; k > 0; k--)
            if (same(&all->v[k - 1], &more->v[i]))
                drop_row(all, k - 1);
        if (!cg_price_rows_add(all, &more->v[i], e))
            return false;
    }
    return true;
}

static bool read_overrides(struct cg_slice text, struct cg_price_rows *out, struct cg_err *e)
{
    if (text.n == 0)
        return true;
    CG_OWN(cg_drop_yydoc) yyjson_doc *doc = cg_price_json(text, e);
    return doc && cg_price_rows_read(out, yyjson_doc_get_root(doc), true, e);
}

static bool write_merged(struct cg_slice overrides, const struct cg_price_rows *more,
                         struct cg_buf *out, struct cg_err *e)
{
    CG_OWN(cg_drop_price_rows) struct cg_price_rows all = {0};
    struct cg_jsonw w;
    if (!read_overrides(overrides, &all, e) || !merge(&all, more, e))
        return false;
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "unit", "USD per 1,000,000 tokens");
    cg_jsonw_kstr(&w, "format", "caged-prices-1");
    cg_jsonw_key(&w, "models");
    cg_jsonw_arr(&w);
    for (size_t i = 0; i < all.n; i++)
        cg_price_write(&all.v[i], &w);
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    return !out->full || cg_fail(e, CG_TOO_LARGE, "too many prices of your own");
}

static bool priced(const struct cg_price *p)
{
    const int64_t *npm = p->base[CG_TIER_STANDARD].npm;
    return npm[CG_CLASS_INPUT] >= 0 && npm[CG_CLASS_OUTPUT] >= 0;
}

/* --- models.dev, JSON --- */

static bool read_cost(yyjson_val *cost, struct cg_rates *r, struct cg_err *e)
{
    cg_rates_blank(r);
    return cg_price_number(cost, "input", NPM_PER_MILLION, &r->npm[CG_CLASS_INPUT], e) &&
           cg_price_number(cost, "output", NPM_PER_MILLION, &r->npm[CG_CLASS_OUTPUT], e) &&
           cg_price_number(cost, "cache_read", NPM_PER_MILLION, &r->npm[CG_CLASS_CACHE_READ], e) &&
           cg_price_number(cost, "cache_write", NPM_PER_MILLION, &r->npm[CG_CLASS_CACHE_WRITE_5M],
                           e);
}

static bool dev_bands(yyjson_val *cost, struct cg_price *p, struct cg_err *e)
{
    yyjson_val *band;
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(cost, "tiers"), i, n, band)
    {
        struct cg_band *b = &p->bands[p->bands_n];
        if (p->bands_n == CG_BANDS_MAX)
            return cg_fail(e, CG_TOO_LARGE, "more than %d bands", CG_BANDS_MAX);
        if (!cg_price_number(yyjson_obj_get(band, "tier"), "size", 0, &b->over_tokens, e) ||
            !read_cost(band, &b->rates, e))
            return false;
        p->bands_n++;
    }
    return true;
}

static bool dev_model(const char *provider, const char *name, yyjson_val *m,
                      struct cg_price_rows *out, struct cg_err *e)
{
    struct cg_price p;
    yyjson_val *limit = yyjson_obj_get(m, "limit");
    yyjson_val *cost = yyjson_obj_get(m, "cost");
    cg_price_blank(&p);
    p.provider = provider;
    p.model = name;
    p.source = "models.dev";
    p.override = true;
    bool fine = read_cost(cost, &p.base[CG_TIER_STANDARD], e) && dev_bands(cost, &p, e) &&
                cg_price_number(limit, "context", 0, &p.context, e) &&
                cg_price_number(limit, "output", 0, &p.max_output, e);
    p.context = CG_MAX(p.context, 0);
    p.max_output = CG_MAX(p.max_output, 0);
    return fine && (!priced(&p) || cg_price_rows_add(out, &p, e));
}

static bool read_dev(yyjson_val *root, struct cg_price_rows *out, struct cg_err *e)
{
    yyjson_val *key, *provider, *name, *model;
    size_t i, n, j, m;
    yyjson_obj_foreach(root, i, n, key, provider)
    {
        yyjson_obj_foreach(yyjson_obj_get(provider, "models"), j, m, name, model)
        {
            if (!dev_model(yyjson_get_str(key), yyjson_get_str(name), model, out, e))
                return cg_wrap(e, "%s/%s", yyjson_get_str(key), yyjson_get_str(name));
        }
    }
    return true;
}

static bool is_dev(yyjson_val *root)
{
    yyjson_obj_iter at = yyjson_obj_iter_with(root);
    yyjson_val *key = yyjson_obj_iter_next(&at);
    return key && yyjson_is_obj(yyjson_obj_get(yyjson_obj_iter_get_val(key), "models"));
}

/* --- models.dev, TOML --- */

struct toml {
    char section[64];
    struct cg_price *p;
};

static int64_t *toml_place(struct toml *t, const char *key, int *scale)
{
    static const struct {
        const char *name;
        enum cg_class class_;
    } classes[] = {{"input", CG_CLASS_INPUT},
                   {"output", CG_CLASS_OUTPUT},
                   {"cache_read", CG_CLASS_CACHE_READ},
                   {"cache_write", CG_CLASS_CACHE_WRITE_5M}};
    bool band = cg_streq(t->section, "[cost.tiers") && t->p->bands_n > 0;
    struct cg_rates *r = cg_streq(t->section, "cost") ? &t->p->base[CG_TIER_STANDARD]
                         : band                       ? &t->p->bands[t->p->bands_n - 1].rates
                                                      : NULL;
    *scale = NPM_PER_MILLION;
    for (size_t i = 0; r && i < CG_COUNT(classes); i++)
        if (cg_streq(key, classes[i].name))
            return &r->npm[classes[i].class_];
    *scale = 0;
    if (cg_streq(t->section, "limit") && cg_streq(key, "context"))
        return &t->p->context;
    if (cg_streq(t->section, "limit") && cg_streq(key, "output"))
        return &t->p->max_output;
    return NULL;
}

/* "tier = { size = 200_000, … }" */
static bool toml_size(struct toml *t, const char *text, struct cg_err *e)
{
    const char *at = strstr(text, "size");
    char *end = NULL;
    long long n = at ? strtoll(at + 4 + strspn(at + 4, " ="), &end, 10) : 0;
    if (n <= 0 || t->p->bands_n == 0)
        return cg_fail(e, CG_INVALID, "a tier without its size");
    t->p->bands[t->p->bands_n - 1].over_tokens = n;
    return true;
}

static void without_underscores(char *s)
{
    char *to = s;
    for (; *s; s++)
        if (*s != '_')
            *to++ = *s;
    *to = '\0';
}

static bool toml_section(struct toml *t, char *line, struct cg_err *e)
{
    line[strcspn(line, "]")] = '\0';
    (void)cg_strlcpy(t->section, sizeof t->section, line + 1);
    if (!cg_streq(t->section, "[cost.tiers"))
        return true;
    if (t->p->bands_n == CG_BANDS_MAX)
        return cg_fail(e, CG_TOO_LARGE, "more than %d bands", CG_BANDS_MAX);
    cg_rates_blank(&t->p->bands[t->p->bands_n++].rates);
    return true;
}

static bool toml_line(struct toml *t, char *line, struct cg_err *e)
{
    int scale = 0;
    line += strspn(line, " \t");
    if (line[0] == '[')
        return toml_section(t, line, e);
    char *equals = strchr(line, '=');
    if (!equals || line[0] == '#')
        return true;
    *equals = '\0';
    line[strcspn(line, " \t")] = '\0';
    char *value = equals + 1 + strspn(equals + 1, " \t");
    if (cg_streq(t->section, "[cost.tiers") && cg_streq(line, "tier")) {
        char text[TOML_LINE_MAX];
        (void)cg_strlcpy(text, sizeof text, value);
        without_underscores(text);
        return toml_size(t, text, e);
    }
    int64_t *place = toml_place(t, line, &scale);
    if (!place)
        return true;
    value[strcspn(value, " \t\r#")] = '\0';
    without_underscores(value);
    return cg_money_parse_scaled(cg_slice_of(value), scale, place, e) || cg_wrap(e, "%s", line);
}

static bool read_toml(struct cg_slice text, const char *name, struct cg_price_rows *out,
                      struct cg_err *e)
{
    struct cg_price p;
    struct toml t = {.p = &p};
    char provider[CG_PROVIDER_MAX];
    char model[CG_MODEL_MAX];
    const char *slash = name ? strchr(name, '/') : NULL;
    if (!slash || slash[1] == '\0' || (size_t)(slash - name) >= sizeof provider ||
        !cg_strlcpy(model, sizeof model, slash + 1))
        return cg_fail(e, CG_INVALID, "prices of one model need a name: PROVIDER/MODEL.toml");
    cg_snprintf(provider, sizeof provider, "%.*s", (int)(slash - name), name);
    if (cg_has_suffix(model, ".toml"))
        model[strlen(model) - 5] = '\0';
    cg_price_blank(&p);
    p.provider = provider;
    p.model = model;
    p.source = "models.dev";
    p.override = true;
    for (size_t at = 0; at < text.n;) {
        char line[TOML_LINE_MAX];
        const char *nl = memchr(text.p + at, '\n', text.n - at);
        size_t n = nl ? (size_t)(nl - text.p) - at : text.n - at;
        cg_snprintf(line, sizeof line, "%.*s", (int)CG_MIN(n, sizeof line - 1), text.p + at);
        at += n + 1;
        if (!toml_line(&t, line, e))
            return false;
    }
    return priced(&p) ? cg_price_rows_add(out, &p, e)
                      : cg_fail(e, CG_INVALID, "no [cost] with input and output");
}

/* --- LiteLLM --- */

static bool lite_rates(yyjson_val *m, const char *suffix, struct cg_rates *r, struct cg_err *e)
{
    static const struct {
        const char *key;
        enum cg_class class_;
    } keys[] = {{"input_cost_per_token", CG_CLASS_INPUT},
                {"output_cost_per_token", CG_CLASS_OUTPUT},
                {"cache_read_input_token_cost", CG_CLASS_CACHE_READ},
                {"cache_creation_input_token_cost", CG_CLASS_CACHE_WRITE_5M}};
    cg_rates_blank(r);
    for (size_t i = 0; i < CG_COUNT(keys); i++) {
        char key[96];
        cg_snprintf(key, sizeof key, "%s%s", keys[i].key, suffix);
        if (!cg_price_number(m, key, NPM_PER_TOKEN, &r->npm[keys[i].class_], e))
            return false;
    }
    return *suffix || cg_price_number(m, "cache_creation_input_token_cost_above_1hr", NPM_PER_TOKEN,
                                      &r->npm[CG_CLASS_CACHE_WRITE_1H], e);
}

static bool lite_bands(yyjson_val *m, struct cg_price *p, struct cg_err *e)
{
    static const struct {
        const char *suffix;
        int64_t over;
    } bands[] = {{"_above_128k_tokens", 128000},
                 {"_above_200k_tokens", 200000},
                 {"_above_256k_tokens", 256000},
                 {"_above_272k_tokens", 272000}};
    for (size_t i = 0; i < CG_COUNT(bands) && p->bands_n < CG_BANDS_MAX; i++) {
        struct cg_band *b = &p->bands[p->bands_n];
        if (!lite_rates(m, bands[i].suffix, &b->rates, e))
            return false;
        b->over_tokens = bands[i].over;
        p->bands_n +=
            b->rates.npm[CG_CLASS_INPUT] >= 0 && b->rates.npm[CG_CLASS_OUTPUT] >= 0 ? 1 : 0;
    }
    return true;
}

static bool lite_model(const char *name, yyjson_val *m, struct cg_price_rows *out, struct cg_err *e)
{
    static const struct {
        const char *suffix;
        enum cg_tier tier;
    } tiers[] = {{"", CG_TIER_STANDARD},
                 {"_priority", CG_TIER_PRIORITY},
                 {"_flex", CG_TIER_FLEX},
                 {"_batches", CG_TIER_BATCH}};
    const char *provider = yyjson_get_str(yyjson_obj_get(m, "litellm_provider"));
    struct cg_price p;
    if (!provider || cg_streq(name, "sample_spec"))
        return true;
    provider = cg_streq(provider, "gemini") ? "google" : provider;
    const char *slash = strchr(name, '/');
    cg_price_blank(&p);
    p.provider = provider;
    p.model = slash ? slash + 1 : name;
    p.source = "LiteLLM";
    p.override = true;
    for (size_t i = 0; i < CG_COUNT(tiers); i++)
        if (!lite_rates(m, tiers[i].suffix, &p.base[tiers[i].tier], e))
            return false;
    if (!lite_bands(m, &p, e) || !cg_price_number(m, "max_input_tokens", 0, &p.context, e) ||
        !cg_price_number(m, "max_output_tokens", 0, &p.max_output, e))
        return false;
    p.context = CG_MAX(p.context, 0);
    p.max_output = CG_MAX(p.max_output, 0);
    return !priced(&p) || cg_price_rows_add(out, &p, e);
}

static bool read_lite(yyjson_val *root, struct cg_price_rows *out, struct cg_err *e)
{
    yyjson_val *name, *model;
    size_t i, n;
    yyjson_obj_foreach(root, i, n, name, model)
    {
        if (!lite_model(yyjson_get_str(name), model, out, e))
            return cg_wrap(e, "%s", yyjson_get_str(name));
    }
    return true;
}

/* --- entries --- */

static bool read_any(struct cg_slice text, const char *name, struct cg_price_rows *out,
                     struct cg_err *e)
{
    size_t at = 0;
    while (at < text.n && strchr(" \t\r\n", text.p[at]))
        at++;
    if (at == text.n || text.p[at] != '{')
        return read_toml(text, name, out, e);
    CG_OWN(cg_drop_yydoc) yyjson_doc *doc = cg_price_json(text, e);
    if (!doc)
        return false;
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (yyjson_is_arr(yyjson_obj_get(root, "models")))
        return cg_price_rows_read(out, root, true, e);
    return is_dev(root) ? read_dev(root, out, e) : read_lite(root, out, e);
}

bool cg_prices_import(struct cg_slice text, const char *name, struct cg_slice overrides,
                      struct cg_buf *out, size_t *count, struct cg_err *e)
{
    CG_OWN(cg_drop_price_rows) struct cg_price_rows rows = {0};
    *count = 0;
    if (!read_any(text, name, &rows, e))
        return false;
    if (rows.n == 0)
        return cg_fail(e, CG_INVALID, "no prices are in it");
    *count = rows.n;
    return write_merged(overrides, &rows, out, e);
}

bool cg_prices_set(const struct cg_price_set *set, struct cg_slice overrides, struct cg_buf *out,
                   struct cg_err *e)
{
    CG_OWN(cg_drop_price_rows) struct cg_price_rows rows = {0};
    struct cg_price p;
    cg_price_blank(&p);
    p.provider = set->provider;
    p.model = set->model;
    p.source = "set here";
    p.override = true;
    p.from_ns = set->from_ns;
    p.context = CG_MAX(set->context, 0);
    p.max_output = CG_MAX(set->max_output, 0);
    memcpy(p.base[CG_TIER_STANDARD].npm, set->npm, sizeof set->npm);
    return cg_price_rows_add(&rows, &p, e) && write_merged(overrides, &rows, out, e);
}
