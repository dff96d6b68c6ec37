/* Who may see a preview. A request is for one when its Host is <sandbox>-<port>.<domain>, or when
 * it comes to the listener of previews by path. A port with a password wants a token: in a cookie
 * of its own origin, in the path, or once in ?caged_share=. Everything else goes on to the guest in
 * visit.c. */
#include "api/preview.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

enum { FORM_MAX = 4096, WINDOW_S = 60, WINDOWS_MAX = 16384, LOGIN_S = 12 * 3600 };

static const char enter_path[] = "/.caged/enter";
static const char share_param[] = "caged_share=";

/* --- pages --- */

void preview_page(struct cg_http_req *r, int status, const char *title, const char *text,
                  const char *form_action)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 16384);
    cg_buf_addf(&b,
                "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
                "content='width=device-width'><title>%s</title><style>body{font:16px/1.5 system-ui,"
                "sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}input,button{font:"
                "inherit;padding:.4rem .6rem}</style><h1>%s</h1><p>",
                title, title);
    api_add_escaped(&b, text);
    if (form_action) {
        cg_buf_adds(&b, "<form method=post action=\"");
        api_add_escaped(&b, form_action);
        cg_buf_adds(&b, "\"><label>Password <input type=password name=password autofocus required>"
                        "</label> <button>Open</button></form>");
    }
    cg_buf_adds(&b, "\n");
    cg_http_add_header(r, "Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
                       "frame-ancestors 'none'");
    cg_http_add_header(r, "Referrer-Policy", "no-referrer");
    cg_http_reply(r, status, "text/html; charset=utf-8", cg_buf_slice(&b));
}

static void redirect(struct cg_http_req *r, const char *where)
{
    cg_http_add_header(r, "Location", where);
    cg_http_reply(r, 303, NULL, (struct cg_slice){0});
}

/* --- addresses --- */

bool api_preview_url(const struct cg_api *a, const char *sandbox, int port, char out[400])
{
    const struct preview *p = a->preview;
    char label[CG_PREVIEW_LABEL];
    cg_preview_label(sandbox, port, label);
    if (p->domain[0])
        cg_snprintf(out, 400, "%s://%s.%s", p->scheme, label, p->authority);
    return p->domain[0] || api_preview_path_url(a, sandbox, port, out);
}

bool api_preview_path_url(const struct cg_api *a, const char *sandbox, int port, char out[400])
{
    char label[CG_PREVIEW_LABEL];
    cg_preview_label(sandbox, port, label);
    if (a->preview->path_base[0])
        cg_snprintf(out, 400, "%s/%s/", a->preview->path_base, label);
    return a->preview->path_base[0] != '\0';
}

void api_preview_let_in(const struct cg_api *a, const char *token, char url[480])
{
    size_t n = strlen(url);
    if (a->preview->path_base[0] && cg_has_prefix(url, a->preview->path_base))
        cg_snprintf(url + n, 480 - n, "%c%s/", PREVIEW_TOKEN_PREFIX, token);
    else
        cg_snprintf(url + n, 480 - n, "/?%s%s", share_param, token);
}

/* --- rate --- */

/* Requests to a port in this minute. */
static bool rate_fine(const struct place *p)
{
    static struct cg_map windows;
    static unsigned made;
    struct window {
        int64_t start_s;
        uint32_t used;
    } *w = cg_map_get(&windows, p->label);
    uint32_t limit = p->api->core->options.preview_rate_per_minute;
    int64_t now = cg_mono_ns() / 1000000000;
    if (!w && made >= WINDOWS_MAX) { /* everybody begins anew */
        size_t at = 0;
        const char *key;
        void *value;
        while (cg_map_next(&windows, &at, &key, &value))
            free(value);
        cg_map_finish(&windows);
        windows = (struct cg_map){0};
        made = 0;
    }
    if (!w) {
        w = cg_alloc(sizeof *w);
        cg_map_put(&windows, p->label, w);
        made++;
    }
    if (now - w->start_s >= WINDOW_S)
        *w = (struct window){.start_s = now};
    w->used++;
    return !limit || w->used <= limit;
}

/* --- tokens of a request --- */

