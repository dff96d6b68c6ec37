/* Finding the server and talking to it, by libcurl. */
#include "cli/client.h"

#include <curl/curl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yaml.h>

#include "base/fs.h"
#include "cli/verb.h"

enum { BODY_MAX = 64 << 20, CONNECT_S = 10, RATE_WAIT_S = 30 };

int cli_error(const struct cg_err *e)
{
    fputs("error: ", stderr);
    cli_print_text(stderr, e->text, strlen(e->text)); /* may be a server's words, or a guest's */
    fputc('\n', stderr);
    return 1;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("error: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return 2;
}

char *cli_state_dir(void)
{
    const char *set = getenv("CAGED_STATE_DIR");
    if (set && set[0])
        return cg_strdup(set);
    if (getuid() == 0)
        return cg_strdup("/var/lib/caged");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    return xdg && xdg[0] == '/' ? cg_format("%s/caged", xdg)
                                : cg_format("%s/.local/state/caged", home ? home : "/tmp");
}

/* <prefix>/bin/caged: the other parts are beside it. */
static char *beside(const char *env, const char *rest)
{
    const char *set = getenv(env);
    if (set && set[0])
        return cg_strdup(set);
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return cg_format("/usr/%s", rest);
    exe[n] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(exe, '/');
        if (slash)
            *slash = '\0';
    }
    return cg_format("%s/%s", exe, rest);
}

char *cli_libexec(void)
{
    return beside("CAGED_LIBEXEC_DIR", "libexec/caged");
}

char *cli_share(void)
{
    return beside("CAGED_SHARE_DIR", "share/caged");
}

/* --- finding the server --- */

static void trim(char *s)
{
    s[strcspn(s, "\r\n \t")] = '\0';
}

/* The owner's key is for the server of this state directory and for no other. */
static bool is_this_server(const char *url, const char *address)
{
    const char *port = strrchr(address, ':');
    CG_OWN(cg_drop_free) char *plain = cg_format("http://%s", address);
    CG_OWN(cg_drop_free) char *by_name = cg_format("http://localhost%s", port ? port : "");
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    return (strlen(plain) == n && strncmp(plain, url, n) == 0) ||
           (cg_has_prefix(address, "127.") && strlen(by_name) == n &&
            strncmp(by_name, url, n) == 0);
}

static bool from_state(struct cli *c)
{
    CG_OWN(cg_drop_free) char *info = cg_format("%s/server.json", c->state_dir);
    CG_OWN(cg_drop_free) char *key = cg_format("%s/owner.key", c->state_dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    if (!cg_fs_slurp(info, 65536, &text, NULL, NULL))
        return false;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(text), NULL, NULL);
    const char *address = cg_json_str(j, "listen");
    int64_t pid = cg_json_int(j, "pid", 0);
    if (!address || pid <= 0)
        return false;
    char proc[64];
    cg_snprintf(proc, sizeof proc, "/proc/%lld", (long long)pid);
    if (!cg_fs_exists(proc))
        return false; /* of a server that was killed */
    if (!c->url)
        c->url = cg_format("http://%s", address);
    if (!c->key && is_this_server(c->url, address) && cg_fs_slurp(key, 256, &c->key, NULL, NULL))
        trim(c->key);
    return c->key != NULL;
}

/* api_url and api_key of ~/.config/caged/config.yaml or config.json (YAML reads both). */
static void from_config(struct cli *c)
{
    const char *home = getenv("HOME");
    static const char *const names[] = {"config.yaml", "config.json"};
    for (size_t i = 0; home && i < CG_COUNT(names); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/.config/caged/%s", home, names[i]);
        CG_OWN(cg_drop_file) FILE *f = fopen(path, "re");
        yaml_parser_t parser;
        yaml_document_t doc;
        if (!f || !yaml_parser_initialize(&parser))
            continue;
        yaml_parser_set_input_file(&parser, f);
        if (yaml_parser_load(&parser, &doc)) {
            yaml_node_t *root = yaml_document_get_root_node(&doc);
            if (root && root->type == YAML_MAPPING_NODE) {
                for (yaml_node_pair_t *p = root->data.mapping.pairs.start;
                     p < root->data.mapping.pairs.top; p++) {
                    yaml_node_t *k = yaml_document_get_node(&doc, p->key);
                    yaml_node_t *v = yaml_document_get_node(&doc, p->value);
                    if (k->type != YAML_SCALAR_NODE || v->type != YAML_SCALAR_NODE)
                        continue;
                    const char *name = (const char *)k->data.scalar.value;
                    char **to = strcmp(name, "api_url") == 0   ? &c->url
                                : strcmp(name, "api_key") == 0 ? &c->key
                                                               : NULL;
                    if (to && !*to)
                        *to = cg_strdup((const char *)v->data.scalar.value);
                }
            }
            yaml_document_delete(&doc);
        }
        yaml_parser_delete(&parser);
    }
}

