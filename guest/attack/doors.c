/* Places that no sandbox reaches, whatever its policy: networks that are not public, the host, and
 * what is no IPv4 at all. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "attack.h"

static const char request[] = "GET /health HTTP/1.1\r\nHost: caged-attack.invalid\r\n\r\n";
static const struct attack_bytes get = {request, sizeof request - 1};

/* First and last addresses of networks that are not public, and where clouds keep credentials. */
void attack_addresses(int n, char **words)
{
    static const struct {
        const char *what, *address;
    } places[] = {{"cloud metadata", "169.254.169.254:80"},
                  {"cloud metadata", "168.63.129.16:80"},
                  {"cloud metadata", "100.100.100.200:80"},
                  {"this network", "0.1.2.3:80"},
                  {"private, first address", "10.0.0.0:443"},
                  {"private, last address", "10.255.255.255:443"},
                  {"private, first address", "172.16.0.0:22"},
                  {"private, last address", "172.31.255.255:22"},
                  {"private", "192.168.0.1:80"},
                  {"private, last address", "192.168.255.255:8080"},
                  {"shared, first address", "100.64.0.0:80"},
                  {"shared, last address", "100.127.255.255:80"},
                  {"link-local", "169.254.0.1:80"},
                  {"documentation", "192.0.2.1:443"},
                  {"documentation", "203.0.113.255:443"},
                  {"benchmarks, last address", "198.19.255.255:443"},
                  {"reserved", "240.0.0.1:443"},
                  {"multicast", "224.0.0.1:80"},
                  {"broadcast", "255.255.255.255:80"},
                  {"the tap of its own host side", "172.30.0.1:22"},
                  {"the warden's socket", "172.30.0.1:1080"},
                  {"a neighbour's tap", "172.30.0.3:80"},
                  {"a neighbour", "172.30.0.6:22"}};
    (void)n;
    (void)words;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint32_t address = 0;
        uint16_t port = 0;
        if (attack_address(places[i].address, &address, &port))
            attack_tcp_refused(places[i].what, address, port, &get, 1);
    }
}

/* WORDS: ADDRESS:PORT where somebody listens on the host, or NAME:PORT. */
void attack_doors(int n, char **words)
{
    for (int i = 0; i < n; i++) {
        uint32_t address = 0;
        uint16_t port = 0;
        char name[256];
        size_t length = strcspn(words[i], ":");
        if (attack_address(words[i], &address, &port)) {
            attack_tcp_refused("a port of the host,", address, port, &get, 1);
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)length, words[i]);
        address = attack_resolve(name);
        char with_port[32];
        snprintf(with_port, sizeof with_port, "0.0.0.0%s", words[i] + length);
        uint32_t unused = 0;
        if (!address || !attack_address(with_port, &unused, &port))
            attack_say(ATTACK_HELD, "", "%s is no name here", words[i]);
        else
            attack_tcp_refused(name, address, port, &get, 1);
    }
}

/* --- IPv6 --- */

static void put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static void give_ipv6_address(void)
{
    struct {
        struct in6_addr address;
        uint32_t prefix;
        int index;
    } wish = {.prefix = 3,
              .index = (int)if_nametoindex("eth0")}; /* in6_ifreq: all of 2000::/3 is "here" */
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    inet_pton(AF_INET6, "2001:db8::2", &wish.address);
    ioctl(fd, SIOCSIFADDR, &wish);
    close(fd);
}

void attack_ipv6(int n, char **words)
{
    static const char *const targets[] = {
        "ff02::1",          "fe80::1",        "2001:db8::1",  "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",  "64:ff9b::a00:1", "2002:a00:1::", "fd00::1",
        "2001:4860:4860::1"};
    unsigned char labels[256];
    struct attack_answer a = {0};
    (void)n;
    (void)words;
    put_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0");
    put_file("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0");
    give_ipv6_address();
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                                  .sin6_port = htons(80),
                                  .sin6_scope_id = if_nametoindex("eth0")};
        inet_pton(AF_INET6, targets[i], &to.sin6_addr);
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char byte;
        bool open = false;
        if (fd >= 0 &&
            (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS)) {
            p.events = POLLOUT;
            poll(&p, 1, 2000);
            (void)!send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
            p.events = POLLIN;
            open = poll(&p, 1, 1000) == 1 && recv(fd, &byte, 1, 0) == 1;
        }
        if (fd >= 0)
            close(fd);
        attack_say(open ? ATTACK_OPEN : ATTACK_HELD, open ? "something answered" : "", "[%s]:80",
                   targets[i]);
    }
    size_t size = attack_labels("caged-attack.invalid", labels);
    bool answered = attack_ask(attack_resolver(), false, labels, size, 28, &a);
    attack_say(answered && a.answers == 0 ? ATTACK_HELD : ATTACK_OPEN, "",
               "no IPv6 address is handed out");
}

