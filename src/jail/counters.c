/* Reads named counters of nf_tables over a netlink socket that was opened in the sandbox's network
 * namespace (NFT_MSG_GETOBJ, linux/netfilter/nf_tables.h). The answer comes from the kernel, but is
 * measured before it is read all the same. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "jail/netns.h"
#include "jail/rules.h"

static const size_t attr_head = sizeof(struct nlattr); /* NLA_HDRLEN, unsigned */

static size_t padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

struct ask {
    struct nlmsghdr head;
    struct nfgenmsg family;
    char attributes[128];
};

static void put(struct ask *a, uint16_t type, const void *p, size_t n)
{
    CG_ASSERT(a->head.nlmsg_len + attr_head + padded(n) <= sizeof *a);
    struct nlattr attr = {.nla_len = (uint16_t)(attr_head + n), .nla_type = type};
    char *at = (char *)a + a->head.nlmsg_len;
    memcpy(at, &attr, sizeof attr);
    memcpy(at + attr_head, p, n);
    a->head.nlmsg_len += (uint32_t)(attr_head + padded(n));
}

/* The value of one attribute in a run of them, NULL when it is not there. */
static const char *find(const char *p, size_t n, int type, size_t *size)
{
    while (n >= attr_head) {
        struct nlattr attr;
        memcpy(&attr, p, sizeof attr);
        if (attr.nla_len < attr_head || attr.nla_len > n)
            return NULL;
        if ((attr.nla_type & NLA_TYPE_MASK) == type) {
            *size = attr.nla_len - attr_head;
            return p + attr_head;
        }
        size_t step = CG_MIN(padded(attr.nla_len), n);
        p += step;
        n -= step;
    }
    return NULL;
}

static uint64_t number(const char *p, size_t n, int type)
{
    size_t size = 0;
    const char *value = find(p, n, type, &size);
    uint64_t sum = 0;
    for (size_t i = 0; value && size == 8 && i < size; i++)
        sum = sum << 8 | (unsigned char)value[i];
    return sum;
}

struct counter {
    uint64_t packets, bytes;
};

static bool ask_counter(int netlink, uint8_t family, const char *name, struct counter *out,
                        struct cg_err *e)
{
    const uint32_t type = htonl(NFT_OBJECT_COUNTER);
    struct ask a = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
                 .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ,
                 .nlmsg_flags = NLM_F_REQUEST},
        .family = {.nfgen_family = family, .version = NFNETLINK_V0},
    };
    put(&a, NFTA_OBJ_TABLE, CG_TABLE, sizeof CG_TABLE);
    put(&a, NFTA_OBJ_NAME, name, strlen(name) + 1);
    put(&a, NFTA_OBJ_TYPE, &type, sizeof type);
    const struct timeval limit = {.tv_sec = 1};
    setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char answer[4096];
    struct nlmsghdr h;
    if (send(netlink, &a, a.head.nlmsg_len, 0) < 0)
        return cg_fail_sys(e, "ask for counter %s", name);
    ssize_t got = recv(netlink, answer, sizeof answer, 0);
    if (got < (ssize_t)sizeof h)
        return cg_fail_sys(e, "read counter %s", name);
    memcpy(&h, answer, sizeof h);
    size_t skip = NLMSG_LENGTH(sizeof(struct nfgenmsg));
    if (h.nlmsg_type == NLMSG_ERROR || h.nlmsg_len < skip || h.nlmsg_len > (size_t)got)
        return cg_fail(e, CG_IO, "counter %s: the kernel refused", name);
    size_t n = 0;
    const char *data = find(answer + skip, h.nlmsg_len - skip, NFTA_OBJ_DATA, &n);
    if (!data)
        return cg_fail(e, CG_IO, "counter %s: no data", name);
    out->packets = number(data, n, NFTA_COUNTER_PACKETS);
    out->bytes = number(data, n, NFTA_COUNTER_BYTES);
    return true;
}

bool cg_netns_counters(int netlink, struct cg_keeper_counters *out, struct cg_err *e)
{
    struct counter frames = {0, 0}, packets = {0, 0}, rejected = {0, 0};
    if (!ask_counter(netlink, NFPROTO_NETDEV, "dropped", &frames, e) ||
        !ask_counter(netlink, NFPROTO_IPV4, "dropped", &packets, e) ||
        !ask_counter(netlink, NFPROTO_IPV4, "rejected", &rejected, e))
        return false;
    *out = (struct cg_keeper_counters){
        .rejected_packets = rejected.packets,
        .dropped_packets = frames.packets + packets.packets,
        .dropped_bytes = frames.bytes + packets.bytes,
    };
    return true;
}
