/* Fuzz body of what a connection says first: two bytes are the port, the rest is the stream. What
 * is seen does not depend on how the stream is cut, a name is one that a policy could hold, and
 * once something is known no more bytes change it. */
#include <stdint.h>
#include <string.h>

#include "intercept/sight.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
    bool known;
    enum cg_egress_sight sight;
    char name[CG_EGRESS_NAME];
};

static struct seen look(const char *p, size_t n, uint16_t port)
{
    struct seen s = {.known = false};
    s.known = cg_sight((struct cg_slice){p, n}, port, &s.sight, s.name);
    return s;
}

static void check(const struct seen *s, struct cg_slice in, uint16_t port)
{
    char plain[CG_EGRESS_NAME];
    bool named = s->sight == CG_SIGHT_TLS || s->sight == CG_SIGHT_HTTP;
    CG_ASSERT(named == (s->name[0] != '\0'));
    CG_ASSERT(memchr(s->name, '\0', sizeof s->name) != NULL);
    CG_ASSERT(s->sight != CG_SIGHT_SILENT);
    if (s->sight == CG_SIGHT_HTTP) /* TLS may name what no policy can: it then matches nothing */
        CG_ASSERT(cg_egress_name_parse(s->name, plain) && strcmp(plain, s->name) == 0);
    for (const char *c = s->name; *c; c++)
        CG_ASSERT(*c > 0x20 && *c < 0x7f && !(*c >= 'A' && *c <= 'Z'));
    if (in.n > 0 && in.p[0] == 22)
        CG_ASSERT(s->sight != CG_SIGHT_HTTP && s->sight != CG_SIGHT_OTHER);
    (void)port;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    const uint16_t port = (uint16_t)(data[0] << 8 | data[1]);
    const struct cg_slice in = {(const char *)data + 2, n - 2};
    const struct seen whole = look(in.p, in.n, port);
    const enum cg_egress_sight cut = cg_sight_cut(in);
    CG_ASSERT((cut == CG_SIGHT_SILENT) == (in.n == 0));
    CG_ASSERT(cut != CG_SIGHT_TLS && cut != CG_SIGHT_HTTP);
    if (whole.known)
        check(&whole, in, port);
    const size_t step = in.n > 256 ? in.n / 64 : 1;
    for (size_t at = 0; at < in.n; at += step) {
        const struct seen part = look(in.p, at, port);
        if (!part.known)
            continue;
        check(&part, (struct cg_slice){in.p, at}, port);
        /* a prefix decides: what comes behind is not looked at any more */
        CG_ASSERT(whole.known && whole.sight == part.sight && strcmp(whole.name, part.name) == 0);
        break;
    }
    return 0;
}
