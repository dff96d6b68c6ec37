/* Connections that the packet filter rejects at once never come here; the keeper reads where they
 * were going. Each destination is told with the packets that were rejected since it was told last,
 * a bounded number at a time: the rest follows. */
#include <arpa/inet.h>
#include <string.h>

#include "egress/judge.h"
#include "warden/inner.h"

enum { TOLD_AT_ONCE = 64 };

static const struct rejected *find(const struct warden *w, const struct cg_keeper_rejected *r)
{
    for (unsigned i = 0; i < w->nrejected; i++)
        if (w->rejected[i].address == r->address && w->rejected[i].port == r->port)
            return &w->rejected[i];
    return NULL;
}

void rejected_take(struct warden *w, const struct cg_keeper_counters *c)
{
    struct rejected now[CG_KEEPER_REJECTED] = {{0, 0, 0, 0}};
    unsigned n = 0;
    for (; n < c->nrejected && n < CG_KEEPER_REJECTED; n++) {
        const struct cg_keeper_rejected *r = &c->rejected[n];
        const struct rejected *before = find(w, r);
        /* fewer than before: it was forgotten meanwhile, and counts from nothing */
        bool goes_on = before && before->packets <= r->packets;
        now[n] = (struct rejected){r->address, r->port, r->packets, goes_on ? before->told : 0};
    }
    memcpy(w->rejected, now, n * sizeof now[0]);
    w->nrejected = n;
}

static void tell(struct warden *w, struct rejected *r)
{
    const struct in_addr in = {htonl(r->address)};
    const char *special = cg_egress_special(r->address);
    char text[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &in, text, sizeof text);
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_NETWORK, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "rejected");
    cg_jsonw_kstr(j, "address", text);
    cg_jsonw_kuint(j, "port", r->port);
    cg_jsonw_kstr(j, "protocol", "tcp");
    cg_jsonw_kstr(j, "verdict", "deny");
    if (special)
        cg_jsonw_kstr(j, "rule", special);
    cg_jsonw_kuint(j, "packets", r->packets - r->told);
    cg_record_end(w->record);
    r->told = r->packets;
}

void rejected_tell(struct warden *w)
{
    unsigned told = 0;
    for (unsigned i = 0; i < w->nrejected && told < TOLD_AT_ONCE; i++)
        if (w->rejected[i].packets > w->rejected[i].told) {
            tell(w, &w->rejected[i]);
            told++;
        }
}
