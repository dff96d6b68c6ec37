#include "core/models.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/providers.h"

enum { LIST_MAX = 64 * 1024 };

void cg_models_start(struct cg_core *c)
{
    CG_OWN(cg_drop_free)
    char *path = cg_format("%s/../../share/caged/data/model-hosts.txt", c->libexec_dir);
    struct cg_err e = CG_ERR_INIT;
    if (!cg_fs_slurp(path, LIST_MAX, &c->model_hosts, NULL, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("models.no_list"), CG_E(&e));
}

void cg_models_finish(struct cg_core *c)
{
    free(c->model_hosts);
    c->model_hosts = NULL;
}

/* The next line that names a host; false at the end. */
static bool next_line(const char **at, char host[CG_EGRESS_PATTERN_TEXT],
                      char provider[CG_PROVIDER_MAX])
{
    while (*at && **at) {
        const char *line = *at;
        size_t n = strcspn(line, "\n");
        size_t name = strcspn(line, " \n");
        *at = line + n + (line[n] == '\n');
        if (line[0] == '#' || name == 0 || name >= CG_EGRESS_PATTERN_TEXT)
            continue;
        cg_snprintf(host, CG_EGRESS_PATTERN_TEXT, "%.*s", (int)name, line);
        size_t skip = CG_MIN(name + 1, n);
        cg_snprintf(provider, CG_PROVIDER_MAX, "%.*s",
                    (int)CG_MIN(n - skip, (size_t)CG_PROVIDER_MAX - 1), line + skip);
        return true;
    }
    return false;
}

/* "https://api.example/v1": the host, when it is a name that a guest could look up. */
static bool host_of(const char *url, char out[CG_EGRESS_NAME])
{
    char text[CG_GATEWAY_URL];
    uint32_t address;
    const char *p = strstr(url, "://");
    if (!p || strcspn(p + 3, ":/") >= sizeof text)
        return false;
    cg_snprintf(text, sizeof text, "%.*s", (int)strcspn(p + 3, ":/"), p + 3);
    return !cg_egress_address_parse(text, &address) && strchr(text, '.') &&
           cg_egress_name_parse(text, out) && strlen(out) < CG_GATEWAY_HOST_MAX;
}

void cg_models_write_hosts(const struct cg_core *c, const struct cg_gateway_provider *p,
                           struct cg_jsonw *w)
{
    char host[CG_EGRESS_PATTERN_TEXT];
    char provider[CG_PROVIDER_MAX];
    char own[CG_EGRESS_NAME];
    bool has_own = host_of(p->base_url, own);
    size_t n = 0;
    cg_jsonw_key(w, "hosts");
    cg_jsonw_arr(w);
    if (has_own && ++n)
        cg_jsonw_str(w, own);
    for (const char *at = c->model_hosts; next_line(&at, host, provider);) {
        if (!cg_streq(provider, p->name) || host[0] == '*' || n == CG_GATEWAY_HOSTS ||
            (has_own && cg_streq(host, own)))
            continue;
        cg_jsonw_str(w, host);
        n++;
    }
    cg_jsonw_arr_end(w);
}

void cg_models_write_refused(const struct cg_core *c, struct cg_jsonw *w)
{
    const struct cg_options *o = &c->options;
    char host[CG_EGRESS_PATTERN_TEXT];
    char provider[CG_PROVIDER_MAX];
    unsigned n = 0;
    cg_jsonw_key(w, "models");
    cg_jsonw_arr(w);
    for (const char *at = o->llm_unrouted ? NULL : c->model_hosts;
         n < CG_EGRESS_MODELS && next_line(&at, host, provider);) {
        bool served = !o->llm_no_intercept && host[0] != '*' && cg_providers_has(c, provider);
        if (served)
            continue;
        cg_jsonw_str(w, host);
        n++;
    }
    cg_jsonw_arr_end(w);
}
