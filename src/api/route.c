/* All routes, and what happens before a handler runs: host, route, method, key, scope, rate,
 * sandbox. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"
#include "api/dashboard.h"
#include "api/preview.h"
#include "base/log.h"

enum { WINDOW_S = 60, UNLIMITED = 1000000 };

const struct route api_routes[] = {
    {"GET /health", api_health, ACCESS_NONE, false, false},
    {"GET /metrics", api_prometheus, ACCESS_READ, false, false},
    {"POST /v1/auth/socket-ticket", api_ticket, ACCESS_READ, false, false},
    {"POST /signup", api_signup, ACCESS_NONE, false, false},
    {"POST /login", api_login, ACCESS_NONE, false, false},
    {"POST /v1/auth/signup", api_signup, ACCESS_NONE, false, false},
    {"POST /v1/auth/login", api_login, ACCESS_NONE, false, false},
    {"POST /v1/auth/logout", api_logout, ACCESS_READ, false, false},
    {"POST /v1/auth/device/code", api_device_code, ACCESS_NONE, false, false},
    {"POST /v1/auth/device/token", api_device_token, ACCESS_NONE, false, false},
    {"POST /v1/auth/device/approve", api_device_decide, ACCESS_FULL, false, false},
    {"GET /v1/auth/device/{code}", api_device_look, ACCESS_FULL, false, false},
    {"POST /v1/account/password", api_password, ACCESS_FULL, false, false},
    {"GET /v1/account/sessions", api_account_sessions, ACCESS_FULL, false, false},
    {"DELETE /v1/account/sessions/{session}", api_account_session_delete, ACCESS_FULL, false,
     false},
    {"GET /v1/account", api_account, ACCESS_READ, false, false},
    {"GET /v1/account/keys", api_keys, ACCESS_FULL, false, false},
    {"POST /v1/account/keys", api_keys_create, ACCESS_FULL, false, false},
    {"DELETE /v1/account/keys/{key}", api_keys_delete, ACCESS_FULL, false, false},
    {"GET /v1/secrets", api_secrets, ACCESS_FULL, false, false},
    {"POST /v1/secrets", api_secrets_set, ACCESS_FULL, false, false},
    {"PUT /v1/secrets/{name}", api_secrets_set, ACCESS_FULL, false, false},
    {"DELETE /v1/secrets/{name}", api_secrets_delete, ACCESS_FULL, false, false},
    {"GET /v1/account/budget", api_account_budget, ACCESS_FULL, false, false},
    {"PUT /v1/account/budget", api_account_budget_set, ACCESS_FULL, false, false},
    {"GET /v1/prices", api_prices, ACCESS_READ, false, false},
    {"PUT /v1/prices", api_prices_set, ACCESS_FULL, false, false},
    {"POST /v1/prices/import", api_prices_import, ACCESS_FULL, false, false},
    {"GET /v1/templates", api_templates, ACCESS_READ, false, false},
    {"GET /v1/agents", api_agents, ACCESS_READ, false, false},
    {"POST /scripted/v1/messages", api_scripted, ACCESS_NONE, false, false},
    {"POST /v1/sandboxes/{id}/agent", api_run_agent, ACCESS_WRITE, true, false},
    {"GET /v1/events/stream", api_events, ACCESS_READ, false, false},
    {"GET /v1/sandboxes", api_sandboxes, ACCESS_READ, false, false},
    {"POST /v1/sandboxes", api_sandboxes_create, ACCESS_WRITE, false, false},
    {"GET /v1/sandboxes/{id}", api_sandbox, ACCESS_READ, true, false},
    {"DELETE /v1/sandboxes/{id}", api_sandbox_delete, ACCESS_WRITE, true, false},
    {"PATCH /v1/sandboxes/{id}", api_sandbox_patch, ACCESS_WRITE, true, false},
    {"POST /v1/sandboxes/{id}/init", api_sandbox_init, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/status", api_status, ACCESS_READ, true, false},
    {"POST /v1/sandboxes/{id}/exec", api_exec, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/exec", api_exec_ws, ACCESS_WRITE, true, true},
    {"GET /v1/sandboxes/{id}/terminal", api_terminal, ACCESS_WRITE, true, true},
    {"GET /v1/sandboxes/{id}/terminal/sessions", api_terminal_sessions, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/files", api_files, ACCESS_READ, true, false},
    {"DELETE /v1/sandboxes/{id}/files", api_files_delete, ACCESS_WRITE, true, false},
    {"POST /v1/sandboxes/{id}/files/mkdir", api_files_mkdir, ACCESS_WRITE, true, false},
    {"POST /v1/sandboxes/{id}/files/rename", api_files_rename, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/files/content", api_content_get, ACCESS_READ, true, false},
    {"PUT /v1/sandboxes/{id}/files/content", api_content_put, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/files/raw", api_raw_get, ACCESS_READ, true, false},
    {"PUT /v1/sandboxes/{id}/files/raw", api_raw_put, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/files/archive", api_archive_get, ACCESS_READ, true, false},
    {"PUT /v1/sandboxes/{id}/files/archive", api_archive_put, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/git/diff", api_git_diff, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/blobs/{blob}", api_blob, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/logs", api_logs, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/trust", api_trust, ACCESS_READ, true, false},
    {"GET /v1/trust/sandboxes/{id}", api_trust_sessions, ACCESS_READ, true, false},
    {"GET /v1/trust/rules", api_trust_rules, ACCESS_READ, false, false},
    {"POST /v1/sandboxes/{id}/trust/preview", api_trust_preview, ACCESS_WRITE, true, false},
    {"GET /v1/alerts", api_alerts, ACCESS_READ, false, false},
    {"GET /v1/alerts/rules", api_alert_rules, ACCESS_READ, false, false},
    {"PUT /v1/alerts/rules/{rule}", api_alert_rule_set, ACCESS_FULL, false, false},
    {"GET /v1/alerts/{alert}", api_alert, ACCESS_READ, false, false},
    {"POST /v1/alerts/{alert}/resolve", api_alert_resolve, ACCESS_WRITE, false, false},
    {"GET /v1/notifications", api_notifications, ACCESS_READ, false, false},
    {"GET /v1/notifications/unread-count", api_notifications_unread, ACCESS_READ, false, false},
    {"POST /v1/notifications/read-all", api_notifications_read_all, ACCESS_WRITE, false, false},
    {"POST /v1/notifications/test", api_notify_test, ACCESS_FULL, false, false},
    {"POST /v1/notifications/{notification}/read", api_notification_read, ACCESS_WRITE, false,
     false},
    {"GET /v1/notifications/config", api_notify_config, ACCESS_FULL, false, false},
    {"PUT /v1/notifications/config", api_notify_config_set, ACCESS_FULL, false, false},
    {"GET /v1/sandboxes/{id}/network", api_network, ACCESS_READ, true, false},
    {"PATCH /v1/sandboxes/{id}/network", api_network_change, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/ports", api_ports, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/ports/{port}/connect", api_tunnel, ACCESS_WRITE, true, true},
    {"POST /v1/sandboxes/{id}/ports/{port}/protect", api_port_protect, ACCESS_WRITE, true, false},
    {"DELETE /v1/sandboxes/{id}/ports/{port}/protect", api_port_unprotect, ACCESS_WRITE, true,
     false},
    {"POST /v1/sandboxes/{id}/ports/{port}/share", api_port_share, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/metrics", api_metrics, ACCESS_READ, true, false},
    {"POST /v1/sandboxes/{id}/pause", api_sandbox_pause, ACCESS_WRITE, true, false},
    {"POST /v1/sandboxes/{id}/resume", api_sandbox_resume, ACCESS_WRITE, true, false},
    {"GET /v1/sandboxes/{id}/snapshots", api_sandbox_snapshots, ACCESS_READ, true, false},
    {"POST /v1/sandboxes/{id}/snapshots", api_snapshots_create, ACCESS_WRITE, true, false},
    {"POST /v1/sandboxes/{id}/fork", api_sandbox_fork, ACCESS_WRITE, true, false},
    {"GET /v1/snapshots", api_snapshots, ACCESS_READ, false, false},
    {"GET /v1/snapshots/{snapshot}", api_snapshot, ACCESS_READ, false, false},
    {"DELETE /v1/snapshots/{snapshot}", api_snapshot_delete, ACCESS_WRITE, false, false},
    {"GET /v1/snapshots/{snapshot}/download", api_snapshot_download, ACCESS_READ, false, false},
    {"GET /v1/snapshots/{snapshot}/download/content", api_snapshot_content, ACCESS_READ, false,
     false},
    {"GET /v1/teams", api_teams, ACCESS_READ, false, false},
    {"POST /v1/teams", api_teams_create, ACCESS_FULL, false, false},
    {"POST /v1/teams/join", api_team_join, ACCESS_FULL, false, false},
    {"GET /v1/teams/{team}", api_team, ACCESS_READ, false, false},
    {"PATCH /v1/teams/{team}", api_team_rename, ACCESS_FULL, false, false},
    {"DELETE /v1/teams/{team}", api_team_delete, ACCESS_FULL, false, false},
    {"POST /v1/teams/{team}/leave", api_team_leave, ACCESS_FULL, false, false},
    {"GET /v1/teams/{team}/members", api_team_members, ACCESS_READ, false, false},
    {"POST /v1/teams/{team}/members", api_team_invite, ACCESS_FULL, false, false},
    {"PATCH /v1/teams/{team}/members/{member}", api_team_role, ACCESS_FULL, false, false},
    {"DELETE /v1/teams/{team}/members/{member}", api_team_remove, ACCESS_FULL, false, false},
    {"DELETE /v1/teams/{team}/invitations/{invitation}", api_team_uninvite, ACCESS_FULL, false,
     false},
    {"GET /v1/audit", api_audit_list, ACCESS_FULL, false, false},
    {"GET /v1/pricing", api_pricing, ACCESS_NONE, false, false},
    {"GET /v1/billing/subscription", api_subscription, ACCESS_READ, false, false},
    {"GET /v1/billing/usage", api_usage, ACCESS_READ, false, false},
    {"GET /v1/billing/usage/export", api_usage_table, ACCESS_READ, false, false},
    {"GET /v1/billing/invoices", api_statements, ACCESS_READ, false, false},
    {"GET /v1/billing/invoices/{month}", api_statement, ACCESS_READ, false, false},
    {"POST /v1/billing/checkout", api_checkout, ACCESS_FULL, false, false},
    {"POST /v1/billing/portal", api_portal, ACCESS_FULL, false, false},
    {"POST /v1/billing/cancel", api_portal, ACCESS_FULL, false, false},
    {"POST /v1/backup", api_backup, ACCESS_FULL, false, false},
    {"POST /v1/gc", api_gc, ACCESS_FULL, false, false},
    {"POST /v1/snapshots/{snapshot}/restore", api_snapshot_restore, ACCESS_WRITE, false, false},
    {"GET /v1/sandboxes/{id}/sessions", api_sandbox_sessions, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/replay", api_sandbox_replay, ACCESS_READ, true, false},
    {"GET /v1/sandboxes/{id}/replay/summary", api_overview, ACCESS_READ, true, false},
    {"GET /v1/sessions", api_sessions, ACCESS_READ, false, false},
    {"GET /v1/sessions/{session}", api_session, ACCESS_READ, false, false},
    {"GET /v1/sessions/{session}/replay", api_replay, ACCESS_READ, false, false},
    {"GET /v1/sessions/{session}/replay/summary", api_replay_summary, ACCESS_READ, false, false},
    {"POST /v1/events/ingest", api_ingest, ACCESS_WRITE, false, false},
    {"GET /v1/sandboxes/{id}/mcp", api_mcp, ACCESS_WRITE, true, true},
    {NULL, NULL, ACCESS_NONE, false, false},
};

const char *const *cg_api_route_names(void)
{
    static const char *names[CG_COUNT(api_routes)];
    for (size_t i = 0; i < CG_COUNT(api_routes); i++)
        names[i] = api_routes[i].name;
    return names;
}

/* --- matching --- */

