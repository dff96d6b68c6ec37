/* Reads named counters and one set of nf_tables over a netlink socket that was opened in the
 * sandbox's network namespace (NFT_MSG_GETOBJ, NFT_MSG_GETSETELEM, linux/netfilter/nf_tables.h).
 * The answer comes from the kernel, but is measured before it is read all the same. */
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

enum { DUMP_MAX = 16 }; /* datagrams of one answer */

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

/* --- counters --- */

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

/* --- where rejected packets were going --- */

/* One element of the set: an address and a port, each in four bytes, and a counter. */
static bool read_element(const char *p, size_t n, struct cg_keeper_rejected *out)
{
    size_t size = 0;
    const char *key = find(p, n, NFTA_SET_ELEM_KEY, &size);
    uint32_t address;
    uint16_t port;
    key = key ? find(key, size, NFTA_DATA_VALUE, &size) : NULL;
    if (!key || size != 2 * sizeof(uint32_t))
        return false;
    memcpy(&address, key, sizeof address);
    memcpy(&port, key + sizeof address, sizeof port);
    const char *expr = find(p, n, NFTA_SET_ELEM_EXPR, &size);
    const char *data = expr ? find(expr, size, NFTA_EXPR_DATA, &size) : NULL;
    *out =
        (struct cg_keeper_rejected){.address = ntohl(address),
                                    .port = ntohs(port),
                                    .packets = data ? number(data, size, NFTA_COUNTER_PACKETS) : 0};
    return true;
}

static void read_elements(const char *p, size_t n, struct cg_keeper_counters *out)
{
    while (n >= attr_head && out->nrejected < CG_KEEPER_REJECTED) {
        struct nlattr attr;
        memcpy(&attr, p, sizeof attr);
        if (attr.nla_len < attr_head || attr.nla_len > n)
            return;
        if (read_element(p + attr_head, attr.nla_len - attr_head, &out->rejected[out->nrejected]))
            out->nrejected++;
        size_t step = CG_MIN(padded(attr.nla_len), n);
        p += step;
        n -= step;
    }
}

/* The messages of one datagram. False: there are no more. */
static bool read_dump(const char *p, size_t n, struct cg_keeper_counters *out)
{
    const size_t skip = NLMSG_LENGTH(sizeof(struct nfgenmsg));
    struct nlmsghdr h;
    while (n >= sizeof h) {
        memcpy(&h, p, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > n || h.nlmsg_type == NLMSG_DONE ||
            h.nlmsg_type == NLMSG_ERROR)
            return false;
        size_t size = 0;
        const char *list = h.nlmsg_len >= skip ? find(p + skip, h.nlmsg_len - skip,
                                                      NFTA_SET_ELEM_LIST_ELEMENTS, &size)
                                               : NULL;
        if (list)
            read_elements(list, size, out);
        size_t step = CG_MIN(padded(h.nlmsg_len), n);
        p += step;
        n -= step;
    }
    return true;
}

static bool ask_rejected(int netlink, struct cg_keeper_counters *out, struct cg_err *e)
{
    static const char set[] = "rejected_at";
    static char answer[32 * 1024]; /* what the kernel fills at most in one go */
    struct ask a = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
                 .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .family = {.nfgen_family = NFPROTO_IPV4, .version = NFNETLINK_V0},
    };
    put(&a, NFTA_SET_ELEM_LIST_TABLE, CG_TABLE, sizeof CG_TABLE);
    put(&a, NFTA_SET_ELEM_LIST_SET, set, sizeof set);
    if (send(netlink, &a, a.head.nlmsg_len, 0) < 0)
        return cg_fail_sys(e, "ask for %s", set);
    for (int i = 0; i < DUMP_MAX; i++) {
        ssize_t got = recv(netlink, answer, sizeof answer, 0);
        if (got < 0)
            return cg_fail_sys(e, "read %s", set);
        if (!read_dump(answer, (size_t)got, out))
            return true;
    }
    return cg_fail(e, CG_IO, "%s has no end", set);
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
    return ask_rejected(netlink, out, e);
}
