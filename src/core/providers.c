/* What a sandbox is told about the LLM gateway: the operator's providers go into its config.json,
 * their keys into the start request only, the gateway's address and the run token into the guest's
 * environment, where coding agents look for them. Nothing there opens a provider's door. */
#include "core/providers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

enum { BOOK_MAX = 8 << 20 };

/* Known to everybody; an operator's entry of the same name comes before. */
static const struct {
    const char *name, *url;
} known[] = {{"anthropic", "https://api.anthropic.com"},
             {"openai", "https://api.openai.com"},
             {"google", "https://generativelanguage.googleapis.com"},
             {"openrouter", "https://openrouter.ai/api"}};

void cg_providers_scripted(struct cg_core *c, uint16_t port)
{
    const char *host = c->options.listen_host;
    bool any = cg_streq(host, "0.0.0.0") || cg_streq(host, "::");
    bool six = !any && strchr(host, ':') != NULL;
    cg_id_make("scr", c->scripted_key);
    free(c->scripted_url);
    c->scripted_url = cg_format("http://%s%s%s:%u/scripted", six ? "[" : "",
                                any ? "127.0.0.1" : host, six ? "]" : "", port);
}

static void write_provider(struct cg_jsonw *w, const struct cg_gateway_provider *p)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "name", p->name);
    cg_jsonw_kstr(w, "base_url", p->base_url);
    cg_jsonw_kbool(w, "old_chat", p->old_chat);
    cg_jsonw_key(w, "headers");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < CG_GATEWAY_HEADERS && p->headers[i][0]; i++)
        cg_jsonw_str(w, p->headers[i]);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

void cg_providers_write(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    const struct cg_options *o = &sb->core->options;
    cg_jsonw_key(w, "gateway");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "token", sb->run_token);
    cg_jsonw_kstr(w, "mode", o->llm_strict ? "strict" : "flow");
    cg_jsonw_kbool(w, "bodies", !o->llm_no_bodies);
    if (sb->spec.has_budget)
        cg_jsonw_kint(w, "budget_nusd", sb->spec.budget_nusd);
    cg_jsonw_key(w, "providers");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < o->nproviders; i++)
        write_provider(w, &o->providers[i]);
    for (size_t k = 0; k < CG_COUNT(known); k++) {
        struct cg_gateway_provider p = {.old_chat = false};
        bool listed = false;
        for (size_t i = 0; i < o->nproviders; i++)
            listed |= cg_streq(o->providers[i].name, known[k].name);
        cg_strlcpy(p.name, sizeof p.name, known[k].name);
        cg_strlcpy(p.base_url, sizeof p.base_url, known[k].url);
        if (!listed)
            write_provider(w, &p);
    }
    struct cg_gateway_provider own = {.name = CG_SCRIPTED};
    if (sb->core->scripted_url &&
        cg_strlcpy(own.base_url, sizeof own.base_url, sb->core->scripted_url))
        write_provider(w, &own);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

void cg_providers_write_keys(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    const struct cg_options *o = &sb->core->options;
    cg_jsonw_key(w, "keys");
    cg_jsonw_obj(w);
    for (size_t i = 0; i < o->nproviders; i++)
        if (o->providers[i].key[0])
            cg_jsonw_kstr(w, o->providers[i].name, o->providers[i].key);
    if (sb->core->scripted_url)
        cg_jsonw_kstr(w, CG_SCRIPTED, sb->core->scripted_key);
    cg_jsonw_obj_end(w);
}

static void put(struct cg_jsonw *w, const struct cg_json *asked, const char *name,
                const char *value)
{
    if (!cg_json_get(asked, name))
        cg_jsonw_kstr(w, name, value);
}

void cg_providers_env(const struct cg_sandbox *sb, const struct cg_json *asked, struct cg_jsonw *w)
{
    char base[128];
    char v1[140];
    cg_snprintf(base, sizeof base, "http://" CG_GATEWAY_HOST "/%s", sb->run_token);
    cg_snprintf(v1, sizeof v1, "%s/v1", base);
    put(w, asked, "CAGED_GATEWAY", base);
    put(w, asked, "ANTHROPIC_BASE_URL", base);
    put(w, asked, "ANTHROPIC_API_KEY", sb->run_token);
    put(w, asked, "OPENAI_BASE_URL", v1);
    put(w, asked, "OPENAI_API_KEY", sb->run_token);
    put(w, asked, "GOOGLE_GEMINI_BASE_URL", base);
    put(w, asked, "GEMINI_API_KEY", sb->run_token);
}

bool cg_providers_place_prices(const struct cg_sandbox *sb, const char *dir, struct cg_err *e)
{
    const struct cg_core *c = sb->core;
    CG_OWN(cg_drop_free)
    char *from = c->options.prices_file
                     ? cg_strdup(c->options.prices_file)
                     : cg_format("%s/../../share/caged/data/prices.json", c->libexec_dir);
    CG_OWN(cg_drop_free) char *own = cg_format("%s/prices.json", c->options.state_dir);
    CG_OWN(cg_drop_free) char *to = cg_format("%s/prices.json", dir);
    CG_OWN(cg_drop_free) char *to_own = cg_format("%s/prices.own.json", dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    CG_OWN(cg_drop_free) char *mine = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(from, BOOK_MAX, &text, &n, e) || !cg_fs_replace(to, text, n, 0644, e))
        return cg_wrap(e, "the price book");
    return !cg_fs_exists(own) ||
           (cg_fs_slurp(own, BOOK_MAX, &mine, &n, e) && cg_fs_replace(to_own, mine, n, 0644, e));
}

/* --- the operator's file --- */

bool cg_provider_set(struct cg_gateway_provider *p, const char *key, const char *value,
                     struct cg_err *e)
{
    if (strpbrk(value, "\r\n"))
        return cg_fail(e, CG_INVALID, "providers.%s.%s must be one line", p->name, key);
    if (cg_streq(key, "base_url")) {
        bool http = cg_has_prefix(value, "https://") || cg_has_prefix(value, "http://");
        if (!http || !cg_strlcpy(p->base_url, sizeof p->base_url, value))
            return cg_fail(e, CG_INVALID, "providers.%s.base_url must be a URL", p->name);
        size_t n = strlen(p->base_url);
        if (p->base_url[n - 1] == '/')
            p->base_url[n - 1] = '\0';
        return true;
    }
    if (cg_streq(key, "key_env")) {
        const char *secret = getenv(value);
        return !secret || cg_strlcpy(p->key, sizeof p->key, secret) ||
               cg_fail(e, CG_INVALID, "%s is too long for a key", value);
    }
    if (cg_streq(key, "key_file")) {
        CG_OWN(cg_drop_free) char *text = NULL;
        size_t n = 0;
        if (!cg_fs_slurp(value, sizeof p->key - 1, &text, &n, e))
            return false;
        text[strcspn(text, "\r\n")] = '\0';
        return cg_strlcpy(p->key, sizeof p->key, text);
    }
    if (cg_streq(key, "old_chat")) {
        p->old_chat = cg_streq(value, "true");
        return true;
    }
    for (size_t i = 0; cg_streq(key, "header") && i < CG_GATEWAY_HEADERS; i++)
        if (!p->headers[i][0] && strchr(value, ':'))
            return cg_strlcpy(p->headers[i], CG_GATEWAY_URL, value) ||
                   cg_fail(e, CG_INVALID, "providers.%s.header is too long", p->name);
    return cg_fail(e, CG_INVALID,
                   "providers.%s.%.40s: known are base_url, key_env, key_file, header (\"Name: "
                   "value\"), old_chat",
                   p->name, key);
}
