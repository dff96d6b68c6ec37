/* Machine time by the monotonic clock; what a division leaves is carried on, so that many small
 * ticks cost what one large one does. */
#include "gateway/ledger.h"

__extension__ typedef __int128 wide;

#define HOUR INT64_C(3600000000000)

const struct cg_compute_prices cg_compute_default = {10000000, 5000000, 1000000, 10000000};

void cg_compute_init(struct cg_compute *c, const struct cg_compute_prices *p, int64_t cpus,
                     int64_t mem_mib, int64_t disk_mib)
{
    *c = (struct cg_compute){.prices = *p};
    c->nusd_hour = cpus * p->vcpu_hour + cg_money_muldiv(mem_mib, p->gib_hour, 1024) +
                   cg_money_muldiv(disk_mib, p->disk_gib_hour, 1024);
}

static int64_t meter(struct cg_compute *c, int64_t now_ns)
{
    if (!c->running || now_ns <= c->since_ns)
        return 0;
    wide all = (wide)(now_ns - c->since_ns) * c->nusd_hour + c->remainder;
    c->since_ns = now_ns;
    c->remainder = (int64_t)(all % HOUR);
    return (int64_t)(all / HOUR);
}

int64_t cg_compute_run(struct cg_compute *c, bool running, int64_t now_ns)
{
    int64_t owed = meter(c, now_ns);
    c->running = running;
    c->since_ns = now_ns;
    return owed;
}

int64_t cg_compute_take(struct cg_compute *c, int64_t now_ns, uint64_t egress_bytes)
{
    uint64_t more = egress_bytes > c->egress ? egress_bytes - c->egress : 0;
    c->egress += more;
    wide all = (wide)more * c->prices.egress_gb + c->egress_remainder;
    c->egress_remainder = (int64_t)(all % 1000000000);
    return meter(c, now_ns) + (int64_t)(all / 1000000000);
}

int64_t cg_compute_ahead(const struct cg_compute *c, int64_t ns)
{
    return cg_money_muldiv(c->nusd_hour, ns, HOUR);
}
