/* Names: DNS as a way out, and names that are none. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "attack.h"

enum { HEAD = 12, NAME_MAX_BYTES = 255, MESSAGE = 512, A = 1, TXT = 16 };

uint32_t attack_resolver(void)
{
    char line[256];
    uint32_t address = 0;
    uint16_t port = 0;
    FILE *f = fopen("/etc/resolv.conf", "re");
    while (f && !address && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "nameserver ", 11) != 0 || !attack_address(line + 11, &address, &port))
            address = 0;
    }
    if (f)
        fclose(f);
    return address;
}

size_t attack_labels(const char *name, unsigned char out[256])
{
    size_t at = 0;
    while (*name) {
        size_t n = strcspn(name, ".");
        if (n == 0 || n > 63 || at + n + 2 > NAME_MAX_BYTES)
            return 0;
        out[at++] = (unsigned char)n;
        memcpy(out + at, name, n);
        at += n;
        name += n + (name[n] == '.');
    }
    out[at++] = 0;
    return at;
}

static int open_to(uint32_t server, bool tcp)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(server)};
    const struct timeval limit = {.tv_sec = ATTACK_WAIT_MS / 1000};
    int fd = socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

static size_t skip_name(const unsigned char *p, size_t n, size_t at)
{
    while (at < n && p[at] != 0 && p[at] < 0xc0)
        at += 1u + p[at];
    return at < n && p[at] >= 0xc0 ? at + 2 : at + 1;
}

static void read_answer(const unsigned char *p, size_t n, struct attack_answer *out)
{
    *out = (struct attack_answer){.rcode = p[3] & 15u, .answers = (unsigned)(p[6] << 8 | p[7])};
    size_t at = skip_name(p, n, HEAD) + 4;
    for (unsigned i = 0; i < out->answers && at + 12 <= n; i++) {
        at = skip_name(p, n, at);
        if (at + 10 > n)
            return;
        size_t size = (size_t)p[at + 8] << 8 | p[at + 9];
        if (p[at] == 0 && p[at + 1] == A && size == 4 && at + 14 <= n)
            out->address = (uint32_t)p[at + 10] << 24 | (uint32_t)p[at + 11] << 16 |
                           (uint32_t)p[at + 12] << 8 | p[at + 13];
        at += 10 + size;
    }
}

bool attack_ask(uint32_t server, bool tcp, const unsigned char *name, size_t n, uint16_t type,
                struct attack_answer *out)
{
    unsigned char q[2 + MESSAGE] = {0};
    unsigned char a[2 + 4096];
    const unsigned char head[HEAD] = {0xca, 0x9e, 1, 0, 0, 1};
    const unsigned char tail[4] = {(unsigned char)(type >> 8), (unsigned char)type, 0, 1};
    size_t size = HEAD + n + sizeof tail;
    size_t skip = tcp ? 2 : 0;
    if (size > MESSAGE)
        return false;
    q[0] = (unsigned char)(size >> 8);
    q[1] = (unsigned char)size;
    memcpy(q + 2, head, HEAD);
    memcpy(q + 2 + HEAD, name, n);
    memcpy(q + 2 + HEAD + n, tail, sizeof tail);
    int fd = open_to(server, tcp);
    ssize_t got = -1;
    if (fd >= 0 && send(fd, q + 2 - skip, size + skip, MSG_NOSIGNAL) == (ssize_t)(size + skip))
        got = recv(fd, a, sizeof a, 0);
    if (fd >= 0)
        close(fd);
    if (got < (ssize_t)(HEAD + skip))
        return false;
    read_answer(a + skip, (size_t)got - skip, out);
    return true;
}

uint32_t attack_resolve(const char *name)
{
    unsigned char labels[256];
    size_t n = attack_labels(name, labels);
    struct attack_answer a;
    return n > 0 && attack_ask(attack_resolver(), false, labels, n, A, &a) ? a.address : 0;
}

/* --- DNS as a way out --- */