static bool token_in_cookie(const struct place *p, const struct cg_http_req *r)
{
    const char *name;
    const char *value;
    size_t n = strlen(PREVIEW_COOKIE);
    for (unsigned i = 0; cg_http_header_at(r, i, &name, &value); i++) {
        const char *at = strcasecmp(name, "cookie") == 0 ? strstr(value, PREVIEW_COOKIE "=") : NULL;
        char token[CG_PREVIEW_TOKEN];
        if (!at)
            continue;
        size_t len = strcspn(at + n + 1, ";");
        if (len < sizeof token) {
            memcpy(token, at + n + 1, len);
            token[len] = '\0';
            if (cg_preview_token_fine(p->sb->id, p->port, token))
                return true;
        }
    }
    return false;
}

/* Takes ?caged_share= out of the target; true when its token is good. */
static bool token_in_query(struct place *p, char token[CG_PREVIEW_TOKEN])
{
    char *query = strchr(p->target, '?');
    char *at = query ? strstr(query, share_param) : NULL;
    if (!at || (at[-1] != '?' && at[-1] != '&'))
        return false;
    size_t skip = strlen(share_param);
    size_t n = strcspn(at + skip, "&");
    bool fits = n < CG_PREVIEW_TOKEN;
    if (fits) {
        memcpy(token, at + skip, n);
        token[n] = '\0';
    }
    char *rest = at + skip + n;
    if (*rest == '&')
        memmove(at, rest + 1, strlen(rest + 1) + 1);
    else
        at[-1] = '\0'; /* it was the last: its separator goes, too */
    return fits && cg_preview_token_fine(p->sb->id, p->port, token);
}

/* The visitor may come in with this: by a cookie, or by an address that holds it. */
static void let_in(struct cg_http_req *r, const struct place *p, const char *token,
                   const char *target)
{
    char text[256];
    if (p->by_path) {
        cg_snprintf(text, sizeof text, "/%s/%c%s/", p->label, PREVIEW_TOKEN_PREFIX, token);
        redirect(r, text);
        return;
    }
    int64_t left = strtoll(token, NULL, 10) - cg_wall_ns() / 1000000000;
    cg_snprintf(text, sizeof text, "%s=%s; Path=/; HttpOnly; SameSite=Lax; Max-Age=%lld%s",
                PREVIEW_COOKIE, token, (long long)left,
                strcmp(p->api->preview->scheme, "https") == 0 ? "; Secure" : "");
    cg_http_add_header(r, "Set-Cookie", text);
    redirect(r, target[0] == '/' && target[1] != '/' && target[1] != '\\' ? target : "/");
}

/* --- the password --- */

struct entry {
    struct place place;
    struct cg_http_req *r; /* NULL: the client is gone */
};

static void drop_entry(struct entry *n)
{
    free(n->place.target);
    free(n);
}

static void ask(struct cg_http_req *r, const struct place *p, int status, const char *text)
{
    char action[128];
    cg_snprintf(action, sizeof action, "%s%s%s", p->by_path ? "/" : "", p->by_path ? p->label : "",
                enter_path);
    preview_page(r, status, "A password is needed", text, action);
}

static void on_checked(void *ctx, const struct cg_err *err)
{
    struct entry *n = ctx;
    struct cg_http_req *r = n->r;
    char token[CG_PREVIEW_TOKEN];
    if (r)
        r->abort = NULL;
    if (r && err) {
        ask(r, &n->place, err->code == CG_LIMIT ? 429 : 401, err->text);
    } else if (r) {
        cg_preview_token(n->place.sb->id, n->place.port, cg_wall_ns() / 1000000000 + LOGIN_S,
                         token);
        let_in(r, &n->place, token, "/");
    }
    drop_entry(n);
}

static void on_form_abort(struct cg_http_req *r)
{
    drop_entry(r->user);
}

