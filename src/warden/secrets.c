#include "warden/secrets.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "intercept/intercept.h"
#include "intercept/sight.h"
#include "warden/ready.h"

static const char ca_name[] = "ca.key";

#define BUNDLE "/etc/ssl/certs/ca-certificates.crt"

/* --- the record --- */

/* Only inside of strings: a value of digits must not change a number. */
static bool redact_strings(struct cg_redact *r, struct cg_slice in, struct cg_buf *out)
{
    bool in_string = false;
    bool fine = true;
    size_t from = 0;
    for (size_t i = 0; i < in.n && fine; i++) {
        if (in_string && in.p[i] == '\\') {
            i++; /* whatever is escaped does not end it */
        } else if (in.p[i] == '"') {
            const struct cg_slice part = {in.p + from, i - from};
            fine = in_string ? cg_redact_feed(r, part, out) && cg_redact_end(r, out)
                             : cg_buf_add(out, part.p, part.n);
            fine = fine && cg_buf_addc(out, '"');
            in_string = !in_string;
            from = i + 1;
        }
    }
    return fine && cg_buf_add(out, in.p + from, in.n - from);
}

static void filter_line(void *ctx, struct cg_buf *b, size_t start)
{
    const struct warden *w = ctx;
    const struct cg_slice line = {b->p + start, b->n - start};
    const struct cg_match *values = cg_secrets_values(w->secrets);
    const char *data = memmem(line.p, line.n, "\"data\":", 7);
    if (!data || cg_match_find(values, line, NULL, NULL) < 0)
        return;
    struct cg_redact r;
    struct cg_buf out;
    size_t head = (size_t)(data - line.p);
    cg_redact_init(&r, values, cg_secrets_names(w->secrets));
    cg_buf_init(&out, 1 << 20);
    bool fine = redact_strings(&r, (struct cg_slice){data, line.n - head}, &out);
    explicit_bzero(b->p + start + head, line.n - head);
    b->n = start + head;
    if (fine)
        cg_buf_add(b, out.p, out.n);
    else
        cg_buf_adds(b, "\"data\":{\"redacted\":true}}\n");
    cg_buf_finish(&out);
    cg_redact_finish(&r);
}

static bool filter_blob(void *ctx, struct cg_slice in, struct cg_buf *out)
{
    const struct warden *w = ctx;
    const struct cg_match *values = cg_secrets_values(w->secrets);
    if (cg_match_find(values, in, NULL, NULL) < 0)
        return false;
    struct cg_redact r;
    cg_redact_init(&r, values, cg_secrets_names(w->secrets));
    if (!cg_redact_feed(&r, in, out) || !cg_redact_end(&r, out))
        cg_buf_clear(out);
    cg_redact_finish(&r);
    return true;
}

static const struct cg_record_filter filter = {filter_line, filter_blob};

/* --- interception --- */

static void on_event(void *ctx, struct cg_slice data)
{
    struct warden *w = ctx;
    warden_active(w);
    cg_record_append(w->record, CG_REC_NETWORK, CG_SRC_HOST, NULL, data);
}

static void pass_unread(void *ctx, int fd, const struct cg_egress_peer *peer)
{
    struct warden *w = ctx;
    cg_egress_go_on(w->egress, fd, peer);
}

static bool looks(void *ctx, uint16_t port)
{
    const struct warden *w = ctx;
    return cg_intercept_looks(w->intercept, port);
}

static void take(void *ctx, int fd, const struct cg_egress_peer *peer)
{
    struct warden *w = ctx;
    cg_intercept_take(w->intercept, fd, peer);
}