static void must_not_exist(const char *what, uint32_t server, bool tcp, const char *name,
                           uint16_t type)
{
    enum { NXDOMAIN = 3 };
    unsigned char labels[256];
    size_t n = attack_labels(name, labels);
    struct attack_answer a = {0};
    if (n == 0)
        attack_say(ATTACK_SKIP, "the name is too long", "%s", what);
    else if (!attack_ask(server, tcp, labels, n, type, &a))
        attack_say(ATTACK_OPEN, "no answer came, neither yes nor no", "%s", what);
    else if (a.rcode == NXDOMAIN && a.answers == 0)
        attack_say(ATTACK_HELD, "", "%s", what);
    else
        attack_say(ATTACK_OPEN, "it was looked up", "%s (rcode %u, %u answers)", what, a.rcode,
                   a.answers);
}

/* WORD: a name that the policy does not allow. */
void attack_dns(int n, char **words)
{
    static const uint16_t types[] = {1,  2,  5,  6,  10, 12, 15,  16,  28,  33,
                                     35, 41, 43, 48, 64, 65, 252, 255, 257, 65399};
    static const struct {
        const char *text;
        uint32_t address;
    } others[] = {{"9.9.9.9", 0x09090909}, {"192.0.2.53", 0xc0000235}, {"10.0.0.53", 0x0a000035}};
    char name[256];
    char what[320];
    const char *below = n > 0 ? words[0] : "caged-attack.invalid";
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(name, sizeof name, "c3RvbGVu-%zu.%s", i, below);
        snprintf(what, sizeof what, "data in a question of type %u", types[i]);
        must_not_exist(what, attack_resolver(), false, name, types[i]);
    }
    snprintf(name, sizeof name, "%063d.%063d.%063d.%s", 1, 2, 3, below);
    must_not_exist("three labels of 63 bytes", attack_resolver(), false, name, TXT);
    must_not_exist("DNS over TCP", attack_resolver(), true, below, A);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        snprintf(what, sizeof what, "another resolver, %s", others[i].text);
        must_not_exist(what, others[i].address, false, below, A);
        snprintf(what, sizeof what, "another resolver over TCP, %s", others[i].text);
        must_not_exist(what, others[i].address, true, below, A);
    }
    const struct attack_bytes probe = {"\0\003abc", 5};
    attack_tcp_refused("DNS over TLS", others[0].address, 853, &probe, 1);
    attack_tcp_refused("DNS over HTTPS by address", others[0].address, 443, &probe, 1);
}

/* --- names that are none --- */

void attack_names(int n, char **words)
{
    static const struct {
        const char *what;
        const char *wire; /* ended by the root label */
        size_t n;
    } strange[] = {
#define WIRE(what, text) {(what), (text), sizeof(text)}
        WIRE("a NUL in a label", "\007a\0b.net\003com"),
        WIRE("CR and LF in a label", "\010a\r\nHost:\001b"),
        WIRE("a blank in a label", "\003a b\003com"),
        WIRE("a dot in a label", "\007a.b.com"),
        WIRE("bytes over 127", "\003\377\376\375\003com"),
        WIRE("an escape sequence", "\005\033[31m\003com"),
        WIRE("an address as a name", "\003127\0010\0010\0011"),
        WIRE("a hexadecimal address", "\0120x7f000001"),
        WIRE("an octal address", "\0040177\0010\0010\0011"),
        WIRE("an address as a number", "\0122130706433"),
        WIRE("an IPv6 address with a zone", "\014fe80::1%eth0"),
        WIRE("an address in brackets", "\013[127.0.0.1]"),
        WIRE("userinfo in a name", "\011user@host\003com"),
#undef WIRE
        {"a pointer to itself", "\300\014", 2},
        {"a pointer past the end", "\300\377", 2},
        {"a label longer than the message", "\077abc", 4},
        {"a reserved label type", "\200abc", 5},
    };
    (void)n;
    (void)words;
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        struct attack_answer a = {0};
        bool answered = attack_ask(attack_resolver(), false, (const unsigned char *)strange[i].wire,
                                   strange[i].n, A, &a);
        bool open = answered && (a.rcode == 0 || a.answers > 0);
        attack_say(open ? ATTACK_OPEN : ATTACK_HELD, open ? "it was looked up" : "", "%s",
                   strange[i].what);
    }
}
