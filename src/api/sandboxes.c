/* Sandboxes: create, list, get, destroy, init, status; ports and metrics out of the warden's
 * status. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/money.h"
#include "core/network.h"
#include "core/providers.h"
#include "core/secrets.h"
#include "core/snapshots.h"

void api_sandboxes(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    bool all = false;
    if (!op_query_bool(op, "all", &all, &e)) {
        op_fail(op, &e);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (struct cg_sandbox *sb = op->api->core->first; sb; sb = sb->next) {
        if (op_sees(op, sb) && (all || sb->status != CG_STATUS_DESTROYED))
            cg_sandbox_write(sb, w);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

void api_sandbox(struct op *op)
{
    cg_sandbox_write(op->sb, op_json(op));
    op_send_json(op, 200);
}

/* --- create --- */

/* Fields whose part of the product is not built: refused when set, never ignored. */
static bool refuse_unbuilt(struct op *op, const struct cg_json *b)
{
    static const char *const unbuilt[] = {"persona_id", "harness_id"};
    for (size_t i = 0; i < CG_COUNT(unbuilt); i++) {
        const struct cg_json *v = cg_json_get(b, unbuilt[i]);
        bool empty = !v || v->type == CG_JSON_NULL || (v->type == CG_JSON_ARR && v->count == 0) ||
                     (v->type == CG_JSON_INT && v->integer == 0) ||
                     (v->type == CG_JSON_STR && v->str.n == 0);
        if (empty)
            continue;
        op_problem(op, 501, "not_available_yet",
                   "%s is not built yet in this version: leave it out", unbuilt[i]);
        return false;
    }
    return true;
}

/* Members that a create request may have. One that is left over by a misspelling, or by another
 * version, would else be a limit that nobody keeps. */
static const char *const known[] = {
    "template",   "cpus",        "memory_mb",     "disk_gb",       "timeout",     "network_mode",
    "network",    "allowlist",   "denylist",      "env",           "name",        "repo",
    "repo_token", "repo_branch", "repo_commit",   "repo_subdir",   "init_script", "defer_init",
    "budget",     "budget_usd",  "budget_tokens", "budget_action", "secrets",     "agents",
    "packages",   "snapshot_id", "from_snapshot", "config",        "team",        "persona_id",
    "harness_id"};

static bool is_known(struct cg_slice name)
{
    for (size_t i = 0; i < CG_COUNT(known); i++)
        if (cg_slice_eq(name, known[i]))
            return true;
    return false;
}

/* The known name with the longest common begin, or NULL when that is no hint. */
static const char *like(struct cg_slice name)
{
    const char *best = NULL;
    size_t most = 2;
    for (size_t i = 0; i < CG_COUNT(known); i++) {
        size_t n = 0;
        while (n < name.n && known[i][n] && name.p[n] == known[i][n])
            n++;
        if (n > most) {
            most = n;
            best = known[i];
        }
    }
    return best;
}

static bool known_only(const struct cg_json *b, struct cg_err *e)
{
    for (const struct cg_json *m = b->child; m; m = m->next) {
        if (m->type == CG_JSON_NULL || is_known(m->key))
            continue;
        const char *hint = like(m->key);
        return cg_fail(e, CG_INVALID, "unknown member \"%.*s\"%s%s%s", (int)CG_MIN(m->key.n, 64),
                       m->key.p, hint ? ": did you mean " : "", hint ? hint : "", hint ? "?" : "");
    }
    return true;
}

/* https://user:token@host/… in parts: the credentials go the way of repo_token, not into argv. */
static void split_credentials(struct cg_spec *s, char **token)
{
    char *at_host = s->repo_url ? strstr(s->repo_url, "://") : NULL;
    if (!at_host || !cg_has_prefix(s->repo_url, "http"))
        return;
    at_host += 3;
    char *end = at_host + strcspn(at_host, "/?#");
    char *at = memrchr(at_host, '@', (size_t)(end - at_host));
    if (!at)
        return;
    char *colon = memchr(at_host, ':', (size_t)(at - at_host));
    if (!*token)
        *token = colon ? cg_strndup(colon + 1, (size_t)(at - colon - 1))
                       : cg_strndup(at_host, (size_t)(at - at_host));
    if (colon && colon > at_host)
        s->repo_user = cg_strndup(at_host, (size_t)(colon - at_host));
    memmove(at_host, at + 1, strlen(at + 1) + 1);
}

