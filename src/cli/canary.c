#include "cli/canary.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/defs.h"

enum { BACKLOG = 64, TOLD = 16 };

/* A socket on a port of the kernel's choice; -1: there is none. */
static int open_on(struct in_addr address, int type, unsigned *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = address};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) != 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) != 0) ||
        getsockname(fd, (struct sockaddr *)&at, &n) != 0)
        cg_drop_fd(&fd);
    *port = ntohs(at.sin_port);
    return fd;
}

static void add(struct cli_canaries *c, struct in_addr address)
{
    struct cli_canary *k = &c->all[c->n];
    if (c->n == CLI_CANARIES)
        return;
    k->tcp = open_on(address, SOCK_STREAM, &k->port);
    k->udp = open_on(address, SOCK_DGRAM, &k->datagram_port);
    inet_ntop(AF_INET, &address, k->address, sizeof k->address);
    if (k->tcp >= 0)
        c->n++;
    else
        cg_drop_fd(&k->udp);
}

void cli_canaries_open(struct cli_canaries *c)
{
    struct ifaddrs *list = NULL;
    *c = (struct cli_canaries){.n = 0};
    add(c, (struct in_addr){htonl(INADDR_LOOPBACK)});
    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct sockaddr_in in;
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        memcpy(&in, i->ifa_addr, sizeof in);
        add(c, in.sin_addr);
    }
    freeifaddrs(list);
}

void cli_canaries_take(struct cli_canaries *c, struct cg_buf *out)
{
    for (unsigned i = 0; i < c->n; i++) {
        const struct cli_canary *k = &c->all[i];
        char bytes[64];
        unsigned connections = 0, datagrams = 0;
        int fd;
        while (connections < TOLD &&
               (fd = accept4(k->tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
            close(fd);
            connections++;
        }
        while (k->udp >= 0 && datagrams < TOLD && recv(k->udp, bytes, sizeof bytes, 0) >= 0)
            datagrams++;
        if (connections > 0) {
            cg_buf_addf(out, "a connection to %s:%u arrived", k->address, k->port);
            cg_buf_add(out, "", 1);
        }
        if (datagrams > 0) {
            cg_buf_addf(out, "a datagram to %s:%u arrived", k->address, k->datagram_port);
            cg_buf_add(out, "", 1);
        }
    }
}

void cli_canaries_close(struct cli_canaries *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        cg_drop_fd(&c->all[i].tcp);
        cg_drop_fd(&c->all[i].udp);
    }
    c->n = 0;
}