static bool offer_to_start(struct cg_err *e)
{
    cg_fail(e, CG_UNAVAILABLE, "no server runs here: start it with `caged server start`");
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    fprintf(stderr, "No server runs here. Start it now? [Y/n] ");
    char answer[16] = "";
    if (!fgets(answer, sizeof answer, stdin) ||
        (answer[0] != '\n' && answer[0] != 'y' && answer[0] != 'Y'))
        return false;
    char *argv[] = {(char[]){"server"}, (char[]){"start"}, NULL};
    return verb_server(2, argv) == 0;
}

bool cli_find(struct cli *c, struct cg_err *e)
{
    const char *url = getenv("CAGED_API_URL");
    const char *key = getenv("CAGED_API_KEY");
    *c = (struct cli){.state_dir = cli_state_dir()};
    from_config(c);
    if (!c->url && url && url[0])
        c->url = cg_strdup(url);
    if (!c->key && key && key[0])
        c->key = cg_strdup(key);
    if (c->url && c->key)
        return true;
    bool remote = c->url != NULL;
    if (from_state(c))
        return true;
    if (remote)
        return cg_fail(e, CG_UNAUTHORIZED,
                       "there is no API key for %s: set CAGED_API_KEY (the owner's key of this "
                       "machine goes to its own server only)",
                       c->url);
    return offer_to_start(e) &&
           (from_state(c) || cg_fail(e, CG_UNAVAILABLE, "the server did not start"));
}

bool cli_locate(struct cli *c, const char *url, struct cg_err *e)
{
    const char *set = getenv("CAGED_API_URL");
    *c = (struct cli){.state_dir = cli_state_dir(), .url = url ? cg_strdup(url) : NULL};
    if (!c->url)
        from_config(c);
    if (!c->url && set && set[0])
        c->url = cg_strdup(set);
    bool found = c->url || from_state(c);
    free(c->key);
    c->key = NULL;
    if (!found)
        return cg_fail(e, CG_INVALID,
                       "which server? caged login --url https://caged.example.org, or start one "
                       "here with `caged server start`");
    return cg_has_prefix(c->url, "http://") || cg_has_prefix(c->url, "https://") ||
           cg_fail(e, CG_INVALID, "%.100s is no http:// or https:// address", c->url);
}

void cli_find_again(struct cli *c)
{
    struct cli now = {.state_dir = cli_state_dir()};
    if (getenv("CAGED_API_URL") || !from_state(&now)) {
        cli_finish(&now); /* not back yet, or not ours to look for: the same place again */
        return;
    }
    cli_finish(c);
    *c = now;
}

void cli_finish(struct cli *c)
{
    free(c->state_dir);
    free(c->url);
    free(c->key);
    *c = (struct cli){0};
}

/* --- calls --- */

struct transfer {
    CURL *curl;
    struct curl_slist *headers;
    const struct cli_pipe *pipe;
    struct cg_buf *out;
    struct cg_buf problem; /* the body of an error */
    bool refused;          /* the sink did not want more */
    int retry_after;       /* seconds, when there were too many requests */
};

static size_t on_write(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    long status = 0;
    n *= size;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 != 2) {
        cg_buf_add(&t->problem, p, n);
        return n;
    }
    if (t->pipe && t->pipe->write && !t->pipe->write(t->pipe->ctx, (struct cg_slice){p, n})) {
        t->refused = true;
        return 0;
    }
    if (t->out && !cg_buf_add(t->out, p, n))
        return 0;
    return n;
}

