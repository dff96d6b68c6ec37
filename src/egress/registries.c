#include "egress/registries.h"

#include <stdlib.h>
#include <string.h>

#include "egress/policy.h"

/* What npm and pip do where nothing is configured stands in their own files. */
#define NPM_DEFAULTS "/node_modules/@npmcli/config/lib/definitions/definitions.js"
#define NPM_DEFAULTS_DEBIAN "/config/lib/definitions/definitions.js"
#define PIP_DEFAULTS "/_internal/models/index.py"

/* --- URLs --- */

static void add_rule(const char *rule, struct cg_buf *out)
{
    unsigned n = 0;
    for (size_t at = 0; at < out->n; at += strlen(out->p + at) + 1, n++)
        if (strcmp(out->p + at, rule) == 0)
            return;
    if (n < CG_REGISTRIES_HOSTS)
        cg_buf_add(out, rule, strlen(rule) + 1);
}

/* What stands behind "://": "user:password@host:port/path". */
static void add_url(const char *rest, bool tls, struct cg_buf *out)
{
    char authority[300];
    char name[CG_EGRESS_NAME];
    char rule[CG_EGRESS_PATTERN_TEXT];
    char form[CG_EGRESS_PATTERN_TEXT];
    struct cg_egress_pattern pattern;
    size_t n = strcspn(rest, "/ \t\r\n\"',;|]?#");
    if (n >= sizeof authority)
        return;
    memcpy(authority, rest, n);
    authority[n] = '\0';
    char *host = strrchr(authority, '@');
    host = host ? host + 1 : authority;
    char *port = strchr(host, ':');
    if (port)
        *port++ = '\0';
    if (!cg_egress_name_parse(host, name) || (port && port[strspn(port, "0123456789")]))
        return;
    cg_snprintf(rule, sizeof rule, "%s:%s", name, port ? port : tls ? "443" : "80");
    if (!cg_egress_pattern_parse(rule, &pattern, NULL) || !(pattern.port || pattern.net.port))
        return;
    cg_egress_pattern_format(&pattern, form);
    add_rule(form, out);
}

void cg_registries_scan(const char *text, const char *word, struct cg_buf *out)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(text);
    char *save = NULL;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        line += strspn(line, " \t");
        if (strchr("#;", line[0]) || !strstr(line, word))
            continue;
        for (const char *p = line; (p = strstr(p, "://")) != NULL; p += 3) {
            bool tls = p - line >= 5 && strncmp(p - 5, "https", 5) == 0;
            bool plain = !tls && p - line >= 4 && strncmp(p - 4, "http", 4) == 0;
            if (tls || plain)
                add_url(p + 3, tls, out);
        }
    }
}

/* --- where they stand --- */

const struct cg_registries_source cg_registries_sources[CG_REGISTRIES_SOURCES] = {
    {"npm", "/etc/npmrc", "registry", false},
    {"npm", "/usr/etc/npmrc", "registry", false},
    {"npm", "/usr/local/etc/npmrc", "registry", false},
    {"npm", "~/.npmrc", "registry", false},
    {"npm", "/usr/lib/node_modules/npm" NPM_DEFAULTS, "default: 'http", true},
    {"npm", "/usr/local/lib/node_modules/npm" NPM_DEFAULTS, "default: 'http", true},
    {"npm", "/usr/share/nodejs/@npmcli" NPM_DEFAULTS_DEBIAN, "default: 'http", true},
    {"pip", "/etc/pip.conf", "index-url", false},
    {"pip", "~/.pip/pip.conf", "index-url", false},
    {"pip", "~/.config/pip/pip.conf", "index-url", false},
    {"pip", "/usr/lib/python3/dist-packages/pip" PIP_DEFAULTS, "PyPI = PackageIndex(\"", true},
    {"pip", "/usr/local/lib/python3*/site-packages/pip" PIP_DEFAULTS, "PyPI = PackageIndex(\"",
     true},
    {"apt", "/etc/apt/sources.list", "", false},
    {"apt", "/etc/apt/sources.list.d/*.list", "", false},
    {"apt", "/etc/apt/sources.list.d/*.sources", "URIs", false},
    {"go", "~/.config/go/env", "GOPROXY", false},
    {"go", "/usr/local/go/go.env", "GOPROXY", true},
    {"go", "/usr/lib/go-*/go.env", "GOPROXY", true},
    {"go", "/usr/share/go-*/go.env", "GOPROXY", true},
    {"cargo", "~/.cargo/config.toml", "", false},
    {"cargo", "~/.cargo/config", "", false},
    {"cargo", "/usr/local/cargo/config.toml", "", false},
};

const struct cg_registries_variable cg_registries_variables[CG_REGISTRIES_VARIABLES] = {
    {"npm", "npm_config_registry"},
    {"npm", "NPM_CONFIG_REGISTRY"},
    {"pip", "PIP_INDEX_URL"},
    {"pip", "PIP_EXTRA_INDEX_URL"},
    {"go", "GOPROXY"},
};

const char *const cg_registries_managers[CG_REGISTRIES_MANAGERS] = {"npm", "pip", "apt", "go",
                                                                    "cargo"};