/* Does the pattern behind the method match the request's path? */
static bool path_matches(const char *pattern, const struct cg_http_req *r)
{
    unsigned i = 0;
    for (const char *p = strchr(pattern, '/') + 1;; i++) {
        size_t n = strcspn(p, "/");
        if (i >= r->segments)
            return false;
        if (p[0] != '{' && (strlen(r->segment[i]) != n || strncmp(p, r->segment[i], n) != 0))
            return false;
        if (!p[n])
            return i + 1 == r->segments;
        p += n + 1;
    }
}

/* HEAD is answered where GET is, but for bodies that come in a stream. */
static bool method_matches(const struct route *t, const char *method)
{
    size_t n = strcspn(t->name, " ");
    bool streams = t->ws || t->handler == api_events || t->handler == api_raw_get ||
                   t->handler == api_content_get || t->handler == api_archive_get ||
                   t->handler == api_snapshot_content;
    if (strcmp(method, "HEAD") == 0 && !streams)
        method = "GET";
    return strlen(method) == n && strncmp(t->name, method, n) == 0;
}

/* Segments of the pattern that are words: "/v1/auth/device/code" goes before
 * "/v1/auth/device/{code}", for all methods. */
static unsigned words_of(const char *pattern)
{
    unsigned n = 0;
    for (const char *p = strchr(pattern, '/'); p; p = strchr(p + 1, '/'))
        n += p[1] != '{';
    return n;
}

