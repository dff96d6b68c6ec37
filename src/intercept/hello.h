/* The server name of a TLS ClientHello (RFC 8446, RFC 6066), out of the first bytes of a
 * connection. Pure and strict; the hello may be cut over records. */
#ifndef CG_INTERCEPT_HELLO_H
#define CG_INTERCEPT_HELLO_H

#include "base/buf.h"

enum { CG_HELLO_MAX = 16 * 1024, CG_HELLO_NAME = 254 };

enum cg_hello {
    CG_HELLO_MORE,    /* bytes are missing */
    CG_HELLO_NAMED,   /* name: lower case, without a dot at the end */
    CG_HELLO_NONE,    /* TLS without a name, or with one that is no host name */
    CG_HELLO_NOT_TLS, /* something else, or broken */
};

/* *hidden, when it is not NULL: there is an encrypted hello too, whose name may be another. */
enum cg_hello cg_hello_name(struct cg_slice in, char name[CG_HELLO_NAME], bool *hidden);

#endif