/* --- frames that the kernel would not send --- */

static bool own_mac(int fd, unsigned char mac[6])
{
    struct ifreq r = {.ifr_name = "eth0"};
    if (ioctl(fd, SIOCGIFHWADDR, &r) != 0)
        return false;
    memcpy(mac, r.ifr_hwaddr.sa_data, 6);
    return true;
}

static uint16_t checksum(const unsigned char *p, size_t n, uint32_t sum)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* A TCP SYN to a public address, as an IPv4 packet of 40 bytes. */
static void put_syn(unsigned char out[40], uint32_t source)
{
    static const unsigned char blank[40] = {0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6};
    const uint32_t to = 0x08080808;
    memcpy(out, blank, 40);
    for (int i = 0; i < 4; i++) {
        out[12 + i] = (unsigned char)(source >> (24 - 8 * i));
        out[16 + i] = (unsigned char)(to >> (24 - 8 * i));
    }
    uint16_t sum = checksum(out, 20, 0);
    out[10] = (unsigned char)(sum >> 8);
    out[11] = (unsigned char)sum;
    out[20] = 0x9c; /* from port 40000 to 443 */
    out[21] = 0x40;
    out[22] = 1;
    out[23] = 0xbb;
    out[32] = 0x50;
    out[33] = 2;
    sum = checksum(out + 20, 20, 6 + 20 + checksum(out + 12, 8, 0));
    out[36] = (unsigned char)(sum >> 8);
    out[37] = (unsigned char)sum;
}

struct frame {
    const char *what;
    const unsigned char *to, *from;
    unsigned char type[6]; /* what stands between the addresses and the packet */
    unsigned type_n;
    uint32_t source; /* of the IPv4 packet; 0: zeroes instead of one */
};

static void send_frame(int fd, const struct frame *f)
{
    unsigned char bytes[80] = {0};
    memcpy(bytes, f->to, 6);
    memcpy(bytes + 6, f->from, 6);
    memcpy(bytes + 12, f->type, f->type_n);
    if (f->source)
        put_syn(bytes + 12 + f->type_n, f->source);
    bool sent = send(fd, bytes, 12u + f->type_n + 46, 0) > 0;
    attack_say(sent ? ATTACK_SENT : ATTACK_SKIP, sent ? "" : strerror(errno), "%s", f->what);
}

static void change_mac(void)
{
    const struct attack_bytes nothing = {"", 0};
    unsigned char mac[6];
    struct ifreq r = {.ifr_name = "eth0"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !own_mac(fd, mac))
        return;
    r.ifr_hwaddr.sa_family = 1; /* ARPHRD_ETHER */
    memcpy(r.ifr_hwaddr.sa_data, "\002\0\0\0\0\001", 6);
    bool changed = ioctl(fd, SIOCSIFHWADDR, &r) == 0;
    if (!changed) {
        attack_say(ATTACK_SKIP, strerror(errno), "another MAC on the interface");
    } else {
        enum attack_end end = attack_tcp(0x08080808, 443, &nothing, 1, NULL);
        attack_say(end == ATTACK_END_ANSWER ? ATTACK_OPEN : ATTACK_SENT, "",
                   "a connection with another MAC on the interface");
    }
    memcpy(r.ifr_hwaddr.sa_data, mac, 6);
    ioctl(fd, SIOCSIFHWADDR, &r);
    close(fd);
}

