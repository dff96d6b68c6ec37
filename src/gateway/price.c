/* The price book. Rows lie sorted by provider, model, overrides first, from; a map leads from
 * "provider/model" to the first of them. The version is a digest of what the rows say, so that two
 * books with equal prices have equal versions. */
#include "gateway/price.h"

#include <ctype.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "gateway/price_inner.h"

enum { KEY_MAX = CG_PROVIDER_MAX + CG_MODEL_MAX + 2, ROW_TEXT_MAX = 1 << 16 };

const char *const cg_class_names[CG_CLASS_COUNT] = {"input", "cache_read", "cache_write_5m",
                                                    "cache_write_1h", "output"};
const char *const cg_tier_names[CG_TIER_COUNT] = {"standard", "priority", "flex", "batch", "fast"};
const char *const cg_tool_names[CG_TOOL_COUNT] = {"web_search", "web_fetch", "file_search", "code"};

struct fee {
    char provider[CG_PROVIDER_MAX];
    int64_t nusd[CG_TOOL_COUNT];
};

struct cg_prices {
    struct cg_price_rows rows;
    struct cg_map first;     /* "provider/model" -> row */
    struct cg_map aliases;   /* "provider/alias" -> char *, a model of the same provider */
    struct cg_map providers; /* name -> any of its rows */
    struct fee *fees;
    size_t fees_n;
    char version[CG_PRICE_VERSION];
};

static void make_key(const char *provider, const char *model, char out[KEY_MAX])
{
    cg_snprintf(out, KEY_MAX, "%s/%s", provider, model);
}

/* ---- building ---- */

static int order(const void *pa, const void *pb)
{
    const struct cg_price *a = pa, *b = pb;
    int c = strcmp(a->provider, b->provider);
    if (c == 0)
        c = strcmp(a->model, b->model);
    if (c == 0)
        c = (int)b->override - (int)a->override;
    if (c == 0)
        c = a->from_ns < b->from_ns ? -1 : a->from_ns > b->from_ns;
    return c;
}

static void index_rows(struct cg_prices *b)
{
    qsort(b->rows.v, b->rows.n, sizeof *b->rows.v, order);
    for (size_t i = b->rows.n; i > 0; i--) {
        char key[KEY_MAX];
        struct cg_price *p = &b->rows.v[i - 1];
        make_key(p->provider, p->model, key);
        cg_map_put(&b->first, key, p);
        cg_map_put(&b->providers, p->provider, p);
    }
}

static struct fee *fee_of(struct cg_prices *b, const char *provider)
{
    for (size_t i = 0; i < b->fees_n; i++) {
        if (strcmp(b->fees[i].provider, provider) == 0)
            return &b->fees[i];
    }
    b->fees = cg_realloc(b->fees, (b->fees_n + 1) * sizeof *b->fees);
    struct fee *f = &b->fees[b->fees_n++];
    *f = (struct fee){.nusd = {-1, -1, -1, -1}};
    cg_strlcpy(f->provider, sizeof f->provider, provider);
    return f;
}

static bool read_fees(struct cg_prices *b, yyjson_val *root, struct cg_err *e)
{
    yyjson_val *obj;
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(root, "server_tools"), i, n, obj)
    {
        const char *provider = yyjson_get_str(yyjson_obj_get(obj, "provider"));
        const char *tool = yyjson_get_str(yyjson_obj_get(obj, "tool"));
        int64_t nusd = -1;
        if (!cg_price_number(obj, "usd_per_use", 9, &nusd, e))
            return false;
        if (!provider || strlen(provider) >= CG_PROVIDER_MAX || b->fees_n > 200)
            return cg_fail(e, CG_INVALID, "server_tools: a row without a proper provider");
        for (int t = 0; t < CG_TOOL_COUNT; t++) {
            if (cg_streq(tool, cg_tool_names[t]))
                fee_of(b, provider)->nusd[t] = nusd;
        }
    }
    return true;
}

static bool read_aliases(struct cg_prices *b, yyjson_val *root, struct cg_err *e)
{
    yyjson_val *obj, *alias;
    size_t i, n, j, m;
    yyjson_arr_foreach(yyjson_obj_get(root, "models"), i, n, obj)
    {
        const char *provider = yyjson_get_str(yyjson_obj_get(obj, "provider"));
        const char *model = yyjson_get_str(yyjson_obj_get(obj, "model"));
        yyjson_arr_foreach(yyjson_obj_get(obj, "aliases"), j, m, alias)
        {
            const char *name = yyjson_get_str(alias);
            if (!name || !*name || strlen(name) >= CG_MODEL_MAX)
                return cg_fail(e, CG_INVALID, "%s: an alias that is no name", model);
            char key[KEY_MAX];
            make_key(provider, name, key);
            free(cg_map_put(&b->aliases, key, cg_strdup(model)));
        }
    }
    return true;
}