static size_t on_read(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t got = t->pipe->read(t->pipe->ctx, p, size * n);
    return got == SIZE_MAX ? CURL_READFUNC_ABORT : got;
}

/* What is not about who somebody is, is asked for the team that CAGED_TEAM names. */
static char *url_of(int n, const char *base, const char *path)
{
    const char *team = getenv("CAGED_TEAM");
    if (!team || !team[0] || !cg_has_prefix(path, "/v1/") || cg_has_prefix(path, "/v1/auth/") ||
        cg_has_prefix(path, "/v1/teams"))
        return cg_format("%.*s%s", n, base, path);
    CG_OWN(cg_drop_free) char *escaped = cli_escape(team);
    return cg_format("%.*s%s%cteam=%s", n, base, path, strchr(path, '?') ? '&' : '?', escaped);
}

void *cli_curl(const struct cli *c, const char *path)
{
    static bool started;
    if (!started)
        curl_global_init(CURL_GLOBAL_DEFAULT);
    started = true;
    size_t n = strlen(c->url);
    while (n > 0 && c->url[n - 1] == '/')
        n--;
    CG_OWN(cg_drop_free) char *url = url_of((int)n, c->url, path);
    CURL *curl = curl_easy_init();
    CG_ASSERT(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "caged-cli/" CG_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
    const char *authorities = getenv("SSL_CERT_FILE"); /* as curl itself reads it */
    if (authorities && authorities[0])
        curl_easy_setopt(curl, CURLOPT_CAINFO, authorities);
    return curl;
}

static void begin(struct transfer *t, const struct cli *c, const char *method, const char *path)
{
    CG_OWN(cg_drop_free) char *auth = cg_format("Authorization: Bearer %s", c->key ? c->key : "");
    cg_buf_init(&t->problem, 1 << 20);
    t->curl = cli_curl(c, path);
    t->headers = curl_slist_append(NULL, "Expect:");
    if (c->key)
        t->headers = curl_slist_append(t->headers, auth);
    curl_easy_setopt(t->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
}

/* The server's own words for a refusal. */
static bool explain(struct transfer *t, long status, struct cg_err *e)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_buf_slice(&t->problem), NULL, NULL);
    const char *detail = cg_json_str(j, "detail");
    const char *title = cg_json_str(j, "title");
    enum cg_code code = status == 404   ? CG_NOT_FOUND
                        : status == 401 ? CG_UNAUTHORIZED
                        : status == 409 ? CG_CONFLICT
                        : status == 429 ? CG_LIMIT
                        : status >= 500 ? CG_UNAVAILABLE
                                        : CG_INVALID;
    if (!detail && cg_json_str(j, "error")) /* the device flow's words */
        return cg_fail(e, code, "%s", cg_json_str(j, "error"));
    if (!detail)
        return cg_fail(e, code, "the server answered %ld%s%s", status, title ? " " : "",
                       title ? title : "");
    return cg_fail(e, code, "%s", detail);
}

static bool finish(struct transfer *t, struct cli *c, struct cg_err *e)
{
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, t->headers);
    CURLcode rc = curl_easy_perform(t->curl);
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    bool ok = rc == CURLE_OK || t->refused;
    if (status == 429) {
        curl_off_t seconds = 0;
        curl_easy_getinfo(t->curl, CURLINFO_RETRY_AFTER, &seconds);
        t->retry_after = (int)CG_MAX(1, CG_MIN(seconds, RATE_WAIT_S));
    }
    if (status && status / 100 != 2)
        ok = explain(t, status, e);
    else if (!ok)
        cg_fail(e, rc == CURLE_COULDNT_CONNECT ? CG_UNAVAILABLE : CG_CLOSED, "%s: %s", c->url,
                curl_easy_strerror(rc));
    curl_slist_free_all(t->headers);
    curl_easy_cleanup(t->curl);
    cg_buf_finish(&t->problem);
    return ok;
}

