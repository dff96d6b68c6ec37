/* ports: which TCP sockets listen, looked up in /proc/net/tcp and tcp6 every 2 s; what changed is
 * told. The process is found through its descriptors, for new sockets only. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/agent.h"

enum { INTERVAL_MS = 2000, PORTS_MAX = 256, LISTEN = 0x0a, NEW_MAX = 16 };

struct port {
    uint16_t number;
    int family; /* 4 or 6 */
    char address[INET6_ADDRSTRLEN];
    uint64_t inode;
    bool seen;
    int pid;
    char process[32];
};

struct ports_task {
    struct task task;
    struct timer timer;
    struct outbox out;
    struct port ports[PORTS_MAX];
    unsigned count;
    unsigned fresh; /* found in this round: to find an owner takes a walk over all processes */
};

static bool owns(const char *pid, uint64_t inode)
{
    char path[64];
    char want[64];
    snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
    int want_n = snprintf(want, sizeof want, "socket:[%" PRIu64 "]", inode);
    CG_OWN(cg_drop_dir) DIR *d = opendir(path);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        char target[64];
        ssize_t n = readlinkat(dirfd(d), entry->d_name, target, sizeof target);
        if (n == want_n && memcmp(target, want, (size_t)n) == 0)
            return true;
    }
    return false;
}

static void find_owner(struct port *p)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir("/proc");
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !owns(entry->d_name, p->inode))
            continue;
        char path[64];
        snprintf(path, sizeof path, "/proc/%.16s/comm", entry->d_name);
        p->pid = (int)strtol(entry->d_name, NULL, 10);
        CG_OWN(cg_drop_free) char *comm = NULL;
        if (cg_fs_slurp(path, 64, &comm, NULL, NULL)) {
            comm[strcspn(comm, "\n")] = '\0';
            cg_strlcpy(p->process, sizeof p->process, comm);
        }
        return;
    }
}

static void tell(struct ports_task *t, const char *op, const struct port *p)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, &t->out.text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "op", op);
    cg_jsonw_kint(&w, "port", p->number);
    cg_jsonw_kstr(&w, "address", p->address);
    cg_jsonw_kint(&w, "family", p->family);
    cg_jsonw_kint(&w, "pid", p->pid);
    cg_jsonw_kstr(&w, "process", p->process);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(&t->out.text, '\n');
}

/* The kernel writes addresses as 32-bit words in its own byte order. */
static void format_address(const char *hex, int family, char *out, size_t size)
{
    uint32_t words[4] = {0};
    for (size_t i = 0; i < (family == 4 ? 1 : 4); i++) {
        if (sscanf(hex + 8 * i, "%8" SCNx32, &words[i]) != 1)
            break;
    }
    if (!inet_ntop(family == 4 ? AF_INET : AF_INET6, words, out, (socklen_t)size))
        out[0] = '\0';
}

static void note(struct ports_task *t, const char *hex, int family, unsigned port, uint64_t inode)
{
    for (unsigned i = 0; i < t->count; i++) {
        struct port *p = &t->ports[i];
        if (p->inode == inode && p->number == port) {
            p->seen = true;
            return;
        }
    }
    if (t->count == PORTS_MAX || t->fresh == NEW_MAX || t->out.text.n > 32768)
        return; /* looked at again in two seconds */
    struct port *p = &t->ports[t->count++];
    t->fresh++;
    *p = (struct port){.number = (uint16_t)port, .family = family, .inode = inode, .seen = true};
    format_address(hex, family, p->address, sizeof p->address);
    find_owner(p);
    tell(t, "open", p);
}

static void scan(struct ports_task *t, const char *path, int family)
{
    CG_OWN(cg_drop_file) FILE *f = fopen(path, "re");
    char line[512];
    while (f && fgets(line, sizeof line, f)) {
        char local[40];
        unsigned port, state;
        uint64_t inode;
        if (sscanf(line, " %*u: %39[0-9A-F]:%x %*s %x %*s %*s %*s %*s %*s %" SCNu64, local, &port,
                   &state, &inode) == 4 &&
            state == LISTEN)
            note(t, local, family, port, inode);
    }
}

static void on_tick(struct timer *timer)
{
    struct ports_task *t = CG_CONTAINER(timer, struct ports_task, timer);
    for (unsigned i = 0; i < t->count; i++)
        t->ports[i].seen = false;
    t->fresh = 0;
    scan(t, "/proc/net/tcp", 4);
    scan(t, "/proc/net/tcp6", 6);
    for (unsigned i = 0; i < t->count;) {
        if (t->ports[i].seen || t->out.text.n > 32768) {
            i++;
            continue;
        }
        tell(t, "close", &t->ports[i]);
        t->ports[i] = t->ports[--t->count];
    }
    outbox_pump(&t->out, t->task.stream, CG_LINK_STDOUT);
    timer_start(&t->timer, INTERVAL_MS, on_tick);
}

static void open_ports(struct task *task, const struct cg_json *request)
{
    (void)request;
    struct ports_task *t = (struct ports_task *)task;
    cg_buf_init(&t->out.text, 65536);
    task_accept(task, cg_slice_of("{}"));
    on_tick(&t->timer);
}

static void ports_writable(struct task *task)
{
    outbox_pump(&((struct ports_task *)task)->out, task->stream, CG_LINK_STDOUT);
}

static void ports_finish(struct task *task)
{
    struct ports_task *t = (struct ports_task *)task;
    timer_stop(&t->timer);
    cg_buf_finish(&t->out.text);
}

const struct task_ops task_ports = {.kind = "ports",
                                    .open = open_ports,
                                    .size = sizeof(struct ports_task),
                                    .writable = ports_writable,
                                    .finish = ports_finish};