/* What the client says its wishes came from: {"source": "yaml"|"flags"|"merged", "raw": "…"}. */
static bool read_config(const struct cg_json *b, struct cg_spec *s, struct cg_err *e)
{
    const struct cg_json *config = cg_json_get(b, "config");
    const char *source = NULL, *raw = NULL;
    if (!config || config->type == CG_JSON_NULL)
        return true;
    if (config->type != CG_JSON_OBJ || !body_str(config, "source", &source, e) ||
        !body_str(config, "raw", &raw, e) || (raw && strlen(raw) > 64 * 1024))
        return cg_fail(e, CG_INVALID, "config must be {\"source\", \"raw\"} of at most 64 KiB");
    CG_OWN(cg_drop_buf) struct cg_buf text;
    struct cg_jsonw w;
    cg_buf_init(&text, 512 * 1024);
    cg_jsonw_init(&w, &text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "source", source ? source : "flags");
    cg_jsonw_kstr(&w, "raw", raw ? raw : "");
    cg_jsonw_obj_end(&w);
    s->config_json = cg_buf_take(&text);
    return true;
}

static char *dup_or_null(const char *s)
{
    return s && s[0] ? cg_strdup(s) : NULL;
}

static bool read_repo(const struct cg_json *b, struct cg_spec *s, struct cg_err *e)
{
    const char *url = NULL, *branch = NULL, *commit = NULL, *subdir = NULL;
    if (!body_str(b, "repo", &url, e) || !body_str(b, "repo_branch", &branch, e) ||
        !body_str(b, "repo_commit", &commit, e) || !body_str(b, "repo_subdir", &subdir, e))
        return false;
    if (url && url[0] && !strstr(url, "://") && !strchr(url, '@'))
        return cg_fail(e, CG_INVALID,
                       "repo must be a URL, not \"%.100s\"; a local folder is uploaded "
                       "by the CLI",
                       url);
    /* git would take them for options */
    const char *const words[] = {url, branch, commit, subdir};
    for (size_t i = 0; i < CG_COUNT(words); i++) {
        if (words[i] && words[i][0] == '-')
            return cg_fail(e, CG_INVALID, "repo: \"%.64s\" must not begin with '-'", words[i]);
    }
    if (subdir && (subdir[0] == '/' || strstr(subdir, "..")))
        return cg_fail(e, CG_INVALID, "repo_subdir must lie inside the repository");
    s->repo_url = dup_or_null(url);
    s->repo_branch = dup_or_null(branch);
    s->repo_commit = dup_or_null(commit);
    s->repo_subdir = dup_or_null(subdir);
    return true;
}

static bool read_texts(const struct cg_json *b, struct cg_spec *s, struct cg_err *e)
{
    const char *init = NULL, *name = NULL;
    const struct cg_json *env = NULL;
    if (!body_str(b, "init_script", &init, e) || !body_str(b, "name", &name, e) ||
        !body_env(b, "env", &env, e) || !body_bool(b, "defer_init", &s->defer_init, e))
        return false;
    if (init && strlen(init) > 128 * 1024)
        return cg_fail(e, CG_TOO_LARGE, "init_script is over 128 KiB");
    if (name && strlen(name) > 64)
        return cg_fail(e, CG_INVALID, "name must have at most 64 characters");
    s->init_script = dup_or_null(init);
    s->name = dup_or_null(name);
    if (env && env->count > 0) {
        CG_OWN(cg_drop_buf) struct cg_buf text;
        struct cg_jsonw w;
        cg_buf_init(&text, 64 * 1024);
        cg_jsonw_init(&w, &text);
        cg_jsonw_value(&w, env);
        if (text.full)
            return cg_fail(e, CG_TOO_LARGE, "env is over 64 KiB");
        s->env_json = cg_buf_take(&text);
    }
    return true;
}

static bool read_secrets(struct op *op, const struct cg_json *b, struct cg_spec *s,
                         struct cg_err *e)
{
    const struct cg_json *names = cg_json_get(b, "secrets");
    if (!names || names->type == CG_JSON_NULL || (names->type == CG_JSON_ARR && names->count == 0))
        return true;
    if (!cg_core_secrets_check(op->api->core, op->key->account, names, e))
        return false;
    struct cg_buf text;
    struct cg_jsonw w;
    cg_buf_init(&text, 8192);
    cg_jsonw_init(&w, &text);
    cg_jsonw_value(&w, names);
    s->secrets_json = cg_buf_take(&text);
    return true;
}

