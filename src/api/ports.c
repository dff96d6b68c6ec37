/* Ports of a sandbox: what listens, where it can be seen, who may. */
#include <stdlib.h>
#include <string.h>

#include "api/preview.h"

enum { SHARE_S = 3600, SHARE_MAX_S = 30 * 86400 };

bool op_port(const struct op *op, int *port, struct cg_err *e)
{
    const char *text = op_param(op, "port");
    char *rest = NULL;
    long n = strtol(text, &rest, 10);
    if (text[0] < '1' || text[0] > '9' || *rest || n < 1 || n > 65535)
        return cg_fail(e, CG_INVALID, "the port must be 1 to 65535, not \"%.16s\"", text);
    *port = (int)n;
    return true;
}

static bool is_http(int64_t port)
{
    static const int64_t http[] = {80, 3000, 4200, 5173, 5000, 8000, 8080, 8888};
    for (size_t i = 0; i < CG_COUNT(http); i++)
        if (http[i] == port)
            return true;
    return false;
}

static void write_preview(struct cg_jsonw *w, const struct op *op, int port)
{
    char url[400];
    bool have = api_preview_url(op->api, op->sb->id, port, url);
    cg_jsonw_kstr(w, "preview_url", have ? url : NULL);
    cg_jsonw_kbool(w, "protected", cg_preview_protected(op->sb->id, port));
    if (api_preview_path_url(op->api, op->sb->id, port, url))
        cg_jsonw_kstr(w, "preview_path_url", url);
}

static void on_ports(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    const struct cg_json *ports = cg_json_get(result, "ports");
    if (error) {
        op_fail(op, error);
        return;
    }
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (const struct cg_json *p = ports ? ports->child : NULL; p; p = p->next) {
        int64_t port = cg_json_int(p, "port", 0);
        cg_jsonw_obj(w);
        cg_jsonw_kint(w, "port", port);
        cg_jsonw_kstr(w, "protocol", is_http(port) ? "http" : "tcp");
        if (is_http(port)) {
            write_preview(w, op, (int)port);
        } else {
            cg_jsonw_kstr(w, "preview_url", NULL);
            cg_jsonw_kbool(w, "protected", cg_preview_protected(op->sb->id, (int)port));
        }
        cg_jsonw_kstr(w, "address", cg_json_str(p, "address"));
        cg_jsonw_kstr(w, "process", cg_json_str(p, "process"));
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
    op_send_json(op, 200);
}

void api_ports(struct op *op)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 64);
    cg_buf_adds(&b, "{\"kind\":\"status\"}");
    op->call.on_close = on_ports;
    if (!op_call(op, &b))
        return;
}

/* --- passwords --- */

static void on_protected(void *ctx, const struct cg_err *err)
{
    struct op *op = ctx;
    if (err) {
        op_fail(op, err);
        return;
    }
    int port = (int)op->step;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "port", port);
    cg_jsonw_kstr(w, "protocol", is_http(port) ? "http" : "tcp");
    write_preview(w, op, port);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void protect(struct op *op, const struct cg_json *body)
{
    const char *password = NULL;
    struct cg_err e = CG_ERR_INIT;
    int port = 0;
    if (!op_port(op, &port, &e) || !body_str(body, "password", &password, &e)) {
        op_fail(op, &e);
        return;
    }
    op->step = (unsigned)port;
    op_outlive(op);
    cg_preview_protect(op->api->core, op->sb, port, password, on_protected, op);
}

void api_port_protect(struct op *op)
{
    op_read_json(op, protect);
}

static void on_opened(void *ctx, const struct cg_err *err)
{
    if (err)
        op_fail(ctx, err);
    else
        op_no_content(ctx);
}

void api_port_unprotect(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    int port = 0;
    if (!op_port(op, &port, &e)) {
        op_fail(op, &e);
        return;
    }
    op_outlive(op);
    cg_preview_open(op->api->core, op->sb->id, port, on_opened, op);
}

/* --- links --- */

static void share(struct op *op, const struct cg_json *body)
{
    int64_t expires_in = SHARE_S;
    struct cg_err e = CG_ERR_INIT;
    char token[CG_PREVIEW_TOKEN];
    char url[480];
    char path_url[480];
    char until[CG_TIME_TEXT];
    int port = 0;
    if (!op_port(op, &port, &e) || !body_int(body, "expires_in", 1, SHARE_MAX_S, &expires_in, &e)) {
        op_fail(op, &e);
        return;
    }
    int64_t end_s = cg_wall_ns() / 1000000000 + expires_in;
    cg_preview_token(op->sb->id, port, end_s, token);
    if (!api_preview_url(op->api, op->sb->id, port, url)) {
        op_problem(op, 501, "previews_not_configured",
                   "this server shows no previews: its operator has to set previews.url or "
                   "previews.listen");
        return;
    }
    bool by_path = api_preview_path_url(op->api, op->sb->id, port, path_url);
    api_preview_let_in(op->api, token, url);
    cg_time_format(end_s * 1000000000, until);
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "url", url);
    if (by_path) {
        api_preview_let_in(op->api, token, path_url);
        cg_jsonw_kstr(w, "path_url", path_url);
    }
    cg_jsonw_kint(w, "expires_in", expires_in);
    cg_jsonw_kstr(w, "expires_at", until);
    cg_jsonw_obj_end(w);
    op_send_json(op, 201);
}

void api_port_share(struct op *op)
{
    op_read_json(op, share);
}