void attack_frames(int n, char **words)
{
    static const unsigned char host[6] = {2, 0xca, 0x9e, 0, 0, 1};
    static const unsigned char stranger[6] = {2, 0, 0, 0, 0, 9};
    static const unsigned char all[6] = {255, 255, 255, 255, 255, 255};
    const uint32_t own = 0xac1e0002;
    unsigned char mac[6] = {0};
    const struct frame frames[] = {
        {"a packet from another address", host, mac, {8, 0}, 2, 0x0a090909},
        {"a packet from a neighbour's address", host, mac, {8, 0}, 2, 0xac1e0006},
        {"a packet from the host's address", host, mac, {8, 0}, 2, 0xac1e0001},
        {"a frame with another MAC", host, stranger, {8, 0}, 2, own},
        {"a VLAN tag", host, mac, {0x81, 0, 0, 5, 8, 0}, 6, own},
        {"two VLAN tags", host, mac, {0x88, 0xa8, 0, 5, 0x81, 0}, 6, own},
        {"an IPv6 frame", host, mac, {0x86, 0xdd, 0x60}, 3, 0},
        {"an IPv6 frame to all", all, mac, {0x86, 0xdd, 0x60}, 3, 0},
        {"a protocol that does not exist", all, mac, {0x88, 0xb5}, 2, 0},
        {"an answer of ARP from another MAC", all, stranger, {8, 6, 0, 1, 8, 0}, 6, 0}};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    const struct sockaddr_ll {
        unsigned short family, protocol;
        int index;
        unsigned short hatype;
        unsigned char type, halen, address[8];
    } at = {
        .family = AF_PACKET, .protocol = htons(ETH_P_ALL), .index = (int)if_nametoindex("eth0")};
    (void)n;
    (void)words;
    if (fd < 0 || !own_mac(fd, mac) || bind(fd, (const struct sockaddr *)&at, sizeof at) != 0) {
        attack_say(ATTACK_SKIP, strerror(errno), "raw frames");
        return;
    }
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++)
        send_frame(fd, &frames[i]);
    close(fd);
    change_mac();
}

/* --- what is not TCP --- */

/* WORDS: ADDRESS:PORT where somebody listens for datagrams; in front, an ADDRESS that all kinds are
 * sent to instead of one that is nobody's. */
void attack_datagrams(int n, char **words)
{
    static const struct {
        const char *what;
        int protocol; /* of a raw socket; 0: UDP */
        uint16_t port;
    } kinds[] = {{"QUIC", 0, 443},        {"NTP", 0, 123}, {"multicast DNS", 0, 5353},
                 {"syslog", 0, 514},      {"ICMP", 1, 0},  {"GRE", 47, 0},
                 {"IPv6 in IPv4", 41, 0}, {"ESP", 50, 0},  {"SCTP", 132, 0},
                 {"IP in IP", 4, 0}};
    static const unsigned char bytes[48] = {8, 0, 0xf7, 0xff};
    uint32_t target = 0xc0000201;
    uint16_t none = 0;
    if (n > 0 && attack_address(words[0], &target, &none) && none == 0) {
        words++;
        n--;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct sockaddr_in to = {.sin_family = AF_INET,
                                       .sin_port = htons(kinds[i].port),
                                       .sin_addr.s_addr = htonl(target)};
        int fd = kinds[i].protocol ? socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, kinds[i].protocol)
                                   : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        bool sent = fd >= 0 &&
                    sendto(fd, bytes, sizeof bytes, 0, (const struct sockaddr *)&to, sizeof to) > 0;
        attack_say(sent ? ATTACK_SENT : ATTACK_SKIP, sent ? "" : strerror(errno), "%s",
                   kinds[i].what);
        if (fd >= 0)
            close(fd);
    }
    for (int i = 0; i < n; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET};
        uint32_t address = 0;
        uint16_t port = 0;
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (attack_address(words[i], &address, &port)) {
            to.sin_port = htons(port);
            to.sin_addr.s_addr = htonl(address);
        }
        bool sent = fd >= 0 &&
                    sendto(fd, bytes, sizeof bytes, 0, (const struct sockaddr *)&to, sizeof to) > 0;
        attack_say(sent ? ATTACK_SENT : ATTACK_SKIP, sent ? "" : strerror(errno),
                   "a datagram to the host, %s", words[i]);
        if (fd >= 0)
            close(fd);
    }
}

/* --- sockets of the machine itself --- */

void attack_vsock(int n, char **words)
{
    static const unsigned ports[] = {1, 22, 80, 1024, 2375, 5000, 52000};
    (void)n;
    (void)words;
    for (unsigned cid = 0; cid < 3; cid++)
        for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
            const struct sockaddr_vm to = {
                .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = ports[i]};
            const struct timeval limit = {.tv_sec = 1};
            int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (fd >= 0)
                setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof limit);
            bool open = fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0;
            attack_say(open ? ATTACK_OPEN : ATTACK_HELD, open ? "it connected" : "",
                       "vsock to %u:%u", cid, ports[i]);
            if (fd >= 0)
                close(fd);
        }
}
