#include "core/hostca.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/map.h"

enum { BUNDLE_MAX = 4 << 20, FILE_MAX = 256 * 1024, LINE = 64 };

static const char bundle_path[] = "/etc/ssl/certs/ca-certificates.crt";
static const char distribution_path[] = "/usr/share/ca-certificates";
static const char begin_line[] = "-----BEGIN CERTIFICATE-----";
static const char end_line[] = "-----END CERTIFICATE-----";

/* The next certificate at or behind *at, as its base64 alone, however it was broken into lines; the
 * caller's. NULL at the end. */
static char *next(const char **at)
{
    static const char base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    const char *begin = strstr(*at, begin_line);
    const char *end = begin ? strstr(begin, end_line) : NULL;
    if (!end)
        return NULL;
    begin += sizeof begin_line - 1;
    char *out = cg_alloc((size_t)(end - begin) + 1);
    size_t n = 0;
    for (const char *p = begin; p < end; p++)
        if (strchr(base64, *p))
            out[n++] = *p;
    *at = end + sizeof end_line - 1;
    return out;
}

static void add_pem(struct cg_buf *b, const char *body)
{
    cg_buf_addf(b, "%s\n", begin_line);
    for (size_t n = strlen(body); n > 0;) {
        size_t line = CG_MIN(n, (size_t)LINE);
        cg_buf_addf(b, "%.*s\n", (int)line, body);
        body += line;
        n -= line;
    }
    cg_buf_addf(b, "%s\n", end_line);
}

/* Adds the certificates of a text that are not in `have`, and puts them there. */
static void take(const char *pem, struct cg_map *have, struct cg_buf *out)
{
    static char seen;
    const char *at = pem;
    for (char *body = next(&at); body; body = next(&at)) {
        size_t whole = out->n;
        if (body[0] && !cg_map_get(have, body)) {
            cg_map_put(have, body, &seen);
            add_pem(out, body);
        }
        free(body);
        if (out->full) { /* none is better than half of one */
            out->n = whole;
            cg_log(CG_LOG_WARN, CG_EVENT("network.guest_ca_cut"), CG_I("max", CG_HOSTCA_MAX));
            return;
        }
    }
}

static char *finish(struct cg_buf *b)
{
    b->full = false;
    char *out = b->n ? cg_strndup(cg_buf_cstr(b), b->n) : NULL;
    cg_buf_finish(b);
    return out;
}

char *cg_hostca_clean(const char *pem)
{
    struct cg_map have;
    struct cg_buf out;
    cg_map_init(&have);
    cg_buf_init(&out, CG_HOSTCA_MAX);
    take(pem, &have, &out);
    cg_map_finish(&have);
    return finish(&out);
}

static void know_files(const char *folder, const char *pattern, struct cg_map *have)
{
    static char seen;
    CG_OWN(cg_drop_free) char *files = cg_format("%s/%s", folder, pattern);
    glob_t found;
    if (glob(files, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        CG_OWN(cg_drop_free) char *text = NULL;
        if (!cg_fs_slurp(found.gl_pathv[i], FILE_MAX, &text, NULL, NULL))
            continue;
        const char *at = text;
        for (char *body = next(&at); body; body = next(&at)) {
            cg_map_put(have, body, &seen);
            free(body);
        }
    }
    globfree(&found);
}

char *cg_hostca_added(const char *bundle, const char *distribution)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    struct cg_map have;
    struct cg_buf out;
    cg_map_init(&have);
    cg_buf_init(&out, CG_HOSTCA_MAX);
    know_files(distribution, "*.crt", &have);
    know_files(distribution, "*/*.crt", &have);
    if (have.count > 0 && cg_fs_slurp(bundle, BUNDLE_MAX, &text, NULL, NULL))
        take(text, &have, &out);
    cg_map_finish(&have);
    return finish(&out);
}

bool cg_hostca_read(const char *how, const char *more, char **out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    *out = NULL;
    if (cg_streq(how, "none"))
        return true;
    if (how && !cg_streq(how, "host")) {
        if (!cg_fs_slurp(how, BUNDLE_MAX, &text, NULL, e))
            return cg_wrap(e, "network.guest_ca");
        *out = cg_hostca_clean(text);
        return *out ||
               cg_fail(e, CG_INVALID, "network.guest_ca: %s holds no certificate in PEM", how);
    }
    CG_OWN(cg_drop_free) char *added = cg_hostca_added(bundle_path, distribution_path);
    CG_OWN(cg_drop_free) char *all = cg_format("%s%s", added ? added : "", more ? more : "");
    *out = cg_hostca_clean(all);
    return true;
}