static void on_check_abort(struct cg_http_req *r)
{
    ((struct entry *)r->user)->r = NULL;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The password of application/x-www-form-urlencoded. */
static bool read_form(struct cg_slice body, char out[257])
{
    static const char key[] = "password=";
    const char *at = memmem(body.p, body.n, key, strlen(key));
    size_t n = 0;
    if (!at)
        return false;
    const char *end = body.p + body.n;
    for (at += strlen(key); at < end && *at != '&' && n < 256; at++) {
        int high = *at == '%' && end - at > 2 ? hex_digit(at[1]) : -1;
        int low = high >= 0 ? hex_digit(at[2]) : -1;
        out[n++] = low >= 0 ? (char)(high * 16 + low) : *at == '+' ? ' ' : *at;
        at += low >= 0 ? 2 : 0;
    }
    out[n] = '\0';
    return strlen(out) == n && n > 0;
}

static void on_form(struct cg_http_req *r)
{
    struct entry *n = r->user;
    char password[257];
    if (!read_form(cg_buf_slice(&r->body), password)) {
        r->abort = NULL;
        ask(r, &n->place, 400, "The password was empty, or longer than 256 characters.");
        drop_entry(n);
        return;
    }
    n->r = r;
    r->abort = on_check_abort;
    cg_preview_check(n->place.api->core, n->place.sb->id, n->place.port, password, on_checked, n);
}

static void enter(struct cg_http_req *r, struct place *p)
{
    struct entry *n = cg_alloc(sizeof *n);
    n->place = *p;
    r->user = n;
    r->abort = on_form_abort;
    cg_http_read_body(r, FORM_MAX, on_form);
}

/* --- the gate --- */

/* Takes p->target over. */
static void admit(struct cg_http_req *r, struct place *p, bool trusted)
{
    char token[CG_PREVIEW_TOKEN];
    bool shut = cg_preview_protected(p->sb->id, p->port);
    if (!rate_fine(p)) {
        free(p->target);
        cg_http_add_header(r, "Retry-After", "60");
        preview_page(r, 429, "Too many requests", "This port was asked too often within a minute.",
                     NULL);
        return;
    }
    if (shut && strcmp(r->method, "POST") == 0 && strcmp(p->target, enter_path) == 0) {
        enter(r, p);
        return;
    }
    bool shared = token_in_query(p, token);
    const char *accept = cg_http_header(r, "accept");
    if (shared && !p->by_path && strcmp(r->method, "GET") == 0 && accept &&
        strstr(accept, "text/html")) {
        let_in(r, p, token, p->target);
        free(p->target);
        return;
    }
    if (shut && !trusted && !shared && (p->by_path || !token_in_cookie(p, r))) {
        ask(r, p, 401, "Whoever made this preview protected it.");
        free(p->target);
        return;
    }
    visit_begin(r, p);
}

static bool find_sandbox(struct cg_http_req *r, struct place *p, const char *id)
{
    p->sb = cg_core_find(p->api->core, id);
    if (p->sb && (p->sb->status == CG_STATUS_RUNNING || p->sb->status == CG_STATUS_PAUSED) &&
        !p->sb->helper)
        return true;
    preview_page(r, 404, "No preview here", "There is no such sandbox, or it does not run.", NULL);
    return false;
}

bool api_preview_serve(struct cg_api *a, struct cg_http_req *r)
{
    struct place p = {.api = a};
    char id[CG_ID_TEXT];
    const char *host = cg_http_header(r, "host");
    size_t n = host ? strcspn(host, ".") : 0;
    size_t domain = strlen(a->preview->domain);
    if (!domain || !n || host[n] != '.' || n >= sizeof p.label ||
        strncasecmp(host + n + 1, a->preview->domain, domain) != 0 ||
        (host[n + 1 + domain] && host[n + 1 + domain] != ':'))
        return false;
    for (size_t i = 0; i < n; i++)
        p.label[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + 32 : host[i]);
    if (!cg_preview_parse(p.label, n, id, &p.port)) {
        preview_page(r, 404, "No preview here", "The name of a preview is SANDBOX-PORT.", NULL);
        return true;
    }
    if (!find_sandbox(r, &p, id))
        return true;
    if (r->target[0] != '/') {
        preview_page(r, 400, "No preview here", "The request's target must be a path.", NULL);
        return true;
    }
    p.target = cg_strdup(r->target);
    admit(r, &p, false);
    return true;
}

/* "/<label>[/~<token>]<rest>" */
static void on_path_request(void *ctx, struct cg_http_req *r)
{
    struct cg_api *a = ctx;
    struct place p = {.api = a, .by_path = true};
    char id[CG_ID_TEXT];
    char token[CG_PREVIEW_TOKEN] = "";
    const char *at = r->target[0] == '/' ? r->target + 1 : "";
    size_t n = strcspn(at, "/?");
    if (!api_host_fine(a, r) || n >= sizeof p.label || !cg_preview_parse(at, n, id, &p.port)) {
        preview_page(r, 404, "No preview here", "Previews are at /SANDBOX-PORT/.", NULL);
        return;
    }
    cg_snprintf(p.label, sizeof p.label, "%.*s", (int)n, at);
    cg_snprintf(p.prefix, sizeof p.prefix, "/%s", p.label);
    if (!find_sandbox(r, &p, id))
        return;
    at += n;
    n = at[0] == '/' && at[1] == PREVIEW_TOKEN_PREFIX ? strcspn(at + 2, "/?") : 0;
    if (n > 0 && n < sizeof token) {
        cg_snprintf(token, sizeof token, "%.*s", (int)n, at + 2);
        cg_snprintf(p.prefix, sizeof p.prefix, "/%s/%c%s", p.label, PREVIEW_TOKEN_PREFIX, token);
        at += 2 + n;
    }
    if (at[0] != '/') { /* relative addresses of the page need the slash */
        CG_OWN(cg_drop_free) char *where = cg_format("%s/%s", p.prefix, at);
        redirect(r, where);
        return;
    }
    p.target = cg_strdup(at);
    admit(r, &p, token[0] && cg_preview_token_fine(p.sb->id, p.port, token));
}

/* --- start and end --- */

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t n = sizeof a;
    if (getsockname(fd, &a.any, &n) != 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

/* "https://preview.example.org[:port]" */
static bool read_url(struct preview *p, const char *url, struct cg_err *e)
{
    size_t scheme = cg_has_prefix(url, "https://") ? 5 : cg_has_prefix(url, "http://") ? 4 : 0;
    const char *host = url + scheme + 3;
    size_t n = scheme ? strcspn(host, ":/") : 0;
    if (!n || strpbrk(host, "/?#@ \r\n\"'<>") || n >= sizeof p->domain ||
        !cg_strlcpy(p->authority, sizeof p->authority, host))
        return cg_fail(e, CG_INVALID,
                       "previews.url must be as https://preview.example.org, not \"%.80s\"", url);
    cg_snprintf(p->scheme, sizeof p->scheme, "%.*s", (int)scheme, url);
    cg_snprintf(p->domain, sizeof p->domain, "%.*s", (int)n, host);
    return true;
}

static int listen_at(const char *text, struct cg_err *e)
{
    char host[128];
    const char *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (!colon || !cg_strlcpy(host, sizeof host, text)) {
        cg_fail(e, CG_INVALID, "previews.listen must be HOST:PORT, not \"%.80s\"", text);
        return -1;
    }
    host[colon - text] = '\0';
    int rc = getaddrinfo(host, colon + 1, &hints, &found);
    if (rc != 0) {
        cg_fail(e, CG_INVALID, "previews.listen %.80s: %s", text, gai_strerror(rc));
        return -1;
    }
    const int one = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 1024) == 0;
    if (!ok) {
        cg_fail_sys(e, "listen on %.80s for previews", text);
        cg_drop_fd(&fd);
    }
    freeaddrinfo(found);
    return fd;
}

static bool start_paths(struct cg_api *a, const char *text, struct cg_err *e)
{
    struct preview *p = a->preview;
    int fd = listen_at(text, e);
    if (fd < 0)
        return false;
    cg_snprintf(p->path_base, sizeof p->path_base, "http://%.*s:%d",
                (int)(strrchr(text, ':') - text), text, port_of(fd));
    p->paths = cg_http_server_create(a->core->loop, fd, on_path_request, a, e);
    if (!p->paths)
        close(fd);
    return p->paths != NULL;
}

bool api_previews_start(struct cg_api *a, int fd, struct cg_err *e)
{
    const struct cg_options *o = &a->core->options;
    char own[64];
    a->preview = cg_alloc(sizeof *a->preview);
    cg_snprintf(own, sizeof own, "http://preview.localhost:%d", port_of(fd));
    const char *url = o->preview_url ? o->preview_url : a->loopback ? own : NULL;
    return cg_previews_start(a->core, e) && (!url || read_url(a->preview, url, e)) &&
           (!o->preview_listen || start_paths(a, o->preview_listen, e));
}

void api_previews_finish(struct cg_api *a)
{
    if (!a->preview)
        return;
    cg_http_server_destroy(a->preview->paths);
    free(a->preview);
    a->preview = NULL;
}
