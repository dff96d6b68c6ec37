/* The HTTP API: one file a resource, all routes in route.c. Handlers run on the loop, never block,
 * and own an `op` for as long as their request lives. */
#ifndef CG_API_API_H
#define CG_API_API_H

#include "core/core.h"
#include "core/teams.h"
#include "http/http.h"

enum { API_JSON_MAX = 112 << 20, API_BODY_MAX = 4 << 20 };

struct cg_api {
    struct cg_core *core;
    struct cg_http_server *http;
    char host_allowed[256]; /* the listen host; loopback names are allowed beside it */
    bool loopback;
    uint64_t requests;              /* since the start */
    struct api_stream *streams;     /* open event streams, for the server's end */
    struct api_terminal *terminals; /* open terminals */
    struct api_tunnel *tunnels;     /* connections to ports of guests */
    struct api_mcp *mcps;           /* open MCP sockets */
    struct preview *preview;        /* preview.h */
    struct dashboard *dashboard;    /* NULL until somebody asked for it */
};

/* Serves on a listening socket, taken over. */
CG_MUST_USE bool cg_api_start(struct cg_api *a, struct cg_core *core, int fd, struct cg_err *e);
/* No new connections; open streams end. */
void cg_api_quiesce(struct cg_api *a);
unsigned cg_api_busy(const struct cg_api *a);
void cg_api_finish(struct cg_api *a);

/* The table, for the test that compares it with api/openapi.yaml: "GET /v1/sandboxes", … NULL ends.
 */
const char *const *cg_api_route_names(void);

/* --- inside --- */

struct op {
    struct cg_api *api;
    struct cg_http_req *r;      /* NULL once the client is gone */
    struct cg_store_key *key;   /* whose rights the request has */
    struct cg_store_key acting; /* its place when it is none of the core's: of a ticket, or one that
                                   acts for a team */
    char person[CG_ID_TEXT];    /* whose key it is; op->key->account is whom it acts for */
    enum cg_role role;          /* in the team that it acts for; none: it acts for itself */
    bool chosen;                /* the request named the team */
    struct cg_sandbox *sb;
    struct cg_wcall call;
    struct cg_buf a, b, c; /* the handler's */
    size_t owed;           /* bytes taken from the guest and not yet written to the client */
    unsigned step;
    bool started, ended, truncated, failed, body_over;
    struct cg_err err;
    char path[4096];
    void (*finish)(struct op *op); /* frees what is the handler's own */
    void *own;
    int status; /* of the reply that waits for the audit log */
    bool noted;
    char audited[CG_ID_TEXT]; /* whose thing it was about, where the key does not say so */
};

typedef void api_handler(struct op *op);

/* What a key needs: any scope; sandbox or full; full. */
enum api_access { ACCESS_NONE, ACCESS_READ, ACCESS_WRITE, ACCESS_FULL };

struct route {
    const char *name; /* "GET /v1/sandboxes/{id}" */
    api_handler *handler;
    enum api_access access;
    bool sandbox; /* {id} names a sandbox of the account: op->sb */
    bool ws;      /* a key may come as ?token= */
};

extern const struct route api_routes[];
const struct route *op_route(const struct op *op);

/* Notes the request in the audit log, if it belongs there. With `done` the op lives until that is
 * called; false: it will not be. */
bool api_audit(struct op *op, int status, void (*done)(void *ctx, const struct cg_err *err));

/* Ends the op's life: call it after the reply. */
void op_end(struct op *op);
/* From here on a client that goes away leaves the op alive (op->r is NULL then): what it asked for
 * happens all the same, and the callback that is awaited ends the op by a reply function. */
void op_outlive(struct op *op);

/* The opposite: a client that goes away ends the op again. */
void op_mortal(struct op *op);

typedef void op_next(struct op *op, const struct cg_json *body);
/* Calls next with the body (may be NULL): at once, or when the op's sandbox, which sleeps for being
 * idle, is awake. What cannot be used for another reason next finds out itself. */
void op_awake(struct op *op, const struct cg_json *body, op_next *next);

/* The value of {name} in the route; NULL when there is none. */
const char *op_param(const struct op *op, const char *name);

/* JSON replies: begin, write into the writer, send. */
struct cg_jsonw *op_json(struct op *op);
void op_send_json(struct op *op, int status); /* ends the op */
void op_no_content(struct op *op);            /* 204 */
/* 200 with a text (taken over) that is no JSON; `disposition` may be NULL. Ends the op. */
void op_send_text(struct op *op, const char *type, const char *disposition, struct cg_buf *text);

/* Problem replies (RFC 9457 with `error` and `reason`); they end the op. */
void op_fail(struct op *op, const struct cg_err *e);
/* The same, where a limit is one of this machine and not of the client's rate: 403. */
void op_fail_room(struct op *op, const struct cg_err *e);
void op_problem(struct op *op, int status, const char *code, const char *fmt, ...) CG_PRINTF(4, 5);
void api_refuse(struct cg_http_req *r, int status, const char *code, const char *detail);

/* Of a sandbox whose record is not kept any more: the problem is sent, and false returned. */
bool op_record_kept(struct op *op, const struct cg_sandbox *sb);

/* Gathers the body, then calls next. */
void op_read_json(struct op *op, void (*next)(struct op *op, const struct cg_json *body));

/* Opens a call on the sandbox's warden; on failure the problem is sent and false returned. */
CG_MUST_USE bool op_call(struct op *op, struct cg_buf *request);

/* Query parameters; *out stays when one is absent, CG_INVALID names it and what it may be. */
CG_MUST_USE bool op_query_bool(const struct op *op, const char *name, bool *out, struct cg_err *e);
CG_MUST_USE bool op_query_int(const struct op *op, const char *name, int64_t min, int64_t max,
                              int64_t *out, struct cg_err *e);
