/* YAML events by libyaml's document, bounded in size; anchors and aliases are refused, so that no
 * small file can become a large one. One table of keys drives parsing, suggestions and refusals. */
#include "config/project.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/fs.h"
#include "base/money.h"

struct reader {
    yaml_document_t doc;
    const char *name;
    struct cg_project *p;
    struct cg_err *e;
};

static bool bad(struct reader *r, const yaml_node_t *at, const char *key, const char *fmt, ...)
    CG_PRINTF(4, 5);

static bool bad(struct reader *r, const yaml_node_t *at, const char *key, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return cg_fail(r->e, CG_INVALID, "%s:%zu:%zu: %s%s%s", r->name, at->start_mark.line + 1,
                   at->start_mark.column + 1, key, key[0] ? ": " : "", text);
}

static const char *scalar(const yaml_node_t *n)
{
    if (n->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)n->data.scalar.value;
    return strlen(text) == n->data.scalar.length ? text : NULL;
}

static bool is_null(const yaml_node_t *n)
{
    const char *s = scalar(n);
    return s && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!s[0] || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
}

static bool read_text(struct reader *r, const char *key, const yaml_node_t *n, char **out)
{
    const char *s = scalar(n);
    if (!s)
        return bad(r, n, key, "must be a text");
    free(*out);
    *out = cg_strdup(s);
    return true;
}

static bool read_number(struct reader *r, const char *key, const yaml_node_t *n, int max, int *out)
{
    const char *s = scalar(n);
    char *end = NULL;
    long v = s ? strtol(s, &end, 10) : -1;
    if (!s || !s[0] || *end || v < 0 || v > max)
        return bad(r, n, key, "must be 0-%d", max);
    *out = (int)v;
    return true;
}

/* "1024", "1024MB", "2GB", "2G": megabytes. */
static bool read_memory(struct reader *r, const char *key, const yaml_node_t *n)
{
    const char *s = scalar(n);
    char *end = NULL;
    long v = s ? strtol(s, &end, 10) : -1;
    if (s && end != s && (cg_streq(end, "GB") || cg_streq(end, "G") || cg_streq(end, "Gi")))
        v *= 1024;
    else if (!s || !s[0] ||
             (*end && !cg_streq(end, "MB") && !cg_streq(end, "M") && !cg_streq(end, "Mi")))
        v = -1;
    if (v < 0 || v > 8192)
        return bad(r, n, key, "must be 0-8192");
    r->p->memory_mb = (int)v;
    return true;
}

static bool read_disk(struct reader *r, const char *key, const yaml_node_t *n)
{
    const char *s = scalar(n);
    char *end = NULL;
    long v = s ? strtol(s, &end, 10) : -1;
    if (!s || !s[0] ||
        (*end && !cg_streq(end, "GB") && !cg_streq(end, "G") && !cg_streq(end, "Gi")) || v < 0 ||
        v > 50)
        return bad(r, n, key, "must be 0-50");
    r->p->disk_gb = (int)v;
    return true;
}

/* ${VAR} out of this process's environment, unset is empty; $$ is one dollar. */
static char *expand(const char *s)
{
    struct cg_buf b;
    cg_buf_init(&b, CG_PROJECT_MAX);
    while (*s) {
        const char *close = s[0] == '$' && s[1] == '{' ? strchr(s, '}') : NULL;
        if (s[0] == '$' && s[1] == '$') {
            cg_buf_addc(&b, '$');
            s += 2;
        } else if (close) {
            CG_OWN(cg_drop_free) char *name = cg_strndup(s + 2, (size_t)(close - s - 2));
            const char *value = getenv(name);
            cg_buf_adds(&b, value ? value : "");
            s = close + 1;
        } else {
            cg_buf_addc(&b, *s++);
        }
    }
    return cg_buf_take(&b);
}

