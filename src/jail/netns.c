/* Addresses, and the MAC of both sides, are the same in every sandbox: a snapshot's ARP cache fits
 * wherever it is restored. netdevice(7), packet(7), the kernel's tuntap.rst. */
#include "jail/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/rules.h"

static const char host_address[] = "172.30.0.1";
static const char netmask[] = "255.255.255.252";
static const unsigned char host_mac[6] = {0x02, 0xca, 0x9e, 0, 0, 1};

int cg_netns_open_tun(struct cg_err *e)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        cg_fail_sys(e, "open /dev/net/tun");
    return fd;
}

/* A file of /proc/sys that this kernel does not have is nothing to switch off. */
static bool set_sysctl(const char *name, const char *value, struct cg_err *e)
{
    char path[128];
    cg_snprintf(path, sizeof path, "/proc/sys/net/%s", name);
    CG_OWN(cg_drop_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return cg_fail_sys(e, "set %s to %s", path, value);
    return true;
}

static bool set_sysctls(struct cg_err *e)
{
    return set_sysctl("ipv6/conf/all/disable_ipv6", "1", e) &&
           set_sysctl("ipv6/conf/default/disable_ipv6", "1", e) &&
           set_sysctl("ipv4/ip_forward", "0", e) &&
           set_sysctl("ipv4/conf/all/route_localnet", "0", e) &&
           set_sysctl("ipv4/conf/default/route_localnet", "0", e) &&
           set_sysctl("ipv4/conf/all/accept_redirects", "0", e) &&
           set_sysctl("ipv4/conf/all/accept_source_route", "0", e);
}

static bool interface_up(int s, const char *name, struct cg_err *e)
{
    struct ifreq r = {.ifr_flags = 0};
    cg_strlcpy(r.ifr_name, sizeof r.ifr_name, name);
    if (ioctl(s, SIOCGIFFLAGS, &r) != 0)
        return cg_fail_sys(e, "flags of %s", name);
    r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
    return ioctl(s, SIOCSIFFLAGS, &r) == 0 || cg_fail_sys(e, "set %s up", name);
}

static bool set_address(int s, unsigned long what, const char *address, struct cg_err *e)
{
    struct ifreq r = {.ifr_name = CG_TAP};
    struct sockaddr_in a = {.sin_family = AF_INET};
    inet_pton(AF_INET, address, &a.sin_addr);
    memcpy(&r.ifr_addr, &a, sizeof a);
    return ioctl(s, what, &r) == 0 || cg_fail_sys(e, "give " CG_TAP " %s", address);
}

bool cg_netns_tap(int tun, struct cg_err *e)
{
    struct ifreq r = {.ifr_name = CG_TAP, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (ioctl(tun, TUNSETIFF, &r) != 0)
        return cg_fail_sys(e, "make " CG_TAP);
    CG_OWN(cg_drop_fd) int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return cg_fail_sys(e, "socket");
    r = (struct ifreq){.ifr_name = CG_TAP};
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(r.ifr_hwaddr.sa_data, host_mac, sizeof host_mac);
    if (ioctl(s, SIOCSIFHWADDR, &r) != 0)
        return cg_fail_sys(e, "give " CG_TAP " its MAC");
    return set_address(s, SIOCSIFADDR, host_address, e) &&
           set_address(s, SIOCSIFNETMASK, netmask, e) && interface_up(s, CG_TAP, e) &&
           interface_up(s, "lo", e);
}

static int open_socket(int type, uint16_t port, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int s = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host_address, &a.sin_addr);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0 ||
        (type == SOCK_STREAM && listen(s, 256) != 0)) {
        cg_fail_sys(e, "open the sandbox's port %u", port);
        return -1;
    }
    return CG_MOVE_FD(s);
}

bool cg_netns_build(int tun, const struct cg_jail_net *net, unsigned nnet, int fds[CG_NETNS_COUNT],
                    struct cg_err *e)
{
    for (int i = 0; i < CG_NETNS_COUNT; i++)
        fds[i] = -1;
    fds[CG_NETNS_TAP] = tun;
    bool ok = set_sysctls(e) && cg_netns_tap(tun, e) && cg_netns_rules(net, nnet, e) &&
              (fds[CG_NETNS_TCP] = open_socket(SOCK_STREAM, CG_TCP_PORT, e)) >= 0 &&
              (fds[CG_NETNS_DNS] = open_socket(SOCK_DGRAM, 53, e)) >= 0 &&
              (fds[CG_NETNS_DNS_TCP] = open_socket(SOCK_STREAM, 53, e)) >= 0;
    if (ok) {
        fds[CG_NETNS_NETLINK] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        ok = fds[CG_NETNS_NETLINK] >= 0 || cg_fail_sys(e, "open a netfilter socket");
    }
    for (int i = 0; !ok && i < CG_NETNS_COUNT; i++)
        cg_drop_fd(&fds[i]);
    return ok;
}
