/* Request heads: what is refused before the parser sees it, the target taken apart, and what
 * handlers ask for: headers and decoded query parameters. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/inner.h"

/* NULL when the head may be parsed, else what is wrong with it. */
const char *head_judge(const char *p, size_t n)
{
    unsigned hosts = 0;
    bool first = true;
    bool length = false;
    bool encoding = false;
    while (n > 2) {
        const char *end = memchr(p, '\n', n);
        if (!end || end == p || end[-1] != '\r')
            return "a line of the head does not end with CR LF";
        size_t len = (size_t)(end - p) - 1;
        if (memchr(p, '\0', len) || memchr(p, '\r', len))
            return "the head holds NUL or a bare CR";
        if (!first && (p[0] == ' ' || p[0] == '\t'))
            return "folded headers are refused";
        hosts += !first && len >= 5 && strncasecmp(p, "host:", 5) == 0;
        length |= !first && len >= 15 && strncasecmp(p, "content-length:", 15) == 0;
        encoding |= !first && len >= 18 && strncasecmp(p, "transfer-encoding:", 18) == 0;
        first = false;
        n -= (size_t)(end - p) + 1;
        p = end + 1;
    }
    if (length && encoding)
        return "Content-Length and Transfer-Encoding together are refused";
    return hosts == 1 ? NULL : "exactly one Host header is needed";
}

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    ch = (char)tolower((unsigned char)ch);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* Percent-decodes n bytes; NULL for bad escapes and NUL. */
static char *decode(const char *p, size_t n, bool plus)
{
    char *out = cg_alloc(n + 1);
    size_t o = 0;
    for (size_t i = 0; i < n; i++) {
        char ch = p[i];
        if (ch == '%') {
            int high = i + 2 < n ? hex(p[i + 1]) : -1;
            int low = i + 2 < n ? hex(p[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                free(out);
                return NULL;
            }
            ch = (char)(high << 4 | low);
            i += 2;
        } else if (plus && ch == '+') {
            ch = ' ';
        }
        out[o++] = ch;
    }
    return out;
}

bool head_split_target(struct cg_http_req *r)
{
    if (r->target[0] != '/')
        return false; /* absolute-form and CONNECT are for proxies */
    size_t n = strcspn(r->target, "?");
    r->path = cg_strndup(r->target, n);
    r->query = r->target[n] ? r->target + n + 1 : r->target + n;
    for (const char *p = r->path + 1; *p;) {
        size_t len = strcspn(p, "/");
        if (r->segments == CG_HTTP_SEGMENTS)
            return false;
        char *s = decode(p, len, false);
        if (!s)
            return false;
        r->segment[r->segments++] = s;
        p += len + (p[len] == '/');
    }
    return true;
}

const char *cg_http_header(const struct cg_http_req *r, const char *name)
{
    const struct cg_http_conn *c = r->conn;
    for (unsigned i = 0; i < c->nheaders; i++) {
        if (strcasecmp(c->headers[i].name, name) == 0)
            return c->headers[i].value;
    }
    return NULL;
}

bool cg_http_header_at(const struct cg_http_req *r, unsigned i, const char **name,
                       const char **value)
{
    const struct cg_http_conn *c = r->conn;
    if (i >= c->nheaders)
        return false;
    *name = c->headers[i].name;
    *value = c->headers[i].value;
    return true;
}

/* The first of that name, as it came; NULL when there is none. */
static const char *find_query(const struct cg_http_req *r, const char *name, size_t *n)
{
    for (const char *p = r->query; *p;) {
        size_t len = strcspn(p, "&");
        const char *eq = memchr(p, '=', len);
        size_t key_n = eq ? (size_t)(eq - p) : len;
        CG_OWN(cg_drop_free) char *key = decode(p, key_n, true);
        if (key && strcmp(key, name) == 0) {
            *n = eq ? len - key_n - 1 : 0;
            return eq ? eq + 1 : p + len;
        }
        p += len + (p[len] == '&');
    }
    return NULL;
}

bool cg_http_query(const struct cg_http_req *r, const char *name, char *out, size_t size)
{
    size_t n = 0;
    const char *p = find_query(r, name, &n);
    CG_OWN(cg_drop_free) char *value = p ? decode(p, n, true) : NULL;
    return value && cg_strlcpy(out, size, value);
}

bool cg_http_query_has(const struct cg_http_req *r, const char *name)
{
    size_t n = 0;
    return find_query(r, name, &n) != NULL;
}
