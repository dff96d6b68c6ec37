/* See storms.h. Every storm does an exact, known number of things, so that the observer's count can
 * be compared. Folders: /workspace (ext4) and /home/agent (overlay), both there and writable. */
#include "storms.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("storm failed: line %d: %s: %s\n", __LINE__, #cond, strerror(errno));           \
            fflush(stdout);                                                                        \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

static const char ws[] = "/workspace", root[] = "/home/agent";

static void reap(pid_t pid)
{
    int status;

    MUST(waitpid(pid, &status, 0) == pid);
}

static void spawn(const char *path, char *const argv[])
{
    static char *const env[] = {NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        execve(path, argv, env);
        _exit(98);
    }
    MUST(pid > 0);
    reap(pid);
}

/* vfork and exec, back to back; argv[1] is the number. */
static void execs(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        char number[32];
        snprintf(number, sizeof number, "n=%lu", i);
        spawn("/bin/true", (char *[]){"true", number, NULL});
    }
}

/* count/100 folders with 100 files each: made, written, deleted, as an untar and rm -rf would. */
static void tree(const char *top, unsigned long count)
{
    char path[256];

    for (unsigned long i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/t%lu", top, i / 100);
        if (i % 100 == 0)
            MUST(mkdir(path, 0755) == 0);
        snprintf(path, sizeof path, "%s/t%lu/f%lu", top, i / 100, i);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
        MUST(fd >= 0);
        MUST(write(fd, path, 100) == 100);
        MUST(close(fd) == 0);
    }
    for (unsigned long i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/t%lu/f%lu", top, i / 100, i);
        MUST(unlink(path) == 0);
        if (i % 100 == 99) {
            snprintf(path, sizeof path, "%s/t%lu", top, i / 100);
            MUST(rmdir(path) == 0);
        }
    }
}

static void tree_workspace(unsigned long count)
{
    tree(ws, count);
}

static void tree_overlay(unsigned long count)
{
    tree(root, count);
}

static void make(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    MUST(fd >= 0 && close(fd) == 0);
}

/* One file renamed to and fro in each file system, then one exchange of two names. */
static void renames(unsigned long count)
{
    for (unsigned side = 0; side < 2; side++) {
        const char *top = side ? root : ws;
        char a[64], b[64];

        snprintf(a, sizeof a, "%s/ren-a", top);
        snprintf(b, sizeof b, "%s/ren-b", top);
        make(a);
        for (unsigned long i = 0; i < count; i++)
            MUST(rename(i % 2 ? b : a, i % 2 ? a : b) == 0);
    }
    make("/workspace/ren-b");
    MUST(syscall(SYS_renameat2, AT_FDCWD, "/workspace/ren-a", AT_FDCWD, "/workspace/ren-b", 2) ==
         0);
}

static void tmpfiles(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        char link[64], to[64];
        int fd = open(ws, O_TMPFILE | O_RDWR, 0600);
        MUST(fd >= 0 && write(fd, "x", 1) == 1);
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        snprintf(to, sizeof to, "/workspace/tmp-%lu", i);
        MUST(linkat(AT_FDCWD, link, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0);
        MUST(close(fd) == 0);
    }
}

/* Written through a mapping that outlives its descriptor: the write is told at munmap. */
static void mappings(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/map-%lu", i % 2 ? root : ws, i);
        int fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
        MUST(fd >= 0 && ftruncate(fd, 4096) == 0);
        char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        MUST(p != MAP_FAILED && close(fd) == 0);
        p[i % 4096] = 'x';
        MUST(munmap(p, 4096) == 0);
    }
}

/* One of each rarer change, on both file systems. */
static void oddities(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        MUST(chdir(i % 2 ? root : ws) == 0);
        make("odd");
        MUST(link("odd", "odd-link") == 0);
        MUST(symlink("../target of a link", "odd-symlink") == 0);
        MUST(mkfifo("odd-fifo", 0600) == 0);
        MUST(mknod("odd-node", S_IFREG | 0600, 0) == 0);
        MUST(truncate("odd", 12345) == 0);
        MUST(chmod("odd", 04755) == 0);
        MUST(chown("odd", 1000, (gid_t)-1) == 0);
        MUST(unlink("odd") == 0 && unlink("odd-link") == 0 && unlink("odd-symlink") == 0);
        MUST(unlink("odd-fifo") == 0 && unlink("odd-node") == 0);
    }
}

/* A generation of processes that each fork, without exec. */
static void forks(unsigned long depth)
{
    pid_t child[2];

    if (depth == 0)
        return;
    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        MUST(child[i] >= 0);
        if (child[i] == 0) {
            forks(depth - 1);
            _exit(7);
        }
    }
    reap(child[0]);
    reap(child[1]);
}

static void *leave(void *unused)
{
    usleep(1000);
    return unused;
}

/* Ends in each way there is; threads are no processes, and a first thread may leave early. */
static void endings(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0) {
            pthread_t t[4];
            switch (i % 3) {
            case 0:
                raise(SIGKILL);
                break;
            case 1:
                for (int k = 0; k < 4; k++)
                    MUST(pthread_create(&t[k], NULL, leave, NULL) == 0);
                syscall(SYS_exit, 3);
                break;
            default:
                _exit(42);
            }
        }
        int status;
        MUST(waitpid(pid, &status, 0) == pid);
        MUST(i % 3 != 1 || status == 0); /* the last thread's, not the first's */
    }
}

