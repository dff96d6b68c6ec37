/* Which process a connection or a lookup is of: what the guest's agent tells (address, port, local
 * port, process) and what is seen here meet in a ring. The agent's word comes some moments later,
 * as a rule: then the line of the opening is written already, and the agent's own line gets the
 * number. It is the guest's word: root there can make it say anything. So halves that stay alone
 * are told, once the guest must have spoken: a connection without a process, and a process whose
 * connection never came. */
#include <string.h>

#include "base/clock.h"
#include "egress/inner.h"

#define FRESH_NS (INT64_C(120) * 1000000000)
#define NEAR_NS (INT64_C(1) * 1000000000)  /* the same, of one connection */
#define BLUR_NS (INT64_C(30) * 1000000000) /* how far apart two halves may come in a flood */

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

static bool alone(const struct egress_owner *o)
{
    return o->at > 0 && !o->udp && !o->checked && (o->id == 0) == o->told;
}

static void put(struct cg_egress *g, const struct egress_owner *o)
{
    struct egress_owner *to = &g->owners[g->owner_next++ % CG_EGRESS_OWNERS];
    if (alone(to))
        g->owner_blur = o->at;
    *to = *o;
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
                               .made = p->made,
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

/* --- what only one side told --- */

/* A half of the other kind to the same place at the same time: address translation inside of the
 * guest changed the port, and neither is missing. */
static bool translated(struct cg_egress *g, const struct egress_owner *of)
{
    for (unsigned i = 0; i < CG_EGRESS_OWNERS; i++) {
        struct egress_owner *o = &g->owners[i];
        int64_t apart = o->at - of->at;
        if (alone(o) && o->told != of->told && o->address == of->address && o->port == of->port &&
            apart < NEAR_NS && apart > -NEAR_NS) {
            o->checked = true;
            return true;
        }
    }
    return false;
}

static bool is_service(const struct cg_egress *g, const struct egress_owner *o)
{
    for (unsigned i = 0; i < g->nservices; i++)
        if (g->services[i].address == o->address && g->services[i].port == o->port)
            return true;
    return false;
}

/* Whether what the guest tells must come by here. What it asks of itself does not, nor names, and
 * one that it gave up before it stood may not. */
static bool must_pass(const struct cg_egress *g, const struct egress_owner *o)
{
    return o->made && o->port != 53 && (is_service(g, o) || !cg_egress_special(o->address));
}

void cg_egress_check(struct cg_egress *g, int64_t before,
                     void (*lone)(void *ctx, const struct cg_egress_lone *l), void *ctx)
{
    for (unsigned i = 0; i < CG_EGRESS_OWNERS; i++) {
        struct egress_owner *o = &g->owners[i];
        if (!alone(o) || o->at >= before)
            continue;
        o->checked = true;
        bool blurred = g->owner_blur > 0 && o->at < g->owner_blur + BLUR_NS;
        if (blurred || translated(g, o) || (o->told && !must_pass(g, o)))
            continue;
        const struct cg_egress_lone l = {.host = !o->told,
                                         .fact = is_service(g, o) ? CG_EGRESS_SERVICE_CALL
                                                                  : CG_EGRESS_CONNECTION,
                                         .conn = o->id,
                                         .address = o->address,
                                         .port = o->port,
                                         .pid = o->pid,
                                         .comm = o->comm};
        lone(ctx, &l);
    }
}

void cg_egress_forgive(struct cg_egress *g)
{
    for (unsigned i = 0; i < CG_EGRESS_OWNERS; i++)
        g->owners[i].checked |= alone(&g->owners[i]);
}