static bool kept_ca(struct warden *w, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = openat(w->fds.dir, ca_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char text[CG_CA_KEPT];
    if (!w->config.same || fd < 0)
        return true;
    ssize_t n = read(fd, text, sizeof text);
    w->ca = n > 0 ? cg_ca_restore((struct cg_slice){text, (size_t)n}, e) : NULL;
    explicit_bzero(text, sizeof text);
    return w->ca != NULL;
}

bool secrets_keep_ca(const struct warden *w, struct cg_err *e)
{
    char text[CG_CA_KEPT];
    size_t n = 0;
    if (!w->ca)
        return true;
    CG_OWN(cg_drop_fd)
    int fd =
        openat(w->fds.dir, ca_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 || cg_fail_sys(e, "create %s", ca_name);
    ok = ok && cg_ca_keep(w->ca, text, &n, e) && cg_fd_write_full(fd, text, n, e) &&
         (fsync(fd) == 0 || cg_fail_sys(e, "write %s", ca_name));
    explicit_bzero(text, sizeof text);
    return ok;
}

static void whose(void *ctx, uint64_t conn, struct cg_jsonw *j)
{
    const struct warden *w = ctx;
    cg_egress_write_process(w->egress, conn, j);
}

static struct cg_egress_verdict permits(void *ctx, const struct cg_egress_peer *peer)
{
    const struct warden *w = ctx;
    return cg_egress_permits(w->egress, peer);
}

/* The certificate authority, once something is to be read. */
static bool begin(struct warden *w, const char *ca_pem, struct cg_err *e)
{
    if (w->ca)
        return true;
    if (!kept_ca(w, e))
        return false;
    if (!w->ca)
        w->ca = ready_take_ca(w->fds.ready);
    if (!w->ca)
        w->ca = cg_ca_create(w->config.id, e);
    if (!w->ca)
        return false;
    cg_intercept_trust(w->intercept, w->ca, ca_pem);
    return true;
}

bool secrets_start(struct warden *w, const struct cg_json *request, struct cg_err *e)
{
    if (w->secrets)
        return true;
    const char *guest_ca = cg_json_str(request, "guest_ca_pem");
    w->guest_ca = guest_ca ? cg_strdup(guest_ca) : NULL;
    w->secrets = cg_secrets_create();
    if (!cg_secrets_load(w->secrets, cg_json_get(request, "secrets"), e))
        return false;
    cg_record_set_filter(w->record, &filter, w);
    const struct cg_intercept_options o = {.secrets = w->secrets,
                                           .permits = permits,
                                           .pass = pass_unread,
                                           .event = on_event,
                                           .whose = whose,
                                           .ctx = w};
    w->intercept = cg_intercept_create(w->loop, &o);
    const struct cg_egress_reader reader = {looks, take, cg_sight, w};
    cg_egress_set_reader(w->egress, &reader);
    return cg_secrets_count(w->secrets) == 0 || begin(w, cg_json_str(request, "ca_pem"), e);
}

bool secrets_serve(struct warden *w, const char *host, cg_egress_serve_fn *serve, void *ctx,
                   struct cg_err *e)
{
    if (!begin(w, NULL, e))
        return false;
    cg_intercept_add_service(w->intercept, host, serve, ctx);
    return true;
}

/* --- setup --- */

/* Node reads this beside its own list, each time it starts: it gets our certificate alone. */
static const char extra_ca[] = "NODE_EXTRA_CA_CERTS";

#define OUR_CA "/etc/ssl/certs/caged-ca.pem"

static const char *const ca_variables[] = {
    "SSL_CERT_FILE",     extra_ca,         "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",    "GIT_SSL_CAINFO", "PIP_CERT",
    "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE",  "DENO_CERT"};

void secrets_write_setup(const struct warden *w, struct cg_jsonw *j)
{
    const struct cg_json *env = w->config.env;
    cg_jsonw_key(j, "env");
    cg_jsonw_obj(j);
    for (const struct cg_json *m = env ? env->child : NULL; m; m = m->next) {
        const struct cg_secret *s = cg_secrets_find(w->secrets, m->key.p);
        if (!s || !s->placeholder[0])
            cg_jsonw_kstrn(j, m->key.p, m->str.p, m->str.n);
    }
    for (unsigned i = 0; i < cg_secrets_count(w->secrets); i++) {
        const struct cg_secret *s = cg_secrets_at(w->secrets, i);
        if (s->placeholder[0])
            cg_jsonw_kstr(j, s->name, s->placeholder);
    }
    for (size_t i = 0; (w->ca || w->guest_ca) && i < CG_COUNT(ca_variables); i++)
        if (!cg_json_get(env, ca_variables[i]))
            cg_jsonw_kstr(j, ca_variables[i],
                          cg_streq(ca_variables[i], extra_ca) ? OUR_CA : BUNDLE);
    cg_jsonw_obj_end(j);
    if (!w->ca && !w->guest_ca)
        return;
    CG_OWN(cg_drop_free)
    char *all = cg_format("%s%s", w->ca ? cg_ca_pem(w->ca) : "", w->guest_ca ? w->guest_ca : "");
    cg_jsonw_kstr(j, "ca_pem", all);
}

void secrets_second(struct warden *w)
{
    if (w->intercept)
        cg_intercept_second(w->intercept);
}

void secrets_close(struct warden *w)
{
    cg_intercept_destroy(w->intercept);
    w->intercept = NULL;
}

void secrets_finish(struct warden *w)
{
    free(w->guest_ca);
    w->guest_ca = NULL;
    cg_ca_destroy(w->ca);
    cg_secrets_destroy(w->secrets);
    w->ca = NULL;
    w->secrets = NULL;
}