static void names(unsigned long unused)
{
    static const char *const bad[] = {
        "new\nline",
        "esc\033[31mred",
        "bidi\xe2\x80\xae"
        "txt.exe",
        "\xff\xfe raw",
        "quo\"te\\back",
        "{\"e\":\"exec\"}",
        "zero\xe2\x80\x8bwidth",
        "trunc\xe2\x82",
    };

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", ws, bad[i]);
        make(path);
        spawn("/bin/true", (char *[]){(char *)(unsigned long)bad[i], "", "last", NULL});
    }
}

/* Folders deeper than a record holds, and an argv longer than it holds. */
static void depths(unsigned long depth)
{
    char name[201], *big = calloc(1, 9000);

    memset(name, 'd', 200);
    name[200] = '\0';
    MUST(chdir(ws) == 0);
    for (unsigned long i = 0; i < depth; i++)
        MUST(mkdir(name, 0755) == 0 && chdir(name) == 0);
    make("leaf");
    memset(big, 'a', 8999);
    spawn("/bin/true", (char *[]){"true", big, NULL});
    free(big);
    MUST(unlink("leaf") == 0);
    for (unsigned long i = 0; i < depth; i++)
        MUST(chdir("..") == 0 && rmdir(name) == 0);
}

static void talk(int type, int family, const void *to, socklen_t n)
{
    int s = socket(family, type, 0);
    MUST(s >= 0);
    (void)!connect(s, to, n);
    close(s);
}

static void security(unsigned long unused)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(4242)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(4343)};

    (void)unused;
    in.sin_addr.s_addr = htonl(0x7f000001);
    in6.sin6_addr.s6_addr[15] = 1;
    talk(SOCK_STREAM, AF_INET, &in, sizeof in);
    talk(SOCK_DGRAM, AF_INET, &in, sizeof in);
    talk(SOCK_STREAM, AF_INET6, &in6, sizeof in6);

    MUST(mkdir("/workspace/mnt", 0755) == 0);
    MUST(mount("storm", "/workspace/mnt", "tmpfs", 0, NULL) == 0);
    make("/workspace/mnt/in-tmpfs");
    MUST(umount("/workspace/mnt") == 0);

    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        _exit(0);
    }
    reap(pid);
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        pause();
        _exit(0);
    }
    MUST(ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0);
    MUST(kill(pid, SIGKILL) == 0);
    reap(pid);

    pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        MUST(setuid(1000) == 0);
        _exit(0);
    }
    reap(pid);
    (void)!syscall(SYS_bpf, 11, NULL, 0);

    int fd = (int)syscall(SYS_memfd_create, "in-memory", 0), from = open("/bin/true", O_RDONLY);
    char bytes[65536];
    ssize_t n = read(from, bytes, sizeof bytes);
    MUST(n > 0 && write(fd, bytes, (size_t)n) == n);
    char *argv[] = {"hidden", NULL}, *env[] = {NULL};
    pid = fork();
    if (pid == 0) {
        fexecve(fd, argv, env);
        _exit(98);
    }
    reap(pid);
}

/* Sets the reader's position of every ring to the writer's plus `by`; root can. */
static void move_readers(long by)
{
    for (uint32_t id = 0;;) {
        union bpf_attr next = {.start_id = id};
        if (syscall(SYS_bpf, BPF_MAP_GET_NEXT_ID, &next, sizeof next) != 0)
            return;
        id = next.next_id;
        union bpf_attr get = {.map_id = id};
        int fd = (int)syscall(SYS_bpf, BPF_MAP_GET_FD_BY_ID, &get, sizeof get);
        MUST(fd >= 0);
        volatile int64_t *reader = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        volatile int64_t *writer = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
        if (reader != MAP_FAILED && writer != MAP_FAILED)
            *reader = *writer + by;
        uint64_t key = 0, value[2048] = {0};
        union bpf_attr set = {
            .map_fd = (uint32_t)fd, .key = (uint64_t)&key, .value = (uint64_t)value};
        /* the counters are frozen, so they survive this too */
        (void)!syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &set, sizeof set);
        close(fd);
    }
}

/* Root tries to make events disappear: skips unread ones, then pretends that nothing was read. */
static void thefts(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/theft-%lu", ws, i);
        make(path);
        if (i % 10 == 0)
            move_readers(i % 20 ? -4096 : 0);
    }
}

/* What is not told: reading, the kernel's file systems, files without a name. */
static void noise(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        int fd = open("/proc/self/comm", O_RDWR);
        MUST(fd >= 0 && write(fd, "noise", 5) == 5 && close(fd) == 0);
        fd = (int)syscall(SYS_memfd_create, "m", 0);
        MUST(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
        fd = open(ws, O_TMPFILE | O_RDWR, 0600);
        MUST(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
        fd = open("/bin/true", O_RDONLY);
        MUST(fd >= 0 && close(fd) == 0);
    }
}

const struct storm storms[] = {
    {"execs", execs, 10000},
    {"tree_workspace", tree_workspace, 50000},
    {"tree_overlay", tree_overlay, 50000},
    {"renames", renames, 2000},
    {"tmpfiles", tmpfiles, 500},
    {"mappings", mappings, 500},
    {"oddities", oddities, 100},
    {"forks", forks, 9},
    {"endings", endings, 60},
    {"names", names, 1},
    {"depths", depths, 30},
    {"security", security, 1},
    {"thefts", thefts, 200},
    {"noise", noise, 200},
    {NULL, NULL, 0},
};