static bool read_text(struct cg_prices *b, struct cg_slice text, bool override, struct cg_err *e)
{
    CG_OWN(cg_drop_yydoc) yyjson_doc *doc = cg_price_json(text, e);
    if (!doc)
        return false;
    yyjson_val *root = yyjson_doc_get_root(doc);
    return cg_price_rows_read(&b->rows, root, override, e) && read_aliases(b, root, e) &&
           read_fees(b, root, e);
}

/* Aliases in order of their names: a digest must not follow the map's seed. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void digest_aliases(const struct cg_prices *b, crypto_hash_sha256_state *h)
{
    CG_OWN(cg_drop_free) const char **names = cg_alloc_array(b->aliases.count + 1, sizeof *names);
    size_t n = 0, at = 0;
    const char *key;
    void *value;
    while (cg_map_next(&b->aliases, &at, &key, &value))
        names[n++] = key;
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        const char *model = cg_map_get(&b->aliases, names[i]);
        crypto_hash_sha256_update(h, (const unsigned char *)names[i], strlen(names[i]) + 1);
        crypto_hash_sha256_update(h, (const unsigned char *)model, strlen(model) + 1);
    }
}

static void make_version(struct cg_prices *b)
{
    crypto_hash_sha256_state h;
    unsigned char sum[crypto_hash_sha256_BYTES];
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, ROW_TEXT_MAX);
    crypto_hash_sha256_init(&h);
    for (size_t i = 0; i < b->rows.n; i++) {
        struct cg_jsonw w;
        cg_buf_clear(&text);
        cg_jsonw_init(&w, &text);
        struct cg_price p = b->rows.v[i];
        p.source = "";
        cg_price_write(&p, &w);
        CG_ASSERT(!text.full);
        crypto_hash_sha256_update(&h, (const unsigned char *)text.p, text.n);
    }
    digest_aliases(b, &h);
    for (size_t i = 0; i < b->fees_n; i++) {
        for (int t = 0; t < CG_TOOL_COUNT; t++) {
            char line[80];
            cg_snprintf(line, sizeof line, "%s %d %lld\n", b->fees[i].provider, t,
                        (long long)b->fees[i].nusd[t]);
            crypto_hash_sha256_update(&h, (const unsigned char *)line, strlen(line));
        }
    }
    crypto_hash_sha256_final(&h, sum);
    sodium_bin2hex(b->version, 17, sum, 8);
}

struct cg_prices *cg_prices_create(struct cg_slice book, struct cg_slice overrides,
                                   struct cg_err *e)
{
    CG_OWN(cg_drop_prices) struct cg_prices *b = cg_alloc(sizeof *b);
    cg_map_init(&b->first);
    cg_map_init(&b->aliases);
    cg_map_init(&b->providers);
    if (!read_text(b, book, false, e))
        return NULL;
    if (overrides.n > 0 && !read_text(b, overrides, true, e)) {
        cg_wrap(e, "prices set here");
        return NULL;
    }
    index_rows(b);
    make_version(b);
    return CG_MOVE(b);
}

void cg_prices_destroy(struct cg_prices *b)
{
    if (!b)
        return;
    size_t at = 0;
    const char *key;
    void *value;
    while (cg_map_next(&b->aliases, &at, &key, &value))
        free(value);
    cg_map_finish(&b->aliases);
    cg_map_finish(&b->first);
    cg_map_finish(&b->providers);
    cg_price_rows_finish(&b->rows);
    free(b->fees);
    free(b);
}

void cg_drop_prices(struct cg_prices **b)
{
    cg_prices_destroy(*b);
    *b = NULL;
}

/* ---- reading ---- */

const char *cg_prices_version(const struct cg_prices *b)
{
    return b->version;
}

size_t cg_prices_count(const struct cg_prices *b)
{
    return b->rows.n;
}

const struct cg_price *cg_prices_at(const struct cg_prices *b, size_t i)
{
    return i < b->rows.n ? &b->rows.v[i] : NULL;
}

static const struct cg_price *row_at(const struct cg_prices *b, const char *provider,
                                     const char *model, int64_t wall_ns)
{
    char key[KEY_MAX];
    make_key(provider, model, key);
    const struct cg_price *end = b->rows.v + b->rows.n;
    for (const struct cg_price *p = cg_map_get(&b->first, key);
         p && p < end && strcmp(p->provider, provider) == 0 && strcmp(p->model, model) == 0; p++) {
        if (wall_ns >= p->from_ns && wall_ns < p->to_ns)
            return p;
    }
    return NULL;
}

static const struct cg_price *named(const struct cg_prices *b, const char *provider,
                                    const char *model, int64_t wall_ns)
{
    char key[KEY_MAX];
    const struct cg_price *p = row_at(b, provider, model, wall_ns);
    if (p)
        return p;
    make_key(provider, model, key);
    const char *alias = cg_map_get(&b->aliases, key);
    return alias ? row_at(b, provider, alias, wall_ns) : NULL;
}

static bool digits(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s[i]))
            return false;
    }
    return true;
}

