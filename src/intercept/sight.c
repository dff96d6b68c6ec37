#include "intercept/sight.h"

#include <string.h>

#include "intercept/http1.h"

_Static_assert(CG_HELLO_NAME == (int)CG_EGRESS_NAME, "both are host names");

enum { METHOD_MAX = 16, TLS_HANDSHAKE = 22 };

/* "name" or "name:port", with the port that the connection has. */
static bool host_of(struct cg_slice value, uint16_t port, char name[CG_EGRESS_NAME])
{
    char text[CG_EGRESS_NAME + 8];
    char with_port[8];
    if (value.n == 0 || value.n >= sizeof text || memchr(value.p, '\0', value.n))
        return false;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    char *colon = strchr(text, ':');
    cg_snprintf(with_port, sizeof with_port, ":%u", port);
    if (colon && strcmp(colon, with_port) != 0)
        return false;
    if (colon)
        *colon = '\0';
    return cg_egress_name_parse(text, name);
}

static enum cg_egress_sight head_of(struct cg_slice text, uint16_t port, char name[CG_EGRESS_NAME])
{
    struct cg_http1_head h;
    struct cg_slice host;
    if (!cg_http1_request(text, &h) || cg_http1_get(&h, "host", &host) != 1 ||
        !host_of(host, port, name))
        return CG_SIGHT_HTTP_NO_NAME;
    return CG_SIGHT_HTTP;
}

/* Upper-case letters and a blank, as far as they are there. */
static bool may_be_http(struct cg_slice in)
{
    size_t n = 0;
    while (n < in.n && n < METHOD_MAX && ((in.p[n] >= 'A' && in.p[n] <= 'Z') || in.p[n] == '-'))
        n++;
    return n > 0 && (n == in.n || (n >= 3 && in.p[n] == ' '));
}

static bool is_http(struct cg_slice in, uint16_t port, enum cg_egress_sight *sight,
                    char name[CG_EGRESS_NAME])
{
    static const char end[] = "\r\n\r\n";
    static const char version[] = " HTTP/";
    const char *line = memchr(in.p, '\n', in.n);
    /* other protocols have commands like these: the first line tells */
    if (line && !memmem(in.p, (size_t)(line - in.p), version, sizeof version - 1)) {
        *sight = CG_SIGHT_OTHER;
        return true;
    }
    const char *stop = memmem(in.p, in.n, end, sizeof end - 1);
    if (!stop && in.n < CG_HELLO_MAX)
        return false;
    *sight = CG_SIGHT_HTTP_NO_NAME;
    if (stop)
        *sight =
            head_of((struct cg_slice){in.p, (size_t)(stop - in.p) + sizeof end - 1}, port, name);
    if (*sight == CG_SIGHT_HTTP_NO_NAME)
        name[0] = '\0';
    return true;
}

bool cg_sight(struct cg_slice in, uint16_t port, enum cg_egress_sight *sight,
              char name[CG_EGRESS_NAME])
{
    bool hidden = false;
    name[0] = '\0';
    if (in.n > CG_HELLO_MAX)
        in.n = CG_HELLO_MAX;
    if (in.n > 0 && may_be_http(in))
        return is_http(in, port, sight, name);
    switch (cg_hello_name(in, name, &hidden)) {
    case CG_HELLO_MORE:
        return false;
    case CG_HELLO_NAMED:
        *sight = hidden ? CG_SIGHT_TLS_HIDDEN : CG_SIGHT_TLS;
        break;
    case CG_HELLO_NONE:
        *sight = hidden ? CG_SIGHT_TLS_HIDDEN : CG_SIGHT_TLS_NO_NAME;
        break;
    case CG_HELLO_NOT_TLS: /* a broken hello is no other protocol */
        *sight = in.n > 0 && in.p[0] == TLS_HANDSHAKE ? CG_SIGHT_TLS_NO_NAME : CG_SIGHT_OTHER;
        break;
    }
    if (*sight != CG_SIGHT_TLS)
        name[0] = '\0';
    return true;
}

enum cg_egress_sight cg_sight_cut(struct cg_slice in)
{
    if (in.n == 0)
        return CG_SIGHT_SILENT;
    if (in.p[0] == TLS_HANDSHAKE)
        return CG_SIGHT_TLS_NO_NAME;
    return may_be_http(in) ? CG_SIGHT_HTTP_NO_NAME : CG_SIGHT_OTHER;
}