enum { IDLE_MAX_S = 30 * 86400 };

static bool read_snapshot(struct op *op, const struct cg_json *b, const struct cg_snapshot **out,
                          struct cg_err *e)
{
    const char *id = NULL;
    if (!body_str(b, "snapshot_id", &id, e) ||
        ((!id || !id[0]) && !body_str(b, "from_snapshot", &id, e)))
        return false;
    if (!id || !id[0])
        return true;
    *out = cg_snapshot_find(op->api->core, id);
    if (*out && !(*out)->hidden && cg_streq((*out)->account, op->key->account))
        return true;
    return cg_fail(e, CG_NOT_FOUND, "there is no snapshot %.64s", id);
}

static bool read_spec(struct op *op, const struct cg_json *b, struct cg_spec *s, struct cg_err *e)
{
    const struct cg_options *o = &op->api->core->options;
    const char *template_name = NULL;
    int64_t cpus = 0, memory = 0, disk = 0;
    if (!known_only(b, e) || !body_str(b, "template", &template_name, e) ||
        !body_int(b, "cpus", 0, 8, &cpus, e) || !body_int(b, "memory_mb", 0, 8192, &memory, e) ||
        !body_int(b, "disk_gb", 0, 50, &disk, e))
        return false;
    const struct cg_snapshot *from = NULL;
    if (!read_snapshot(op, b, &from, e))
        return false;
    if (from) {
        size_t base = strcspn(from->template_name, "+");
        if (template_name && template_name[0] &&
            (strlen(template_name) != base ||
             strncmp(template_name, from->template_name, base) != 0))
            return cg_fail(e, CG_INVALID, "snapshot %s is of the template %s, not of %.64s",
                           from->id, from->template_name, template_name);
        cg_strlcpy(s->snapshot, sizeof s->snapshot, from->id);
        template_name = from->template_name;
        cpus = cpus ? cpus : from->cpus;
        memory = memory ? memory : from->memory_mb;
        disk = disk ? disk : from->disk_gb;
        if (disk < from->disk_gb)
            return cg_fail(e, CG_INVALID, "disk_gb must be %u at least: the snapshot has as much",
                           from->disk_gb);
        if (!cg_json_get(b, "env") && from->env_json)
            s->env_json = cg_strdup(from->env_json);
    }
    if (!template_name || !template_name[0])
        return cg_fail(e, CG_INVALID, "template is needed: GET /v1/templates lists them");
    if (memory && memory < 128)
        return cg_fail(e, CG_INVALID, "memory_mb must be 0 (the default) or from 128 to 8192");
    if ((!from && strchr(template_name, '+')) ||
        !cg_strlcpy(s->template_name, sizeof s->template_name, template_name))
        return cg_fail(e, CG_INVALID, "template: \"%.64s\" is no name", template_name);
    s->cpus = cpus ? (uint32_t)cpus : o->default_cpus;
    s->memory_mb = memory ? (uint32_t)memory : o->default_memory_mb;
    s->disk_gb = disk ? (uint32_t)disk : o->default_disk_gb;
    int64_t idle_s = o->default_timeout_s;
    if (!body_int(b, "timeout", 0, INT32_MAX, &idle_s, e))
        return false;
    s->timeout_s =
        cg_plan_timeout(op->api->core, op->key->account,
                        (uint32_t)CG_MIN(idle_s, IDLE_MAX_S)); /* a longer one is clamped */
    return cg_network_wish(b, &s->network_json, e) && api_read_budget(b, s, e) &&
           read_repo(b, s, e) && read_texts(b, s, e) && read_config(b, s, e) &&
           read_secrets(op, b, s, e) && api_agents_read(op->api, b, s, e);
}

static void on_created(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err) {
        struct cg_err e = *err;
        /* what went wrong inside is no fault of the request */
        if (e.code == CG_NOT_FOUND || e.code == CG_FORBIDDEN)
            e.code = CG_INTERNAL;
        cg_wrap(&e, "sandbox %s", sb->id);
        op_fail(op, &e);
        return;
    }
    cg_sandbox_write(sb, op_json(op));
    op_send_json(op, 201);
}