static const struct route *find_route(const struct cg_http_req *r, char *allow, size_t size)
{
    unsigned best = 0;
    allow[0] = '\0';
    for (const struct route *t = api_routes; t->name; t++)
        if (path_matches(t->name, r))
            best = CG_MAX(best, words_of(t->name));
    for (const struct route *t = api_routes; t->name && best > 0; t++) {
        if (words_of(t->name) != best || !path_matches(t->name, r))
            continue;
        if (method_matches(t, r->method))
            return t;
        size_t have = strlen(allow);
        snprintf(allow + have, size - have, "%s%.*s", have ? ", " : "", (int)strcspn(t->name, " "),
                 t->name);
    }
    return NULL;
}

struct call {
    struct op op; /* first */
    const struct route *route;
};

const struct route *op_route(const struct op *op)
{
    return ((const struct call *)op)->route;
}

const char *op_param(const struct op *op, const char *name)
{
    const struct call *c = (const struct call *)op;
    size_t want = strlen(name);
    unsigned i = 0;
    for (const char *p = strchr(c->route->name, '/') + 1;; i++) {
        size_t n = strcspn(p, "/");
        if (p[0] == '{' && n == want + 2 && strncmp(p + 1, name, want) == 0)
            return op->r->segment[i];
        if (!p[n])
            return NULL;
        p += n + 1;
    }
}

