/* The one error object. Fallible functions return bool and take `struct cg_err *` last; context is
 * added on the way out, outermost first: "start sandbox cage-1f3a: open tap: Operation not
 * permitted". One table maps codes to their names on the wire, HTTP status and CLI exit code. */
#ifndef CG_BASE_ERR_H
#define CG_BASE_ERR_H

#include "base/defs.h"

enum cg_code {
    CG_OK = 0,
    CG_INVALID,      /* the caller's value is wrong; the text names it and what is allowed */
    CG_UNAUTHORIZED, /* no or bad credentials */
    CG_FORBIDDEN,    /* known, but not allowed */
    CG_NOT_FOUND,
    CG_CONFLICT, /* the object is in a state that does not allow this */
    CG_TOO_LARGE,
    CG_LIMIT,       /* a quota, rate or plan limit */
    CG_UNSUPPORTED, /* understood, but this build or machine cannot do it */
    CG_TIMEOUT,
    CG_CLOSED,      /* the other side is gone */
    CG_PROTOCOL,    /* the other side broke the protocol */
    CG_UNAVAILABLE, /* a part that is needed is not running or not ready */
    CG_IO,          /* the operating system refused; `sys` holds errno */
    CG_INTERNAL,
    CG_CODE_COUNT
};

struct cg_err {
    enum cg_code code;
    int sys; /* errno where the system refused, else 0 */
    char text[224];
};

#define CG_ERR_INIT                                                                                \
    {                                                                                              \
        .code = CG_OK                                                                              \
    }

/* Sets the error and returns false, so that `return cg_fail(e, ...)` reads well. e may be NULL. */
bool cg_fail(struct cg_err *e, enum cg_code code, const char *fmt, ...) CG_PRINTF(3, 4);

/* The same from errno: the text gets ": <strerror>" behind it, the code follows errno
 * (ENOENT: NOT_FOUND, EACCES/EPERM: FORBIDDEN, EEXIST: CONFLICT, ETIMEDOUT: TIMEOUT, else IO). */
bool cg_fail_sys(struct cg_err *e, const char *fmt, ...) CG_PRINTF(2, 3);

/* Puts context in front of an error that is set: "context: what it said". Returns false. */
bool cg_wrap(struct cg_err *e, const char *fmt, ...) CG_PRINTF(2, 3);

const char *cg_code_name(enum cg_code code);      /* "not_found": stable, used on the wire */
enum cg_code cg_code_from_name(const char *name); /* unknown names: CG_INTERNAL */
int cg_code_http(enum cg_code code);              /* 404 */
int cg_code_exit(enum cg_code code); /* the CLI's exit code: 0 or 1; usage errors are 2 */

#endif