static void create(struct op *op, const struct cg_json *b)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_spec spec = {0};
    const char *token = NULL;
    const char *team = NULL;
    bool wait = true;
    if (!refuse_unbuilt(op, b))
        return;
    if (!body_str(b, "team", &team, &e) || !op_act_for(op, team, &e) ||
        !op_query_bool(op, "wait", &wait, &e) || !body_str(b, "repo_token", &token, &e) ||
        !read_spec(op, b, &spec, &e)) {
        cg_spec_finish(&spec);
        if (e.code == CG_UNSUPPORTED)
            op_problem(op, 501, "not_available_yet", "%s", e.text);
        else
            op_fail(op, &e);
        return;
    }
    char *token_copy = token && token[0] ? cg_strdup(token) : NULL;
    split_credentials(&spec, &token_copy);
    if (wait)
        op_outlive(op);
    struct cg_sandbox *sb = cg_core_create(op->api->core, op->key->account, &spec, token_copy,
                                           wait ? on_created : NULL, op, &e);
    if (!sb) {
        op_fail_room(op, &e);
        return;
    }
    if (!wait) {
        cg_sandbox_write(sb, op_json(op));
        op_send_json(op, 201);
    }
}

void api_sandboxes_create(struct op *op)
{
    op_read_json(op, create);
}

/* --- the rest --- */

static void on_destroyed(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    (void)sb;
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

void api_sandbox_delete(struct op *op)
{
    if (op->sb->status == CG_STATUS_DESTROYED) {
        op_problem(op, 404, "not_found", "sandbox %s is destroyed already", op->sb->id);
        return;
    }
    op_outlive(op);
    cg_core_destroy(op->sb, "destroyed", on_destroyed, op);
}

static void on_moved(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    (void)sb;
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

void api_sandbox_pause(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_core_pause(op->sb, "request", on_moved, op, &e))
        op_fail(op, &e);
}

void api_sandbox_resume(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_core_resume(op->sb, on_moved, op, &e))
        op_fail_room(op, &e);
}

static void on_init_done(void *ctx, struct cg_sandbox *sb, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err) {
        op_fail(op, err);
        return;
    }
    cg_sandbox_write(sb, op_json(op));
    op_send_json(op, 200);
}

void api_sandbox_init(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    op_outlive(op);
    if (!cg_core_init(op->sb, on_init_done, op, &e))
        op_fail(op, &e);
}

/* --- what the warden says --- */

static const struct cg_json *pick(const struct cg_json *status, const char *what)
{
    return what ? cg_json_get(status, what) : status;
}

static void on_status(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    const struct cg_json *value = error ? NULL : pick(result, op->own);
    if (error) {
        op_fail(op, error);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    if (value)
        cg_jsonw_value(w, value);
    else
        cg_jsonw_null(w);
    op_send_json(op, 200);
}

static void ask_status(struct op *op, const char *what)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 64);
    cg_buf_adds(&b, "{\"kind\":\"status\"}");
    op->own = (void *)(uintptr_t)what;
    op->call.on_close = on_status;
    if (!op_call(op, &b))
        return;
}

void api_status(struct op *op)
{
    ask_status(op, NULL);
}

void api_metrics(struct op *op)
{
    ask_status(op, "metrics");
}

void api_templates(struct op *op)
{
    struct cg_template_list list = {0};
    struct cg_err e = CG_ERR_INIT;
    if (!cg_image_list(&op->api->core->images, &list, &e)) {
        op_fail(op, &e);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (size_t i = 0; i < list.n; i++) {
        const struct cg_template *t = &list.v[i];
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "name", t->name);
        cg_jsonw_key(w, "aliases");
        cg_jsonw_arr(w);
        for (size_t k = 0; k < t->aliases.n; k++)
            cg_jsonw_str(w, t->aliases.v[k]);
        cg_jsonw_arr_end(w);
        cg_jsonw_kstr(w, "description", t->description);
        cg_jsonw_kstr(w, "state", cg_template_state_name(t->state));
        cg_jsonw_kstr(w, "reason", t->reason);
        cg_jsonw_kint(w, "size_bytes", t->size_bytes);
        cg_jsonw_key(w, "contents");
        cg_jsonw_arr(w);
        for (size_t k = 0; k < t->contents.n; k++)
            cg_jsonw_str(w, t->contents.v[k]);
        cg_jsonw_arr_end(w);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    cg_template_list_finish(&list);
    op_send_json(op, 200);
}
