/* What a sandbox is told about the LLM gateway: the operator's providers go into its config.json,
 * their keys into the start request only, the gateway's address and the run token into the guest's
 * environment, where coding agents look for them. Nothing there opens a provider's door. */
#include "core/providers.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "core/models.h"

/* Known to everybody; an operator's entry of the same name comes before. */
static const struct {
    const char *name, *url;
} known[] = {{"anthropic", "https://api.anthropic.com"},
             {"openai", "https://api.openai.com"},
             {"google", "https://generativelanguage.googleapis.com"},
             {"openrouter", "https://openrouter.ai/api"}};

/* The operator's, those that are known, and the script: what a warden is told it has room for. */
_Static_assert(CG_PROVIDERS_OWN + CG_COUNT(known) + 1 <= CG_GATEWAY_PROVIDERS,
               "a warden takes all providers");

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

bool cg_providers_has(const struct cg_core *c, const char *name)
{
    for (size_t i = 0; i < CG_COUNT(known); i++)
        if (cg_streq(known[i].name, name))
            return true;
    for (size_t i = 0; i < c->options.nproviders; i++)
        if (cg_streq(c->options.providers[i].name, name))
            return true;
    return false;
}

static void write_provider(const struct cg_core *c, struct cg_jsonw *w,
                           const struct cg_gateway_provider *p)
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
    cg_models_write_hosts(c, p, w);
    cg_jsonw_obj_end(w);
}

static void write_machine(const struct cg_compute_prices *p, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "machine");
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "vcpu_hour", p->vcpu_hour);
    cg_jsonw_kint(w, "gib_hour", p->gib_hour);
    cg_jsonw_kint(w, "disk_gib_hour", p->disk_gib_hour);
    cg_jsonw_kint(w, "egress_gb", p->egress_gb);
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
    if (sb->spec.budget_tokens > 0)
        cg_jsonw_kint(w, "budget_tokens", sb->spec.budget_tokens);
    cg_jsonw_kbool(w, "leased", sb->leased);
    cg_jsonw_kbool(w, "pause", sb->spec.budget_pause);
    cg_jsonw_kbool(w, "intercept", !o->llm_no_intercept);
    write_machine(&o->machine, w);
    cg_jsonw_key(w, "providers");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < o->nproviders; i++)
        write_provider(sb->core, w, &o->providers[i]);
    for (size_t k = 0; k < CG_COUNT(known); k++) {
        struct cg_gateway_provider p = {.old_chat = false};
        bool listed = false;
        for (size_t i = 0; i < o->nproviders; i++)
            listed |= cg_streq(o->providers[i].name, known[k].name);
        cg_strlcpy(p.name, sizeof p.name, known[k].name);
        cg_strlcpy(p.base_url, sizeof p.base_url, known[k].url);
        if (!listed)
            write_provider(sb->core, w, &p);
    }
    struct cg_gateway_provider own = {.name = CG_SCRIPTED};
    if (sb->core->scripted_url &&
        cg_strlcpy(own.base_url, sizeof own.base_url, sb->core->scripted_url))
        write_provider(sb->core, w, &own);
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
