/* What is told of connections: events for the record, and to the guest the page of a refusal. */
#include <string.h>
#include <sys/socket.h>

#include "egress/inner.h"

static void tell(struct cg_egress *g, struct cg_buf *b)
{
    if (!b->full)
        g->o.event(g->o.ctx, CG_EGRESS_NETWORK, cg_buf_slice(b));
}

static const char *protocol(const struct egress_seen *s)
{
    static const char *const names[] = {
        [CG_SIGHT_TLS] = "tls",   [CG_SIGHT_TLS_NO_NAME] = "tls",   [CG_SIGHT_TLS_HIDDEN] = "tls",
        [CG_SIGHT_HTTP] = "http", [CG_SIGHT_HTTP_NO_NAME] = "http", [CG_SIGHT_OTHER] = "tcp",
        [CG_SIGHT_SILENT] = "tcp"};
    return s->seen ? names[s->sight] : "tcp";
}

void egress_tell_open(struct cg_egress *g, const struct egress_seen *s,
                      const struct cg_egress_verdict *v)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    char text[16];
    const char *name = s->seen && s->name[0] ? s->name : v->name;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "open");
    cg_jsonw_kuint(&j, "conn", s->conn);
    if (name)
        cg_jsonw_kstr(&j, "name", name);
    egress_address_text(s->address, text);
    cg_jsonw_kstr(&j, "address", text);
    cg_jsonw_kint(&j, "port", s->port);
    cg_jsonw_kstr(&j, "protocol", protocol(s));
    if (v->address != s->address) {
        egress_address_text(v->address, text);
        cg_jsonw_kstr(&j, "to", text);
    }
    cg_jsonw_kstr(&j, "verdict", v->allow ? "allow" : "deny");
    cg_jsonw_kstr(&j, "rule", v->rule);
    egress_owner_write(g, false, s->conn, &j);
    cg_jsonw_obj_end(&j);
    tell(g, &b);
}

void egress_tell_close(struct cg_egress *g, const struct egress_end *end)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "close");
    cg_jsonw_kuint(&j, "conn", end->seen->conn);
    if (end->seen->seen && end->seen->name[0])
        cg_jsonw_kstr(&j, "name", end->seen->name);
    cg_jsonw_kstr(&j, "protocol", protocol(end->seen));
    cg_jsonw_kuint(&j, "bytes_out", end->bytes_out);
    cg_jsonw_kuint(&j, "bytes_in", end->bytes_in);
    cg_jsonw_kint(&j, "duration_ms", end->duration_ms);
    cg_jsonw_kstr(&j, "reason", end->reason);
    egress_owner_write(g, false, end->seen->conn, &j);
    cg_jsonw_obj_end(&j);
    tell(g, &b);
}

void egress_tell_flood(struct cg_egress *g)
{
    static const struct flood none;
    if (memcmp(&g->flood, &none, sizeof none) == 0)
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "event", "summary");
    cg_jsonw_kuint(&j, "opened", g->flood.opened);
    cg_jsonw_kuint(&j, "denied", g->flood.denied);
    cg_jsonw_kuint(&j, "closed", g->flood.closed);
    cg_jsonw_kuint(&j, "bytes_out", g->flood.bytes_out);
    cg_jsonw_kuint(&j, "bytes_in", g->flood.bytes_in);
    cg_jsonw_obj_end(&j);
    tell(g, &b);
    g->flood = none;
}

/* --- the page --- */

/* What the reader of a refusal can do about it. */
static void put_way_out(const struct cg_egress *g, const struct egress_seen *s,
                        const struct cg_egress_verdict *v, struct cg_buf *b)
{
    const char *id = g->o.sandbox ? g->o.sandbox : "SANDBOX";
    char address[16];
    egress_address_text(s->address, address);
    if (cg_egress_special(v->address) || strcmp(v->rule, "this machine's own address") == 0)
        cg_buf_adds(b, "Only the operator can open it: network.allow in the server's "
                       "configuration.\n");
    else if (strncmp(v->rule, "deny ", 5) == 0)
        cg_buf_addf(b, "To take that rule away: caged network %s remove '%s'\n", id, v->rule + 5);
    else if (g->o.policy->mode == CG_EGRESS_NONE)
        cg_buf_addf(b, "To open the network: caged network %s mode allowlist\n", id);
    else if (s->name[0])
        cg_buf_addf(b, "To allow it: caged network %s allow %s\n", id, s->name);
    else
        cg_buf_addf(b, "To allow it: caged network %s allow %s:%u\n", id, address, s->port);
}

void egress_send_page(const struct cg_egress *g, int fd, const struct egress_seen *s,
                      const struct cg_egress_verdict *v)
{
    static char drain[64 * 1024];
    CG_OWN(cg_drop_buf) struct cg_buf body;
    CG_OWN(cg_drop_buf) struct cg_buf page;
    char address[16];
    cg_buf_init(&body, 2048);
    cg_buf_init(&page, 4096);
    egress_address_text(s->address, address);
    cg_buf_addf(&body, "caged refused this connection to %s (%s, port %u).\nRule: %s\n",
                s->name[0] ? s->name : address, address, s->port, v->rule);
    put_way_out(g, s, v, &body);
    cg_buf_addf(&page,
                "HTTP/1.1 403 Refused by caged\r\nContent-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: %zu\r\nX-Caged-Refused: %s\r\nConnection: close\r\n\r\n%s",
                body.n, v->rule, cg_buf_cstr(&body));
    /* what is left unread would make the end a reset, and the page be lost */
    while (recv(fd, drain, sizeof drain, MSG_DONTWAIT) > 0) {
    }
    if (!page.full)
        (void)!send(fd, page.p, page.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
}