static bool call_once(struct cli *c, const char *method, const char *path, struct cg_slice body,
                      struct cg_buf *out, int *retry_after, struct cg_err *e)
{
    struct transfer t = {.out = out};
    begin(&t, c, method, path);
    if (body.n > 0 || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        curl_easy_setopt(t.curl, CURLOPT_POSTFIELDS, body.n ? body.p : "");
        curl_easy_setopt(t.curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
        t.headers = curl_slist_append(t.headers, "Content-Type: application/json");
    }
    bool ok = finish(&t, c, e);
    *retry_after = t.retry_after;
    return ok;
}

/* A request that came too often was not acted on: it is made again, as the server says when. */
bool cli_call(struct cli *c, const char *method, const char *path, struct cg_slice body,
              struct cg_buf *out, struct cg_err *e)
{
    int retry_after = 0;
    for (int waited = 0; !call_once(c, method, path, body, out, &retry_after, e);) {
        if (retry_after == 0 || waited + retry_after > RATE_WAIT_S)
            return false;
        sleep((unsigned)retry_after);
        waited += retry_after;
        if (e)
            *e = (struct cg_err)CG_ERR_INIT;
    }
    return true;
}

struct cg_json *cli_json(struct cli *c, const char *method, const char *path, struct cg_slice body,
                         struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, BODY_MAX);
    if (!cli_call(c, method, path, body, &out, e))
        return NULL;
    const struct cg_json_limits limits = {BODY_MAX, 64, 4000000};
    return cg_json_parse(cg_buf_slice(&out), &limits, e);
}

bool cli_stream(struct cli *c, const char *method, const char *path, const struct cli_pipe *pipe,
                struct cg_err *e)
{
    struct transfer t = {.pipe = pipe};
    begin(&t, c, method, path);
    if (pipe->read) {
        curl_easy_setopt(t.curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(t.curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(t.curl, CURLOPT_READDATA, &t);
        t.headers = curl_slist_append(t.headers, "Transfer-Encoding: chunked");
    }
    return finish(&t, c, e);
}

/* --- server-sent events --- */

struct sse {
    cli_event_fn each;
    void *ctx;
    struct cg_buf line, data;
    char id[80];
    char event[32];
};

static bool sse_line(struct sse *s)
{
    const char *l = cg_buf_cstr(&s->line);
    size_t n = s->line.n;
    if (n == 0) {
        bool more = true;
        if (s->data.n > 0)
            more =
                s->each(s->ctx, s->id, s->event[0] ? s->event : "message", cg_buf_slice(&s->data));
        cg_buf_clear(&s->data);
        s->event[0] = '\0';
        return more;
    }
    const char *colon = memchr(l, ':', n);
    if (!colon || colon == l)
        return true;
    const char *value = colon + 1 + (colon[1] == ' ');
    if (cg_has_prefix(l, "id:"))
        cg_strlcpy(s->id, sizeof s->id, value);
    else if (cg_has_prefix(l, "event:"))
        cg_strlcpy(s->event, sizeof s->event, value);
    else if (cg_has_prefix(l, "data:"))
        cg_buf_add(&s->data, value, n - (size_t)(value - l));
    return true;
}

static bool sse_bytes(void *ctx, struct cg_slice bytes)
{
    struct sse *s = ctx;
    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i] != '\n') {
            cg_buf_addc(&s->line, bytes.p[i]);
            continue;
        }
        if (s->line.n > 0 && s->line.p[s->line.n - 1] == '\r')
            s->line.n--;
        bool more = sse_line(s);
        cg_buf_clear(&s->line);
        if (!more)
            return false;
    }
    return true;
}

bool cli_events(struct cli *c, const char *path, cli_event_fn each, void *ctx, bool *ended,
                struct cg_err *e)
{
    struct sse s = {.each = each, .ctx = ctx};
    cg_buf_init(&s.line, 4 << 20);
    cg_buf_init(&s.data, 4 << 20);
    const struct cli_pipe pipe = {.write = sse_bytes, .ctx = &s};
    bool ok = cli_stream(c, "GET", path, &pipe, e);
    *ended = ok;
    cg_buf_finish(&s.line);
    cg_buf_finish(&s.data);
    return ok;
}

char *cli_escape(const char *s)
{
    char *out = cg_alloc(strlen(s) * 3 + 1);
    char *o = out;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || c == '/';
        if (plain)
            *o++ = (char)c;
        else
            o += snprintf(o, 4, "%%%02X", c);
    }
    return out;
}