bool cg_project_env(struct cg_project *p, const char *pair, struct cg_err *e)
{
    size_t n = strcspn(pair, "=");
    if (!pair[n] || n == 0 || strcspn(pair, " \t\r\n") < n)
        return cg_fail(e, CG_INVALID, "env: \"%.60s\" must be NAME=value, the name without space",
                       pair);
    for (unsigned i = 0; i < p->nenv; i++) {
        if (strncmp(p->env[i], pair, n + 1) == 0) {
            free(p->env[i]);
            p->env[i] = cg_strdup(pair);
            return true;
        }
    }
    if (p->nenv == CG_PROJECT_ENV)
        return cg_fail(e, CG_INVALID, "env: more than %d variables", (int)CG_PROJECT_ENV);
    p->env[p->nenv++] = cg_strdup(pair);
    return true;
}

static bool read_env(struct reader *r, const char *key, const yaml_node_t *n)
{
    if (n->type != YAML_MAPPING_NODE)
        return bad(r, n, key, "must map names to values");
    for (yaml_node_pair_t *i = n->data.mapping.pairs.start; i < n->data.mapping.pairs.top; i++) {
        yaml_node_t *k = yaml_document_get_node(&r->doc, i->key);
        yaml_node_t *v = yaml_document_get_node(&r->doc, i->value);
        if (!scalar(k) || !scalar(v) || !scalar(k)[0] || strpbrk(scalar(k), "= \t\r\n"))
            return bad(r, k, key, "a name without '=' or space, and a text, are needed");
        CG_OWN(cg_drop_free) char *value = expand(scalar(v));
        CG_OWN(cg_drop_free) char *pair = cg_format("%s=%s", scalar(k), value);
        if (!cg_project_env(r->p, pair, r->e))
            return false;
    }
    return true;
}

static bool read_map(struct reader *r, const char *prefix, const yaml_node_t *n);

static bool read_network(struct reader *r, const char *key, const yaml_node_t *n)
{
    const char *s = scalar(n);
    if (!s || (strcmp(s, "full") != 0 && strcmp(s, "none") != 0 && strcmp(s, "allowlist") != 0))
        return bad(r, n, key, "must be full, none or allowlist");
    return read_text(r, key, n, &r->p->network_mode);
}

static bool read_names(struct reader *r, const char *key, const yaml_node_t *n, char **out)
{
    /* a package's name may say a version */
    const char *never = strcmp(key, "packages") == 0 ? ", \t\r\n" : ", \t\r\n=";
    struct cg_buf b;
    if (n->type != YAML_SEQUENCE_NODE)
        return is_null(n) || bad(r, n, key, "must be a list of names");
    cg_buf_init(&b, CG_PROJECT_MAX);
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->doc, *i);
        const char *name = scalar(item);
        if (!name || !name[0] || strpbrk(name, never)) {
            cg_buf_finish(&b);
            return bad(r, item, key,
                       strcmp(key, "secrets") == 0
                           ? "must be a list of names of secrets (caged secrets list)"
                           : "must be a list of names");
        }
        cg_buf_addf(&b, "%s%s", b.n ? "," : "", name);
    }
    free(*out);
    *out = b.n > 0 ? cg_buf_take(&b) : NULL;
    return true;
}

static bool read_budget(struct reader *r, const char *key, const yaml_node_t *v)
{
    struct cg_project *p = r->p;
    const char *text = scalar(v);
    char *end = NULL;
    if (strcmp(key, "budget_action") == 0) {
        if (!cg_streq(text, "destroy") && !cg_streq(text, "pause"))
            return bad(r, v, key, "must be destroy or pause");
        return read_text(r, key, v, &p->budget_action);
    }
    errno = 0;
    p->budget_tokens = text ? strtoll(text, &end, 10) : 0;
    bool whole = text && text[0] && !*end && errno == 0 && p->budget_tokens >= 0 &&
                 p->budget_tokens <= CG_PROJECT_TOKENS_MAX;
    return whole || bad(r, v, key, "must be a number of tokens, 0-1000000000000");
}

