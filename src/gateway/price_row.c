/* Rows of the price book: read from our own JSON, completed, checked. Numbers are read as text and
 * scaled in integers, so that 0.1 is 0.1. What a provider does not publish is derived upwards: a
 * cache read costs what input costs, a cache write of Anthropic 1.25 and 2 times input. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/price_inner.h"

static const int64_t absurd_npm = 1000000 * CG_USD; /* a dollar a token */

void cg_price_rows_finish(struct cg_price_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        cg_drop_free(&rows->v[i].provider);
        cg_drop_free(&rows->v[i].model);
        cg_drop_free(&rows->v[i].source);
    }
    free(rows->v);
    *rows = (struct cg_price_rows){0};
}

void cg_drop_price_rows(struct cg_price_rows *rows)
{
    cg_price_rows_finish(rows);
}

void cg_rates_blank(struct cg_rates *r)
{
    for (int i = 0; i < CG_CLASS_COUNT; i++)
        r->npm[i] = -1;
}

void cg_price_blank(struct cg_price *p)
{
    *p = (struct cg_price){.from_ns = INT64_MIN, .to_ns = INT64_MAX, .geo_permille = 1000};
    for (int t = 0; t < CG_TIER_COUNT; t++)
        cg_rates_blank(&p->base[t]);
}

static void complete_standard(struct cg_rates *r, bool anthropic)
{
    int64_t in = r->npm[CG_CLASS_INPUT];
    if (r->npm[CG_CLASS_CACHE_READ] < 0)
        r->npm[CG_CLASS_CACHE_READ] = in;
    if (r->npm[CG_CLASS_CACHE_WRITE_5M] < 0)
        r->npm[CG_CLASS_CACHE_WRITE_5M] = anthropic ? cg_money_muldiv(in, 125, 100) : in;
    if (r->npm[CG_CLASS_CACHE_WRITE_1H] < 0)
        r->npm[CG_CLASS_CACHE_WRITE_1H] =
            anthropic ? cg_money_muldiv(in, 2, 1) : r->npm[CG_CLASS_CACHE_WRITE_5M];
}

/* What is missing keeps the ratio to input that it has in `like`. */
static void complete_like(struct cg_rates *r, const struct cg_rates *like)
{
    for (int c = 0; c < CG_CLASS_COUNT; c++) {
        if (r->npm[c] < 0)
            r->npm[c] = like->npm[CG_CLASS_INPUT] > 0
                            ? cg_money_muldiv(like->npm[c], r->npm[CG_CLASS_INPUT],
                                              like->npm[CG_CLASS_INPUT])
                            : r->npm[CG_CLASS_INPUT];
    }
}

static bool rates_sane(const struct cg_rates *r)
{
    for (int c = 0; c < CG_CLASS_COUNT; c++) {
        if (r->npm[c] < 0 || r->npm[c] > absurd_npm)
            return false;
    }
    return true;
}

static bool name_sane(const char *s, size_t max)
{
    if (!s || !*s || strlen(s) >= max)
        return false;
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s > '~' || *s == '"' || *s == '\\')
            return false;
    }
    return true;
}

static bool complete(struct cg_price *p, struct cg_err *e)
{
    if (!name_sane(p->provider, CG_PROVIDER_MAX) || !name_sane(p->model, CG_MODEL_MAX))
        return cg_fail(e, CG_INVALID, "price row without a proper provider and model");
    struct cg_rates *std = &p->base[CG_TIER_STANDARD];
    if (std->npm[CG_CLASS_INPUT] < 0 || std->npm[CG_CLASS_OUTPUT] < 0)
        return cg_fail(e, CG_INVALID, "%s: prices of input and output are needed", p->model);
    complete_standard(std, cg_streq(p->provider, "anthropic"));
    p->has[CG_TIER_STANDARD] = true;
    bool fine = rates_sane(std) && p->from_ns < p->to_ns && p->context >= 0 && p->max_output >= 0 &&
                p->geo_permille >= 1000 && p->geo_permille <= 10000;
    for (int t = CG_TIER_STANDARD + 1; t < CG_TIER_COUNT; t++) {
        struct cg_rates *r = &p->base[t];
        p->has[t] = r->npm[CG_CLASS_INPUT] >= 0 && r->npm[CG_CLASS_OUTPUT] >= 0;
        if (!p->has[t])
            continue;
        complete_like(r, std);
        fine = fine && rates_sane(r);
    }
    for (size_t i = 0; i < p->bands_n; i++) {
        struct cg_band *b = &p->bands[i];
        if (b->rates.npm[CG_CLASS_INPUT] < 0 || b->rates.npm[CG_CLASS_OUTPUT] < 0)
            return cg_fail(e, CG_INVALID, "%s: a band without input and output", p->model);
        complete_like(&b->rates, std);
        fine = fine && rates_sane(&b->rates) && b->over_tokens > 0 &&
               (i == 0 || b->over_tokens > p->bands[i - 1].over_tokens);
    }
    return fine || cg_fail(e, CG_INVALID, "%s: a price, band or date is out of range", p->model);
}

bool cg_price_rows_add(struct cg_price_rows *rows, const struct cg_price *p, struct cg_err *e)
{
    struct cg_price row = *p;
    if (!complete(&row, e))
        return false;
    if (rows->n >= ROWS_MAX)
        return cg_fail(e, CG_TOO_LARGE, "more than %d prices", ROWS_MAX);
    if (rows->n == rows->cap) {
        rows->cap = rows->cap ? rows->cap * 2 : 64;
        rows->v = cg_realloc(rows->v, rows->cap * sizeof *rows->v);
    }
    row.provider = cg_strdup(p->provider);
    row.model = cg_strdup(p->model);
    row.source = cg_strdup(p->source ? p->source : "");
    rows->v[rows->n++] = row;
    return true;
}

