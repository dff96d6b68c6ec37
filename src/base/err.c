/* Error texts are cut at the end, never in front: the outermost context names the thing. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int http;
} codes[CG_CODE_COUNT] = {
    [CG_OK] = {"ok", 200},
    [CG_INVALID] = {"invalid", 400},
    [CG_UNAUTHORIZED] = {"unauthorized", 401},
    [CG_FORBIDDEN] = {"forbidden", 403},
    [CG_NOT_FOUND] = {"not_found", 404},
    [CG_CONFLICT] = {"conflict", 409},
    [CG_TOO_LARGE] = {"too_large", 413},
    [CG_LIMIT] = {"limit", 429},
    [CG_UNSUPPORTED] = {"unsupported", 501},
    [CG_TIMEOUT] = {"timeout", 504},
    [CG_CLOSED] = {"closed", 502},
    [CG_PROTOCOL] = {"protocol", 502},
    [CG_UNAVAILABLE] = {"unavailable", 503},
    [CG_IO] = {"io", 500},
    [CG_INTERNAL] = {"internal", 500},
};

static enum cg_code code_of_errno(int sys)
{
    switch (sys) {
    case ENOENT:
    case ESRCH:
        return CG_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return CG_FORBIDDEN;
    case EEXIST:
    case ENOTEMPTY:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
        return CG_CONFLICT;
    case ENAMETOOLONG:
        return CG_INVALID;
    case ETIMEDOUT:
        return CG_TIMEOUT;
    case EPIPE:
    case ECONNRESET:
        return CG_CLOSED;
    default:
        return CG_IO;
    }
}

bool cg_fail(struct cg_err *e, enum cg_code code, const char *fmt, ...)
{
    if (!e)
        return false;
    e->code = code;
    e->sys = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return false;
}

bool cg_fail_sys(struct cg_err *e, const char *fmt, ...)
{
    int sys = errno;
    if (!e)
        return false;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror(sys));
    e->code = code_of_errno(sys);
    e->sys = sys;
    return false;
}

bool cg_wrap(struct cg_err *e, const char *fmt, ...)
{
    if (!e)
        return false;
    char inner[sizeof e->text];
    memcpy(inner, e->text, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text) {
        char *rest = e->text + n;
        size_t room = sizeof e->text - (size_t)n;
        if (snprintf(rest, room, ": %s", inner) < 0)
            *rest = '\0';
    }
    return false;
}

const char *cg_code_name(enum cg_code code)
{
    return (unsigned)code < CG_CODE_COUNT ? codes[code].name : codes[CG_INTERNAL].name;
}

enum cg_code cg_code_from_name(const char *name)
{
    for (unsigned i = 0; i < CG_CODE_COUNT; i++) {
        if (strcmp(codes[i].name, name) == 0)
            return (enum cg_code)i;
    }
    return CG_INTERNAL;
}

int cg_code_http(enum cg_code code)
{
    return (unsigned)code < CG_CODE_COUNT ? codes[code].http : 500;
}

int cg_code_exit(enum cg_code code)
{
    return code == CG_OK ? 0 : 1;
}