static bool read_key(struct reader *r, const char *key, const yaml_node_t *k, const yaml_node_t *v)
{
    struct cg_project *p = r->p;
    const struct {
        const char *name;
        char **text;
    } texts[] = {{"template", &p->template_name},
                 {"init_script", &p->init_script},
                 {"repo.url", &p->repo_url},
                 {"repo.token", &p->repo_token},
                 {"repo.token_env", &p->repo_token_env},
                 {"repo.branch", &p->repo_branch},
                 {"repo.commit", &p->repo_commit},
                 {"repo.subdirectory", &p->repo_subdir}};
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        if (strcmp(key, texts[i].name) == 0)
            return read_text(r, key, v, texts[i].text);
    }
    if (strcmp(key, "cpus") == 0 || strcmp(key, "resources.cpu") == 0)
        return read_number(r, key, v, 8, &p->cpus);
    if (strcmp(key, "memory") == 0 || strcmp(key, "resources.memory") == 0)
        return read_memory(r, key, v);
    if (strcmp(key, "disk") == 0 || strcmp(key, "resources.disk") == 0)
        return read_disk(r, key, v);
    if (strcmp(key, "timeout") == 0) {
        p->timeout_given = true;
        return read_number(r, key, v, 2592000, &p->timeout_s);
    }
    if (strcmp(key, "budget") == 0) {
        struct cg_err why = CG_ERR_INIT;
        return is_null(v) ||
               (scalar(v) && cg_money_parse(cg_slice_of(scalar(v)), &p->budget_nusd, &why)) ||
               bad(r, v, key, "must be dollars, as in 5 or 0.50");
    }
    if (strncmp(key, "budget_", 7) == 0)
        return read_budget(r, key, v);
    if (strcmp(key, "network") == 0 && v->type == YAML_MAPPING_NODE)
        return read_map(r, key, v);
    if (strcmp(key, "allowed_hosts") == 0 || strcmp(key, "network.allow") == 0)
        return read_names(r, key, v, &p->allow);
    if (strcmp(key, "network.deny") == 0)
        return read_names(r, key, v, &p->deny);
    if (strcmp(key, "network_mode") == 0 || strcmp(key, "network") == 0 ||
        strcmp(key, "network.mode") == 0)
        return read_network(r, key, v);
    if (strcmp(key, "secrets") == 0)
        return read_names(r, key, v, &p->secrets);
    if (strcmp(key, "agents") == 0)
        return read_names(r, key, v, &p->agents);
    if (strcmp(key, "packages") == 0)
        return read_names(r, key, v, &p->packages);
    if (strcmp(key, "env") == 0)
        return read_env(r, key, v);
    if (strcmp(key, "repo") == 0 && v->type == YAML_SCALAR_NODE)
        return read_text(r, key, v, &p->repo_url);
    if (strcmp(key, "repo") == 0 || strcmp(key, "resources") == 0)
        return read_map(r, key, v);
    (void)k;
    return true;
}

static const char *const known[] = {
    "template",       "resources",      "cpus",          "memory",        "disk",
    "network",        "timeout",        "budget",        "budget_tokens", "budget_action",
    "repo",           "init_script",    "env",           "secrets",       "network_mode",
    "allowed_hosts",  "packages",       "agents",        "resources.cpu", "resources.memory",
    "resources.disk", "network.mode",   "network.allow", "network.deny",  "repo.url",
    "repo.token",     "repo.token_env", "repo.branch",   "repo.commit",   "repo.subdirectory",
};

/* How many characters two words share at the same places and in the same order, roughly. */
static int likeness(const char *a, const char *b)
{
    int same = 0;
    for (const char *p = a; *p; p++) {
        const char *hit = strchr(b, *p);
        if (hit) {
            same += 2;
            b = hit + 1;
        } else {
            same--;
        }
    }
    return same - (int)strlen(b);
}

static bool check_known(struct reader *r, const char *key, const yaml_node_t *k)
{
    const char *best = NULL;
    int most = 0;
    for (size_t i = 0; i < CG_COUNT(known); i++) {
        if (strcmp(known[i], key) == 0)
            return true;
        int score = likeness(key, known[i]);
        if (score > most) {
            most = score;
            best = known[i];
        }
    }
    return bad(r, k, key, "unknown key%s%s%s", best ? ", did you mean " : "", best ? best : "",
               best ? "?" : "");
}