/* ---- our own JSON ---- */

yyjson_doc *cg_price_json(struct cg_slice text, struct cg_err *e)
{
    if (text.n > PRICES_TEXT_MAX) {
        cg_fail(e, CG_TOO_LARGE, "prices of %zu bytes; at most %d", text.n, PRICES_TEXT_MAX);
        return NULL;
    }
    yyjson_read_err why;
    CG_OWN(cg_drop_free) char *copy = cg_slice_dup(text);
    yyjson_doc *doc = yyjson_read_opts(copy, text.n, YYJSON_READ_NUMBER_AS_RAW, NULL, &why);
    if (!doc)
        cg_fail(e, CG_INVALID, "prices: %s at byte %zu", why.msg, why.pos);
    return doc;
}

void cg_drop_yydoc(yyjson_doc **doc)
{
    yyjson_doc_free(*doc);
    *doc = NULL;
}

bool cg_price_number(yyjson_val *obj, const char *key, int scale, int64_t *out, struct cg_err *e)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    *out = -1;
    if (!v || yyjson_is_null(v))
        return true;
    if (!yyjson_is_raw(v))
        return cg_fail(e, CG_INVALID, "%s is not a number", key);
    struct cg_slice text = {yyjson_get_raw(v), yyjson_get_len(v)};
    return cg_money_parse_scaled(text, scale, out, e) || cg_wrap(e, "%s", key);
}

static bool read_rates(yyjson_val *obj, struct cg_rates *r, struct cg_err *e)
{
    cg_rates_blank(r);
    for (int c = 0; c < CG_CLASS_COUNT; c++) {
        if (!cg_price_number(obj, cg_class_names[c], 9, &r->npm[c], e))
            return false;
    }
    return true;
}

bool cg_price_date(const char *s, int64_t *wall_ns)
{
    struct tm tm = {0};
    const char *end = strptime(s, "%Y-%m-%d", &tm);
    if (end && *end == 'T')
        end = strptime(end, "T%H:%M:%SZ", &tm);
    if (!end || *end || tm.tm_year < 70 || tm.tm_year > 300)
        return false;
    *wall_ns = (int64_t)timegm(&tm) * 1000000000;
    return true;
}

static bool read_time(yyjson_val *obj, const char *key, int64_t *out, struct cg_err *e)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    if (!v || yyjson_is_null(v))
        return true;
    const char *s = yyjson_get_str(v);
    return (s && cg_price_date(s, out)) ||
           cg_fail(e, CG_INVALID, "%s is no date such as 2026-10-07", key);
}

static bool read_bands(yyjson_val *obj, const char *key, struct cg_price *p, struct cg_err *e)
{
    yyjson_val *band;
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(obj, key), i, n, band)
    {
        if (p->bands_n == CG_BANDS_MAX)
            return cg_fail(e, CG_TOO_LARGE, "more than %d bands", CG_BANDS_MAX);
        struct cg_band *b = &p->bands[p->bands_n++];
        if (!cg_price_number(band, "over_input_tokens", 0, &b->over_tokens, e) ||
            !read_rates(band, &b->rates, e))
            return false;
    }
    return true;
}

static bool read_row(yyjson_val *obj, struct cg_price *p, struct cg_err *e)
{
    p->provider = yyjson_get_str(yyjson_obj_get(obj, "provider"));
    p->model = yyjson_get_str(yyjson_obj_get(obj, "model"));
    p->source = yyjson_get_str(yyjson_obj_get(obj, "source"));
    if (!read_rates(obj, &p->base[CG_TIER_STANDARD], e))
        return false;
    for (int t = CG_TIER_STANDARD + 1; t < CG_TIER_COUNT; t++) {
        yyjson_val *tier = yyjson_obj_get(obj, cg_tier_names[t]);
        if (tier && !read_rates(tier, &p->base[t], e))
            return cg_wrap(e, "%s", cg_tier_names[t]);
    }
    int64_t geo = -1;
    bool fine = read_bands(obj, "tiers", p, e) &&
                (p->bands_n > 0 || read_bands(obj, "tiers_litellm_only", p, e)) &&
                cg_price_number(obj, "context", 0, &p->context, e) &&
                cg_price_number(obj, "max_output", 0, &p->max_output, e) &&
                cg_price_number(obj, "geo_multiplier", 3, &geo, e) &&
                read_time(obj, "from", &p->from_ns, e) && read_time(obj, "to", &p->to_ns, e);
    p->context = CG_MAX(p->context, 0);
    p->max_output = CG_MAX(p->max_output, 0);
    if (geo >= 0)
        p->geo_permille = geo;
    return fine;
}

bool cg_price_rows_read(struct cg_price_rows *rows, yyjson_val *root, bool override,
                        struct cg_err *e)
{
    yyjson_val *models = yyjson_obj_get(root, "models"), *obj;
    yyjson_val *geos = yyjson_obj_get(root, "geo_multipliers");
    size_t i, n;
    if (!yyjson_is_arr(models))
        return cg_fail(e, CG_INVALID, "prices: no list named models");
    yyjson_arr_foreach(models, i, n, obj)
    {
        struct cg_price p;
        cg_price_blank(&p);
        p.override = override;
        const char *provider = yyjson_get_str(yyjson_obj_get(obj, "provider"));
        int64_t geo = -1;
        if (provider && !cg_price_number(geos, provider, 3, &geo, e))
            return false;
        if (geo >= 0)
            p.geo_permille = geo;
        if (!read_row(obj, &p, e) || !cg_price_rows_add(rows, &p, e))
            return cg_wrap(e, "row %zu (%s)", i + 1, p.model ? p.model : "?");
    }
    return true;
}
