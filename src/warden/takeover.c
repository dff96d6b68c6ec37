#include "warden/takeover.h"

#include <string.h>

#include "base/clock.h"

enum { SKIP_MAX = 4 << 20 };

void takeover_begin(struct takeover *t)
{
    *t = (struct takeover){.on = true, .left = sizeof t->reset};
    cg_rand_bytes(t->nonce, sizeof t->nonce);
    cg_link_reset_frame(t->nonce, t->reset);
}

struct cg_slice takeover_output(const struct takeover *t)
{
    return (struct cg_slice){(const char *)t->reset + sizeof t->reset - t->left, t->left};
}

bool takeover_skip(struct takeover *t, struct cg_slice *bytes, struct cg_err *e)
{
    for (size_t i = 0; i < bytes->n; i++) {
        memmove(t->tail, t->tail + 1, sizeof t->tail - 1);
        t->tail[sizeof t->tail - 1] = (unsigned char)bytes->p[i];
        if (memcmp(t->tail, t->nonce, sizeof t->tail) != 0)
            continue;
        t->on = false;
        *bytes = (struct cg_slice){bytes->p + i + 1, bytes->n - i - 1};
        return true;
    }
    t->skipped += bytes->n;
    bytes->n = 0;
    return t->skipped <= SKIP_MAX ||
           cg_fail(e, CG_PROTOCOL, "the restored guest does not begin a new session");
}
