/* The rules of one sandbox's network namespace. A packet from the guest goes, in this order,
 * through
 * - netdev ingress of the tap: anything but IPv4 and ARP with the guest's own MAC is dropped (IPv6,
 *   VLAN, raw frames); so is IPv4 from another address than the guest's;
 * - prerouting, before translation, when destinations are still what the guest asked for: TCP and
 *   UDP port 53 only; TCP to addresses that are not public is reset at SYN unless the operator's
 *   list names them (what is public the warden judges, by name); new flows are limited in rate, so
 * that the kernel's table of connections stays small;
 * - prerouting, translation: to the warden's sockets;
 * - input: nothing but what was translated (or needed no translation), so that no other port of
 *   this namespace can be reached, nor these from within it.
 * Forwarding is dropped, whatever the sysctl says. Everything dropped is counted. */
#include "jail/rules.h"

#include <nftables/libnftables.h>
#include <string.h>

#include "jail/jail.h"
#include "jail/netns.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define SIZE TEXT(CG_KEEPER_REJECTED)

static const char head[] =
    "table netdev " CG_TABLE " {\n"
    "  counter dropped { }\n"
    "  chain ingress {\n"
    "    type filter hook ingress device \"" CG_TAP "\" priority 0; policy accept;\n"
    "    ether saddr != 02:ca:9e:00:00:02 counter name dropped drop\n"
    "    ether type arp accept\n"
    "    ether type ip ip saddr 172.30.0.2 accept\n"
    "    counter name dropped drop\n"
    "  }\n"
    "}\n"
    "table ip " CG_TABLE " {\n"
    "  counter dropped { }\n"
    "  counter rejected { }\n"
    "  set rejected_at { type ipv4_addr . inet_service; flags dynamic; size " SIZE "; timeout 1m; "
    "counter; }\n"
    "  chain decide {\n"
    "    type filter hook prerouting priority mangle; policy drop;\n"
    "    ct state invalid counter name dropped drop\n"
    "    ct state new limit rate over 2000/second burst 2000 packets counter name dropped drop\n"
    "    udp dport 53 accept\n"
    "    tcp dport 53 accept\n";

/* Addresses that are no place on the public network: the same as in egress/judge.c, which judges
 * the address that is dialled. Refused here, they refuse at once. */
#define NOT_PUBLIC                                                                                 \
    "    ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8,\n"                          \
    "      168.63.129.16, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24,\n"                          \
    "      192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15,\n"                         \
    "      198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3 } meta l4proto tcp "

/* Where they were is kept beside how often; a rule of its own, since a full set ends the rule. */
static const char tail[] =
    NOT_PUBLIC "update @rejected_at { ip daddr . tcp dport }\n" NOT_PUBLIC
               "counter name rejected reject with tcp reset\n"
               "    meta l4proto tcp accept\n"
               "    counter name dropped drop\n"
               "  }\n"
               "  chain turn {\n"
               "    type nat hook prerouting priority dstnat; policy accept;\n"
               "    iifname != \"" CG_TAP "\" accept\n"
               "    udp dport 53 redirect to :53\n"
               "    tcp dport 53 redirect to :53\n"
               "    meta l4proto tcp redirect to :%d\n"
               "  }\n"
               "  chain input {\n"
               "    type filter hook input priority filter; policy drop;\n"
               "    iifname \"lo\" accept\n"
               "    ct status dnat accept\n"
               "    ip daddr 172.30.0.1 udp dport 53 accept\n"
               "    ip daddr 172.30.0.1 tcp dport { 53, %d } accept\n"
               "    counter name dropped drop\n"
               "  }\n"
               "  chain forward {\n"
               "    type filter hook forward priority filter; policy drop;\n"
               "    counter name dropped drop\n"
               "  }\n"
               "}\n";

static void add_net(const struct cg_jail_net *n, struct cg_buf *out)
{
    const uint8_t *a = n->address;
    cg_buf_addf(out, "    ip daddr %u.%u.%u.%u/%u ", a[0], a[1], a[2], a[3], n->prefix);
    if (n->port)
        cg_buf_addf(out, "tcp dport %u accept\n", n->port);
    else
        cg_buf_adds(out, "meta l4proto tcp accept\n");
}

bool cg_rules_text(const struct cg_jail_net *net, unsigned nnet, struct cg_buf *out)
{
    cg_buf_adds(out, head);
    for (unsigned i = 0; i < nnet; i++)
        add_net(&net[i], out);
    cg_buf_addf(out, tail, CG_TCP_PORT, CG_TCP_PORT);
    return !out->full;
}

bool cg_netns_rules(const struct cg_jail_net *net, unsigned nnet, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 16384);
    if (!cg_rules_text(net, nnet, &text))
        return cg_fail(e, CG_TOO_LARGE, "%u destinations are too many", nnet);
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!nft)
        return cg_fail(e, CG_UNAVAILABLE, "nf_tables: no answer from the kernel");
    nft_ctx_buffer_error(nft);
    nft_ctx_buffer_output(nft);
    bool ok = nft_run_cmd_from_buffer(nft, cg_buf_cstr(&text)) == 0;
    if (!ok) {
        const char *why = nft_ctx_get_error_buffer(nft);
        cg_fail(e, CG_UNSUPPORTED, "load nf_tables rules: %.*s", (int)strcspn(why, "\n"), why);
    }
    nft_ctx_free(nft);
    return ok;
}