static bool read_map(struct reader *r, const char *prefix, const yaml_node_t *n)
{
    if (n->type != YAML_MAPPING_NODE)
        return bad(r, n, prefix, "must be a map of keys");
    for (yaml_node_pair_t *i = n->data.mapping.pairs.start; i < n->data.mapping.pairs.top; i++) {
        yaml_node_t *k = yaml_document_get_node(&r->doc, i->key);
        yaml_node_t *v = yaml_document_get_node(&r->doc, i->value);
        const char *name = scalar(k);
        if (!name)
            return bad(r, k, prefix, "a key must be a text");
        CG_OWN(cg_drop_free) char *key = cg_format("%s%s%s", prefix, prefix[0] ? "." : "", name);
        for (yaml_node_pair_t *j = n->data.mapping.pairs.start; j < i; j++) {
            const char *other = scalar(yaml_document_get_node(&r->doc, j->key));
            if (cg_streq(other, name))
                return bad(r, k, key, "stands twice");
        }
        if (!check_known(r, key, k))
            return false;
        if (!is_null(v) && !read_key(r, key, k, v))
            return false;
    }
    return true;
}

/* Aliases make one node stand in many places: a bomb needs them, a project file does not. */
static bool refuse_aliases(const char *name, struct cg_slice text, struct cg_err *e)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool ok = true;
    bool over = false;
    unsigned count = 0;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    while (ok && !over) {
        if (!yaml_parser_parse(&parser, &event)) {
            ok = cg_fail(e, CG_INVALID, "%s:%zu:%zu: %s", name, parser.problem_mark.line + 1,
                         parser.problem_mark.column + 1,
                         parser.problem ? parser.problem : "not YAML");
            break;
        }
        size_t line = event.start_mark.line + 1;
        over = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_ALIAS_EVENT)
            ok = cg_fail(e, CG_INVALID, "%s:%zu: aliases (*name) are refused", name, line);
        else if (++count > 20000)
            ok = cg_fail(e, CG_INVALID, "%s: too many values", name);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return ok;
}

bool cg_project_parse(const char *name, struct cg_slice text, struct cg_project *out,
                      struct cg_err *e)
{
    *out = (struct cg_project){0};
    if (text.n > CG_PROJECT_MAX)
        return cg_fail(e, CG_TOO_LARGE, "%s is larger than %d bytes", name, (int)CG_PROJECT_MAX);
    if (!refuse_aliases(name, text, e))
        return false;
    struct reader r = {.name = name, .p = out, .e = e};
    yaml_parser_t parser;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    bool ok = yaml_parser_load(&parser, &r.doc) != 0;
    if (!ok)
        cg_fail(e, CG_INVALID, "%s:%zu: %s", name, parser.problem_mark.line + 1,
                parser.problem ? parser.problem : "not YAML");
    if (ok) {
        yaml_node_t *root = yaml_document_get_root_node(&r.doc);
        ok = !root || read_map(&r, "", root);
        yaml_document_delete(&r.doc);
    }
    yaml_parser_delete(&parser);
    out->raw = cg_slice_dup(text);
    if (!ok)
        cg_project_finish(out);
    return ok;
}

bool cg_project_read(const char *path, struct cg_project *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    *out = (struct cg_project){0};
    return cg_fs_slurp(path, CG_PROJECT_MAX, &text, &n, e) &&
           cg_project_parse(path, (struct cg_slice){text, n}, out, e);
}

void cg_project_finish(struct cg_project *p)
{
    char **const texts[] = {
        &p->template_name, &p->network_mode, &p->allow,          &p->deny,
        &p->repo_url,      &p->repo_token,   &p->repo_token_env, &p->repo_branch,
        &p->repo_commit,   &p->repo_subdir,  &p->init_script,    &p->raw,
        &p->secrets,       &p->agents,       &p->packages,       &p->budget_action};
    for (size_t i = 0; i < CG_COUNT(texts); i++)
        free(*texts[i]);
    for (unsigned i = 0; i < p->nenv; i++)
        free(p->env[i]);
    *p = (struct cg_project){0};
}
