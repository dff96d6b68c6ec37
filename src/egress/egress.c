#include "egress/egress.h"

#include <stdlib.h>

struct cg_egress {
    struct cg_egress_stats stats;
};

struct cg_egress *cg_egress_create(uv_loop_t *loop, const struct cg_egress_options *o,
                                   struct cg_err *e)
{
    (void)loop;
    (void)o;
    (void)e;
    return cg_alloc(sizeof(struct cg_egress));
}

void cg_egress_second(struct cg_egress *g)
{
    (void)g;
}

void cg_egress_get_stats(const struct cg_egress *g, struct cg_egress_stats *out)
{
    *out = g->stats;
}

void cg_egress_destroy(struct cg_egress *g)
{
    free(g);
}