CG_MUST_USE bool op_query_str(const struct op *op, const char *name, char *out, size_t size,
                              struct cg_err *e);

/* One of some words, the first when absent. */
CG_MUST_USE bool op_query_choice(struct op *op, const char *name, const char *const choices[],
                                 unsigned *out, struct cg_err *e);

/* Text for a page, whatever is in it. */
void api_add_escaped(struct cg_buf *b, const char *text);

/* Body checks: wrong types are CG_INVALID naming the field. *out stays when the field is absent. */
CG_MUST_USE bool body_str(const struct cg_json *b, const char *key, const char **out,
                          struct cg_err *e);
CG_MUST_USE bool body_int(const struct cg_json *b, const char *key, int64_t min, int64_t max,
                          int64_t *out, struct cg_err *e);
CG_MUST_USE bool body_bool(const struct cg_json *b, const char *key, bool *out, struct cg_err *e);
CG_MUST_USE bool body_env(const struct cg_json *b, const char *key, const struct cg_json **out,
                          struct cg_err *e);

/* An env object written as JSON. */
void write_env(struct cg_jsonw *w, const char *key, const struct cg_json *env);

/* Ends a key of the caller's account for good and replies. */
void op_end_key(struct op *op, const char *id);

/* `agents` and `packages` of a create request. */
CG_MUST_USE bool api_agents_read(const struct cg_api *a, const struct cg_json *b, struct cg_spec *s,
                                 struct cg_err *e);
/* budget, budget_tokens, budget_action of a create request. */
CG_MUST_USE bool api_read_budget(const struct cg_json *b, struct cg_spec *s, struct cg_err *e);

/* Is the sandbox of the account that the request acts for? */
bool op_owns(const struct op *op, const struct cg_sandbox *sb);
/* May the request see it: one of its own, or, where it named no team, of a team of the person's? */
bool op_sees(const struct op *op, const struct cg_sandbox *sb);

/* --- whom a request acts for (acting.c) --- */

/* Finds the team that a request names (?team=) or whose object it names, and lets it act for that
 * team with the rights of the person's role; false when a refusal has been sent. */
CG_MUST_USE bool api_act(struct op *op);
/* The same for a team that stands in the body. */
CG_MUST_USE bool op_act_for(struct op *op, const char *team, struct cg_err *e);
/* After a wait: is the role still there that the request was let in with? False when a refusal has
 * been sent. */
CG_MUST_USE bool op_still_seated(struct op *op);

/* What lives on after its request and acts for somebody: ends when they lose the right. */
struct api_seat {
    char person[CG_ID_TEXT], account[CG_ID_TEXT];
};
void op_seat(const struct op *op, struct api_seat *out);
/* `who` NULL: everybody's, since the server stops. */
bool seat_of(const struct api_seat *seat, const struct api_seat *who);
/* Ends sockets and streams of a person on things of a team. */
void api_unseat(struct cg_api *a, const char *person, const char *team);

api_handler api_health, api_ticket, api_account, api_keys, api_keys_create, api_keys_delete;
api_handler api_sandboxes, api_sandboxes_create, api_sandbox, api_sandbox_delete, api_sandbox_init,
    api_sandbox_patch, api_sandbox_pause, api_sandbox_resume;
api_handler api_exec, api_exec_ws, api_terminal, api_terminal_sessions;
api_handler api_files, api_files_delete, api_files_mkdir, api_files_rename;
api_handler api_content_get, api_content_put, api_raw_get, api_raw_put, api_archive_get,
    api_archive_put;
api_handler api_git_diff, api_logs, api_templates, api_events, api_ports, api_metrics, api_status;
api_handler api_network, api_network_change, api_blob;
api_handler api_secrets, api_secrets_set, api_secrets_delete;
api_handler api_sandbox_snapshots, api_snapshots_create, api_snapshots, api_snapshot,
    api_snapshot_delete, api_snapshot_restore, api_snapshot_download, api_snapshot_content,
    api_sandbox_fork, api_gc;
api_handler api_trust, api_trust_sessions;
api_handler api_alerts, api_alert, api_alert_resolve, api_alert_rules, api_alert_rule_set;
api_handler api_notifications, api_notifications_unread, api_notification_read,
    api_notifications_read_all, api_notify_config, api_notify_config_set, api_notify_test;
api_handler api_tunnel, api_mcp;
api_handler api_agents, api_run_agent, api_scripted;
api_handler api_sessions, api_sandbox_sessions, api_session, api_replay, api_replay_summary,
    api_sandbox_replay, api_overview, api_ingest, api_trust_rules, api_trust_preview;
api_handler api_audit_list, api_prometheus;
api_handler api_teams, api_teams_create, api_team, api_team_rename, api_team_delete,
    api_team_members, api_team_invite, api_team_uninvite, api_team_join, api_team_leave,
    api_team_role, api_team_remove;
api_handler api_pricing, api_subscription, api_usage, api_usage_table, api_checkout, api_portal,
    api_statements, api_statement, api_backup;
api_handler api_port_protect, api_port_unprotect, api_port_share;
api_handler api_account_budget, api_account_budget_set;
api_handler api_prices, api_prices_set, api_prices_import;
api_handler api_signup, api_login, api_logout, api_password;
api_handler api_account_sessions, api_account_session_delete;
api_handler api_device_code, api_device_token, api_device_look, api_device_decide;

/* Ended with a word why; `who` as in seat_of. */
void api_streams_end(struct cg_api *a, const struct api_seat *who);
void api_terminals_end(struct cg_api *a, const struct api_seat *who);
void api_tunnels_end(struct cg_api *a, const struct api_seat *who);
void api_mcps_end(struct cg_api *a, const struct api_seat *who);

#endif
