/* Which process a connection or a lookup is of: what the guest's agent tells (address, port, local
 * port, process) and what is seen here meet in a ring. The agent's word comes some moments later,
 * as a rule: then the line of the opening is written already, and the agent's own line gets the
 * number. It is the guest's word: root there can make it say anything. */
#include <string.h>

#include "base/clock.h"
#include "egress/inner.h"

#define FRESH_NS (INT64_C(10) * 1000000000)

/* The latest entry of that port that lacks what comes now. */
static struct egress_owner *find(struct cg_egress *g, const struct egress_owner *key, bool has_id)
{
    for (unsigned i = 1; i <= CG_EGRESS_OWNERS; i++) {
        struct egress_owner *o = &g->owners[(g->owner_next - i) % CG_EGRESS_OWNERS];
        if (o->at == 0 || key->at - o->at > FRESH_NS)
            return NULL;
        if (o->sport == key->sport && o->port == key->port && o->udp == key->udp &&
            (o->udp || o->address == key->address) && (o->id != 0) == has_id && o->told != has_id)
            return o;
    }
    return NULL;
}

static void put(struct cg_egress *g, const struct egress_owner *o)
{
    g->owners[g->owner_next++ % CG_EGRESS_OWNERS] = *o;
}

void egress_owner_flow(struct cg_egress *g, bool udp, uint16_t sport, uint32_t address,
                       uint16_t port, uint64_t id)
{
    const struct egress_owner key = {
        .id = id, .at = cg_mono_ns(), .address = address, .port = port, .sport = sport, .udp = udp};
    struct egress_owner *o = find(g, &key, false);
    if (o)
        o->id = id;
    else
        put(g, &key);
}

uint64_t cg_egress_process(struct cg_egress *g, const struct cg_egress_process *p)
{
    struct egress_owner key = {.at = cg_mono_ns(),
                               .pid = p->pid,
                               .address = p->address,
                               .port = p->port,
                               .sport = p->sport,
                               .udp = p->udp,
                               .told = true};
    (void)cg_strlcpy(key.comm, sizeof key.comm, p->comm);
    struct egress_owner *o = find(g, &key, true);
    if (!o) {
        put(g, &key);
        return 0;
    }
    o->pid = key.pid;
    o->told = true;
    memcpy(o->comm, key.comm, sizeof o->comm);
    return o->id;
}

void egress_owner_write(const struct cg_egress *g, bool udp, uint64_t id, struct cg_jsonw *j)
{
    for (unsigned i = 0; i < CG_EGRESS_OWNERS; i++) {
        const struct egress_owner *o = &g->owners[i];
        if (o->id != id || o->udp != udp || !o->told)
            continue;
        cg_jsonw_kint(j, "pid", o->pid);
        cg_jsonw_kstr(j, "process", o->comm);
        return;
    }
}

void cg_egress_write_process(const struct cg_egress *g, uint64_t conn, struct cg_jsonw *j)
{
    egress_owner_write(g, false, conn, j);
}