/* --- before the handler --- */

/* A page in a browser must not reach a server on loopback under a name of its own (DNS rebinding).
 */
bool api_host_fine(const struct cg_api *a, const struct cg_http_req *r)
{
    const char *host = cg_http_header(r, "host");
    if (!a->loopback)
        return true;
    char name[256];
    if (!host || !cg_strlcpy(name, sizeof name, host))
        return false;
    char *colon = strrchr(name, ':');
    if (colon && !strchr(colon, ']'))
        *colon = '\0';
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "127.0.0.1") == 0 ||
           strcmp(name, "[::1]") == 0 || strcasecmp(name, a->host_allowed) == 0;
}

static bool origin_fine(const struct cg_http_req *r)
{
    const char *origin = cg_http_header(r, "origin");
    const char *host = cg_http_header(r, "host");
    if (!origin)
        return true; /* not a browser */
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

static struct cg_store_key *find_key(struct cg_api *a, struct cg_http_req *r, const struct route *t,
                                     struct op *op)
{
    const char *header = cg_http_header(r, "authorization");
    if (header && strncasecmp(header, "bearer ", 7) == 0)
        return cg_core_find_key(a->core, header + 7);
    char token[128];
    if (!t->ws || !cg_http_query(r, "token", token, sizeof token))
        return NULL;
    if (cg_has_prefix(token, "caged_wst_"))
        return cg_core_ticket_take(a->core, token, &op->acting) ? &op->acting : NULL;
    struct cg_store_key *k = cg_core_find_key(a->core, token);
    if (k)
        cg_log(CG_LOG_WARN, CG_EVENT("auth.key_in_url"), CG_S("key", k->id));
    return k;
}

/* Requests of a key in this window; false when it has used up its share. */
static bool rate_fine(struct cg_api *a, struct cg_http_req *r, const struct cg_store_key *k)
{
    static struct cg_map windows;
    struct window {
        int64_t start_s;
        uint32_t used;
    } *w = cg_map_get(&windows, k->id);
    int64_t now = cg_wall_ns() / 1000000000;
    const struct cg_plan *plan = cg_plan_of(a->core, k->account);
    uint32_t limit = plan && plan->requests_per_minute ? plan->requests_per_minute
                                                       : a->core->options.rate_per_minute;
    if (!w) {
        w = cg_alloc(sizeof *w);
        cg_map_put(&windows, k->id, w);
    }
    if (now - w->start_s >= WINDOW_S || now < w->start_s)
        *w = (struct window){.start_s = now};
    w->used++;
    uint32_t shown = limit ? limit : UNLIMITED;
    char text[24];
    cg_snprintf(text, sizeof text, "%u", shown);
    cg_http_add_header(r, "X-RateLimit-Limit", text);
    cg_snprintf(text, sizeof text, "%u", w->used >= shown ? 0 : shown - w->used);
    cg_http_add_header(r, "X-RateLimit-Remaining", text);
    cg_snprintf(text, sizeof text, "%lld", (long long)w->start_s + WINDOW_S);
    cg_http_add_header(r, "X-RateLimit-Reset", text);
    return !limit || w->used <= limit;
}

static void on_abort(struct cg_http_req *r)
{
    struct op *op = r->user;
    op->r = NULL;
    op_end(op);
}

static void on_abort_outlived(struct cg_http_req *r)
{
    struct op *op = r->user;
    op->r = NULL;
}

void op_outlive(struct op *op)
{
    op->r->abort = on_abort_outlived;
}

void op_mortal(struct op *op)
{
    if (op->r)
        op->r->abort = on_abort;
}

void op_end(struct op *op)
{
    if (op->r) {
        op->r->abort = NULL;
        op->r->drain = NULL;
        op->r->on_body = NULL;
        op->r->on_end = NULL;
    }
    cg_wcall_forget(&op->call);
    if (op->finish)
        op->finish(op);
    cg_buf_finish(&op->a);
    cg_buf_finish(&op->b);
    cg_buf_finish(&op->c);
    free(op);
}

static bool may(const struct cg_store_key *k, const struct route *t)
{
    if (cg_streq(k->scope, "full"))
        return true;
    return t->access == ACCESS_READ || (t->access == ACCESS_WRITE && cg_streq(k->scope, "sandbox"));
}

/* The key's checks; false when a refusal has been sent. */
static bool admit(struct cg_api *a, struct cg_http_req *r, const struct route *t, struct op *op)
{
    if (t->access == ACCESS_NONE)
        return true;
    op->key = find_key(a, r, t, op);
    if (!op->key) {
        cg_http_add_header(r, "WWW-Authenticate", "Bearer");
        api_refuse(r, 401, "unauthorized",
                   "an API key is needed: Authorization: Bearer caged_sk_…");
        return false;
    }
    if (!rate_fine(a, r, op->key)) {
        cg_http_add_header(r, "Retry-After", "60");
        api_refuse(r, 429, "rate_limited",
                   "too many requests with this key; see X-RateLimit-Reset");
        return false;
    }
    if (!may(op->key, t)) {
        bool reader = !cg_streq(op->key->scope, "sandbox");
        api_refuse(r, 403, "policy_denied",
                   reader ? "this key is read-only"
                          : "this key is for sandboxes; the account needs a key of scope full");
        return false;
    }
    if (!api_act(op))
        return false;
    if (!t->sandbox)
        return true;
    op->sb = cg_core_find(a->core, op_param(op, "id"));
    if (op->sb && op_owns(op, op->sb))
        return true;
    char text[128];
    cg_snprintf(text, sizeof text, "there is no sandbox %.64s", op_param(op, "id"));
    api_refuse(r, 404, "not_found", text);
    return false;
}

/* What reads the guest wakes it. (A POST of a command does, too, when it has come in whole; uploads
 * are not kept waiting: they need one that runs.) */
static bool wakes(const struct route *t)
{
    static api_handler *const handlers[] = {api_files,       api_content_get, api_raw_get,
                                            api_archive_get, api_git_diff,    api_terminal,
                                            api_exec_ws,     api_tunnel,      api_mcp};
    for (size_t i = 0; i < CG_COUNT(handlers); i++)
        if (t->handler == handlers[i])
            return true;
    return false;
}

static void handle(struct op *op, const struct cg_json *none)
{
    (void)none;
    ((const struct call *)op)->route->handler(op);
}

static void on_request(void *ctx, struct cg_http_req *r)
{
    struct cg_api *a = ctx;
    char allow[128];
    a->requests++;
    if (api_preview_serve(a, r))
        return;
    if (!api_host_fine(a, r)) {
        api_refuse(r, 421, "wrong_host", "this server does not answer for that host name");
        return;
    }
    const struct route *t = find_route(r, allow, sizeof allow);
    if (!t && cg_dashboard_serve(&a->dashboard, a->core, r))
        return;
    if (!t && allow[0]) {
        cg_http_add_header(r, "Allow", allow);
        api_refuse(r, 405, "method_not_allowed", "this path does not know that method; see Allow");
        return;
    }
    if (!t) {
        api_refuse(r, 404, "not_found",
                   "there is nothing at this path; /v1/sandboxes is a beginning");
        return;
    }
    if (t->ws && !origin_fine(r)) {
        api_refuse(r, 403, "policy_denied", "a page of another origin may not connect here");
        return;
    }
    struct call *c = cg_alloc(sizeof *c);
    c->route = t;
    c->op.api = a;
    c->op.r = r;
    if (!admit(a, r, t, &c->op)) {
        free(c);
        return;
    }
    r->user = &c->op;
    r->abort = on_abort;
    if (wakes(t) && !r->has_body)
        op_awake(&c->op, NULL, handle);
    else
        t->handler(&c->op);
}

bool cg_api_start(struct cg_api *a, struct cg_core *core, int fd, struct cg_err *e)
{
    *a = (struct cg_api){.core = core};
    const char *host = core->options.listen_host;
    cg_strlcpy(a->host_allowed, sizeof a->host_allowed, host);
    a->loopback =
        cg_has_prefix(host, "127.") || cg_streq(host, "::1") || cg_streq(host, "localhost");
    if (!api_previews_start(a, fd, e))
        return false;
    a->http = cg_http_server_create(core->loop, fd, on_request, a, e);
    return a->http != NULL;
}

void cg_api_quiesce(struct cg_api *a)
{
    cg_http_server_quiesce(a->http);
    api_streams_end(a, NULL);
    api_terminals_end(a, NULL);
    api_tunnels_end(a, NULL);
    api_mcps_end(a, NULL);
    api_previews_end(a);
}

unsigned cg_api_busy(const struct cg_api *a)
{
    return cg_http_server_conns(a->http);
}

void cg_api_finish(struct cg_api *a)
{
    cg_http_server_destroy(a->http);
    a->http = NULL;
    api_previews_finish(a);
    cg_dashboard_destroy(a->dashboard);
    a->dashboard = NULL;
}