/* Cuts -20251001, @20251001 or -2025-10-01 off; false when there is no date. */
static bool cut_date(char *model)
{
    size_t n = strlen(model);
    if (n > 9 && (model[n - 9] == '-' || model[n - 9] == '@') && digits(model + n - 8, 8)) {
        model[n - 9] = '\0';
        return true;
    }
    if (n > 11 && model[n - 11] == '-' && digits(model + n - 10, 4) && model[n - 6] == '-' &&
        digits(model + n - 5, 2) && model[n - 3] == '-' && digits(model + n - 2, 2)) {
        model[n - 11] = '\0';
        return true;
    }
    return false;
}

static const struct cg_price *spelled(const struct cg_prices *b, const char *provider,
                                      const char *model, int64_t wall_ns)
{
    char text[CG_MODEL_MAX];
    const struct cg_price *p = named(b, provider, model, wall_ns);
    if (p)
        return p;
    char prefix[CG_PROVIDER_MAX + 2];
    cg_snprintf(prefix, sizeof prefix, "%s/", provider);
    if (cg_has_prefix(model, "models/"))
        model += strlen("models/");
    else if (cg_has_prefix(model, prefix))
        model += strlen(prefix);
    cg_strlcpy(text, sizeof text, model);
    p = named(b, provider, text, wall_ns);
    if (!p && cut_date(text))
        p = named(b, provider, text, wall_ns);
    return p;
}

const struct cg_price *cg_prices_find(const struct cg_prices *b, const char *provider,
                                      const char *model, int64_t wall_ns)
{
    if (!model || !*model || strlen(model) >= CG_MODEL_MAX)
        return NULL;
    if (provider && strlen(provider) < CG_PROVIDER_MAX && cg_map_get(&b->providers, provider))
        return spelled(b, provider, model, wall_ns);
    const struct cg_price *found = NULL;
    const char *name;
    void *any;
    for (size_t at = 0; cg_map_next(&b->providers, &at, &name, &any);) {
        const struct cg_price *p = spelled(b, name, model, wall_ns);
        if (p && found)
            return NULL; /* two sellers, two prices: which one is not ours to guess */
        if (p)
            found = p;
    }
    return found;
}

int64_t cg_prices_tool(const struct cg_prices *b, const char *provider, enum cg_server_tool tool)
{
    for (size_t i = 0; i < b->fees_n; i++) {
        if (cg_streq(b->fees[i].provider, provider))
            return b->fees[i].nusd[tool];
    }
    return -1;
}

bool cg_price_rates(const struct cg_price *p, enum cg_tier tier, int64_t prompt_tokens, bool geo,
                    struct cg_rates *out)
{
    if (!p->has[tier])
        return false;
    const struct cg_rates *std = &p->base[CG_TIER_STANDARD], *band = NULL;
    for (size_t i = 0; i < p->bands_n; i++) {
        if (prompt_tokens > p->bands[i].over_tokens)
            band = &p->bands[i].rates;
    }
    for (int c = 0; c < CG_CLASS_COUNT; c++) {
        int64_t npm = p->base[tier].npm[c];
        if (band && tier == CG_TIER_STANDARD)
            npm = band->npm[c];
        else if (band && std->npm[c] > 0)
            npm = cg_money_muldiv(npm, band->npm[c], std->npm[c]);
        out->npm[c] = geo ? cg_money_muldiv(npm, p->geo_permille, 1000) : npm;
    }
    return true;
}

/* ---- writing ---- */

static void write_rates(const struct cg_rates *r, struct cg_jsonw *w)
{
    for (int c = 0; c < CG_CLASS_COUNT; c++) {
        char text[CG_MONEY_TEXT];
        cg_money_format(r->npm[c], text);
        cg_jsonw_key(w, cg_class_names[c]);
        cg_jsonw_raw(w, text, strlen(text));
    }
}

static void write_day(const char *key, int64_t wall_ns, struct cg_jsonw *w)
{
    if (wall_ns == INT64_MIN || wall_ns == INT64_MAX)
        return;
    struct tm tm;
    char text[CG_TIME_TEXT];
    time_t t = (time_t)(wall_ns / 1000000000);
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    cg_jsonw_kstr(w, key, text);
}

void cg_price_write(const struct cg_price *p, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "provider", p->provider);
    cg_jsonw_kstr(w, "model", p->model);
    write_rates(&p->base[CG_TIER_STANDARD], w);
    cg_jsonw_key(w, "tiers");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < p->bands_n; i++) {
        cg_jsonw_obj(w);
        cg_jsonw_kint(w, "over_input_tokens", p->bands[i].over_tokens);
        write_rates(&p->bands[i].rates, w);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    for (int t = CG_TIER_STANDARD + 1; t < CG_TIER_COUNT; t++) {
        if (!p->has[t])
            continue;
        cg_jsonw_key(w, cg_tier_names[t]);
        cg_jsonw_obj(w);
        write_rates(&p->base[t], w);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_kint(w, "context", p->context);
    cg_jsonw_kint(w, "max_output", p->max_output);
    cg_jsonw_knum(w, "geo_multiplier", (double)p->geo_permille / 1000);
    write_day("from", p->from_ns, w);
    write_day("to", p->to_ns, w);
    cg_jsonw_kstr(w, "source", p->source);
    cg_jsonw_obj_end(w);
}
