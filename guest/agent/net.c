/* The guest's end of the network: eth0 with the same fixed addresses in every sandbox, which is
 * what lets a snapshot of one guest become another. IPv6 is absent. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/agent.h"

static bool sysctl_put(const char *path, const char *text)
{
    CG_OWN(cg_drop_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static void set_address(struct sockaddr *out, const char *text)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    CG_ASSERT(inet_pton(AF_INET, text, &a.sin_addr) == 1);
    memcpy(out, &a, sizeof a);
}

static bool bring_up(int s, const char *name, const char *address, const char *mask)
{
    struct ifreq r = {0};
    cg_strlcpy(r.ifr_name, sizeof r.ifr_name, name);
    if (address) {
        set_address(&r.ifr_addr, address);
        if (ioctl(s, SIOCSIFADDR, &r) != 0)
            return false;
        set_address(&r.ifr_netmask, mask);
        if (ioctl(s, SIOCSIFNETMASK, &r) != 0)
            return false;
    }
    if (ioctl(s, SIOCGIFFLAGS, &r) != 0)
        return false;
    r.ifr_flags |= IFF_UP;
    return ioctl(s, SIOCSIFFLAGS, &r) == 0;
}

static bool add_default_route(int s)
{
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    set_address(&route.rt_dst, "0.0.0.0");
    set_address(&route.rt_genmask, "0.0.0.0");
    set_address(&route.rt_gateway, "172.30.0.1");
    return ioctl(s, SIOCADDRT, &route) == 0 || errno == EEXIST;
}

void net_start(void)
{
    if (!sysctl_put("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1") ||
        !sysctl_put("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
        agent_log("net: no IPv6 in this kernel");
    CG_OWN(cg_drop_fd) int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0 || !bring_up(s, "lo", NULL, NULL))
        agent_log("net: lo: %s", strerror(errno));
    if (!bring_up(s, "eth0", "172.30.0.2", "255.255.255.252") || !add_default_route(s))
        agent_log("net: eth0: %s", strerror(errno));
}
