/* A guest for the tests of jail and VMM: PID 1 that does what it is told over the link, one line at
 * a time, as root of its machine. It is not the product's agent: tests of the walls must be able to
 * send what the agent never would. Replies are one line each. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

static int link_fd = -1;

static void say(const char *text)
{
    char line[1024];
    int n = snprintf(line, sizeof line, "%s\n", text);
    for (int at = 0; at < n;) {
        ssize_t put = write(link_fd, line + at, (size_t)(n - at));
        if (put > 0)
            at += (int)put;
        else
            usleep(1000);
    }
}

static void slurp(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static void load_modules(void)
{
    char list[4096];
    int fd = open("/modules/order", O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, list, sizeof list - 1);
    list[n > 0 ? n : 0] = '\0';
    for (char *name = strtok(list, "\n"); name; name = strtok(NULL, "\n")) {
        char path[256];
        snprintf(path, sizeof path, "/modules/%s", name);
        int module = open(path, O_RDONLY);
        if (module < 0 || syscall(SYS_finit_module, module, "", 0) != 0)
            printf("module %s: %s\n", name, strerror(errno));
        close(module);
    }
}

static int open_link(void)
{
    for (int tries = 0; tries < 2000; tries++, usleep(5000)) {
        DIR *dir = opendir("/sys/class/virtio-ports");
        for (struct dirent *d; dir && (d = readdir(dir));) {
            char path[300], name[64];
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", d->d_name);
            slurp(path, name, sizeof name);
            snprintf(path, sizeof path, "/dev/%s", d->d_name);
            if (strcmp(name, "caged.link") == 0) {
                closedir(dir);
                return open(path, O_RDWR);
            }
        }
        if (dir)
            closedir(dir);
    }
    return -1;
}

static void net_up(void)
{
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = {.ifr_name = "eth0"};
    struct sockaddr_in *a = (struct sockaddr_in *)&r.ifr_addr;
    a->sin_family = AF_INET;
    inet_pton(AF_INET, "172.30.0.2", &a->sin_addr);
    ioctl(s, SIOCSIFADDR, &r);
    inet_pton(AF_INET, "255.255.255.252", &a->sin_addr);
    ioctl(s, SIOCSIFNETMASK, &r);
    ioctl(s, SIOCGIFFLAGS, &r);
    r.ifr_flags |= IFF_UP;
    ioctl(s, SIOCSIFFLAGS, &r);
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    ((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
    ((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
    struct sockaddr_in *gw = (struct sockaddr_in *)&route.rt_gateway;
    gw->sin_family = AF_INET;
    inet_pton(AF_INET, "172.30.0.1", &gw->sin_addr);
    ioctl(s, SIOCADDRT, &route);
    close(s);
}

static const char *outcome(int error)
{
    return error == 0                                                      ? "ok"
           : error == ECONNREFUSED                                         ? "refused"
           : error == ECONNRESET                                           ? "reset"
           : error == ETIMEDOUT || error == EAGAIN || error == EINPROGRESS ? "timeout"
                                                                           : strerror(error);
}

/* Connects or sends, and reports what came back within 2 s. */
static void exchange(int type, char *args)
{
    char host[64] = "", text[256] = "", reply[512], line[600];
    int port = 0;
    sscanf(args, "%63s %d %255[^\n]", host, &port, text);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    int s = socket(AF_INET, type, 0);
    struct timeval wait = {2, 0};
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(s, (struct sockaddr *)&a, sizeof a) != 0) {
        say(outcome(errno));
    } else if (!*text) {
        say("ok");
    } else if (send(s, text, strlen(text), MSG_NOSIGNAL) < 0) {
        say(outcome(errno));
    } else {
        ssize_t n = recv(s, reply, sizeof reply - 1, 0);
        snprintf(line, sizeof line, "%s %.*s", n < 0 ? outcome(errno) : "ok", n > 0 ? (int)n : 0,
                 reply);
        say(line);
    }
    close(s);
}

static void raw_frame(const char *hex)
{
    unsigned char frame[2048];
    size_t n = 0;
    for (; hex[0] && hex[1] && n < sizeof frame; hex += 2)
        sscanf(hex, "%2hhx", &frame[n++]);
    int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0")};
    ssize_t put = sendto(s, frame, n, 0, (struct sockaddr *)&to, sizeof to);
    say(put == (ssize_t)n ? "ok" : strerror(errno));
    close(s);
}

static void info(void)
{
    struct sysinfo si;
    sysinfo(&si);
    char line[900], serial[2][64], size[2][64];
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/block/vd%c/serial", 'a' + i);
        slurp(path, serial[i], sizeof serial[i]);
        snprintf(path, sizeof path, "/sys/block/vd%c/size", 'a' + i);
        slurp(path, size[i], sizeof size[i]);
    }
    snprintf(line, sizeof line,
             "{\"cpus\":%d,\"mem_mib\":%lu,\"vda\":[\"%s\",%s],\"vdb\":[\"%s\",%s]}", get_nprocs(),
             si.totalram / 1048576, serial[0], *size[0] ? size[0] : "0", serial[1],
             *size[1] ? size[1] : "0");
    say(line);
}

static void flood_console(long bytes)
{
    int fd = open("/dev/console", O_WRONLY);
    char line[1024];
    for (long done = 0; done < bytes; done += 1000) {
        memset(line, 'x', sizeof line);
        snprintf(line, 24, "flood %012ld ", done);
        line[strlen(line)] = 'x';
        line[999] = '\n';
        if (write(fd, line, 1000) < 0)
            break;
    }
    close(fd);
    say("ok");
}

static void write_disk(const char *args)
{
    static char block[65536];
    int fd = open(args, O_WRONLY);
    memset(block, 'd', sizeof block);
    ssize_t put = fd < 0 ? -1 : write(fd, block, sizeof block);
    say(put == (ssize_t)sizeof block && fsync(fd) == 0 ? "ok" : strerror(errno));
    close(fd);
}

static void obey(char *line)
{
    char *args = strchr(line, ' ');
    args = args ? (*args = '\0', args + 1) : line + strlen(line);
    if (strcmp(line, "tcp") == 0)
        exchange(SOCK_STREAM, args);
    else if (strcmp(line, "udp") == 0)
        exchange(SOCK_DGRAM, args);
    else if (strcmp(line, "raw") == 0)
        raw_frame(args);
    else if (strcmp(line, "info") == 0)
        info();
    else if (strcmp(line, "console") == 0)
        flood_console(atol(args));
    else if (strcmp(line, "write") == 0)
        write_disk(args);
    else if (strcmp(line, "poweroff") == 0)
        reboot(RB_POWER_OFF);
    else if (strcmp(line, "reboot") == 0)
        reboot(RB_AUTOBOOT);
    else
        say("what?");
}

static int probed(void)
{
    char args[2048];
    slurp("/proc/cmdline", args, sizeof args);
    return strstr(args, "caged.probe=1") != NULL;
}

int main(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    dup2(console, 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (probed()) {
        printf("caged-probe ok\n");
        for (;;)
            pause();
    }
    load_modules();
    net_up();
    link_fd = open_link();
    printf("link open: %d\n", link_fd);
    say("HELLO");
    char line[8192];
    size_t n = 0;
    for (;;) {
        char c;
        ssize_t got = read(link_fd, &c, 1);
        if (got <= 0) {
            usleep(5000);
            continue;
        }
        if (c != '\n' && n < sizeof line - 1) {
            line[n++] = c;
            continue;
        }
        line[n] = '\0';
        n = 0;
        obey(line);
    }
}
