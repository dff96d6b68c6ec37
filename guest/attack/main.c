/* The classes by name, and how an attempt is told. */
#include "attack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_MS = 300 };

void attack_say(enum attack_verdict v, const char *why, const char *what, ...)
{
    static const char *const words[] = {"held", "open", "sent", "skip"};
    va_list args;
    printf("%s\t", words[v]);
    va_start(args, what);
    vprintf(what, args);
    va_end(args);
    printf("%s%s\n", why && why[0] ? ": " : "", why ? why : "");
    fflush(stdout);
}

bool attack_address(const char *text, uint32_t *address, uint16_t *port)
{
    char host[64];
    struct in_addr in;
    char *end = NULL;
    size_t n = strcspn(text, ":");
    if (n >= sizeof host)
        return false;
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET, host, &in) != 1)
        return false;
    *address = ntohl(in.s_addr);
    if (text[n] == ':')
        *port = (uint16_t)strtoul(text + n + 1, &end, 10);
    return !end || !*end;
}

void attack_address_text(uint32_t address, char out[16])
{
    const struct in_addr in = {htonl(address)};
    inet_ntop(AF_INET, &in, out, 16);
}

/* --- one connection --- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool wait_for(int fd, short events, int64_t until)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left = until - now_ms();
    return left > 0 && poll(&p, 1, (int)left) == 1;
}

static bool connected(int fd, const struct sockaddr_in *to, int64_t until)
{
    int err = 0;
    socklen_t n = sizeof err;
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) == 0)
        return true;
    if (errno != EINPROGRESS)
        return false;
    if (!wait_for(fd, POLLOUT, until)) {
        errno = ETIMEDOUT;
        return false;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0)
        return true;
    errno = err;
    return false;
}

static enum attack_end read_reply(int fd, char *reply, int64_t until)
{
    size_t have = 0;
    while (have < ATTACK_REPLY - 1) {
        if (!wait_for(fd, POLLIN, have > 0 ? now_ms() + PAUSE_MS : until))
            break;
        ssize_t n = recv(fd, reply + have, ATTACK_REPLY - 1 - have, 0);
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0 && have == 0)
            return ATTACK_END_REFUSED;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    reply[have] = '\0';
    if (have == 0)
        return ATTACK_END_SILENT;
    return strstr(reply, "X-Caged-Refused:") ? ATTACK_END_PAGE : ATTACK_END_ANSWER;
}

enum attack_end attack_tcp(uint32_t address, uint16_t port, const struct attack_bytes *parts,
                           unsigned n, char *reply)
{
    static char unused[ATTACK_REPLY];
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    int64_t until = now_ms() + ATTACK_WAIT_MS;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    reply = reply ? reply : unused;
    reply[0] = '\0';
    if (fd < 0 || !connected(fd, &to, until)) {
        enum attack_end end = errno == ETIMEDOUT ? ATTACK_END_SILENT : ATTACK_END_REFUSED;
        if (fd >= 0)
            close(fd);
        return end;
    }
    for (unsigned i = 0; i < n; i++) {
        if (i > 0)
            poll(NULL, 0, PAUSE_MS);
        if (send(fd, parts[i].p, parts[i].n, MSG_NOSIGNAL) != (ssize_t)parts[i].n)
            break; /* a reset is seen when it is read */
    }
    enum attack_end end = read_reply(fd, reply, until);
    close(fd);
    return end;
}

void attack_tcp_refused(const char *what, uint32_t address, uint16_t port,
                        const struct attack_bytes *parts, unsigned n)
{
    static const char *const why[] = {[ATTACK_END_REFUSED] = "",
                                      [ATTACK_END_PAGE] = "",
                                      [ATTACK_END_ANSWER] = "something answered",
                                      [ATTACK_END_SILENT] = "it was not refused"};
    char text[16];
    attack_address_text(address, text);
    enum attack_end end = attack_tcp(address, port, parts, n, NULL);
    bool held = end == ATTACK_END_REFUSED || end == ATTACK_END_PAGE;
    attack_say(held ? ATTACK_HELD : ATTACK_OPEN, why[end], "%s %s:%u", what, text, port);
}

/* --- classes --- */

static const struct class
{
    const char *name;
    void (*run)(int n, char **words);
} classes[] = {
    {"dns", attack_dns},       {"names", attack_names},         {"addresses", attack_addresses},
    {"doors", attack_doors},   {"ipv6", attack_ipv6},           {"frames", attack_frames},
    {"hello", attack_hello},   {"datagrams", attack_datagrams}, {"vsock", attack_vsock},
    {"values", attack_values}, {"gateway", attack_gateway},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < sizeof classes / sizeof classes[0]; i++)
        if (strcmp(classes[i].name, argv[1]) == 0) {
            classes[i].run(argc - 2, argv + 2);
            return 0;
        }
    fprintf(stderr, "usage: caged-attack CLASS [WORD...]\n");
    return 2;
}
