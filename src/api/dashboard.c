/* The dashboard's files, served at / to whoever asks: they hold no data of an account. They are
 * read once, at the first request, into a table by path, so a request is only looked up and can
 * name nothing else on the disk. What a page may do is narrow: scripts, styles and connections of
 * this server only (CSP), no frames, no referrer. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/dashboard.h"
#include "base/fs.h"
#include "base/log.h"

enum { FILES_MAX = 512, FILE_MAX_BYTES = 4 << 20, ALL_MAX_BYTES = 24 << 20 };

struct asset {
    const char *type;
    bool hashed; /* its name changes with its content */
    char *text, *packed;
    size_t n, packed_n; /* packed: gzip, NULL when there is none */
};

struct dashboard {
    struct cg_map assets; /* "/assets/index-1a2b.js" */
    size_t files, bytes;
};

static const char policy[] =
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

static const char *type_of(const char *name)
{
    static const struct {
        const char *suffix, *type;
    } types[] = {{".html", "text/html; charset=utf-8"},
                 {".js", "text/javascript; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},
                 {".svg", "image/svg+xml"},
                 {".png", "image/png"},
                 {".woff2", "font/woff2"},
                 {".webmanifest", "application/manifest+json"},
                 {".txt", "text/plain; charset=utf-8"}};
    for (size_t i = 0; i < CG_COUNT(types); i++) {
        if (cg_has_suffix(name, types[i].suffix))
            return types[i].type;
    }
    return NULL;
}

static void add_file(struct dashboard *d, const char *folder, const char *prefix, const char *name)
{
    const char *type = type_of(name);
    if (!type || d->files >= FILES_MAX)
        return;
    CG_OWN(cg_drop_free) char *path = cg_format("%s%s%s", folder, prefix, name);
    CG_OWN(cg_drop_free) char *packed = cg_format("%s.gz", path);
    CG_OWN(cg_drop_free) char *key = cg_format("%s%s", prefix, name);
    struct cg_err e = CG_ERR_INIT;
    struct asset *a = cg_alloc(sizeof *a);
    a->type = type;
    a->hashed = cg_streq(prefix, "/assets/");
    if (!cg_fs_slurp(path, FILE_MAX_BYTES, &a->text, &a->n, &e) ||
        d->bytes + a->n > ALL_MAX_BYTES) {
        cg_log(CG_LOG_WARN, CG_EVENT("dashboard.file_left_out"), CG_S("file", path));
        free(a->text);
        free(a);
        return;
    }
    if (!cg_fs_slurp(packed, FILE_MAX_BYTES, &a->packed, &a->packed_n, &e))
        a->packed_n = 0;
    d->files++;
    d->bytes += a->n + a->packed_n;
    cg_map_put(&d->assets, key, a);
}

static void add_folder(struct dashboard *d, const char *folder, const char *prefix)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s%s", folder, prefix);
    CG_OWN(cg_drop_dir) DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            add_file(d, folder, prefix, entry->d_name);
    }
}

static struct dashboard *load(const struct cg_core *core)
{
    CG_OWN(cg_drop_free)
    char *folder = cg_format("%s/../../share/caged/dashboard", core->libexec_dir);
    struct dashboard *d = cg_alloc(sizeof *d);
    cg_map_init(&d->assets);
    add_folder(d, folder, "/");
    add_folder(d, folder, "/assets/");
    return d;
}

void cg_dashboard_destroy(struct dashboard *d)
{
    if (!d)
        return;
    size_t at = 0;
    const char *key;
    void *value;
    while (cg_map_next(&d->assets, &at, &key, &value)) {
        struct asset *a = value;
        free(a->text);
        free(a->packed);
        free(a);
    }
    cg_map_finish(&d->assets);
    free(d);
}

/* Does a list such as "gzip, deflate;q=0.5" name what is wanted, and not with a weight of 0? */
static bool accepts(const char *list, const char *wanted)
{
    size_t n = strlen(wanted);
    for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        size_t word = strcspn(p, " \t;,"), item = strcspn(p, ",");
        if (word != n || strncasecmp(p, wanted, n) != 0)
            continue;
        const char *q = memmem(p, item, "q=0", 3);
        const char *end = p + item;
        if (!q)
            return true;
        for (q += 3; q < end && (*q == '.' || *q == '0');)
            q++;
        return q < end && *q >= '1' && *q <= '9';
    }
    return false;
}

static void send_asset(struct cg_http_req *r, const struct asset *a)
{
    bool packed = a->packed_n > 0 && accepts(cg_http_header(r, "accept-encoding"), "gzip");
    cg_http_add_header(r, "Cache-Control",
                       a->hashed ? "public, max-age=31536000, immutable" : "no-cache");
    cg_http_add_header(r, "Content-Security-Policy", policy);
    cg_http_add_header(r, "Referrer-Policy", "no-referrer");
    cg_http_add_header(r, "Cross-Origin-Opener-Policy", "same-origin");
    cg_http_add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    cg_http_add_header(r, "Permissions-Policy", "camera=(), microphone=(), geolocation=()");
    cg_http_add_header(r, "Vary", "Accept-Encoding");
    if (packed)
        cg_http_add_header(r, "Content-Encoding", "gzip");
    struct cg_slice text =
        packed ? (struct cg_slice){a->packed, a->packed_n} : (struct cg_slice){a->text, a->n};
    cg_http_reply(r, 200, a->type, text);
}

static void send_not_built(struct cg_http_req *r)
{
    static const char text[] =
        "This server is up, but its dashboard was not built: node and npm were missing then.\n"
        "Install them (make setup), say make build, and start the server again.\n"
        "The command line and the API under /v1 work without it.\n";
    cg_http_reply(r, 404, "text/plain; charset=utf-8", cg_slice_of(text));
}

/* A page of the dashboard's own routes: asked for by a browser's address bar, without a suffix. */
static bool is_page(const struct cg_http_req *r)
{
    const char *last = r->segments ? r->segment[r->segments - 1] : "";
    return strcmp(r->path, "/") == 0 ||
           (accepts(cg_http_header(r, "accept"), "text/html") && !strchr(last, '.'));
}

bool cg_dashboard_serve(struct dashboard **d, const struct cg_core *core, struct cg_http_req *r)
{
    const char *first = r->segments ? r->segment[0] : "";
    bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    if (!reads || strcmp(first, "v1") == 0 || strcmp(first, "health") == 0)
        return false;
    if (!*d)
        *d = load(core);
    const struct asset *a = cg_map_get(&(*d)->assets, r->path);
    if (!a && is_page(r)) {
        a = cg_map_get(&(*d)->assets, "/index.html");
        if (!a) {
            cg_dashboard_destroy(*d); /* it may be built in the meantime */
            *d = NULL;
            send_not_built(r);
            return true;
        }
    }
    if (!a)
        return false;
    send_asset(r, a);
    return true;
}
