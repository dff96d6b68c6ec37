/* Ethernet, ARP, IPv4 and TCP headers by hand (RFC 826, 791, 9293), just enough for one SYN and its
 * answer. The tap was made with IFF_VNET_HDR: ten bytes stand in front of every frame. */
#include "jail/frames.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { VNET = 10, ETHER = 14, IP = 20, TCP = 20, SYN = 0x02, RST = 0x04, ACK = 0x10 };

static const uint8_t guest_mac[6] = {0x02, 0xca, 0x9e, 0, 0, 2};
static const uint8_t host_mac[6] = {0x02, 0xca, 0x9e, 0, 0, 1};
static const uint8_t guest_ip[4] = {172, 30, 0, 2};
static const uint8_t host_ip[4] = {172, 30, 0, 1};

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t sum(const uint8_t *p, size_t n, uint32_t s)
{
    for (size_t i = 0; i < n; i++)
        s += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    return s;
}

static unsigned folded(uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return ~s & 0xffff;
}

static uint8_t *ethernet(uint8_t *frame, unsigned type)
{
    memset(frame, 0, VNET);
    memcpy(frame + VNET, host_mac, 6);
    memcpy(frame + VNET + 6, guest_mac, 6);
    put16(frame + VNET + 12, type);
    return frame + VNET + ETHER;
}

/* The host learns our MAC from the question. */
static void ask_arp(int tap)
{
    uint8_t frame[VNET + ETHER + 28], *p = ethernet(frame, 0x0806);
    static const uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, 1};
    memcpy(p, head, sizeof head);
    memcpy(p + 8, guest_mac, 6);
    memcpy(p + 14, guest_ip, 4);
    memset(p + 18, 0, 6);
    memcpy(p + 24, host_ip, 4);
    (void)!write(tap, frame, sizeof frame);
}

static void send_syn(int tap, const uint8_t address[4], uint16_t port, uint16_t from)
{
    uint8_t frame[VNET + ETHER + IP + TCP] = {0}, *ip = ethernet(frame, 0x0800), *tcp = ip + IP;
    ip[0] = 0x45;
    put16(ip + 2, IP + TCP);
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, guest_ip, 4);
    memcpy(ip + 16, address, 4);
    put16(ip + 10, folded(sum(ip, IP, 0)));
    put16(tcp, from);
    put16(tcp + 2, port);
    tcp[12] = TCP / 4 << 4;
    tcp[13] = SYN;
    put16(tcp + 14, 1024);
    put16(tcp + 16, folded(sum(tcp, TCP, sum(ip + 12, 8, 6 + TCP))));
    (void)!write(tap, frame, sizeof frame);
}

/* 0: not the answer that is waited for; else its TCP flags. */
static unsigned flags_of(const uint8_t *frame, size_t n, const uint8_t address[4], uint16_t port,
                         uint16_t from)
{
    const uint8_t *ip = frame + VNET + ETHER;
    if (n < VNET + ETHER + IP + TCP || frame[VNET + 12] != 8 || frame[VNET + 13] != 0 ||
        ip[0] != 0x45 || ip[9] != 6 || memcmp(ip + 12, address, 4) != 0)
        return 0;
    const uint8_t *tcp = ip + IP;
    if ((tcp[0] << 8 | tcp[1]) != port || (tcp[2] << 8 | tcp[3]) != from)
        return 0;
    return tcp[13];
}

enum cg_code cg_frames_syn(int tap, const uint8_t address[4], uint16_t port)
{
    uint16_t from = 0;
    cg_rand_bytes(&from, sizeof from);
    from |= 0x8000;
    ask_arp(tap);
    send_syn(tap, address, port, from);
    int64_t deadline_ns = cg_mono_ns() + 1000000000;
    for (;;) {
        uint8_t frame[2048];
        struct pollfd p = {.fd = tap, .events = POLLIN};
        int64_t left_ms = (deadline_ns - cg_mono_ns()) / 1000000;
        if (left_ms <= 0)
            return CG_TIMEOUT;
        if (poll(&p, 1, (int)left_ms) <= 0)
            continue;
        ssize_t n = read(tap, frame, sizeof frame);
        unsigned flags = n > 0 ? flags_of(frame, (size_t)n, address, port, from) : 0;
        if (flags & RST)
            return CG_CLOSED;
        if ((flags & (SYN | ACK)) == (SYN | ACK))
            return CG_OK;
    }
}
