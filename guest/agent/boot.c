/* From the initramfs to the root the user sees: modules, the kernel's file systems, base image and
 * writable image as one overlay, /workspace straight on the writable image. Any root file system
 * works unmodified; nothing here belongs to one sandbox (that is setup.c), so that a snapshot taken
 * afterwards fits every sandbox of the shape. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/agent/agent.h"

#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t) /* linux: fs/ext4/ext4.h */
#endif

enum { DEVICE_WAIT_MS = 20000, GROW_LOOKS = 4000 };

static int writable_root = -1; /* a descriptor on the writable image's top */

void boot_power_off(const char *why)
{
    if (why)
        agent_log("powering off: %s", why);
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    agent_log("%s: %s", what, strerror(errno));
    boot_power_off("the guest cannot boot");
}

static void mount_at(const char *type, const char *source, const char *target, unsigned long flags,
                     const char *options)
{
    mkdir(target, 0755);
    if (mount(source, target, type, flags, options) != 0)
        agent_log("mount %s: %s", target, strerror(errno));
}

static void kernel_mounts(void)
{
    mount_at("proc", "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("sysfs", "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("devtmpfs", "devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    mount_at("devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
             "mode=0620,gid=5,ptmxmode=0666");
    mount_at("tmpfs", "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("cgroup2", "cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};
    for (size_t i = 0; i < CG_COUNT(links); i++) {
        if (symlink(links[i][0], links[i][1]) != 0 && errno != EEXIST)
            agent_log("link %s: %s", links[i][1], strerror(errno));
    }
}

static void load_modules(void)
{
    CG_OWN(cg_drop_file) FILE *f = fopen("/modules/order", "re");
    char name[256];
    while (f && fgets(name, sizeof name, f)) {
        name[strcspn(name, "\n")] = '\0';
        char path[300];
        snprintf(path, sizeof path, "/modules/%s", name);
        CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
            agent_log("module %s: %s", name, strerror(errno));
    }
}

bool boot_option(const char *name, char *out, size_t size)
{
    CG_OWN(cg_drop_free) char *line = NULL;
    if (!cg_fs_slurp("/proc/cmdline", 8192, &line, NULL, NULL))
        return false;
    size_t n = strlen(name);
    for (const char *at = line; *at;) {
        at += strspn(at, " \n");
        size_t word = strcspn(at, " \n");
        if (word > n + 6 && strncmp(at, "caged.", 6) == 0 && strncmp(at + 6, name, n) == 0 &&
            at[6 + n] == '=') {
            snprintf(out, size, "%.*s", (int)(word - n - 7), at + n + 7);
            return true;
        }
        at += word;
    }
    return false;
}

static bool wait_for(const char *path)
{
    int64_t until = cg_mono_ns() + (int64_t)DEVICE_WAIT_MS * 1000000;
    while (!cg_fs_exists(path)) {
        if (cg_mono_ns() > until)
            return false;
        usleep(2000);
    }
    return true;
}

/* The user that commands run as by default, when the image has none. */
static void add_user(void)
{
    static const struct {
        const char *path, *needle, *line;
    } files[] = {
        {"/etc/passwd", "agent:", "agent:x:1000:1000:agent:/home/agent:/bin/bash\n"},
        {"/etc/group", "agent:", "agent:x:1000:\n"},
    };
    for (size_t i = 0; i < CG_COUNT(files); i++) {
        CG_OWN(cg_drop_free) char *text = NULL;
        if (!cg_fs_slurp(files[i].path, 1 << 20, &text, NULL, NULL))
            text = cg_strdup("");
        CG_OWN(cg_drop_free) char *inner = cg_format("\n%s", files[i].needle);
        if (cg_has_prefix(text, files[i].needle) || strstr(text, inner))
            continue;
        CG_OWN(cg_drop_fd)
        int fd = open(files[i].path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        size_t n = strlen(text);
        bool newline = n > 0 && text[n - 1] != '\n';
        if (fd < 0 || (newline && write(fd, "\n", 1) != 1) ||
            !cg_fd_write_full(fd, files[i].line, strlen(files[i].line), NULL))
            agent_log("%s cannot be written", files[i].path);
    }
    if (mkdir("/home", 0755) != 0 && errno != EEXIST)
        agent_log("/home: %s", strerror(errno));
    if (mkdir("/home/agent", 0750) == 0 && chown("/home/agent", AGENT_UID, AGENT_GID) != 0)
        agent_log("/home/agent: %s", strerror(errno));
}

static void replace_text(const char *path, const char *text)
{
    unlink(path); /* it may be a link into a place that is not there */
    CG_OWN(cg_drop_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || !cg_fd_write_full(fd, text, strlen(text), NULL))
        agent_log("%s cannot be written", path);
}

static void move_in(const char *name)
{
    char target[64];
    snprintf(target, sizeof target, "/root/%s", name);
    mkdir(target, 0755);
    must(mount(name, target, NULL, MS_MOVE, NULL) == 0, name);
}

static void mount_root(void)
{
    must(wait_for("/dev/vda") && wait_for("/dev/vdb"), "wait for the disks");
    mkdir("/base", 0755);
    mkdir("/rw", 0755);
    mkdir("/root", 0755);
    must(mount("/dev/vda", "/base", "ext4", MS_RDONLY | MS_NOATIME, NULL) == 0,
         "mount the base image");
    must(mount("/dev/vdb", "/rw", "ext4", MS_NOATIME, NULL) == 0, "mount the writable image");
    mkdir("/rw/upper", 0755);
    mkdir("/rw/work", 0755);
    if (mkdir("/rw/workspace", 0755) == 0)
        must(chown("/rw/workspace", AGENT_UID, AGENT_GID) == 0, "own /workspace");
    must(mount("overlay", "/root", "overlay", MS_NOATIME,
               "lowerdir=/base,upperdir=/rw/upper,workdir=/rw/work") == 0,
         "mount the root");
    mkdir("/root/workspace", 0755);
    must(mount("/rw/workspace", "/root/workspace", NULL, MS_BIND, NULL) == 0, "mount /workspace");
    writable_root = open("/rw", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(writable_root >= 0, "open the writable image");
    move_in("/dev");
    move_in("/sys");
    move_in("/proc");
}

/* rootfs cannot be pivoted away from: the new root is moved over it (kernel docs:
 * Documentation/filesystems/ramfs-rootfs-initramfs.rst). */
static void switch_root(void)
{
    must(chdir("/root") == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 &&
             chdir("/") == 0,
         "enter the root");
    mount_at("tmpfs", "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755,size=16m");
    /* /tmp lies on the disk: it may have to hold more than memory does */
    if ((mkdir("/tmp", 01777) != 0 && errno != EEXIST) || chmod("/tmp", 01777) != 0)
        agent_log("/tmp: %s", strerror(errno));
}

static void protect_self(void)
{
    CG_OWN(cg_drop_fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "-1000", 5) != 5)
        agent_log("oom_score_adj cannot be set");
    struct rlimit files = {.rlim_cur = 65536, .rlim_max = 65536};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        agent_log("RLIMIT_NOFILE: %s", strerror(errno));
    setpriority(PRIO_PROCESS, 0, -10);
}

void boot_guest(void)
{
    kernel_mounts();
    load_modules();
    char probe[8];
    if (boot_option("probe", probe, sizeof probe))
        boot_probe();
    mount_root();
    switch_root();
    protect_self();
    reboot(RB_DISABLE_CAD);
    cgroup_init();
    add_user();
    replace_text("/etc/resolv.conf", "nameserver 172.30.0.1\n");
    net_start();
}

int boot_open_link(void)
{
    int64_t until = cg_mono_ns() + (int64_t)DEVICE_WAIT_MS * 1000000;
    do {
        CG_OWN(cg_drop_dir) DIR *d = opendir("/sys/class/virtio-ports");
        struct dirent *entry;
        while (d && (entry = readdir(d))) {
            char path[300];
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
            CG_OWN(cg_drop_free) char *name = NULL;
            if (entry->d_name[0] == '.' || !cg_fs_slurp(path, 256, &name, NULL, NULL) ||
                strcmp(name, "caged.link\n") != 0)
                continue;
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            /* nobody else opens the port while we hold it: virtio_console allows one opener */
            int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
            if (fd >= 0)
                return fd;
        }
        usleep(5000);
    } while (cg_mono_ns() < until);
    return -1;
}

bool boot_grow_disk(uint64_t due, struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int disk = open("/dev/vdb", O_RDONLY | O_CLOEXEC);
    const struct timespec moment = {.tv_nsec = 500000};
    uint64_t bytes = 0;
    for (int i = 0; i < GROW_LOOKS; i++) {
        if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) != 0)
            return cg_fail_sys(e, "size of the writable disk");
        if (bytes >= due)
            break;
        nanosleep(&moment, NULL); /* a restored kernel has not handled the interrupt yet */
    }
    if (bytes < due)
        return cg_fail(e, CG_TIMEOUT, "the writable disk did not grow to %llu MiB",
                       (unsigned long long)(due >> 20));
    static uint64_t grown; /* a spare has done it in advance */
    uint64_t blocks = bytes / 4096;
    if (grown == bytes)
        return true;
    if (ioctl(writable_root, EXT4_IOC_RESIZE_FS, &blocks) != 0)
        return cg_fail_sys(e, "grow the file system to %llu MiB",
                           (unsigned long long)(bytes >> 20));
    grown = bytes;
    /* until the new descriptors are in their place, only the journal has them, and a kernel that
     * finds the file system like that refuses it before it looks into the journal */
    return syncfs(writable_root) == 0 || cg_fail_sys(e, "sync the file system that has grown");
}
